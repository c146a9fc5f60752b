"""Learning-rate schedules: PyTorch's rates for 50 steps, and rates known in closed form.

The rates are compared as they are in the optimizers, of two groups, with those that the scheduler
says it has set, and for equality but for rounding.
"""

from __future__ import annotations

import copy
import math

import pytest

import tensorgrad
from tensorgrad.optim import SGD, AdamW, Lion, lr_scheduler
from tensorgrad.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
    warmup_cosine,
)

STEPS = 50


def optimizer_of(m, kind="SGD", **options):
    """With two groups of different rates."""
    ps = [m.tensor([1.0 * k], requires_grad=True) for k in range(3)]
    groups = [{"params": ps[:1], "lr": 0.3}, {"params": ps[1:]}]
    return getattr(m.optim, kind)(groups, lr=0.07, **options)


class Halves:
    """A function with a state of its own."""

    def __init__(self):
        self.calls = 0

    def __call__(self, epoch):
        self.calls += 1
        return 0.5 ** (epoch // 10)


def sequence(s, o):
    warmup = s.LinearLR(o, start_factor=0.1, total_iters=5)
    step = s.StepLR(o, 3, gamma=0.8)
    cosine = s.CosineAnnealingLR(o, T_max=20, eta_min=0.01)
    return s.SequentialLR(o, [warmup, step, cosine], milestones=[5, 15])


def every_kind_in_sequence(s, o):
    kinds = [
        s.ConstantLR(o, 0.5, total_iters=3),
        s.LambdaLR(o, lambda e: 1 / (1 + e)),
        s.MultiStepLR(o, [0, 2, 2, 4], gamma=0.7),
        s.ExponentialLR(o, 0.9),
        s.PolynomialLR(o, total_iters=4, power=2.0),
        s.CosineAnnealingWarmRestarts(o, 3),
        s.LinearLR(o, 0.25, 0.75, total_iters=4),
        s.MultiplicativeLR(o, lambda e: 0.95),
    ]
    return s.SequentialLR(o, kinds, milestones=list(range(6, 48, 6)))


# Each makes a scheduler from the module of schedulers and an optimizer of either library.
SCHEDULERS = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 1 / (epoch + 1)),
    "lambdas": lambda s, o: s.LambdaLR(o, [Halves(), lambda epoch: 0.95**epoch]),
    "warmup_cosine": lambda s, o: s.LambdaLR(o, warmup_cosine(5, 40, 0.1)),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.9 + 0.01 * (epoch % 3)),
    "multiplicatives": lambda s, o: s.MultiplicativeLR(o, [Halves(), lambda epoch: 0.95]),
    "step": lambda s, o: s.StepLR(o, 7, gamma=0.3),
    "multistep": lambda s, o: s.MultiStepLR(o, [30, 3, 12, 12], gamma=0.5),
    "constant": lambda s, o: s.ConstantLR(o),
    "constant 0.2": lambda s, o: s.ConstantLR(o, factor=0.2, total_iters=13),
    "linear": lambda s, o: s.LinearLR(o),
    "linear down": lambda s, o: s.LinearLR(o, 0.9, 0.1, total_iters=31),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.93),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=40, power=1.7),
    "polynomial 5": lambda s, o: s.PolynomialLR(o),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=11, eta_min=0.01),
    "cosine once": lambda s, o: s.CosineAnnealingLR(o, 50),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7, eta_min=0.01),
    "restarts longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2),
    "onecycle": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=50),
    "onecycle lists": lambda s, o: s.OneCycleLR(
        o, [0.5, 0.1], epochs=10, steps_per_epoch=6, base_momentum=[0.7, 0.8],
        max_momentum=[0.9, 0.99], div_factor=10.0, final_div_factor=100.0,
    ),
    "onecycle linear": lambda s, o: s.OneCycleLR(
        o, 0.5, 60, pct_start=0.2, anneal_strategy="linear", three_phase=True
    ),
    "onecycle without momentum": lambda s, o: s.OneCycleLR(o, 0.5, 55, cycle_momentum=False),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=8),
    "cyclic triangular2": lambda s, o: s.CyclicLR(
        o, [0.01, 0.02], [0.1, 0.3], 5, 9, mode="triangular2", base_momentum=[0.1, 0.2]
    ),
    "cyclic exp_range": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 6, mode="exp_range", gamma=0.97, cycle_momentum=False
    ),
    "cyclic of cycles": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 4, scale_fn=lambda x: 1 / x),
    "cyclic of steps": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 4, scale_fn=Halves(), scale_mode="iterations"
    ),
    "sequential": sequence,
    "sequential of all": every_kind_in_sequence,
    "chained": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 8), s.ExponentialLR(o, 0.97), s.MultiStepLR(o, [20, 30])]
    ),
    "chained cosine": lambda s, o: s.ChainedScheduler(
        [s.LinearLR(o, 0.2, total_iters=9), s.CosineAnnealingLR(o, 25)], o
    ),
}  # fmt: skip
every_scheduler = pytest.mark.parametrize("name", SCHEDULERS)


