"""tensorgrad.linalg: closed forms, and PyTorch's functions of the same names called the same way.

The derivatives of the ops are checked against finite differences with all others, in test_ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad
from tensorgrad import autograd, linalg
from tensorgrad.testing import gradcheck, gradgradcheck

inf, nan = math.inf, math.nan


def shapes(text: str) -> list[tuple[int, ...]]:
    """``"2x3 4 ."`` is [(2, 3), (4,), ()]."""
    return [() if s == "." else tuple(map(int, s.split("x"))) for s in text.split()]


def tensor(values: Any, requires_grad: bool = False) -> Any:
    return tensorgrad.tensor(values, dtype=tensorgrad.float64, requires_grad=requires_grad)


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    found = np.asarray(found.detach().numpy())
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed + 31 * len(shape) + sum(shape))
    return np.asarray(rng.standard_normal(shape))


def integers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-5, 6, shape)


def regular(*shape: int) -> np.ndarray:
    """Matrices far from singular."""
    return normal(*shape) + 4 * np.eye(*shape[-2:])


def definite(*shape: int) -> np.ndarray:
    """Symmetric positive definite matrices, of square shapes."""
    x = regular(*shape)
    return x @ x.swapaxes(-1, -2) if shape[-2:-1] == shape[-1:] else x


def gradient(function: Callable, x: Any) -> Any:
    return autograd.grad(function(x), [x])[0]


# --- determinants, inverses, solutions ------------------------------------------------------------


def test_det_of_two_by_two() -> None:
    """ad - bc: the value, the gradient and the second derivatives."""
    a = tensor([[3.0, 5.0], [2.0, 7.0]], requires_grad=True)
    close(linalg.det(a), 11)
    (g,) = autograd.grad(linalg.det(a), [a], create_graph=True)
    close(g, [[7, -2], [-5, 3]])
    close(autograd.grad(g[0, 0], [a], retain_graph=True)[0], [[0, 0], [0, 1]])
    close(autograd.grad(g[0, 1], [a])[0], [[0, 0], [-1, 0]])


def cofactors(a: np.ndarray) -> np.ndarray:
    """By the definition: determinants of what is left without a row and a column."""
    n = len(a)
    minors = [
        [np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(n)] for i in range(n)
    ]
    return np.array(minors).reshape(n, n) * (-1.0) ** np.add.outer(np.arange(n), np.arange(n))


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 1e-80, 1e70])
def test_gradient_of_det_at_any_rank(rank: int, scale: float) -> None:
    """The cofactors, where an inverse exists and where none does, and where det underflows."""
    x = scale * (normal(4, rank) @ normal(rank, 4))
    g = gradient(lambda a: linalg.det(a).sum(), tensor(np.stack([x, x.T]), requires_grad=True))
    for found, a in zip(g, (x, x.T)):
        close(found / scale**3, cofactors(a / scale), 1e-10)


def test_gradient_of_det_at_exactly_and_nearly_singular_matrices() -> None:
    a = tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    close(gradient(linalg.det, a), [[4, -2], [-2, 1]])
    a = np.arange(1.0, 10).reshape(3, 3)  # det is 6.7e-16 in floating point, 0 in truth
    close(gradient(linalg.det, tensor(a, requires_grad=True)), cofactors(a), 1e-10)
    close(gradient(linalg.det, tensor(np.zeros((1, 1)), requires_grad=True)), [[1]])
    stack = tensor([[[1.0, 2.0], [2.0, 4.0]], [[nan, 1.0], [1.0, 1.0]]], requires_grad=True)
    with np.errstate(invalid="ignore"):
        g = gradient(lambda a: linalg.det(a)[0], stack)
    close(g, [[[4, -2], [-2, 1]], [[nan, nan], [nan, nan]]])


@pytest.mark.parametrize("a", [normal(4, 3) @ normal(3, 4), np.zeros((2, 2))])
def test_second_derivative_of_det_refuses_singular_matrices(a: np.ndarray) -> None:
    a = tensor(a, requires_grad=True)
    (g,) = autograd.grad(linalg.det(a), [a], create_graph=True)
    with pytest.raises(linalg.LinAlgError, match="second derivative of det"):
        g.sum().backward()


def test_solve_and_inv_of_the_identity() -> None:
    one, b = tensor(np.eye(3), requires_grad=True), tensor(normal(3, 2))
    close(linalg.solve(one, b), b.numpy())
    close(linalg.inv(one), np.eye(3))
    close(gradient(lambda a: linalg.inv(a).sum(), one), -np.ones((3, 3)))


def test_solve_solves() -> None:
    a, b, c = tensor(regular(2, 3, 3)), tensor(normal(4, 1, 3, 2)), tensor(normal(3))
    close(a @ linalg.solve(a, b), np.broadcast_to(b.numpy(), (4, 2, 3, 2)))
    close(linalg.solve(a, b.mT, left=False) @ a, np.broadcast_to(b.mT.numpy(), (4, 2, 2, 3)))
    close(linalg.mv(a[0], linalg.solve(a, c)[0]), c.numpy())
    assert linalg.inverse is linalg.inv


def test_slogdet_where_det_is_out_of_range() -> None:
    a = tensor(np.diag([-1e-200, 1e-200, 1e-200]), requires_grad=True)
    sign, logabsdet = linalg.slogdet(a)
    assert not sign.requires_grad
    close(sign, -1)
    close(logabsdet, -600 * math.log(10))
    close(gradient(lambda a: linalg.slogdet(a).logabsdet, a) * 1e-200, np.diag([-1, 1, 1]))
    assert linalg.det(a).item() == 0


def test_logdet() -> None:
    close(linalg.logdet(tensor([[[2.0]], [[0.0]], [[-1.0]]])), [math.log(2), -inf, nan])
    with pytest.raises(linalg.LinAlgError, match="inv: the matrix is singular"):
        linalg.logdet(tensor(np.zeros((2, 2)), requires_grad=True)).backward()


def test_cholesky() -> None:
    a = tensor([[4.0, 2.0], [2.0, 5.0]])
    close(linalg.cholesky(a), [[2, 0], [1, 2]])
    close(linalg.cholesky(a, upper=True), [[2, 1], [0, 2]])
    a = tensor([[4.0, 77.0], [2.0, 5.0]], requires_grad=True)  # only one triangle is read
    close(linalg.cholesky(a), [[2, 0], [1, 2]])
    close(linalg.cholesky(a.mT, upper=True), [[2, 1], [0, 2]])
    close(gradient(lambda a: linalg.cholesky(a)[1, 0], a), [[-1 / 8, 1 / 4], [1 / 4, 0]])
    x = tensor(normal(2, 3, 3), requires_grad=True)
    for upper in (False, True):
        function = lambda x, upper=upper: linalg.cholesky(x @ x.mT, upper=upper)
        assert gradcheck(function, [x])
        assert gradgradcheck(function, [x])


@pytest.mark.parametrize(
    ("function", "values", "message"),
    [
        (linalg.inv, np.zeros((2, 2)), "inv: the matrix is singular: it has no inverse"),
        (linalg.inv, np.stack([np.eye(2), np.ones((2, 2))]), r"inv: matrix \[1\] of a stack"),
        (linalg.cholesky, -np.eye(2), "cholesky: the matrix is not positive definite"),
        (lambda a: linalg.solve(a, a), np.zeros((2, 2)), "solve: the matrix is singular"),
        (lambda a: linalg.matrix_power(a, -2), np.zeros((2, 2)), "inv: the matrix is singular"),
    ],
)
def test_unfit_matrices(function: Callable, values: np.ndarray, message: str) -> None:
    with pytest.raises(linalg.LinAlgError, match=message) as caught:
        function(tensor(values))
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.__suppress_context__  # one sentence, not NumPy's and then ours


# --- products and sums ----------------------------------------------------------------------------


def test_diagonal_is_a_view() -> None:
    a = tensor(np.arange(6.0).reshape(2, 3))
    linalg.diagonal(a).fill_(9)
    linalg.diagonal(a, 1, 1, 0).zero_()
    close(a, [[9, 1, 2], [0, 9, 5]])
    a = tensor(np.ones((2, 2)), requires_grad=True)
    with tensorgrad.no_grad():
        linalg.diagonal(a).zero_()
    close(a, [[0, 1], [1, 0]])
    with pytest.raises(RuntimeError, match="written"):
        linalg.diagonal(tensor([1.0]).expand(2, 2)).zero_()


def test_products_in_closed_form() -> None:
    x, y = tensor([1.0, 2.0, 3.0]), tensor([4.0, 5.0, 6.0])
    close(linalg.dot(x, y), 32)
    close(linalg.cross(x, y), [-3, 6, -3])
    close(linalg.outer(x, y[:2]), [[4, 5], [8, 10], [12, 15]])
    close(linalg.kron(tensor([[1.0, 2.0]]), tensor([[0.0, 1.0], [1.0, 0.0]])),
          [[0, 1, 0, 2], [1, 0, 2, 0]])  # fmt: skip
    close(linalg.matrix_power(tensor([[1.0, 1.0], [1.0, 0.0]]), 10), [[89, 55], [55, 34]])
    close(linalg.addmm(x, tensor(np.eye(3)), tensor(np.eye(3)), beta=2, alpha=3),
          [[5, 4, 6], [2, 7, 6], [2, 4, 9]])  # fmt: skip
    assert linalg.matmul(tensorgrad.tensor([[1, 2]]), tensorgrad.tensor([3, 4])).tolist() == [11]


def test_beta_zero_ignores_the_input() -> None:
    found = linalg.addmm(tensor(nan), tensor(np.eye(2)), tensor(np.eye(2)), beta=0)
    close(found, np.eye(2))


def test_matrix_power_makes_a_new_tensor() -> None:
    a = tensor(np.eye(2))
    for n in (0, 1, -1):
        linalg.matrix_power(a, n).zero_()
    close(a, np.eye(2))


def test_multi_dot_takes_the_cheap_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """10x100 by 100x5 by 5x50: 7500 multiplications one way, 75000 the other."""
    factors = [tensor(normal(*s)) for s in ((10, 100), (100, 5), (5, 50), (50, 1))]
    seen = []
    matmul = linalg.ops.matmul

    def counted(a: Any, b: Any) -> Any:
        seen.append((*a.shape, b.shape[1]))
        return matmul(a, b)

    monkeypatch.setattr(linalg.ops, "matmul", counted)
    found = linalg.multi_dot(factors[:3])
    assert seen == [(10, 100, 5), (10, 5, 50)]
    close(found, factors[0].numpy() @ factors[1].numpy() @ factors[2].numpy(), 1e-10)
    seen.clear()
    linalg.multi_dot(factors)
    assert seen == [(5, 50, 1), (100, 5, 1), (10, 100, 1)]


EQUATIONS = [
    ("ij,jk->ik", "2x3 3x4"), ("ij,jk", "2x3 3x4"), ("bij,bjk->bik", "4x2x3 4x3x2"),
    ("bhqd,bhkd->bhqk", "2x2x3x4 2x2x5x4"), ("ii", "3x3"), ("ii->i", "3x3"), ("iji->j", "2x3x2"),
    ("...ii->...i", "2x3x3"), ("ij->ji", "2x3"), ("ij->", "2x3"), ("i,j->ij", "2 3"),
    ("i,i->", "3 3"), ("ij,ij->ij", "2x3 2x3"), ("...ij,...jk->...ik", "4x1x2x3 5x3x2"),
    ("i...,i...->...", "2x3 2x4x1"), ("ab,bc,cd,de->ae", "2x3 3x4 4x2 2x5"),
    ("a,ab,abc->c", "2 2x3 2x3x4"), ("ij,kl->", "2x3 4x5"), ("ijk,j,ki->", "2x3x4 3 4x2"),
    ("->", "."), (",a", ". 3"), ("Ab,bC->CA", "2x3 3x4"), (" i j , j k -> i k ", "2x3 3x4"),
    ("ba", "2x3"), ("aab,bcc->ac", "2x2x3 3x4x4"), ("ij,jk->ik", "0x3 3x2"), ("iii->i", "2x2x2"),
    ("ij,jk->ik", "2x0 0x3"), ("ij,jk,kl->il", "2x0 0x3 3x1"), ("ij->i", "2x0"),
    ("i...->i...", "2x3"), ("a,b,c,d,e,f->fedcba", "1 2 1 2 1 2"), ("ijij->ij", "2x3x2x3"),
    ("ab,bc,ca,ab,bc,ca->", "2x3 3x4 4x2 2x3 3x4 4x2"),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "operands"), EQUATIONS)
def test_einsum_is_numpys(equation: str, operands: str) -> None:
    """Floats, integers, and operands with the strides of a transposed array."""
    for kind in (normal, integers):
        arrays = [kind(*s) for s in shapes(operands)]
        expected = np.einsum(equation, *arrays)
        close(linalg.einsum(equation, *map(tensorgrad.tensor, arrays)), expected)
        strided = [tensorgrad.from_numpy(np.asarray(a, order="F")) for a in arrays]
        close(linalg.einsum(equation, strided), expected)


def test_einsum_with_size_one_and_lists() -> None:
    a, b = normal(2, 1), normal(3, 4)
    close(linalg.einsum("ij,jk->ik", tensor(a), tensor(b)), a @ b.sum(0, keepdims=True))
    b = tensor(normal(1, 4))
    close(linalg.einsum(tensor(a), [30, 2], b, [2, 0]), (a @ b.numpy()).T)
    close(linalg.einsum(tensor(a), [..., 1], tensor(a), [..., 1], [...]), a[:, 0] ** 2)


def test_einsum_contracts_in_a_cheap_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of matrices with a vector at either end is a chain of vectors, from that end."""
    seen = []
    contract = linalg.ops.linalg.contract

    def counted(a: Any, b: Any, subscripts: str) -> Any:
        seen.append(subscripts)
        return contract(a, b, subscripts=subscripts)

    monkeypatch.setattr(linalg.ops.linalg, "contract", counted)
    a = tensor(normal(50, 50))
    cube = np.linalg.matrix_power(a.numpy(), 3)
    close(linalg.einsum("ab,bc,cd,d->a", a, a, a, a[0]), cube @ a.numpy()[0], 1e-8)
    close(linalg.einsum("a,ab,bc,cd->d", a[0], a, a, a), a.numpy()[0] @ cube, 1e-8)
    assert len(seen) == 6
    assert all(len(s.split("->")[1]) == 1 for s in seen), seen


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_einsum_sums_integers_as_int64(dtype: str) -> None:
    a, b = (integers(2, 3) > 0).astype(dtype), (integers(3, 4) > 0).astype(dtype)
    found = linalg.einsum("ij->i", tensorgrad.from_numpy(a))
    assert (found.dtype, found.tolist()) == ("int64", a.sum(1).tolist())
    found = linalg.einsum("ij,jk->k", tensorgrad.from_numpy(a), tensorgrad.from_numpy(b))
    assert (found.dtype, found.tolist()) == ("int64", (a.sum(0) @ b.astype(int)).tolist())


