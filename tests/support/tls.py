"""Certificates of an authority of one's own, good ones and bad ones."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme

HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows, and its certificate as a file."""

    ca: trustme.CA
    bundle: Path

    @classmethod
    def found(cls, bundle: Path) -> Authority:
        ca = trustme.CA(organization_name="University of the Test")
        ca.cert_pem.write_to_path(str(bundle))
        return cls(ca, bundle)

    def server(self, *hosts: str, expired: bool = False) -> ssl.SSLContext:
        """What a server needs to speak for these hosts."""
        until = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(hosts or HOSTS), not_after=until).configure_cert(context)
        return context


def self_signed(bundle: Path) -> ssl.SSLContext:
    """A server whose certificate is its own and only witness."""
    authority = Authority.found(bundle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_files(authority, bundle))
    return context


def _files(authority: Authority, bundle: Path) -> tuple[Path, Path]:
    key = bundle.with_suffix(".key")
    authority.ca.private_key_pem.write_to_path(str(key))
    return bundle, key
