"""Memory into which answers come: kept from one to the next, because new memory costs more than the bytes in it."""

from __future__ import annotations

RECEIVE_BYTES = 65_536
"""Head and body of a small file come with one call of the system."""

KEPT_BYTES = 4_194_304
"""Few files of the archive are larger."""


class Room:
    """What one adapter receives into.

    Attributes
    ----------
    view : memoryview
        All of it. What is sliced from it holds only until the next answer comes.

    Notes
    -----
    Concurrency: belongs to one thread.
    """

    __slots__ = ("_bytes", "view")

    def __init__(self) -> None:
        self._bytes = bytearray(RECEIVE_BYTES)
        self.view = memoryview(self._bytes)

    def find(self, mark: bytes, end: int) -> int:
        """Where `mark` begins among the first `end` bytes; -1 where it does not."""
        return self._bytes.find(mark, 0, end)

    def whole(self, start: int, come: int, size_bytes: int) -> memoryview:
        """Memory for all of something that has begun to come; the room grows for it, unless it is large.

        Parameters
        ----------
        start, come : int
            Where in the room its beginning lies, and how much of it that is.
        """
        if start + size_bytes <= len(self.view):
            return self.view[start : start + size_bytes]
        larger = bytearray(max(size_bytes, min(2 * size_bytes, KEPT_BYTES)))
        larger[:come] = self.view[start : start + come]
        view = memoryview(larger)
        if len(larger) <= KEPT_BYTES:
            self._bytes, self.view = larger, view
        return view[:size_bytes]
