"""Functions that move elements: what is a view, writing through views, closed forms."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad
from tensorgrad import functions, tensor
from tensorgrad.testing import gradcheck, gradgradcheck


def inputs(m):
    """A leaf [3, 3, 2] and another, each all different."""
    rng = np.random.default_rng(0)
    return [
        m.tensor(rng.permutation(18).reshape(3, 3, 2) * 0.1 + 0.3, dtype=m.float64).requires_grad_()
        for _ in range(2)
    ]


# Each as a function of a tensor [3, 3, 2]; those in the first table share its memory.
VIEWS = {
    "diagonal": lambda m, t: t.diagonal(),
    "diagonal above": lambda m, t: t.diagonal(1, 1, 2),
    "diagonal of a view": lambda m, t: t[1:].diagonal(0, 2, 0),
    "movedim": lambda m, t: t.movedim(0, -1),
    "moveaxis": lambda m, t: t.moveaxis((0, 2), (1, 0)),
    "select": lambda m, t: t.select(1, -1),
    "select twice": lambda m, t: t.select(0, 1).select(0, 2),
    "one element": lambda m, t: t.select(0, 1).select(0, 2).select(0, 0),
    "narrow": lambda m, t: t.narrow(1, 1, 2),
    "unfold": lambda m, t: t.unfold(0, 2, 2),
    "unfold with gaps": lambda m, t: t.unfold(1, 1, 2),
    "unfold of a view": lambda m, t: t.mT[1].unfold(1, 3, 1),
    "a part of unfold": lambda m, t: t.unfold(2, 1, 1)[1:, 0],
    "view_as": lambda m, t: t.view_as(m.zeros(9, 2)),
    "view": lambda m, t: t.view(2, 9),
    "reshape_as": lambda m, t: t.reshape_as(m.zeros(18)),
    "ravel": lambda m, t: t.ravel(),
    "unflatten": lambda m, t: t.unflatten(1, (3, 1)),
    "t": lambda m, t: t[0].t(),
    "adjoint": lambda m, t: t.adjoint(),
    "mH": lambda m, t: t.mH,
    "H": lambda m, t: t[:, 1].H,
    "swapaxes": lambda m, t: t.swapaxes(0, 2),
    "swapdims": lambda m, t: t.swapdims(0, 1),
    "squeeze": lambda m, t: t[:, :1, None].squeeze((1, 2)),
    "atleast_3d": lambda m, t: m.atleast_3d(t[0]),
    "split_with_sizes": lambda m, t: t.split_with_sizes([1, 2], 1)[1],
    "tensor_split": lambda m, t: t.tensor_split(2)[0],
    "tensor_split at": lambda m, t: t.tensor_split((1, 2), 1)[1],
    "hsplit": lambda m, t: t.hsplit(3)[2],
    "vsplit": lambda m, t: t.vsplit((2,))[0],
    "dsplit": lambda m, t: t.dsplit(2)[1],
    "unbind": lambda m, t: t.unbind(2)[0],
    "contiguous": lambda m, t: t.contiguous(),
}
READ_ONLY = {  # views with an element in several places
    "unfold with overlaps": lambda m, t: t.unfold(0, 2, 1),
    "expand_as": lambda m, t: t.expand_as(m.zeros(2, 3, 3, 2)),
    "broadcast_to": lambda m, t: m.broadcast_to(t, (2, 3, 3, 2)),
    "broadcast_tensors": lambda m, t: m.broadcast_tensors(t[0, 0], m.zeros(3, 2))[0],
    "meshgrid": lambda m, t: m.meshgrid(t[0, 0], t[1, :, 0], indexing="xy")[0],
}
COPIES = {
    "flip": lambda m, t: t.flip(0),
    "flip nothing": lambda m, t: t.flip(()),
    "roll": lambda m, t: t.roll(0),
    "rot90": lambda m, t: t.rot90(),
    "rot90 by 0": lambda m, t: t.rot90(0),
    "repeat": lambda m, t: t.repeat(1, 1, 1),
    "repeat a number": lambda m, t: t[:1, :1, :1].repeat(2, 2, 2),
    "tile": lambda m, t: t.tile(1),
    "repeat_interleave": lambda m, t: t.repeat_interleave(1, 0),
    "repeat_interleave of one": lambda m, t: t[:1].repeat_interleave(3, 0),
    "repeat_interleave each": lambda m, t: t.repeat_interleave(m.tensor([1, 1, 1]), 0),
    "diag": lambda m, t: t[0].diag(),
    "diag of a vector": lambda m, t: t[0, 0].diag(),
    "diag_embed": lambda m, t: t.diag_embed(),
    "tril": lambda m, t: t.tril(5),
    "select_scatter": lambda m, t: t.select_scatter(t[0], 0, 0),
    "slice_scatter": lambda m, t: t.slice_scatter(t),
    "diagonal_scatter": lambda m, t: t.diagonal_scatter(t.diagonal()),
    "cat": lambda m, t: m.cat([t]),
    "stack": lambda m, t: m.stack([t]),
    "hstack": lambda m, t: m.hstack([t]),
    "block_diag": lambda m, t: m.block_diag(t[0]),
    "combinations": lambda m, t: m.combinations(t[0, 0], 1),
    "contiguous": lambda m, t: t.mT.contiguous(),
}


def shared(m, function):
    """Whether a write into the argument shows in the result."""
    t = inputs(m)[0].detach()
    result = function(m, t)
    before = result.clone()
    t.add_(1)
    return not m.equal(before, result)


@pytest.mark.parametrize("name", [*VIEWS, *READ_ONLY])
def test_a_view_shows_what_is_written(name):
    assert shared(tensorgrad, {**VIEWS, **READ_ONLY}[name])


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_does_not(name):
    assert not shared(tensorgrad, COPIES[name])


@pytest.mark.torch
def test_the_same_are_views_in_torch(torch):
    assert all(shared(torch, f) for f in (*VIEWS.values(), *READ_ONLY.values()))
    assert not any(shared(torch, f) for f in COPIES.values())


WRITES = {
    "a number": lambda m, v, u: v.add_(1),
    "zero": lambda m, v, u: v.zero_(),
    "a product": lambda m, v, u: v.mul_(u),
    "a tensor": lambda m, v, u: v.copy_(u),
    "an assignment": lambda m, v, u: v.__setitem__(Ellipsis, u),
    "a function": lambda m, v, u: v.sin_(),
    "a part": lambda m, v, u: v[..., None][:1].mul_(2.0) if v.ndim else v.mul_(2.0),
}


def written(m, view, write):
    """The value of a tensor written through a view, and the gradients of what went in."""
    x, z = inputs(m)
    y = x * 2
    beside = y[1:]  # another view, which sees what is written
    v = view(m, y)
    write(m, v, view(m, z) if v.shape == view(m, z).shape else z)
    total = (y * z).sum() + (v * v).sum() + beside.exp().sum()
    total.backward()
    return [np.asarray(t.detach()) for t in (y, v, beside, x.grad, z.grad)]


@pytest.mark.torch
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", [n for n in VIEWS if n not in ("split_with_sizes", "unbind")])
def test_writing_through_a_view(torch, name, write):
    """But for one of several outputs, which PyTorch does not let write."""
    ours, theirs = (written(m, VIEWS[name], WRITES[write]) for m in (tensorgrad, torch))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("name", VIEWS)
def test_zeros_through_a_view(name):
    """Where zeros were written no gradient flows; where not, all of it."""
    x, _ = inputs(tensorgrad)
    y = x * 2
    VIEWS[name](tensorgrad, y).zero_()
    y.sum().backward()
    there = np.zeros((3, 3, 2))
    VIEWS[name](tensorgrad, tensorgrad.from_numpy(there)).add_(1)
    np.testing.assert_array_equal(x.grad.numpy(), np.where(there, 0, 2))
    np.testing.assert_array_equal(y.detach().numpy(), np.where(there, 0, 2 * x.detach().numpy()))


@pytest.mark.parametrize("name", READ_ONLY)
def test_an_element_in_several_places_is_not_written(name):
    y = inputs(tensorgrad)[0] * 2
    view = READ_ONLY[name](tensorgrad, y)
    with pytest.raises(RuntimeError, match=r"this memory cannot be written.*clone"):
        view.add_(1)
    with pytest.raises(RuntimeError, match="this memory cannot be written"):
        view[0] = 1.0


def test_windows_see_what_is_written_below_them():
    x = tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    y = x * 1
    windows = y.unfold(0, 2, 1)
    y[1] = 10 * x[0]
    assert windows.tolist() == [[1, 10], [10, 3], [3, 4]]
    windows.sum().backward()
    assert x.grad.tolist() == [1 + 2 * 10, 0, 2, 1]


# --- in-place forms that change the shape ---------------------------------------------------------

TURNS = {
    "squeeze_": lambda m, t: t.squeeze_(),
    "squeeze_ a dim": lambda m, t: t.squeeze_(1),
    "unsqueeze_": lambda m, t: t.unsqueeze_(-1),
    "t_": lambda m, t: t.t_(),
    "transpose_": lambda m, t: t.transpose_(0, 1),
    "swapaxes_": lambda m, t: t.swapaxes_(-1, 0),
    "swapdims_": lambda m, t: t.swapdims_(0, 1),
    "chain": lambda m, t: t.t_().unsqueeze_(0).mul_(2).squeeze_(0),
    "tril_": lambda m, t: t.tril_(),
    "triu_": lambda m, t: t.triu_(1),
}


def turned(m, turn, shape):
    x = m.arange(9.0)[: int(np.prod(shape))].reshape(shape).requires_grad_()
    y = x * 2
    square, row = y * y, y[0]
    result = turn(m, y)
    assert result is y
    row.mul_(3)
    weights = m.arange(float(y.numel())).reshape(tuple(y.shape))
    ((y * weights).sum() + row.sum()).backward()
    return [np.asarray(t.detach()) for t in (y, row, square, x.grad)]


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(3, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("name", TURNS)
def test_shape_in_place(torch, name, shape):
    ours, theirs = (turned(m, TURNS[name], shape) for m in (tensorgrad, torch))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shape_in_place_keeps_the_memory():
    x = tensorgrad.zeros(2, 3)
    assert x.t_() is x
    assert x.shape == (3, 2)
    row = x[1]
    x.unsqueeze_(0)
    x += 1
    assert (x.shape, row.tolist()) == ((1, 3, 2), [1, 1])
    x = tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * x  # keeps x, and not y: the backward pass does not mind
    y.t_()
    (y * tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert x.grad.tolist() == [[2, 400], [60, 8000]]


def test_shape_in_place_is_refused_where_gradients_need_the_shape():
    x = tensorgrad.zeros(2, 3, requires_grad=True)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"t_: .*leaf.*use t\(\)"):
        x.t_()
    with tensorgrad.no_grad(), pytest.raises(RuntimeError, match=r"squeeze_: .*use squeeze\(\)"):
        y.squeeze_()
    assert (x.shape, y.shape) == ((2, 3), (2, 3))


# --- values and derivatives -----------------------------------------------------------------------


def test_closed_forms():
    x = tensorgrad.arange(6).reshape(2, 3)
    assert x.flip(0, 1).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert x.roll(1).tolist() == [[5, 0, 1], [2, 3, 4]]
    assert x.roll((1, -1), (0, 1)).tolist() == [[4, 5, 3], [1, 2, 0]]
    assert x.rot90().tolist() == [[2, 5], [1, 4], [0, 3]]
    assert x.rot90(-1).tolist() == [[3, 0], [4, 1], [5, 2]]
    assert x.unfold(1, 2, 1).tolist() == [[[0, 1], [1, 2]], [[3, 4], [4, 5]]]
    assert x.repeat_interleave(tensor([0, 2]), 0).tolist() == [[3, 4, 5]] * 2
    assert tensorgrad.repeat_interleave(tensor([2, 0, 1])).tolist() == [0, 0, 2]
    assert x[0].diag(-1).tolist() == [[0] * 4, [0] * 4, [0, 1, 0, 0], [0, 0, 2, 0]]
    assert tensorgrad.tril_indices(2, 3, 1).tolist() == [[0, 0, 1, 1, 1], [0, 1, 0, 1, 2]]
    assert tensorgrad.block_diag(x, x[0, :1]).tolist() == [[0, 1, 2, 0], [3, 4, 5, 0], [0] * 4]
    assert tensorgrad.combinations(x[1]).tolist() == [[3, 4], [3, 5], [4, 5]]
    assert tensorgrad.cartesian_prod(x[0, 1:], x[1, :2]).tolist() == [
        [1, 3], [1, 4], [2, 3], [2, 4],
    ]  # fmt: skip
    assert [p.tolist() for p in x.tensor_split(2, 1)] == [[[0, 1], [3, 4]], [[2], [5]]]
    empty = tensorgrad.zeros(0, dtype="float64")
    joined = tensorgrad.cat([empty, x])
    assert (joined.shape, joined.dtype) == ((2, 3), "float64")


COMPOSED = {
    "repeat": lambda t: t.repeat(2, 1, 3, 1),
    "repeat_interleave": lambda t: t.repeat_interleave(tensor([2, 0, 1]), 1),
    "diag_embed": lambda t: t.diag_embed(1, 0, -2),
    "diag": lambda t: t[0].diag(-1),
    "diagonal_scatter": lambda t: (t * t).diagonal_scatter(t[:2, 0].T, 0, 0, 1),
    "slice_scatter": lambda t: (t * t).slice_scatter(t[:, :2], 1, 0, 3, 2),
    "select_scatter": lambda t: (t * t).select_scatter(t[0], 0, -1),
    "unfold twice": lambda t: t.unfold(1, 2, 1).unfold(0, 2, 1) ** 2,
    "block_diag": lambda t: tensorgrad.block_diag(t[0], t[1, 0], t[0, 0, 0]),
    "meshgrid": lambda t: tensorgrad.meshgrid(t[0, 0], t[1, :, 0], indexing="xy"),
    "combinations": lambda t: tensorgrad.combinations(t[1, :, 0], 2, True) ** 2,
    "in place": lambda t: (t * t).transpose_(0, 2).mul_(t[:, :, :1]),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_derivatives(name):
    x = tensorgrad.randn(2, 3, 2, dtype="float64", requires_grad=True)
    assert gradcheck(COMPOSED[name], [x])
    assert gradgradcheck(COMPOSED[name], [x])


def test_stack_is_one_operation():
    x = tensorgrad.zeros(3, requires_grad=True)
    y = tensorgrad.stack([x, x, tensorgrad.ones(3)], 1)
    assert y.grad_fn.op.name == "stack"
    assert [p is x for p in y.grad_fn.parents] == [True, True, False]


def test_joining_many_saves_the_shapes_once():
    y = tensorgrad.cat([tensorgrad.zeros(1, requires_grad=True) for _ in range(9)])
    assert [what for what, _ in y.grad_fn.plan.keep].count("shapes") == 1


def test_bits_are_not_read_as_another_dtype():
    x = tensorgrad.zeros(2, 3)
    with pytest.raises(RuntimeError, match=r"view: the bits of .* cannot be read as .*int32"):
        x.view(tensorgrad.int32)
    with pytest.raises(RuntimeError, match=r"as_strided.*unfold and diagonal make views"):
        x.as_strided((2,), (1,))


@pytest.mark.torch
@pytest.mark.parametrize("family", [functions.shapes, functions.moving, functions.joining])
def test_functions_and_methods_are_where_torch_has_them(torch, family):
    for name in (*family.__all__, *family.METHODS_ONLY):
        for ours, theirs in ((tensorgrad, torch), (tensorgrad.Tensor, torch.Tensor)):
            assert hasattr(ours, name) == hasattr(theirs, name), (ours, name)
    assert all(hasattr(torch.Tensor, f"{name}_") for name in family.IN_PLACE)
