"""nn.utils: gradients clipped, parameters as one vector, sequences padded; against PyTorch, and
against sums in float64 and examples worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nn
import tensorgrad
from nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)
from nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from tensorgrad import tensor

ORDERS = [1, 2, 2.5, 3.0, 0.5, 0, -1, math.inf, -math.inf]

# --- clipping -------------------------------------------------------------------------------------


def with_gradients(m, *arrays):
    ps = [m.tensor(np.zeros_like(a), requires_grad=True) for a in arrays]
    for p, a in zip(ps, arrays, strict=True):
        p.grad = m.tensor(a)
    return ps


def utils(m):
    return nn.utils if m is tensorgrad else m.nn.utils


@pytest.mark.parametrize("max_norm", [0.5, 13.0, 20.0])
def test_clipping(max_norm):
    ps = with_gradients(tensorgrad, np.array([3.0, 4.0]), np.array([[12.0]]))
    ps.append(tensor([1.0], requires_grad=True))  # without a gradient
    norm = clip_grad_norm_(iter(ps), max_norm)
    assert (norm.item(), norm.shape, norm.dtype) == (13.0, (), "float64")
    clipped = np.concatenate([p.grad.numpy().ravel() for p in ps[:2]])
    np.testing.assert_allclose(clipped, np.array([3, 4, 12]) * min(1, max_norm / 13), rtol=1e-6)
    assert ps[2].grad is None


@pytest.mark.parametrize(
    ("order", "expected"), [(1, 19), (2, 13), (math.inf, 12), (-math.inf, 5), (0, 2)]
)
def test_norms_of_other_orders(order, expected):
    """The norms of the tensors' norms: of 3 and 4, and of 12."""
    tensors = [tensor([3.0, -4.0]), tensor([[-12.0]])]
    if order == -math.inf:
        tensors = [tensor([-5.0, 6.0]), tensor([[-12.0]])]
    assert get_total_norm(tensors, order).item() == expected


def test_clipping_a_single_tensor_and_none():
    (p,) = with_gradients(tensorgrad, np.array([3.0, 4.0], np.float32))
    assert clip_grad_norm_(p, 1.0).item() == 5.0
    assert p.grad.numpy() == pytest.approx([0.6, 0.8])
    assert clip_grad_norm_([tensor(1.0, requires_grad=True)], 1.0).item() == 0.0
    assert clip_grad_norm_([], 1.0).item() == 0.0
    with pytest.warns(UserWarning, match="exhausted generator"):
        clip_grad_norm_((p for p in ()), 1.0)


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
@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_a_norm_that_is_not_finite(bad, order):
    arrays = np.array([1.0, bad]), np.array([2.0])
    with pytest.raises(RuntimeError, match=r"the norm of the gradients is (nan|inf)"):
        clip_grad_norm_(with_gradients(tensorgrad, *arrays), 1.0, order, error_if_nonfinite=True)
    ps = with_gradients(tensorgrad, *arrays)
    assert not math.isfinite(clip_grad_norm_(ps, 1.0, order).item())
    assert not all(np.isfinite(p.grad.numpy()).all() for p in ps)
    assert ps[1].grad.item() == 0 or np.isnan(ps[1].grad.item())  # none is left as it was


VALUES = [[3.0, -4.0], [0.1, 0.1], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]]


@pytest.mark.torch
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_is_that_of_torch(torch, values, order, dtype):
    results = []
    arrays = np.array(values, dtype), np.array([[2.0]], dtype), np.array([0.5, 0.0], dtype)
    for m in (tensorgrad, torch):
        ps = with_gradients(m, *arrays)
        with np.errstate(divide="ignore"):  # 0 to a negative power
            norm = utils(m).clip_grad_norm_(ps, 1.5, order)
        total = utils(m).get_total_norm([p.grad for p in ps], order)
        assert str(norm.dtype).endswith(dtype)
        results.append([norm.item(), total.item(), *(p.grad.tolist() for p in ps)])
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("values", VALUES)
def test_clipping_values_is_that_of_torch(torch, values):
    results = []
    for m in (tensorgrad, torch):
        ps = [*with_gradients(m, np.array(values), np.array(2.0)), m.tensor([1.0])]
        assert utils(m).clip_grad_value_(ps, 1.5) is None
        utils(m).clip_grad_value_(ps[0], np.float32(2.5))
        found = [p.grad.tolist() for p in ps[:2]]
        utils(m).clip_grads_with_norm_(ps, 1.5, m.tensor(6.0))
        results.append([*found, *(p.grad.tolist() for p in ps[:2])])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)


