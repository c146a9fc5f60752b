"""A run that was interrupted goes on, and ends as if nothing had happened."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_run import TIMES, TINY, assert_same_run, contents, metrics, state, trainer

from gpt import checkpoint, folder
from gpt.folder import CHECKPOINT, CONFIG, METRICS, TOKENIZER
from gpt.train import Trainer
from tensorgrad.optim import warmup_cosine


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``ctrl_c(at=3, times=1)``: the user presses Ctrl-C in the middle of the third step."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    real = Trainer.train_step

    def press(at: int, times: int = 1) -> None:
        def step(self: Trainer) -> tuple[float, float]:
            if self.step == at - 1:
                monkeypatch.setattr(Trainer, "train_step", real)
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
            return real(self)

        monkeypatch.setattr(Trainer, "train_step", step)

    yield press
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at", range(1, 9))
def test_interrupted_and_resumed(
    at: int, straight: Path, tmp_path: Path, ctrl_c: Callable[..., None]
) -> None:
    """Wherever Ctrl-C comes, also in the last step: the step is finished, and nothing is lost."""
    out, lines = tmp_path / "my run", []
    ctrl_c(at=at)
    assert not trainer(out, say=lines.append).run()
    assert lines[-2] == f"stopped after step {at} of 8; saved {out / CHECKPOINT}"
    assert lines[-1] == f"to go on: python -m gpt train --resume --out '{out}'"
    assert not (out / "sample.txt").exists()
    lines.clear()
    assert trainer(out, resume=True, say=lines.append).run()
    assert lines[0] == f"resumed {out} at step {at}"
    assert_same_run(out, straight)


@pytest.mark.usefixtures("quick")
def test_interrupted_again_and_again(
    straight: Path, tmp_path: Path, ctrl_c: Callable[..., None]
) -> None:
    for at in range(1, 9):
        ctrl_c(at=at)
        assert not trainer(tmp_path / "run", resume=at > 1).run()
    assert trainer(tmp_path / "run", resume=True).run()
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.usefixtures("quick")
def test_the_machine_dies(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the sixth step, with half a line on the disk; the last checkpoint is of the third."""
    real = Trainer.train_step

    def dies(self: Trainer) -> tuple[float, float]:
        if self.step == 5:
            raise SystemError
        return real(self)

    out = tmp_path / "run"
    run = trainer(out)
    monkeypatch.setattr(Trainer, "train_step", dies)
    with pytest.raises(SystemError):
        run.run()
    monkeypatch.setattr(Trainer, "train_step", real)
    assert [row["step"] for row in metrics(out)] == [1, 2, 4]
    with open(out / METRICS, "a") as file:
        file.write('{"step": 6, "train_lo')
    assert trainer(out, resume=True).run()
    assert_same_run(out, straight)


def test_a_second_ctrl_c_is_obeyed_at_once(tmp_path: Path, ctrl_c: Callable[..., None]) -> None:
    ctrl_c(at=5, times=2)
    run = trainer(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.step == 4
    assert state(run.out)["header"]["facts"]["step"] == 3  # as it was
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("quick")
def test_the_handler_is_put_back(tmp_path: Path, ctrl_c: Callable[..., None]) -> None:
    for at in (None, 2):
        if at:
            ctrl_c(at=at)
        trainer(tmp_path / f"run{at}", steps=2).run()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("quick")
def test_in_a_thread(straight: Path, tmp_path: Path) -> None:
    """Only the main thread can have a handler; others train without."""
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(trainer(tmp_path / "run").run()))
    thread.start()
    thread.join()
    assert done == [True]
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.usefixtures("quick")
def test_more_steps_at_a_constant_rate(tmp_path: Path) -> None:
    """Then a run that was extended is the longer run."""
    constant = {"warmup": 0, "min_lr": TINY.lr}
    trainer(tmp_path / "long", **constant).run()
    trainer(tmp_path / "run", steps=4, **constant).run()
    trainer(tmp_path / "run", resume=True, steps=8, **constant).run()
    assert_same_run(tmp_path / "run", tmp_path / "long")


@pytest.mark.usefixtures("quick")
def test_more_steps_on_the_cosine(straight: Path, tmp_path: Path) -> None:
    """The rate is that of the longer cosine from the next step on, and the config says so."""
    out = tmp_path / "run"
    trainer(out).run()
    trainer(out, resume=True, steps=12).run()
    assert [row["step"] for row in metrics(out)] == [1, 2, 4, 6, 8, 10, 12]
    assert metrics(out, but=TIMES)[:5] == metrics(straight, but=TIMES)
    for total, rows in ((8, metrics(out)[:5]), (12, metrics(out)[5:])):
        factor = warmup_cosine(TINY.warmup, total, TINY.min_lr / TINY.lr)
        for row in rows:
            assert row["lr"] == pytest.approx(TINY.lr * factor(row["step"] - 1))
    assert folder.read_config(out)[0].steps == 12


