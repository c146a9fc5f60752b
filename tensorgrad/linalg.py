"""Matrix products, Einstein sums, determinants, solutions and norms, under PyTorch's names.

Matrices are the last two dims, those before them a stack. A product does not promote: its factors
have one dtype, integers among them. Where ``torch`` and ``torch.linalg`` give one name to two
functions (norm, cholesky, cross), this is ``torch.linalg``'s; but ``diagonal`` is ``torch``'s, and
so is ``p_norm``, as ``torch.norm``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from operator import index as as_int
from typing import Any, NamedTuple

from . import functions, ops
from .backend import xp
from .backend.linalg import LinAlgError
from .contraction import einsum, one_dtype_only, shapes_of, tensordot
from .functions.dims import dim_of
from .mode import is_grad_enabled
from .variable import wrap

__all__ = [
    "LinAlgError", "addbmm", "addmm", "addmv", "baddbmm", "bmm", "chain_matmul", "cholesky",
    "cross", "det", "diagonal", "dot", "einsum", "ger", "inner", "inv", "inverse", "kron", "logdet",
    "matmul", "matrix_norm", "matrix_power", "mm", "multi_dot", "mv", "norm", "outer", "p_norm",
    "qr", "slogdet", "solve", "tensordot", "trace", "vdot", "vector_norm",
]  # fmt: skip

matmul = ops.matmul


def _ranks(name: str, instead: str, **expected: tuple[Any, int]) -> None:
    """Refuse tensors that do not have the number of dims expected; ``instead``: what takes them."""
    for argument, (tensor, n) in expected.items():
        if len(tensor.shape) != n:
            raise RuntimeError(
                f"{name}: {argument} must have {n} dim{'s' * (n > 1)}, its shape is "
                f"{shapes_of(tensor)}{instead and '; '}{instead}"
            )


# --- products -------------------------------------------------------------------------------------


def mm(input: Any, mat2: Any) -> Any:
    """[n, k] @ [k, m] → [n, m]."""
    _ranks("mm", "matmul takes vectors and stacks", input=(input, 2), mat2=(mat2, 2))
    return ops.matmul(input, mat2)


def bmm(input: Any, mat2: Any) -> Any:
    """[b, n, k] @ [b, k, m] → [b, n, m]."""
    _stacks("bmm", input, mat2)
    return ops.matmul(input, mat2)


def _stacks(name: str, batch1: Any, batch2: Any) -> None:
    _ranks(name, "matmul takes any", batch1=(batch1, 3), batch2=(batch2, 3))
    if batch1.shape[0] != batch2.shape[0] or batch1.shape[2] != batch2.shape[1]:
        raise RuntimeError(
            f"{name}: shapes {shapes_of(batch1, batch2)} do not fit: expected [b, n, k] and "
            f"[b, k, m], but b is {batch1.shape[0]} and {batch2.shape[0]}, k is "
            f"{batch1.shape[2]} and {batch2.shape[1]}"
        )


def mv(input: Any, vec: Any) -> Any:
    """[n, k] @ [k] → [n]."""
    _ranks("mv", "matmul takes stacks", input=(input, 2), vec=(vec, 1))
    return ops.matmul(input, vec)


def dot(input: Any, tensor: Any) -> Any:
    """[n] @ [n] → [], the sum of products."""
    _ranks("dot", "inner and tensordot take more", input=(input, 1), tensor=(tensor, 1))
    if input.shape != tensor.shape:
        raise RuntimeError(f"dot: shapes {shapes_of(input, tensor)} must be equal")
    return ops.matmul(input, tensor)


vdot = dot  # of real numbers


def inner(input: Any, other: Any) -> Any:
    """The sums of products over the last dims: [.., k] and [*, k] → [.., *]."""
    one_dtype_only("inner", input, other)
    if not (input.shape and other.shape):
        return ops.multiply(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            f"inner: the last dims of shapes {shapes_of(input, other)} must be equal"
        )
    return tensordot(input, other, ([-1], [-1]))


def outer(input: Any, vec2: Any) -> Any:
    """All products: [n] and [m] → [n, m]. Not a matrix product: it promotes."""
    _ranks("outer", "kron and einsum take more", input=(input, 1), vec2=(vec2, 1))
    return ops.multiply(ops.expand_dims(input, -1), vec2)


ger = outer


def kron(input: Any, other: Any) -> Any:
    """The Kronecker product: ``input`` with each element times all of ``other`` in its place."""
    n = max(len(input.shape), len(other.shape))
    a, b = (((1,) * (n - len(t.shape)) + tuple(t.shape)) for t in (input, other))
    product = ops.multiply(
        ops.reshape(input, tuple(s for size in a for s in (size, 1))),
        ops.reshape(other, tuple(s for size in b for s in (1, size))),
    )
    return ops.reshape(product, tuple(i * j for i, j in zip(a, b)))


def cross(input: Any, other: Any, dim: int = -1) -> Any:
    """The cross product of vectors of length 3, which lie along ``dim``."""
    one_dtype_only("cross", input, other)
    if len(input.shape) != len(other.shape):
        raise RuntimeError(
            f"cross: the numbers of dims must be equal, got shapes {shapes_of(input, other)}"
        )
    dim = dim_of(input, dim)
    if not input.shape or input.shape[dim] != 3 or other.shape[dim] != 3:
        raise RuntimeError(f"cross: dim {dim} of shapes {shapes_of(input, other)} must have size 3")
    a, b = (
        [ops.getitem(t, (slice(None),) * dim + (slice(i, i + 1),)) for i in range(3)]
        for t in (input, other)
    )
    return ops.concat([a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)], dim)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * mat1 @ mat2``; ``input`` broadcasts."""
    return _plus("addmm", input, mm(mat1, mat2), beta, alpha)


