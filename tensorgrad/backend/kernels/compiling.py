"""How a loop becomes machine code: Numba compiles it, and an entry for Python is put before it.

The only file that needs Numba's compiler; it is imported when something is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, typeof_impl
from numba.np.arrayobj import populate_array

from . import lanes, machine_code, objects, tiles  # noqa: F401 (lanes and tiles: Numba is told)
from .parts import Borrowed, Part

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

# Python's names for the types of numbers, by ours.
NUMBERS = {"int": "PyLong_Type", "bool": "PyBool_Type", "float": "PyFloat_Type"}

_WORD, _HALF, _PAIR = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_DOUBLE = ir.DoubleType()
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
    names = [f"a{i}" for i in range(len(kinds))]
    known: dict[str, Any] = {"loop": Part(function), "is_array": _is_array}
    fitting, arguments, signature = ["True"], [], []
    for argument, kind in zip(names, kinds, strict=True):
        if kind in NUMBERS:
            arguments.append(argument if kind != "bool" else f"{argument} != 0")
        else:
            known[f"fits_{argument}"], known[f"array_{argument}"] = _reading(kind, any_layout)
            fitting.append(f"is_array({argument}) and fits_{argument}({argument})")
            arguments.append(f"array_{argument}({argument})")
        signature.append(types.float64 if kind == "float" else types.int64)
    exec(
        f"def checked({', '.join(names)}):\n"
        f"    if not ({' and '.join(fitting)}):\n"
        "        raise TypeError\n"
        f"    loop({', '.join(arguments)})\n",
        known,
    )
    machine_code.prepare()  # Numba loads what it has compiled, too
    compiled = _njit(types.void(*signature), **OPTIONS)(known["checked"])
    (result,) = compiled.overloads.values()
    module = result.library._final_module
    declared = [f for f in (*module.functions, *module.global_variables) if f.is_declaration]
    externals = [f.name for f in declared if not f.name.startswith("llvm.")]
    codes = [result.library._get_compiled_object(), _entry(kinds, result.fndesc.llvm_func_name)]
    machine_code.keep(name, codes, externals)
    loaded = machine_code.load(name, codes, externals)
    if loaded is None:
        raise ImportError(f"{name} calls one of {', '.join(externals)}, which is not here")
    return loaded


def _entry(kinds: tuple[str, ...], callee: str) -> bytes:
    """Machine code of the function that Python calls with objects.

    It makes numbers of those that are numbers, lets other threads run meanwhile, and calls Numba's
    function, which returns through two addresses and tells by an int whether it went well. That it
    gives to Python; 1 if an argument is no such number.
    """
    module = ir.Module()
    module.triple = llvm.get_default_triple()

    def function(name: str, result: Any, *arguments: Any) -> Any:
        return ir.Function(module, ir.FunctionType(result, arguments), name)

    own = function(machine_code.ENTRY, _WORD, _WORD, _WORD, _WORD)
    numbers = [_DOUBLE if kind == "float" else _WORD for kind in kinds]
    numba_function = function(callee, _HALF, _WORD, _WORD, *numbers)
    to_int = function("PyLong_AsLongLongAndOverflow", _WORD, _WORD, _WORD)
    to_object = function("PyLong_FromLong", _WORD, _WORD)
    release = function("PyEval_SaveThread", _WORD)
    take = function("PyEval_RestoreThread", ir.VoidType(), _WORD)

    builder = ir.IRBuilder(own.append_basic_block())
    room = builder.ptrtoint(builder.alloca(_WORD, 2), _WORD)
    overflow = builder.alloca(_HALF)
    refusal = own.append_basic_block("refusal")
    arguments = []
    for i, kind in enumerate(kinds):
        value = _at(builder, own.args[1], 8 * i)
        if kind in NUMBERS:
            expected = builder.ptrtoint(_global(module, NUMBERS[kind]), _WORD)
            found = _at(builder, value, objects.FIELDS - 8)
            _go_on_if(builder, builder.icmp_unsigned("==", found, expected), refusal)
        if kind == "float":
            value = _at(builder, value, objects.FIELDS, _DOUBLE)
        elif kind in NUMBERS:
            value = builder.call(to_int, [value, builder.ptrtoint(overflow, _WORD)])
            fine = builder.icmp_unsigned("==", builder.load(overflow), _HALF(0))
            _go_on_if(builder, fine, refusal)
        arguments.append(value)
    state = builder.call(release, [])
    second = builder.add(room, _WORD(8))
    status = builder.call(numba_function, [room, second, *arguments])
    builder.call(take, [state])
    builder.ret(builder.call(to_object, [builder.sext(status, _WORD)]))
    builder.position_at_end(refusal)
    builder.ret(builder.call(to_object, [_WORD(1)]))
    return machine_code.machine().emit_object(llvm.parse_assembly(str(module)))


def _go_on_if(builder: Any, condition: Any, otherwise: Any) -> None:
    then = builder.append_basic_block()
    builder.cbranch(condition, then, otherwise)
    builder.position_at_end(then)


def _at(builder: Any, address: Any, offset: int, kind: Any = _WORD) -> Any:
    """What stands so many bytes behind an address."""
    place = builder.add(address, _WORD(offset))
    return builder.load(builder.inttoptr(place, kind.as_pointer()))


def _field(builder: Any, address: Any, number: int, kind: Any = _WORD) -> Any:
    return _at(builder, address, objects.FIELDS + 8 * number, kind)


@intrinsic
def _is_array(typing_context: Any, address: Any) -> Any:
    """Whether an object is one of NumPy's arrays, and not of a subclass."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ndarray = _global(builder.module, machine_code.NDARRAY)
        found = _at(builder, arguments[0], objects.FIELDS - 8)
        return builder.icmp_unsigned("==", found, builder.ptrtoint(ndarray, _WORD))

    return types.boolean(types.int64), generate


