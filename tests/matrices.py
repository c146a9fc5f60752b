"""Matrices, equations and complaints that the tests of tensorgrad.linalg share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad import linalg

inf, nan = math.inf, math.nan


def shapes(text: str) -> list[tuple[int, ...]]:
    """``"2x3 4 ."`` is [(2, 3), (4,), ()]."""
    return [() if s == "." else tuple(map(int, s.split("x"))) for s in text.split()]


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


def each(args: Any, make: Callable) -> list[Any]:
    """The arrays among the arguments, also in lists, made into tensors."""
    return [
        make(a) if isinstance(a, np.ndarray)
        else each(a, make) if isinstance(a, list) and any(isinstance(i, np.ndarray) for i in a)
        else a
        for a in args
    ]  # fmt: skip


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
