"""The names of part files, which say all that there is to know of them. Pure.

`midasdl.parts` says what they look like, and deals with the files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, unquote

from midasdl.identity import ProcessIdentity

SUFFIX = ".part"

TILDES_OF_NAMELESS = 3
"""In the name of a part file that ends with its attempt."""

KEPT_FOR_S = 14 * 86_400.0
"""A partial that nobody went on with for so long belongs to a job that was given up."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Which file the bytes of a part file begin.

    Attributes
    ----------
    md5 : str
        Of the whole file, by the manifest.
    path_mark : str
        Tells the paths of one task apart.
    validator : str
        Names the very bytes at the server.
    """

    md5: str
    path_mark: str
    validator: str


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part file says.

    Attributes
    ----------
    owner : ProcessIdentity or None
        Who writes it; None where nobody does.
    number : int
        Tells the part files of one owner apart.
    beginning : Beginning or None
        None where it ends with its attempt.
    """

    owner: ProcessIdentity | None
    number: int = 0
    beginning: Beginning | None = None

    @property
    def is_free(self) -> bool:
        """Whether nobody writes it, as far as can be known here."""
        return self.owner is None or self.owner.is_gone()

    def text(self) -> str:
        """The name on disk."""
        words: list[str] = []
        if self.owner is not None:
            words += [whose(self.owner), str(self.number)]
        if self.beginning is not None:
            validator = quote(self.beginning.validator, safe="").replace("~", "%7E")
            words += [self.beginning.md5, self.beginning.path_mark, validator]
        return "~".join(words) + SUFFIX


def whose(owner: ProcessIdentity) -> str:
    """The part of a name that tells its owner."""
    started = owner.started.replace(":", "-")
    return f"{owner.host}~{owner.pid}~{started}"


def may_have_a_beginning(text: str) -> bool:
    """Whether the name of a part file can say which file its bytes begin."""
    return text.count("~") != TILDES_OF_NAMELESS


def read_name(text: str) -> PartName | None:
    """Understand the name of a part file; None where it is none of ours."""
    words = text.removesuffix(SUFFIX).split("~")
    if not text.endswith(SUFFIX) or len(words) not in {3, 4, 7}:
        return None
    beginning = None
    if len(words) != 4:
        md5, path_mark, validator = words[-3:]
        beginning = Beginning(md5, path_mark, unquote(validator))
    if len(words) == 3:
        return PartName(None, 0, beginning)
    host, pid, started, number = words[:4]
    if not (pid.isdecimal() and number.isdecimal()):
        return None
    return PartName(ProcessIdentity(host, int(pid), started.replace("-", ":", 1)), int(number), beginning)


def is_stale(md5: str, is_free: bool, age_s: float, not_done: Collection[str]) -> bool:
    """Whether what was kept of a body is of no use any more.

    Parameters
    ----------
    md5 : str
        Of the whole file.
    is_free : bool
        Whether nobody is known to write it.
    age_s : float
        Since somebody wrote it; no process of any machine stays silent for `KEPT_FOR_S`.
    not_done : collection of str
        Md5s whose tasks are not done.
    """
    return age_s > KEPT_FOR_S or (is_free and md5 not in not_done)


def mark_of(path: str) -> str:
    """What tells the paths of one task apart in the names of part files."""
    return hashlib.md5(os.fsencode(path), usedforsecurity=False).hexdigest()[:8]
