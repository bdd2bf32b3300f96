"""What each key of a section means: the text below it in the source, read when somebody wants to know.

Pydantic would read it whenever the settings are imported, which takes longer than all else in that.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


def meaning_of(model: type[BaseModel], name: str) -> str:
    """The meaning of one key, on one line; empty where nothing stands below it."""
    return _meanings_of(model).get(name, "")


@cache
def _meanings_of(model: type[BaseModel]) -> dict[str, str]:
    """The texts below the keys of a class; a class inside another is no section."""
    [section] = ast.parse(inspect.getsource(model)).body
    meanings = {}
    for key, text in pairwise(getattr(section, "body", [])):
        match key, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as meaning)),
            ):
                meanings[name] = " ".join(meaning.split())
    return meanings