@pytest.mark.usefixtures("quick")
def test_choices_that_change_on_resuming_count(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out, steps=4).run()
    changes = {"lr": 0.002, "min_lr": 0.002, "beta1": 0.5, "weight_decay": 0.3, "dropout": 0.0}
    run = trainer(out, resume=True, **changes)
    for group, decay in zip(run.optimizer.param_groups, (0.3, 0.0)):
        assert (group["lr"], group["betas"]) == (pytest.approx(0.002), (0.5, 0.99))
        assert group["weight_decay"] == decay
    run.run()
    assert metrics(out)[-1]["lr"] == pytest.approx(0.002)
    assert folder.read_config(out)[0] == run.config
    assert run.config.beta1 == 0.5
    assert folder.read_config(out)[1].dropout == 0.0


@pytest.mark.usefixtures("quick")
def test_resuming_a_finished_run_samples_again(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out).run()
    trainer(out, resume=True, prompt="7", sample_tokens=3).run()
    assert_same_run(out, straight)
    assert re.fullmatch(r"7(?s:.{3})", (out / "sample.txt").read_text())


# -------------------------------------------------------------------------------- what cannot go on


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 32, "heads": 4}, "width is 16 there and 32 here; heads is 2 there and 4 here"),
        ({"heads": 1}, "heads is 2 there and 1 here"),
        ({"tokenizer": "bpe"}, "tokenizer is 'char' there and 'bpe' here"),
        ({"vocab_size": 300}, "vocab_size is None there and 300 here"),
        ({"seed": 2}, "seed is 1337 there and 2 here"),
        ({"steps": 7}, "has done 8 steps already: give --steps 8 or more"),
        ({"data": "/dev/null"}, "has no text in it"),
        ({"context": 2000}, "context is 8 there"),
    ],
)
def test_a_resume_that_fails_changes_nothing(
    change: dict[str, Any], complaint: str, straight: Path
) -> None:
    before = contents(straight)
    with pytest.raises((ValueError, OSError), match=complaint):
        trainer(straight, resume=True, **{"data": str(straight.parent / "text.txt"), **change})
    assert contents(straight) == before


def damage(out: Path, name: str, content: str | None) -> None:
    if content is None:
        (out / name).unlink()
    else:
        (out / name).write_text(content)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (CONFIG, None, r"there is no run in .*config\.json is missing"),
        (CONFIG, "", r"config\.json is not the config of a run .*: restore it from a copy"),
        (CONFIG, "[1]", "is not the config of a run"),
        (CONFIG, '{"run": {}}', "is not the config of a run"),
        (CONFIG, '{"run": {"steps": "8"}, "model": {}}', "steps is '8', which is not of the type"),
        (CONFIG, '{"run": {"pace": 1}, "model": {}}', "unknown fields: pace"),
        (CONFIG, '{"run": {}, "model": {}}', "vocab_size"),
        (CONFIG, '{"run": {"heads": 5}, "model": {}}', "5 heads do not divide the width"),
        (TOKENIZER, None, "tokenizer.json"),
        (TOKENIZER, "{", r"tokenizer\.json is not a tokenizer file"),
        (TOKENIZER, '{"tokenizer": "char", "characters": "ab"}', "is not among the 2"),
        (CHECKPOINT, None, r"there is no checkpoint .*: train first"),
        (CHECKPOINT, "", "is truncated or not a safetensors file"),
        (METRICS, "{}\n", r"metrics\.jsonl: line 1 does not hold the metrics"),
        (METRICS, "null\n", r"metrics\.jsonl: line 1 does not hold the metrics"),
    ],
)
def test_damaged_runs(name: str, content: str | None, complaint: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    damage(out, name, content)
    before = contents(out)
    with pytest.raises((ValueError, OSError), match=complaint):
        trainer(out, resume=True)
    assert contents(out) == before


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("facts",), None),
        (("facts", "step"), "three"),
        (("facts", "random"), {}),
        (("facts", "random", "torch"), {"bit_generator": "MT19937"}),
        (("facts", "random", "batches", "rng", "state"), 7),
        (("optimizer",), []),
        (("optimizer",), {"99": {"step": 1}}),
    ],
)
def test_damaged_header(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    """Well-formed, but not what this program writes."""
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    header, arrays = checkpoint.read(out / CHECKPOINT)
    spoilt = header
    for key in path[:-1]:
        spoilt = spoilt[key]
    spoilt[path[-1]] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "read", lambda path: (header, arrays))
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged .*restore it"):
            trainer(out, resume=True)


@pytest.mark.usefixtures("quick")
def test_metrics_can_be_lost(tmp_path: Path) -> None:
    """A model that was trained for days is not held up by a file for a picture."""
    out = tmp_path / "run"
    trainer(out).run()
    (out / METRICS).unlink()
    assert trainer(out, resume=True).run()
    assert metrics(out) == []
    assert trainer(out, resume=True, steps=10).run()
    assert [row["step"] for row in metrics(out)] == [10]
