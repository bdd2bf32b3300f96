"""Settings as a file in TOML: every key with its meaning, to begin from, or as they are, with where each comes from."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping

from pydantic.fields import FieldInfo

from midasdl.config.keys import as_toml, range_of, section_of, sections, unit_of, value_of
from midasdl.config.meanings import meaning_of
from midasdl.config.profiles import PROFILES
from midasdl.config.settings import Settings

WIDTH = 100

HEAD = """\
# Settings of midasdl. Every key stands here with its default, switched off: take away the # before a key to set it.
# Named midasdl.toml, this file is found in the folder where midasdl is started, or in your configuration folder.
# The command line and the environment beat it; see: midasdl config show --origin
"""

EXAMPLES: Mapping[str, str] = {
    "performance.schedule": '[{days = ["mon", "fri"], from = "08:00", to = "18:00", profile = "conservative"}]'
}
"""Where the default shows nothing of how a key is written."""

LINK = re.compile(r"\[([^\]]*)\]\(#[^)]*\)")
"""Descriptions lead to places in the page of settings."""


def template() -> str:
    """A file with every key, each switched off."""
    defaults = Settings()
    parts = [HEAD]
    for section, model in sections(Settings):
        parts.append("\n" + "\n".join(_comment(model.__doc__ or "")) + f"\n[{section}]\n")
        for name, field in model.model_fields.items():
            if section_of(field) is None:
                meaning = meaning_of(model, name)
                parts.append("\n".join(_key(f"{section}.{name}", meaning, field, defaults)) + "\n")
    return "".join(parts)


def as_file(settings: Settings, origins: Mapping[str, str] | None = None) -> str:
    """Settings as they are; with `origins`, where each comes from."""
    parts = []
    for section, model in sections(Settings):
        names = [name for name, field in model.model_fields.items() if section_of(field) is None]
        written = [_written(name, value_of(settings, f"{section}.{name}")) for name in names]
        width = max(len(lines[0]) for lines in written)
        for lines, name in zip(written, names, strict=True):
            if origins is not None:
                lines[0] = f"{lines[0]:{width}}  # {origins[f'{section}.{name}']}"
        parts.append("\n".join([f"[{section}]", *(line for lines in written for line in lines)]))
    return "\n\n".join(parts)


def _written(name: str, value: object) -> list[str]:
    """A key with its value; what is unset cannot be written, and is told in a comment."""
    if value is None:
        return [f"# {name} is unset"]
    if isinstance(value, tuple) and value:
        return [f"{name} = [", *(f"    {as_toml(each)}," for each in value), "]"]
    return [f"{name} = {as_toml(value)}"]


def _key(key: str, meaning: str, field: FieldInfo, defaults: Settings) -> Iterator[str]:
    facts = [unit_of(key, field), range_of(field), *_in_profiles(key)]
    told, name = "; ".join(filter(None, facts)), key.rpartition(".")[2]
    meaning = LINK.sub(r"\1", meaning)
    yield from _comment(f"{meaning} ({told})" if told else meaning)
    if key in EXAMPLES:
        yield f"# For example: {name} = {EXAMPLES[key]}"
    value = value_of(defaults, key)
    yield f"#{name} = " + ('""' if value is None else as_toml(value))


def _in_profiles(key: str) -> list[str]:
    """What each profile makes of a key."""
    return [f"{name}: {as_toml(profile[key])}" for name, profile in PROFILES.items() if key in profile]


def _comment(text: str) -> list[str]:
    """Prose as comments; a space tells them from keys that are switched off."""
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH)]
