"""Writing in place: the right gradient or a refusal, never a wrong number.

A program writes into tensors that others see. Beside it stands the same computation without a
write, and its values and gradients are what the program must give, and what PyTorch gives.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inplace_programs import PROGRAMS

import tensorgrad


def inputs(m):
    x = m.tensor([[0.5, -1.0, 2.0], [1.5, 0.7, -0.3]], dtype=m.float64).requires_grad_()
    z = m.tensor([0.4, 3.0, -2.0], dtype=m.float64).requires_grad_()
    return x, z


def outcome(m, program):
    """The value of a program and the gradients of x and z, or the error it ends with."""
    x, z = inputs(m)
    try:
        y = program(m, x, z)
        (y * m.arange(1, y.numel() + 1).reshape(tuple(y.shape))).sum().backward()
    except RuntimeError as error:
        return str(error)
    return [np.zeros(1) if t is None else np.asarray(t.detach()) for t in (y, x.grad, z.grad)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    function, pure = PROGRAMS[name]
    found = outcome(tensorgrad, function)
    if pure is None:
        assert isinstance(found, str), f"not refused: {found}"
        return
    expected = outcome(tensorgrad, pure)
    assert not isinstance(found, str), found
    for ours, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(*np.broadcast_arrays(ours, right), atol=1e-12)


# PyTorch refuses these, which it could do, or could not know to be right; the others agree.
BEYOND_PYTORCH = {
    "multiply_by_itself", "write_after_exp_in_place", "powers_and_products_in_place",
    "an_index_may_change_later", "write_to_a_part_of_a_split", "write_to_a_part_of_unbind",
    "write_to_the_base_of_chunks",
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_on_torch(torch, name):
    function, pure = PROGRAMS[name]
    found = outcome(torch, function)
    if pure is None or name in BEYOND_PYTORCH:
        assert isinstance(found, str), f"PyTorch accepts this: {found}"
        return
    assert not isinstance(found, str), found
    for theirs, right in zip(found, outcome(tensorgrad, pure), strict=True):
        np.testing.assert_allclose(*np.broadcast_arrays(theirs, right), atol=1e-12)


# --- drawn at random: PyTorch and tensorgrad run the same program --------------------------------

VIEWS = [
    lambda m, t: t[0],
    lambda m, t: t[..., 1:],
    lambda m, t: t[..., ::2],
    lambda m, t: t[m.tensor(0)],
    lambda m, t: t[None],
    lambda m, t: t.reshape(-1),
    lambda m, t: t.transpose(0, -1),
    lambda m, t: t.unsqueeze(-1).squeeze(),
    lambda m, t: t.narrow(-1, 0, 1),
    lambda m, t: t.flatten(),
    lambda m, t: t.detach(),
    lambda m, t: t.diagonal(),
    lambda m, t: t.movedim(0, -1),
    lambda m, t: t.select(-1, 1),
    lambda m, t: t.unfold(-1, 2, 2),
]
READS = [
    lambda m, t, u: t * 2,
    lambda m, t, u: t + u,
    lambda m, t, u: t * u,
    lambda m, t, u: t / u,
    lambda m, t, u: t @ u,
    lambda m, t, u: t.sin(),
    lambda m, t, u: t.exp(),
    lambda m, t, u: t**2,
    lambda m, t, u: t.softmax(-1),
    lambda m, t, u: t.max(-1)[0],
    lambda m, t, u: t[m.tensor([0, 0, -1])],
    lambda m, t, u: m.cat([t.reshape(-1), u.reshape(-1)])[:3],
    lambda m, t, u: m.where(t > u, t, u),
    lambda m, t, u: t.clone(),
]


def assign(index):
    return lambda m, t, u: t.__setitem__(index(m, t), u)


def augment(index):
    return lambda m, t, u: t.__setitem__(index(m, t), t[index(m, t)].mul_(u))


WRITES = [
    lambda m, t, u: t.add_(1),
    lambda m, t, u: t.add_(u),
    lambda m, t, u: t.sub_(u),
    lambda m, t, u: t.mul_(u),
    lambda m, t, u: t.div_(u),
    lambda m, t, u: t.pow_(2),
    lambda m, t, u: t.exp_(),
    lambda m, t, u: t.tanh_(),
    lambda m, t, u: t.relu_(),
    lambda m, t, u: t.neg_(),
    lambda m, t, u: t.zero_(),
    lambda m, t, u: t.fill_(2.0),
    lambda m, t, u: t.copy_(u),
    lambda m, t, u: t.masked_fill_(t > 0.5, 0.3),
    assign(lambda m, t: 0),
    assign(lambda m, t: (Ellipsis, 1)),
    assign(lambda m, t: slice(0, 1)),
    assign(lambda m, t: m.tensor([0, -1])),
    assign(lambda m, t: t > 0.6),
    assign(lambda m, t: Ellipsis),
    augment(lambda m, t: 0),
    augment(lambda m, t: (Ellipsis, slice(1, None))),
    augment(lambda m, t: t > 0.6),
]


def perform(m, tensors, action, t, u, which):
    """One step of a drawn program; numbers are taken modulo what there is."""
    t, u = tensors[t % len(tensors)], tensors[u % len(tensors)]
    if action == "view":
        tensors.append(VIEWS[which % len(VIEWS)](m, t))
    elif action == "read":
        tensors.append(READS[which % len(READS)](m, t, u))
    elif action == "write":
        WRITES[which % len(WRITES)](m, t, u.clone())  # a clone: overlapping operands are undefined
    elif action == "write a number":
        WRITES[which % len(WRITES)](m, t, 0.7)
    else:
        with m.no_grad():
            WRITES[which % len(WRITES)](m, t, u.clone())


EXAMPLES = 200
numbers = st.integers(0, 10_000)
actions = st.sampled_from(["view", "view", "read", "write", "write", "write a number", "no grad"])
steps = st.lists(st.tuples(actions, numbers, numbers, numbers), min_size=2, max_size=9)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=EXAMPLES)
@given(steps)
@example([("view", 2, 0, 5), ("write", 2, 3, 4), ("view", 2, 0, 10)])
def test_random_programs(torch, program):
    """Equal values and gradients after every program that both accept.

    A step that PyTorch refuses is left out for both. (It writes to some expanded tensors, which
    tensorgrad never does; none are drawn.)
    """
    state = {}
    for m in (torch, tensorgrad):
        x, z = inputs(m)
        state[m] = [x, z, x * 2, z + 1, (z * 2).detach()]
    for step in program:
        try:
            perform(torch, state[torch], *step)
        except (RuntimeError, IndexError, TypeError):
            continue
        perform(tensorgrad, state[tensorgrad], *step)
    assert len(state[torch]) == len(state[tensorgrad])
    for ours, theirs in zip(state[tensorgrad], state[torch], strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), atol=1e-12)
        assert ours.requires_grad == theirs.requires_grad
    gradients = {}
    for m, tensors in state.items():
        total = sum((t * t * (k + 1)).sum() for k, t in enumerate(tensors))
        try:
            total.backward()
        except RuntimeError:
            if m is torch:
                return  # it has saved something that the program overwrote; ours may know better
            raise
        gradients[m] = [t.grad for t in tensors[:2]]
    for ours, theirs in zip(gradients[tensorgrad], gradients[torch], strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-9)


# --- the bookkeeping ------------------------------------------------------------------------------


def test_the_version_counts_writes_through_every_name():
    x = tensorgrad.zeros(2, 3)
    others = [x.T, x[0], x.detach(), x.data, x[0].T.reshape(3, 1)]
    assert x._version == 0
    for k, t in enumerate(others):
        t.zero_()
        assert {x._version, *(o._version for o in others)} == {k + 1}
    x[0] = 1
    x += 1
    assert others[1]._version == 7
    assert x.clone()._version == 0


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda y: y.add_(1), "add_"),
        (lambda y: y[0].zero_(), "fill_"),
        (lambda y: y.T.detach().exp_(), "exp_"),
        (lambda y: y.__setitem__(0, 1.0), "an assignment to an index"),
    ],
)
def test_the_error_names_the_reader_and_the_writer(write, named):
    x, _ = inputs(tensorgrad)
    y = x.exp()
    z = y.sin()
    with tensorgrad.no_grad():
        write(y)
    first = test_the_error_names_the_reader_and_the_writer.__code__.co_firstlineno
    lines = inspect.getsourcelines(test_the_error_names_the_reader_and_the_writer)[0]
    reader = first + next(i for i, line in enumerate(lines) if "y.sin()" in line)
    with pytest.raises(RuntimeError) as error:
        z.sum().backward()
    message = str(error.value)
    assert "backward pass of sin (output shape (2, 3)), recorded at " in message
    assert f"test_inplace.py:{reader}, needs a value that {named} has overwritten" in message
    assert f"test_inplace.py:{write.__code__.co_firstlineno}; use" in message
    assert "clone()" in message


def test_the_optimizer_is_a_writer():
    x, _ = inputs(tensorgrad)
    optimizer = tensorgrad.optim.AdamW([x])
    y = x * x
    y.sum().backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"needs a value that AdamW\.step has overwritten"):
        y.sum().backward()


def test_new_data_leave_what_was_saved_alone():
    x, z = inputs(tensorgrad)
    y = x * z
    x.data = tensorgrad.zeros(2, 3, dtype=tensorgrad.float64)
    y.sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), [0.5 + 1.5, -1.0 + 0.7, 2.0 - 0.3])
    assert x.tolist() == [[0.0] * 3] * 2
    with pytest.raises(RuntimeError, match=r"history of this tensor is of shape \(2, 3\)"):
        y.data = tensorgrad.zeros(3)


def test_a_view_made_under_no_grad_belongs_to_the_family():
    """PyTorch refuses this write; here the base, whose memory it is, gets the right gradient."""
    x, _ = inputs(tensorgrad)
    y = x * 2
    with tensorgrad.no_grad():
        v = y[0]
    v.zero_()
    y.sum().backward()
    assert x.grad.tolist() == [[0.0] * 3, [2.0] * 3]


def test_second_derivatives_pass_through_writes():
    x, z = inputs(tensorgrad)
    y = x * 1
    y[0] *= z
    y.pow_(3)
    (g,) = tensorgrad.grad(y.sum(), z, create_graph=True)
    (h,) = tensorgrad.grad(g.sum(), z)
    top, n = x.detach().numpy()[0], z.detach().numpy()
    np.testing.assert_allclose(g.detach().numpy(), 3 * top**3 * n**2)
    np.testing.assert_allclose(h.numpy(), 6 * top**3 * n)
