"""Optimizers against PyTorch's, and against their formulas, written out once more.

Each optimizer runs for 50 steps on the same gradients in both libraries; what it changes and what
it remembers must agree. AdamW, Lion and Muon are also compared with the papers' formulas.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from optimizers import (
    GROUPS,
    MATRICES,
    OPTIMIZERS,
    adamw,
    every_optimizer,
    gradients,
    of,
    parameters,
    plain,
    run,
    shapes_for,
    values,
)

import tensorgrad
from tensorgrad import tensor
from tensorgrad.optim import SGD, Adagrad, Adam, Lion, Muon, RMSprop
from tensorgrad.optim.muon import orthogonalized

# --- PyTorch's numbers ----------------------------------------------------------------------------


@pytest.fixture
def precise(torch, monkeypatch):
    """PyTorch, with Muon in the dtype of the parameters instead of bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    return torch


def both(torch, name, steps, dtype="float64"):
    made = []
    for m in (tensorgrad, torch):
        optimizer = OPTIMIZERS[name](m, parameters(m, dtype, shapes_for(name)))
        run(m, optimizer, range(steps))
        made.append(optimizer)
    return made


def assert_equal(ours, theirs, dtype="float64"):
    """The parameters of two optimizers."""
    tolerance = {"rtol": 1e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-11}
    for mine, yours in zip(of(ours), of(theirs), strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine.detach().numpy(), yours.detach().numpy(), **tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_follows_torch(precise, name, dtype):
    assert_equal(*both(precise, name, 50, dtype), dtype)


@pytest.mark.torch
@every_optimizer
def test_the_state_is_laid_out_as_that_of_torch(precise, name):
    """Names, dtypes, shapes and options; and the values, to rounding."""
    ours, theirs = (optimizer.state_dict() for optimizer in both(precise, name, 7))
    assert plain(ours["state"]) == plain(theirs["state"])
    assert ours["param_groups"] == theirs["param_groups"]
    for i, fields in theirs["state"].items():
        for key, value in fields.items():
            found = ours["state"][i][key].numpy()
            np.testing.assert_allclose(found, value.numpy(), rtol=1e-11, atol=1e-14)


def converted(value, tensor_type, make):
    """A state with the tensors of one library made into those of the other."""
    if isinstance(value, dict):
        return {k: converted(v, tensor_type, make) for k, v in value.items()}
    return make(value.numpy()) if isinstance(value, tensor_type) else value


@pytest.mark.torch
@every_optimizer
def test_a_state_of_torch_is_continued(precise, name):
    torch = precise
    _, theirs = both(torch, name, 20)
    state = converted(theirs.state_dict(), torch.Tensor, tensorgrad.tensor)
    ps = [tensorgrad.tensor(v, requires_grad=True) for v in values(of(theirs))]
    ours = OPTIMIZERS[name](tensorgrad, ps)
    ours.load_state_dict(state)
    run(tensorgrad, ours, range(20, 50))
    run(torch, theirs, range(20, 50))
    assert_equal(ours, theirs)


@pytest.mark.torch
@every_optimizer
def test_torch_continues_a_state_of_ours(precise, name):
    torch = precise
    ours, _ = both(torch, name, 20)
    state = converted(ours.state_dict(), tensorgrad.Tensor, torch.tensor)
    ps = [torch.tensor(v, requires_grad=True) for v in values(of(ours))]
    theirs = OPTIMIZERS[name](torch, ps)
    theirs.load_state_dict(state)
    run(tensorgrad, ours, range(20, 50))
    run(torch, theirs, range(20, 50))
    assert_equal(ours, theirs)


@pytest.mark.torch
def test_muon_is_near_torch_in_bfloat16(torch):
    """PyTorch's as it is: the rounding on the way shows in the second or third digit of a step."""
    ours, theirs = both(torch, "muon original", 5)
    start = parameters(tensorgrad, shapes=MATRICES)
    for p, q, s in zip(of(ours), of(theirs), start, strict=True):
        moved = np.abs(q.detach().numpy() - s.detach().numpy()).max()
        assert np.abs(p.detach().numpy() - q.detach().numpy()).max() < 0.03 * moved


@pytest.mark.torch
@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: m.optim.SGD([x], lr=-1),
        lambda m, x: m.optim.SGD([x], momentum=-1),
        lambda m, x: m.optim.SGD([x], weight_decay=-1),
        lambda m, x: m.optim.SGD([x], nesterov=True),
        lambda m, x: m.optim.SGD([x], momentum=0.9, dampening=0.1, nesterov=True),
        lambda m, x: m.optim.SGD([x], fused=True, foreach=True),
        lambda m, x: m.optim.SGD([x], fused=True, differentiable=True),
        lambda m, x: m.optim.RMSprop([x], alpha=-0.1),
        lambda m, x: m.optim.RMSprop([x], lr=math.nan),
        lambda m, x: m.optim.RMSprop([x], eps=-1),
        lambda m, x: m.optim.RMSprop([x], momentum=-1),
        lambda m, x: m.optim.Adagrad([x], lr_decay=-1),
        lambda m, x: m.optim.Adagrad([x], initial_accumulator_value=-1),
        lambda m, x: m.optim.Adam([x], betas=(1.0, 0.9)),
        lambda m, x: m.optim.Adam([x], betas=(0.9, -0.1)),
        lambda m, x: m.optim.Adam([x], fused=True, foreach=True),
        lambda m, x: m.optim.AdamW([x], eps=-1),
        lambda m, x: m.optim.AdamW([x], weight_decay=-1),
        lambda m, x: m.optim.Muon([x]),
        lambda m, x: m.optim.Muon([x[:, None].detach()], adjust_lr_fn="other"),
        lambda m, x: m.optim.Muon([x[:, None].detach()], momentum=-1),
        lambda m, x: m.optim.SGD([]),
        lambda m, x: m.optim.SGD(x),
        lambda m, x: m.optim.SGD([1.0]),
        lambda m, x: m.optim.SGD([x * 2]),
        lambda m, x: m.optim.SGD([{"params": {x}}]),
        lambda m, x: m.optim.SGD([{"params": x}, {"params": [x]}]),
        lambda m, x: m.optim.SGD([{"parameters": x}]),
        lambda m, x: m.optim.SGD([("x", x), x.detach()]),
        lambda m, x: m.optim.SGD([{"params": [("x", x)]}, {"params": [x.detach()]}]),
        lambda m, x: m.optim.SGD([x]).add_param_group([x]),
        lambda m, x: m.optim.SGD([x]).load_state_dict(m.optim.SGD([x, x.detach()]).state_dict()),
        lambda m, x: m.optim.SGD([x]).load_state_dict(
            m.optim.SGD([{"params": [x]}, {"params": [x.detach()]}]).state_dict()
        ),
    ],
)
def test_refuses_what_torch_refuses(torch, make):
    kinds = []
    for m in (tensorgrad, torch):
        with pytest.raises((ValueError, TypeError, RuntimeError, KeyError)) as caught:
            make(m, m.tensor([1.0, 2.0], requires_grad=True))
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]


