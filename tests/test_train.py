"""The trainer: what a run computes, and what it makes of a text."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TEXT, TIMES, TINY, assert_same_run, metrics, state, trainer

import tensorgrad
from gpt import data, tokenizer, train
from gpt.folder import SUMMARY
from gpt.train import Trainer
from tensorgrad.optim import warmup_cosine

KEYS = ["step", "train_loss", "val_loss", "lr", "grad_norm", "grad_norms", *TIMES]


def test_metrics(straight: Path) -> None:
    rows = metrics(straight)
    assert [row["step"] for row in rows] == [1, 2, 4, 6, 8]
    assert all(list(row) == KEYS for row in rows)
    for row in rows:
        layers = row["grad_norms"]
        assert list(layers) == ["token_embedding", "position_embedding", "blocks.0", "norm"]
        assert math.hypot(*layers.values()) == pytest.approx(row["grad_norm"], rel=1e-5)
        assert all(math.isfinite(value) for key, value in row.items() if key != "grad_norms")
    assert rows[0]["val_loss"] == pytest.approx(math.log(len(set(TEXT))), abs=0.05)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(row["tokens_per_second"] > 0 and row["grad_norm"] > 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_the_rate_is_the_one_that_the_step_was_taken_with(straight: Path) -> None:
    factor = warmup_cosine(TINY.warmup, TINY.steps, TINY.min_lr / TINY.lr)
    for row in metrics(straight):
        assert row["lr"] == pytest.approx(TINY.lr * factor(row["step"] - 1))


@pytest.mark.usefixtures("quick")
def test_times_are_those_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says n seconds for the nth step, and much for what is not training."""
    clock = [0.0]

    def slowed(real: Callable[[Trainer], Any], lasts: int) -> Callable[[Trainer], Any]:
        def slow(self: Trainer) -> Any:
            clock[0] += lasts or self.step + 1
            return real(self)

        return slow

    monkeypatch.setattr(train.time, "perf_counter", lambda: clock[0])
    for name, lasts in (("train_step", 0), ("evaluate", 100), ("save", 1000)):
        monkeypatch.setattr(Trainer, name, slowed(getattr(Trainer, name), lasts))
    trainer(tmp_path / "run", steps=4).run()
    trainer(tmp_path / "run", steps=6, resume=True).run()
    rows = metrics(tmp_path / "run")
    assert [row["seconds"] for row in rows] == [1, 1 + 2, 1 + 2 + 3 + 4, 1 + 2 + 3 + 4 + 5 + 6]
    # Each step has 2 sequences of 8 tokens.
    assert [row["tokens_per_second"] for row in rows] == [16 / 1, 16 / 2, 32 / 7, 32 / 11]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("clip", "largest"), [(0.5, 0.5), (0.0, math.inf)])
def test_clipping(clip: float, largest: float, tmp_path: Path) -> None:
    """The update is made of clipped gradients, and the metrics tell their norm before."""
    run = trainer(tmp_path / "run", clip=clip, steps=1, dropout=0.0)
    run.run()
    (row,) = metrics(run.out)
    assert row["grad_norm"] > 0.6
    # AdamW's first mean is a share of the first gradients.
    share = 1 - run.optimizer.param_groups[0]["betas"][0]
    states = [state["exp_avg"].numpy() for state in run.optimizer.state.values()]
    norm = math.sqrt(sum(float((m**2).sum()) for m in states)) / share
    assert norm == pytest.approx(min(largest, row["grad_norm"]), rel=1e-4)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("together", [1, 3, 1000])