def module(m):
    return m.optim.lr_scheduler


def options(optimizer):
    """What a scheduler may change, of every group."""
    names = ("lr", "momentum", "betas", "initial_lr")
    return [[group.get(name) for name in names] for group in optimizer.param_groups]


def flat(values):
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flat(value)
        elif value is not None:
            yield float(value)


def history(optimizer, scheduler, steps=STEPS):
    """The rates and momenta of every step, and what the scheduler says."""
    found = []
    for _ in range(steps):
        said = list(scheduler.get_last_lr())
        assert said == [group["lr"] for group in optimizer.param_groups]
        found.append([*flat(options(optimizer)), *said])
        optimizer.step()
        scheduler.step()
    return found


def assert_close(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(yours, rel=1e-13, abs=1e-17)


# --- PyTorch's rates ------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@every_scheduler
def test_follows_torch(torch, name, kind):
    found = []
    for m in (tensorgrad, torch):
        optimizer = optimizer_of(m, kind, **({"momentum": 0.9} if kind == "SGD" else {}))
        found.append(history(optimizer, SCHEDULERS[name](module(m), optimizer)))
    assert_close(*found)
    assert len({tuple(row) for row in found[0]}) > 1  # something has changed


@pytest.mark.torch
@every_scheduler
def test_goes_on_with_a_state_of_torch(torch, name):
    """Saved by PyTorch after 20 steps, loaded here into new objects."""
    theirs = optimizer_of(torch, momentum=0.9)
    their_schedule = SCHEDULERS[name](module(torch), theirs)
    history(theirs, their_schedule, 20)
    ours = optimizer_of(tensorgrad, momentum=0.9)
    schedule = SCHEDULERS[name](lr_scheduler, ours)
    ours.load_state_dict(theirs.state_dict())
    schedule.load_state_dict(copy.deepcopy(their_schedule.state_dict()))
    assert_close(history(ours, schedule, 30), history(theirs, their_schedule, 30))


STEPPED = (
    "step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine", "lambda",
)  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
@pytest.mark.parametrize("name", STEPPED)
def test_jumps_as_torch_does(torch, name):
    found = []
    for m in (tensorgrad, torch):
        optimizer = optimizer_of(m)
        scheduler = SCHEDULERS[name](module(m), optimizer)
        optimizer.step()
        rates = []
        for epoch in (1, 5, 4, 12, None, 30, None):
            scheduler.step() if epoch is None else scheduler.step(epoch)
            rates.append([*scheduler.get_last_lr(), scheduler.last_epoch])
        found.append(rates)
    assert_close(*found)


@pytest.mark.torch
def test_restarts_at_fractions_of_epochs_as_torch_does(torch):
    found = []
    for m in (tensorgrad, torch):
        for ratio in (1, 2, 3):
            optimizer = optimizer_of(m)
            scheduler = module(m).CosineAnnealingWarmRestarts(optimizer, 4, ratio)
            optimizer.step()
            rates = []
            for epoch in (0.5, 3.75, 4, 4.25, 11.9, 12, 13, 2, 40.5, None, None):
                scheduler.step(epoch)
                rates.append([*scheduler.get_last_lr(), scheduler.last_epoch])
            found.append(rates)
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        assert_close(ours, theirs)


@pytest.mark.torch
@pytest.mark.parametrize("name", [*STEPPED, "multiplicative", "linear down", "restarts"])
def test_begins_in_the_middle_as_torch_does(torch, name):
    """With ``last_epoch``, and an optimizer whose groups know their first rate."""
    found = []
    for m in (tensorgrad, torch):
        optimizer = optimizer_of(m)
        for group in optimizer.param_groups:
            group["initial_lr"] = 2 * group["lr"]
        schedule = {
            "step": lambda s, o: s.StepLR(o, 7, 0.3, last_epoch=6),
            "multistep": lambda s, o: s.MultiStepLR(o, [7, 9], 0.3, last_epoch=6),
            "constant": lambda s, o: s.ConstantLR(o, 0.3, 9, last_epoch=6),
            "linear": lambda s, o: s.LinearLR(o, 0.3, total_iters=9, last_epoch=6),
            "linear down": lambda s, o: s.LinearLR(o, 0.3, 0.1, total_iters=9, last_epoch=6),
            "exponential": lambda s, o: s.ExponentialLR(o, 0.3, last_epoch=6),
            "polynomial": lambda s, o: s.PolynomialLR(o, 9, last_epoch=6),
            "cosine": lambda s, o: s.CosineAnnealingLR(o, 9, last_epoch=6),
            "lambda": lambda s, o: s.LambdaLR(o, lambda e: 1 / (1 + e), last_epoch=6),
            "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9, last_epoch=6),
            "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, last_epoch=6),
        }[name](module(m), optimizer)
        found.append(history(optimizer, schedule, 10))
    assert_close(*found)


METRICS = [3.0, 2.0, 2.1, 1.9999, 2.2, 2.0, 2.0, 1.0, 1.0, 1.1, 0.9995, 1.0, math.nan, 1.2, -1.0,
           -1.05, -1.0, -1.0, -1.0, -1.0, 5.0, 5.0, 5.0, 5.0, -2.0] * 2  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(
    "given",
    [
        {"patience": 2},
        {"patience": 0, "factor": 0.5, "cooldown": 2},
        {"mode": "max", "patience": 1, "factor": 0.7, "threshold": 0.1},
        {"patience": 1, "threshold": 0.06, "threshold_mode": "abs", "min_lr": 1e-3},
        {"mode": "max", "patience": 3, "threshold_mode": "abs", "min_lr": [1e-2, 0.0]},
        {"patience": 0, "factor": 0.9, "eps": 0.01},
    ],
)
def test_plateaus_are_those_of_torch(torch, given):
    found = []
    for m in (tensorgrad, torch):
        optimizer = optimizer_of(m)
        scheduler = module(m).ReduceLROnPlateau(optimizer, **given)
        rates = []
        for k, metric in enumerate(METRICS):
            scheduler.step(m.tensor(metric))
            rates.append([*scheduler.get_last_lr(), scheduler.num_bad_epochs, scheduler.best])
            if k == 30:
                fresh = module(m).ReduceLROnPlateau(optimizer, "min")
                fresh.load_state_dict(copy.deepcopy(scheduler.state_dict()))
                scheduler = fresh
        found.append(rates)
    assert_close(*found)
    assert found[0][0][:2] != found[0][-1][:2]


def error_of(make, m):
    optimizer = optimizer_of(m)
    with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)) as caught:
        make(module(m), optimizer)
    return caught.type


