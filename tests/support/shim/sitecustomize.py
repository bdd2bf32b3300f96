"""Python runs this before anything else where its folder is on the path: the disk that the environment asks for."""

import ast
import os

from failing import PAGES, VARIABLE, Failing, bounded, calls_of

if VARIABLE in os.environ:
    for module, name, replacement in calls_of(Failing(**ast.literal_eval(os.environ[VARIABLE]))):
        setattr(module, name, replacement)

if PAGES in os.environ:
    from midasdl.ledger.library import best_library

    sqlite = best_library().module
    sqlite.connect = bounded(sqlite.connect, int(os.environ[PAGES]))
