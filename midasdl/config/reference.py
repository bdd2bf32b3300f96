"""The reference of the settings as Markdown, from the model itself.

``python -m midasdl.config.reference > docs/configuration.md`` writes the page; a test sees that it is up to date.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from midasdl.config.keys import as_toml, range_of, section_of, sections, unit_of, value_of, variable_of
from midasdl.config.meanings import meaning_of
from midasdl.config.profiles import GOVERNED, PROFILES, PURPOSES
from midasdl.config.settings import Settings, Window

INTRODUCTION = """\
# Configuration

midasdl needs no configuration. Everything below has a default that suits CEDA.

## Where a value comes from

The first of these that names a key wins:

1. the command line (`--workers` is `performance.workers.count`, `--profile` is `performance.profile`)
2. the environment
3. `.env` in the folder where midasdl is started
4. a TOML file: the one given with `--config`; without it `midasdl.toml` in the folder where midasdl is started, and
   beneath it `midasdl.toml` in your configuration folder (`~/.config/midasdl` on Linux)
5. for `midasdl resume`: the settings recorded by the last run
6. the profile, for what it sets
7. the default

`midasdl config show --origin` shows every value and where it comes from, `midasdl config init` writes a file with every
key, and `midasdl config check FILE` sees whether a file can be used. An unknown key, a wrong type, a value out of range
and what does not go together are errors that name key, value and what is allowed, all of them at once, with exit
code 2.

The name of a variable is `MIDASDL_`, then section and key in capitals, with two underscores between the parts:

```sh
MIDASDL_PERFORMANCE__WORKERS__COUNT=2 midasdl run
```

The same in a file:

```toml
[performance.workers]
count = 2
```

```sh
midasdl --config slow.toml run
```

A run records its settings, and `midasdl resume` goes on with them; `midasdl config show --resume` shows which they are.
"""

PROFILES_SECTION = """\
## Profiles

A profile is a name for several values. `--profile`, or `performance.profile` anywhere above, chooses one; whatever
else names one of its keys beats it.
"""

SCHEDULE = """\
## Schedule

Parts of the week can have a profile of their own, or a pause. Each is a table `[[performance.schedule]]`:

```toml
[[performance.schedule]]   # maintenance, and nothing else holds meanwhile: it stands first
days = ["wed"]
from = "03:00"
to = "04:30"
profile = "pause"

[[performance.schedule]]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "08:00"
to = "18:00"
profile = "conservative"

[[performance.schedule]]
from = "22:00"
to = "06:00"               # of the next day
profile = "aggressive"
```
"""

AFTER_SCHEDULE = """\
Of windows that overlap the first holds; outside of all of them, the settings hold as they are. A key that you give
beats the profile of a window, as it beats every profile. Local clocks decide: an hour that comes twice when the clocks
go back belongs to a window twice, and one that is left out is left out.

A run changes its pace within seconds, says so, and keeps each change in the view `steps`. In a pause, what is in flight
is finished and the workers end; the run waits, shows until when, and takes up its work by itself. `--profile` on the
command line beats the schedule. A schedule with `aggressive` asks first, or wants `--yes`, like the profile itself.
"""

NOT_SETTINGS = """\
## Not settings

| variable | meaning |
|---|---|
| `MIDASDL_LEDGER` | the ledger, as `--ledger` names it; read from the environment only, not from `.env` |
| `CEDA_USERNAME`, `CEDA_PASSWORD` | the account |
| `CEDA_TOKEN`, `CEDA_ACCESS_TOKEN` | a token made by hand; it wins over name and password and is never replaced |
| `HTTPS_PROXY`, `NO_PROXY` | the proxy, with user name and password where it wants them, and the hosts to reach \
without it; as for every program that uses requests, from the environment only |
| `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` | certificates to trust, where `network.ca_bundle` names none; from the \
environment only |

`.netrc` is not read.

This page is made from the settings themselves by `python -m midasdl.config.reference`.
"""

TYPES = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path"}


def reference() -> str:
    """The whole page; the same for the same version of midasdl."""
    parts = [_section(name, model) for name, model in sections(Settings)]
    schedule = [SCHEDULE, _windows(), AFTER_SCHEDULE]
    return "\n".join([INTRODUCTION, PROFILES_SECTION, _profiles(), *schedule, *parts, NOT_SETTINGS])


def _windows() -> str:
    """The keys of a window."""
    rows = [
        f"| `{field.alias or name}` | {_default_of(field)} | {meaning_of(Window, name)} |"
        for name, field in Window.model_fields.items()
    ]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows, ""])


def _default_of(field: FieldInfo) -> str:
    return "must be given" if field.is_required() else f"`{as_toml(field.get_default())}`"


def _profiles() -> str:
    """What each profile is for, and what it makes of each key that any of them sets."""
    purposes = [f"| `{name}` | {purpose} |" for name, purpose in PURPOSES.items()]
    keys = [key for section, model in sections(Settings) for key in _keys(section, model) if key in GOVERNED]
    defaults = Settings()
    rows = [
        f"| `{key}` | "
        + " | ".join(
            f"`{as_toml(profile.get(key, value_of(defaults, key)))}`" for profile in PROFILES.values()
        )
        + " |"
        for key in keys
    ]
    head = ["| key | " + " | ".join(PROFILES) + " |", "|---" * (len(PROFILES) + 1) + "|"]
    return "\n".join(["| profile | for |", "|---|---|", *purposes, "", *head, *rows, ""])


def _keys(section: str, model: type[BaseModel]) -> list[str]:
    return [f"{section}.{name}" for name, field in model.model_fields.items() if section_of(field) is None]


def _section(section: str, model: type[BaseModel]) -> str:
    head = [
        "| key | type | unit | default | allowed | environment | effect |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [_row(key, model, key.rpartition(".")[2]) for key in _keys(section, model)]
    return "\n".join([f"## `[{section}]`", "", inspect.cleandoc(model.__doc__ or ""), "", *head, *rows, ""])


def _row(key: str, model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    value = field.get_default()
    cells = [
        f"`{key}`",
        type_of(field),
        unit_of(key, field),
        "unset" if value is None else f"`{as_toml(value)}`",
        range_of(field),
        f"`{variable_of(key)}`",
        meaning_of(model, name),
    ]
    return "| " + " | ".join(cells) + " |"


def type_of(field: FieldInfo) -> str:
    """The type of a key, for people."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((TYPES[kind] for kind in kinds if kind in TYPES), "list of tables")


if __name__ == "__main__":
    sys.stdout.write(reference())
