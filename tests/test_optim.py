"""Optimizers against their formulas, written out once more in plain numbers."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import tensorgrad
from tensorgrad import tensor
from tensorgrad.optim import AdamW, LambdaLR, Optimizer, clip_grad_norm_, warmup_cosine

GROUPS = [{"lr": 0.05, "weight_decay": 0.3}, {"betas": (0.5, 0.9), "eps": 1e-3}]


def parameters(m, dtype="float64"):
    """Of several shapes, one of them not contiguous."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((3, 4), (), (5,), (2, 3))]
    made = [m.tensor(a, requires_grad=True) for a in arrays]
    made[3].data = made[3].data.T
    return made


def gradients(step, dtype="float64"):
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(s).astype(dtype) * 10 for s in ((3, 4), (), (5,), (3, 2))]


def give_gradients(m, ps, step, dtype="float64"):
    for k, (p, g) in enumerate(zip(ps, gradients(step, dtype), strict=True)):
        p.grad = None if k == 2 and step % 2 else m.tensor(g)  # one has none at every other step


def written_out(steps):
    """AdamW of Loshchilov & Hutter 2019, algorithm 2, element by element."""
    ps = [p.detach().numpy().copy() for p in parameters(tensorgrad)]
    options = [{**{"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}, **g}
               for g in (GROUPS[0], GROUPS[0], GROUPS[1], GROUPS[1])]  # fmt: skip
    m, v = ([np.zeros_like(p) for p in ps] for _ in range(2))
    t = [0] * 4
    for step in range(steps):
        for k, g in enumerate(gradients(step)):
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


def grouped(ps):
    return [{"params": ps[:2], **GROUPS[0]}, {"params": iter(ps[2:]), **GROUPS[1]}]


def trained(m, steps, dtype="float64", optimizer=None, ps=None, start=0):
    ps = ps or parameters(m, dtype)
    optimizer = optimizer or m.optim.AdamW(grouped(ps), lr=0.01, weight_decay=0.1)
    for step in range(start, steps):
        give_gradients(m, ps, step, dtype)
        optimizer.step()
    return ps, optimizer


def test_adamw_is_its_formula():
    for ours, expected in zip(trained(tensorgrad, 20)[0], written_out(20), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adamw_is_that_of_torch(torch, dtype):
    for ours, theirs in zip(trained(tensorgrad, 50, dtype)[0], trained(torch, 50, dtype)[0]):
        assert ours.dtype == dtype
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12}
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), **tolerance)


def test_adamw_is_the_same_in_blocks(monkeypatch):
    """Parameters larger than a block, whose length is no multiple of it."""
    results = []
    for block in (7, 10_000):
        monkeypatch.setattr("tensorgrad.optim._BLOCK", block)
        results.append([p.tolist() for p in trained(tensorgrad, 5)[0]])
    assert results[0] == results[1]


def test_state_dict_round_trip_continues_identically():
    ps, optimizer = trained(tensorgrad, 10)
    saved, values = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in ps]
    expected = [
        p.tolist() for p in trained(tensorgrad, 20, optimizer=optimizer, ps=ps, start=10)[0]
    ]
    fresh = [v.requires_grad_() for v in values]
    resumed = AdamW(grouped(fresh), lr=99.0)
    resumed.load_state_dict(saved)
    resumed.load_state_dict(resumed.state_dict())
    assert resumed.param_groups[1]["betas"] == (0.5, 0.9)
    trained(tensorgrad, 20, optimizer=resumed, ps=fresh, start=10)
    assert [p.tolist() for p in fresh] == expected
    before = saved["state"][0]["exp_avg"].tolist()
    trained(tensorgrad, 25, optimizer=resumed, ps=fresh, start=20)
    assert saved["state"][0]["exp_avg"].tolist() == before  # loading has copied


def test_a_state_for_other_groups_is_refused():
    _, optimizer = trained(tensorgrad, 1)
    other = AdamW([tensor(1.0, requires_grad=True)])
    with pytest.raises(ValueError, match=r"groups of sizes \[2, 2\], this optimizer \[1\]"):
        other.load_state_dict(optimizer.state_dict())


def test_zero_grad():
    x = tensor([1.0, 2.0], requires_grad=True)
    optimizer = AdamW([x])
    (x * x).sum().backward(create_graph=True)
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0.0, 0.0]
    assert not x.grad.requires_grad
    optimizer.zero_grad()
    assert x.grad is None
    optimizer.step()  # nothing to do
    assert x.tolist() == [1.0, 2.0]


def test_a_step_is_not_recorded():
    x = tensor([1.0], requires_grad=True)
    x.grad = tensor([1.0])
    AdamW([x]).step()
    assert x.is_leaf
    assert x.requires_grad
    assert tensorgrad.is_grad_enabled()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda x: AdamW([]), ValueError, "got no parameters"),
        (lambda x: AdamW(x), TypeError, "a list of tensors or of dicts, not one tensor"),
        (lambda x: AdamW([1.0]), TypeError, "updates tensors, not float"),
        (lambda x: AdamW([x * 2]), ValueError, "only update leaf tensors"),
        (lambda x: AdamW([x, x]), ValueError, "appears twice"),
        (lambda x: AdamW([{"params": x}, {"params": [x]}]), ValueError, "appears twice"),
        (lambda x: AdamW([x], lr=-1), ValueError, "lr=-1"),
        (lambda x: AdamW([x], betas=(1.0, 0.9)), ValueError, r"betas=\(1\.0, 0\.9\)"),
        (lambda x: AdamW([x], eps=-1e-8), ValueError, "must not be negative"),
    ],
)
def test_what_an_optimizer_refuses(make, kind, message):
    with pytest.raises(kind, match=message):
        make(tensor(1.0, requires_grad=True))


