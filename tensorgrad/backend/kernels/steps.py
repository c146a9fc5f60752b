"""What optimizers do to all of their parameters, and clipping to all gradients, in one call.

To call a compiled function with arrays takes as long as its loop does for some thousand elements,
and a model has many parameters smaller than that. So it is called once, with the addresses of all
array objects. Where their elements lie, and how many there are, it reads where NumPy keeps it: in
the fields of the object, whose layout is part of NumPy's C interface.
"""

from __future__ import annotations

import math

import numpy as np

from ..threads import ALONE, spread
from . import plain
from .loops import loop
from .objects import (
    ALIGNED,
    CONTIGUOUS,
    DATA,
    DTYPE,
    FIELDS,
    FLAGS,
    INT,
    KNOWN,
    NDIM,
    SHAPE,
    WRITEABLE,
)  # fmt: skip
from .parts import borrowed, part

array_at = borrowed("lanes", "array_at")

LONGEST = ALONE  # elements of a row of a table; longer arrays have several, for the threads

_USABLE = CONTIGUOUS | ALIGNED | WRITEABLE

_WORDS = np.empty(0, np.int64)
_FLOATS = (np.empty(0, np.float32), np.empty(0, np.float64))  # the dtypes that there are loops for


@part
def _elements(array, dtype):
    """How many elements the array object at this address has; -1 if loops cannot take it."""
    fields = array_at(array + FIELDS, 7, _WORDS)
    if fields[DTYPE] != dtype or fields[FLAGS] & _USABLE != _USABLE:
        return -1
    n = 1
    for size in array_at(fields[SHAPE], fields[NDIM] & INT, _WORDS):
        n *= size
    return n


@loop
def _sizes(objects, dtype, sizes):
    """How many elements each of n sets of k array objects has, by their addresses [n, k].

    -1 if there are no rows for it.
    """
    for i in range(objects.shape[0]):
        sizes[i] = _elements(objects[i, 0], dtype)
        for j in range(1, objects.shape[1]):
            if _elements(objects[i, j], dtype) != sizes[i]:
                sizes[i] = -1


@loop
def _table(objects, sizes, itemsize, table):
    """Rows [elements, k times where they lie]: of a long set there are several."""
    row = 0
    for i in range(objects.shape[0]):
        for start in range(0, sizes[i], LONGEST):
            table[row, 0] = min(LONGEST, sizes[i] - start)
            for j in range(objects.shape[1]):
                data = array_at(objects[i, j] + FIELDS, 7, _WORDS)[DATA]
                table[row, 1 + j] = data + start * itemsize
            row += 1


@part
def _array(row, k, like):
    """Array k of a row of a table, in the dtype of ``like``."""
    return array_at(row[k], row[0], like)


