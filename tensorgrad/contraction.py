"""Sums of products over labelled dims: einsum and tensordot.

Operands are multiplied in pairs, in an order that takes few multiplications. A pair is one matrix
product where something is summed over, and a broadcast product where nothing is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from . import functions, ops
from .backend import xp
from .functions.dims import dim_of


def shapes_of(*tensors: Any) -> str:
    """The shapes of tensors, for a message."""
    return " and ".join(str(tuple(t.shape)) for t in tensors)


def one_dtype_only(name: str, *tensors: Any) -> None:
    """Refuse tensors of different dtypes."""
    dtypes = [t.dtype for t in tensors]
    if any(d != dtypes[0] for d in dtypes):
        raise RuntimeError(
            f"{name}: the dtypes must be equal, got {' and '.join(map(str, dtypes))}; .to() casts"
        )


def einsum(*args: Any) -> Any:
    """The Einstein sum: every operand's dims are labelled, equal labels run together.

    ``einsum("bij,bjk->bik", a, b)`` multiplies stacks of matrices. Labels are letters; a label
    twice in one operand takes a diagonal, one that the result lacks is summed over, ``...`` stands
    for any dims, which broadcast. Without ``->`` the result has the labels that occur once, in
    alphabetical order. Operands may also be one list, or alternate with lists of integers:
    ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.

    >>> from tensorgrad import tensor
    >>> einsum("ij,j->i", tensor([[1, 2], [3, 4]]), tensor([1, 1]))
    tensor([3, 7])
    """
    terms, out, operands = _equation(args)
    if len(terms) != len(operands):
        raise RuntimeError(f"einsum: {len(terms)} terms are given for {len(operands)} operands")
    labels, dots = [], 0
    for i, (term, operand) in enumerate(zip(terms, operands)):
        dims, n = len(operand.shape), len(term) - (_DOTS in term)
        if n > dims or (n < dims and _DOTS not in term):
            raise RuntimeError(
                f"einsum: term {i} names {n} dims and its operand of shape {shapes_of(operand)} "
                f"has {dims}{'' if _DOTS in term else '; an ellipsis stands for the others'}"
            )
        dots = max(dots, dims - n)
        labels.append(_spread(term, dims - n))
    if out is None:
        every = [label for term in terms for label in term if label != _DOTS]
        out = [_DOTS, *sorted(label for label in every if every.count(label) == 1)]
    for label in out:
        if out.count(label) > 1:
            raise RuntimeError(f"einsum: {label!r} stands more than once in the result")
        if label != _DOTS and not any(label in term for term in terms):
            raise RuntimeError(f"einsum: {label!r} stands in the result but in no operand")
    return _sum_of_products("einsum", operands, labels, _spread(out, dots))


_DOTS = "..."


def _spread(term: list[str], dims: int) -> list[Any]:
    """The labels of a term, with the last ``dims`` of the numbers .. -2, -1 for its ellipsis."""
    if _DOTS not in term:
        return list(term)
    i = term.index(_DOTS)
    return [*term[:i], *range(-dims, 0), *term[i + 1 :]]


def _equation(args: tuple) -> tuple[list[list[str]], list[str] | None, list[Any]]:
    """The terms of the operands, the result's (None: not given) and the operands."""
    if args and isinstance(args[0], str):
        equation, operands = args[0], list(args[1:])
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = list(operands[0])
        return *_parsed(equation), operands
    terms = [[_letter(label) for label in term] for term in args[1::2]]
    if len(args) % 2:  # the result's labels come last
        terms = [[_letter(label) for label in term] for term in (*args[1::2], args[-1])]
        return terms[:-1], terms[-1], list(args[:-1:2])
    return terms, None, list(args[::2])


@lru_cache(maxsize=1024)
def _parsed(equation: str) -> tuple[list[list[str]], list[str] | None]:
    """The terms of the operands and the result's; nobody may write into them."""
    left, arrow, right = equation.partition("->")
    return [_term(t) for t in left.split(",")], _term(right) if arrow else None


