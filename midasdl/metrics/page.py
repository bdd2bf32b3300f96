"""The status page: one file that asks ``/status`` again and again, and loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

PAGE = files("midasdl.metrics").joinpath("page.html").read_bytes()


def policy_of(page: bytes) -> str:
    """A Content-Security-Policy that allows a page its own style and script, its own server, and nothing else."""
    style, script = (
        " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
            for text in re.findall(rb"<" + tag + rb">(.*?)</" + tag + rb">", page, re.DOTALL)
        )
        for tag in (b"style", b"script")
    )
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


PAGE_POLICY = policy_of(PAGE)