def test_clipping_values():
    (p,) = with_gradients(tensorgrad, np.array([-3.0, 0.5, np.nan, 9.0]))
    before = p.grad
    clip_grad_value_([p], 1)
    np.testing.assert_array_equal(p.grad.numpy(), [-1.0, 0.5, np.nan, 1.0])
    assert p.grad is before
    clip_grads_with_norm_([p], 1.0, tensor(0.5))  # less than 1: nothing to do
    np.testing.assert_array_equal(p.grad.numpy(), [-1.0, 0.5, np.nan, 1.0])


@pytest.mark.parametrize(
    "clip",
    [
        lambda p: clip_grad_norm_(p, 0.1),
        lambda p: clip_grad_value_(p, 0.1),
        lambda p: clip_grads_with_norm_(p, 0.1, tensor(5.0)),
    ],
)
def test_clipping_is_a_write(clip):
    """A graph that saved the gradient notices."""
    (p,) = with_gradients(tensorgrad, np.array([3.0, 4.0]))
    p.grad.requires_grad_()
    loss = (p.grad * p.grad).sum()
    clip(p)
    with pytest.raises(RuntimeError, match="clip_grad"):
        loss.backward()


def test_the_trainer_and_nn_utils_clip_alike():
    assert tensorgrad.optim.clip_grad_norm_ is nn.utils.clip_grad_norm_


# --- parameters as a vector -----------------------------------------------------------------------


def test_vectors():
    layer = nn.Linear(2, 3)
    vector = parameters_to_vector(layer.parameters())
    assert vector.tolist() == [*layer.weight.flatten().tolist(), *layer.bias.tolist()]
    (vector * vector).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), 2 * layer.weight.detach().numpy())
    new = tensorgrad.arange(9.0)
    vector_to_parameters(new, layer.parameters())
    assert layer.weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert layer.bias.tolist() == [6.0, 7.0, 8.0]
    assert isinstance(layer.bias, nn.Parameter)
    assert layer.bias.requires_grad
    assert layer.bias.is_leaf
    new[0] = 9.0  # the memory is shared
    assert layer.weight[0, 0].item() == 9.0


def test_a_vector_that_is_too_short():
    layer = nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match=r"7 elements has none left for .* \(3,\)"):
        vector_to_parameters(tensorgrad.zeros(7), layer.parameters())
    with pytest.raises(TypeError, match="expected a tensor, got list"):
        vector_to_parameters([0.0] * 9, layer.parameters())
    with pytest.raises(ValueError, match="at least one tensor"):
        parameters_to_vector([])


@pytest.mark.torch
@pytest.mark.parametrize(
    "call",
    [
        lambda u, m: u.parameters_to_vector([m.zeros(2, 3).T]),
        lambda u, m: u.parameters_to_vector([]),
        lambda u, m: u.vector_to_parameters(m.zeros(3), [m.zeros(2, 2)]),
        lambda u, m: u.vector_to_parameters([1.0], [m.zeros(1)]),
        lambda u, m: u.rnn.pad_sequence([]),
        lambda u, m: u.rnn.pad_sequence(3),
        lambda u, m: u.rnn.pad_sequence([m.tensor(1.0)]),
        lambda u, m: u.rnn.pad_sequence([m.zeros(2, 3), m.zeros(2, 4)]),
        lambda u, m: u.rnn.pad_sequence([m.zeros(2, 3), m.zeros(2)]),
        lambda u, m: u.rnn.pad_sequence([m.zeros(2)], padding_side="up"),
        lambda u, m: u.rnn.unpad_sequence(m.zeros(3, 2), m.tensor([1, 2, 3])),
        lambda u, m: u.rnn.pack_padded_sequence(m.zeros(3, 2), [1, 2]),
        lambda u, m: u.rnn.pack_padded_sequence(m.zeros(3, 2), [1]),
        lambda u, m: u.rnn.pack_padded_sequence(m.zeros(3, 2), m.tensor([2, 0])),
        lambda u, m: u.rnn.pack_sequence([m.zeros(1), m.zeros(2)]),
        lambda u, m: u.rnn.pad_packed_sequence(
            u.rnn.pack_padded_sequence(m.zeros(3, 2), [2, 1]), total_length=1
        ),
    ],
)
def test_refuses_what_torch_refuses(torch, call):
    kinds = []
    for m in (tensorgrad, torch):
        with pytest.raises((ValueError, TypeError, RuntimeError, IndexError)) as caught:
            call(utils(m), m)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]


# --- sequences ------------------------------------------------------------------------------------


