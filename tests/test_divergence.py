"""What goes wrong in a training itself is explained; and what the new ways to train compute."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TIMES, TINY, assert_same_run, metrics, state, trainer

import tensorgrad
from gpt import checkpoint
from gpt.costs import peak_memory
from gpt.divergence import Diverged
from gpt.folder import BEST, CHECKPOINT, PREVIOUS
from gpt.model import GPT
from gpt.stopping import Patience, Spikes
from gpt.train import Trainer

pytestmark = pytest.mark.usefixtures("quick")


def diverged(run: Trainer) -> str:
    """The paragraph that a run ends with; the checkpoints that it leaves are good."""
    with pytest.raises(Diverged) as caught:
        run.run()
    for name in (CHECKPOINT, PREVIOUS, BEST):
        if (run.out / name).exists():
            _, arrays = checkpoint.read(run.out / name)
            assert all(np.isfinite(array).all() for array in arrays.values())
    json.dumps(metrics(run.out), allow_nan=False)
    message = str(caught.value)
    assert "\n" not in message
    kept = f"The last good checkpoint, {run.out / CHECKPOINT}, is kept; to go on from it: "
    assert (kept in message) == (run.out / CHECKPOINT).exists()
    assert re.search(r"The learning rate is \S+: try a lower --lr", message)
    return message


def at_step(
    monkeypatch: pytest.MonkeyPatch, number: int, spoil: Callable[[Trainer], Any], after: bool
) -> None:
    """Call ``spoil`` before or after the step of this number."""
    real = Trainer.train_step

    def step(self: Trainer) -> tuple[float, float]:
        if self.step == number - 1 and not after:
            spoil(self)
        result = real(self)
        if self.step == number and after:
            spoil(self)
        return result

    monkeypatch.setattr(Trainer, "train_step", step)


# ------------------------------------------------------------------------------------ not a number


@pytest.mark.parametrize("recompute", [False, True])
def test_forward(recompute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logarithm of what is negative, in the second block: op, line, layer, step are named."""

    def spoil(run: Trainer) -> None:
        monkeypatch.setattr(run.model.blocks[1].feed_forward[1], "forward", lambda x: x.log())

    run = trainer(tmp_path / "run", layers=2, recompute=recompute)
    at_step(monkeypatch, 5, spoil, after=False)
    message = diverged(run)
    assert message.startswith("the training has diverged in step 5: the loss is nan; ")
    assert "in the layer blocks.1.feed_forward.1, the forward pass of log gives nan, at " in message
    assert f"{Path(__file__).name}:" in message
    assert state(run.out)["header"]["facts"]["step"] == 3


def test_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root at 0 has no slope; the loss is fine until then."""

    def spoil(run: Trainer) -> None:
        proj = run.model.blocks[0].attention.proj
        real = proj.forward
        monkeypatch.setattr(proj, "forward", lambda x: real(x) + (x * 0).sqrt())

    run = trainer(tmp_path / "run", accumulate=2)
    at_step(monkeypatch, 2, spoil, after=False)
    message = diverged(run)
    assert "in step 2: the gradients are too big; in the layer blocks.0.attention.proj, the" in (
        message
    )
    assert re.search(r"backward pass of sqrt gives (inf|nan) in the gradient of its arg", message)
    assert message.endswith("There is no checkpoint yet: begin again")


def test_outside_the_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model does itself, between its layers."""
    real = GPT.forward
    run = trainer(tmp_path / "run")
    monkeypatch.setattr(GPT, "forward", lambda self, *args: real(self, *args) * 1e38 * 1e38)
    message = diverged(run)
    assert "in step 1: the loss is inf; outside the layers, the forward pass of mul" in message


@pytest.mark.parametrize("saves", [1, 100])
def test_an_update_that_is_too_large(saves: int, tmp_path: Path) -> None:
    """With a rate like this the first evaluation, or the second step, is the first to hear."""
    run = trainer(tmp_path / "run", lr=1e30, warmup=0, save_every=saves)
    assert "diverged in step 1: in the evaluation after it the loss is nan; " in diverged(run)
    assert metrics(run.out) == []


