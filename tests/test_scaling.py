"""The model of training with several workers, in cases whose result is known, and its page."""

from __future__ import annotations

import doctest
import importlib.util
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mpiexec import LIMIT, PLAIN, ROOT, mpiexec

from benchmarks import scaling
from benchmarks.scaling import (
    Network,
    Work,
    busy,
    fitted,
    largest_of,
    reproduced,
    step,
    strong,
    weak,
)
from benchmarks.team import write_text
from benchmarks.worker import CONFIGS
from gpt.folder import CHECKPOINT
from gpt.model import GPT

MEGABYTE = 1e6
# Three buckets, of which the last, as that of a tied embedding, is full when the pass is over.
WORK = Work(0.5, 2.0, 0.5, ((MEGABYTE, 0.5), (2 * MEGABYTE, 0.75), (4 * MEGABYTE, 1.0)))
NETWORK = Network("of a table", 1e-3, 100 * MEGABYTE, adding=1e-9)
INFINITE = Network("none", 0.0, math.inf)


def test_one_worker_does_not_communicate() -> None:
    alone = step(replace(WORK, spread=0.3), 4, 1, NETWORK.all_reduce)
    assert (alone.waiting, alone.communication) == (0, 0)
    assert alone.seconds == 8.5
    assert NETWORK.all_reduce(MEGABYTE, 1) == 0
    assert strong(WORK, 4, 1, NETWORK.all_reduce) == weak(WORK, 4, 1, NETWORK.all_reduce) == 1


@pytest.mark.parametrize("workers", [2, 3, 8, 1000])
def test_without_costs_it_is_ideal(workers: int) -> None:
    """But for what each does however many there are: Amdahl's law."""
    rows = 8 * workers
    assert weak(WORK, 8, workers, INFINITE.all_reduce) == 1
    expected = (0.5 + 2 * rows) / (0.5 * workers + 2 * rows)
    assert strong(WORK, rows, workers, INFINITE.all_reduce) == pytest.approx(expected)
    ideal = replace(WORK, fixed=0.0, update=0.0)
    assert strong(ideal, rows, workers, INFINITE.all_reduce) == pytest.approx(1)


def test_all_reduce_by_hand() -> None:
    at = NETWORK.all_reduce
    # Two halves are exchanged, and one of them is added.
    assert at(MEGABYTE, 2) == pytest.approx(2e-3 + 0.01 + 0.5e-3)
    assert at(MEGABYTE, 8) == pytest.approx(6e-3 + 2 * 7 / 8 * 0.01 + 7 / 8 * 1e-3)
    # The third hands its numbers to another and gets the sum.
    assert at(MEGABYTE, 3) == pytest.approx(at(MEGABYTE, 2) + 2 * (1e-3 + 0.01) + 1e-3)
    assert at(8, 4) == pytest.approx(2e-3, rel=1e-3)


def test_all_reduce_for_many() -> None:
    """Its bytes are at most twice the array however many there are; its latency grows."""
    far = replace(NETWORK, adding=0.0)
    assert far.all_reduce(1e12, 1024) == pytest.approx(2 * 1e12 / far.bandwidth, rel=2e-3)
    near = replace(far, bandwidth=math.inf)
    assert near.all_reduce(1e6, 1024) == pytest.approx(2 * 10 * near.latency)


def test_overlap_by_hand() -> None:
    """A pass of 8 s of which the buckets leave after 4, 6 and 8 s."""

    def carry(size: float, workers: int) -> float:
        return size / MEGABYTE if size > 100 else 0.0

    assert step(WORK, 4, 2, carry).communication == 4  # the last one; the others are hidden
    assert step(WORK, 4, 2, carry, hidden=False).communication == 7
    # Three seconds for each megabyte: until 7, 13 and 25.
    assert step(WORK, 4, 2, lambda *a: 3 * carry(*a)).communication == pytest.approx(25 - 8)
    # Of four rows one by one only the last pass, of 2 s, hides: until 8, 10 and 14 of 8.
    one_by_one = replace(WORK, at_once=1)
    assert step(one_by_one, 4, 2, carry).communication == pytest.approx(6)
    assert step(WORK, 4, 2, carry, slower=3).communication == 4
    # Nothing hides what the worker has to do itself.
    copied = replace(WORK, copying=0.25)
    assert step(copied, 4, 2, carry).communication == 4.25
    assert step(copied, 4, 2, carry, slower=3).communication == 4.75
    assert step(copied, 4, 1, carry).communication == 0


