"""Module, Parameter and the containers: what they promise to those who know PyTorch's.

The truth is PyTorch's documentation of ``torch.nn.Module``, written as expectations; a test that
takes ``lib`` runs them on ``tensorgrad`` and, where it is installed, on ``torch`` itself, so that
no expectation can be wrong about torch.
"""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nn
import tensorgrad
import tensorgrad.nn


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


def net(lib: ModuleType) -> Any:
    """A module with a parameter, a layer, a module with buffers, and a layer without bias."""

    class Inner(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = lib.nn.Parameter(lib.ones(2))
            self.register_buffer("seen", lib.zeros(1))
            self.register_buffer("cache", lib.zeros(3), persistent=False)

    class Net(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = lib.nn.Linear(2, 2)
            self.shift = lib.nn.Parameter(lib.zeros(2))
            self.note = "not registered"
            self.inner = Inner()
            self.last = lib.nn.Linear(2, 3, bias=False)

        def forward(self, x: Any, sign: int = 1) -> Any:
            return self.last(self.first(x) * self.inner.scale + self.shift) * sign

    return Net()


def tied(lib: ModuleType) -> Any:
    """An embedding and an output layer with one weight."""
    model = lib.nn.Module()
    model.embedding = lib.nn.Embedding(5, 3)
    model.output = lib.nn.Linear(3, 5)
    model.output.weight = model.embedding.weight
    return model


# --- registration ---------------------------------------------------------------------------------


def test_what_is_found_and_in_which_order(lib: ModuleType) -> None:
    """A module's own come before its children's, in the order of assignment."""
    model = net(lib)
    parameters = ["shift", "first.weight", "first.bias", "inner.scale", "last.weight"]
    assert names(model.named_parameters()) == parameters
    assert [p for _, p in model.named_parameters()] == list(model.parameters())
    assert names(model.named_buffers()) == ["inner.seen", "inner.cache"]
    assert len(list(model.buffers())) == 2
    assert names(model.named_children()) == ["first", "inner", "last"]
    assert list(model.children()) == [model.first, model.inner, model.last]
    assert names(model.named_modules()) == ["", "first", "inner", "last"]
    assert list(model.modules()) == [model, model.first, model.inner, model.last]


def test_names_can_be_reserved(lib: ModuleType) -> None:
    module = lib.nn.Module()
    module.register_parameter("weight", None)
    module.register_buffer("mean", None)
    assert module.weight is None
    assert module.mean is None
    assert list(module.parameters()) == list(module.buffers()) == []
    assert not module.state_dict()
    module.weight = lib.nn.Parameter(lib.zeros(1))
    module.mean = lib.ones(1)
    assert list(module.state_dict()) == ["weight", "mean"]


def test_shared_parameters_count_once(lib: ModuleType) -> None:
    model = tied(lib)
    assert names(model.named_parameters()) == ["embedding.weight", "output.bias"]
    assert sum(p.numel() for p in model.parameters()) == 5 * 3 + 5


def test_shared_modules_count_once(lib: ModuleType) -> None:
    """They are walked once, but the state has all their names."""
    model = lib.nn.Module()
    model.a = lib.nn.Linear(2, 2)
    model.b = model.a
    assert names(model.named_parameters()) == ["a.weight", "a.bias"]
    assert names(model.named_modules()) == ["", "a"]
    assert list(model.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    other = lib.nn.Module()
    other.a, other.b = lib.nn.Linear(2, 2), lib.nn.Linear(2, 2)
    model.load_state_dict(other.state_dict())


def test_a_missing_call_of_the_base_is_named(lib: ModuleType) -> None:
    class Forgetful(lib.nn.Module):
        def __init__(self, member: Any) -> None:
            self.member = member

    for member in (lib.nn.Linear(1, 1), lib.nn.Parameter(lib.zeros(1))):
        with pytest.raises(AttributeError, match="__init__"):
            Forgetful(member)


def test_forward_is_called_with_all_arguments(lib: ModuleType) -> None:
    model, x = net(lib), lib.ones(4, 2)
    assert tuple(model(x).shape) == (4, 3)
    assert (model(x, sign=-1) == -model(x)).all()
    with pytest.raises(NotImplementedError, match="forward"):
        lib.nn.Module()(x)


def test_members_of_the_wrong_kind_are_refused(lib: ModuleType) -> None:
    module = lib.nn.Module()
    for register in (module.register_parameter, module.register_buffer, module.add_module):
        with pytest.raises(TypeError):
            register("name", abs)
    assert not hasattr(module, "name")
    with pytest.raises(TypeError):  # an activation that would be left out silently
        lib.nn.Sequential(lib.nn.Linear(1, 1), lib.relu)
    with pytest.raises(TypeError):
        lib.nn.ModuleList([lib.relu])


# --- attributes -----------------------------------------------------------------------------------


def test_replacing_keeps_the_place(lib: ModuleType) -> None:
    model = net(lib)
    before = list(model.state_dict())
    model.first = lib.nn.Linear(2, 2)
    model.first.weight = lib.nn.Parameter(lib.ones(2, 2))
    model.inner.seen = lib.ones(1)
    assert list(model.state_dict()) == before
    assert names(model.named_children()) == ["first", "inner", "last"]
    assert (model.state_dict()["first.weight"] == 1).all()
    assert (model.state_dict()["inner.seen"] == 1).all()


def test_a_registered_name_keeps_its_kind(lib: ModuleType) -> None:
    model = net(lib)
    with pytest.raises(TypeError, match="shift"):
        model.shift = lib.zeros(2)
    with pytest.raises(TypeError, match="first"):
        model.first = 3
    with pytest.raises(TypeError, match="seen"):
        model.inner.seen = "a string"
    model.shift = None
    assert "shift" not in model.state_dict()
    model.shift = lib.nn.Parameter(lib.ones(2))
    assert "shift" in model.state_dict()


def test_a_name_can_change_its_kind(lib: ModuleType) -> None:
    """Parameters take over any name, modules any but that of a parameter."""
    model = net(lib)
    model.note = lib.nn.Parameter(lib.zeros(1))
    model.inner.cache = lib.nn.Parameter(lib.zeros(1))
    model.inner.seen = lib.nn.ReLU()
    model.last = lib.nn.Parameter(lib.zeros(1))
    with pytest.raises(TypeError, match="shift"):
        model.shift = lib.nn.ReLU()
    assert "note" not in vars(model)
    assert names(model.named_parameters()) == [
        "shift", "note", "last", "first.weight", "first.bias", "inner.scale", "inner.cache",
    ]  # fmt: skip
    assert names(model.named_modules()) == ["", "first", "inner", "inner.seen"]
    assert list(model.buffers()) == []
    assert "inner.cache" in model.state_dict()  # that it was not persistent is forgotten


def test_deleting(lib: ModuleType) -> None:
    model = net(lib)
    del model.shift, model.first, model.inner.seen, model.note
    assert list(model.state_dict()) == ["inner.scale", "last.weight"]
    for owner, name in ((model, "shift"), (model, "first"), (model.inner, "seen"), (model, "note")):
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=name):
            getattr(owner, name)
        with pytest.raises(AttributeError, match=name):
            delattr(owner, name)


def test_persistence_is_what_was_said_last(lib: ModuleType) -> None:
    module = lib.nn.Module()
    for persistent in (False, True, False):
        module.register_buffer("table", lib.zeros(2), persistent=persistent)
        assert ("table" in module.state_dict()) == persistent
        module.table = lib.ones(2)  # assigning changes nothing about it
        assert ("table" in module.state_dict()) == persistent
        assert names(module.named_buffers()) == ["table"]


def test_parameter(lib: ModuleType) -> None:
    x = lib.ones(2, requires_grad=True)
    p = lib.nn.Parameter(x * 2)
    assert p.is_leaf
    assert p.requires_grad
    assert not lib.nn.Parameter(lib.zeros(2), requires_grad=False).requires_grad
    assert repr(p).startswith("Parameter containing:\ntensor(")
    assert isinstance(copy.deepcopy(p), lib.nn.Parameter)
    assert not isinstance(p * 1, lib.nn.Parameter)
    with pytest.raises(RuntimeError, match="float"):
        lib.nn.Parameter(lib.arange(3))


def test_parameters_know_their_name() -> None:
    """For pictures and messages; a shared one has its first."""
    model = nn.Module()
    model.shared = nn.Parameter(tensorgrad.zeros(1))
    model.again = model.shared
    assert model.shared.name == "shared"


# --- walking --------------------------------------------------------------------------------------


def test_apply_visits_children_first(lib: ModuleType) -> None:
    visited = []
    model = lib.nn.Sequential(lib.nn.Linear(1, 2), lib.nn.Sequential(lib.nn.ReLU()))
    assert model.apply(visited.append) is model
    assert visited == [model[0], model[1][0], model[1], model]


def test_train_and_eval_reach_all(lib: ModuleType) -> None:
    model = net(lib)
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.inner.train()
    assert [module.training for module in model.modules()] == [False, False, True, False]
    assert model.train() is model
    assert all(module.training for module in model.modules())
    model.train(False)
    assert not any(module.training for module in model.modules())


def test_requires_grad_and_zero_grad(lib: ModuleType) -> None:
    model = net(lib)
    model(lib.ones(1, 2)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert model.requires_grad_(False) is model
    assert not any(p.requires_grad for p in model.parameters())
    model.first.requires_grad_()
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, False, False]


def test_casting(lib: ModuleType) -> None:
    """Floats are cast in place, gradients too; integers and the identity of parameters stay."""
    model = net(lib)
    model.register_buffer("steps", lib.zeros(1, dtype=lib.int64))
    before = list(model.parameters())
    model(lib.ones(1, 2)).sum().backward()
    for cast, dtype in (
        (lambda: model.double(), lib.float64),
        (lambda: model.float(), lib.float32),
        (lambda: model.to(lib.float64), lib.float64),
    ):
        assert cast() is model
        assert {p.dtype for p in model.parameters()} == {dtype}
        assert {p.grad.dtype for p in model.parameters()} == {dtype}
        assert [b.dtype for b in model.buffers()] == [lib.int64, dtype, dtype]
        assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
        assert all(p.is_leaf and p.requires_grad for p in model.parameters())
    assert model(lib.ones(1, 2, dtype=lib.float64)).dtype == lib.float64
    with pytest.raises(TypeError, match="float"):
        model.to(lib.int64)
    assert tied(lib).to("cpu").output.weight.dtype == lib.float32
    model = tied(lib).double()
    assert model.output.weight is model.embedding.weight


def test_devices_and_other_forms_of_casting(lib: ModuleType) -> None:
    model = net(lib)
    for same in (model.to("cpu"), model.to(lib.device("cpu")), model.cpu(), model.to(device="cpu")):
        assert same is model
        assert model.shift.dtype == lib.float32
    assert model.to("cpu", lib.float64).shift.dtype == lib.float64
    assert model.half().inner.seen.dtype == lib.float16
    assert model.to(lib.zeros(1, dtype=lib.float64)).shift.dtype == lib.float64
    assert model.to(dtype=lib.float32).last.weight.dtype == lib.float32
    with pytest.raises(TypeError):
        model.to(lib.int64)
    with pytest.raises((RuntimeError, AssertionError)):
        model.cuda()


def test_copies_are_independent(lib: ModuleType) -> None:
    model = tied(lib)
    twin = copy.deepcopy(model)
    assert twin.output.weight is twin.embedding.weight
    assert twin.output.weight is not model.output.weight
    with tensorgrad.no_grad() if lib is tensorgrad else lib.no_grad():
        twin.output.bias += 1
    assert (twin.output.bias != model.output.bias).all()


# --- state ----------------------------------------------------------------------------------------


def test_what_the_state_contains(lib: ModuleType) -> None:
    model = net(lib)
    state = model.state_dict()
    assert list(state) == [
        "shift", "first.weight", "first.bias", "inner.scale", "inner.seen", "last.weight",
    ]  # fmt: skip
    assert not any(value.requires_grad for value in state.values())
    state["inner.scale"][0] = 7.0  # the memory is the model's
    assert model.inner.scale[0].item() == 7
    assert list(tied(lib).state_dict()) == ["embedding.weight", "output.weight", "output.bias"]


def test_loading_copies_and_casts(lib: ModuleType) -> None:
    model, source = net(lib), net(lib).double()
    identities = list(model.parameters())
    state = source.state_dict()
    missing, unexpected = model.load_state_dict(state)
    assert not missing
    assert not unexpected
    for name, value in model.state_dict().items():
        assert value.dtype == lib.float32
        np.testing.assert_array_equal(value.numpy(), state[name].numpy().astype("float32"))
    state["shift"][0] = 7.0
    assert model.shift[0].item() == 0
    assert all(a is b for a, b in zip(identities, model.parameters(), strict=True))


def test_loading_keeps_weights_tied(lib: ModuleType) -> None:
    model = tied(lib)
    state = {name: lib.ones(*value.shape) for name, value in model.state_dict().items()}
    state["output.weight"] = lib.ones(5, 3) * 2  # at odds with the other: the last one counts
    model.load_state_dict(state)
    assert model.output.weight is model.embedding.weight
    assert (model.embedding.weight == 2).all()


def test_a_state_that_does_not_fit_is_described(lib: ModuleType) -> None:
    model = net(lib)
    state = {name: lib.ones(*value.shape) for name, value in model.state_dict().items()}
    del state["first.bias"], state["inner.seen"]
    state |= {"second.weight": lib.ones(1), "last.weight": lib.ones(3, 4), "third": lib.ones(1)}
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    message = str(caught.value)
    for name in ("first.bias", "inner.seen", "second.weight", "third", "last.weight"):
        assert name in message
    assert "first.weight" not in message
    assert "3, 4" in message
    assert "3, 2" in message


def test_a_state_that_does_not_fit_is_not_loaded() -> None:
    """Not even in part, which PyTorch does not promise."""
    model = net(tensorgrad)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    good = {name: value + 1 for name, value in before.items()}
    missing = {name: value for name, value in good.items() if name != "last.weight"}
    misshaped = {**good, "last.weight": tensorgrad.ones(4, 4)}
    for bad, strict in (
        (missing, True),
        ({**good, "more": tensorgrad.ones(1)}, True),
        (misshaped, True),
        (misshaped, False),
    ):
        with pytest.raises(RuntimeError, match="does not fit Net"):
            model.load_state_dict(bad, strict=strict)
        assert all((model.state_dict()[n] == v).all() for n, v in before.items())
    model.load_state_dict(good)
    assert all((model.state_dict()[n] == v + 1).all() for n, v in before.items())


def test_loading_what_there_is(lib: ModuleType) -> None:
    model = net(lib)
    result = model.load_state_dict({"shift": lib.ones(2), "more": lib.ones(1)}, strict=False)
    missing, unexpected = result
    assert missing == ["first.weight", "first.bias", "inner.scale", "inner.seen", "last.weight"]
    assert unexpected == ["more"]
    assert (model.shift == 1).all()
    with pytest.raises(RuntimeError, match="shift"):
        model.load_state_dict({"shift": lib.ones(3)}, strict=False)


# --- containers -----------------------------------------------------------------------------------


def test_sequential(lib: ModuleType) -> None:
    model = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.ReLU(), lib.nn.Linear(3, 1))
    x = lib.ones(4, 2)
    assert (model(x) == model[2](model[1](model[0](x)))).all()
    assert len(model) == 3
    assert list(model) == [model[0], model[1], model[2]]
    assert model[-1] is model[2]
    assert isinstance(model[:2], lib.nn.Sequential)
    assert list(model[:2]) == [model[0], model[1]]
    assert names(model.named_parameters()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with pytest.raises(IndexError):
        model[3]
    assert (lib.nn.Sequential()(x) == x).all()


def test_module_list(lib: ModuleType) -> None:
    layers = lib.nn.ModuleList(lib.nn.Linear(i, 1, bias=False) for i in (1, 2))
    assert layers.append(lib.nn.Linear(3, 1, bias=False)) is layers
    assert len(layers) == 3
    assert [layer.in_features for layer in layers] == [1, 2, 3]
    assert layers[-1] is layers[2]
    assert isinstance(layers[1:], lib.nn.ModuleList)
    assert list(layers[1:]) == [layers[1], layers[2]]
    assert names(layers.named_parameters()) == ["0.weight", "1.weight", "2.weight"]
    assert len(lib.nn.ModuleList()) == 0
    with pytest.raises(IndexError):
        layers[3]
    with pytest.raises(NotImplementedError):
        layers(1)


# --- printing -------------------------------------------------------------------------------------

PRINTED = """\
Net(
  a note
  (first): Linear(in_features=2, out_features=3, bias=True)
  (body): Sequential(
    (0): GELU(approximate='tanh')
    (1): LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=False)
  )
  (blocks): ModuleList(
    (0): Embedding(3, 4)
    (1): Sequential()
  )
)"""


def test_printing(lib: ModuleType) -> None:
    class Net(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = lib.nn.Linear(2, 3)
            self.body = lib.nn.Sequential(lib.nn.GELU("tanh"), lib.nn.LayerNorm(3, bias=False))
            self.blocks = lib.nn.ModuleList([lib.nn.Embedding(3, 4), lib.nn.Sequential()])
            self.weight = lib.nn.Parameter(lib.zeros(1))

        def extra_repr(self) -> str:
            return "a note"

    assert repr(Net()) == PRINTED
    assert repr(lib.nn.Module()) == "Module()"


def test_nn_is_an_attribute_of_tensorgrad():
    """As in torch, and only when asked for: the engine does not load the layers."""
    import subprocess
    import sys

    program = (
        "import sys, tensorgrad as torch\n"
        "assert 'nn' not in sys.modules\n"
        "assert torch.nn.Linear(2, 3)(torch.ones(1, 2)).shape == (1, 3)\n"
        "import nn; assert torch.nn is nn\n"
        "assert not hasattr(torch, 'no_such_name')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