def test_einsum_of_a_single_operand_is_a_view() -> None:
    a = tensor(np.zeros((2, 2)))
    linalg.einsum("ij->ji", a)[0, 1] = 5
    linalg.einsum("ii->i", a).fill_(7)
    close(a, [[7, 0], [5, 7]])
    assert linalg.einsum("ij", a) is not a


# --- norms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [(0, 2), (0.5, (3**0.5 + 2) ** 2), (1, 7), (2, 5), (3, 91 ** (1 / 3)), (inf, 4), (-inf, 0),
     (-1, 0), (-2, 0)],
)  # fmt: skip
def test_vector_norm(order: float, expected: float) -> None:
    x = tensor([[-3.0], [0.0], [4.0]])
    close(linalg.vector_norm(x, order), expected)
    assert linalg.vector_norm(x, order, keepdim=True).shape == (1, 1)
    close(linalg.vector_norm(x, order, 1), linalg.vector_norm(x, order, (1,)).numpy())
    close(linalg.vector_norm(x, order, 0), [linalg.vector_norm(x, order).item()])


@pytest.mark.parametrize("order", [0, 0.5, 1, 1.5, 2, 3, inf, -inf, -1, -2])
def test_gradient_of_norms_at_zero_is_zero(order: float) -> None:
    x = tensor(np.zeros((2, 3)), requires_grad=True)
    (g,) = autograd.grad(linalg.vector_norm(x, order, 1).sum(), [x], create_graph=True)
    close(g, np.zeros((2, 3)))
    if order == 2 and g.requires_grad:
        assert np.isfinite(gradient(lambda _: g.sum(), x).numpy()).all()