def test_padding():
    sequences = [tensor([[1.0, 2.0]]), tensor([[3.0, 4.0], [5.0, 6.0]])]
    padded = pad_sequence(sequences, batch_first=True, padding_value=-1.0)
    assert padded.tolist() == [[[1.0, 2.0], [-1.0, -1.0]], [[3.0, 4.0], [5.0, 6.0]]]
    left = pad_sequence(sequences, True, -1.0, padding_side="left")
    assert left.tolist() == [[[-1.0, -1.0], [1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]
    again = unpad_sequence(padded, tensor([1, 2]), batch_first=True)
    assert [s.tolist() for s in again] == [s.tolist() for s in sequences]


PADDED = {
    "first dim is time": lambda u, a, b, c: u.pad_sequence([a, b, c]),
    "batch first": lambda u, a, b, c: u.pad_sequence((a, b, c), True, 2.5),
    "on the left": lambda u, a, b, c: u.pad_sequence([a, b, c], padding_side="left"),
    "another dtype": lambda u, a, b, c: u.pad_sequence([a.double(), b, c]),
    "integers": lambda u, a, b, c: u.pad_sequence([a.long(), b.long()], padding_value=1.5),
    "the rows of a tensor": lambda u, a, b, c: u.pad_sequence(a),
    "one": lambda u, a, b, c: u.pad_sequence([c], True),
}


@pytest.mark.torch
@pytest.mark.parametrize("call", PADDED.values(), ids=PADDED)
def test_padding_is_that_of_torch(torch, call):
    results = []
    for m in (tensorgrad, torch):
        shapes = (4, 2, 3), (0, 2, 3), (6, 2, 3)
        rng = np.random.default_rng(0)
        given = [
            m.tensor(rng.standard_normal(s).astype("float32"), requires_grad=True) for s in shapes
        ]
        y = call(utils(m).rnn, *given)
        grads = []
        if y.requires_grad:
            (y * y.detach().cos()).sum().backward()
            grads = [None if x.grad is None else x.grad.numpy() for x in given]
        results.append([str(y.dtype).rpartition(".")[2], y.detach().numpy(), *grads])
    (ours_dtype, *ours), (theirs_dtype, *theirs) = results
    assert ours_dtype == theirs_dtype
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-6, strict=True)


@pytest.mark.torch
@pytest.mark.parametrize("batch_first", [False, True])
def test_unpadding_is_that_of_torch(torch, batch_first):
    x = np.random.default_rng(0).standard_normal((3, 3, 2))
    results = [
        utils(m).rnn.unpad_sequence(m.tensor(x), m.tensor([2, 0, 3]), batch_first)
        for m in (tensorgrad, torch)
    ]
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_packing():
    """Three sequences of 2, 3 and 1 elements."""
    padded = tensor([[1, 2, 0], [3, 4, 5], [6, 0, 0]])
    packed = pack_padded_sequence(padded, [2, 3, 1], batch_first=True, enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 6, 4, 2, 5]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    again, lengths = pad_packed_sequence(packed, batch_first=True)
    assert again.tolist() == padded.tolist()
    assert lengths.tolist() == [2, 3, 1]
    with pytest.raises(RuntimeError, match=r"from 1 to 3, not \[4, 1\]"):
        pack_padded_sequence(tensorgrad.zeros(3, 2), [4, 1])
    parts = [tensor([1, 2, 3]), tensor([4])]
    assert [s.tolist() for s in unpack_sequence(pack_sequence(parts))] == [[1, 2, 3], [4]]


PACKED = {
    "sorted": lambda u, x: u.pack_padded_sequence(x, [4, 2, 2]),
    "lengths as a tensor": lambda u, x: u.pack_padded_sequence(x, (x[0, :, 0] * 0 + 2).long()),
    "batch first": lambda u, x: u.pack_padded_sequence(x, [3, 2, 1, 1], batch_first=True),
    "in any order": lambda u, x: u.pack_padded_sequence(x, [1, 4, 2], enforce_sorted=False),
    "sequences": lambda u, x: u.pack_sequence([x[0, :2], x[1, :1]]),
    "sequences in any order": lambda u, x: u.pack_sequence([x[0, :1], x[1, :3]], False),
}


@pytest.mark.torch
@pytest.mark.parametrize("call", PACKED.values(), ids=PACKED)
def test_packing_is_that_of_torch(torch, call):
    results = []
    for m in (tensorgrad, torch):
        rng = np.random.default_rng(0)
        x = m.tensor(rng.standard_normal((4, 3, 2)), requires_grad=True)
        packed = call(utils(m).rnn, x)
        (packed.data * packed.data.detach().cos()).sum().backward()
        found = [*packed, x.grad]
        for batch_first in (False, True):
            found += utils(m).rnn.pad_packed_sequence(packed, batch_first, -1.0, total_length=6)
        found += utils(m).rnn.unpack_sequence(packed)
        assert type(packed).__name__ == "PackedSequence"
        assert packed.to(m.float32).data.dtype == m.float32
        results.append([None if t is None else t.detach().numpy() for t in found])
    for ours, theirs in zip(*results, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, strict=True)
