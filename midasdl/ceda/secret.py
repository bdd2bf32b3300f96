"""A text that never shows itself."""

from __future__ import annotations


class Secret:
    """A password or token that `repr`, `str`, tracebacks and logs show as stars.

    It survives pickling, because a worker process is handed its credentials through a pipe.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one header or file that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)