@pytest.mark.parametrize("order", [0.5, 1, 1.5, 2, 3, inf, -inf, -1])
def test_derivatives_of_norms(order: float) -> None:
    x = tensor([[0.5, -1.5, 0.7], [2.0, -0.3, 1.1]], requires_grad=True)
    for dim in (None, 0, (0, 1)):
        function = lambda x, dim=dim: linalg.vector_norm(x, order, dim)
        assert gradcheck(function, [x])
        assert gradgradcheck(function, [x])


def test_matrix_norms() -> None:
    a = tensor([[1.0, -2.0], [3.0, 4.0]])
    for order, expected in ("fro", 30**0.5), (1, 6), (-1, 4), (inf, 7), (-inf, 3):
        close(linalg.matrix_norm(a, order), expected)
        close(linalg.norm(a, order), expected)
        close(linalg.norm(a.reshape(2, 1, 2), order, (0, 2), keepdim=True), [[[expected]]])
    for order in (2, -2, "nuc"):
        with pytest.raises(NotImplementedError, match="singular values"):  # a RuntimeError
            linalg.matrix_norm(a, order)
    close(linalg.norm(a), 30**0.5)
    close(linalg.p_norm(a, 1), 10)
    close(linalg.norm(a, 1), 6)


def test_norm_of_half_precision_does_not_overflow_on_the_way() -> None:
    x = tensorgrad.full((10,), 200.0, dtype=tensorgrad.float16)
    found = linalg.vector_norm(x)
    assert found.dtype == "float16"
    assert found.item() == 632.5