def test_a_faster_worker_is_as_a_slower_network() -> None:
    fast = step(WORK.faster(10), 4, 16, NETWORK.all_reduce)
    slow_network = Network("slow", 1e-2, 10 * MEGABYTE, adding=1e-8)
    assert fast.seconds == pytest.approx(step(WORK, 4, 16, slow_network.all_reduce).seconds / 10)


def test_more_workers_are_never_more_efficient() -> None:
    work, counts = replace(WORK, spread=0.05), [2**i for i in range(11)]
    for efficiency in (weak, strong):
        values = [efficiency(work, 1024, n, NETWORK.all_reduce) for n in counts]
        assert values == sorted(values, reverse=True)
        assert values[-1] > 0


def test_waiting_for_the_slowest() -> None:
    drawn = np.random.default_rng(0).standard_normal((20_000, 64))
    for workers in (2, 4, 16, 64):
        expected = drawn[:, :workers].max(1).mean()
        assert largest_of(workers) == pytest.approx(expected, rel=0.06)
    waits = step(replace(WORK, spread=0.1), 4, 2, INFINITE.all_reduce).waiting
    assert waits == pytest.approx(0.1 * 8.5 / math.sqrt(math.pi), rel=0.06)


def test_fit() -> None:
    sizes = [8, 1000, 10**6, 10**8]
    exact = [(s, 3e-5 + 2e-9 * s) for s in sizes]
    assert fitted(exact) == pytest.approx((3e-5, 2e-9))
    # Relative errors count: the short ones decide on the latency.
    disturbed = [(s, t * f) for (s, t), f in zip(exact, (1.01, 0.99, 1.01, 0.99))]
    assert fitted(disturbed) == pytest.approx((3e-5, 2e-9), rel=0.02)
    # As NumPy solves it.
    rows = np.array([[1 / t, s / t] for s, t in disturbed])
    assert fitted(disturbed) == pytest.approx(np.linalg.lstsq(rows, np.ones(4), rcond=None)[0])
    assert fitted([(1, 2.0), (2, 2.0), (4, 1.9)])[1] == 0
    assert fitted([(1, 0.9), (2, 2.1), (4, 4.4)])[0] == 0


# --- from measurements ----------------------------------------------------------------------------


def measurement() -> dict:
    """What ``benchmarks.workers`` would have found on a machine that does as the model says."""
    cores, factor, latency, per_byte = 2, 1.25, 1e-4, 1e-9
    fixed, per_row, size, batch = 0.01, 0.02, 4 * MEGABYTE, 8
    seconds, apart, slower = {}, {}, {}
    for workers in (1, 2, 4):
        crowded = max(1, workers / cores) * (factor if workers > 1 else 1)
        computing = crowded * (fixed + per_row * batch / workers)
        carried = 4 * latency + (2 * size + 24) * per_byte
        carried *= workers > 1
        seconds[f"workers {workers}"] = computing + carried
        if workers > 1:
            apart[str(workers)] = {
                "computation": computing, "waiting": 0.0, "communication": carried
            }  # fmt: skip
            slower[str(workers)] = crowded
    seconds |= {"threads": 0.12, "torch": 0.1}
    config = {
        "batch": batch,
        "context": 16,
        "seconds": seconds,
        "speeds": {name: [0.9 * seconds["workers 1"] / t, seconds["workers 1"] / t]
                   for name, t in seconds.items()},
        "alone": {str(n): fixed + per_row * n for n in (2, 4, 8)},
        "spread": 0.0,
        "profile": {
            "parameters": 10**6, "passes": 0.16, "update": 0.01,
            "buckets": [[size, 0.5, 8], [size, 1.0, 1]],
        },
        "apart": apart,
        "slower": slower,
    }  # fmt: skip
    large = {**config, "config": "gpt2", "alone": {"1": 20.0, "2": 39.0}}
    large["profile"] = {"parameters": 124_000_000, "passes": 20.0, "update": 0.5,
                        "buckets": [[340e6, 0.6, 9], [154e6, 1.0, 1]]}  # fmt: skip
    points = [[s, latency + per_byte * s] for s in (8, 10**4, 10**6, 10**8)]
    return {
        "cores": cores,
        "machine": "a machine",
        "configs": {"char": config},
        "reduce": {"2": points, "4": points},
        "copying": 1e-10,
        "adding": 1e-10,
        "large": large,
    }


def test_between_measured_sizes() -> None:
    found = {"reduce": {"2": [[8, 1.0], [10, 2.0], [20, 4.0]]}}
    at = scaling.shared_memory(found)
    assert [at(size, 2) for size in (4, 8, 9, 15, 20, 40)] == [1, 1, 1.5, 3, 4, 8]


