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


PROGRAMS = {}


def program(pure):
    """Add a program to the table; ``pure`` does the same without writing, None: it is refused."""

    def add(function):
        PROGRAMS[function.__name__] = function, pure
        return function

    return add


# --- one name ---


@program(lambda m, x, z: x * 2 + 1)
def add_a_number(m, x, z):
    y = x * 2
    y += 1
    return y


@program(lambda m, x, z: x * 2 * z)
def multiply_by_a_tracked_tensor(m, x, z):
    y = x * 2  # the product needs the value that it overwrites
    y *= z
    return y


@program(lambda m, x, z: (x * 2) ** 2)
def multiply_by_itself(m, x, z):
    y = x * 2
    y *= y
    return y


@program(lambda m, x, z: (z / x) ** 3 - x)
def several_writes(m, x, z):
    y = x.clone()
    y.copy_(z).div_(x).pow_(3).sub_(x)
    return y


@program(lambda m, x, z: (x * 2).exp() + 1)
def write_after_exp_in_place(m, x, z):
    y = x * 2
    y.exp_()
    y.add_(1)  # PyTorch has saved y itself and refuses; here the result of exp was saved
    return y


@program(lambda m, x, z: x * 0)
def zero(m, x, z):
    y = x * 2
    y.zero_()
    return y


@program(lambda m, x, z: m.cat([x[:1] * 0 + 5, x[1:] * 2]))
def assign_a_number(m, x, z):
    y = x * 2
    y[0] = 5
    return y


@program(lambda m, x, z: m.cat([x[:1] * 2, z.reshape(1, 3)]))
def assign_a_tensor(m, x, z):
    y = x * 2
    y[1] = z
    return y


@program(lambda m, x, z: m.stack([x[:, 0] * 2, z[:2], x[:, 2] * 2], 1))
def assign_a_column(m, x, z):
    y = x * 2
    y[:, 1] = z[:2]
    return y


@program(lambda m, x, z: m.where(x > 0.6, z[1], x * 2))
def assign_to_a_mask_by_broadcasting(m, x, z):
    y = x * 2
    y[x > 0.6] = z[1]
    return y


