"""F4: no key of the settings is without a test that changes it and sees the difference."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from midasdl.config import Settings
from midasdl.config.keys import known_keys, variable_of

TESTS = Path(__file__).resolve().parents[1]


def marks_in(text: str) -> Iterator[tuple[str, set[str]]]:
    """The name of each test that CI runs and the keys that its mark ``effect_of`` names."""
    tree = ast.parse(text)
    of_the_module = {
        name for node in tree.body if isinstance(node, ast.Assign) for name in _marks(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            names = {name for decorator in node.decorator_list for name in _marks(decorator)}
            keys = {key for decorator in node.decorator_list for key in _keys(decorator)}
            if "soak" not in names | of_the_module:
                yield node.name, keys


def _marks(node: ast.expr) -> set[str]:
    """The marks in an expression: ``pytest.mark.soak`` is ``soak``."""
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.value, ast.Attribute)
        and inner.value.attr == "mark"
    }


def _keys(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Call) and "effect_of" in _marks(node.func):
        return {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return set()


def marked() -> set[str]:
    """Every key that some test of CI names."""
    texts = [file.read_text() for file in sorted(TESTS.rglob("test_*.py"))]
    return {key for text in texts if "effect_of" in text for _, keys in marks_in(text) for key in keys}


def test_every_key_has_a_test_of_its_effect() -> None:
    """F4: mark the test that changes a key with ``@pytest.mark.effect_of("section.key")``."""
    known = set(known_keys(Settings))
    assert known - marked() == set(), "keys without an effect that a test sees"
    assert marked() - known == set(), "marks of keys that are none"


def test_every_setting_that_a_message_or_an_example_names_is_one() -> None:
    """U1: what helps must work as it stands."""
    names = {variable_of(key) for key in known_keys(Settings)}
    rooms = ("midasdl", "examples", "benchmarks", "docs", "README.md", "CONTRIBUTING.md")
    texts = [
        file.read_text()
        for room in rooms
        for file in [TESTS.parent / room, *(TESTS.parent / room).rglob("*")]
        if file.suffix in {".py", ".md"} and file.is_file()
    ]
    named = {name for text in texts for name in re.findall(r"\bMIDASDL_[A-Z_]+__[A-Z_]*[A-Z]\b", text)}
    assert len(named) > 20
    assert named - names == set()


def test_marks_are_read_as_they_are_written() -> None:
    """Soaks do not count, nor what is not a test; the test above would pass in silence if marks were misread."""
    text = """
import pytest
@pytest.mark.effect_of("a.b", "a.c")
@pytest.mark.slow
def test_one(): ...
@pytest.mark.soak
@pytest.mark.effect_of("a.d")
def test_two(): ...
@pytest.mark.effect_of("a.e")
def helper(): ...
def test_three(): ...
"""
    assert dict(marks_in(text)) == {"test_one": {"a.b", "a.c"}, "test_three": set()}
    assert list(marks_in(f"import pytest\npytestmark = [pytest.mark.soak]\n{text}")) == []