# --- complaints -----------------------------------------------------------------------------------

COMPLAINTS: list[tuple[Callable, tuple, str]] = [
    (linalg.matmul, (normal(2, 3), normal(2, 3)), r"\(2, 3\) and \(2, 3\) do not fit: .* 3 .* 2 "),
    (linalg.matmul, (normal(2, 3, 4), normal(5, 4, 3)), r"batch dimensions \(2,\) and \(5,\)"),
    (linalg.matmul, (normal(), normal(2)), "at least one dimension"),
    (linalg.matmul, (normal(2), normal(2).astype("f4")), "float64 and float32"),
    (linalg.matmul, (normal(2), integers(2)), "float64 and int64"),
    (linalg.matmul, (integers(2) > 0, integers(2) > 0), "bools are no numbers"),
    (linalg.mm, (normal(2, 3), normal(3)), r"mm: mat2 must have 2 dims, its shape is \(3,\)"),
    (linalg.bmm, (normal(2, 3, 4), normal(3, 4, 3)), "b is 2 and 3, k is 4 and 4"),
    (linalg.mv, (normal(2), normal(2)), r"input must have 2 dims"),
    (linalg.dot, (normal(2), normal(3)), r"dot: shapes \(2,\) and \(3,\) must be equal"),
    (linalg.dot, (normal(2, 2), normal(2)), "input must have 1 dim,"),
    (linalg.inner, (normal(2, 3), normal(2)), "inner: the last dims"),
    (
        linalg.inner,
        (normal(3), integers(3)),
        "inner: the dtypes must be equal, got tensorgrad.float64 and",
    ),
    (linalg.tensordot, (normal(3), integers(3), 0), "tensordot: the dtypes must be equal"),
    (linalg.cross, (normal(3), integers(3)), "cross: the dtypes must be equal"),
    (linalg.outer, (normal(2, 3), normal(2)), "outer: input must have 1 dim,"),
    (linalg.cross, (normal(2), normal(2)), "must have size 3"),
    (linalg.cross, (normal(3), normal(1, 3)), "numbers of dims must be equal"),
    (linalg.addmm, (normal(3), normal(2, 2), normal(2, 2)), r"input of shape \(3,\) does not"),
    (linalg.addmm, (integers(2), normal(2, 2), normal(2, 2)), "int64 and .*float64"),
    (linalg.multi_dot, ([normal(2, 2), normal(3, 2)],), "at tensor 1"),
    (linalg.multi_dot, ([normal(2, 2), normal(2), normal(2, 2)],), "at tensor 1"),
    (linalg.multi_dot, ([normal(2, 2)],), "at least 2"),
    (linalg.trace, (normal(2),), "must have 2 dims"),
    (linalg.diagonal, (normal(2, 2), 0, 1, -1), "different dims"),
    (linalg.tensordot, (normal(2, 3), normal(2, 3), 1), "dim 1 of the first has size 3"),
    (linalg.tensordot, (normal(2, 3), normal(2, 3), 3), "over 0 to 2 dims"),
    (linalg.tensordot, (normal(2, 2), normal(2, 2), ([0], [0, 1])), "equally many"),
    (linalg.tensordot, (normal(2, 2), normal(2, 2), ([0, 0], [0, 1])), "different dims"),
    (linalg.einsum, ("ij,jk", normal(2, 3)), "2 terms are given for 1 operands"),
    (linalg.einsum, ("ij,jk", normal(2, 3), normal(2, 3)), "'j' is 3 and 2"),
    (linalg.einsum, ("...i,...i", normal(2, 3), normal(3, 3)), "dim -1 is 2 and 3"),
    (linalg.einsum, ("ij->ii", normal(2, 3)), "'i' stands more than once in the result"),
    (linalg.einsum, ("ij->k", normal(2, 3)), "'k' stands in the result but in no operand"),
    (linalg.einsum, ("i", normal(2, 3)), "term 0 names 1 dims .* an ellipsis stands for"),
    (linalg.einsum, ("ij...", normal(2)), "term 0 names 2 dims"),
    (linalg.einsum, ("i1", normal(2, 3)), "'1' in 'i1'"),
    (linalg.einsum, ("i. ..", normal(2, 3)), r"'\.' in"),
    (linalg.einsum, ("...i...", normal(2, 3)), r"'\.' in"),
    (linalg.einsum, ("i->j->i", normal(2)), "'-' in"),
    (linalg.einsum, ("ii", normal(2, 3)), "'i' stands for the sizes 2 and 3"),
    (linalg.einsum, ("ii", normal(1, 3)), "'i' stands for the sizes 1 and 3"),
    (linalg.einsum, ("ij,jk", normal(2, 2), integers(2, 2)), "float64 and int64"),
    (linalg.inv, (normal(2, 3),), r"inv: expected square matrices .* \(2, 3\)"),
    (linalg.det, (normal(2),), "det: expected square matrices"),
    (linalg.det, (integers(2, 2),), "needs float32 or float64, not tensorgrad.int64"),
    (linalg.slogdet, (normal(2, 2).astype("f2"),), "not tensorgrad.float16"),
    (linalg.logdet, (integers(2, 2),), "logdet: needs float32"),
    (linalg.cholesky, (integers(2, 2),), "cholesky: needs float32"),
    (linalg.solve, (normal(2, 2), normal(3)), r"\(2, 2\) and \(3,\) do not fit"),
    (linalg.solve, (normal(2, 2), normal(3, 2)), r"do not fit: .* \[.., n, k\] or"),
    (linalg.solve, (normal(2, 2), normal()), "do not fit"),
    (linalg.solve, (normal(2, 2), normal(2).astype("f4")), "float64 and .*float32"),
    (linalg.matrix_power, (normal(2, 3), 2), "matrix_power: expected square matrices"),
    (linalg.vector_norm, (integers(2),), "vector_norm: needs a float dtype, not tensorgrad.int64"),
    (linalg.vector_norm, (normal(0), inf), "inf-norm: it is empty"),
    (linalg.vector_norm, (normal(2, 2), 2, (0, 0)), "must be different"),
    (linalg.matrix_norm, (normal(2),), "needs two dims"),
    (linalg.matrix_norm, (normal(2, 2), 3), "orders are 'fro'"),
    (linalg.norm, (normal(2, 2, 2), 1), "must have 1 or 2 dims"),
    (linalg.norm, (normal(2, 2, 2), 1, (0, 1, 2)), "one dim or two"),
]