def _letter(label: Any) -> str:
    """The letter that an integer of a list stands for: A to Z, then a to z."""
    if label is Ellipsis:
        return _DOTS
    if not 0 <= label < 52:
        raise ValueError(f"einsum: the labels of a list are integers from 0 to 51, not {label}")
    return chr((ord("A") if label < 26 else ord("a") - 26) + label)


def _term(text: str) -> list[str]:
    """The labels of one term of an equation: letters, and at most one ellipsis."""
    before, dots, after = text.partition(_DOTS)
    letters = [*before.replace(" ", ""), *[_DOTS] * bool(dots), *after.replace(" ", "")]
    for label in letters:
        if label != _DOTS and not (label.isascii() and label.isalpha()):
            raise RuntimeError(
                f"einsum: {label!r} in {text!r}: labels are the letters a to z and A to Z, and one "
                "'...' in a term"
            )
    return letters


def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """The sum of products over dims of ``a`` and ``b``, whose other dims the result has in order.

    ``dims``: how many, the last of ``a`` and the first of ``b``; or the dims of each, two lists.
    """
    one_dtype_only("tensordot", a, b)
    n, m = len(a.shape), len(b.shape)
    if hasattr(dims, "tolist"):  # a tensor
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(n, m):
            raise RuntimeError(
                f"tensordot: dims is {dims}, but tensors of shapes {shapes_of(a, b)} can be summed "
                f"over 0 to {min(n, m)} dims"
            )
        dims = (range(n - dims, n), range(dims))
    first = [dim_of(a, d) for d in dims[0]]
    second = [dim_of(b, d) for d in dims[1]]
    if len(first) != len(second) or len(set(first)) < len(first) or len(set(second)) < len(first):
        raise RuntimeError(
            f"tensordot: expected two lists of equally many different dims, got {list(dims[0])} "
            f"and {list(dims[1])}"
        )
    for i, j in zip(first, second):
        if a.shape[i] != b.shape[j] and 1 not in (a.shape[i], b.shape[j]):
            raise RuntimeError(
                f"tensordot: shapes {shapes_of(a, b)} do not fit: dim {i} of the first has size "
                f"{a.shape[i]} and dim {j} of the second {b.shape[j]}"
            )
    labels = list(range(n)), [n + j for j in range(m)]
    for i, j in zip(first, second):
        labels[1][j] = i
    kept = [i for i in range(n) if i not in first], [n + j for j in range(m) if j not in second]
    product = _sum_of_products("tensordot", [a, b], list(labels), kept[0] + kept[1])
    return product if product.dtype == a.dtype else ops.astype(product, a.dtype)


def _sum_of_products(name: str, operands: list[Any], terms: list[list[Any]], out: list[Any]) -> Any:
    """The operands with labels for their dims, multiplied and summed over what ``out`` lacks."""
    factors = [_distinct(name, x, term) for x, term in zip(operands, terms)]
    sizes: dict[Any, int] = {}
    for x, term in factors:
        for size, label in zip(x.shape, term):
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size not in (1, known):
                raise RuntimeError(
                    f"{name}: shapes {shapes_of(*operands)} do not fit: {_named(label)} is {known} "
                    f"and {size}; sizes must be equal or 1"
                )
    factors = [_without_ones(x, term, sizes) for x, term in factors]
    one_dtype = len({x.dtype for x in operands}) == 1
    for i, j in _order(factors, out, sizes):
        b, a = factors.pop(j), factors.pop(i)
        needed = {label for _, term in factors for label in term}.union(out)
        factors.append(_product(a, b, needed, one_dtype))
    x, term = _summed(*factors[0], set(out))
    if term == out:
        return ops.alias(x) if x is operands[0] else x
    return ops.permute_dims(x, tuple(term.index(label) for label in out))


def _named(label: Any) -> str:
    return repr(label) if isinstance(label, str) else f"dim {label}"


