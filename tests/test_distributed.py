"""tensorgrad.distributed and nn.parallel, in real processes that mpiexec starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mpiexec import LIMIT, ROOT, assert_fine, run

import nn
import tensorgrad as tg
from tensorgrad import distributed as dist
from tensorgrad.distributed.progress import Progress

PROGRAMS = ["collectives", "training", "accumulation", "unused", "sharded"]
FOR_TWO = ["small_shapes", "asynchronous", "refusals", "buffers", "replicas", "interrupted", "late",
           "farewells"]  # fmt: skip


# Together, for what takes the time is the start.
@pytest.mark.parametrize(("workers", "programs"), [(2, PROGRAMS + FOR_TWO), (4, PROGRAMS)])
def test_several_processes(workers: int, programs: list[str]) -> None:
    assert_fine(workers, "tests.ranks", *programs)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("how", ["raise", "exit", "kill"])
def test_the_end_of_one_is_the_end_of_all(how: str, who: int) -> None:
    started = time.monotonic()
    done = run(2, "-m", "tests.ranks", f"ends:{how}:{who}")
    assert done.returncode != 0
    assert "fine" not in done.stdout
    assert time.monotonic() - started < LIMIT / 3
    if how == "raise":
        assert "ValueError: planted" in done.stderr
        assert f"rank {who} of 2 has failed, and ends the other processes too" in done.stderr
    if how == "exit":
        assert f"rank {1 - who} waits for the other processes, and rank {who} has ended" in (
            done.stderr
        )


def test_progress_is_asked_for_while_something_is_under_way() -> None:
    asked: list[float] = []
    progress = Progress(lambda: asked.append(time.monotonic()), 0.001)
    one, two = object(), object()

    def goes_on() -> bool:
        before, end = len(asked), time.monotonic() + LIMIT
        while len(asked) < before + 2 and time.monotonic() < end:
            time.sleep(0.001)
        return len(asked) >= before + 2

    progress.ended(one)  # which never began
    progress.began(one)
    progress.began(two)
    assert goes_on()
    progress.ended(one)
    assert goes_on()
    progress.ended(two)
    time.sleep(0.1)  # for what has begun
    before = len(asked)
    time.sleep(0.1)
    assert len(asked) <= before + 1
    progress.began(one)
    assert goes_on()
    progress.stop()
    assert not progress._thread.is_alive()


# --- one process, which needs no MPI --------------------------------------------------------------


@pytest.fixture
def alone() -> None:
    dist.init_process_group()
    yield
    dist.destroy_process_group()


def test_without_mpi_it_is_alone() -> None:
    code = """
        import sys
        sys.modules["mpi4py"] = None  # importing it raises
        import tensorgrad, nn
        from tensorgrad import distributed as dist
        dist.init_process_group("mpi")
        model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
        model(tensorgrad.ones(3, 2)).sum().backward()
        print(dist.get_rank(), dist.get_world_size(), dist.is_mpi_available(), dist.get_backend())
        print(model.module.bias.grad.tolist())
    """
    done = python(code)
    assert done.stdout == "0 1 False mpi\n[3.0]\n", done.stderr


def test_importing_loads_no_mpi() -> None:
    code = "import sys, tensorgrad, nn, gpt.train; print('mpi4py' in sys.modules)"
    assert python(code).stdout == "False\n"


def test_mpiexec_without_the_extra() -> None:
    code = """
        import sys
        sys.modules["mpi4py"] = None
        from tensorgrad import distributed
        distributed.init_process_group()
    """
    done = python(code, PMI_SIZE="2", PMI_RANK="0")
    *_, last = done.stderr.splitlines()
    assert last == (
        "RuntimeError: mpiexec has started 2 processes, and they cannot find each other "
        "without mpi4py: pip install 'tensorgrad-gpt[mpi]'"
    )


def test_the_mpiexec_of_another_mpi() -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    done = python(
        "from tensorgrad import distributed; distributed.init_process_group()",
        OMPI_COMM_WORLD_SIZE="2",
        OMPI_COMM_WORLD_RANK="0",
    )
    assert "mpiexec has started 2 processes, but MPI knows of 1" in done.stderr


@pytest.mark.parametrize(("chosen", "threads"), [(None, "1"), ("3", "3")])
def test_processes_share_the_cores(chosen: str | None, threads: str) -> None:
    """Each has its share, decided before NumPy is loaded, unless somebody has chosen."""
    code = """
        import os, sys
        from tensorgrad.backend import launch, threads
        print(os.environ.get("OMP_NUM_THREADS"), threads.COUNT)
    """
    everyone = {"PMI_RANK": "1", "PMI_SIZE": "4000", "MPI_LOCALNRANKS": "1000"}
    if chosen:
        everyone["OMP_NUM_THREADS"] = chosen
    assert python(code, **everyone).stdout.split() == [threads, threads]
    assert python(code).stdout.split()[0] == "None"


@pytest.mark.parametrize(
    "program",
    ["import tensorgrad", "import gpt; gpt.Trainer",
     "import gpt.__main__ as m; m.main(['train', '--steps', '-1'])"],
)  # fmt: skip
def test_threads_are_told_before_numpy_is_loaded(program: str) -> None:
    """NumPy asks for the variable once, while it is loaded."""
    code = f"""
        import os, sys

        class Finder:
            def find_spec(self, name, path, target=None):
                if name == "numpy":
                    print(os.environ.get("OMP_NUM_THREADS"))

        sys.meta_path.insert(0, Finder())
        {program}
    """
    found = python(code, PMI_RANK="1", PMI_SIZE="4000", MPI_LOCALNRANKS="1000")
    assert found.stdout.split() == ["1"]


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ours = ("PMI", "OMPI", "PMIX", "MPI_", "OMP_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env={**environment, **variables},
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip


@pytest.mark.usefixtures("alone")
def test_alone_everything_is_there_already() -> None:
    assert dist.is_available()
    assert dist.is_initialized()
    x = tg.tensor([1.0, 2.0])
    for op in (dist.ReduceOp.SUM, dist.ReduceOp.AVG, dist.ReduceOp.MAX):
        assert dist.all_reduce(x, op) is None
    dist.broadcast(x, 0)
    dist.reduce(x)
    dist.barrier()
    assert dist.all_reduce(x, async_op=True).wait()
    joint, parts = tg.zeros(2), [tg.zeros(2)]
    dist.all_gather_into_tensor(joint, x)
    dist.all_gather(parts, x)
    dist.reduce_scatter_tensor(share := tg.zeros(2), x)
    for t in (x, joint, parts[0], share):
        assert t.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "call", [dist.get_rank, dist.get_world_size, dist.destroy_process_group, dist.barrier,
             lambda: dist.all_reduce(tg.ones(1)), lambda: wrapped(nn.Linear(1, 1))],
)  # fmt: skip
def test_before_init_process_group(call: object) -> None:
    assert not dist.is_initialized()
    with pytest.raises(ValueError, match="has not been initialized"):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "gloo"}, "there is no backend 'gloo'"),
        ({"init_method": "tcp://localhost:1"}, "leave init_method out"),
        ({"rank": 1}, "rank is 0, and 1 was given"),
        ({"world_size": 2}, "world_size is 1, and 2 was given"),
    ],
)
def test_wrong_group(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dist.init_process_group(**arguments)
    assert not dist.is_initialized()


def wrapped(module: nn.Module, **options: object) -> nn.Module:
    return nn.parallel.DistributedDataParallel(module, **options)


@pytest.mark.parametrize("dtype", [tg.float16, tg.float32, tg.float64])
@pytest.mark.parametrize("ends", [(0, 1, 2), (0, 1, 3, 6), (0, 5), (0, 2, 3, 7)])
def test_rows_are_drawn_as_in_the_whole_batch(ends: tuple[int, ...], dtype: tg.dtype) -> None:
    def draws(start: int, stop: int) -> tuple[list, object]:
        generator = tg.Generator(5)
        generator.manual_seed(5)
        with dist.drawing_rows(start, stop, ends[-1], generator):
            got = [
                tg.rand(stop - start, *shape, generator=generator, dtype=kind)
                for shape in ((3, 5), (1,), (7,), (0,), (2,))
                for kind in (dtype, tg.float32)
            ]
            assert tg.rand(11, generator=generator).shape == (11,)  # no batch: drawn by all
        got.append(tg.randint(9, (1,), generator=generator))
        return got, generator.get_state().tolist()

    whole, state = draws(0, ends[-1])
    parts = [draws(start, stop) for start, stop in pairwise(ends)]
    for i, expected in enumerate(whole[:-1]):
        assert tg.cat([part[i] for part, _ in parts]).equal(expected)
    assert all(part[-1].equal(whole[-1]) for part, _ in parts)
    assert all(own[:41] == state[:41] for _, own in parts)
    with pytest.raises(ValueError, match="no rows 2 to 2 among 4"), dist.drawing_rows(2, 2, 4):
        pass


@pytest.mark.usefixtures("alone")
def test_wrong_modules() -> None:
    with pytest.raises(RuntimeError, match="any parameter that requires a gradient"):
        wrapped(nn.ReLU())
    with pytest.raises(ValueError, match="device_ids"):
        wrapped(nn.Linear(1, 1), device_ids=[0])
    with pytest.raises(ValueError, match="bucket_cap_mb is 0"):
        wrapped(nn.Linear(1, 1), bucket_cap_mb=0)
    with pytest.raises(ValueError, match="one group"):
        dist.init_process_group()


@pytest.mark.usefixtures("alone")
def test_state_has_the_prefix_of_pytorch() -> None:
    model = wrapped(nn.Sequential(nn.Linear(2, 2)))
    assert list(model.state_dict()) == ["module.0.weight", "module.0.bias"]
    assert repr(model).startswith("DistributedDataParallel(\n  (module): Sequential(")


# --- the same script on PyTorch -------------------------------------------------------------------

SCRIPT = """
import os
import {torch} as torch
import {torch}.distributed as dist
from {nn}.parallel import DistributedDataParallel as DDP
from {torch}.utils.data import DataLoader, TensorDataset
from {torch}.utils.data.distributed import DistributedSampler

