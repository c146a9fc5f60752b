"""The containers: the same program on tensorgrad and on PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nn
import nn.functional as F
import tensorgrad
import tensorgrad.nn


def names(module: Any) -> list[str]:
    return [name for name, _ in module.named_parameters()]


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
def test_numbered_modules_are_lists(lib: ModuleType, kind: str) -> None:
    a, b, c, d = (lib.nn.Linear(1, 1, bias=False) for _ in range(4))
    modules = lib.nn.Sequential(a, b) if kind == "Sequential" else lib.nn.ModuleList([a, b])
    assert modules.append(c) is modules
    modules.insert(1, d)
    assert list(modules) == [a, d, b, c]
    assert list(modules.state_dict()) == ["0.weight", "1.weight", "2.weight", "3.weight"]
    assert modules[-1] is c
    assert modules[1] is d
    assert type(modules[1:3]) is type(modules)
    assert list(modules[1:3]) == [d, b]
    assert modules.pop(1) is d
    del modules[0]
    assert list(modules) == [b, c]
    assert list(modules.state_dict()) == ["0.weight", "1.weight"]
    modules[0] = a
    assert list(modules) == [a, c]
    assert list(modules.extend([b])) == [a, c, b]
    assert list(modules + type(modules)(*([d] if kind == "Sequential" else [[d]]))) == [a, c, b, d]
    assert len(modules) == 3
    modules += [d] if kind == "ModuleList" else lib.nn.Sequential(d)
    assert list(modules) == [a, c, b, d]
    for index in (4, -5):
        with pytest.raises(IndexError):
            modules[index]
    with pytest.raises(TypeError):
        modules.append("a")


def test_sequential_with_names(lib: ModuleType) -> None:
    layers = OrderedDict(first=lib.nn.Linear(2, 3), then=lib.nn.ReLU(), last=lib.nn.Linear(3, 1))
    model = lib.nn.Sequential(layers)
    assert names(model) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert model(lib.ones(4, 2)).shape == (4, 1)
    assert model.first is model[0]
    assert names(model[1:]) == ["last.weight", "last.bias"]


def test_module_dict(lib: ModuleType) -> None:
    a, b, c = (lib.nn.Linear(1, 1, bias=False) for _ in range(3))
    modules = lib.nn.ModuleDict({"a": a})
    modules["b"] = b
    modules.update({"a": c})
    assert names(modules) == ["a.weight", "b.weight"]
    assert dict(modules.items()) == {"a": c, "b": b}
    assert list(modules) == list(modules.keys()) == ["a", "b"]
    assert list(modules.values()) == [c, b]
    assert "a" in modules
    assert "c" not in modules
    assert modules.pop("a") is c
    del modules["b"]
    assert len(modules) == 0
    with pytest.raises(KeyError):
        modules["b"]
    with pytest.raises(TypeError):
        modules["b"] = 1
    modules["d"] = a
    modules.clear()
    assert not list(modules)


def test_parameter_list_and_dict(lib: ModuleType) -> None:
    one, two = lib.nn.Parameter(lib.ones(2)), lib.zeros(3)
    values = lib.nn.ParameterList([one])
    values.append(two)
    assert names(values) == ["0", "1"]
    assert values[0] is one
    assert isinstance(values[-1], lib.nn.Parameter)
    assert len(values) == 2
    values[1] = lib.nn.Parameter(lib.ones(1))
    values += [lib.nn.Parameter(lib.ones(4))]
    assert [tuple(p.shape) for p in values] == [(2,), (1,), (4,)]
    assert [tuple(p.shape) for p in values[1:]] == [(1,), (4,)]
    with pytest.raises(IndexError):
        values[3]
    named = lib.nn.ParameterDict({"a": one})
    named["b"] = two
    assert names(named) == ["a", "b"]
    assert isinstance(named["b"], lib.nn.Parameter)
    assert named.pop("a") is one
    assert list(named.keys()) == ["b"]
    assert "b" in named


def test_equal_neighbours_are_printed_once() -> None:
    layers = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.GELU(), nn.ReLU()])
    assert repr(layers) == (
        "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): GELU(approximate='none')\n  (3): ReLU()\n)"
    )
    assert repr(nn.ParameterList([tensorgrad.zeros(2, 3)])) == (
        "ParameterList(\n    (0): Parameter containing: [tensorgrad.float32 of size 2x3]\n)"
    )
    assert repr(nn.ParameterDict()) == "ParameterDict()"


# --- finding members ------------------------------------------------------------------------------


def model(lib: ModuleType) -> Any:
    net = lib.nn.Sequential(lib.nn.Linear(2, 2), lib.nn.Sequential(lib.nn.Linear(2, 1)))
    net.shared = net[0]
    net[1].register_buffer("seen", lib.zeros(1))
    return net


def test_names_with_a_prefix_of_this_module_only_or_with_repetitions(lib: ModuleType) -> None:
    net = model(lib)
    own = ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert names(net) == own
    assert [n for n, _ in net.named_parameters(prefix="p")] == [f"p.{n}" for n in own]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == [
        *own, "shared.weight", "shared.bias"
    ]  # fmt: skip
    assert not list(net.parameters(recurse=False))
    assert len(list(net[0].parameters(recurse=False))) == 2
    assert [n for n, _ in net.named_buffers(prefix="p")] == ["p.1.seen"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == [
        "", "0", "1", "1.0", "shared"
    ]  # fmt: skip
    assert next(iter(net.state_dict(prefix="p."))) == "p.0.weight"
    assert not net.state_dict()["0.weight"].requires_grad
    assert net.state_dict(keep_vars=True)["0.weight"] is net[0].weight


def test_members_by_their_path(lib: ModuleType) -> None:
    net = model(lib)
    assert net.get_submodule("") is net
    assert net.get_submodule("1.0") is net[1][0]
    assert net.get_parameter("1.0.weight") is net[1][0].weight
    assert net.get_buffer("1.seen") is net[1].seen
    for call, path in (
        (net.get_submodule, "1.1"), (net.get_parameter, "1.0.w"), (net.get_buffer, "1.0.weight"),
        (net.get_parameter, "2.weight"), (net.get_submodule, "0.weight"),
    ):  # fmt: skip
        with pytest.raises(AttributeError):
            call(path)


def test_zero_grad_to_none_or_to_zero(lib: ModuleType) -> None:
    net = lib.nn.Linear(2, 1)
    net(lib.ones(1, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net.weight.grad.tolist() == [[0.0, 0.0]]
    net.zero_grad()
    assert net.weight.grad is None


def test_assigning_a_state_takes_its_memory_and_dtype(lib: ModuleType) -> None:
    net = lib.nn.Linear(2, 1)
    state = {"weight": lib.ones(1, 2, dtype=lib.float64), "bias": lib.ones(1, dtype=lib.float64)}
    result = net.load_state_dict(state, assign=True)
    assert result.missing_keys == result.unexpected_keys == []
    state["weight"].zero_()
    assert net.weight.tolist() == [[0.0, 0.0]]
    assert net.weight.dtype == lib.float64
    assert net.weight.requires_grad
    result = net.load_state_dict({"other": state["bias"]}, strict=False)
    assert result.missing_keys == ["weight", "bias"]
    assert result.unexpected_keys == ["other"]


# --- a linear layer and its activation ------------------------------------------------------------


def ops_of(model: Any, x: Any) -> list[str]:
    """The operations of a call of which the modules are not told."""
    with tensorgrad.graph.record() as run:
        model(x)
    return [step.op.name for step in run.steps]


ACTIVATIONS = {
    "relu": (nn.ReLU, ["linear_relu"]),
    "in place": (lambda: nn.ReLU(inplace=True), ["linear_relu"]),
    "gelu": (nn.GELU, ["linear_gelu"]),
    "gelu, tanh": (lambda: nn.GELU("tanh"), ["linear_gelu"]),
    "another": (nn.Tanh, ["linear", "tanh"]),
    "a subclass": (type("Mine", (nn.ReLU,), {}), ["linear", "relu"]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_they_are_one_operation(name: str) -> None:
    """With the numbers of the two."""
    make, expected = ACTIVATIONS[name]
    layer, activation, x = nn.Linear(3, 4), make(), tensorgrad.randn(5, 3)
    model = nn.Sequential(layer, activation)
    assert ops_of(model, x) == expected
    got, right = model(x), activation(layer(x))
    np.testing.assert_allclose(got.detach().numpy(), right.detach().numpy(), rtol=1e-6, atol=1e-7)
    model = nn.Sequential(nn.Linear(3, 3), layer, activation, nn.Linear(4, 2))
    assert model(x).shape == (5, 2)


@pytest.mark.parametrize("which", [0, 1])
def test_hooks_see_each_of_them(which: int) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    seen: list = []
    handle = model[which].register_forward_hook(lambda m, args, y: seen.append(y))
    y = model(x := tensorgrad.randn(2, 3))
    right = [model[0](x), y][which]
    np.testing.assert_array_equal(seen[0].detach().numpy(), right.detach().numpy())
    handle.remove()
    model[which].forward = lambda x: x + 1
    plain = [lambda x: (x + 1).relu(), lambda x: model[0](x) + 1][which]
    np.testing.assert_array_equal(model(x).detach().numpy(), plain(x).detach().numpy())


def test_weights_that_stand_in_for_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU())
    del model[0].weight
    model[0].weight = 2 * tensorgrad.ones(4, 3)
    assert model(tensorgrad.ones(3)).tolist() == [6.0] * 4


def test_what_is_wrong_is_said_by_the_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(RuntimeError, match=r"Linear\(in_features=3, out_features=4"):
        model(tensorgrad.ones(2, 5))


@pytest.mark.parametrize("activation", ["relu", "gelu", F.gelu, nn.ReLU()])
def test_layers_of_transformers_do_the_same(activation: Any) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, activation=activation)
    found = ops_of(layer, tensorgrad.randn(3, 2, 4))
    assert {"linear_relu", "linear_gelu"} & {*found}
    assert not {"relu", "gelu"} & {*found}