@pytest.mark.parametrize(("function", "args", "message"), COMPLAINTS)
def test_complaint(function: Callable, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        function(*_each(args, tensorgrad.from_numpy))


def test_matmul_with_a_number() -> None:
    with pytest.raises(TypeError, match="multiplies by a number"):
        tensor([1.0]) @ 2.0


def _each(args: Any, make: Callable) -> list[Any]:
    """The arrays among the arguments, also in lists, made into tensors."""
    return [
        make(a) if isinstance(a, np.ndarray)
        else _each(a, make) if isinstance(a, list) and any(isinstance(i, np.ndarray) for i in a)
        else a
        for a in args
    ]  # fmt: skip


# --- against PyTorch ------------------------------------------------------------------------------

# Shapes of the arguments that the function is called with; where they do not fit, both refuse.
SHAPES = {
    "matmul": ["3 3", "3 3x2", "2x3 3", "2x3 3x4", "4x2x3 3", "3 4x3x2", "2x1x2x3 5x3x4", "0x3 3x2",
               "2x0 0x3", "0 0", "0x2x3 3x1", "2x3 0x3x2", "3x4x2 3x2x4", ". 2", "2x3 2x3",
               "2x2x3 3x3x2"],
    "mm": ["2x3 3x4", "2x0 0x3", "0x2 2x2", "2x3 2x3", "2 2x2"],
    "bmm": ["2x3x4 2x4x1", "0x1x2 0x2x1", "1x2x3 2x3x2", "2x2 2x2"],
    "mv": ["2x3 3", "0x3 3", "2x0 0", "2x3 2"],
    "dot": ["3 3", "0 0", "3 2", "3 1"],
    "vdot": ["3 3"],
    "inner": ["3 3", "2x3 3", "2x3 4x3", "2x1x3 2x3", ". 2x3", "2x3 .", "2x0 3x0", "2x3 2x1"],
    "outer": ["2 3", "0 3", "1 1", "2x2 2"],
    "ger": ["2 3"],
    "kron": ["2 3", "2x3 3x1", "2 2x3", "2x1x2 3x2", ". 2", ". .", "0x2 2x2"],
    "cross": ["3 3", "2x3 2x3", "2x3 1x3", "0x3 0x3", "2x3 3", "2 2"],
    "addmm": ["2x4 2x3 3x4", "4 2x3 3x4", "2x1 2x0 0x4", "3 2x3 3x4", "1x2x2 2x2 2x2"],
    "addmv": ["2 2x3 3", ". 2x3 3", "3 2x3 3"],
    "baddbmm": ["2x2x2 2x2x3 2x3x2", "2 2x2x3 2x3x2", "3 2x2x3 2x3x2"],
    "addbmm": ["2x2 3x2x3 3x3x2", "2 0x2x3 0x3x2", "3 3x2x3 3x3x2"],
    "chain_matmul": ["2x3 3x4 4x1", "2x3 3x4", "2x3 2x3", "2 2x2"],
    "trace": ["3x3", "2x3", "0x2", "3"],
    "norm": ["2x3x2", "3", "."],
    "p_norm": ["2x3", "."],
}  # fmt: skip
SQUARE = "2x2 3x3 1x1 4x2x2 2x0x2x2 0x0 3x0x0 2x3 2"


def _cases() -> Iterator[tuple[str, tuple, dict]]:
    """(function, arguments, keywords) of the calls to compare."""
    for name, texts in SHAPES.items():
        for text in texts:
            yield name, tuple(normal(*s, seed=i) for i, s in enumerate(shapes(text))), {}
    for text in SHAPES["addmm"]:
        for beta in (0, 2):
            args = tuple(normal(*s) for s in shapes(text))
            yield "addmm", args, {"beta": beta, "alpha": 3}
    yield "addmv", (normal(2), normal(2, 3), normal(3)), {"beta": -2, "alpha": 3}
    yield "addbmm", (normal(2), normal(3, 2, 3), normal(3, 3, 2)), {"beta": -2, "alpha": 3}
    yield "baddbmm", (normal(2), normal(3, 2, 3), normal(3, 3, 2)), {"beta": -2, "alpha": 3}
    yield "cross", (normal(3, 2), normal(3, 2)), {"dim": 0}
    for text in ("2x3 3x4", "2 2", "2x3 3x4 4x5 5", "3 3x4 4x2", "2x0 0x3 3x1", "3 3x4 4", "2x2",
                 "2x3 2x3", "2x2 2 2x2"):  # fmt: skip
        yield "multi_dot", ([normal(*s) for s in shapes(text)],), {}
    for text, dims in (
        ("2x3x4 3x4x5", 2), ("2x3 4", 0), ("2x3 3x2", 1), ("2x3 2x3", 2), ("2x3 1x4", 1),
        ("2x3x4 4x2x3", ([0, 2], [1, 0])), ("2x3 3x4", ([-1], [0])), ("2x0 0x3", 1), ("0x2 2x0", 1),
        (". .", 0), ("2x3 3x2", -1), ("2x3 3x2", 3), ("2x3 3x2", ([0], [5])), ("2x3 2x3", 1),
        ("2x2 2x2", ([0], [0, 1])),
    ):  # fmt: skip
        yield "tensordot", (*[normal(*s) for s in shapes(text)], dims), {}
    for text, args in (
        ("3x3", ()), ("2x3", (1,)), ("2x3", (-1,)), ("2x3", (7,)), ("2x3x4", (0, 1, 2)),
        ("2x3x4", (1, -1, 0)), ("0x3", ()), ("3x3", (0, 0, -2)), ("3", ()), ("3x3", (0, 2, 1)),
    ):  # fmt: skip
        yield "diagonal", (normal(*shapes(text)[0]), *args), {}
    for equation, text in [*EQUATIONS, ("ij,jk->ik", "2x1 3x4")]:
        yield "einsum", (equation, *[normal(*s) for s in shapes(text)]), {}
    yield "einsum", (normal(2, 3), [0, 30], normal(3, 4), [30, 2]), {}
    yield "einsum", (normal(2, 3), [0, 60]), {}

    for shape in shapes(SQUARE):
        for name in ("inv", "inverse", "det", "slogdet", "logdet"):
            yield name, (regular(*shape),), {}
        for n in (0, 1, 2, 5, -1, -3):
            yield "matrix_power", (regular(*shape) / 3, n), {}
        for upper in (False, True):
            yield "cholesky", (definite(*shape),), {"upper": upper}
    for name in ("det", "slogdet", "logdet"):
        yield name, (-regular(3, 3),), {}
    for left, texts in (
        (True, ("2x2 2", "2x2 2x3", "4x2x2 4x2", "4x2x2 2", "4x2x2 2x3", "4x1x2x2 3x2x1",
                "2x2 4x2x1", "2x2x2 2x2", "3x2x2 3x2x2", "0x0 0", "2x2 2x0", "0x2x2 2x1", "2x2 4x2",
                "2x2 3", "2x3 2", "2x2 .")),
        (False, ("2x2 3x2", "4x2x2 3x2", "0x0 2x0", "2x2 2", "2x2 2x3")),
    ):  # fmt: skip
        for text in texts:
            a, b = shapes(text)
            yield "solve", (regular(*a), normal(*b)), {"left": left}

    orders = (0, 0.5, 1, 1.5, 2, 3, inf, -inf, -1, -2.5)
    for order in orders:
        for text, dim, keepdim in (
            ("2x3", None, False), ("2x3", 1, True), ("2x3x2", (0, -1), False), (".", None, True),
            ("0", None, False), ("0x2", 1, False), ("0x2", 0, False), ("2", 3, False),
        ):  # fmt: skip
            yield "vector_norm", (normal(*shapes(text)[0]), order, dim), {"keepdim": keepdim}
        if order >= 0 or order == -inf:
            yield "vector_norm", (np.array([0.0, 3.0, -3.0, 1.0]), order), {}
        yield "norm", (normal(3), order), {}
        yield "p_norm", (normal(2, 3), order, 1, True), {}
        yield "p_norm", (normal(2, 3), order), {}
    yield "vector_norm", (normal(2, 3),), {"dtype": "float64"}
    for order in ("fro", 1, -1, inf, -inf, 3):
        for text, dim in (
            ("2x3", (-2, -1)), ("2x3x4", (2, 0)), ("0x2", (0, 1)), ("2x0", (0, 1)), ("3", (-2, -1)),
            ("2x2", (0, 0)),
        ):  # fmt: skip
            yield "matrix_norm", (normal(*shapes(text)[0]), order, dim), {}
        yield "matrix_norm", (normal(2, 3, 4), order, (0, 1), True), {}
        yield "norm", (normal(2, 3), order), {}
        yield "norm", (normal(2, 3, 2), order, (0, 2)), {}
        yield "norm", (normal(2, 3, 2), order), {}
    yield "norm", (normal(3), "fro"), {}
    yield "norm", (normal(2, 3, 2), None, 1), {}
    yield "norm", (normal(2, 3, 2), 1, (0, 1, 2)), {}
    yield "p_norm", (normal(2, 3), "fro", (0, 1)), {}


CASES = list(_cases())
ERRORS = (RuntimeError, IndexError, ValueError, TypeError)


def _theirs(torch: ModuleType, name: str) -> Callable:
    if name in ("p_norm", "diagonal"):  # torch's and not torch.linalg's
        return getattr(torch, name.replace("p_norm", "norm"))
    return getattr(torch.linalg, name, None) or getattr(torch, name)


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, tuple):
        for value in values:
            yield from _flat(value)
    else:
        yield values


