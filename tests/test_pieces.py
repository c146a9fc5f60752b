"""Gradients of pieces of an array, which are put together when all have come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tensorgrad
from tensorgrad import engine
from tensorgrad.backend import scatter

SHAPE = (4, 6, 3)


def one_piece(axis: int) -> st.SearchStrategy:
    n = SHAPE[axis]
    ends = st.integers(-n, n)
    steps = st.sampled_from([None, 1, 2])
    last = st.one_of(st.integers(-n, n - 1), st.builds(slice, ends, ends, steps))
    return last.map(lambda last: (*[slice(None)] * axis, last))


def cut(axis: int) -> st.SearchStrategy:
    """All positions of an axis, in pieces."""
    n = SHAPE[axis]

    def pieces(ends: list[int]) -> list[tuple]:
        places = zip([0, *sorted(ends)], [*sorted(ends), n], strict=True)
        return [(*[slice(None)] * axis, slice(*place)) for place in places]

    return st.lists(st.integers(0, n), max_size=10).map(pieces)


INDICES = st.one_of(
    st.lists(st.integers(0, 2).flatmap(one_piece), min_size=1, max_size=5),
    st.integers(0, 2).flatmap(cut).flatmap(st.permutations),
    st.just([(i,) for i in range(4)]),
    st.just([2, -1, ([0, 0],), (..., 1), None, ()]),
)


@example([(slice(0, 3),), (slice(1, 4),)], False, [0, 1, 2])  # overlapping
@example([(slice(0, 2),), (slice(None), slice(2, 6))], False, [0, 1, 2])  # of two axes
@example([(slice(None), slice(2, 6)), (slice(0, 2),)], False, [0, 1, 2])
@example([(slice(0, 2),), (slice(3, 4),)], False, [0, 1, 2])  # with a gap
@example([(slice(0, 4, 3),)], False, [0, 1, 2])  # with gaps
@given(INDICES, st.booleans(), st.permutations(range(3)))
def test_the_sum_of_what_was_scattered(indices: list, dense: bool, axes: list[int]) -> None:
    """Each piece's gradient is its own factor; they add up where pieces overlap."""
    leaf = tensorgrad.ones(SHAPE, requires_grad=True)
    x = (3 * leaf).permute(axes).permute(*np.argsort(axes))
    loss: Any = x.sum() if dense else 0.0
    expected = np.full(SHAPE, float(dense))
    for factor, index in enumerate(indices, 1):
        loss = loss + factor * x[index].sum()
        np.add.at(expected, index, factor)
    loss.backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), 3 * expected)
    (found,) = tensorgrad.autograd.grad((x[indices[0]] ** 2).sum(), x)
    only = np.zeros(SHAPE)
    np.add.at(only, indices[0], 6)
    np.testing.assert_array_equal(found.numpy(), only)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_all_pieces_need_no_zeros(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = tensorgrad.ones(4, 4, 4, requires_grad=True)
    x = leaf * 2
    monkeypatch.delattr(scatter.np, "zeros")
    for pieces in (x.unbind(dim), x.split([1, 3], dim), x.chunk(2, dim)):
        loss: Any = sum(i * piece.sum() for i, piece in enumerate(pieces, 1))
        loss.backward(retain_graph=True)
    assert leaf.grad.sum().item() == 2 * 16 * (10 + 7 + 6)


def test_no_more_pieces_wait_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    assembled = engine.arrays_xp.assembled
    monkeypatch.setattr(
        engine.arrays_xp,
        "assembled",
        lambda parts, strides: waited.append(len(parts)) or assembled(parts, strides),
    )
    leaf = tensorgrad.arange(20.0).requires_grad_()
    x = leaf * 1
    sum(i * piece for i, piece in enumerate(x.unbind())).backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), np.arange(20.0))
    assert max(waited) == engine.PARTS
