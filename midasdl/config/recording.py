"""The settings of a run as its ledger keeps them: what held, and which of it somebody had given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midasdl.config.keys import Tree, has, leaves, tree_of
from midasdl.config.resolution import PROFILE, split
from midasdl.config.settings import Settings

GIVEN = "given"

MOVED = {"ceda.token_cache": "storage.token_cache"}
"""Keys that had another name when a run was recorded."""


def to_record(settings: Settings) -> Tree:
    """Everything that holds in a run, and the keys that were given, as JSON can hold it."""
    given, _ = split(settings)
    return {**settings.model_dump(mode="json", by_alias=True), GIVEN: sorted(leaves(given, Settings))}


def from_record(record: Mapping[str, Any]) -> tuple[Tree, Tree]:
    """What was given to a recorded run, and the rest of what held in it, as `split` tells them apart.

    Runs of a midasdl that did not write down what was given had it where they differ from the defaults.
    """
    values = leaves(record, Settings) | {
        new: _old_value(record, old) for old, new in MOVED.items() if has(record, old)
    }
    usual = leaves(Settings().model_dump(mode="json", by_alias=True), Settings)
    names = record.get(GIVEN, [key for key, value in values.items() if value != usual[key]])
    given = {key: values[key] for key in names if key in values}
    others = {key: value for key, value in values.items() if key not in given}
    profile = values.get(PROFILE, usual[PROFILE])
    return tree_of(given), tree_of({**others, PROFILE: profile}) if values else {}


def _old_value(record: Mapping[str, Any], old: str) -> Any:
    section, _, name = old.rpartition(".")
    return record[section][name]
