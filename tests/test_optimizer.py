"""What optimizers have besides their formulas: states that go on elsewhere, groups, refusals."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from optimizers import OPTIMIZERS, adamw, grouped, parameters, plain, run, shapes_for, values

import tensorgrad
from tensorgrad import tensor
from tensorgrad.optim import SGD, Adam, AdamW, Lion, Muon, Optimizer

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
