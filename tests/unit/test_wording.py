"""U1: what midasdl says fits the terminal, and commands in it can be copied."""

from __future__ import annotations

import argparse

from midasdl.cli.wording import HelpFormatter, wrapped

SENTENCE = "Everything that has been fetched so far is kept, and nothing of it will be asked for again."
BREAK = SENTENCE.index("nothing")


def test_prose_breaks_between_words() -> None:
    """A line that is too long breaks at a space, and no word of it is lost."""
    lines = wrapped(SENTENCE, 50).split("\n")
    assert max(map(len, lines)) <= 50
    assert " ".join(lines) == SENTENCE


def test_a_command_stays_whole() -> None:
    """What a person may copy stands on one line, at the end of a sentence or in quotes."""
    for command in ("midasdl run --retry-failed --workers 8", "'midasdl resume --workers 8'"):
        text = f"Some words that come before it and take room. Go on with: {command}"
        assert command in wrapped(text, 60).split("\n")[-1]


def test_a_command_stays_whole_where_another_sentence_follows() -> None:
    """The sentence that it ends may have a next one."""
    text = "Some words before it, of just this length: midasdl auth setup --anything. Or set one, or two."
    lines = wrapped(text, 60).split("\n")
    assert any("midasdl auth setup --anything. Or" in line for line in lines)


def test_the_name_in_prose_is_a_word_like_others() -> None:
    """What follows the program's name without a colon or quotes is prose."""
    text = "It prints what sends midasdl there, together with a user name and the password that goes with it."
    assert max(map(len, wrapped(text, 60).split("\n"))) <= 60


def test_lists_tables_and_commands_of_their_own_line_stay_as_they_are() -> None:
    """A line that begins with a space is not prose."""
    line = f"  export {'X' * 30} {'Y' * 90}"
    assert wrapped(line, 60) == line


def test_paths_longer_than_the_terminal_stay_whole() -> None:
    """A long path is one word."""
    path = "/data/" + "a" * 100
    assert path in wrapped(f"The ledger {path} cannot be read, because something is wrong.", 60)


def test_help_is_wrapped_as_well() -> None:
    """Paragraphs are reflowed to fit the terminal, and examples between them stay as they are."""
    parser = argparse.ArgumentParser(
        prog="x",
        description=SENTENCE,
        epilog=f"examples:\n  midasdl run\n  midasdl run --workers 8\n\n{SENTENCE[:BREAK]}\n{SENTENCE[BREAK:]}",
        formatter_class=lambda prog: HelpFormatter(prog, width=60),
    )
    text = parser.format_help()
    assert max(map(len, text.splitlines())) <= 60
    assert "\n  midasdl run\n  midasdl run --workers 8\n\n" in text
    assert " ".join(text.split("\n\n")[-1].split()) == SENTENCE
