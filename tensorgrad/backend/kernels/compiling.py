"""How a loop becomes machine code: Numba compiles it, and an entry for Python is put before it.

The only file that needs Numba's compiler; it is imported when something is not kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import typeof_impl

from . import lanes, machine_code, objects, tiles  # noqa: F401 (lanes and tiles: Numba is told)
from .parts import CONSTANT, Borrowed, Part

_config: Any = numba.config
_njit: Any = numba.njit
if _config.CPU_FEATURES is None and machine_code.AVX512:
    _config.CPU_FEATURES = machine_code.features()

# Sums may be taken in any order, and a * b + c be rounded once. Not among them: that there are no
# nan and inf, for masks are made of -inf. (Nothing allocates but ``lanes.room``, so that loops need
# nothing of Numba's when they run.)
OPTIONS = {
    "error_model": "numpy", "nogil": True, "fastmath": {"reassoc", "contract", "nsz"},
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip

# Python's and Numba's types of numbers.
NUMBERS = {
    "int": ("PyLong_Type", types.int64),
    "bool": ("PyBool_Type", types.boolean),
    "float": ("PyFloat_Type", types.float64),
}

_WORD, _HALF, _PAIR = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_dispatchers: dict[Part, Any] = {}


@typeof_impl.register(Part)
def _type_of_part(part: Part, context: Any) -> Any:
    if part not in _dispatchers:
        _dispatchers[part] = _njit(**OPTIONS)(part.function)
    return types.Dispatcher(_dispatchers[part])


@typeof_impl.register(Borrowed)
def _type_of_borrowed(borrowed: Borrowed, context: Any) -> Any:
    return cpu_target.typing_context.resolve_value_type(borrowed.real)


def compile_loop(
    function: Callable, kinds: tuple[str, ...], any_layout: bool, name: str
) -> Callable:
    """The function for arguments of these kinds, as Python calls it; it is kept under that name."""
    signature = types.void(*map(_numbas, kinds))
    machine_code.prepare()  # Numba loads what it has compiled, too
    compiled = _njit(signature, **OPTIONS)(function)
    (result,) = compiled.overloads.values()
    module = result.library._final_module
    declared = [f for f in (*module.functions, *module.global_variables) if f.is_declaration]
    externals = [f.name for f in declared if not f.name.startswith("llvm.")]
    entry = _Entry(kinds, any_layout, result.fndesc.llvm_func_name)
    packer = cpu_target.target_context.get_arg_packer(result.signature.args)
    if len(entry.arguments) != 2 + len(packer.argument_types):
        raise ImportError("this Numba hands arrays to functions in another way")
    codes = [result.library._get_compiled_object(), entry.code()]
    machine_code.keep(name, codes, externals)
    loaded = machine_code.load(name, codes, externals)
    if loaded is None:
        raise ImportError(f"{name} calls one of {', '.join(externals)}, which is not here")
    return loaded


def _numbas(kind: str) -> Any:
    """Numba's type of arguments of a kind."""
    if kind in NUMBERS:
        return NUMBERS[kind][1]
    if kind.startswith(CONSTANT):
        return types.literal(int(kind[1:]))
    layout: Any = kind[2]
    aligned = not kind.endswith("u")
    return types.Array(numba.from_dtype(np.dtype(kind[0])), int(kind[1]), layout, aligned=aligned)