@pytest.mark.torch
@pytest.mark.parametrize(
    "make",
    [
        lambda s, o: s.StepLR(o.param_groups, 3),
        lambda s, o: s.StepLR(o, 3, last_epoch=2),
        lambda s, o: s.LambdaLR(o, [abs]),
        lambda s, o: s.MultiplicativeLR(o, 0.5),
        lambda s, o: s.ConstantLR(o, 1.5),
        lambda s, o: s.ConstantLR(o, -0.5),
        lambda s, o: s.LinearLR(o, 0.0),
        lambda s, o: s.LinearLR(o, 0.5, 1.5),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 0),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 1.5),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 0),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, eta_min="0"),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 3).step(-1),
        lambda s, o: s.OneCycleLR(o, 0.1),
        lambda s, o: s.OneCycleLR(o, 0.1, 0),
        lambda s, o: s.OneCycleLR(o, 0.1, epochs=0, steps_per_epoch=3),
        lambda s, o: s.OneCycleLR(o, 0.1, 10, pct_start=1),
        lambda s, o: s.OneCycleLR(o, 0.1, 10, anneal_strategy="other"),
        lambda s, o: s.OneCycleLR(o, [0.1], 10),
        lambda s, o: s.CyclicLR(o, [0.1], 0.2),
        lambda s, o: s.CyclicLR(o, 0.1, 0.2, mode="other"),
        lambda s, o: s.ReduceLROnPlateau(o, factor=1.0),
        lambda s, o: s.ReduceLROnPlateau(o, "other"),
        lambda s, o: s.ReduceLROnPlateau(o, threshold_mode="other"),
        lambda s, o: s.ReduceLROnPlateau(o, min_lr=[0.1]),
        lambda s, o: s.SequentialLR(o, [], []),
        lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3)], [5]),
        lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3), abs], [5]),
        lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3), s.ReduceLROnPlateau(o)], [5]),
        lambda s, o: s.SequentialLR(
            o, [s.StepLR(o, 3), s.StepLR(copy.deepcopy(o), 3)], milestones=[5]
        ),
        lambda s, o: s.ChainedScheduler([]),
        lambda s, o: s.ChainedScheduler([abs], o),
    ],
)
def test_refuses_what_torch_refuses(torch, make):
    assert error_of(make, tensorgrad) is error_of(make, torch)


