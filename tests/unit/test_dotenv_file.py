"""C1: credentials in `.env` come back exactly as typed, and the rest of the file is left alone."""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import example, given
from hypothesis import strategies as st

from midasdl.ceda.dotenv_file import (
    is_private,
    quote,
    read,
    remove,
    store,
    unstorable,
    with_values,
    without,
)
from midasdl.errors import ConfigurationError, StorageError

TYPED = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)
AWKWARD = st.text(st.sampled_from(list("aB0 \\'\"$#{}:-=!`;&é€\u2028\u00a0\U0001f327")), min_size=1)
OTHER_LINES = st.lists(
    st.sampled_from(
        [
            "# CEDA_PASSWORD=in a comment\n",
            "\n",
            "OTHER=1\n",
            "export OTHER='quoted # text'\n",
            'MULTI="two\nlines"\n',
            "CEDA_PASSWORD=old\n",
            "  CEDA_PASSWORD = 'old' # mine\n",
            "CEDA_USERNAME\n",
            "no equals sign at all here\n",
            "WINDOWS=1\r\n",
        ]
    )
).map("".join)
PAIR = ("CEDA_USERNAME", "CEDA_PASSWORD")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def values_in(text: str) -> dict[str, str | None]:
    return dotenv_values(stream=io.StringIO(text, newline=""))


def value_of_version_1_0(line: str) -> str:
    """How python-dotenv 1.0 reads a quoted value: a backslash before the closing quote escapes it."""
    found = re.match(r"\w+='((?:\\'|[^'])*)'\s*\Z", line)
    assert found is not None, line
    unescaped = re.sub(r"\\([\\'])", r"\1", found[1])
    return re.sub(r"\$\{[^\}:]*(?::-([^\}]*))?\}", lambda match: match[1] or "", unescaped)


@given(st.one_of(TYPED, AWKWARD), st.one_of(TYPED, AWKWARD), OTHER_LINES)
@example("${HOME}", "a\\", "")
@example("'", "\\'", "OTHER=1")
@example("$${:-x}", " a # b ", "")
def test_c1_what_was_typed_is_read_back_exactly(username: str, password: str, before: str) -> None:
    typed = dict(zip(PAIR, (username, password), strict=True))

    found = values_in(with_values(before, typed))

    assert {name: found[name] for name in PAIR} == typed


@given(AWKWARD)
def test_c1_older_versions_of_python_dotenv_read_it_back_too(password: str) -> None:
    written = quote(password)

    assert written == password or value_of_version_1_0(f"CEDA_PASSWORD={written}") == password


@given(AWKWARD, OTHER_LINES)
def test_c1_every_other_value_stays_as_it_was(password: str, before: str) -> None:
    def others(text: str) -> dict[str, str | None]:
        return {name: value for name, value in values_in(text).items() if name not in PAIR}

    assert others(with_values(before, {"CEDA_PASSWORD": password})) == others(before)
    assert others(without(before, PAIR)[0]) == others(before)


@given(AWKWARD, OTHER_LINES)
def test_c1_storing_twice_changes_nothing_and_forgetting_leaves_no_trace(password: str, before: str) -> None:
    once = with_values(before, {"CEDA_PASSWORD": password})

    assert with_values(once, {"CEDA_PASSWORD": password}) == once
    assert "CEDA_PASSWORD" not in values_in(without(once, PAIR)[0])


SCRAPS = st.lists(
    st.sampled_from(
        [
            *"'\"\\=#$ \t\r\n{}:-",
            "\r\n",
            "export ",
            "CEDA_PASSWORD",
            "OTHER",
            "${OTHER}",
            "\ufeff",
            "\0",
            "\x0b",
            "é",
        ]
    )
).map("".join)


@given(SCRAPS, st.one_of(TYPED, AWKWARD))
def test_c1_whatever_the_file_holds_the_password_is_stored_or_refused_in_words(
    before: str, password: str
) -> None:
    """C1: half a quote, a stray carriage return, a line of nothing: no error but ours, and what is stored is read."""
    others = {name: value for name, value in values_in(before).items() if name not in PAIR}
    try:
        written = with_values(before, {"CEDA_PASSWORD": password})
    except ConfigurationError:
        written = f"CEDA_PASSWORD={quote(password)}\n"
    else:
        kept = values_in(written)
        assert {name: kept.get(name) for name in others} == others
    assert values_in(written)["CEDA_PASSWORD"] == password
    assert "CEDA_PASSWORD" not in values_in(without(written, PAIR)[0])