class _Entry:
    """The function that Python calls with objects.

    It makes of them what Numba's function takes, lets other threads run meanwhile, and calls that.
    What is returned tells whether it went well: 0, or something else if an argument is not of its
    kind or there is no memory.
    """

    def __init__(self, kinds: tuple[str, ...], any_layout: bool, callee: str) -> None:
        self.any_layout = any_layout
        self.module = ir.Module()
        self.module.triple = llvm.get_default_triple()
        own = self._function(machine_code.ENTRY, _WORD, _WORD, _WORD, _WORD)
        self.builder = ir.IRBuilder(own.append_basic_block())
        self.refusal = own.append_basic_block("refusal")

        # Numba's functions return through two addresses: a result, of which there is none, and an
        # error, which tells nothing that the status does not.
        room = self.builder.ptrtoint(self.builder.alloca(_WORD, 2), _WORD)
        self.overflow = self.builder.alloca(_HALF)
        self.arguments = arguments = [room, self.builder.add(room, _WORD(8))]
        for i, kind in enumerate(kinds):
            if kind.startswith(CONSTANT):  # the last, for which there is no object
                arguments.append(_WORD(int(kind[1:])))
                continue
            thing = self._at(own.args[1], 8 * i)
            arguments += self._number(thing, kind) if kind in NUMBERS else self._array(thing, kind)
        state = self._call("PyEval_SaveThread", _WORD)
        numba_function = self._function(callee, _HALF, *(value.type for value in arguments))
        status = self.builder.call(numba_function, arguments)
        self._call("PyEval_RestoreThread", ir.VoidType(), state)
        status = self.builder.sext(status, _WORD)
        self.builder.ret(self._call("PyLong_FromLong", _WORD, status))
        self.builder.position_at_end(self.refusal)
        self.builder.ret(self._call("PyLong_FromLong", _WORD, _WORD(1)))

    def code(self) -> bytes:
        """Machine code."""
        return machine_code.machine().emit_object(llvm.parse_assembly(str(self.module)))

    def _number(self, thing: Any, kind: str) -> list[Any]:
        """The int or float in an object of Python's."""
        self._must_equal(self._at(thing, objects.FIELDS - 8), self._global(NUMBERS[kind][0]))
        if kind == "float":
            return [self._at(thing, objects.FIELDS, ir.DoubleType())]
        overflow = self.builder.ptrtoint(self.overflow, _WORD)
        value = self._call("PyLong_AsLongLongAndOverflow", _WORD, thing, overflow)
        self._must_equal(self.builder.load(self.overflow), _HALF(0))
        return [value if kind == "int" else self.builder.trunc(value, ir.IntType(8))]

    def _array(self, thing: Any, kind: str) -> list[Any]:
        """What Numba knows of an array: whose memory it is, sizes, address, shape and strides."""
        dtype, ndim = np.dtype(kind[0]), int(kind[1])
        flags = (objects.CONTIGUOUS if kind[2] == "C" else 0) | (
            0 if kind.endswith("u") else objects.ALIGNED
        )
        looked_at = objects.ALIGNED | (0 if self.any_layout else objects.CONTIGUOUS)
        letters = int.from_bytes(f"{dtype.char}{dtype.byteorder}".encode(), sys.byteorder)
        self._must_equal(self._at(thing, objects.FIELDS - 8), self._global(machine_code.NDARRAY))
        self._must_equal(self._field(thing, objects.NDIM, _HALF), _HALF(ndim))
        found = self.builder.and_(self._field(thing, objects.FLAGS, _HALF), _HALF(looked_at))
        self._must_equal(found, _HALF(flags))
        found = self._at(self._field(thing, objects.DTYPE), objects.KIND, _PAIR)
        self._must_equal(found, _PAIR(letters))
        shape, strides = (
            [self._at(self._field(thing, number), 8 * i) for i in range(ndim)]
            for number in (objects.SHAPE, objects.STRIDES)
        )
        count = _WORD(1)
        for size in shape:
            count = self.builder.mul(count, size)
        data = self._field(thing, objects.DATA)
        nobody = _WORD(0)
        return [nobody, nobody, count, _WORD(dtype.itemsize), data, *shape, *strides]

    def _must_equal(self, a: Any, b: Any) -> None:
        go_on = self.builder.append_basic_block()
        self.builder.cbranch(self.builder.icmp_unsigned("==", a, b), go_on, self.refusal)
        self.builder.position_at_end(go_on)

    def _at(self, address: Any, offset: int, kind: Any = _WORD) -> Any:
        """What stands so many bytes behind an address."""
        place = self.builder.add(address, _WORD(offset))
        return self.builder.load(self.builder.inttoptr(place, kind.as_pointer()))

    def _field(self, thing: Any, number: int, kind: Any = _WORD) -> Any:
        return self._at(thing, objects.FIELDS + 8 * number, kind)

    def _global(self, name: str) -> Any:
        """The address of something of Python's."""
        there = self.module.globals.get(name) or ir.GlobalVariable(self.module, _WORD, name)
        return self.builder.ptrtoint(there, _WORD)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        there = self.module.globals.get(name)
        return there or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._function(name, result, *(value.type for value in arguments))
        return self.builder.call(function, arguments)
