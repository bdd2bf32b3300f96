"""HTML and SVG as values: whatever was not made here is escaped. Pure."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that stands in a page as it is; every other text is escaped."""

    __slots__ = ()


Part = Markup | str | int | float | None


def element(name: str, *parts: Part, **attributes: object) -> Markup:
    """An element with its contents.

    Parameters
    ----------
    attributes
        None is left out; ``class_`` is ``class``, and ``stroke_width`` is ``stroke-width``.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>{join(*parts)}</{name}>")


def join(*parts: Part) -> Markup:
    """Parts one after the other."""
    return Markup("".join(_as_markup(part) for part in parts))


def _as_markup(part: Part) -> str:
    if part is None:
        return ""
    return part if isinstance(part, Markup) else escape(str(part))
