"""Products of matrices, and what is solved, factored and read off them.

Matrices are the last two axes, those before them a stack. In formulas these are ``xp.linalg.*``.
"""

from __future__ import annotations

from math import prod

from ..backend.linalg import require_regular
from ..core import op


def _transposed(xp, x):
    return xp.swapaxes(x, -1, -2)


# --- products -------------------------------------------------------------------------------------


def _products(source):
    for a, b in (
        ((2, 3), (3, 2)), ((4, 2, 3), (3, 2)), ((4, 2, 3), (4, 3, 1)), ((2, 1, 2, 3), (3, 3, 2)),
        ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)),
        ((0, 3), (3, 2)), ((2, 0), (0, 2)), ((2, 3, 0), (0, 0)),
    ):  # fmt: skip
        yield (source.normal(*a), source.normal(*b)), {}
    yield (source.normal(3, 2).T, source.normal(2, 3).T), {}


@op(samples=_products)
def matmul(xp, a, b):
    """The matrix product over the last two axes, the others broadcast; vectors as in NumPy."""
    _multipliable("matmul", a, b)
    return xp.matmul(a, b)


def _multipliable(name, a, b):
    """Products do not promote: one matrix of another dtype is a mistake more often than meant."""
    try:
        if a.dtype is b.dtype and a.dtype.kind != "b":
            return
    except AttributeError:
        raise TypeError("expected two tensors; * multiplies by a number") from None
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"{name}: the dtypes must be equal, got {a.dtype} and {b.dtype}; .to() casts"
        )
    if a.dtype.kind == "b":
        raise RuntimeError(f"{name}: bools are no numbers; cast them with .to() first")


def _left(xp, g, b, a_shape):
    if len(b.shape) == 1:  # [.., n, k] @ [k] → [.., n]; [k] @ [k] → []
        return g * b if len(a_shape) == 1 else xp.expand_dims(g, axis=-1) * b
    if len(a_shape) == 1:  # [k] @ [.., k, m] → [.., m]
        return xp.squeeze(b @ xp.expand_dims(g, axis=-1), axis=-1)
    return xp.matmul(g, _transposed(xp, b))


def _right(xp, g, a, b_shape):
    if len(a.shape) == 1:
        return a * g if len(b_shape) == 1 else xp.expand_dims(a, axis=-1) * xp.expand_dims(g, -2)
    if len(b_shape) == 1:
        return xp.squeeze(_transposed(xp, a) @ xp.expand_dims(g, axis=-1), axis=-1)
    if len(b_shape) == 2 and len(a.shape) > 2:  # one product, not a batch of them to sum up
        rows = prod(a.shape[:-1])  # not -1, which is ambiguous where another size is 0
        a, g = xp.reshape(a, (rows, a.shape[-1])), xp.reshape(g, (rows, g.shape[-1]))
    return xp.matmul(_transposed(xp, a), g)


matmul.vjp(_left, _right)


def _contractions(source):
    for subscripts, a, b in (
        ("ij,jk->ik", (2, 3), (3, 2)), ("ij,jk->ki", (2, 3), (3, 4)), ("i,i->", (3,), (3,)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 1)), ("ibj,kjb->bki", (2, 3, 2), (1, 2, 3)),
        ("ij,jkl->lik", (2, 2), (2, 3, 2)), ("ijk,kj->i", (2, 3, 2), (2, 3)),
        ("ij,jk->ik", (2, 0), (0, 3)), ("ij,jk->ik", (0, 2), (2, 3)), ("b,bi->bi", (2,), (2, 3)),
    ):  # fmt: skip
        yield (source.normal(*a), source.normal(*b)), {"subscripts": subscripts}
    yield (source.normal(3, 2).T, source.normal(2, 3).T), {"subscripts": "ij,jk->ik"}


@op(samples=_contractions)
def contract(xp, a, b, /, subscripts):
    """The Einstein sum of two arrays: every label stands in two of the three terms, or in all."""
    _multipliable("einsum", a, b)
    return xp.linalg.contract(a, b, subscripts=subscripts)


def _with(subscripts, *terms):
    """The subscripts for other roles of the three terms, 0 and 1 the arguments and 2 the result."""
    parts = subscripts.replace("->", ",").split(",")
    first, second, result = (parts[i] for i in terms)
    return f"{first},{second}->{result}"


contract.vjp(
    lambda xp, g, b, subscripts: xp.linalg.contract(g, b, subscripts=_with(subscripts, 2, 1, 0)),
    lambda xp, g, a, subscripts: xp.linalg.contract(a, g, subscripts=_with(subscripts, 0, 2, 1)),
)


# --- diagonals ------------------------------------------------------------------------------------


def _diagonals(source):
    for shape, offset, axis1, axis2 in (
        ((3, 3), 0, 0, 1), ((2, 4), 1, 0, 1), ((4, 2), -1, -2, -1), ((2, 3, 2), 0, 2, 0),
        ((2, 3), 5, 0, 1), ((0, 3), 0, 0, 1), ((3, 2, 3), -1, 0, 2),
    ):  # fmt: skip
        yield (source.normal(*shape),), {"offset": offset, "axis1": axis1, "axis2": axis2}
    yield (source.normal(3, 2).T,), {}


