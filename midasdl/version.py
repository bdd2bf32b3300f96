"""The version, in the one place that every other place reads."""

__version__ = "0.1.0"
PROJECT_URL = "https://github.com/midasdl/midasdl"