def _run(function: Callable, args: tuple, kwargs: dict, make: Callable, module: Any) -> list:
    """The results, and the gradients of their sum with irregular weights, as arrays."""
    made: list[Any] = []

    def leaf(array: np.ndarray) -> Any:
        made.append(make(array.copy()))
        return made[-1].requires_grad_() if array.dtype.kind == "f" else made[-1]

    kwargs = {k: getattr(module, v) if k == "dtype" else v for k, v in kwargs.items()}
    outs = list(_flat(function(*_each(args, leaf), **kwargs)))
    results = [o.detach().numpy() for o in outs]
    leaves = [t for t in made if t.requires_grad]
    loss = 0
    for o in outs[-1:]:  # the sign of slogdet, which comes first, has no gradient
        if o.requires_grad:
            weights = np.cos(np.arange(o.numel())).reshape(o.shape).astype(results[-1].dtype)
            loss = loss + (o * make(weights)).sum()
    if leaves and not isinstance(loss, int) and loss.requires_grad:
        loss.backward()
    return results + [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in leaves]


def _cast(args: Any, dtype: str) -> list[Any]:
    """Float arrays in another dtype; as integers they are scaled first."""
    return [
        _cast(a, dtype) if isinstance(a, list)
        else np.asarray(a * 3 if dtype.startswith("int") else a, dtype) if isinstance(a, np.ndarray)
        else a
        for a in args
    ]  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # PyTorch calls some of them deprecated
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_like_torch(name: str, dtype: str, torch: ModuleType) -> None:
    """Values, dtypes and gradients; and where PyTorch refuses, so do we, with its exception."""
    tolerance = 1e-5 if dtype == "float32" else 1e-9
    for args, kwargs in [case[1:] for case in CASES if case[0] == name]:
        args = tuple(_cast(args, dtype))
        case = f"{name} {[getattr(a, 'shape', a) for a in args]} {kwargs}"
        ours = getattr(linalg, name), args, kwargs, tensorgrad.from_numpy, tensorgrad
        try:
            expected = _run(_theirs(torch, name), args, kwargs, torch.from_numpy, torch)
        except ERRORS as refusal:
            try:
                _run(*ours)
            except next(kind for kind in ERRORS if isinstance(refusal, kind)):
                continue
            pytest.fail(f"{case} is refused by PyTorch: {refusal}")
        for a, b in zip(_run(*ours), expected, strict=True):
            assert a.shape == b.shape, case
            assert a.dtype == b.dtype or not b.any(), case
            np.testing.assert_allclose(a, b, tolerance, tolerance, err_msg=case)


