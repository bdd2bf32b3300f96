"""Long lines on a terminal: broken between words, and never within a command that a person may copy."""

from __future__ import annotations

import argparse
import re
import textwrap

WIDEST = 120
"""Prose on a very wide terminal ends here: longer lines are hard to read."""

NARROWEST = 40

COMMAND = re.compile(r"(?<=: )midasdl [^,;()]*?(?=\. [A-Z]|$)|'midasdl [^']*'")
"""A command behind a colon at the end of a line or of a sentence, or in quotes."""

GLUE = "\N{NO-BREAK SPACE}"


def wrapped(text: str, columns: int) -> str:
    """Break what is longer than a terminal is wide.

    Parameters
    ----------
    text : str
        Lines that begin with a space are lists, tables and commands: they stay as they are.
    columns : int
        Of the terminal.
    """
    width = max(NARROWEST, min(columns, WIDEST))
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width or line.startswith(" "):
        return line
    glued = COMMAND.sub(lambda command: command.group().replace(" ", GLUE), line)
    lines = textwrap.wrap(glued, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(GLUE, " ")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of which paragraphs are wrapped, and examples stand as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent(wrapped(_joined(text), width), indent)


def _joined(text: str) -> str:
    """The lines of each paragraph as one; lines that begin with a space are no prose."""
    return re.sub(r"^(?! )(.+)\n(?=[^ \n])", r"\1 ", text, flags=re.MULTILINE)
