"""Optimizers against PyTorch's, and against their formulas, written out once more.

Each optimizer runs for 50 steps on the same gradients in both libraries; what it changes and what
it remembers must agree. AdamW, Lion and Muon are also compared with the papers' formulas.
"""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import tensorgrad
from tensorgrad import tensor
from tensorgrad.optim import SGD, Adagrad, Adam, AdamW, Lion, Muon, Optimizer, RMSprop
from tensorgrad.optim.muon import orthogonalized

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


# --- PyTorch's numbers ----------------------------------------------------------------------------

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


def plain(value):
    """A state with the dtypes and shapes of its tensors in their places."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if hasattr(value, "detach"):
        return str(value.dtype).rpartition(".")[2], tuple(value.shape)
    return value


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


# --- states ---------------------------------------------------------------------------------------

WITH_LION = {**OPTIMIZERS, "lion": lambda m, ps: Lion(grouped(ps, {"lr": 0.1}, {}))}


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
@pytest.mark.parametrize("name", WITH_LION)
def test_state_dict_round_trip_continues_identically(name, way, tmp_path):
    optimizer = WITH_LION[name](tensorgrad, parameters(tensorgrad, shapes=shapes_for(name)))
    ps = run(tensorgrad, optimizer, range(10))
    if way == "copy":
        saved = copy.deepcopy(optimizer.state_dict())
    elif way == "pickle":
        saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    else:
        tensorgrad.save(optimizer.state_dict(), tmp_path / "state")
        saved = tensorgrad.load(tmp_path / "state")
    fresh = [p.detach().clone().requires_grad_() for p in ps]
    expected = values(run(tensorgrad, optimizer, range(10, 20)))
    resumed = WITH_LION[name](tensorgrad, fresh)
    for group in resumed.param_groups:
        group["lr"] = 99.0
    resumed.load_state_dict(saved)
    resumed.load_state_dict(resumed.state_dict())
    before = copy.deepcopy(saved)
    found = values(run(tensorgrad, resumed, range(10, 20)))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    for i, fields in before["state"].items():  # loading has copied
        for key, value in fields.items():
            assert saved["state"][i][key].tolist() == value.tolist()


def test_a_loaded_state_has_the_dtype_of_its_parameter():
    wide, narrow = (adamw(tensorgrad, parameters(tensorgrad, t)) for t in ("float64", "float32"))
    run(tensorgrad, wide, range(3))
    narrow.load_state_dict(wide.state_dict())
    for p, fields in narrow.state.items():
        assert fields["exp_avg"].dtype == p.dtype == "float32"
        assert fields["step"].item() == (2 if p.shape == (5,) else 3)


def test_steps_may_be_plain_numbers_and_keys_strings():
    """As JSON has them."""
    one, other = (adamw(tensorgrad, parameters(tensorgrad)) for _ in range(2))
    run(tensorgrad, one, range(4))
    state = one.state_dict()
    changed = {str(i): {**s, "step": int(s["step"].item())} for i, s in state["state"].items()}
    other.load_state_dict({**state, "state": changed})
    assert plain(other.state_dict()["state"]) == plain(state["state"])
    assert [s["step"].item() for s in other.state.values()] == [4, 4, 2, 4]


def test_options_that_a_state_does_not_name_are_the_defaults():
    x = tensor([1.0], requires_grad=True)
    optimizer = SGD([{"params": [x], "lr": 3.0, "momentum": 0.5}], momentum=0.9)
    optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0], "lr": 2.0}]})
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["params"][0] is x) == (2.0, 0.9, True)


def test_a_state_of_adam_leaves_adamw_what_it_is():
    x = tensor([1.0], requires_grad=True)
    optimizer = AdamW([x])
    optimizer.load_state_dict(Adam([x], weight_decay=0.5).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


def test_states_that_do_not_fit():
    optimizer = adamw(tensorgrad, parameters(tensorgrad))
    run(tensorgrad, optimizer, range(1))
    state = optimizer.state_dict()
    x = tensor([[1.0] * 3] * 4, requires_grad=True)
    other = AdamW([x])
    with pytest.raises(ValueError, match=r"groups of sizes \[2, 2\], this optimizer \[1\]"):
        other.load_state_dict(state)
    groups = other.state_dict()["param_groups"]
    with pytest.raises(ValueError, match="of a parameter 7, which is in no group"):
        other.load_state_dict({"state": {7: state["state"][0]}, "param_groups": groups})
    other.load_state_dict({"state": {0: state["state"][0]}, "param_groups": groups})
    x.grad = x.detach()
    with pytest.raises(RuntimeError, match=r"'exp_avg' of shape \(3, 4\) .* shape \(4, 3\)"):
        other.step()


# --- the rest of the interface --------------------------------------------------------------------


def test_groups_can_be_added():
    x, y = (tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = SGD([x], lr=1.0)
    given = {"params": y, "lr": 0.5}
    optimizer.add_param_group(given)
    assert given == {"params": y, "lr": 0.5}  # the caller's dict stays as it is
    for p in (x, y):
        p.grad = tensor([1.0])
    optimizer.step()
    assert (x.item(), y.item()) == (0.0, 0.5)
    with pytest.raises(ValueError, match="appears twice"):
        optimizer.add_param_group({"params": [x]})


def test_named_parameters():
    import nn

    layer = nn.Linear(2, 1)
    optimizer = SGD(layer.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["params"] == list(layer.parameters())
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    unnamed = SGD(layer.parameters()).state_dict()
    optimizer.load_state_dict(unnamed)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


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
    assert optimizer.state_dict()["state"] == {}


def test_a_step_is_not_recorded():
    x = tensor([1.0], requires_grad=True)
    x.grad = tensor([1.0])
    assert AdamW([x]).step() is None
    assert x.is_leaf
    assert x.requires_grad
    assert tensorgrad.is_grad_enabled()


def test_a_closure_computes_the_gradients():
    x = tensor([3.0], requires_grad=True)
    optimizer = SGD([x], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with tensorgrad.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert x.item() == 0.0


def test_a_step_spoils_what_a_graph_has_saved():
    x = tensor([3.0], requires_grad=True)
    loss = (x * x).sum()
    x.grad = tensor([1.0])
    SGD([x]).step()
    with pytest.raises(RuntimeError, match=r"SGD\.step"):
        loss.backward()


def test_repr_lists_the_options():
    x = tensor([1.0], requires_grad=True)
    text = repr(Lion([x], lr=0.5))
    assert text.startswith("Lion (\nParameter Group 0\n    betas: (0.9, 0.99)\n")
    assert "    lr: 0.5\n" in text


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda x: AdamW([]), ValueError, "got no parameters"),
        (lambda x: AdamW(x), TypeError, "a list of tensors or of dicts, not one tensor"),
        (lambda x: AdamW([1.0]), TypeError, "updates tensors, not float"),
        (lambda x: AdamW([x * 2]), ValueError, "only update leaf tensors"),
        (lambda x: AdamW([x, x]), ValueError, "appears twice"),
        (lambda x: AdamW([{"params": x}, {"params": [x]}]), ValueError, "appears twice"),
        (lambda x: AdamW([x], lr=-1), ValueError, "AdamW: lr must not be negative, got lr=-1"),
        (lambda x: AdamW([x], betas=(1.0, 0.9)), ValueError, r"betas=\(1\.0, 0\.9\)"),
        (lambda x: AdamW([x], eps=-1e-8), ValueError, "must not be negative"),
        (lambda x: Lion([x], betas=(0.9, 1.0)), ValueError, "Lion: betas must lie in"),
        (lambda x: Lion([x], lr=math.nan), ValueError, "lr=nan"),
        (lambda x: SGD([x], lr=tensor(0.1)), TypeError, "the option lr cannot be a tensor"),
        (lambda x: Adam([x], betas=(tensor(0.1), 0.9)), TypeError, "betas cannot be a tensor"),
        (lambda x: Adam([x], capturable=True), RuntimeError, "capturable is for CUDA graphs"),
        (lambda x: SGD([x], differentiable=True), NotImplementedError, "not recorded"),
        (lambda x: SGD([x], nesterov=True), ValueError, "nesterov needs a momentum above 0"),
        (lambda x: Muon([x]), ValueError, r"of shape \(\) is no matrix"),
        (lambda x: Muon([x.reshape(1, 1).detach()], ns_steps=100), ValueError, "less than 100"),
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
