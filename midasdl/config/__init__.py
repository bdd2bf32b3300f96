"""Settings as frozen data, and how they are put together.

Only the command line reads files or the environment, through `midasdl.config.layers`; everything below it is
handed a `Settings`.
"""

from midasdl.config.layers import from_environment, from_file
from midasdl.config.resolution import resolve
from midasdl.config.settings import Settings

__all__ = ["Settings", "from_environment", "from_file", "resolve"]
