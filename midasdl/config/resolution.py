"""Putting settings together: layers over each other, the profile that they name, the defaults.

A key that a layer gives beats the profile. Which keys were given is remembered in the settings themselves (pydantic's
``model_fields_set``), so that another profile can take the place of the first while a run is on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from midasdl.config.keys import Tree, has, known_keys, lay_over, leaves, place, tree_of, value_of
from midasdl.config.problems import Problem, from_error, from_rules, in_words
from midasdl.config.profiles import GOVERNED, PROFILES
from midasdl.config.settings import Section, Settings
from midasdl.errors import ConfigurationError

PROFILE = "performance.profile"
DEFAULT = "default"
HELP = "The keys are described in docs/configuration.md, and listed by: midasdl config show"

AnySection = TypeVar("AnySection", bound=Section)


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one place.

    Attributes
    ----------
    name : str
        The place, for people: ``environment``, a file's path.
    tree : mapping
        Settings by section and key.
    """

    name: str
    tree: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, and for each key the name of the layer it comes from."""

    settings: Settings
    origins: Mapping[str, str]


def resolve(*trees: Mapping[str, Any]) -> Settings:
    """Lay settings over each other, the first on top, over the profile that they name and the defaults.

    Raises
    ------
    ConfigurationError
        Naming every unknown key and every bad value at once.
    """
    return put_together([Layer("", tree) for tree in trees]).settings


def put_together(layers: Sequence[Layer], remembered: Layer | None = None) -> Resolved:
    """Lay settings over each other, and remember where each comes from.

    Parameters
    ----------
    layers : sequence of Layer
        What somebody has given, the first on top.
    remembered : Layer, optional
        What nobody gave and an earlier run had: beats the profile, as long as it is the same one.

    Raises
    ------
    ConfigurationError
        Naming every unknown key, every bad value and everything that does not go together at once.
    """
    beneath = [] if remembered is None else [_without_another_profile(remembered, layers)]
    every = [*layers, *beneath, *_profile_layer([*layers, *beneath])]
    settings, problems = _checked(every, _merged(layers))
    if problems or settings is None:
        raise ConfigurationError(
            in_words([f"{problem.text}{_place_of(problem.key, every)}" for problem in problems]), HELP
        )
    return Resolved(settings, {key: _origin(key, every) for key in known_keys(Settings)})


def with_profile(settings: Settings, profile: str) -> Settings:
    """The same settings at another profile; what somebody gave stays as it is."""
    given, remembered = split(settings)
    place(given, PROFILE.split("."), profile)
    return put_together([Layer("", given)], Layer("", remembered)).settings


def split(settings: Settings) -> tuple[Tree, Tree]:
    """The settings that somebody gave, and the others together with the profile, which tells whose they are."""
    given = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
    everything = settings.model_dump(mode="json", by_alias=True)
    others = {key: value_of(everything, key) for key in known_keys(Settings) if not has(given, key)}
    return given, tree_of({**others, PROFILE: settings.performance.profile})


def _merged(layers: Sequence[Layer]) -> Tree:
    merged: Tree = {}
    for layer in reversed(layers):
        lay_over(merged, layer.tree)
    return merged


def _profile_layer(layers: Sequence[Layer]) -> list[Layer]:
    """The profile that the layers name, if it is one."""
    merged = _merged(layers)
    name = value_of(merged, PROFILE) if has(merged, PROFILE) else Settings().performance.profile
    if not isinstance(name, str) or name not in PROFILES:
        return []
    return [Layer(f"profile {name}", tree_of(PROFILES[name]))]


def _without_another_profile(remembered: Layer, layers: Sequence[Layer]) -> Layer:
    """Where a layer names another profile than the one remembered, that one's values are forgotten."""
    given, values = _merged(layers), leaves(remembered.tree, Settings)
    if not has(given, PROFILE) or value_of(given, PROFILE) == values.get(PROFILE):
        return remembered
    return Layer(
        remembered.name, tree_of({key: value for key, value in values.items() if key not in GOVERNED})
    )


def _origin(key: str, layers: Sequence[Layer]) -> str:
    return next((layer.name for layer in layers if has(layer.tree, key)), DEFAULT)


def _place_of(key: str, layers: Sequence[Layer]) -> str:
    """Where a problem comes from, for people."""
    name = _origin(".".join(takewhile(lambda part: not part.isdecimal(), key.split("."))), layers)
    return f" [{name}]" if name and name != DEFAULT else ""


def _checked(layers: Sequence[Layer], given: Tree) -> tuple[Settings | None, list[Problem]]:
    """The settings, and all that is wrong with them; faulty keys do not hide what else does not go together."""
    tree = _merged(layers)
    problems: list[Problem] = []
    settings = None
    with suppress(ValidationError):
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as error:
            details = error.errors(include_url=False)
            problems = [from_error(detail) for detail in details]
            settings = Settings.model_validate(_without(tree, [detail["loc"] for detail in details]))
        settings = _with_given(settings, given)
        problems += from_rules(settings, [problem.key for problem in problems])
    return settings, problems


def _without(tree: Tree, locations: Sequence[tuple[int | str, ...]]) -> Tree:
    """A tree without the keys that are faulty; a list goes as a whole."""
    pruned: Tree = {}
    lay_over(pruned, tree)
    for location in locations:
        *sections, key = takewhile(lambda part: isinstance(part, str), location)
        inner: Any = pruned
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(key, None)
    return pruned


def _with_given(section: AnySection, given: Mapping[str, Any]) -> AnySection:
    """The same section, which remembers what of it was given."""
    values = {
        name: _with_given(value, given.get(name) or {})
        if isinstance(value, Section) and not isinstance(given.get(name), Section)
        else value
        for name, value in section
    }
    return cast(AnySection, type(section).model_construct(_fields_set=set(given) & set(values), **values))
