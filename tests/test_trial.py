"""How many workers a training gets where nobody says it: what is tried, what is chosen."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mpiexec import LIMIT, PLAIN, ROOT, mpiexec
from tiny_run import TEXT, TINY, flags, trainer

import tensorgrad
from gpt import launcher, trial
from gpt.__main__ import main
from gpt.commands import train
from gpt.folder import CONFIG
from gpt.presets import PRESETS, RunConfig

LONG = PRESETS["default"]


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorgrad, "get_num_threads", lambda: 4)
    monkeypatch.setattr(launcher, "mpiexec", lambda: "mpiexec")


def chosen(config: RunConfig, seconds: dict[int, float | None]) -> tuple[int, list[int], list[str]]:
    """The choice, what was tried for it, and what was said, if steps take these seconds."""
    tried: list[int] = []
    said: list[str] = []

    def measure(config: RunConfig, vocab: int, workers: int) -> float | None:
        tried.append(workers)
        return seconds[workers]

    return trial.fitting(config, said.append, measure), tried, said


def test_the_fastest_is_chosen() -> None:
    assert chosen(LONG, {1: 0.1, 2: 0.06, 4: 0.04})[:2] == (4, [1, 2, 4])
    workers, tried, said = chosen(LONG, {1: 0.1, 2: 0.06, 4: 0.07})
    assert (workers, tried) == (2, [1, 2, 4])
    assert said[-1] == (
        "a step takes 100 ms in one process, 60 ms with 2 workers, 70 ms with 4 workers: training "
        "with 2 workers"
    )


def test_several_have_to_be_clearly_faster() -> None:
    assert chosen(LONG, {1: 0.1, 2: 0.098, 4: 0.099})[0] == 1
    workers, tried, said = chosen(LONG, {1: 0.1, 2: 0.2})
    assert (workers, tried) == (1, [1, 2]), "and four are not tried, if two are slower than one"
    assert said[-1].endswith("training in one process")


def test_what_does_not_work_does_not_count() -> None:
    assert chosen(LONG, {1: 0.1, 2: None})[0] == 1
    assert chosen(LONG, {1: None})[:2] == (1, [1])
    assert chosen(LONG, {1: 0.1, 2: 0.06, 4: None})[0] == 2


def test_not_more_than_rows() -> None:
    config = dataclasses.replace(LONG, batch=3, steps=10_000)
    assert chosen(config, {1: 0.1, 2: 0.06, 3: 0.05})[:2] == (3, [1, 2, 3])


def test_short_trainings_try_nothing() -> None:
    assert chosen(TINY, {}) == (1, [], [])
    workers, tried, said = chosen(LONG, {1: 0.001})
    assert (workers, tried) == (1, [1]), "it was quicker than expected"
    assert said[-1] == "a step takes 1 ms, and the training less than 60 s: training in one process"


def test_a_text_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    config = dataclasses.replace(LONG, data=str(tmp_path / "nowhere"))
    assert chosen(config, {}) == (1, [], [])


def test_one_thread_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorgrad, "get_num_threads", lambda: 1)
    assert chosen(LONG, {}) == (1, [], [])


def test_models_that_fill_the_memory_have_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = trial.likely_vocabulary(LONG)
    size = 4 * 4 * 932_608  # in each process: weights, gradients, two moments
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 7 * size, "SC_PAGE_SIZE": 1}.get)
    assert trial.fits(LONG, vocab, 2)
    assert not trial.fits(LONG, vocab, 4)
    assert chosen(LONG, {1: 0.1, 2: 0.06})[:2] == (2, [1, 2])
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 3 * size, "SC_PAGE_SIZE": 1}.get)
    assert chosen(LONG, {1: 0.1, 2: 0.06}) == (1, [], [])  # there is nothing to compare


def test_without_mpi_a_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RuntimeError("several workers need MPI")

    monkeypatch.setattr(launcher, "mpiexec", missing)
    workers, tried, said = chosen(LONG, {})
    assert (workers, tried) == (1, [])
    assert said == ["training in one process; several workers need MPI, and they may be faster"]


def test_a_step_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "mpiexec", mpiexec)
    monkeypatch.setattr(tensorgrad, "get_num_threads", lambda: 2)
    monkeypatch.setenv("TENSORGRAD_BACKEND", "numpy")  # nothing to compile, or to load
    small = dataclasses.replace(TINY, batch=3, accumulate=2)
    for workers in (1, 2):
        seconds = trial.measured(small, 50, workers)
        assert seconds is not None
        assert 1e-4 < seconds < 5
    wrong = dataclasses.replace(small, batch=1)
    object.__setattr__(wrong, "heads", 3)  # which do not divide the width
    assert trial.measured(wrong, 50, 1) is None


def test_the_command_starts_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def start(workers: int, argv: list[str]) -> int:
        started.append((workers, argv))
        return 7

    def fitting(config: RunConfig) -> int:
        assert (config.steps, config.lr) == (77, 0.5)
        return 2

    monkeypatch.setattr("gpt.__main__.start", start)
    monkeypatch.setattr(trial, "fitting", fitting)
    argv = ["train", "--steps", "77", "--lr", "0.5", "--out", str(tmp_path / "run")]
    assert main(argv) == 7
    assert started == [(2, argv)]
    assert launcher.share(2) == {"OMP_NUM_THREADS": "2"}, "four threads, two for each"
    assert launcher.share(5) == {"OMP_NUM_THREADS": "1"}
    for more in (["--workers", "1", "--data", "nowhere"], ["--lr", "-1"]):
        assert main([*argv, *more]) == 2
    assert len(started) == 1, "no more"


@pytest.mark.skipif(sys.platform != "linux", reason="wants a pseudo-terminal")
def test_workers_show_the_bar_on_a_terminal(tmp_path: Path) -> None:
    import pty

    mpi = mpiexec()
    assert mpi
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    choices = flags(batch=4, pictures=False, steps=40)
    words = ["train", *choices, "--data", str(text), "--out", str(tmp_path / "run")]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt", *words, "--workers", "2"], cwd=ROOT,
        stdout=slave, stderr=slave,
        env={**os.environ, **PLAIN, "OMP_NUM_THREADS": "1", "COLUMNS": "79"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # the other end is closed: how Linux says that there is no more
        pass
    assert process.wait(LIMIT) == 0
    lines = shown.decode().replace("\r\n", "\n")
    assert "/40 steps, " in lines, "the bar"
    assert "\nstep     40   train loss" in lines.replace("\r", "\n"), "and a line of its own"
    bars = [part for part in lines.split("\r") if "/40 steps, " in part]
    assert max(map(len, bars)) < 80, "as wide as the terminal"


def test_a_resumed_run_has_as_many_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "fitting", lambda config: pytest.fail("nothing is tried"))
    out = tmp_path / "run"
    trainer(out, pictures=False).fit()
    words = {"out": out, "resume": True, "check": False, "steps": 9}
    words = {**words, "preset": None, "config": None}
    assert train.workers_wanted(dict(words)) == 0
    record = json.loads((out / CONFIG).read_text())
    assert record["sessions"][-1]["workers"] == 1
    record["sessions"].append({"step": 8, "workers": 3})
    (out / CONFIG).write_text(json.dumps(record))
    assert train.workers_wanted(dict(words)) == 3
    assert train.workers_wanted({**words, "workers": 1}) == 0
    for odd in ([], [3], [{}], [{"workers": "many"}], {}):
        (out / CONFIG).write_text(json.dumps({**record, "sessions": odd}))
        assert train.workers_wanted(dict(words)) == 0
