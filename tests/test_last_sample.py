"""The sample that is written while the last step is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_run import trainer

import tensorgrad
from gpt import Trainer


def quick(out: Path, resume: bool = False, **others: Any) -> Trainer:
    return trainer(out, resume, pictures=False, **others)


def test_the_last_sample_is_of_the_last_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is begun before the callbacks of the last step, one of which may change the weights."""
    begun: list[int] = []
    original = Trainer.sample

    def sample(run: Trainer, *arguments: Any, **choices: Any) -> str:
        begun.append(run.step)
        return original(run, *arguments, **choices)

    def change(run: Trainer, step: int, now: dict[str, Any]) -> None:
        if step == run.config.steps:
            with tensorgrad.no_grad():
                for p in run.model.parameters():
                    p.mul_(-1)

    monkeypatch.setattr(Trainer, "sample", sample)
    monkeypatch.setattr(tensorgrad, "get_num_threads", lambda: 2)
    run = quick(tmp_path / "quiet")
    kept = run.fit().sample
    assert begun == [8]
    assert kept == run.sample()
    begun.clear()
    run = quick(tmp_path / "changed", callbacks=[change])
    changed = run.fit().sample
    assert begun == [8, 8]
    assert changed == run.sample() != kept
    begun.clear()
    assert run.fit().sample == changed  # there is no step left: it is written again
    assert begun == [8]


def test_a_sample_that_fails_ends_the_run_after_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised when all else has been kept, and what was evaluated is in the metrics."""

    def sample(run: Trainer) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(Trainer, "sample", sample)
    run = quick(tmp_path / "run")
    with pytest.raises(RuntimeError, match="no ink"):
        run.fit()
    assert run.metrics[-1]["step"] == 8
    assert quick(tmp_path / "run", resume=True).step == 8
