"""Hooks of modules, before and after forward and on gradients.

The programs run on PyTorch and on tensorgrad; what they note must be equal.
"""

from __future__ import annotations

import copy
import gc
import importlib
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import nn
import tensorgrad
import tensorgrad.nn
import tensorgrad.utils

# PyTorch tells of hooks that see no gradients of inputs.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

PROGRAMS: dict[str, Callable] = {}


def program(function: Callable) -> Callable:
    PROGRAMS[function.__name__] = function
    return function


def plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(plain(v) for v in value)
    return value.detach().tolist() if hasattr(value, "detach") else value


class Notes(list):
    """What hooks have seen."""

    def hook(self, name: str = "", returning: Callable = lambda *_: None) -> Callable:
        """A hook that writes down what it is called with, and returns something."""

        def called(module: Any, *given: Any) -> Any:
            self.append((name, type(module).__name__, plain(given)))
            return returning(*given)

        return called


def leaf(m: ModuleType, *values: float) -> Any:
    return m.tensor(values, dtype=m.float64).requires_grad_()


def module(m: ModuleType, forward: Callable) -> Any:
    """A module of a user's with this forward."""

    class Some(m.nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

    return Some()


# --- forward --------------------------------------------------------------------------------------


@program
def before_and_after(m, notes):
    some = module(m, lambda x, by=1.0: x * by)
    some.register_forward_pre_hook(notes.hook("a"))
    double = some.register_forward_pre_hook(notes.hook("b", lambda args: args[0] * 2))
    some.register_forward_hook(notes.hook("c"))
    plus = some.register_forward_hook(notes.hook("d", lambda args, y: y + 1))
    x = m.tensor(3.0)
    notes.append(some(x).item())
    double.remove()
    double.remove()
    with plus:
        notes.append(some(x, by=2).item())
    notes.append(some(x).item())


@program
def with_keywords_and_in_front(m, notes):
    some = module(m, lambda x, by=1.0: x * by)
    some.register_forward_pre_hook(
        notes.hook("first", lambda args, kwargs: (args, {"by": kwargs["by"] + 1})),
        with_kwargs=True,
    )
    some.register_forward_pre_hook(notes.hook("0", lambda args: (args[0] + 1,)), prepend=True)
    some.register_forward_hook(
        notes.hook("sum", lambda args, kwargs, y: y + kwargs["by"]), with_kwargs=True
    )
    some.register_forward_hook(notes.hook("2"))
    some.register_forward_hook(notes.hook("1"), prepend=True)
    some.register_forward_hook(notes.hook("0"), prepend=True)
    notes.append(some(m.tensor(2.0), by=3).item())


@program
def a_pre_hook_with_keywords_must_return_both(m, notes):
    some = module(m, lambda x: x)
    some.register_forward_pre_hook(lambda module, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook"):
        some(m.tensor(1.0))


@program
def always(m, notes):
    def fails(*_, **named):
        raise KeyError("in forward")

    some = module(m, fails)
    some.register_forward_hook(notes.hook("always"), always_call=True)
    some.register_forward_hook(notes.hook("never"))
    some.register_forward_hook(notes.hook("too"), always_call=True, with_kwargs=True)
    with pytest.raises(KeyError, match="in forward"):
        some(m.tensor(1.0), key=2)


@program
def always_after_a_hook_that_fails(m, notes):
    def fails(*_):
        raise KeyError("in a hook")

    some = module(m, lambda x: x * 2)
    some.register_forward_hook(notes.hook("once"), always_call=True)
    some.register_forward_hook(fails)
    some.register_forward_hook(notes.hook("late", lambda args, y: y + 1), always_call=True)
    some.register_forward_hook(notes.hook("later"), always_call=True)
    with pytest.raises(KeyError, match="in a hook"):
        some(m.tensor(1.0))


@program
def always_and_failing_itself(m, notes):
    def fails(*_):
        raise KeyError("first")

    def fails_too(*_):
        raise ValueError("second")

    some = module(m, fails)
    some.register_forward_hook(fails_too, always_call=True)
    some.register_forward_hook(notes.hook("last"), always_call=True)
    with pytest.warns(UserWarning, match="second"), pytest.raises(KeyError, match="first"):
        some(m.tensor(1.0))


@program
def added_and_removed_by_hooks(m, notes):
    some = module(m, lambda x: x * 2)
    handles = []

    def adds(module, args, y):
        handles.append(module.register_forward_hook(notes.hook("added")))

    handles.append(some.register_forward_hook(adds))
    some(m.tensor(1.0))
    handles[0].remove()
    some(m.tensor(2.0))


@program
def of_layers_inside(m, notes):
    net = m.nn.Sequential(m.nn.ReLU(), m.nn.Sequential(m.nn.Tanh()), m.nn.ReLU())
    for i, part in enumerate(net.modules()):
        part.register_forward_hook(notes.hook(str(i)))
        part.register_full_backward_hook(notes.hook(str(i)))
    net(leaf(m, 0.0, 1.0)).sum().backward()


# --- backward -------------------------------------------------------------------------------------


@program
def gradients_of_inputs_and_outputs(m, notes):
    some = module(m, lambda x, y: x * y)
    some.register_full_backward_hook(notes.hook("all"))
    x, y = leaf(m, 1.0, 2.0), leaf(m, 3.0, 4.0)
    some(x, y).backward(m.tensor([1.0, 10.0], dtype=m.float64))
    notes.append(plain((x.grad, y.grad)))


@program
def replaced_gradients(m, notes):
    some = module(m, lambda x, y: x * y)
    some.register_full_backward_hook(notes.hook("a", lambda gi, go: (gi[0] * 10, gi[1])))
    some.register_full_backward_hook(notes.hook("b", lambda gi, go: (gi[0], gi[1] + 1)))
    x, y = leaf(m, 1.0, 2.0), leaf(m, 3.0, 4.0)
    some(x, y).sum().backward()
    notes.append(plain((x.grad, y.grad)))


@program
def replaced_gradients_of_outputs(m, notes):
    some = module(m, lambda x: x * x)
    some.register_full_backward_pre_hook(notes.hook("a", lambda go: (go[0] * 3,)))
    some.register_full_backward_pre_hook(notes.hook("first", lambda go: (go[0] + 1,)), prepend=True)
    some.register_full_backward_hook(notes.hook("b"))
    some.register_full_backward_hook(notes.hook("0"), prepend=True)
    x = leaf(m, 1.0, 2.0)
    some(x).sum().backward()
    notes.append(plain(x.grad))


@program
def none_for_what_has_no_gradient(m, notes):
    some = module(m, lambda x, n, t, i, **kwargs: (x * t * kwargs["k"], i, 3))
    some.register_full_backward_hook(notes.hook("all"))
    some.register_full_backward_pre_hook(notes.hook("outputs"))
    x, k, t = leaf(m, 1.0), leaf(m, 2.0), m.tensor([5.0], dtype=m.float64)
    y, i, n = some(x, None, t, m.tensor([1]), k=k)
    notes.append((y.requires_grad, i.requires_grad, n))
    y.sum().backward()
    notes.append(plain((x.grad, k.grad)))


@program
def some_outputs_and_inputs_are_not_used(m, notes):
    some = module(m, lambda x, y: (x * 2, x * 3))
    some.register_full_backward_hook(notes.hook("all"))
    some.register_full_backward_pre_hook(notes.hook("outputs"))
    x, y = leaf(m, 1.0), leaf(m, 2.0)
    some(x, y)[1].sum().backward()
    notes.append(plain((x.grad,)))


@program
def no_input_requires_grad(m, notes):
    layer = m.nn.Linear(2, 1, bias=False).to(m.float64)
    layer.load_state_dict({"weight": m.tensor([[3.0, 4.0]])})
    layer.register_full_backward_hook(notes.hook("all"))
    layer.register_full_backward_pre_hook(notes.hook("outputs", lambda go: (go[0] * 2,)))
    layer(m.tensor([[1.0, 2.0]], dtype=m.float64)).sum().backward()
    notes.append(plain(layer.weight.grad))
    layer.register_full_backward_hook(lambda module, gi, go: (m.ones(1, 2, dtype=m.float64),))
    y = layer(m.tensor([[1.0, 2.0]], dtype=m.float64)).sum()
    with pytest.raises(RuntimeError):
        y.backward()


@program
def without_gradients_there_are_no_calls(m, notes):
    layer = m.nn.Tanh()
    layer.register_full_backward_hook(notes.hook("never"))
    with m.no_grad():
        notes.append(layer(leaf(m, 0.0)).requires_grad)
    notes.append(layer(m.tensor([0.0])).requires_grad)


@program
def nested_results(m, notes):
    some = module(m, lambda x: (x * 2, (x * 3, x * 4)))
    some.register_full_backward_hook(notes.hook("all"))
    x = leaf(m, 1.0)
    y, (u, v) = some(x)
    (y + u).sum().backward(retain_graph=True)
    v.sum().backward()  # not through an output that is watched
    notes.append(plain(x.grad))


@program
def twice_through_one_call_and_two_calls(m, notes):
    layer = m.nn.Tanh()
    layer.register_full_backward_hook(notes.hook("all"))
    x = leaf(m, 0.0)
    y = layer(x)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    layer(layer(x) + 1).sum().backward()
    notes.append(plain(x.grad))


@program
def by_grad_and_differentiable(m, notes):
    some = module(m, lambda x: x * x * x)
    some.register_full_backward_hook(notes.hook("all", lambda gi, go: (gi[0] * 2,)))
    x = leaf(m, 1.0, 2.0)
    (g,) = m.autograd.grad(some(x).sum(), x, create_graph=True)
    notes.append(plain(g))
    (h,) = m.autograd.grad(g.sum(), x)
    notes.append(plain(h))


@program
def removed(m, notes):
    layer = m.nn.Tanh()
    handle = layer.register_full_backward_hook(notes.hook("once"))
    with layer.register_full_backward_pre_hook(notes.hook("within")):
        layer(leaf(m, 0.0)).sum().backward()
    handle.remove()
    handle.remove()
    layer(leaf(m, 0.0)).sum().backward()


@program
def a_wrong_number_of_gradients(m, notes):
    for register, hook in (
        ("register_full_backward_hook", lambda module, gi, go: (gi[0], gi[0])),
        ("register_full_backward_pre_hook", lambda module, go: ()),
    ):
        layer = m.nn.Tanh()
        getattr(layer, register)(hook)
        y = layer(leaf(m, 0.0)).sum()
        with pytest.raises(RuntimeError, match=r"number|returned"):
            y.backward()


@program
def the_order_of_all(m, notes):
    some = module(m, lambda x: notes.append("forward") or x * 2)
    for register in ("forward_pre_hook", "forward_hook", "full_backward_hook",
                     "full_backward_pre_hook"):  # fmt: skip
        for i in (1, 2):
            getattr(some, f"register_{register}")(notes.hook(f"{register} {i}"))
    some(leaf(m, 1.0)).sum().backward()


@program
def inputs_changed_by_a_pre_hook(m, notes):
    some = module(m, lambda x: x * 2)
    some.register_full_backward_hook(notes.hook("all"))
    some.register_forward_pre_hook(lambda module, args: (args[0] * 5,))
    some.register_forward_hook(lambda module, args, y: y * 3)
    x = leaf(m, 1.0)
    some(x).sum().backward()
    notes.append(plain(x.grad))


@program
def a_copy_has_the_hooks(m, notes):
    layer = m.nn.Tanh()
    layer.register_forward_hook(notes.hook("forward"))
    layer.register_full_backward_hook(notes.hook("backward"))
    copy.deepcopy(layer)(leaf(m, 0.0)).sum().backward()


@program
def attention_and_recurrent_layers(m, notes):
    for layer, args in (
        (m.nn.MultiheadAttention(4, 2), (m.ones(3, 1, 4, requires_grad=True),) * 3),
        (m.nn.LSTM(2, 3), (m.ones(4, 1, 2, requires_grad=True),)),
    ):
        layer.register_full_backward_hook(
            lambda module, gi, go: notes.append(
                [[None if g is None else tuple(g.shape) for g in several] for several in (gi, go)]
            )
        )
        layer(*args)[0].sum().backward()


def run(name: str, lib: str) -> Notes:
    notes = Notes()
    PROGRAMS[name](importlib.import_module(lib), notes)
    return notes


@pytest.mark.torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(torch: ModuleType, name: str) -> None:
    assert run(name, "tensorgrad") == run(name, "torch")


# --- without PyTorch ------------------------------------------------------------------------------


def test_what_backward_hooks_see() -> None:
    notes = run("gradients_of_inputs_and_outputs", "tensorgrad")
    assert notes == [
        ("all", "Some", (([3.0, 40.0], [1.0, 20.0]), ([1.0, 10.0],))),
        ([3.0, 40.0], [1.0, 20.0]),
    ]


def test_there_is_one_kind_of_handle() -> None:
    layer, x = nn.Tanh(), tensorgrad.tensor([0.0], requires_grad=True)
    handle = tensorgrad.utils.hooks.RemovableHandle
    for made in (
        layer.register_forward_hook(print),
        layer.register_forward_pre_hook(print),
        layer.register_full_backward_hook(print),
        layer.register_full_backward_pre_hook(print),
        x.register_hook(print),
    ):
        assert type(made) is handle
        made.remove()


def test_hooks_keep_nothing_alive() -> None:
    """Neither the module's handle the module, nor a graph itself."""
    layer = nn.Linear(2, 2)
    handle = layer.register_full_backward_hook(lambda *_: None)
    x = tensorgrad.ones(1, 2, requires_grad=True)
    y = layer(x)
    watched = weakref.ref(y.grad_fn)
    known = weakref.ref(layer)
    gc.disable()
    try:
        del y
        assert watched() is None
        del layer
        assert known() is None
    finally:
        gc.enable()
    handle.remove()
