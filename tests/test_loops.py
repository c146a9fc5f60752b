"""Compiled loops: what they are called with, and their machine code, which is kept in files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="loops are compiled by Numba")

from tensorgrad.backend import kernels
from tensorgrad.backend.kernels import compiling, loops, machine_code, objects
from tensorgrad.backend.kernels.loops import loop
from tensorgrad.backend.kernels.parts import borrowed, part

ROOT = Path(__file__).resolve().parent.parent
room, give_back = borrowed("lanes", "room", "give_back")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, where machine code is kept."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(loops, "announced", True)
    return tmp_path


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of those that are compiled, and not found."""
    names: list[str] = []
    original = compiling.compile_loop

    def compile_loop(*arguments: Any) -> Callable:
        names.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(compiling, "compile_loop", compile_loop)
    return names


@part
def _twice(x):  # type: ignore[no-untyped-def]
    return x + x


def _fill(x, y, count, factor, negative):  # type: ignore[no-untyped-def]
    for i in range(count):
        y[i] = _twice(x[i]) * factor
        if negative:
            y[i] = -y[i]


def filled(fill: Any, x: np.ndarray, y: np.ndarray | None = None, *numbers: Any) -> None:
    """Its result must be NumPy's."""
    y = np.zeros(x.shape, x.dtype) if y is None else y
    count, factor, negative = numbers or (len(x), 3.0, False)
    fill(x, y, count, factor, negative)
    expected = np.zeros(y.shape, y.dtype)
    expected[:count] = (2 * x * factor * (-1 if negative else 1)).astype(y.dtype)[:count]
    np.testing.assert_array_equal(np.asarray(y), expected)


# ---------------------------------------------------------------------- what they are called with


def unaligned(n: int) -> np.ndarray:
    """float32 that begin where no float32 should."""
    found = np.zeros(4 * n + 1, np.uint8)[1:].view(np.float32)
    found[:] = np.arange(n)
    assert not found.flags.aligned
    return found


class Renamed(np.ndarray):
    """A subclass, whose objects have more fields."""


ARRAYS: dict[str, Callable[[], np.ndarray]] = {
    "float32": lambda: np.arange(7, dtype=np.float32),
    "float64": lambda: np.arange(7.0),
    "int64": lambda: np.arange(7),
    "every second": lambda: np.arange(14, dtype=np.float32)[::2],
    "backwards": lambda: np.arange(7.0)[::-1],
    "unaligned": lambda: unaligned(7),
    "a subclass": lambda: np.arange(7, dtype=np.float32).view(Renamed),
    "not to be written": lambda: np.broadcast_to(np.float32(2), (7,)),
    "none": lambda: np.empty(0, np.float32),
    "an equal dtype": lambda: np.arange(7, dtype=np.dtype("f4", metadata={"unit": "m"})),
}


def test_all_kinds_one_after_the_other(folder: Path) -> None:
    """The machine code of one must not be used for another; each is compiled once."""
    fill = loop(_fill)
    for one in ARRAYS.values():
        for other in ARRAYS.values():
            filled(fill, one())
            filled(fill, other())
            filled(fill, one(), np.zeros(len(one())))
    kinds = {"d1A", "d1C", "f1A", "f1C", "f1Cu", "l1C" if np.dtype(int).char == "l" else "q1C"}
    assert {kinds[0] for kinds in fill._entries} == kinds
    count = len(fill._entries)
    assert len(list(folder.glob("*/*/*.o"))) == count


def _shape(x, y):  # type: ignore[no-untyped-def]
    y[0], y[1], y[2] = x.ndim, x.size, x.shape[-1]


def test_several_dims(folder: Path) -> None:
    shape = loop(_shape)
    for sizes in ((6,), (2, 3), (6,), (1, 2, 3), (2, 3)):
        y = np.zeros(3)
        shape(np.zeros(sizes), y)
        assert y.tolist() == [len(sizes), 6, sizes[-1]]


def test_numbers_of_all_kinds(folder: Path) -> None:
    fill, x = loop(_fill), np.arange(5.0)
    for count in (5, np.int64(4), np.uint8(3)):
        for factor in (2.5, np.float32(1.5), np.float64(0.5), 2, np.int32(-1)):
            for negative in (False, True, np.True_):
                filled(fill, x, None, count, factor, negative)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (None, "take arrays and numbers, not NoneType"),
        ("abc", "take arrays and numbers, not str"),
        ([1.0], "take arrays and numbers, not list"),
        (np.zeros(3, ">f4"), "no compiled loops for arrays of >f4"),
        (np.zeros(3, "f2"), "no compiled loops for arrays of float16"),
        (np.zeros(3, "O"), "no compiled loops for arrays of object"),
        (np.zeros(3, "M8[s]"), "no compiled loops for arrays of datetime64"),
    ],
)
def test_anything_else_is_refused(folder: Path, argument: Any, message: str) -> None:
    """Also by machine code that is there: it looks at the object before it reads from it."""
    fill = loop(_fill)
    for _ in range(2):
        with pytest.raises(TypeError, match=message):
            fill(argument, np.zeros(3), 3, 1.0, False)
        filled(fill, np.arange(3.0))


times = borrowed("tiles", "times")


def _tripled(x, y, side):  # type: ignore[no-untyped-def]
    for first in range(0, x.size, side):
        times(x, first, x.dtype.type(3), y, first, side)  # which takes constants only