def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * mat @ vec``; ``input`` broadcasts."""
    return _plus("addmv", input, mv(mat, vec), beta, alpha)


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * bmm(batch1, batch2)``; ``input`` broadcasts."""
    return _plus("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * bmm(batch1, batch2).sum(0)``, in one product."""
    _stacks("addbmm", batch1, batch2)
    product = ops.linalg.contract(batch1, batch2, subscripts="bij,bjk->ik")
    return _plus("addbmm", input, product, beta, alpha)


def _plus(name: str, input: Any, product: Any, beta: float, alpha: float) -> Any:
    one_dtype_only(name, input, product)
    if product.dtype.kind != "f" and not (isinstance(beta, int) and isinstance(alpha, int)):
        raise RuntimeError(
            f"{name}: beta {beta} and alpha {alpha} must be integers for tensors of {input.dtype}"
        )
    try:
        input = functions.broadcast_to(input, product.shape)
    except RuntimeError:
        raise RuntimeError(
            f"{name}: input of shape {shapes_of(input)} does not broadcast to the product's "
            f"{shapes_of(product)}"
        ) from None
    if alpha != 1:
        product = ops.multiply(product, alpha)
    if beta == 0:  # whatever input is: nan, or memory never written
        return product
    return ops.add(input if beta == 1 else ops.multiply(input, beta), product)


def matrix_power(A: Any, n: int) -> Any:
    """The product of ``n`` times the matrix A; of -n times its inverse where n is negative."""
    n = as_int(n)
    _square("matrix_power", A)
    if n == 0:
        return wrap(xp.array(xp.broadcast_to(xp.eye(A.shape[-1], dtype=A.dtype), A.shape)))
    base = inv(A) if n < 0 else A
    result, n = None, abs(n)
    while n:  # n in binary: the squares of the matrix that its ones stand for
        if n & 1:
            result = base if result is None else ops.matmul(result, base)
        n >>= 1
        if n:
            base = ops.matmul(base, base)
    return ops.clone(result) if result is A else result


def multi_dot(tensors: Sequence[Any]) -> Any:
    """The product of matrices in the order that takes the fewest multiplications.

    The first and the last may be vectors: a row and a column, which the result then lacks.
    """
    tensors = list(tensors)
    factors = list(tensors)
    if len(factors) < 2:
        raise RuntimeError(f"multi_dot: expected at least 2 tensors, got {len(factors)}")
    one_dtype_only("multi_dot", *factors)
    row, column = len(factors[0].shape) == 1, len(factors[-1].shape) == 1
    if row:
        factors[0] = ops.expand_dims(factors[0], 0)
    if column:
        factors[-1] = ops.expand_dims(factors[-1], 1)
    for i, factor in enumerate(factors):
        if len(factor.shape) != 2 or (i and factor.shape[0] != factors[i - 1].shape[1]):
            raise RuntimeError(
                f"multi_dot: shapes {shapes_of(*tensors)} do not fit at tensor {i}: expected "
                "matrices, each with as many rows as the one before has columns, and at most "
                "vectors at the ends"
            )
    product = _chain(factors)
    return ops.squeeze(product, (0,) * row + (1,) * column) if row or column else product


def _chain(factors: list[Any]) -> Any:
    """The product of matrices by dynamic programming over the runs i..j of them."""
    sizes = [f.shape[0] for f in factors] + [factors[-1].shape[1]]
    cost = {(i, i): (0, i) for i in range(len(factors))}  # (multiplications, last of first part)
    for length in range(1, len(factors)):
        for i in range(len(factors) - length):
            j = i + length
            cost[i, j] = min(
                (cost[i, k][0] + cost[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def multiply(i: int, j: int) -> Any:
        if i == j:
            return factors[i]
        k = cost[i, j][1]
        return ops.matmul(multiply(i, k), multiply(k + 1, j))

    return multiply(0, len(factors) - 1)


def chain_matmul(*matrices: Any) -> Any:
    """:func:`multi_dot` of matrices given one by one; a single one is returned."""
    for i, matrix in enumerate(matrices):
        _ranks("chain_matmul", "multi_dot takes vectors", **{f"matrix {i}": (matrix, 2)})
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


# --- square matrices ------------------------------------------------------------------------------


class SlogDet(NamedTuple):
    """What :func:`slogdet` returns."""

    sign: Any
    logabsdet: Any


def _square(name: str, A: Any) -> None:
    if len(A.shape) < 2 or A.shape[-1] != A.shape[-2]:
        raise RuntimeError(f"{name}: expected square matrices [.., n, n], got shape {shapes_of(A)}")


def _solvable(name: str, A: Any) -> None:
    """Refuse what has no decomposition: other than square matrices of float32 or float64."""
    _square(name, A)
    if A.dtype not in (xp.float32, xp.float64):
        raise RuntimeError(f"{name}: needs float32 or float64, not {A.dtype}; .to() casts")


def inv(A: Any) -> Any:
    """The inverse of each matrix."""
    _solvable("inv", A)
    return ops.linalg.inv(A)


inverse = inv


def solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """The solution X of A @ X = B, or of X @ A = B with ``left=False``; better than inv(A) @ B.

    B is a matrix [.., n, k], or a vector [n] or one for each matrix [.., n].
    """
    _solvable("solve", A)
    one_dtype_only("solve", A, B)
    shape = tuple(B.shape)
    n = A.shape[-1]
    vector = left and (len(shape) == 1 or shape == tuple(A.shape[:-1]))
    if vector:
        fits = shape[-1] == n
    else:
        fits = len(shape) > 1 and shape[-2 if left else -1] == n
    if not fits:
        raise RuntimeError(
            f"solve: shapes {shapes_of(A, B)} do not fit: A is [.., n, n] and B must be "
            f"{'[.., n, k] or [.., n]' if left else '[.., k, n]'}"
        )
    if vector:
        return ops.squeeze(ops.linalg.solve(A, ops.expand_dims(B, -1)), -1)
    if left:
        return ops.linalg.solve(A, B)
    return ops.swapaxes(ops.linalg.solve(ops.swapaxes(A, -1, -2), ops.swapaxes(B, -1, -2)), -1, -2)


def det(A: Any) -> Any:
    """The determinant of each matrix: [.., n, n] → [..]."""
    _solvable("det", A)
    return ops.linalg.det(A)


def slogdet(A: Any) -> SlogDet:
    """(sign, logabsdet): sign * exp(logabsdet) is the determinant, which may be out of range.

    No gradient flows through the sign.
    """
    _solvable("slogdet", A)
    return SlogDet(ops.linalg.detsign(A), ops.linalg.logabsdet(A))


def logdet(A: Any) -> Any:
    """The logarithm of the determinant: -inf where that is 0, nan where it is negative."""
    _solvable("logdet", A)
    sign, logabsdet = slogdet(A)
    return ops.where(sign < 0, xp.nan, logabsdet)


def cholesky(A: Any, *, upper: bool = False) -> Any:
    """The lower triangular L with L @ L.mT = A, or the upper U with U.mT @ U = A.

    Only that triangle of A is read. The gradient takes A to be symmetric: it is itself.
    """
    _solvable("cholesky", A)
    a = ops.swapaxes(A, -1, -2) if upper else A
    even = 0.5 * (a + ops.swapaxes(a, -1, -2))
    lower = xp.tril(a.array)
    read = lower + xp.swapaxes(xp.tril(lower, -1), -1, -2)
    # even is A, with its gradient; if A is not symmetric, the difference makes it what is read.
    factor = ops.linalg.cholesky(even + wrap(read - even.array))
    return ops.swapaxes(factor, -1, -2) if upper else factor


class QR(NamedTuple):
    Q: Any
    R: Any


def qr(A: Any, mode: str = "reduced") -> QR:
    """Q with orthonormal columns and R upper triangular, Q @ R = A, of each matrix [.., n, m].

    With k = min(n, m), Q is [.., n, k] and R [.., k, m]; ``"complete"`` makes Q square, ``"r"``
    leaves it empty. There is no derivative yet: detach A.
    """
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr: mode must be 'reduced', 'complete' or 'r', not {mode!r}")
    if len(A.shape) < 2:
        raise RuntimeError(f"qr: expected matrices [.., n, m], got shape {shapes_of(A)}")
    if A.dtype not in (xp.float32, xp.float64):
        raise RuntimeError(f"qr: needs float32 or float64, not {A.dtype}; .to() casts")
    if A.needs_grad and is_grad_enabled():
        raise RuntimeError("qr: has no derivative yet; detach() the matrix or use no_grad()")
    factors: Any = xp.linalg.qr(A.array, mode)  # type: ignore[call-overload]
    return QR(*map(wrap, (xp.empty(0, A.dtype), factors) if mode == "r" else factors))


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonals over two dims, which one at the end replaces: a view."""
    axes = dim_of(input, dim1), dim_of(input, dim2)
    if len(set(axes)) < 2:
        raise RuntimeError(f"diagonal: dim1 {dim1} and dim2 {dim2} must be different dims")
    return ops.linalg.diagonal(input, offset, *axes)


def trace(input: Any) -> Any:
    """The sum of the diagonal: [n, m] → []; integers give int64."""
    _ranks("trace", "diagonal(dim1=-2, dim2=-1).sum(-1) takes stacks", input=(input, 2))
    return functions.sum(ops.linalg.diagonal(input))


# --- norms ----------------------------------------------------------------------------------------


def vector_norm(
    x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """(Σ |x|ᵒʳᵈ)^(1/ord) over ``dim``, an int or several (default: all dims, as one vector).

    ``ord`` inf is the largest |x|, -inf the smallest, 0 the number of elements that are not 0.
    Where the norm is 0, so is its gradient.
    """
    if not isinstance(ord, (int, float)):
        raise TypeError(f"vector_norm: ord must be a number, not {ord!r}")
    _float("vector_norm", x)
    x = x if dtype is None else ops.astype(x, dtype)
    if x.dtype == xp.float16:  # whose squares overflow
        return ops.astype(vector_norm(ops.astype(x, "float32"), ord, dim, keepdim), "float16")
    axes = _dims("vector_norm", x, dim)
    if (ord < 0 or ord == inf) and not prod(x.shape[a] for a in axes):
        raise RuntimeError(f"vector_norm: shape {shapes_of(x)} has no {ord}-norm: it is empty")
    if ord == inf:
        return ops.max(ops.abs(x), axes, keepdim)
    if ord == -inf:
        return ops.min(ops.abs(x), axes, keepdim)
    if ord == 0:  # through x, for a gradient that is 0
        ones = ops.masked_fill(x, x != 0, 1.0)
        return ops.sum(ops.masked_fill(ones, x == 0, 0.0), axes, keepdim)
    if ord == 1:
        return ops.sum(ops.abs(x), axes, keepdim)
    if ord == 2:
        return _root(ops.sum(x * x, axes, keepdim), ops.sqrt)
    size = ops.abs(x)
    powers = _root(size, lambda s: s**ord, at_zero=0.0 if ord > 0 else inf)
    return _root(ops.sum(powers, axes, keepdim), lambda s: s ** (1 / ord))


def _root(x: Any, function: Any, at_zero: float = 0.0) -> Any:
    """``function`` of x, but a constant where x is 0 and the derivative would be infinite."""
    zero = x == 0
    return ops.where(zero, at_zero, function(ops.where(zero, 1.0, x)))


def _float(name: str, x: Any) -> None:
    if x.dtype.kind != "f":
        raise RuntimeError(f"{name}: needs a float dtype, not {x.dtype}; .to() casts")


def _dims(name: str, x: Any, dim: Any) -> tuple[int, ...]:
    """Dims counted from the front: all of them for None and for ()."""
    if isinstance(dim, int):
        dim = (dim,)
    axes = tuple(dim_of(x, d) for d in dim or ())
    if len(set(axes)) < len(axes):
        raise RuntimeError(f"{name}: the dims {tuple(dim)} must be different")
    return (axes if x.shape else ()) or tuple(range(len(x.shape)))


def matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """The norm of each matrix: ``'fro'``, the root of the sum of squares; 1 and -1, the largest and
    smallest column of absolute values; inf and -inf, the largest and smallest row.

    The orders 2, -2 and ``'nuc'`` need singular values, which have no derivative here.
    """
    _float("matrix_norm", A)
    if len(A.shape) < 2 or len(dim) != 2:
        raise RuntimeError(
            f"matrix_norm: needs two dims of a tensor with two or more, got dim {dim} of shape "
            f"{shapes_of(A)}"
        )
    rows, columns = _dims("matrix_norm", A, dim)
    if ord == "fro":
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if ord in (2, -2, "nuc"):
        raise NotImplementedError(f"matrix_norm: order {ord} needs singular values; there is none")
    if ord not in (1, -1, inf, -inf):
        raise RuntimeError(f"matrix_norm: the orders are 'fro', 1, -1, inf and -inf, not {ord!r}")
    summed, chosen = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sizes = ops.sum(ops.abs(A if dtype is None else ops.astype(A, dtype)), summed, True)
    if not A.shape[chosen] and ord < 0:
        raise IndexError(
            f"matrix_norm: shape {shapes_of(A)} has nothing to choose the smallest from"
        )
    choose = (ops.max if ord > 0 else ops.min) if A.shape[chosen] else ops.sum
    norms = choose(sizes, chosen, True)
    return norms if keepdim else ops.squeeze(norms, (rows, columns))


def norm(
    A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """``torch.linalg.norm``: of a vector, or of a matrix, by the number of dims.

    Without ``ord`` the 2-norm of all elements, or of those along ``dim``. With it, ``dim`` is an
    int for vectors or two for matrices, or the tensor itself is one of both.
    """
    if dim is not None:
        dim = (dim,) if isinstance(dim, int) else tuple(dim)
        if len(dim) not in (1, 2):
            raise RuntimeError(f"norm: dim must be one dim or two, not {dim}")
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    n = len(A.shape) if dim is None else len(dim)
    if n not in (1, 2):
        raise RuntimeError(
            f"norm: with ord but without dim the tensor must have 1 or 2 dims, its shape is "
            f"{shapes_of(A)}"
        )
    if n == 1 and not isinstance(ord, str):
        return vector_norm(A, ord, dim, keepdim, dtype=dtype)
    return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)


def p_norm(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    """``torch.norm``, which is also the method of tensors: always that of a vector."""
    if p == "nuc":
        return matrix_norm(input, p, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(input, 2 if p == "fro" else p, dim, keepdim, dtype=dtype)


METHODS = {
    function.__name__: function
    for function in (
        addbmm, addmm, addmv, baddbmm, bmm, det, diagonal, dot, inner, kron, logdet, matmul,
        matrix_power, mm, mv, outer, slogdet, trace,
    )
} | {"ger": outer, "inverse": inv, "norm": p_norm, "vdot": dot}  # fmt: skip
