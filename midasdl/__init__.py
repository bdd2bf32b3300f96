"""midasdl: fetch the Met Office MIDAS Open archive from CEDA, completely, politely and provably."""

from midasdl.version import __version__

__all__ = ["__version__"]