@program(lambda m, x, z: m.stack([z, x[0]]))
def assign_to_integers(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    y[m.tensor([1, 0])] = m.stack([x[0], z])
    return y


@program(lambda m, x, z: m.stack([z, z]) + x)
def assign_with_leading_ones(m, x, z):
    y = x * 1
    y[0] = z.reshape(1, 3)
    y[1:] = z.reshape(1, 1, 3)
    return y + x


@program(lambda m, x, z: m.stack([z, z * 0]).to(m.float32))
def assign_to_another_dtype(m, x, z):
    y = m.zeros(2, 3)
    y[0] = z
    return y


@program(lambda m, x, z: z * 0 + m.tensor([0, 3, 0]))
def assign_to_integers_cuts(m, x, z):
    y = m.zeros(3, dtype=m.int64)
    y[1] = z[1]
    return y + z * 0


@program(lambda m, x, z: m.where(x > 0.6, 0.3, x * 2))
def masked_fill(m, x, z):
    y = x * 2
    y.masked_fill_(x > 0.6, 0.3)
    return y


@program(lambda m, x, z: m.stack([z, z]))
def copy_broadcasts(m, x, z):
    y = x * 2
    y.copy_(z)
    return y


@program(lambda m, x, z: x * 2 + x * 2 + 1)
def a_constant_becomes_tracked(m, x, z):
    y = m.ones(2, 3, dtype=m.float64)
    y += x * 2
    return y + x * 2


@program(lambda m, x, z: m.stack([z * (k + 1) for k in range(4)]) + 0)
def fill_a_buffer_in_a_loop(m, x, z):
    y, total = m.zeros(4, 3, dtype=m.float64), 0
    for k in range(4):
        total = total + z
        y[k] = total
    return y


# --- several names ---


@program(lambda m, x, z: m.stack([x[0] * 2 + 1, x[1] * 2]))
def augment_a_row(m, x, z):
    y = x * 2
    y[0] += 1
    return y


@program(lambda m, x, z: m.stack([x[0], x[1] * z]))
def augment_a_row_by_a_tracked_tensor(m, x, z):
    y = x * 1
    y[1] *= z
    return y


@program(lambda m, x, z: m.stack([z * 0, z]))
def augment_a_row_of_a_constant(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    y[1] += z
    return y


@program(lambda m, x, z: m.stack([x[0] * 2, z]))
def write_through_a_view(m, x, z):
    y = x * 2
    v = y[1]
    v.copy_(z)
    return y


@program(lambda m, x, z: (x * 2)[1] * z)
def write_beside_a_view(m, x, z):
    y = x * 2
    v = y[1]
    y[0] = z
    return v * z


@program(lambda m, x, z: m.cat([z * 0 + 7, x[1] * 2]) * m.cat([z, z]))
def a_view_sees_the_write(m, x, z):
    y = x * 2
    v = y.reshape(-1)
    y[0] = 7
    return v * m.cat([z, z])


@program(lambda m, x, z: m.stack([x[0] * 2, z]).T.exp())
def a_view_of_a_view_sees_the_write(m, x, z):
    y = x * 2
    v = y.T[:, :]
    y.reshape(2, 3)[1] = z
    return v.exp()


@program(lambda m, x, z: (x * 2)[0] * 0 + z[0])
def one_element_is_a_view_too(m, x, z):
    y = x * 2
    v = y[0, 1]
    v.copy_(z[0])
    return y[0, 1] + 0 * z


@program(lambda m, x, z: m.stack([z * 2, x[0] * 2 * 3, z * 2 * 3]).reshape(-1)[1:8])
def overlapping_views(m, x, z):
    y = m.zeros(9, dtype=m.float64)
    first, last = y[:6], y[3:]
    first.copy_(m.cat([z, x[0]]))
    last[3:] = z
    last *= 3
    y *= 2
    return y[1:8]


@program(lambda m, x, z: m.stack([z, z]).T * (x * 2).T)
def an_expanded_view_sees_the_write(m, x, z):
    y = z * 3
    v = y.expand(2, 3)
    y /= 3
    return (v * x * 2).T


@program(lambda m, x, z: m.stack([z + 1, x[1] * 2 + 1]))
def an_untracked_view_becomes_tracked(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    v = y[0]
    y.copy_(x * 2)
    y[0] = z
    return m.stack([v, y[1]]) + 1


# --- outside of the graph ---


@program(lambda m, x, z: x * 2 + (z - x[0] * 2).detach())
def a_write_through_detach_has_no_gradient(m, x, z):
    y = x * 2
    y.detach()[0].copy_(z.detach())
    y.detach()[1] += (z - x[0] * 2).detach()
    return y


@program(lambda m, x, z: x * 2 + 1 - 1)
def a_write_under_no_grad_has_no_gradient(m, x, z):
    y = x * 2
    with m.no_grad():
        y += 1
        y[:] -= 1
    return y


@program(lambda m, x, z: x[:, [2, 0]])
def an_index_may_change_later(m, x, z):
    index = m.tensor([2, 0])
    y = x[:, index]
    index -= index  # PyTorch keeps the index itself, and refuses
    return y


# --- refused ---


@program(None)
def a_value_that_exp_saved(m, x, z):
    y = x.exp()
    y += 1
    return y


@program(None)
def a_value_that_a_product_saved(m, x, z):
    y = x * 2
    u = y * z
    y.mul_(3)
    return u


@program(None)
def a_saved_value_through_a_view(m, x, z):
    y = x * 2
    v = y[0]
    u = (y * y).sum() + 0 * y
    v[1] = 0
    return u


@program(None)
def a_saved_value_through_detach(m, x, z):
    y = x.tanh()
    y.detach().zero_()
    return y


@program(None)
def a_saved_value_under_no_grad(m, x, z):
    y = z * z
    with m.no_grad():
        z.add_(1)
    return y


@program(None)
def a_saved_mask(m, x, z):
    mask = x > 0
    y = x.masked_fill(mask, 0)
    mask[0] = True
    return y


@program(None)
def a_leaf(m, x, z):
    x += 1
    return x


@program(None)
def a_view_of_a_leaf(m, x, z):
    x[0].mul_(2)
    return x


@program(None)
def an_element_of_a_leaf(m, x, z):
    x[0, 1] = 5.0
    return x


@program(None)
def an_expanded_tensor(m, x, z):
    y = (z * 2).expand(2, 3)
    y += 1
    return y


@program(None)
def a_shape_that_does_not_fit(m, x, z):
    y = z * 2
    y += x
    return y


@program(None)
def a_dtype_that_does_not_fit(m, x, z):
    y = m.tensor([1, 2, 3])
    y += z
    return y + z


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


@pytest.mark.torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_on_torch(torch, name):
    function, pure = PROGRAMS[name]
    found = outcome(torch, function)
    if pure is None:
        assert isinstance(found, str), f"PyTorch accepts this: {found}"
        return
    if isinstance(found, str):
        return  # PyTorch refuses what it could do, or what it could not know to be right
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
