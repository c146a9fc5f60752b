"""Which kernels run, when Numba is loaded, and loops that are spread over threads."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad
from tensorgrad import fused
from tensorgrad.backend import kernels, launch, threads

ROOT = Path(__file__).resolve().parent.parent
needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="Numba is not installed"
)


@pytest.fixture(autouse=True)
def default_backend() -> Iterator[None]:
    yield
    tensorgrad.backend.use()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120, cwd=ROOT,
        env={**os.environ, "TENSORGRAD_BACKEND": "", **environment},
    )  # fmt: skip


# ------------------------------------------------------------------------------------- the choice


def test_numpy_can_be_chosen() -> None:
    tensorgrad.backend.use("numpy")
    assert tensorgrad.backend.current() == "numpy"
    assert kernels.find("gelu") is kernels.PLAIN["gelu"]


@needs_numba
def test_numba_is_taken_where_it_is_installed() -> None:
    tensorgrad.backend.use()
    assert tensorgrad.backend.current() == "numba"
    assert kernels.find("gelu") is not kernels.PLAIN["gelu"]
    assert kernels.find("linear") is kernels.PLAIN["linear"]  # there is no other
    assert kernels.find("no such op") is None


def test_every_compiled_kernel_is_known_by_name() -> None:
    """``find`` does not ask Numba for a kernel that is not in its list."""
    compiled = pytest.importorskip("tensorgrad.backend.kernels.compiled")
    assert set(compiled.KERNELS) == kernels.COMPILED


def test_a_backend_that_is_none() -> None:
    with pytest.raises(ValueError, match="no backend 'cuda': choose from numpy, numba"):
        tensorgrad.backend.use("cuda")
    done = run("import tensorgrad as t; t.fused.gelu(t.ones(2))", TENSORGRAD_BACKEND="jax")
    assert "ValueError: there is no backend 'jax'" in done.stderr


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tensorgrad.backend.use()
    assert tensorgrad.backend.current() == "numpy"
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tensorgrad-gpt\[fast\]'"):
        tensorgrad.backend.use("numba")


@needs_numba
def test_a_broken_numba_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed, but does not go with this NumPy: a warning, and NumPy's kernels."""
    name = "tensorgrad.backend.kernels.compiled"
    monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
    monkeypatch.delattr(kernels, "compiled", raising=False)
    tensorgrad.backend.use("numba")
    with pytest.warns(RuntimeWarning, match="Numba cannot be used"):
        assert kernels.find("gelu") is kernels.PLAIN["gelu"]
    assert tensorgrad.backend.current() == "numpy"


@needs_numba
def test_numba_is_loaded_to_compile_only(tmp_path: Path) -> None:
    code = (
        "import sys, tensorgrad as t, nn\n"
        "t.nn.Linear(3, 2)(t.ones(4, 3)).sum().backward()\n"
        "print('numba' in sys.modules, t.backend.current())\n"
        "t.fused.gelu(t.ones(2))\n"
        "print('numba' in sys.modules)\n"
    )
    for compiled in ("True", "False"):
        done = run(code, NUMBA_CACHE_DIR=str(tmp_path))
        assert done.stdout.split() == ["False", "numba", compiled], done.stderr
    done = run(code, TENSORGRAD_BACKEND="numpy")
    assert done.stdout.split() == ["False", "numpy", "False"], done.stderr