@pytest.mark.torch
def test_every_function_is_compared() -> None:
    functions = {n for n in linalg.__all__ if not isinstance(getattr(linalg, n), type)}
    # qr has no gradient to compare; its values are compared further down.
    assert functions - {name for name, _, _ in CASES} <= {"qr"}


@pytest.mark.torch
@pytest.mark.parametrize(("function", "args", "message"), COMPLAINTS)
def test_what_is_refused_is_refused_by_torch(
    function: Callable, args: tuple, message: str, torch: ModuleType
) -> None:
    name = next(n for n in linalg.__all__ if getattr(linalg, n) is function)
    with pytest.raises((RuntimeError, TypeError)):
        _theirs(torch, name)(*_each(args, torch.from_numpy))


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """An equation with the shapes of its operands: all that einsum's language has."""
    letters = "abcAB"
    sizes = {label: draw(st.integers(0, 3)) for label in letters}
    dots = draw(st.lists(st.integers(0, 3), max_size=2))
    terms, operands, any_dots = [], [], False
    for _ in range(draw(st.integers(1, 4))):
        labels = draw(st.lists(st.sampled_from(letters), max_size=3))
        shape = [sizes[label] for label in labels]
        for i, label in enumerate(labels):  # a size 1 broadcasts, unless its label is repeated
            if labels.count(label) == 1 and draw(st.integers(0, 4)) == 0:
                shape[i] = 1
        if draw(st.integers(0, 2)) == 0:
            any_dots = True
            at, n = draw(st.integers(0, len(labels))), draw(st.integers(0, len(dots)))
            shape[at:at] = [draw(st.sampled_from([1, d])) for d in dots[len(dots) - n :]]
            labels.insert(at, "...")
        terms.append(" ".join(labels) if draw(st.booleans()) else "".join(labels))
        operands.append(tuple(shape))
    equation = ",".join(terms)
    if draw(st.booleans()):
        used = sorted({c for c in equation if c in letters})
        out = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        if any_dots and draw(st.booleans()):
            out.insert(draw(st.integers(0, len(out))), "...")
        equation += "->" + "".join(out)
    return equation, operands