def test_c1_lines_comments_and_order_are_kept() -> None:
    before = (
        "# who I am\nexport CEDA_USERNAME=old\n\nOTHER='x # y'  # why\nCEDA_TOKEN=t\nCEDA_PASSWORD=1\n# end"
    )

    after = with_values(before, {"CEDA_USERNAME": "me", "CEDA_PASSWORD": "a b"}, ["CEDA_TOKEN"])

    assert after == "# who I am\nexport CEDA_USERNAME=me\n\nOTHER='x # y'  # why\nCEDA_PASSWORD='a b'\n# end"


def test_c1_new_names_go_to_the_end_after_a_line_without_end() -> None:
    assert with_values("A=1", {"CEDA_TOKEN": "t"}) == "A=1\nCEDA_TOKEN=t\n"
    assert with_values("A=1\r\nB=2\r\n", {"CEDA_TOKEN": "t"}) == "A=1\r\nB=2\r\nCEDA_TOKEN=t\r\n"


def test_c1_of_repeated_names_one_line_is_left() -> None:
    """The last of them counts for python-dotenv, so that an old one must not stay below."""
    after = with_values("CEDA_TOKEN=1\nA=2\nCEDA_TOKEN=3\n", {"CEDA_TOKEN": "new"})

    assert after == "CEDA_TOKEN=new\nA=2\n"


def test_c1_a_line_that_would_swallow_the_password_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unclosed quote"):
        with_values("A='open\n", {"CEDA_PASSWORD": "with a space"})


@pytest.mark.parametrize("value", ["", "a\nb", "tab\there", "\x00", "\x7f", "half \ud83c"])
def test_c1_what_no_line_can_carry_is_said_to_be_so(value: str) -> None:
    assert unstorable(value) is not None


@pytest.mark.parametrize("value", ["a", " ", "é", "\U0001f327", "a\u2028b", "'\"\\$#"])
def test_c1_what_can_be_typed_can_be_stored(value: str) -> None:
    assert unstorable(value) is None


def test_c1_a_new_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        stored = store(tmp_path / ".env", {"CEDA_TOKEN": "t"})
    finally:
        os.umask(umask)

    assert (stored.created, stored.tightened) == (True, False)
    assert mode(tmp_path / ".env") == 0o600


@pytest.mark.parametrize("before", [0o644, 0o660, 0o604])
def test_c1_an_open_file_is_tightened_and_that_is_reported(tmp_path: Path, before: int) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")
    path.chmod(before)

    stored = store(path, {"CEDA_TOKEN": "t"})

    assert (stored.created, stored.tightened, mode(path)) == (False, True, 0o600)
    assert is_private(path)


def test_c1_a_private_file_is_not_said_to_have_been_open(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("CEDA_ACCESS_TOKEN=1\n")
    path.chmod(0o600)

    stored = store(path, {"CEDA_TOKEN": "t"}, ["CEDA_ACCESS_TOKEN", "CEDA_TOKEN_X"])

    assert not stored.tightened
    assert stored.dropped == ("CEDA_ACCESS_TOKEN",)
    assert path.read_text() == "CEDA_TOKEN=t\n"


def test_c1_the_file_is_replaced_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves the old file whole, and no draft that holds the password."""
    path = tmp_path / ".env"
    path.write_text("A=1\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        store(path, {"CEDA_PASSWORD": "p"})

    assert path.read_text() == "A=1\n"
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_c1_a_linked_file_is_changed_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "env", tmp_path / ".env"
    real.write_text("A=1\n")
    link.symlink_to(real)

    store(link, {"CEDA_TOKEN": "t"})

    assert link.is_symlink()
    assert read(real) == {"A": "1", "CEDA_TOKEN": "t"}


def test_c1_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    os.mkfifo(path)

    with pytest.raises(ConfigurationError, match="not a file"):
        store(path, {"CEDA_TOKEN": "t"})
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_c1_what_is_not_text_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xff\n")

    with pytest.raises(ConfigurationError, match="UTF-8"):
        remove(path, PAIR)
    assert path.read_bytes() == b"A=\xff\n"


def test_c1_forgetting_keeps_the_rest_and_may_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\nCEDA_USERNAME=me\nCEDA_PASSWORD=p\nCEDA_PASSWORD=q\n")

    first, second = remove(path, PAIR), remove(path, PAIR)

    assert (first.names, first.file) == (PAIR, False)
    assert (second.names, second.file) == ((), False)
    assert path.read_text() == "A=1\n"
    assert is_private(path)


def test_c1_a_file_that_held_nothing_else_goes_too(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("\nCEDA_TOKEN=t\n\n")

    assert remove(path, ["CEDA_TOKEN"]).file
    assert not path.exists()
    assert not remove(path, ["CEDA_TOKEN"]).file


def test_c1_a_file_of_comments_alone_stays(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nCEDA_TOKEN=t\n")

    assert not remove(path, ["CEDA_TOKEN"]).file
    assert path.read_text() == "# mine\n"