# --- without PyTorch ------------------------------------------------------------------------------


def rates_of(make, steps, lr=1.0, optimizer=None):
    """Of one group."""
    optimizer = optimizer or SGD([tensorgrad.ones(1)], lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    return [row[0] for row in history(optimizer, scheduler, steps)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: StepLR(o, 2, 0.1), [1, 1, 0.1, 0.1, 0.01]),
        (lambda o: MultiStepLR(o, [1, 3], 0.1), [1, 0.1, 0.1, 0.01, 0.01]),
        (lambda o: ConstantLR(o, 0.5, 2), [0.5, 0.5, 1, 1]),
        (lambda o: LinearLR(o, 0.5, total_iters=4), [0.5, 0.625, 0.75, 0.875, 1, 1]),
        (lambda o: ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125]),
        (lambda o: PolynomialLR(o, 4, 2.0), [1, 9 / 16, 1 / 4, 1 / 16, 0, 0]),
        (lambda o: CosineAnnealingLR(o, 2), [1, 0.5, 0, 0.5, 1, 0.5]),
        (lambda o: CosineAnnealingWarmRestarts(o, 2), [1, 0.5, 1, 0.5, 1]),
        (lambda o: CyclicLR(o, 0.0, 1.0, 2, 1), [0, 0.5, 1, 0, 0.5]),
        (lambda o: OneCycleLR(o, 1.0, 8, pct_start=0.5), [0.04, 0.28, 0.76, 1.0]),
        (lambda o: LambdaLR(o, lambda epoch: epoch), [0, 1, 2, 3]),
    ],
)
def test_known_rates(make, expected):
    assert rates_of(make, len(expected)) == pytest.approx(expected, abs=1e-12)


def test_the_momentum_goes_the_other_way():
    optimizer = SGD([tensorgrad.ones(1)], lr=1.0, momentum=0.5)
    scheduler = CyclicLR(optimizer, 0.0, 1.0, 2, base_momentum=0.6, max_momentum=0.8)
    rows = history(optimizer, scheduler, 5)
    assert [row[1] for row in rows] == pytest.approx([0.8, 0.7, 0.6, 0.7, 0.8])
    adam = AdamW([tensorgrad.ones(1)])
    OneCycleLR(adam, 0.1, 10)
    assert adam.param_groups[0]["betas"] == (0.95, 0.999)
    with pytest.raises(ValueError, match="Adagrad has neither momentum nor betas"):
        OneCycleLR(tensorgrad.optim.Adagrad([tensorgrad.ones(1)]), 0.1, 10)


def test_warmup_and_cosine():
    factor = warmup_cosine(warmup=4, total=12, floor=0.1)
    found = [factor(step) for step in range(15)]
    line = [0.2, 0.4, 0.6, 0.8]
    curve = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert found == pytest.approx([*line, *curve, 0.1, 0.1, 0.1])
    assert warmup_cosine(0, 10)(0) == 1.0
    assert warmup_cosine(5, 5, 0.3)(5) == 0.3
    assert warmup_cosine(0, 2)(1) == pytest.approx(0.5)


@every_scheduler
def test_a_state_goes_on(name, tmp_path):
    """Through a file, into a new scheduler of a new optimizer."""
    optimizer = optimizer_of(tensorgrad, momentum=0.9)
    scheduler = SCHEDULERS[name](lr_scheduler, optimizer)
    history(optimizer, scheduler, 20)
    other = optimizer_of(tensorgrad, momentum=0.9)
    resumed = SCHEDULERS[name](lr_scheduler, other)
    both = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    tensorgrad.save(both, tmp_path / "both")
    both = tensorgrad.load(tmp_path / "both")
    other.load_state_dict(both["optimizer"])
    resumed.load_state_dict(both["scheduler"])
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert history(other, resumed, 30) == history(optimizer, scheduler, 30)


def test_a_state_holds_the_attributes_of_a_callable_object():
    optimizer = optimizer_of(tensorgrad)
    halves = Halves()
    scheduler = LambdaLR(optimizer, [halves, lambda epoch: 1.0])
    assert scheduler.state_dict()["lr_lambdas"] == [{"calls": 1}, None]
    scheduler.load_state_dict({**scheduler.state_dict(), "lr_lambdas": [{"calls": 7}, None]})
    assert halves.calls == 7
    assert scheduler.lr_lambdas[0] is halves


