"""Paths that only several lines together show to be impossible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def folder_conflicts(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find the paths that are also a folder of another path.

    Parameters
    ----------
    paths : iterable of str
        In ascending order of code points, which is the order of their UTF-8 bytes and SQLite's BINARY.

    Yields
    ------
    tuple of (str, str)
        Each such path with the first path beneath it, in order, once.

    Notes
    -----
    Linear in time, and the stack is never deeper than the longest path. Between ``a`` and ``a/b`` names such
    as ``a-b`` may stand, so every path that is a prefix of the current one stays a candidate. Only the
    longest has to be compared with the current path: the shorter ones were compared with it when it came.
    """
    candidates: list[str] = []
    for path in paths:
        while candidates and not path.startswith(candidates[-1]):
            candidates.pop()
        if candidates and path == candidates[-1]:
            continue
        if candidates and path[len(candidates[-1])] == "/":
            yield candidates.pop(), path
        candidates.append(path)
