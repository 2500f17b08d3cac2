"""Imports that cost a second for what nothing here uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"


@contextmanager
def compiler_when_called() -> Iterator[None]:
    """Have what is imported within take functions of PyTorch's compiler without loading it.

    torchvision takes one, to ask whether its ``roi_align`` can be compiled, and so loads all of it:
    1.3 s, where the rest of torchvision is 0.1 s. The stand-in loads it when a function is called.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)
    vars(stand_in)["__getattr__"] = _function
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


def _function(name: str) -> Callable[..., Any]:
    if name.startswith("__"):  # what the import system asks about a module
        raise AttributeError(name)

    def loaded(*values: Any, **named: Any) -> Any:
        return getattr(import_module(_COMPILER), name)(*values, **named)

    return loaded