@pytest.mark.parametrize(("eval_every", "save_every"), [(2, 100), (100, 100), (100, 2)])
def test_weights_that_are_spoilt(
    eval_every: int, save_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an update that overflows: whether an evaluation, a save or the next step hears of it."""

    def spoil(run: Trainer) -> None:
        run.model.norm.weight.data[:] = math.nan
        run.model.blocks[0].norm1.bias.data[:] = math.inf

    run = trainer(tmp_path / "run", eval_every=eval_every, save_every=save_every)
    at_step(monkeypatch, 4, spoil, after=True)
    message = diverged(run)
    assert "the last update left nan or inf in the weights blocks.0.norm1.bias and 1 oth" in message
    if save_every == 2:
        assert "in step 4: there is nothing good to save; " in message
        assert state(run.out)["header"]["facts"]["step"] == 2
    elif eval_every == 2:
        assert "in step 4: in the evaluation after it the loss is nan; " in message
        assert [row["step"] for row in metrics(run.out)] == [1, 2]
    else:
        assert "in step 5: the loss is nan; " in message


def test_the_hooks_are_gone_and_the_step_is_the_same(tmp_path: Path) -> None:
    """The search draws the dropout of the step, and leaves the model as it was."""
    run = trainer(tmp_path / "run")
    real = run.model.blocks[0].feed_forward[3].forward
    outputs: list[np.ndarray] = []

    def spoilt(x: Any) -> Any:
        y = real(x)
        outputs.append(y.detach().numpy().copy())
        return y * math.nan

    run.model.blocks[0].feed_forward[3].forward = spoilt
    diverged(run)
    first, again = outputs
    assert (first == 0).any()
    np.testing.assert_equal(again, first)
    hooks = [module._hooks for module in run.model.modules()]
    assert all(h is not None for h in hooks)
    assert not any(h.before or h.after for h in hooks)


# ---------------------------------------------------------------------------------------- a spike


def test_a_spike_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer with the largest gradient is named; the weights are those before the step."""

    def spoil(run: Trainer) -> None:
        run.model.norm.weight.data.mul_(300)

    run = trainer(tmp_path / "run", steps=30, clip=0.1)
    at_step(monkeypatch, 14, spoil, after=False)
    message = diverged(run)
    found = re.search(
        r"in step 14: the loss is (\S+) and was (\S+) on average lately; the largest gradient is "
        r"that of the layer (\S+), of norm (\S+) \(when last measured: (\S+)\)", message
    )  # fmt: skip
    assert found
    assert float(found[1]) > float(found[2]) + 3
    assert found[3] in ("blocks.0", "token_embedding", "norm")
    assert float(found[4]) > 0.1  # before clipping
    assert "or --spike 0 to go on through it" in message
    assert state(run.out)["header"]["facts"]["step"] == 12


def test_a_loss_that_explodes_at_once(tmp_path: Path) -> None:
    """A rate that is far too high: the loss was 2.9, and would be thousands in the second step."""
    run = trainer(tmp_path / "run", lr=50.0, warmup=0, clip=0.0)
    message = diverged(run)
    assert re.search(r"in step 2: the loss is \d{3,}\.\d+ and was 2\.\d+ on average", message)


def test_without_the_limit_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(run: Trainer) -> None:
        run.model.norm.weight.data.mul_(300)

    run = trainer(tmp_path / "run", steps=16, spike=0.0)
    at_step(monkeypatch, 14, spoil, after=False)
    assert run.run()


def test_what_is_a_spike() -> None:
    spikes = Spikes(3.0)
    assert [spikes.above(9.0) for _ in range(9)] == [None] * 9
    assert spikes.above(17.9) is None  # too few to know
    assert spikes.above(99.0) == pytest.approx(9.9, abs=0.1)
    spikes = Spikes(3.0)
    assert spikes.above(99.0) is None  # there is nothing to compare it with
    spikes = Spikes(0.0)
    assert [spikes.above(loss) for loss in (1.0, 1e9)] == [None, None]
    spikes = Spikes(3.0)
    for n in range(200):
        assert spikes.above(2.0 + n % 2) is None
    assert spikes.above(5.4) is None
    assert spikes.above(5.6) == pytest.approx(2.5, abs=0.1)
    again = Spikes(3.0)
    again.load_state_dict(json.loads(json.dumps(spikes.state_dict())))
    assert again.recent == spikes.recent
    assert len(again.recent) == 100


# ---------------------------------------------------------------------------------- early stopping


def falling_then_rising(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(self: Trainer) -> dict[str, float]:
        return {"train_loss": 1.0, "val_loss": 2.0 + abs(self.step - 6)}

    monkeypatch.setattr(Trainer, "evaluate", evaluate)


def test_early_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations after 1, 2, 4, 6, 8, ...: two after the best, no more."""
    falling_then_rising(monkeypatch)
    out, lines = tmp_path / "run", []
    run = trainer(out, say=lines.append, steps=20, patience=2)
    assert run.run()
    assert run.step == 10
    assert [row["step"] for row in metrics(out)] == [1, 2, 4, 6, 8, 10]
    assert state(out, BEST)["header"]["facts"]["step"] == 6
    said = "stopped early after step 10: the 2 evaluations since step 6 found no better loss than 2"
    assert any(line.startswith(said) for line in lines)
    # It has ended: to go on, one needs more patience.
    again = trainer(out, resume=True, steps=20, patience=2)
    again.run()
    assert again.step == 10
    again = trainer(out, resume=True, steps=20, patience=3)
    again.run()
    assert again.step == 12


@pytest.mark.parametrize("at", [5, 7, 9])
def test_early_stopping_of_a_run_that_was_resumed(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience counts on where it was."""
    falling_then_rising(monkeypatch)
    trainer(tmp_path / "quiet", steps=20, patience=2).run()

    def die(run: Trainer) -> None:
        monkeypatch.setattr(Trainer, "train_step", real)
        run.save()
        raise SystemError

    real = Trainer.train_step
    at_step(monkeypatch, at, die, after=False)
    with pytest.raises(SystemError):
        trainer(tmp_path / "run", steps=20, patience=2).run()
    trainer(tmp_path / "run", resume=True, steps=20, patience=2).run()
    assert_same_run(tmp_path / "run", tmp_path / "quiet")


def test_no_patience_is_all_patience() -> None:
    patience = Patience(0)
    for step in range(100):
        patience.better(step, 1.0)
    assert not patience.exhausted


# ------------------------------------------------------------------- accumulation and recomputation


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_accumulation_is_the_large_batch(clip: float, tmp_path: Path) -> None:
    """The same windows, the same mean, the same clipping: the same numbers, but for rounding.

    Evaluations have another batch; the gradients and the weights are what is compared.
    """
    # A bias of the keys has no gradient but rounding, which AdamW makes as large as any other.
    same = {"dropout": 0.0, "clip": clip, "bias": False}
    trainer(tmp_path / "large", batch=6, **same).run()
    trainer(tmp_path / "small", batch=2, accumulate=3, **same).run()
    large, small = (metrics(tmp_path / name) for name in ("large", "small"))
    for a, b in zip(large, small, strict=True):
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)
        assert b["grad_norms"] == pytest.approx(a["grad_norms"], rel=1e-4)
    large, small = (checkpoint.read(tmp_path / name / CHECKPOINT)[1] for name in ("large", "small"))
    for name in large:
        if name.startswith("model."):
            np.testing.assert_allclose(small[name], large[name], rtol=1e-4, atol=1e-5)
    other = trainer(tmp_path / "other", batch=2, accumulate=1, **same)
    other.run()
    assert not np.allclose(
        other.model.norm.weight.detach().numpy(), large["model.norm.weight"], atol=1e-4
    )


def test_accumulated_losses_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's loss is the mean of its batches'; its tokens are all of them."""
    run = trainer(tmp_path / "run", batch=2, accumulate=3, dropout=0.0)
    x, y = (np.concatenate(parts) for parts in zip(*(run.batches.next() for _ in range(3))))
    run.batches = trainer(tmp_path / "other").batches
    with tensorgrad.no_grad():
        whole = run.model(tensorgrad.tensor(x), tensorgrad.tensor(y)).item()
    assert run.train_step()[0] == pytest.approx(whole, rel=1e-5)


def test_recomputation_changes_no_number(tmp_path: Path) -> None:
    """With dropout and accumulation, to the bit; and it can be switched on in the middle."""
    more = {"layers": 2, "accumulate": 2}
    trainer(tmp_path / "plain", **more).run()
    trainer(tmp_path / "run", recompute=True, **more).run()
    ours, theirs = (state(tmp_path / name) for name in ("run", "plain"))
    np.testing.assert_equal(ours, theirs)
    assert metrics(tmp_path / "run", but=TIMES) == metrics(tmp_path / "plain", but=TIMES)


def test_recomputation_saves_memory(tmp_path: Path) -> None:
    """As tracemalloc measures it, and as the user is told; the run goes on as if unmeasured."""
    lines: list[str] = []
    run = trainer(tmp_path / "run", say=lines.append, layers=4, context=64, batch=4, recompute=True)
    random = tensorgrad.get_rng_state().tolist()
    less, more = (peak_memory(run.model, 4, recompute) for recompute in (True, False))
    assert less < 0.6 * more
    assert tensorgrad.get_rng_state().tolist() == random
    assert run.model.recompute
    assert all(p.grad is None for p in run.model.parameters())
    run.run()
    (said,) = [line for line in lines if line.startswith("recompute: ")]
    assert re.search(r"a batch takes [\d.]+ MiB .* \d+% saved \(peaks measured with tracem", said)


def test_values_out_of_range() -> None:
    for change, complaint in (
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"patience": -1}, "patience must not be negative, not -1"),
        ({"spike": -1.0}, "spike must be a number of at least 0"),
        ({"spike": math.nan}, "spike must be a number of at least 0, not nan"),
    ):
        with pytest.raises(ValueError, match=complaint):
            dataclasses.replace(TINY, **change)