def test_an_optimizer_must_say_how_to_update():
    x = tensor(1.0, requires_grad=True)
    x.grad = tensor(1.0)
    with pytest.raises(NotImplementedError, match="Optimizer does not say how"):
        Optimizer([x], {"lr": 1}).step()


# --- schedules ------------------------------------------------------------------------------------


def test_warmup_and_cosine():
    factor = warmup_cosine(warmup=4, total=12, floor=0.1)
    found = [factor(step) for step in range(15)]
    line = [0.2, 0.4, 0.6, 0.8]
    curve = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert found == pytest.approx([*line, *curve, 0.1, 0.1, 0.1])
    assert warmup_cosine(0, 10)(0) == 1.0
    assert warmup_cosine(5, 5, 0.3)(5) == 0.3
    assert warmup_cosine(0, 2)(1) == pytest.approx(0.5)


def rates_of(m, factor, steps):
    ps = parameters(m)
    optimizer = m.optim.AdamW(grouped(ps), lr=0.01)
    schedule = (m.optim.lr_scheduler if m is not tensorgrad else m.optim).LambdaLR(
        optimizer, factor
    )
    rates = []
    for step in range(steps):
        rates.append((schedule.get_last_lr(), [g["lr"] for g in optimizer.param_groups]))
        give_gradients(m, ps, step)
        optimizer.step()
        schedule.step()
    return rates


def test_lambda_lr_scales_the_first_rates():
    rates = rates_of(tensorgrad, lambda step: 1 / (step + 1), 4)
    for step, (said, done) in enumerate(rates):
        assert said == done == [0.05 * (1 / (step + 1)), 0.01 * (1 / (step + 1))]


@pytest.mark.torch
def test_lambda_lr_is_that_of_torch(torch):
    factor = warmup_cosine(3, 8, 0.1)
    assert rates_of(tensorgrad, factor, 10) == rates_of(torch, factor, 10)


def test_a_schedule_resumes():
    factor = warmup_cosine(3, 8, 0.1)
    expected = rates_of(tensorgrad, factor, 8)
    _, optimizer = trained(tensorgrad, 1)
    schedule = LambdaLR(optimizer, factor)
    for _ in range(5):
        schedule.step()
    _, other = trained(tensorgrad, 1)
    resumed = LambdaLR(other, factor)
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.get_last_lr() == expected[5][0]
    resumed.step()
    assert [g["lr"] for g in other.param_groups] == expected[6][1]


# --- clipping -------------------------------------------------------------------------------------


def with_gradients(m, *arrays):
    ps = [m.tensor(np.zeros_like(a), requires_grad=True) for a in arrays]
    for p, a in zip(ps, arrays, strict=True):
        p.grad = m.tensor(a)
    return ps


@pytest.mark.parametrize("max_norm", [0.5, 13.0, 20.0])
def test_clipping(max_norm):
    ps = with_gradients(tensorgrad, np.array([3.0, 4.0]), np.array([[12.0]]))
    ps.append(tensor([1.0], requires_grad=True))  # without a gradient
    norm = clip_grad_norm_(iter(ps), max_norm)
    assert (norm.item(), norm.shape, norm.dtype) == (13.0, (), "float64")
    clipped = np.concatenate([p.grad.numpy().ravel() for p in ps[:2]])
    np.testing.assert_allclose(clipped, np.array([3, 4, 12]) * min(1, max_norm / 13), rtol=1e-6)
    assert ps[2].grad is None


def test_clipping_a_single_tensor_and_none():
    (p,) = with_gradients(tensorgrad, np.array([3.0, 4.0], np.float32))
    assert clip_grad_norm_(p, 1.0).item() == 5.0
    assert p.grad.numpy() == pytest.approx([0.6, 0.8])
    assert clip_grad_norm_([tensor(1.0, requires_grad=True)], 1.0).item() == 0.0
    assert clip_grad_norm_([], 1.0).item() == 0.0


def test_the_norm_is_exact_for_many_elements():
    """Added up in float32 throughout, a million equal squares lose the fifth digit."""
    rng = np.random.default_rng(0)
    arrays = [
        np.full(1_000_003, 0.1, np.float32),
        rng.standard_normal((1000, 700)).astype(np.float32),
        rng.standard_normal((700, 1000)).astype(np.float32).T,
        np.float32(1e15) * rng.standard_normal(10_000).astype(np.float32),
    ]
    for some in (arrays[:1], arrays[1:2], arrays[2:3], arrays[:3], arrays):
        exact = math.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in some))
        found = clip_grad_norm_(with_gradients(tensorgrad, *some), 1e30).item()
        assert found == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite(bad):
    arrays = np.array([1.0, bad]), np.array([2.0])
    with pytest.raises(RuntimeError, match=r"the norm of the gradients is (nan|inf)"):
        clip_grad_norm_(with_gradients(tensorgrad, *arrays), 1.0, error_if_nonfinite=True)
    ps = with_gradients(tensorgrad, *arrays)
    assert not math.isfinite(clip_grad_norm_(ps, 1.0).item())
    assert not all(np.isfinite(p.grad.numpy()).all() for p in ps)
    assert ps[1].grad.item() == 0 or np.isnan(ps[1].grad.item())  # none is left as it was


@pytest.mark.torch
@pytest.mark.parametrize(
    "values", [[3.0, 4.0], [0.1, 0.1], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]]
)
def test_clipping_is_that_of_torch(torch, values):
    results = []
    for m, clip in ((tensorgrad, clip_grad_norm_), (torch, torch.nn.utils.clip_grad_norm_)):
        ps = with_gradients(m, np.array(values), np.array([[2.0]]))
        norm = clip(ps, 1.5)
        results.append([norm.item(), *(p.grad.tolist() for p in ps)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