def _distinct(name: str, x: Any, term: list[Any]) -> tuple[Any, list[Any]]:
    """A labelled tensor as its diagonal over labels that stand in it twice."""
    for label in set(term):
        while term.count(label) > 1:
            i = term.index(label)
            j = term.index(label, i + 1)
            if x.shape[i] != x.shape[j]:
                raise RuntimeError(
                    f"{name}: {_named(label)} stands for the sizes {x.shape[i]} and {x.shape[j]} "
                    f"of one tensor of shape {shapes_of(x)}; they must be equal"
                )
            x = ops.linalg.diagonal(x, 0, i, j)
            term = [*term[:i], *term[i + 1 : j], *term[j + 1 :], label]
    return x, term


def _without_ones(x: Any, term: list[Any], sizes: dict[Any, int]) -> tuple[Any, list[Any]]:
    """A labelled tensor without the dims of size 1 that are larger elsewhere."""
    ones = tuple(i for i, label in enumerate(term) if x.shape[i] == 1 != sizes[label])
    if not ones:
        return x, term
    return ops.squeeze(x, ones), [label for i, label in enumerate(term) if i not in ones]


def _order(factors: list[Any], out: list[Any], sizes: dict[Any, int]) -> list[tuple[int, int]]:
    """The pairs to multiply one after the other, each product going to the end of the list."""
    n = len(factors)
    letters = {label: chr(97 + i) for i, label in enumerate(sizes)}
    if n < 3 or len(letters) > 26 or 0 in sizes.values():
        return [(0, 1 if left == n else left - 1) for left in range(n, 1, -1)]
    terms = ("".join(letters[label] for label in term) for _, term in factors)
    subscripts = ",".join(terms) + "->" + "".join(letters[label] for label in out)
    arrays = [x.array for x, _ in factors]
    optimize = "optimal" if n < 5 else "greedy"  # to find the optimal order takes n! steps
    pairs, left = [], n
    for group in xp.einsum_path(subscripts, *arrays, optimize=optimize)[0][1:]:
        group = sorted(group)
        # Several at once are multiplied one by one, the last two first.
        for _ in group[1:]:
            pairs.append((group[-2], group[-1]))
            left -= 1
            group = [*group[:-2], left - 1]
    return pairs


def _summed(x: Any, term: list[Any], needed: set[Any]) -> tuple[Any, list[Any]]:
    """A labelled tensor summed over the labels that are not needed."""
    axes = tuple(i for i, label in enumerate(term) if label not in needed)
    if not axes:
        return x, term
    return functions.sum(x, axes), [label for label in term if label in needed]


def _product(
    a: tuple[Any, list[Any]], b: tuple[Any, list[Any]], needed: set[Any], one_dtype: bool
) -> tuple[Any, list[Any]]:
    """Two labelled tensors multiplied, and summed over the labels that are not needed any more."""
    (x, first), (y, second) = _summed(*a, needed.union(b[1])), _summed(*b, needed.union(a[1]))
    union = [*first, *(label for label in second if label not in first)]
    if needed.issuperset(union):  # nothing to sum: no matrix product but a broadcast one
        return ops.multiply(_aligned(x, first, union), _aligned(y, second, union)), union
    if one_dtype and x.dtype != y.dtype:  # sums of integers are int64
        x, y = ops.astype(x, "int64"), ops.astype(y, "int64")
    out = [label for label in union if label in needed]
    letters = {label: chr(97 + i) for i, label in enumerate(union)}
    left, right, result = ("".join(letters[label] for label in t) for t in (first, second, out))
    return ops.linalg.contract(x, y, subscripts=f"{left},{right}->{result}"), out


def _aligned(x: Any, term: list[Any], union: list[Any]) -> Any:
    """A labelled tensor with its dims in the order of ``union``, of size 1 where it lacks one."""
    order = sorted(range(len(term)), key=lambda i: union.index(term[i]))
    new = tuple(i for i, label in enumerate(union) if label not in term)
    return ops.expand_dims(ops.permute_dims(x, tuple(order)), new)
