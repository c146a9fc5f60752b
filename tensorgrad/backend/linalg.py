"""Stacks of matrices [..., n, n]: NumPy's routines, with complaints that say which matrix and why.

``xp.linalg`` of the formulas. Beside what NumPy has there are the cofactors, which are the gradient
of the determinant even where there is no inverse, and the Einstein sum of two arrays as one BLAS
product.
"""

from __future__ import annotations

import math
from functools import lru_cache, wraps

import numpy as np
from numpy.linalg import det, qr, slogdet

__all__ = [
    "LinAlgError", "cholesky", "cofactor", "contract", "det", "diagonal", "inv", "qr",
    "require_regular", "slogdet", "solve",
]  # fmt: skip


class LinAlgError(RuntimeError):
    """A matrix is not what a decomposition needs: singular, or not positive definite."""


def _explained(function, fails, complaint):
    """``function`` of a stack, raising a LinAlgError that names the first matrix that ``fails``."""

    @wraps(function)
    def call(a, *more):
        try:
            return function(a, *more)
        except np.linalg.LinAlgError as error:
            if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
                raise LinAlgError(f"{function.__name__}: {error}") from None
            for index in np.ndindex(a.shape[:-2]):
                try:
                    fails(a[index])
                except np.linalg.LinAlgError:
                    break
            which = f"matrix {list(index)} of a stack of shape {a.shape}" if index else "the matrix"
            raise LinAlgError(f"{function.__name__}: {which} {complaint}") from None

    return call


inv = _explained(np.linalg.inv, np.linalg.inv, "is singular: it has no inverse")
solve = _explained(
    np.linalg.solve, np.linalg.inv, "is singular: the equations have no unique solution"
)
cholesky = _explained(
    np.linalg.cholesky, np.linalg.cholesky,
    "is not positive definite; one like X @ X.mT + eps * I is",
)  # fmt: skip


def _regular(a, inverse):
    """Whether every inverse is more than rounding errors: 1-norm condition numbers."""
    with np.errstate(all="ignore"):
        size, inverse_size = (np.abs(m).sum(-2).max(-1, initial=0) for m in (a, inverse))
        return bool(np.all(size * inverse_size * np.finfo(a.dtype).eps * a.shape[-1] < 1e-2))


def require_regular(a, what):
    """Raise a LinAlgError, for the sake of ``what``, if a matrix is singular but for rounding."""
    try:
        regular = _regular(a, np.linalg.inv(a))
    except np.linalg.LinAlgError:
        regular = False
    if not regular and np.isfinite(a).all():
        raise LinAlgError(f"{what} is not implemented at a matrix as good as singular")


def cofactor(a):
    """The signed minors: det(a) * inv(a)ᵀ where there is an inverse, and right where there is none.

    >>> cofactor(np.array([[1.0, 2.0], [2.0, 4.0]])).round(6)
    array([[ 4., -2.],
           [-2.,  1.]])
    """
    with np.errstate(all="ignore"):
        d = np.abs(det(a))
        try:
            inverse = np.linalg.inv(a)
            if _regular(a, inverse) and np.all((d > np.finfo(a.dtype).tiny) & (d < np.inf)):
                return det(a)[..., None, None] * inverse.swapaxes(-1, -2)
        except np.linalg.LinAlgError:
            pass
        # From a = U S Vᵀ follows cof(a) = ±U cof(S) Vᵀ, and the cofactors of a diagonal matrix are
        # the products of the other elements of the diagonal.
        broken = ~np.isfinite(a).all((-2, -1), keepdims=True)
        u, s, vt = np.linalg.svd(np.where(broken, 0, a))
        one = s.dtype.type(1)
        others = np.where(np.eye(s.shape[-1], dtype=bool), one, s[..., None, :]).prod(-1)
        sign = np.sign(det(u @ vt))[..., None, None]
        return np.where(broken, s.dtype.type(np.nan), sign * (u * others[..., None, :]) @ vt)


def diagonal(x, offset=0, axis1=0, axis2=1):
    """A view of the diagonals as the last axis; writing into it writes into ``x``."""
    view = np.diagonal(x, offset, axis1, axis2)
    if view.base is not None:
        view.flags.writeable = x.flags.writeable  # NumPy's is read-only by choice
    return view


def contract(a, b, *, subscripts):
    """The Einstein sum of two arrays over the labels that both have and the result lacks.

    ``subscripts`` is as in ``"bij,bjk->bik"``: no label twice in one term, none in one term only,
    and sizes that are equal.
    """
    order_a, order_b, stacked, rowed, back = _layout(subscripts)
    a, b = a.transpose(order_a), b.transpose(order_b)
    stack, rows, inner = a.shape[:stacked], a.shape[stacked:rowed], a.shape[rowed:]
    columns = b.shape[stacked + len(inner) :]
    product = np.matmul(_matrices(a, stack, rows, inner), _matrices(b, stack, inner, columns))
    return product.reshape(stack + rows + columns).transpose(back)


@lru_cache(maxsize=1024)
def _layout(subscripts):
    """The axes of each array as a stack of matrices, where these begin and where columns of the
    first do, and the axes of the result."""
    terms, out = subscripts.split("->")
    x, y = terms.split(",")
    stack = [label for label in out if label in x and label in y]
    rows = [label for label in out if label not in y]
    columns = [label for label in out if label not in x]
    inner = [label for label in x if label in y and label not in out]
    labels = [*stack, *rows, *columns]
    return (
        [x.index(label) for label in (*stack, *rows, *inner)],
        [y.index(label) for label in (*stack, *inner, *columns)],
        len(stack),
        len(stack) + len(rows),
        [labels.index(label) for label in out],
    )


def _matrices(array, stack, rows, columns):
    """Two groups of axes as two axes, with strides that BLAS takes."""
    matrices = array.reshape((*stack, math.prod(rows), math.prod(columns)))
    if array.itemsize in matrices.strides[-2:]:
        return matrices
    return np.ascontiguousarray(matrices)  # NumPy before 2.3 hands no other strides to BLAS