def test_a_last_argument_that_is_a_constant(folder: Path, compiled: list[str]) -> None:
    """Of one function a loop for each, which are kept apart."""
    x = np.arange(64, dtype="f")
    for _ in range(2):  # the second time they are kept
        for side in (16, 32):
            y = np.zeros_like(x)
            loop(_tripled, last=side)(x, y)
            np.testing.assert_array_equal(y, 3 * x)
    assert [name.rpartition("-")[2] for name in compiled] == ["=16", "=32"]


def test_any_layout(folder: Path) -> None:
    """Where the loop asks for it, one function does for all."""
    fill = loop(any_layout=True)(_fill)
    for x in (np.arange(7.0), np.arange(14.0)[::2], np.arange(7.0)[::-1]):
        filled(fill, x)
    assert len(fill._entries) == 1


@loop
def _with_room(x, size):  # type: ignore[no-untyped-def]
    numbers = room(size, x)
    x[0] = numbers.ctypes.data % 64
    for i in range(1, x.size):
        numbers[i] = x[i]
    for i in range(1, x.size):
        x[i] = 2 * numbers[i]
    give_back(numbers)


def test_room_to_work_with(folder: Path) -> None:
    x = np.arange(5.0)
    _with_room(x, 5)
    assert x.tolist() == [0, 2, 4, 6, 8]
    before = x.copy()
    with pytest.raises(MemoryError, match="no memory for the numbers that test_loops"):
        _with_room(x, 1 << 58)
    np.testing.assert_array_equal(x, before)


def test_several_threads_want_it_first(folder: Path, compiled: list[str]) -> None:
    fill = loop(_fill)
    users = [threading.Thread(target=filled, args=(fill, np.arange(9.0))) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    filled(fill, np.arange(9.0))
    assert len(compiled) == 1


# -------------------------------------------------------------------------------- what is kept


def spoilt(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


SPOILT: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "empty": spoilt(lambda text: b"\n"),
    "half": spoilt(lambda text: text[: len(text) // 2]),
    "a bit": spoilt(lambda text: text[:-300] + bytes([text[-300] ^ 4]) + text[-299:]),
    "calls what is not there": spoilt(lambda text: text.replace(b'["', b'["nobody", "', 1)),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_kept_is_used_if_it_is_whole(folder: Path, compiled: list[str], how: str) -> None:
    filled(loop(_fill), np.arange(5.0))
    (path,) = folder.glob("tensorgrad/*/test_loops._fill-*.o")
    SPOILT[how](path)
    filled(loop(_fill), np.arange(5.0))
    assert len(compiled) == (1 if how == "nothing" else 2)
    if how not in ("nothing", "a folder"):  # it has been made whole
        filled(loop(_fill), np.arange(5.0))
        assert len(compiled) == 2
    assert not [p for p in path.parent.iterdir() if p.suffix != ".o"]


def test_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    """Compiled all the same, in each process."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    for _ in range(2):
        filled(loop(_fill), np.arange(5.0))
    assert len(compiled) == 2


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the sources; in the user's folder if these cannot be written."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(machine_code, "_HERE", tmp_path / "sources")
    machine_code._name()  # of the sources that are there
    (tmp_path / "sources").mkdir()
    machine_code.keep("one", [b"some", b"code"], [])
    (tmp_path / "sources" / "__pycache__").rename(tmp_path / "moved")
    (tmp_path / "sources" / "__pycache__").touch()
    machine_code.keep("two", [b"some", b"code"], [])
    assert [p.name for p in (tmp_path / "moved").glob("*/*")] == ["one.o"]
    assert [p.name for p in (tmp_path / "user").glob("tensorgrad/*/*")] == ["two.o"]


def test_old_sets_are_forgotten(folder: Path) -> None:
    for i in range(machine_code._OLD + 3):
        old = folder / "tensorgrad" / f"kernels-{i}"
        old.mkdir(parents=True)
        (old / "some.o").touch()
        os.utime(old, (i, i))
    machine_code.keep("new", [b"some", b"code"], [])
    left = sorted(p.name for p in (folder / "tensorgrad").iterdir())
    assert len(left) == machine_code._OLD
    assert machine_code._name() in left
    assert not {"kernels-0", "kernels-1", "kernels-2", "kernels-3"} & set(left)


WITHOUT = """
import sys
import numpy as np, tensorgrad as t
t.backend.use("numba")
sys.modules["numba"] = None  # importing it fails
x = t.from_numpy(np.sin(np.arange(4000, dtype="f")).reshape(4, 1000)).requires_grad_()
y = t.fused.gelu(t.fused.layer_norm(x, None, None) @ x.mT)
y.square().sum().backward()
print(y.tolist(), x.grad.tolist())
"""


def test_without_numba_where_all_is_kept(tmp_path: Path) -> None:
    """It gives the same to the bit as the process that compiled it."""

    def run(code: str) -> str:
        environment = {
            **os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "TENSORGRAD_BACKEND": "numba",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("tensorgrad: compiling its kernels") == ("sys.modules" not in code)
        return done.stdout

    assert run(WITHOUT.replace('sys.modules["numba"] = None', "")) == run(WITHOUT)


def test_an_array_object_of_another_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some later NumPy, say: its kernels are NumPy's then."""
    kernels.use("numba")
    kernels.find("gelu")  # what is imported with it looks at this once
    monkeypatch.setattr(objects, "KNOWN", False)
    kernels.use("numba")
    try:
        with pytest.warns(RuntimeWarning, match="array objects are not laid out as in NumPy 1"):
            assert kernels.find("gelu") is kernels.PLAIN["gelu"]
    finally:
        kernels.use()


def test_the_layout_is_known_here() -> None:
    """Or all that is compiled would go unused, and nothing would say so but a warning."""
    assert objects.KNOWN
