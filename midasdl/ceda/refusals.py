"""What the token service last said to an account, so that not every process has to hear it.

Eight workers can find at the same moment that their token was revoked. The first asks for another; where that is
refused, as with a password that has changed, the others need not ask: servers lock accounts after a few wrong
passwords. Only who belongs to a run that began before takes a note for an answer, so that a command that is typed again
always asks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

from midasdl.ceda.private_file import write_private
from midasdl.ceda.secret import Secret
from midasdl.errors import AuthenticationError, MidasdlError, ServerUnavailableError

HOLDS_S = 60.0
"""So long a note stands for an answer: long enough for all workers of a run to find it."""

ROUNDS = 100_000
"""Of hashing: a note must not help to guess the password."""

KINDS: dict[str, type[MidasdlError]] = {
    kind.__name__: kind for kind in (AuthenticationError, ServerUnavailableError)
}
"""The errors that are noted."""


class RefusalNote:
    """A private file with the last refusal of one account.

    Parameters
    ----------
    file : Path
        In a folder that exists when something is written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, error: MidasdlError, password: Secret, now_us: int) -> None:
        """Note that the service refused a token; of the password only a salted proof is kept."""
        salt = secrets.token_hex(16)
        note = {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "at": now_us,
            "salt": salt,
            "proof": _proof(password, salt),
        }
        write_private(self._file, json.dumps(note))

    def read(self, password: Secret, since_us: int, now_us: int) -> MidasdlError | None:
        """The error for the same password, where it was noted after `since_us` and lately."""
        try:
            note = json.loads(self._file.read_text())
            earliest_us = max(since_us, now_us - int(HOLDS_S * 1e6))
            if not earliest_us < note["at"] <= now_us:
                return None
            if not hmac.compare_digest(note["proof"], _proof(password, note["salt"])):
                return None
            return KINDS[note["kind"]](note["message"], note["hint"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def remove(self) -> None:
        """Forget it."""
        self._file.unlink(missing_ok=True)


def _proof(password: Secret, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.reveal().encode(), salt.encode(), ROUNDS).hex()
