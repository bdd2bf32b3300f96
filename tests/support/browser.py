"""A real browser without a window, driven through its debugging pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60.0


def require_browser() -> str:
    """The path of a browser; without it the test skips here, and fails in CI."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium must be installed in CI")
        pytest.skip("chromium is not installed")
    return found


class Browser:
    """One page of a browser.

    Attributes
    ----------
    complaints : list of str
        Whatever the browser has said against a page: errors, refused loads, violations of its policy.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number = 0
        self._pending = b""
        self.complaints: list[str] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session: str | None = None
        attached = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable", {})

    def open(self, url: str, width: int = 1100, height: int = 900, *, dark: bool = False) -> None:
        """Open a page in a window of a size, in light or dark."""
        self._ask("Page.navigate", {"url": "about:blank"})
        self.wait_for("document.readyState === 'complete'")
        self.complaints.clear()
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", {"features": [scheme]})
        answer = self._ask("Page.navigate", {"url": url})
        assert "errorText" not in answer, answer
        self.wait_for("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What an expression is worth on the page."""
        answer = self._ask("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Look again and again until an expression is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < deadline, f"{expression} never came true: {self.text}"
            time.sleep(0.05)

    @property
    def text(self) -> str:
        """What a person can read."""
        return str(self.value("document.body.innerText"))

    @property
    def overflows(self) -> bool:
        """Whether the page is wider than its window, so that one has to move it sideways."""
        return bool(self.value("document.documentElement.scrollWidth > window.innerWidth"))

    def picture(self, path: Path) -> bytes:
        """Take a picture of what the window shows."""
        picture = base64.b64decode(self._ask("Page.captureScreenshot", {"format": "png"})["data"])
        path.write_bytes(picture)
        return picture

    def _ask(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if method.partition(".")[0] != "Target":
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            piece = os.read(self._from, 1 << 16)
            assert piece, "the browser has ended"
            self._pending += piece
        first, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(first))

    def _note(self, event: Mapping[str, Any]) -> None:
        match event.get("method"):
            case "Log.entryAdded":
                entry = event["params"]["entry"]
                self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["params"]["exceptionDetails"]))


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Have a browser with a profile of its own for the length of the block."""
    program = require_browser()
    read_there, to_browser = os.pipe()
    from_browser, write_there = os.pipe()

    def put_into_place() -> None:
        """The browser expects its pipe at 3 and 4; what lies there already is moved out of the way."""
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_there, write_there)]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    words = [
        *(
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ),
        *("--remote-debugging-pipe", "--hide-scrollbars", f"--user-data-dir={folder}"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=put_into_place,  # noqa: PLW1509 - only moves descriptors
        start_new_session=True,
        env={**os.environ, "HOME": str(folder)},
    )
    os.close(read_there)
    os.close(write_there)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        os.close(to_browser)
        os.close(from_browser)
