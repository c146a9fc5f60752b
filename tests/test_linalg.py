"""tensorgrad.linalg in closed forms; test_linalg_parity compares it with PyTorch.

The derivatives of the ops are checked against finite differences with all others, in test_ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matrices import COMPLAINTS, EQUATIONS, each, integers, normal, regular, shapes

import tensorgrad
from tensorgrad import autograd, linalg
from tensorgrad.testing import gradcheck, gradgradcheck

inf, nan = math.inf, math.nan


def tensor(values: Any, requires_grad: bool = False) -> Any:
    return tensorgrad.tensor(values, dtype=tensorgrad.float64, requires_grad=requires_grad)


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    found = np.asarray(found.detach().numpy())
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def gradient(function: Callable, x: Any) -> Any:
    return autograd.grad(function(x), [x])[0]


# ---------------------------------------------------------------- determinants, inverses, solutions


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


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_qr(shape, mode):
    a = tensorgrad.randn(*shape, dtype=tensorgrad.float64)
    q, r = tensorgrad.linalg.qr(a, mode)
    np.testing.assert_allclose((q @ r).numpy(), a.numpy(), atol=1e-12)
    identity = np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], q.shape[-1], q.shape[-1]))
    np.testing.assert_allclose((q.mT @ q).numpy(), identity, atol=1e-12)
    np.testing.assert_array_equal(r.triu().numpy(), r.numpy())


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


# -------------------------------------------------------------------------------- products and sums


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


# -------------------------------------------------------------------------------------------- norms


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


# --------------------------------------------------------------------------------------- complaints


@pytest.mark.parametrize(("function", "args", "message"), COMPLAINTS)
def test_complaint(function: Callable, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        function(*each(args, tensorgrad.from_numpy))


def test_matmul_with_a_number() -> None:
    with pytest.raises(TypeError, match="multiplies by a number"):
        tensor([1.0]) @ 2.0
