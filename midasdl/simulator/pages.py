"""The pages that people would see: login, errors, listings. Pure text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

LOGIN_PAGE_BYTES = 8000


def page(title: str, content: str) -> str:
    """Wrap content in a small HTML page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(title)}</title></head>\n<body>\n{content}\n</body>\n</html>\n"
    )


def error_page(status: int, phrase: str) -> str:
    """Return the page of an HTTP error."""
    return page(f"{status} {phrase}", f"<h1>{status} {escape(phrase)}</h1>\n<p>midasdl simulator</p>")


def maintenance_page() -> str:
    """Return a page that comes with 200 and is neither data nor the login page."""
    return page("CEDA Archive", "<h1>Scheduled maintenance</h1>\n<p>The archive will be back shortly.</p>")


def login_page(csrf: str) -> str:
    """Return the login page, about 8 kB; `csrf` is the part that changes each time."""
    form = (
        "<h1>Sign in to CEDA</h1>\n"
        '<form method="post" action="/account/signin/">\n'
        f'<input type="hidden" name="csrfmiddlewaretoken" value="{escape(csrf)}">\n'
        '<label>Username <input type="text" name="username" autocomplete="username"></label>\n'
        '<label>Password <input type="password" name="password" autocomplete="current-password"></label>\n'
        '<button type="submit">Sign in</button>\n</form>\n'
    )
    unstyled = page("Login", f"<style>\n{{}}</style>\n{form}")
    rules = (f".login-{number} {{ margin: {number % 9}px; color: #2a6ebb; }}\n" for number in range(1000))
    style = ""
    for rule in rules:
        if len(unstyled) + len(style) >= LOGIN_PAGE_BYTES:
            break
        style += rule
    return unstyled.replace("<style>\n{}", f"<style>\n{style}")


def listing_page(path: str, names: Iterable[str]) -> str:
    """Return a folder's page for people."""
    rows = "\n".join(f"<li>{escape(name)}</li>" for name in names)
    return page(path, f"<h1>{escape(path)}</h1>\n<ul>\n{rows}\n</ul>")
