"""One module for each workload; see the package above for what it must have."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

NAMES = ("small", "real", "latency", "polite", "manifest", "resume", "memory", "claims")
"""In the order of the page."""


def workload(name: str) -> ModuleType:
    """The module of a workload."""
    return import_module(f"benchmarks.workloads.{name}")