@pytest.mark.torch
@settings(max_examples=150)
@given(equations())
def test_any_einsum_is_torchs(drawn: tuple[str, list[tuple[int, ...]]]) -> None:
    torch = pytest.importorskip("torch")
    equation, operands = drawn
    args = (equation, *[normal(*s, seed=i) for i, s in enumerate(operands)])
    expected = _run(torch.einsum, args, {}, torch.from_numpy, torch)
    found = _run(linalg.einsum, args, {}, tensorgrad.from_numpy, tensorgrad)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, 1e-9, 1e-9)


@pytest.mark.torch
@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 3), max_size=4),
    st.lists(st.integers(0, 3), max_size=4),
    st.booleans(),
)
def test_any_matmul_is_torchs(a: list[int], b: list[int], fitting: bool) -> None:
    """Also in refusing; ``fitting`` makes the sizes that meet equal."""
    torch = pytest.importorskip("torch")
    if fitting and a and b:
        b[-2 if len(b) > 1 else 0] = a[-1]
    args = (normal(*a), normal(*b))
    try:
        expected = _run(torch.matmul, args, {}, torch.from_numpy, torch)
    except RuntimeError:
        with pytest.raises(RuntimeError, match="matmul: "):
            _run(linalg.matmul, args, {}, tensorgrad.from_numpy, tensorgrad)
        return
    found = _run(linalg.matmul, args, {}, tensorgrad.from_numpy, tensorgrad)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-9, 1e-9)


# --- qr -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_qr(shape, mode):
    a = tensorgrad.randn(*shape, dtype=tensorgrad.float64)
    q, r = tensorgrad.linalg.qr(a, mode)
    np.testing.assert_allclose((q @ r).numpy(), a.numpy(), atol=1e-12)
    identity = np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], q.shape[-1], q.shape[-1]))
    np.testing.assert_allclose((q.mT @ q).numpy(), identity, atol=1e-12)
    np.testing.assert_array_equal(r.triu().numpy(), r.numpy())


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
def test_qr_is_that_of_torch(torch, shape, mode):
    a = np.random.default_rng(0).standard_normal(shape)
    ours = tensorgrad.linalg.qr(tensorgrad.tensor(a), mode)
    theirs = torch.linalg.qr(torch.tensor(a), mode)
    for name in ("Q", "R"):
        found, expected = getattr(ours, name).numpy(), getattr(theirs, name).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12, strict=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tensorgrad.linalg.qr(x[0]), r"expected matrices \[.., n, m\], got shape"),
        (lambda x: tensorgrad.linalg.qr(x, "other"), "mode must be 'reduced', 'complete' or 'r'"),
        (
            lambda x: tensorgrad.linalg.qr(x.long()),
            "needs float32 or float64, not tensorgrad.int64",
        ),
        (lambda x: tensorgrad.linalg.qr(x.requires_grad_()), "no derivative yet"),
    ],
)
def test_what_qr_refuses(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(tensorgrad.ones(2, 2))
