"""Asking a person, or a script on standard input, for what must not stand on a command line."""

from __future__ import annotations

import sys

from midasdl.errors import UsageError


def ask(what: str) -> str:
    """A text that may be seen.

    Raises
    ------
    UsageError
        Nothing was given, or nothing that can be read.
    """
    if sys.stdin.isatty():
        print(f"{what}: ", end="", file=sys.stderr, flush=True)  # noqa: T201 - stdout is for results
    return _line(what)


def agrees(question: str) -> bool:
    """Whether the person at the terminal says yes; anything else is a no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - stdout is for results
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def ask_hidden(what: str) -> str:
    """A secret: a terminal does not show what is typed.

    Raises
    ------
    UsageError
        Nothing was given, nothing that can be read, or the terminal would show it.
    """
    if not sys.stdin.isatty():
        return _line(what)
    import getpass
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return _given(getpass.getpass(f"{what} (not shown): "), what)
    except getpass.GetPassWarning:
        raise UsageError(
            f"This terminal would show the {what.lower()} while it is typed.",
            "Give it on standard input instead, as in the examples of: midasdl auth setup --help",
        ) from None
    except EOFError:
        return _given("", what)
    except UnicodeDecodeError:
        raise _unreadable(what) from None


def _line(what: str) -> str:
    """The next line of standard input; spaces at its ends may belong to a password."""
    try:
        return _given(sys.stdin.buffer.readline().decode().removesuffix("\n").removesuffix("\r"), what)
    except UnicodeDecodeError:
        raise _unreadable(what) from None


def _given(text: str, what: str) -> str:
    if not text:
        raise UsageError(f"No {what.lower()} was given.", "See: midasdl auth setup --help")
    return text


def _unreadable(what: str) -> UsageError:
    return UsageError(f"The {what.lower()} is not UTF-8 text.", "See: midasdl auth setup --help")