def test_the_model_gives_back_what_follows_it() -> None:
    found = measurement()
    assert busy(found) == pytest.approx(1.25)
    points = reproduced(found)
    assert [p.workers for p in points] == [1, 2, 4]
    for point in points:
        assert point.error == pytest.approx(0, abs=1e-9)
        assert point.model.seconds == pytest.approx(point.measured)
    found["configs"]["char"]["seconds"]["workers 4"] *= 2
    assert reproduced(found)[-1].error == pytest.approx(-0.5)


# --- what is measured -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_obey(workers: int, tmp_path: Path) -> None:
    """Each order has its answer, from the first; at the end of the orders all end."""
    model = CONFIGS["tiny"][1]
    write_text(tmp_path / "text.txt", model.vocab_size, model.context)
    before = [mpiexec(), "-n", "2"] if workers > 1 else []
    program = ["-m", "benchmarks.team", "tiny", "16", "4", "text.txt", "run", "1"]
    orders = [["steps", 2], ["apart", 2], ["profile", 1], ["copying", 4096, 3], ["steps", 1]]
    if workers > 1:
        orders.append(["reduce", 4096, 3])
    done = subprocess.run(
        [*before, sys.executable, *program],
        cwd=tmp_path, env={**os.environ, **PLAIN, "PYTHONPATH": str(ROOT)},
        input="".join(f"{json.dumps(order)}\n" for order in orders), text=True,
        stdout=subprocess.PIPE, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0
    ready, *answers = done.stdout.splitlines()
    assert ready == "ready"
    steps, apart, profile, copying, step, *reduced = map(json.loads, answers)
    assert [len(steps), len(apart), len(copying), len(step)] == [2, 2, 3, 1]
    assert min(*steps, *step, *copying[0]) > 0
    for computation, waiting, communication in apart:
        assert computation > 0
        assert min(waiting, communication) >= 0
    assert all(0 < t < 10 for times in reduced for t in times)
    parameters = GPT(model).parameter_count()
    assert profile["parameters"] == parameters
    sizes, shares, members = zip(*profile["buckets"])
    assert sum(sizes) == 4 * parameters
    assert sum(members) == len(list(GPT(model).parameters()))
    assert list(shares) == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1
    assert not (tmp_path / "run" / CHECKPOINT).exists(), "no time is taken for it"


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture
def script() -> ModuleType:
    pytest.importorskip("matplotlib")
    path = Path(__file__).parent.parent / "docs" / "make_workers.py"
    spec = importlib.util.spec_from_file_location("make_workers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_and_picture(script: ModuleType, tmp_path: Path) -> None:
    file, page, picture = (tmp_path / name for name in ("found.json", "page.md", "picture.svg"))
    file.write_text(json.dumps(measurement()))
    page.write_text(f"before\n{script.BEGIN}old\n{script.END}after\n")
    script.main(file, page, picture)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| `char`: 8 x 16 tokens | 170 | " in written
    assert "| `char` | 2 | 121 | 121 | " in written
    assert "GPT-2 with 124M parameters" in written
    # One row of 19 s at least, of 1,024 workers, to one worker's 1 s + 1,024 x 19 s:
    found = measurement()
    work, network = (
        scaling.work_of(found, found["large"], script.AT_ONCE),
        scaling.networks(found)[0],
    )
    said = f"{strong(work, script.BATCH, 1024, network.all_reduce):.0%}"
    assert any(line.startswith(f"| 1,024 | {said} / ") for line in written.splitlines())
    assert "<svg" in picture.read_text()
    script.main(file, page, tmp_path / "again.svg")
    assert page.read_text() == written
    assert picture.read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_page_with_what_there_is(script: ModuleType, tmp_path: Path) -> None:
    """Neither PyTorch nor GPT-2 has been measured."""
    found = measurement()
    del found["large"], found["configs"]["char"]["seconds"]["torch"]
    del found["configs"]["char"]["speeds"]["torch"]
    assert "PyTorch" not in script.tables(found)
    assert "GPT-2" not in script.tables(found)
    script.draw(found)


def test_a_page_without_a_place_for_it(script: ModuleType, tmp_path: Path) -> None:
    file, page = tmp_path / "found.json", tmp_path / "page.md"
    file.write_text(json.dumps(measurement()))
    page.write_text("nothing\n")
    with pytest.raises(SystemExit, match="has no lines"):
        script.main(file, page, tmp_path / "picture.svg")
    assert page.read_text() == "nothing\n"


def test_the_place_for_it_is_in_the_docs(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert page.count(script.BEGIN) == page.count(script.END) == 1
    assert page.index(script.BEGIN) < page.index(script.END)


def test_examples() -> None:
    found = doctest.testmod(scaling)
    assert found.attempted > 3
    assert found.failed == 0