@op(samples=_diagonals, view=True)
def diagonal(xp, x, /, offset=0, axis1=0, axis2=1):
    """The diagonals over two axes, which are replaced by one at the end."""
    return xp.linalg.diagonal(x, offset, axis1, axis2)


def onto_diagonal(xp, g, x_shape, offset, axis1, axis2):
    """Zeros of ``x_shape`` with ``g`` on the diagonals: every (m + 1)-th element of a matrix."""
    axis1, axis2 = axis1 % len(x_shape), axis2 % len(x_shape)
    axes = [i for i in range(len(x_shape)) if i not in (axis1, axis2)] + [axis1, axis2]
    *stack, n, m = (x_shape[i] for i in axes)
    start = max(offset, -offset * m, 0)
    steps = slice(start, start + g.shape[-1] * (m + 1), m + 1)
    flat = xp.scatter(g, index=(Ellipsis, steps), shape=(*stack, n * m))
    matrices = xp.reshape(flat, (*stack, n, m))
    return xp.permute_dims(matrices, tuple(axes.index(i) for i in range(len(axes))))


diagonal.vjp(onto_diagonal)


# --- inverses and determinants --------------------------------------------------------------------


def _regular(source, *shape):
    """Matrices far from singular: each diagonal outweighs the rest of its row."""
    x = source.uniform(-1, 1, *shape)
    for i in range(shape[-1]):
        x[..., i, i] += (-1) ** i * (1 + shape[-1])
    return x


def _invertible(source):
    for shape in ((2, 2), (3, 3), (1, 1), (2, 1, 2, 2), (0, 2, 2), (0, 0)):
        yield (_regular(source, *shape),), {}
    yield (_regular(source, 3, 3).T,), {}


@op(samples=_invertible)
def inv(xp, a):
    return xp.linalg.inv(a)


inv.vjp(lambda xp, g, y: -_transposed(xp, y) @ g @ _transposed(xp, y))


def _systems(source):
    for a, b in (
        ((2, 2), (2, 3)), ((3, 3), (3, 1)), ((2, 2, 2), (2, 2, 1)), ((2, 1, 2, 2), (3, 2, 1)),
        ((2, 2), (3, 2, 1)), ((2, 2, 2), (2, 2)), ((2, 2), (2, 0)), ((0, 0), (0, 2)),
    ):  # fmt: skip
        yield (_regular(source, *a), source.normal(*b)), {}
    yield (_regular(source, 2, 2).T, source.normal(3, 2).T), {}


@op(samples=_systems)
def solve(xp, a, b):
    """``x`` with ``a @ x = b``: [.., n, n] and [.., n, k] → [.., n, k]."""
    return xp.linalg.solve(a, b)


solve.vjp(
    lambda xp, g, y, a: -xp.linalg.solve(_transposed(xp, a), g) @ _transposed(xp, y),
    lambda xp, g, a: xp.linalg.solve(_transposed(xp, a), g),
)


def _squares(source):
    yield from _invertible(source)
    yield (source.normal(1, 3, 3),), {}


@op(samples=_squares)
def det(xp, a):
    return xp.linalg.det(a)


det.vjp(lambda xp, g, a: xp.expand_dims(g, axis=(-2, -1)) * xp.linalg.cofactor(a))


@op(samples=_invertible)
def cofactor(xp, a):
    """The signed minors of a matrix: the derivative of its determinant, also where that is 0."""
    return xp.linalg.cofactor(a)


def _cofactor_vjp(xp, g, y, a):
    require_regular(getattr(a, "array", a), "the second derivative of det")
    inner = xp.sum(g * y, axis=(-2, -1), keepdims=True)
    inverse = _transposed(xp, xp.linalg.inv(a))
    return inner * inverse - y @ _transposed(xp, g) @ inverse


cofactor.vjp(_cofactor_vjp)


@op(samples=_squares)
def logabsdet(xp, a):
    """log |det a|, which neither overflows nor underflows."""
    return xp.linalg.slogdet(a)[1]


logabsdet.vjp(lambda xp, g, a: xp.expand_dims(g, axis=(-2, -1)) * _transposed(xp, xp.linalg.inv(a)))


@op(samples=_squares)
def detsign(xp, a):
    """The sign of det a, which moves only at a jump."""
    return xp.linalg.slogdet(a)[0]


# --- factors --------------------------------------------------------------------------------------


def _definite(source):
    for args, params in _invertible(source):
        (x,) = args
        yield (x @ x.swapaxes(-1, -2),), params


@op(samples=_definite)
def cholesky(xp, a):
    """The lower triangular L with L @ Lᵀ = a, of which only the lower triangle is read."""
    return xp.linalg.cholesky(a)


def _half(xp, x):
    """The lower triangle with half of its diagonal: x = _half(x) + _half(x)ᵀ for symmetric x."""
    return 0.5 * (xp.tril(x) + xp.tril(x, -1))


def _cholesky_vjp(xp, g, y):
    upper = _transposed(xp, y)
    # L⁻ᵀ half(Lᵀ g) L⁻¹, its transpose for the second product to be a solution too.
    x = xp.linalg.solve(upper, _transposed(xp, xp.linalg.solve(upper, _half(xp, upper @ g))))
    return _half(xp, x + _transposed(xp, x))


cholesky.vjp(_cholesky_vjp)