def test_the_losses_are_what_they_say(
    together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line, computed again from the outside: another loss, the same batches.

    However many of them the model reads in one pass: one, three and then two, all.
    """
    monkeypatch.setattr(train, "windows_at_once", lambda config: together * TINY.batch)
    out = tmp_path / "run"
    run = trainer(out, steps=1, dropout=0.0, eval_batches=5)
    ids = run.tokenizer.encode(TEXT)
    parts = dict(zip(("train", "val"), data.train_val_split(ids)))
    run.run()
    expected = {}
    for offset, (split, part) in enumerate(parts.items(), start=1):
        batches = data.Batches(part, TINY.context, TINY.batch, seed=TINY.seed + offset)
        losses = []
        for _ in range(5):
            x, y = batches.next()
            with tensorgrad.no_grad():
                logits = run.model(tensorgrad.tensor(x)).numpy().astype(float)
            right = np.take_along_axis(logits, y[..., None], axis=-1)[..., 0]
            losses.append((np.log(np.exp(logits).sum(-1)) - right).mean())
        expected[f"{split}_loss"] = pytest.approx(np.mean(losses), rel=1e-5)
    (row,) = metrics(out)
    assert {key: row[key] for key in expected} == expected


@pytest.mark.usefixtures("quick")
def test_how_often_one_looks_changes_nothing(straight: Path, tmp_path: Path) -> None:
    trainer(tmp_path / "run", eval_every=3, eval_batches=1, save_every=100).run()
    ours, theirs = state(tmp_path / "run"), state(straight)
    del ours["header"], theirs["header"]
    np.testing.assert_equal(ours, theirs)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 3, 6, 8]


@pytest.mark.usefixtures("quick")
def test_the_seed_decides(straight: Path, tmp_path: Path) -> None:
    np.random.seed(0)  # noqa: NPY002 (another generator's seed does not matter)
    tensorgrad.manual_seed(99)
    trainer(tmp_path / "same").run()
    assert_same_run(tmp_path / "same", straight)
    assert (tmp_path / "same" / "sample.txt").read_text() == (straight / "sample.txt").read_text()
    trainer(tmp_path / "other", seed=1).run()
    assert metrics(tmp_path / "other", but=TIMES) != metrics(straight, but=TIMES)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("together", [1, 7, 1000])
def test_the_loss_at_the_end_is_of_the_whole_split(
    together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over every window, whatever the batches; a short last batch counts less."""
    monkeypatch.setattr(train, "windows_at_once", lambda config: together)
    run = trainer(tmp_path / "run", batch=3)
    run.run()
    val = run.eval_batches["val"].tokens.astype(np.int64)
    losses = []
    run.model.eval()
    for start in range(0, len(val) - 8, 8):
        x, y = (tensorgrad.tensor(val[i : i + 8][None]) for i in (start, start + 1))
        losses.append(run.model(x, y).item())
    assert len(losses) % 3
    assert len(losses) % 7
    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    assert summary["step"] == 8
    assert summary["val_loss"] == pytest.approx(np.mean(losses))
    assert summary["val_tokens"] == 8 * len(losses)


def test_a_long_split_is_represented_by_windows_spread_over_it() -> None:
    x, y = data.windows(range(1001), context=10, most=4)
    assert x[:, 0].tolist() == [0, 250, 500, 750]
    assert (y == x + 1).all()
    assert data.windows(range(1001), context=10, most=100)[0].size == 1000


@pytest.mark.usefixtures("quick")
def test_it_learns(tmp_path: Path) -> None:
    """Counting is learnt well below what the letters' frequencies alone allow."""
    trainer(tmp_path / "run", steps=200, dropout=0.0, eval_every=200, eval_batches=10).run()
    frequencies = np.unique(list(TEXT), return_counts=True)[1] / len(TEXT)
    entropy = -(frequencies * np.log(frequencies)).sum()
    assert metrics(tmp_path / "run")[-1]["val_loss"] < entropy - 0.7


# ----------------------------------------------------------------------------------------- the text


def test_text_too_short(tmp_path: Path) -> None:
    for text in ("a", "short text"):
        (tmp_path / "text.txt").write_text(text)
        with pytest.raises(ValueError, match=r"a context of 8 needs at least 9 tokens"):
            trainer(tmp_path / "run")
    assert os.listdir(tmp_path) == ["text.txt"]


def test_a_text_without_line_breaks(tmp_path: Path) -> None:
    """Characters do not know the default prompt then: any will do."""
    (tmp_path / "text.txt").write_text("abc " * 100)
    assert trainer(tmp_path / "run").prompt == [0]
    with pytest.raises(ValueError, match=r"the prompt cannot be encoded: the character 'x'"):
        trainer(tmp_path / "other", prompt="abx")
    assert not (tmp_path / "other").exists()


def test_bpe_learns_as_many_tokens_as_asked(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run", tokenizer="bpe", vocab_size=270)
    assert (run.tokenizer.n_vocab, run.model_config.vocab_size) == (270, 270)
    with pytest.raises(ValueError, match=r"vocab_size is 100, .* make 257"):
        trainer(tmp_path / "other", tokenizer="bpe", vocab_size=100)


def test_vocabulary_of_a_ready_made_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are what was chosen, but enough for the text and the prompt."""
    coder = tokenizer.BPETokenizer([b"ti", b"times", b"is", b"xyz"])  # n_vocab 261
    coder.name = "gpt2"
    monkeypatch.setattr(tokenizer, "build", lambda name, text: coder)
    (tmp_path / "text.txt").write_text(TEXT)

    def rows(**changes: Any) -> tuple[int, list[str]]:
        lines: list[str] = []
        run = trainer(tmp_path / "run", say=lines.append, tokenizer="gpt2", **changes)
        return run.model_config.vocab_size, [line for line in lines if "tokens up to" in line]

    assert rows() == (261, [])
    assert rows(vocab_size=260) == (260, [])
    assert rows(vocab_size=259) == (259, [])
    grown = ["the text has tokens up to 258: the vocabulary is 259, not 200"]
    assert rows(vocab_size=200) == (259, grown)
    assert rows(vocab_size=259, prompt="xyz")[0] == 260
    with pytest.raises(
        ValueError, match="vocab_size is 262, but the tokenizer gpt2 has 261 tokens"
    ):
        rows(vocab_size=262)
