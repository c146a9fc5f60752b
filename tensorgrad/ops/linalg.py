"""Matrix products."""

from __future__ import annotations

from ..core import op


def _products(source):
    for a, b in (
        ((2, 3), (3, 2)), ((4, 2, 3), (3, 2)), ((4, 2, 3), (4, 3, 1)), ((2, 1, 2, 3), (3, 3, 2)),
        ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)),
        ((0, 3), (3, 2)), ((2, 0), (0, 2)),
    ):  # fmt: skip
        yield (source.normal(*a), source.normal(*b)), {}
    yield (source.normal(3, 2).T, source.normal(2, 3).T), {}


@op(samples=_products)
def matmul(xp, a, b):
    """The matrix product over the last two axes, the others broadcast; vectors as in NumPy."""
    return a @ b


def _left(xp, g, b, a_shape):
    if len(b.shape) == 1:  # [.., n, k] @ [k] → [.., n]; [k] @ [k] → []
        return g * b if len(a_shape) == 1 else xp.expand_dims(g, axis=-1) * b
    if len(a_shape) == 1:  # [k] @ [.., k, m] → [.., m]
        return xp.squeeze(b @ xp.expand_dims(g, axis=-1), axis=-1)
    return g @ xp.swapaxes(b, -1, -2)


def _right(xp, g, a, b_shape):
    if len(a.shape) == 1:
        return a * g if len(b_shape) == 1 else xp.expand_dims(a, axis=-1) * xp.expand_dims(g, -2)
    if len(b_shape) == 1:
        return xp.squeeze(xp.swapaxes(a, -1, -2) @ xp.expand_dims(g, axis=-1), axis=-1)
    if len(b_shape) == 2 and len(a.shape) > 2:  # one product, not a batch of them to sum up
        a, g = xp.reshape(a, (-1, a.shape[-1])), xp.reshape(g, (-1, g.shape[-1]))
    return xp.swapaxes(a, -1, -2) @ g


matmul.vjp(_left, _right)
