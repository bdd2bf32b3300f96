"""The documents are true: commands parse, queries run, tables say what the code says, links lead somewhere."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midasdl.cli.main import COMMANDS, CommandLineError, build_parser
from midasdl.cli.summary import ADVICE
from midasdl.config import Settings
from midasdl.config.keys import PREFIX, SEPARATOR, known_keys, variable_of
from midasdl.config.reference import reference
from midasdl.errors import ExitCode
from midasdl.ledger.ledger import Ledger
from midasdl.selection import Selection

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")],
    key=lambda path: path.name,
)
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = {"sh", "console"}
BETWEEN_COMMANDS = {"&&", "||", "|", ";", "&", "(", ")"}
OPEN = re.compile(r"are required|invalid choice: '[A-Z]+'")
"""What the parser says of a command that is named but not spelt out: `midasdl sql`, `midasdl retry --class CLASS`."""
SELECTING = ("dataset", "release", "qc", "county", "station", "year", "kind")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


# --- reading documents


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block, without its indentation."""
    for indent, language, body in FENCE.findall(text):
        yield language, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)


def prose(text: str) -> str:
    """What is not in a fenced block."""
    return FENCE.sub("", text)


def section(text: str, title: str) -> str:
    """The part of a document below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section '{title}'"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    table = [[cell.strip() for cell in line.split("|")] for line in lines]
    heads = {number - 1 for number, cells in enumerate(table) if set("".join(cells)) == {"-"}}
    return [row for number, row in enumerate(table) if number not in heads and number - 1 not in heads]


def shell_lines(text: str) -> Iterator[str]:
    """The blocks that a reader may type."""
    for language, body in blocks(text):
        if language == "console":
            yield from re.findall(r"^\$ (.*)$", body, re.MULTILINE)
        elif language == "sh":
            yield body


def mentions(text: str) -> list[str]:
    """Code within a sentence that begins a command, such as `midasdl sql`; it may leave out what is obvious."""
    return re.findall(r"`([^`\n]*\bmidasdl [^`\n]*)`", prose(text))


def commands(lines: Iterable[str]) -> Iterator[list[str]]:
    """The words after ``midasdl`` of each command in some lines of shell."""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in BETWEEN_COMMANDS:
                words.append(word)
                continue
            if "midasdl" in words:
                yield without_redirections(words[words.index("midasdl") + 1 :])
            words = []


def without_redirections(words: list[str]) -> list[str]:
    """A command's own words: those before the first redirection."""
    redirections = [
        number for number, word in enumerate(words) if set(word) & set("<>") and not word.strip("<>&")
    ]
    return words[: redirections[0]] if redirections else words


# --- commands and queries


def understood(lines: Iterable[str], *, may_be_incomplete: bool = False) -> Iterator[argparse.Namespace]:
    """The commands in some lines, parsed; where a command shows its help, that must work."""
    for words in commands(lines):
        if {"-h", "--help", "--version"} & set(words):
            with pytest.raises(SystemExit, match="0"):
                build_parser().parse_args(words)
            continue
        try:
            options = build_parser().parse_args(words)
        except CommandLineError as error:
            if may_be_incomplete and OPEN.search(error.message):
                continue
            raise
        assert options.command in COMMANDS, f"midasdl {shlex.join(words)}"
        yield options


@every_document
def test_every_command_in_the_documents_is_one_that_midasdl_understands(document: Path) -> None:
    """What a reader copies from a document parses, and its selection can be understood."""
    text = document.read_text()
    for options in [*understood(shell_lines(text)), *understood(mentions(text), may_be_incomplete=True)]:
        if options.command == "init":
            Selection.parse(**{name: getattr(options, name) for name in SELECTING})


@every_document
def test_every_query_in_the_documents_runs(document: Path, ledger: Ledger) -> None:
    """Examples of ``midasdl sql`` and ``sqlite3`` name tables, views and columns that exist."""
    text = document.read_text()
    typed = [*understood(shell_lines(text)), *understood(mentions(text), may_be_incomplete=True)]
    queries = [options.query for options in typed if options.command == "sql"]
    queries += re.findall(r'sqlite3 -readonly \S+ "(SELECT [^"]*)"', text)
    with ledger.read() as connection:
        for query in queries:
            connection.exec_driver_sql(query).all()


