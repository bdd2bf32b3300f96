"""Credentials in a file ``.env``: written so that python-dotenv reads back exactly what was typed.

Read by midasdl itself, ``${name}`` stands for nothing but itself: passwords that people write into the file by hand
hold such signs too. Other programs let python-dotenv expand it, so that what midasdl writes is marked against that.

The file is the user's, and other programs read it too: every line that is not a credential stays as it is. It is
replaced at once or not at all, and only its owner may read it.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from midasdl.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dotenv.parser import Binding

PRIVATE = 0o600
"""Read and written by its owner alone."""

_PLAIN = re.compile(r"[A-Za-z0-9._@%+,/:=-]+")
"""Values that need no quotes, in python-dotenv and in a shell."""

_UNSTORABLE = frozenset({"Cc", "Cs"})
"""Control characters and halves of characters: nobody types them, and a text file cannot carry them well."""

_DOLLAR_BRACE = "${:-$}{"
"""python-dotenv expands ``${name:-default}`` in every value, quoted or not: a variable without a name stands for
its default, here a dollar sign, so that what follows is no variable."""

_NOTHING = "${:-}"
"""The same with an empty default. It parts a backslash from the closing quote, which older versions of
python-dotenv take for an escaped quote."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the file.

    Attributes
    ----------
    created, tightened : bool
        It is new; or others could read it before.
    replaced, dropped : tuple of str
        Names that had another line before, and names that were taken out.
    """

    created: bool
    tightened: bool
    replaced: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """Which names were taken out, and whether the file went with them because nothing else was in it."""

    names: tuple[str, ...]
    file: bool


def unstorable(value: str) -> str | None:
    """Why a value cannot be kept in a line of the file; None where it can."""
    if not value:
        return "it is empty"
    if any(unicodedata.category(character) in _UNSTORABLE for character in value):
        return "it has a control character inside"
    return None


def quote(value: str) -> str:
    """A value as it must stand behind the ``=``."""
    if _PLAIN.fullmatch(value):
        return value
    text = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", _DOLLAR_BRACE)
    return f"'{text}{_NOTHING if value.endswith(chr(92)) else ''}'"


def with_values(text: str, values: Mapping[str, str], drop: Iterable[str] = ()) -> str:
    """The text of a file with `values` in it, each at its old place or at the end, and without the names in `drop`.

    Raises
    ------
    ConfigurationError
        When another line, such as one with an unclosed quote, would keep them from being read back.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    open_values = dict(values)
    kept = []
    for binding in _bindings(text):
        name = binding.key
        if name in open_values:
            kept.append(_blank_lines(binding) + _line(binding, name, open_values.pop(name), end))
        elif name is not None and (name in values or name in drop):
            kept.append(_blank_lines(binding))
        else:
            kept.append(binding.original.string)
    written = "".join(kept)
    if written and not written.endswith(("\n", "\r")) and open_values:
        written += end
    written += "".join(f"{name}={quote(value)}{end}" for name, value in open_values.items())
    _require_read_back(written, values)
    return written


def without(text: str, names: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The text of a file without the lines of `names`, and which of them there were."""
    unwanted = frozenset(names)
    kept, gone = [], []
    for binding in _bindings(text):
        if binding.key in unwanted:
            gone.append(binding.key)
            kept.append(_blank_lines(binding))
        else:
            kept.append(binding.original.string)
    return "".join(kept), tuple(dict.fromkeys(name for name in gone if name is not None))


def read(path: Path) -> dict[str, str]:
    """The values in the file; none where there is no file.

    Raises
    ------
    ConfigurationError
    """
    text = _text_of(path)
    return {name: value for name, value in _values(text).items() if value is not None}


def store(path: Path, values: Mapping[str, str], drop: Iterable[str] = ()) -> Stored:
    """Write `values` into the file, take the names in `drop` out, and let nobody else read it.

    Raises
    ------
    ConfigurationError
        When the file there cannot be understood.
    StorageError

    Notes
    -----
    Crash safety: the file holds what it held before, or all of it.
    """
    unwanted = tuple(drop)
    before = _text_of(path)
    names = {binding.key for binding in _bindings(before)}
    written = with_values(before, values, unwanted)
    created, tightened = not path.exists(), path.exists() and not is_private(path)
    _replace(path, written)
    return Stored(
        created,
        tightened,
        tuple(name for name in values if name in names),
        tuple(name for name in unwanted if name in names),
    )


def remove(path: Path, names: Iterable[str]) -> Removed:
    """Take `names` out of the file, and the file away where nothing else is in it; may be repeated.

    Raises
    ------
    ConfigurationError, StorageError
    """
    rest, gone = without(_text_of(path), names)
    if not gone:
        return Removed((), file=False)
    if rest.strip():
        _replace(path, rest)
        return Removed(gone, file=False)
    with _storage_errors(path):
        path.unlink()
    return Removed(gone, file=True)


def is_private(path: Path) -> bool:
    """Whether only its owner may read or write the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def _bindings(text: str) -> Iterator[Binding]:
    return parse_stream(io.StringIO(text, newline=""))


def _values(text: str) -> Mapping[str, str | None]:
    """Every value as it was meant: nothing is expanded, and the marks that `quote` has made are taken off."""
    plain = dotenv_values(stream=io.StringIO(text, newline=""), interpolate=False)
    return {name: None if value is None else _without_marks(value) for name, value in plain.items()}


def _without_marks(value: str) -> str:
    return value.removesuffix(_NOTHING).replace(_DOLLAR_BRACE, "${")


def _blank_lines(binding: Binding) -> str:
    """The empty lines above a binding, which python-dotenv counts to it."""
    whole = binding.original.string
    lead = whole[: len(whole) - len(whole.lstrip())]
    return lead[: max(lead.rfind("\n"), lead.rfind("\r")) + 1]


def _line(binding: Binding, name: str, value: str, end: str) -> str:
    export = "export " if re.match(r"\s*export\s", binding.original.string) else ""
    return f"{export}{name}={quote(value)}{end}"


def _require_read_back(text: str, values: Mapping[str, str]) -> None:
    found = _values(text)
    if any(found.get(name) != value for name, value in values.items()):
        raise ConfigurationError(
            ".env has a line that swallows those below it, such as one with an unclosed quote.",
            "Repair it, then type the same command again.",
        )


def _text_of(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ConfigurationError(f"{path} is not a file that can be rewritten.", "Move it away.")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} cannot be read: it is not UTF-8 text.") from None


def _replace(path: Path, text: str) -> None:
    """Put a private file in the place of the old one, at once; where that is a link, in the place it leads to."""
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    with _storage_errors(path):
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            with suppress(OSError):
                draft.unlink()


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}.", "Check the owner and mode of its folder."
        ) from None
