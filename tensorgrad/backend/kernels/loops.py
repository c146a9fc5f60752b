"""Loops in Python that Numba compiles when they are first called with arguments of some kind.

A ``loop`` is called with arrays and numbers, writes into some of the arrays and returns nothing.
Nothing here imports Numba, and where the machine code is kept (``machine_code``), nobody does.

The machine code gets the addresses of array objects. It looks itself whether they are of the kind
that it was compiled for, which takes it less time than it would take here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import RLock
from typing import Any

import numpy as np

from .. import launch
from . import machine_code, objects
from .parts import CONSTANT, Part

_compiling = RLock()  # of several threads that want the same loop one compiles it

announced = launch.rank() > 0  # of several processes the first says that kernels are compiled


class Loop(Part):
    """What Python calls; of a loop ``any_layout``, arrays need not be in C's order to be quick.

    ``last``, an integer that it is compiled for, is the function's last argument, if that has one
    more than the loop is called with.
    """

    def __init__(
        self, function: Callable, any_layout: bool = False, last: int | None = None
    ) -> None:
        super().__init__(function)
        self.any_layout, self.last = any_layout, last
        self._entries: dict[tuple[str, ...], Callable] = {}
        self._latest: Callable = _nothing_fits

    @property
    def name(self) -> str:
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    def __call__(self, *arguments: Any) -> None:
        """Compile it if need be, and run it without the interpreter's lock.

        Raises:
            TypeError: an argument is no array or number that Numba can compile for.
            MemoryError: there is no room for what it works with.
        """
        if self._latest(*arguments) != 0:  # other kinds than last time
            self._call(arguments)

    def _call(self, arguments: tuple[Any, ...]) -> None:
        arguments = tuple(map(_plain, arguments))
        kinds = tuple(self._kind(argument) for argument in arguments)
        if self.last is not None:
            kinds += (f"{CONSTANT}{self.last}",)
        with _compiling:
            entry = self._entries.get(kinds) or self._find(kinds)
            self._entries[kinds] = self._latest = entry
        if entry(*arguments) != 0:
            raise MemoryError(f"there is no memory for the numbers that {self.name} works with")

    def _kind(self, argument: Any) -> str:
        """Such as ``f2C``, a matrix of float32 in C's order; of a number its type."""
        if not isinstance(argument, np.ndarray):
            return type(argument).__name__
        dtype, flags = argument.dtype, argument.flags
        if not dtype.isnative or dtype.char not in "fdlqiLQI?":
            raise TypeError(f"there are no compiled loops for arrays of {dtype}")
        layout = "C" if flags.c_contiguous and not self.any_layout else "A"
        return f"{dtype.char}{argument.ndim}{layout}{'' if flags.aligned else 'u'}"

    def _find(self, kinds: tuple[str, ...]) -> Callable:
        name = "-".join((self.name, *kinds)).replace("?", "bool")
        found = machine_code.find(name)
        if found is None:
            _announce()
            from .compiling import compile_loop

            found = compile_loop(self.function, kinds, self.any_layout, name)
        return found


def _nothing_fits(*arguments: Any) -> int:
    """Instead of machine code, before there is any."""
    return 1


def _plain(argument: Any) -> Any:
    """An array, int, float or bool, of what may be a subclass of it, or NumPy's."""
    if isinstance(argument, np.ndarray):
        return argument if type(argument) is np.ndarray else argument.view(np.ndarray)
    for kind, numpys in ((bool, np.bool_), (int, np.integer), (float, np.floating)):
        if isinstance(argument, (kind, numpys)):
            return kind(argument)
    raise TypeError(f"compiled loops take arrays and numbers, not {type(argument).__name__}")


def _announce() -> None:
    """Say, once in a process, why the first step takes so long."""
    global announced
    if not announced:
        announced = True
        print(
            "tensorgrad: compiling its kernels, which takes some seconds the first time; "
            "TENSORGRAD_BACKEND=numpy does without",
            file=sys.stderr,
            flush=True,
        )


def check() -> None:
    """That loops can be compiled and run here.

    Raises:
        ImportError: Numba does not go with this Python or NumPy, or nobody knows how array objects
            are laid out.
        and what LLVM raises if it is not as those that are known.
    """
    if not objects.KNOWN:
        raise ImportError("array objects are not laid out as in NumPy 1 and 2")
    machine_code.prepare()
    if not machine_code.anything_kept():
        import numba  # noqa: F401 (it may complain)


def loop(function: Callable | None = None, **options: Any) -> Any:
    """A function of arrays and numbers that returns nothing, compiled for what they are."""
    return Loop(function, **options) if function else lambda function: Loop(function, **options)