def _rows(sets, like):
    """The table of those sets that can have rows, and the others."""
    objects = np.array([id(a) for arrays in sets for a in arrays], np.int64)
    objects, sizes = objects.reshape(len(sets), -1), np.empty(len(sets), np.int64)
    _sizes(objects, id(like.dtype), sizes)
    rows = int(-(-np.maximum(sizes, 0) // LONGEST).sum())
    table = np.empty((rows, 1 + objects.shape[1]), np.int64)
    _table(objects, sizes, like.itemsize, table)
    return table, [sets[i] for i in np.flatnonzero(sizes < 0)]


def _tables(sets):
    """For sets of arrays of one shape each, (table, like) for each dtype; and the sets in none.

    These are of other dtypes than float32 and float64, or of several, or their elements do not lie
    side by side, or cannot be written.
    """
    tables = []
    for like in _FLOATS if KNOWN else ():
        dtype, found = like.dtype, []
        if sets:
            rows, sets = _rows(sets, like)
            found.append(rows)
        if sets:  # the dtype of an unpickled array is another object, which equals NumPy's
            views = [[a.view(dtype) if a.dtype == dtype else a for a in s] for s in sets]
            rows, sets = _rows(views, like)
            found.append(rows)
        if any(map(len, found)):
            tables.append((np.concatenate(found) if len(found) > 1 else found[0], like))
    return tables, sets


def _apart(table, itemsize):
    """Whether no two arrays of a table share memory: two threads must not write into the same."""
    starts = table[:, 1:]
    ends = np.sort(starts + table[:, :1] * itemsize, axis=None)
    return bool(np.all(ends[:-1] <= np.sort(starts, axis=None)[1:]))


def _run(loop, tables, *numbers):
    for table, like in tables:
        work = int(table[:, 0].sum())
        if work > ALONE and not _apart(table, like.itemsize):
            work = 0
        spread(loop, [table], like, *map(float, numbers), work=work)


# --- steps of optimizers: they return the sets that cannot be updated here ------------------------


@part
def _adam(w, g, m, v, beta1, beta2, step_size, root_correction, eps, l2, shrink, factor):
    t = w.dtype.type
    for i in range(w.size):
        d = t(factor) * g[i] + t(l2) * w[i]
        m[i] = t(beta1) * m[i] + t(1 - beta1) * d
        v[i] = t(beta2) * v[i] + t(1 - beta2) * d * d
        w[i] = t(shrink) * w[i] - t(step_size) * m[i] / (
            math.sqrt(v[i]) * t(root_correction) + t(eps)
        )


@loop
def _adam_rows(table, like, beta1, beta2, step_size, root_correction, eps, l2, shrink, factor):
    for row in table:
        _adam(
            _array(row, 1, like), _array(row, 2, like), _array(row, 3, like), _array(row, 4, like),
            beta1, beta2, step_size, root_correction, eps, l2, shrink, factor,
        )  # fmt: skip


def adam(sets, *, beta1, beta2, step_size, root_correction, eps, l2, shrink, factor):
    """One step of Adam for each (w, g, m, v), in place; of ``factor`` times g."""
    tables, left = _tables(sets)
    _run(_adam_rows, tables, beta1, beta2, step_size, root_correction, eps, l2, shrink, factor)
    return left


@part
def _sgd(w, g, lr, decay, factor):
    t = w.dtype.type
    for i in range(w.size):
        w[i] -= t(lr) * (t(factor) * g[i] + t(decay) * w[i])


@loop
def _sgd_rows(table, like, lr, decay, factor):
    for row in table:
        _sgd(_array(row, 1, like), _array(row, 2, like), lr, decay, factor)


@part
def _momentum(w, g, v, lr, decay, momentum, share, nesterov, factor):
    t = w.dtype.type
    for i in range(w.size):
        d = t(factor) * g[i] + t(decay) * w[i]
        v[i] = t(momentum) * v[i] + t(share) * d
        w[i] -= t(lr) * (t(nesterov) * (d + t(momentum) * v[i]) + t(1 - nesterov) * v[i])


@loop
def _momentum_rows(table, like, lr, decay, momentum, share, nesterov, factor):
    for row in table:
        _momentum(
            _array(row, 1, like), _array(row, 2, like), _array(row, 3, like),
            lr, decay, momentum, share, nesterov, factor,
        )  # fmt: skip


def sgd(sets, *, lr, decay, momentum, share, nesterov, factor):
    """One step of SGD for each (w, g), or (w, g, velocity) with a momentum, in place.

    Of each g, it is ``factor`` times that.
    """
    tables, left = _tables(sets)
    if momentum:
        _run(_momentum_rows, tables, lr, decay, momentum, share, nesterov, factor)
    else:
        _run(_sgd_rows, tables, lr, decay, factor)
    return left


# --- what clipping does to gradients --------------------------------------------------------------


@part
def _squares(x):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@loop
def _square_rows(table, sums, like):
    # In the dtype of x only within a small block: in float32 a long sum loses digits.
    for i in range(len(table)):
        x, total = _array(table[i], 1, like), 0.0
        for start in range(0, x.size, 4096):
            total += _squares(x[start : start + 4096])
        sums[i] = total


def sum_of_squares(arrays):
    """Of all elements of all arrays, as a float."""
    tables, left = _tables([(a,) for a in arrays])
    total = plain.sum_of_squares(a for (a,) in left)
    for table, like in tables:
        sums = np.empty(len(table))
        spread(_square_rows, [table, sums], like, work=int(table[:, 0].sum()))
        total += sum(sums.tolist())
    return total


@part
def _scale(x, factor):
    for i in range(x.size):
        x[i] *= x.dtype.type(factor)


@loop
def _scale_rows(table, like, factor):
    for row in table:
        _scale(_array(row, 1, like), factor)


def scale(arrays, factor):
    """Multiply all elements of all arrays in place; returns the arrays where it must be done."""
    tables, left = _tables([(a,) for a in arrays])
    _run(_scale_rows, tables, factor)
    return [a for (a,) in left]


KERNELS = {"adam": adam, "sgd": sgd, "sum_of_squares": sum_of_squares, "scale": scale}
