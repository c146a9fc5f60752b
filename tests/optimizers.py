"""Optimizers of either library, and what they are run on: several shapes, gaps, two groups."""

from __future__ import annotations

import numpy as np
import pytest

GROUPS = [{"lr": 0.05, "weight_decay": 0.3}, {"betas": (0.5, 0.9), "eps": 1e-3}]
SHAPES = ((3, 4), (), (5,), (2, 3))
MATRICES = ((3, 4), (6, 2), (2, 2), (2, 3))


def parameters(m, dtype="float64", shapes=SHAPES):
    """Of several shapes, one of them not contiguous."""
    rng = np.random.default_rng(0)
    made = [
        m.tensor(rng.standard_normal(s), dtype=getattr(m, dtype), requires_grad=True)
        for s in shapes
    ]
    made[3].data = made[3].data.T
    return made


def gradients(ps, step):
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(tuple(p.shape)) * 10 for p in ps]


def give_gradients(m, ps, step):
    for k, (p, g) in enumerate(zip(ps, gradients(ps, step), strict=True)):
        # One has none at every other step.
        p.grad = None if k == 2 and step % 2 else m.tensor(g, dtype=p.dtype)


def of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def run(m, optimizer, steps):
    ps = of(optimizer)
    for step in steps:
        give_gradients(m, ps, step)
        optimizer.step()
    return ps


def values(ps):
    return [p.detach().numpy().copy() for p in ps]


def grouped(ps, first=None, second=None):
    """Two groups with options of their own."""
    first, second = (GROUPS[0], GROUPS[1]) if first is None else (first, second)
    return [{"params": ps[:2], **first}, {"params": iter(ps[2:]), **second}]


def adamw(m, ps):
    return m.optim.AdamW(grouped(ps), lr=0.01, weight_decay=0.1)


FASTER = {"lr": 0.1}, {}

# Each makes an optimizer of either library.
OPTIMIZERS = {
    "sgd": lambda m, ps: m.optim.SGD(grouped(ps, *FASTER)),
    "sgd momentum": lambda m, ps: m.optim.SGD(ps, 0.1, 0.9),
    "sgd dampening": lambda m, ps: m.optim.SGD(
        grouped(ps, {"momentum": 0.5}, {"dampening": 0.3}), lr=0.1, momentum=0.9, dampening=0.1
    ),
    "sgd nesterov": lambda m, ps: m.optim.SGD(
        ps, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "sgd maximize": lambda m, ps: m.optim.SGD(
        ps, lr=0.1, momentum=0.9, weight_decay=0.1, maximize=True
    ),
    "rmsprop": lambda m, ps: m.optim.RMSprop(grouped(ps, *FASTER)),
    "rmsprop momentum": lambda m, ps: m.optim.RMSprop(
        ps, 0.02, 0.9, 1e-6, weight_decay=0.1, momentum=0.8
    ),
    "rmsprop centered": lambda m, ps: m.optim.RMSprop(
        grouped(ps, {"alpha": 0.9}, {"eps": 1e-2, "momentum": 0.5}), centered=True
    ),
    "rmsprop maximize": lambda m, ps: m.optim.RMSprop(
        ps, centered=True, momentum=0.5, weight_decay=0.2, maximize=True
    ),
    "adagrad": lambda m, ps: m.optim.Adagrad(grouped(ps, *FASTER)),
    "adagrad decay": lambda m, ps: m.optim.Adagrad(ps, 0.1, 0.05, 0.1, 0.5, 1e-3),
    "adagrad maximize": lambda m, ps: m.optim.Adagrad(ps, weight_decay=0.1, maximize=True),
    "adam": lambda m, ps: m.optim.Adam(grouped(ps), lr=0.01),
    "adam decay": lambda m, ps: m.optim.Adam(ps, 0.01, (0.8, 0.99), 1e-6, 0.2),
    "adam amsgrad": lambda m, ps: m.optim.Adam(ps, 0.01, (0.8, 0.9), 1e-6, 0.2, True),
    "adam maximize": lambda m, ps: m.optim.Adam(ps, 0.01, weight_decay=0.2, maximize=True),
    "adam decoupled": lambda m, ps: m.optim.Adam(
        ps, 0.01, weight_decay=0.2, decoupled_weight_decay=True
    ),
    # PyTorch 2.13's mixes up the elements of parameters that are not contiguous.
    "adam fused": lambda m, ps: m.optim.Adam(ps[:3], 0.01, fused=True),
    "adam foreach": lambda m, ps: m.optim.Adam(ps, 0.01, foreach=True),
    "adamw": adamw,
    "adamw amsgrad": lambda m, ps: m.optim.AdamW(
        grouped(ps, {}, {"betas": (0.3, 0.4)}), 0.01, amsgrad=True, maximize=True
    ),
    "muon": lambda m, ps: m.optim.Muon(grouped(ps, {"lr": 0.1}, {"nesterov": False})),
    "muon original": lambda m, ps: m.optim.Muon(
        ps, 0.1, 0.3, 0.8, ns_steps=3, adjust_lr_fn="original"
    ),
    "muon adamw": lambda m, ps: m.optim.Muon(
        ps, 0.1, ns_coefficients=(2, -1.5, 0.5), eps=1e-3, adjust_lr_fn="match_rms_adamw"
    ),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def shapes_for(name):
    return MATRICES if name.startswith("muon") else SHAPES


def plain(value):
    """A state with the dtypes and shapes of its tensors in their places."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if hasattr(value, "detach"):
        return str(value.dtype).rpartition(".")[2], tuple(value.shape)
    return value
