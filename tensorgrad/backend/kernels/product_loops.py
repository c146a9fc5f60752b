"""The product of two matrices, block by block and tile by tile.

    out = a bᵀ (+ bias in each row)

``a`` is [m, k], ``b`` is [n, k] and ``out`` is [m, n]. Of ``out`` the rows lie side by side in
memory; of ``a`` and ``b`` rows or columns do. Blocks of both are copied into panels first, in the
order in which tiles read them, so that it makes no difference which. The panel of ``a`` that is in
use stays in the first cache of the processor and the block of ``b`` in the second.

Each number of ``out`` is summed up in an order that depends on k alone, so it is the same to the
bit whatever rows and columns are computed with it, and by however many threads.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .loops import loop
from .machine_code import AVX512, ROWS, VECTORS
from .parts import borrowed, part

room, give_back, everything_from = borrowed("lanes", "room", "give_back", "everything_from")
tile_1, tile_2, tile_3, lanes_of = borrowed("tiles", "tile_1", "tile_2", "tile_3", "lanes_of")
copy_rows, copy_columns, transpose = borrowed("tiles", "copy_rows", "copy_columns", "transpose")

AVAILABLE = AVX512  # of processors without these registers OpenBLAS makes as much, or more
DEPTH = 384  # of a panel, at most: 8 x 384 numbers are 12 kB
LEFT = 96  # rows of a in a block
RIGHT = (
    384  # rows of b in a block of full depth, 590 kB; in one half as deep there are twice as many
)


@part
def _pack(matrix, i0, i1, k0, k1, width, panels):
    """Rows i0 to i1 as panels: panels[p, k, i] = matrix[i0 + p width + i, k0 + k].

    The last panel is filled up with zeros as far as a tile reads it to fill whole vectors.
    """
    numbers, depth, size = everything_from(matrix), k1 - k0, matrix.itemsize
    beside = matrix.strides[1] == size  # do rows lie side by side, or columns?
    stride = matrix.strides[0 if beside else 1] // size
    whole = i1 - (i1 - i0) % ROWS
    if beside:
        for i in range(i0, whole, ROWS):
            p, place = divmod(i - i0, width)
            target = p * width * depth + place
            transpose(numbers, i * stride + k0, stride, panels, target, width, ROWS, depth)
    else:
        for k in range(depth):
            source = (k0 + k) * stride
            for p in range(i0, whole, width):
                target = (p - i0) * depth + k * width
                if width == ROWS:
                    copy_rows(numbers, source + p, panels, target)
                elif p + width <= i1:
                    copy_columns(numbers, source + p, panels, target)
                else:
                    for i in range(p, whole, ROWS):
                        copy_rows(numbers, source + i, panels, target + i - p)
    together = min(width, lanes_of(matrix))
    needed = -(-(i1 - i0) // together) * together
    for i in range(whole, i0 + needed):
        p, place = divmod(i - i0, width)
        target = p * width * depth + place
        for k in range(depth):
            source = i * stride + k0 + k if beside else (k0 + k) * stride + i
            panels[target + k * width] = numbers[source] if i < i1 else 0


@part
def _tile(vectors, depth, left, l, right, r, out, o, stride, add):
    if vectors == 3:
        tile_3(depth, left, l, right, r, out, o, stride, add)
    elif vectors == 2:
        tile_2(depth, left, l, right, r, out, o, stride, add)
    else:
        tile_1(depth, left, l, right, r, out, o, stride, add)


@part
def _begin(numbers, start, stride, rows, columns, bias, first):
    """Rows of ``out`` are the bias, to be added to while they are in the first cache."""
    for row in range(rows):
        at = np.uint64(start + row * stride)
        for j in range(np.uint64(columns)):
            numbers[at + j] = bias[np.uint64(first) + j]


@loop(any_layout=True)
def _product(a, b, bias, out):
    m, n, k = out.shape[0], out.shape[1], a.shape[1]
    lanes = lanes_of(out)
    columns = VECTORS * lanes
    numbers, stride = everything_from(out), out.strides[0] // out.itemsize
    depth = -(-k // -(-k // DEPTH))  # all blocks about the same
    broad = RIGHT * (DEPTH // depth)  # a is copied once for each block of b
    left = room(depth * min(LEFT, -(-m // ROWS) * ROWS), out)
    right = room(depth * min(broad, -(-n // columns) * columns), out)
    edge = room(ROWS * columns, out)
    for j0 in range(0, n, broad):
        j1 = min(n, j0 + broad)
        for k0 in range(0, k, depth):
            k1 = min(k, k0 + depth)
            steps, adding = k1 - k0, k0 > 0 or bias.size > 0
            _pack(b, j0, j1, k0, k1, columns, right)
            for i0 in range(0, m, LEFT):
                i1 = min(m, i0 + LEFT)
                _pack(a, i0, i1, k0, k1, ROWS, left)
                for i in range(i0, i1, ROWS):
                    if k0 == 0 and bias.size > 0:
                        high = min(ROWS, i1 - i)
                        _begin(numbers, i * stride + j0, stride, high, j1 - j0, bias, j0)
                    for j in range(j0, j1, columns):
                        wide, high = min(columns, j1 - j), min(ROWS, i1 - i)
                        vectors = -(-wide // lanes)
                        l, r, o = (i - i0) * steps, (j - j0) * steps, i * stride + j
                        if high == ROWS and wide == vectors * lanes:
                            _tile(vectors, steps, left, l, right, r, numbers, o, stride, adding)
                            continue
                        _tile(vectors, steps, left, l, right, r, edge, 0, columns, False)
                        for row in range(high):
                            for column in range(wide):
                                number = edge[row * columns + column]
                                if adding:
                                    number += numbers[o + row * stride + column]
                                numbers[o + row * stride + column] = number
    give_back(left)
    give_back(right)
    give_back(edge)


def product(a, b, bias, out):
    """Write ``a @ b + bias`` into ``out``: arrays of one dtype, float32 or float64.

    The bias is a vector, or None.
    """
    bias = _no_bias(a.dtype) if bias is None else np.ascontiguousarray(bias)
    _product(_beside(a), _beside(b).T, bias, out)


@cache
def _no_bias(dtype):
    return np.empty(0, dtype)


def _beside(matrix):
    """The same numbers, rows or columns side by side."""
    return matrix if matrix.itemsize in matrix.strides else np.ascontiguousarray(matrix)