def test_schedulers_know_each_other_only_by_the_rates():
    """A rate set by hand counts from then on."""
    optimizer = SGD([tensorgrad.ones(1)], lr=1.0)
    scheduler = ExponentialLR(optimizer, 0.5)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 8.0
    scheduler.step()
    assert scheduler.get_last_lr() == [4.0]


def test_a_group_that_is_added_needs_a_new_plateau():
    optimizer = SGD([tensorgrad.ones(1)], lr=1.0)
    one = ReduceLROnPlateau(optimizer, patience=0, min_lr=0.25)
    other = ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.25])
    optimizer.add_param_group({"params": tensorgrad.ones(1), "lr": 2.0})
    for _ in range(2):
        one.step(1.0)
    assert one.get_last_lr() == [0.25, 0.25]
    other.step(1.0)
    with pytest.raises(RuntimeError, match="given for 1 parameter groups, and now there are 2"):
        other.step(1.0)


def test_a_scheduler_before_the_optimizer_is_noticed():
    scheduler = StepLR(SGD([tensorgrad.ones(1)]), 3)
    with pytest.warns(UserWarning, match=r"call optimizer\.step\(\) first"):
        scheduler.step()


def test_a_jump_is_deprecated():
    optimizer = SGD([tensorgrad.ones(1)], lr=1.0)
    scheduler = ExponentialLR(optimizer, 0.5)
    optimizer.step()
    with pytest.warns(UserWarning, match=r"step\(epoch\) is deprecated"):
        scheduler.step(3)
    assert scheduler.get_last_lr() == [0.125]


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda o: StepLR(3, 3), TypeError, "needs an Optimizer, not int"),
        (lambda o: StepLR(o, 3, last_epoch=4), KeyError, "'initial_lr' is missing"),
        (lambda o: LambdaLR(o, [abs]), ValueError, "1 values, and the optimizer 2 parameter gr"),
        (lambda o: LRScheduler(o), NotImplementedError, "LRScheduler has no rates"),
        (lambda o: OneCycleLR(o, 0.1), ValueError, "needs total_steps, or epochs and"),
        (
            lambda o: SequentialLR(o, [StepLR(o, 3), ReduceLROnPlateau(o)], [3]),
            ValueError,
            "number 1 is ReduceLROnPlateau",
        ),
        (
            lambda o: ChainedScheduler([StepLR(o, 3), StepLR(optimizer_of(tensorgrad), 3)]),
            ValueError,
            "number 1 belongs to another optimizer",
        ),
    ],
)
def test_what_a_scheduler_refuses(make, kind, message):
    with pytest.raises(kind, match=message):
        make(optimizer_of(tensorgrad))


def test_composed_schedulers_in_a_sequence():
    """PyTorch's are a step ahead of themselves there, and warn; these are not."""

    def nested(o):
        first = SequentialLR(o, [ConstantLR(o, 0.5, 9), ExponentialLR(o, 0.9)], milestones=[4])
        return SequentialLR(o, [first, StepLR(o, 5)], milestones=[12])

    def in_a_row(o):
        parts = [ConstantLR(o, 0.5, 9), ExponentialLR(o, 0.9), StepLR(o, 5)]
        return SequentialLR(o, parts, milestones=[4, 12])

    def chained(o):
        return ChainedScheduler([ConstantLR(o), ExponentialLR(o, 0.9)])

    assert rates_of(nested, 20) == rates_of(in_a_row, 20)
    found = rates_of(lambda o: SequentialLR(o, [chained(o), StepLR(o, 5)], [12]), 20)
    assert found == pytest.approx([*rates_of(chained, 12), *[1.0] * 5, *[0.1] * 3])


def test_a_composed_scheduler_comes_first():
    optimizer = Lion([tensorgrad.ones(1)])
    parts = [StepLR(optimizer, 3), ChainedScheduler([StepLR(optimizer, 3)])]
    scheduler = SequentialLR(optimizer, parts, milestones=[1])
    optimizer.step()
    with pytest.raises(NotImplementedError, match="ChainedScheduler cannot begin at a milestone"):
        scheduler.step()


def test_a_cycle_ends():
    optimizer = SGD([tensorgrad.ones(1)], lr=1.0, momentum=0.9)
    scheduler = OneCycleLR(optimizer, 0.1, 2)
    optimizer.step()
    scheduler.step()
    scheduler.step()
    with pytest.raises(ValueError, match="step 3 is after the end: the cycle has 2"):
        scheduler.step()
