"""The keys of the settings, found in the model: names, values, and what may be said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PREFIX = "MIDASDL_"
SEPARATOR = "__"

Tree = dict[str, Any]
"""Settings by section and key, as they stand in a file."""

UNITS = {
    "_ms": "ms",
    "_seconds": "s",
    "_percent": "%",
    "_bytes": "bytes",
}
"""Units are in names; where they are not, the model says them."""


def sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Each section with keys of its own, by dotted name, in the order of the model."""
    if any(section_of(field) is None for field in model.model_fields.values()):
        yield prefix.removesuffix("."), model
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            yield from sections(inner, f"{prefix}{name}.")


def fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Each key by its dotted name, with what the model says of it."""
    for section, inner in sections(model):
        for name, field in inner.model_fields.items():
            if section_of(field) is None:
                yield f"{section}.{name}", field


def known_keys(model: type[BaseModel]) -> list[str]:
    """The dotted name of every key."""
    return [key for key, _ in fields(model)]


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that stands at a field, if it is no key."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def variable_of(key: str) -> str:
    """The variable of the environment that sets a key."""
    return PREFIX + key.replace(".", SEPARATOR).upper()


def unit_of(key: str, field: FieldInfo) -> str:
    """The unit of a number; empty where it has none."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "unit" in extra:
        return str(extra["unit"])
    return next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")


def range_of(field: FieldInfo) -> str:
    """What a value may be, in words; empty where its type says it all."""
    patterns = [part.pattern for part in field.metadata if getattr(part, "pattern", None)]
    if patterns and "(" in patterns[0][:2]:
        return ", ".join(patterns[0].strip("^$()").split("|"))
    least = next((str(limit.ge) for limit in field.metadata if isinstance(limit, Ge)), None)
    above = next((f"above {limit.gt}," for limit in field.metadata if isinstance(limit, Gt)), None)
    most = next((f" to {limit.le}" for limit in field.metadata if isinstance(limit, Le)), " or more")
    return f"{least or above}{most}" if least or above else ""


def as_toml(value: Any) -> str:
    """A value as it is written in a file; None cannot be written and is ``unset``."""
    match value:
        case None:
            return "unset"
        case float() if value.is_integer():
            return str(int(value))
        case bool() | int() | float():
            return json.dumps(value)
        case Mapping():
            return "{" + ", ".join(f"{name} = {as_toml(inner)}" for name, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(as_toml(inner) for inner in value) + "]"
        case str() | PurePath():
            return json.dumps(str(value), ensure_ascii=False)
    return as_toml(value.model_dump(mode="json", by_alias=True))


def value_of(tree: Any, key: str) -> Any:
    """What stands at a dotted key, in settings or in a tree.

    Raises
    ------
    KeyError
        Nothing stands there in a tree.
    """
    for name in key.split("."):
        if isinstance(tree, BaseModel):
            tree = getattr(tree, name)
        elif isinstance(tree, Mapping):
            tree = tree[name]
        else:
            raise KeyError(key)
    return tree


def has(tree: Mapping[str, Any], key: str) -> bool:
    """Whether a tree says something of a key."""
    try:
        value_of(tree, key)
    except KeyError:
        return False
    return True


def place(tree: Tree, keys: list[str], value: Any) -> None:
    """Put `value` at ``tree[keys[0]][keys[1]]…``."""
    for key in keys[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    tree[keys[-1]] = value


def tree_of(values: Mapping[str, Any]) -> Tree:
    """A tree of dotted keys and their values."""
    tree: Tree = {}
    for key, value in values.items():
        place(tree, key.split("."), value)
    return tree


def leaves(tree: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The known keys that a tree names, with their values."""
    return {key: value_of(tree, key) for key in known_keys(model) if has(tree, key)}


def lay_over(below: Tree, above: Mapping[str, Any]) -> None:
    """Write the keys of `above` over those of `below`, section by section."""
    for key, value in above.items():
        if not isinstance(value, Mapping):
            below[key] = value
            continue
        if not isinstance(below.get(key), dict):
            below[key] = {}
        lay_over(below[key], value)