def _global(module: Any, name: str) -> Any:
    return module.globals.get(name) or ir.GlobalVariable(module, _WORD, name)


def _reading(kind: str, any_layout: bool) -> tuple[Any, Any]:
    """What tells whether an array is of this kind, and what makes it Numba's array."""
    dtype, ndim = np.dtype(kind[0]), int(kind[1])
    layout: Any = kind[2]
    array = types.Array(numba.from_dtype(dtype), ndim, layout, aligned="u" not in kind)
    flags = (objects.CONTIGUOUS if "C" in kind else 0) | (0 if "u" in kind else objects.ALIGNED)
    looked_at = objects.ALIGNED | (0 if any_layout else objects.CONTIGUOUS)
    letters = int.from_bytes(f"{kind[0]}{dtype.byteorder}".encode(), "little")

    @intrinsic
    def fits(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (address,) = arguments
            dims = _field(builder, address, objects.NDIM, _HALF)
            found = _field(builder, address, objects.FLAGS, _HALF)
            found = builder.and_(found, _HALF(looked_at))
            kind = _at(builder, _field(builder, address, objects.DTYPE), objects.KIND, _PAIR)
            right = builder.icmp_unsigned("==", dims, _HALF(ndim))
            right = builder.and_(right, builder.icmp_unsigned("==", found, _HALF(flags)))
            return builder.and_(right, builder.icmp_unsigned("==", kind, _PAIR(letters)))

        return types.boolean(types.int64), generate

    @intrinsic
    def read(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (address,) = arguments
            pointer = context.get_data_type(array.dtype).as_pointer()
            made = context.make_array(array)(context, builder)
            shape, strides = (
                [_at(builder, _field(builder, address, number), 8 * i) for i in range(ndim)]
                for number in (objects.SHAPE, objects.STRIDES)
            )
            data = builder.inttoptr(_field(builder, address, objects.DATA), pointer)
            size = context.get_constant(types.intp, dtype.itemsize)
            populate_array(made, data, shape, strides, size, None)
            return made._getvalue()

        return array(types.int64), generate

    return fits, read