# --- formulas written out -------------------------------------------------------------------------


def adamw_written_out(steps):
    """AdamW of Loshchilov & Hutter 2019, algorithm 2, element by element."""
    given = parameters(tensorgrad)
    ps = values(given)
    options = [{**{"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}, **g}
               for g in (GROUPS[0], GROUPS[0], GROUPS[1], GROUPS[1])]  # fmt: skip
    m, v = ([np.zeros_like(p) for p in ps] for _ in range(2))
    t = [0] * 4
    for step in range(steps):
        for k, g in enumerate(gradients(given, step)):
            if k == 2 and step % 2:
                continue
            o, t[k] = options[k], t[k] + 1
            (b1, b2) = o["betas"]
            for i in np.ndindex(ps[k].shape):
                m[k][i] = b1 * m[k][i] + (1 - b1) * g[i]
                v[k][i] = b2 * v[k][i] + (1 - b2) * g[i] ** 2
                m_hat, v_hat = m[k][i] / (1 - b1 ** t[k]), v[k][i] / (1 - b2 ** t[k])
                ps[k][i] -= o["lr"] * o["weight_decay"] * ps[k][i]
                ps[k][i] -= o["lr"] * m_hat / (math.sqrt(v_hat) + o["eps"])
    return ps


def test_adamw_is_its_formula():
    found = run(tensorgrad, adamw(tensorgrad, parameters(tensorgrad)), range(20))
    for ours, expected in zip(found, adamw_written_out(20), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_lion_is_its_formula(dtype, tolerance, maximize):
    """Algorithm 2 of Chen et al. 2023 in plain numbers of float64."""
    lr, beta1, beta2, decay = 0.03, 0.7, 0.9, 0.2
    ps = parameters(tensorgrad, dtype)
    expected = [v.astype(np.float64) for v in values(ps)]
    m = [np.zeros_like(w) for w in expected]
    optimizer = Lion(ps, lr, (beta1, beta2), decay, maximize=maximize)
    run(tensorgrad, optimizer, range(50))
    for step in range(50):
        for k, g in enumerate(gradients(ps, step)):
            if k == 2 and step % 2:
                continue
            g = -g if maximize else g
            update = np.where(beta1 * m[k] + (1 - beta1) * g > 0, 1.0, -1.0)
            expected[k] = expected[k] - lr * (update + decay * expected[k])
            m[k] = beta2 * m[k] + (1 - beta2) * g
    for p, w in zip(ps, expected, strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=tolerance, atol=tolerance)


def test_lion_stands_still_without_a_gradient_or_momentum():
    x = tensor([1.0, -2.0, 3.0], requires_grad=True)
    x.grad = tensor([0.0, 5.0, -0.1])
    Lion([x], lr=0.5).step()
    assert x.tolist() == [1.0, -2.5, 3.5]


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_orthogonalized_moves_singular_values_towards_1(shape):
    """The iteration is a polynomial of each singular value, and leaves the vectors alone."""
    matrix = np.random.default_rng(0).standard_normal(shape)
    a, b, c = 3.4445, -4.7750, 2.0315
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    assert ((s > 0.6) & (s < 1.3)).all()
    found = orthogonalized(matrix, (a, b, c), 5, 1e-7)
    np.testing.assert_allclose(found, u * s @ vt, rtol=1e-9, atol=1e-12)
    assert not orthogonalized(0 * matrix, (a, b, c), 5, 1e-7).any()


def test_muon_is_its_formula():
    p = parameters(tensorgrad, shapes=MATRICES)[1]  # [6, 2]
    (w,), m = values([p]), 0
    optimizer = Muon([p], lr=0.1, weight_decay=0.2, momentum=0.9)
    for step in range(50):
        g = np.random.default_rng(step).standard_normal(p.shape)
        p.grad = tensorgrad.tensor(g)
        optimizer.step()
        m = 0.9 * m + 0.1 * g
        u, s, vt = np.linalg.svd(0.1 * g + 0.9 * m, full_matrices=False)
        s = s / np.linalg.norm(s)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        w = w * (1 - 0.1 * 0.2) - 0.1 * math.sqrt(3) * (u * s @ vt)
    np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: SGD([p], lr=0.5), [-2.0]),
        (lambda p: SGD([p], lr=0.5, momentum=0.5), [-2.75]),
        (lambda p: SGD([p], lr=0.5, momentum=0.5, nesterov=True), [-3.875]),
        (lambda p: SGD([p], lr=0.5, weight_decay=0.5), [-2.0625]),
        (lambda p: SGD([p], lr=0.5, maximize=True), [4.0]),
        (lambda p: RMSprop([p], lr=1.0, alpha=0.0, eps=0.0), [-1.0]),
        (lambda p: Adagrad([p], lr=1.0, eps=0.0), [1 - 1 - math.sqrt(0.5)]),
        (lambda p: Adam([p], lr=0.25, betas=(0.0, 0.0), eps=0.0), [0.5]),
    ],
)
def test_two_steps_in_the_head(make, expected):
    """A parameter 1 with the gradient 3, twice."""
    p = tensor([1.0], requires_grad=True)
    optimizer = make(p)
    for _ in range(2):
        p.grad = tensor([3.0])
        optimizer.step()
    assert p.tolist() == pytest.approx(expected)
    assert p.grad.tolist() == [3.0]


@every_optimizer
def test_is_the_same_in_blocks(name, monkeypatch):
    """Parameters larger than a block, whose length is no multiple of it."""
    results = []
    for block in (7, 10_000):
        monkeypatch.setattr("tensorgrad.optim.optimizer.BLOCK", block)
        optimizer = OPTIMIZERS[name](tensorgrad, parameters(tensorgrad, shapes=shapes_for(name)))
        results.append([p.tolist() for p in run(tensorgrad, optimizer, range(5))])
    assert results[0] == results[1]
