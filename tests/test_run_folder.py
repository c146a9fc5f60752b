"""The folder of a run: what is in it, what was there before, and what if it cannot be written."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tiny_run import TEXT, TIMES, TINY, contents, metrics, state, trainer

from gpt import folder, tokenizer, train
from gpt.folder import BEST, CHECKPOINT, CONFIG, METRICS, PREVIOUS, SUMMARY, TOKENIZER
from gpt.train import Trainer


def test_everything_is_in_one_folder(straight: Path) -> None:
    assert sorted(contents(straight)) == sorted(
        [CHECKPOINT, PREVIOUS, BEST, CONFIG, METRICS, SUMMARY, TOKENIZER, "block.svg",
         "loss.png", "loss.svg", "training.png", "training.svg", "sample.txt"]
    )  # fmt: skip
    assert sorted(os.listdir(straight.parent)) == ["run", "said", "text.txt"]


def test_config_and_tokenizer_come_back(straight: Path) -> None:
    config, model_config = folder.read_config(straight)
    assert config == dataclasses.replace(TINY, data=str(straight.parent / "text.txt"))
    assert model_config == config.model(len(set(TEXT)))
    assert tokenizer.load(straight / TOKENIZER).decode([0]) == "\n"


@pytest.mark.usefixtures("quick")
def test_an_earlier_run_is_kept(tmp_path: Path) -> None:
    out, lines = tmp_path / "runs" / "a", []
    runs = []
    (tmp_path / "runs").mkdir()
    for seed in (1, 2, 3):
        trainer(out, say=lines.append, steps=1, seed=seed).run()
        runs.append(contents(out))
    assert contents(tmp_path / "runs" / "a-1") == runs[0]
    assert contents(tmp_path / "runs" / "a-2") == runs[1]
    assert contents(out) == runs[2]
    assert f"kept the earlier run in {out} as {out}-2" in lines


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    for name, content in ((CONFIG, '{"mine": 1}'), ("sample.txt", "mine"), (CONFIG, "")):
        out = tmp_path / f"{name}{len(content)}"
        out.mkdir()
        (out / name).write_text(content)
        with pytest.raises(ValueError, match=r"would be overwritten, .*choose another with --out"):
            trainer(out)
        assert contents(out) == {name: content.encode()}


@pytest.mark.usefixtures("quick")
def test_a_folder_with_other_files_is_used(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    trainer(out, steps=1).run()
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / CHECKPOINT).exists()


@pytest.mark.usefixtures("quick")
def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can be in it, but cannot be moved aside from under the user's feet."""
    here = tmp_path / "here" / "below"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    config = dataclasses.replace(TINY, data=str(text), steps=1)
    Trainer(config, Path(), say=lambda line: None).run()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="cannot be moved aside while you are in that folder"):
        Trainer(config, Path())
    with pytest.raises(ValueError, match="cannot be moved aside"):
        Trainer(config, Path("..") / "below")
    assert contents(tmp_path) == before
    Trainer(dataclasses.replace(config, steps=2), Path(), resume=True, say=lambda line: None).run()
    assert [row["step"] for row in metrics(Path())] == [1, 2]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("fails", ["tokenizer.save", "checkpoint.replace", "Path.mkdir"])
@pytest.mark.parametrize("interrupted", [True, False])
def test_a_start_that_fails_changes_nothing(
    earlier: bool, fails: str, interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    if earlier:
        trainer(out, steps=1).run()
    else:
        (tmp_path / "text.txt").write_text(TEXT)
    before = contents(tmp_path)

    def fail(*args: Any, **kwargs: Any) -> None:
        if interrupted:
            raise KeyboardInterrupt
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where, name = fails.split(".")
    monkeypatch.setattr(getattr(train, where), name, fail)
    expected: Any = KeyboardInterrupt if interrupted else OSError
    complaint = None if interrupted else r"cannot write to the folder .*No space left.* with --out$"
    with pytest.raises(expected, match=complaint):
        trainer(out)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    assert out.exists() == earlier
    assert not (tmp_path / "run-1").exists()


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_folder_that_cannot_be(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" if place == "a file" else tmp_path / "file" / "run"
    (tmp_path / "text.txt").write_text(TEXT)
    config = dataclasses.replace(TINY, data=str(tmp_path / "text.txt"))
    with pytest.raises(OSError, match=r"cannot write to the folder .*file.* with --out$"):
        Trainer(config, out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    (closed.parent / "text.txt").write_text(TEXT)
    config = dataclasses.replace(TINY, data=str(tmp_path / "text.txt"))
    for out in (closed, closed / "run"):
        with pytest.raises(OSError, match=r"cannot write .*Permission denied.* with --out$"):
            Trainer(config, out)
    assert os.listdir(closed) == []


# ------------------------------------------------------------------------ when it cannot be written


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_the_disk_fills_up(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second checkpoint: the first is whole, and the run can go on from it."""
    run = trainer(tmp_path / "run", eval_every=100)
    real = Trainer.train_step
    kept: dict[str, bytes] = {}

    def step(self: Trainer) -> tuple[float, float]:
        if self.step == 4:
            kept.update(contents(run.out))
            monkeypatch.setattr(fails, full)
        return real(self)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(OSError, match=r"checkpoint\.safetensors cannot be written .*as it was$"):
        run.run()
    monkeypatch.undo()
    assert sorted(contents(run.out)) == sorted([CHECKPOINT, BEST, CONFIG, METRICS, TOKENIZER])
    assert contents(run.out)[CHECKPOINT] == kept[CHECKPOINT]
    assert state(run.out)["header"]["facts"]["step"] == 3
    assert trainer(run.out, resume=True).step == 3


def test_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run")
    (run.out / METRICS).unlink()
    (run.out / METRICS).mkdir()
    with pytest.raises(OSError, match=r"metrics\.jsonl cannot be written \(Is a directory\)"):
        run.run()


def test_nobody_reads(tmp_path: Path, straight: Path) -> None:
    """``| head`` closes the pipe in the middle: what was learnt until then is saved."""

    def say(line: str) -> None:
        if line.startswith("step      4"):
            raise BrokenPipeError

    out = tmp_path / "run"
    with pytest.raises(BrokenPipeError):
        trainer(out, say=say).run()
    assert state(out)["header"]["facts"]["step"] == 4
    assert metrics(out, but=TIMES) == metrics(straight, but=TIMES)[:3]
