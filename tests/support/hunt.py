"""The hunt for secrets: everything that a command says, writes and shows of itself is searched for them."""

from __future__ import annotations

import base64
import html
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from urllib.parse import quote, quote_plus
from urllib.request import urlopen

import psutil

from midasdl.ceda.dotenv_file import quote as dotenv_quote
from tests.support.command import PATIENCE_S, Command, Ended


def forms_of(secret: str) -> set[bytes]:
    """A secret as it may be disguised: quoted, escaped, encoded, anywhere inside a base64 text."""
    raw = secret.encode()
    texts = {
        *(secret, quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret)),
        *(json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]),
        *(ascii(secret)[1:-1], dotenv_quote(secret), shlex.quote(secret), raw.hex(), repr(raw)[2:-1]),
    }
    forms = {text.encode() for text in texts} | {raw.decode().encode("utf-16-le")}
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw + b"\0" * 2)
        # the ends depend on the neighbours
        core = coded[-(-offset * 4 // 3) + bool(offset) : len(raw) * 4 // 3 - 1]
        forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return forms


class Hunt:
    """Commands of one job, and what is to be found nowhere in what they leave.

    Parameters
    ----------
    command : Command
    hideouts : sequence of str
        Patterns of files, below the job's folder, in which secrets belong.
    """

    def __init__(self, command: Command, hideouts: Sequence[str] = (".env", "cache/**/token-*.json")) -> None:
        self.command = command
        self.folder = command.folder
        self.secrets: dict[str, set[bytes]] = {}
        self.heard: list[tuple[str, bytes]] = []
        self.command_lines: set[bytes] = set()
        self.processes_seen: set[int] = set()
        self.pages: list[str] = []
        self._hideouts = hideouts

    def never(self, name: str, secret: str) -> None:
        """Add a secret."""
        self.secrets[name] = forms_of(secret)

    def run(
        self, *words: str, stdin: bytes = b"", code: int | None = 0, stop_when: str | None = None
    ) -> Ended:
        """Run a command to its end, while the command lines of all processes are watched.

        Parameters
        ----------
        stop_when : str, optional
            Send SIGTERM as soon as this stands on stdout.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "midasdl", *words],
            cwd=self.folder,
            env=self.command.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with self.watching():
            out = _read_until(process, stop_when) if stop_when else b""
            rest, err = process.communicate(stdin or None, timeout=PATIENCE_S)
        what = f"midasdl {' '.join(words)}"
        self.heard += [(f"stdout of {what}", out + rest), (f"stderr of {what}", err)]
        self._learn_tokens()
        ended = Ended(process.returncode, (out + rest).decode(), err.decode())
        assert code is None or ended.code == code, f"{what}: {ended}"
        return ended

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the command line of every process of this machine, and at `pages`, again and again."""
        over = threading.Event()

        def watch() -> None:
            while True:
                self.look_at_command_lines()
                self.look_at_pages()
                if over.wait(0.4):
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def look_at_command_lines(self) -> None:
        """What any user of the machine can see."""
        for process in psutil.process_iter(["cmdline"]):
            shown = b"\0".join(map(os.fsencode, process.info["cmdline"] or []))
            if b"midasdl" in shown:
                self.processes_seen.add(process.pid)
            self.command_lines.add(shown)

    def look_at_pages(self) -> None:
        """What anybody on this machine can read while a run is on."""
        for url in self.pages:
            with suppress(OSError, HTTPException), urlopen(url, timeout=5) as answer:
                self.heard.append((url, str(answer.headers).encode() + answer.read()))

    def found_in(self, data: bytes) -> list[str]:
        """The names of the secrets that stand in it."""
        return [name for name, forms in self.secrets.items() if any(form in data for form in forms)]

    def finds(self) -> list[tuple[str, list[str]]]:
        """Where secrets stand that do not belong there."""
        hideouts = {path for pattern in self._hideouts for path in self.folder.glob(pattern)}
        lines = [("command line of a process", line) for line in self.command_lines]
        places = [
            (str(path.relative_to(self.folder)), path.read_bytes())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path not in hideouts
        ]
        return [
            (where, found) for where, data in [*self.heard, *lines, *places] if (found := self.found_in(data))
        ]

    @property
    def bytes_searched(self) -> int:
        """How much `finds` looks at, among what was heard."""
        return sum(len(data) for _, data in self.heard)

    def _learn_tokens(self) -> None:
        """Every token that was ever cached is a secret, and so is its signature alone."""
        for path in (self.folder / "cache").rglob("token-*.json"):
            token = json.loads(path.read_text())["token"]
            self.never(f"token {token[-8:]}", token)
            self.never(f"signature {token[-8:]}", token.rpartition(".")[2][:80])


def _read_until(process: subprocess.Popen[bytes], word: str) -> bytes:
    assert process.stdout is not None
    out = b""
    while word.encode() not in out:
        line = process.stdout.readline()
        assert line, f"{word!r} never came"
        out += line
    process.send_signal(signal.SIGTERM)
    return out