@needs_numba
def test_compiling_is_announced_once(tmp_path: Path) -> None:
    code = "import tensorgrad as t; x = t.ones(2); t.fused.gelu(x); t.fused.rms_norm(x, None)"
    first, second = (run(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.stderr.count("tensorgrad: compiling its kernels") == 1
    assert len(first.stderr.splitlines()) == 1
    assert second.stderr == ""  # it was kept


def half_precision() -> dict[str, Callable]:
    """Every fused op that layers use, of [2, 3, 9, 4] numbers."""
    F = tensorgrad.nn.functional
    ones = tensorgrad.ones(4, dtype=tensorgrad.float16)
    return {
        "gelu": F.gelu,
        "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
        "layer_norm": lambda x: F.layer_norm(x, (4,), ones.to(x.dtype), ones.to(x.dtype)),
        "rms_norm": lambda x: F.rms_norm(x, (4,), ones.to(x.dtype)),
        "softmax": lambda x: F.softmax(x, -1),
        "cross_entropy": lambda x: F.cross_entropy(
            x.reshape(54, 4), tensorgrad.arange(54) % 4, reduction="none"
        ),
        "linear": lambda x: F.linear(x, ones.to(x.dtype).expand(4, 4)),
        "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    }


@pytest.mark.parametrize("name", half_precision())
def test_half_precision(name: str) -> None:
    """No kernel is compiled for it; the numbers are those of float32, to its own precision."""
    function = half_precision()[name]
    numbers = np.random.default_rng(0).normal(size=(2, 3, 9, 4))
    half = tensorgrad.from_numpy(numbers).half().requires_grad_()
    exact = half.detach().float().requires_grad_()
    for x in (half, exact):
        (function(x) ** 3).sum().backward()
    assert function(half).dtype == half.grad.dtype == tensorgrad.float16
    np.testing.assert_allclose(
        function(half).detach().numpy(), function(exact).detach().numpy(), rtol=1e-2, atol=1e-2
    )
    error = abs(half.grad.numpy() - exact.grad.numpy())
    assert error.max() < 0.01 * abs(exact.grad.numpy()).max()


# ------------------------------------------------------------------------------------- threads


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, count in (("3", 3), ("2,1", 2), (" 4 ", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert launch.threads() == count
    for text in ("", "0", "-1", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert launch.threads() >= 1


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads, which share loops of any length."""
    monkeypatch.setattr(threads, "COUNT", 3)
    monkeypatch.setattr(threads, "ALONE", 0)
    monkeypatch.setattr(threads, "_inbox", None)


@pytest.mark.parametrize("rows", [1, 2, 8, 9, 10, 1000])
def test_spread_does_every_row_once(three_threads: None, rows: int) -> None:
    x, out = np.arange(2.0 * rows).reshape(rows, 2), np.zeros(rows)
    seen = []

    def loop(x: Any, out: Any, add: float) -> None:
        seen.append(threading.current_thread().name)
        out += x.sum(axis=1) + add

    threads.spread(loop, (x, out), 0.5)
    np.testing.assert_array_equal(out, x.sum(axis=1) + 0.5)
    assert len(seen) <= 9


def test_spread_waits_for_nobody_who_has_not_started(three_threads: None) -> None:
    """The others are busy elsewhere: the caller does it all."""
    release = threading.Event()
    for _ in range(2):
        threads._helpers().put((lambda wait: wait(), release.wait))
    x = np.zeros((50, 2))

    def loop(x: Any) -> None:
        x += 1

    threads.spread(loop, (x,))
    assert (x == 1).all()
    release.set()


def test_an_error_in_a_thread_reaches_the_caller(three_threads: None) -> None:
    def loop(x: Any) -> None:
        raise ValueError("as planned")

    with pytest.raises(ValueError, match="as planned"):
        threads.spread(loop, (np.zeros((50, 2)),))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_threads_after_a_fork() -> None:
    code = (
        "import os, numpy as np\n"
        "from tensorgrad.backend import threads\n"
        "threads.COUNT, threads.ALONE = 2, 0\n"
        "def loop(x): x += 1\n"
        "def go():\n"
        "    x = np.zeros((50, 2)); threads.spread(loop, (x,)); return int(x.sum())\n"
        "assert go() == 100\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(0 if go() == 100 else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert run(code).stdout == "0\n"


@needs_numba
def test_a_program_can_use_numba_beside_the_kernels() -> None:
    """Also for functions of no module, as those are that a program makes with exec."""
    code = (
        "import tensorgrad; tensorgrad.fused.gelu(tensorgrad.ones(2))\n"
        "import numba, tensorgrad.backend.kernels.compiling\n"
        "made = {'__name__': None}\n"
        "exec('def double(x): return 2 * x', made)\n"
        "print(numba.njit(made['double'])(21))\n"
    )
    assert run(code).stdout == "42\n"


@needs_numba
def test_kernels_give_the_same_on_three_threads(
    three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 33)).astype(np.float32)
    target = rng.integers(0, 33, 40)
    results = []
    for count in (3, 1):
        monkeypatch.setattr(threads, "COUNT", count)
        t = tensorgrad.from_numpy(x.copy()).requires_grad_()
        weight = tensorgrad.ones(33)
        losses = fused.cross_entropy(t, tensorgrad.from_numpy(target))
        y = fused.gelu(fused.layer_norm(t, weight, weight)) + fused.rms_norm(t, weight)
        (losses.sum() + (y * y).sum()).backward()
        results.append((losses.tolist(), y.tolist(), t.grad.tolist()))
    assert results[0] == results[1]  # no element's value depends on who computes it