def test_the_reader_of_commands_knows_a_shell() -> None:
    """The tests above would pass in silence if no command were found: here is what they see."""
    text = """
```sh
# midasdl no
X=1 midasdl run --workers 2 > log 2>&1 &
midasdl init a \\
  --qc 1 && midasdl run  # not this
```
Type `midasdl status` or `midasdl status --json`.
```toml
midasdl = 1
```
```console
$ midasdl sql "SELECT ';'" | head
midasdl 1
```
"""
    assert list(commands([*shell_lines(text), *mentions(text)])) == [
        ["run", "--workers", "2"],
        ["init", "a", "--qc", "1"],
        ["run"],
        ["sql", "SELECT ';'"],
        ["status"],
        ["status", "--json"],
    ]


# --- settings


def test_the_page_of_settings_is_made_from_the_model() -> None:
    """docs/configuration.md is what `make docs` makes of the settings: every key, default, range and effect."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference(), "write it anew with: make docs"
    table = [row for row in rows(page) if len(row) == 7]
    assert [row[0].strip("`") for row in table] == known_keys(Settings)
    for key, kind, _, default, _, variable, effect in table:
        assert kind, key
        assert default, key
        assert variable == f"`{variable_of(key.strip('`'))}`", key
        assert effect, key


@every_document
def test_every_variable_in_the_documents_is_a_setting(document: Path) -> None:
    """A variable that a reader copies has an effect."""
    known = {variable_of(key) for key in known_keys(Settings)}
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*{SEPARATOR}[A-Z0-9_]*", document.read_text()))
    assert named <= known


# --- tables and names


def test_the_exit_codes_in_the_readme_are_those_of_the_code() -> None:
    """Each code that midasdl can end with is explained, and no other."""
    table = rows(section((ROOT / "README.md").read_text(), "Exit codes"))
    assert [int(code) for code, _ in table] == sorted(ExitCode)


def test_the_commands_in_the_readme_are_those_of_the_code() -> None:
    """The table of commands is complete and in the order of the help."""
    table = rows(section((ROOT / "README.md").read_text(), "Commands"))
    assert [name.strip("`") for name, _ in table] == [f"midasdl {name}" for name in COMMANDS]


def test_the_dependencies_in_the_readme_are_those_of_the_package() -> None:
    """Each dependency has its reason."""
    table = rows(section((ROOT / "README.md").read_text(), "Dependencies"))
    wanted = [re.match(r"[\w-]+", entry)[0] for entry in PYPROJECT["project"]["dependencies"]]  # type: ignore[index]
    assert [name for name, reason in table if reason] == list(dict.fromkeys(wanted))


def test_the_guide_lists_every_class_of_failure() -> None:
    """The table of failures has each class that a file can fail with."""
    table = rows(section((ROOT / "docs" / "guide.md").read_text(), "Failures and retries"))
    assert [row[0].strip("`") for row in table] == [str(name) for name in ADVICE]


def test_the_house_in_the_design_document_stands() -> None:
    """Its rooms exist, and stand in the order in which they may import each other."""
    (_, house), *_ = blocks(section((ROOT / "docs" / "design.md").read_text(), "The house"))
    rooms = re.findall(r"^  (\w+)(\.py|/) ", house, re.MULTILINE)
    for name, suffix in rooms:
        assert (ROOT / "midasdl" / f"{name}{suffix}").exists(), name
    (contract,) = PYPROJECT["tool"]["importlinter"]["contracts"]
    assert [name for name, _ in rooms] == contract["layers"][::-1]


# --- links


def anchors(document: Path) -> set[str]:
    """The targets within a document, as they are made from its headings."""
    heads = re.findall(r"^#+ (.*)$", prose(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@every_document
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    """A relative link names a file that is there, and a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@every_document
def test_files_of_the_repository_that_are_named_are_there(document: Path) -> None:
    """A test that a document calls upon exists."""
    for name in re.findall(
        r"`((?:tests|midasdl|examples|migrations)/[\w./-]+\.\w+)`", prose(document.read_text())
    ):
        assert (ROOT / name).exists(), name
