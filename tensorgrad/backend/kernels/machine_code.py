"""Machine code of compiled loops: kept in files, and loaded by LLVM without the compiler.

To import Numba and have it look up what it has kept takes a second and more, at every start; LLVM
alone loads the same code in a tenth of that.

What is kept is found again by the same versions, on the same kind of processor, while no line of
this folder has changed. It lies in ``NUMBA_CACHE_DIR`` if that is set, or beside this file, or, if
nothing can be written there, in the user's folder for caches.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from . import objects

_HERE = Path(__file__).parent
_OLD = 8  # so many sets of files stay, when a new one is begun
_PASSING = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS"}  # all other choices for Numba change the code

# What loops call or look at, besides the C library and Python's: nothing of Numba's.
ALLOCATE, FREE, NDARRAY = "PyMem_RawMalloc", "PyMem_RawFree", "tensorgrad_ndarray"
_OF_PYTHON = (
    ALLOCATE, FREE, "PyEval_SaveThread", "PyEval_RestoreThread",
    "PyLong_AsLongLongAndOverflow", "PyLong_FromLong", "PyLong_Type", "PyBool_Type", "PyFloat_Type",
)  # fmt: skip
# LLVM puts calls of these where an operation has no instruction.
_C_LIBRARY = (
    "erfc", "exp", "expf", "floor", "floorf", "log", "logf", "sqrt", "sqrtf",
    "memcpy", "memmove", "memset",
)  # fmt: skip
# What Numba calls for an array whose memory is its own. Loops have none, but it cannot see that.
_DESTROY = "NRT_MemInfo_call_dtor"

_loaded: list[Any] = []  # it stays


@cache
def features() -> str:
    """What the processor can do, as LLVM names it: what code is compiled for.

    With 512-bit registers, LLVM is told to use them: by itself it takes half of each. Where the
    user has told Numba what to compile for, that stays.
    """
    chosen = os.environ.get("NUMBA_CPU_FEATURES")
    if chosen is not None:
        return chosen
    try:
        found = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know this processor
        return ""
    return found + ",-prefer-256-bit" if "+avx512f" in found.split(",") else found


AVX512 = "+avx512f" in features().split(",")
ROWS, VECTORS = 8, 3  # of a tile of a matrix product: with them it fills 24 of the 32 registers


# --- files ----------------------------------------------------------------------------------------


@cache
def _name() -> str:
    """The name of the folder for what these versions make of these sources, on this processor."""
    facts = [version("numba"), version("llvmlite"), np.__version__, platform.python_version()]
    facts += [sys.implementation.name, str(objects.FIELDS), llvm.get_host_cpu_name(), features()]
    facts += sorted(
        f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _PASSING
    )
    all_of_it = sha256("\n".join(facts).encode())
    for path in [*sorted(_HERE.glob("*.py")), _HERE.parent / "coins.py"]:
        all_of_it.update(path.read_bytes())
    return f"kernels-{all_of_it.hexdigest()[:16]}"


def _folders() -> Iterator[Path]:
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen) / "tensorgrad"
        return
    yield _HERE / "__pycache__"
    try:
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgrad"
    except RuntimeError:  # nobody's home
        return


def anything_kept() -> bool:
    """Whether Numba has worked here before."""
    return any((folder / _name()).is_dir() for folder in _folders())


def find(name: str) -> Callable | None:
    """The function that is kept under this name, loaded; None if there is none."""
    for folder in _folders():
        try:
            head, _, codes = (folder / _name() / f"{name}.o").read_bytes().partition(b"\n")
            facts = json.loads(head)
            if sha256(codes).hexdigest() == facts["sha256"]:
                size = facts["size"]
                return load(name, [codes[:size], codes[size:]], facts["externals"])
        except (OSError, ValueError, KeyError, RuntimeError):  # not there, or broken: made anew
            continue
    return None


def keep(name: str, codes: list[bytes], externals: list[str]) -> None:
    """Write both parts where they are found again, if anything can be written at all."""
    size, code = len(codes[0]), b"".join(codes)
    facts = {"externals": externals, "sha256": sha256(code).hexdigest(), "size": size}
    for folder in _folders():
        try:
            ours = folder / _name()
            if not ours.is_dir():
                ours.mkdir(parents=True, exist_ok=True)
                _forget(folder)
            with tempfile.NamedTemporaryFile(dir=ours, delete=False) as file:
                file.write(json.dumps(facts).encode() + b"\n" + code)
        except OSError:
            continue
        try:
            os.replace(file.name, ours / f"{name}.o")  # nobody finds half of it
            return
        except OSError:
            os.unlink(file.name)


def _forget(folder: Path) -> None:
    """All but the newest sets of files."""
    sets = sorted(folder.glob("kernels-*"), key=lambda path: path.stat().st_mtime)
    for path in sets[:-_OLD]:
        shutil.rmtree(path, ignore_errors=True)


# --- loading --------------------------------------------------------------------------------------

ENTRY = "tensorgrad_entry"  # what Python calls


class _Method(ctypes.Structure):
    """PyMethodDef, as declared in Python's methodobject.h."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


_FASTCALL = 0x0080  # function(self, where the arguments' addresses stand, how many they are)


@cache
def prepare() -> None:
    """LLVM knows from now on what loops may call."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    _engine()  # with the first one LLVM looks around in this process
    for name in _OF_PYTHON:
        thing = ctypes.c_char.in_dll(ctypes.pythonapi, name)  # a function or not
        llvm.add_symbol(name, ctypes.addressof(thing))
    llvm.add_symbol(NDARRAY, id(np.ndarray))
    if llvm.address_of_symbol(_DESTROY) is None:  # Numba is not there
        never = ctypes.c_char.in_dll(ctypes.pythonapi, "Py_FatalError")
        llvm.add_symbol(_DESTROY, ctypes.addressof(never))


def _engine() -> Any:
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())


def machine() -> Any:
    """A target for LLVM: this machine."""
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(codemodel="jitdefault", jit=True)


def load(name: str, codes: list[bytes], externals: list[str]) -> Callable | None:
    """The function :data:`ENTRY`, as Python calls it; None if it calls something not there."""
    prepare()
    if any(llvm.address_of_symbol(name) is None for name in (*externals, *_C_LIBRARY)):
        return None  # LLVM would end the process
    engine = _engine()
    for code in codes:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    method = _Method(name.encode(), engine.get_function_address(ENTRY), _FASTCALL, None)
    _loaded.append((engine, method))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    return make(ctypes.byref(method), None, None)