dist.init_process_group("{backend}")
rank, world_size = dist.get_rank(), dist.get_world_size()

x = torch.linspace(-1, 1, 22).reshape(11, 2)
data = TensorDataset(x, (x ** 2).sum(1, keepdim=True))
sampler = DistributedSampler(data, world_size, rank, shuffle=False)
loader = DataLoader(data, batch_size=2, sampler=sampler)

model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
with torch.no_grad():
    for p in model.parameters():
        p.copy_(torch.linspace(-0.5, 0.6, p.numel()).reshape(p.shape) * (1 + rank))
model = DDP(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for epoch in range(3):
    sampler.set_epoch(epoch)
    for inputs, targets in loader:
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    total = loss.detach().clone()
    dist.all_reduce(total, op=dist.ReduceOp.AVG)
    if rank == 0:
        print(total.item())
dist.barrier()
if rank == 0:
    for name, value in model.state_dict().items():
        print(name, value.reshape(-1).tolist())
dist.destroy_process_group()
"""


@pytest.mark.torch
@pytest.mark.slow
def test_a_script_of_pytorch(tmp_path: Path) -> None:
    """Two processes of PyTorch (gloo), two of ours: the same losses and weights."""
    names = {
        "torch": {"torch": "torch", "nn": "torch.nn", "backend": "gloo"},
        "ours": {"torch": "tensorgrad", "nn": "nn", "backend": "mpi"},
    }
    for kind, values in names.items():
        (tmp_path / f"on_{kind}.py").write_text(SCRIPT.format(**values))
    found = run(2, str(tmp_path / "on_ours.py"), env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert found.returncode == 0, found.stderr
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577"}
    started = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "on_torch.py")], stdout=subprocess.PIPE,
            env={**os.environ, **together, "RANK": str(rank), "OMP_NUM_THREADS": "1"}, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    expected, _ = (process.communicate(timeout=LIMIT)[0] for process in started)
    numbers = [
        [float(word) for word in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]
        for text in (found.stdout, expected)
    ]
    assert len(numbers[0]) > 30
    np.testing.assert_allclose(*numbers, rtol=1e-3, atol=1e-5)
    assert re.findall(r"[a-z.\d]+(?= \[)", found.stdout) == re.findall(
        r"[a-z.\d]+(?= \[)", expected
    )
