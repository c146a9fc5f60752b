"""The product of two matrices, block by block and tile by tile.

    out = a bᵀ (+ bias in each row) (+ residual)

``a`` is [m, k], ``b`` is [n, k], ``out`` and ``residual`` are [m, n]. Of these two the numbers of a
row lie side by side in memory; of ``a`` and ``b`` those of a row or of a column do. Where they lie
well for tiles, these read them where they are. Else blocks are copied into panels first, in the
order in which tiles read them. The panel of ``a`` that is in use stays in the first cache of the
processor and the block of ``b`` in the second.

Each number of ``out`` is summed up in an order that depends on k alone, so it is the same to the
bit whatever rows and columns are computed with it, and by however many threads.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .loops import loop
from .machine_code import AVX512, ROWS, VECTORS
from .parts import borrowed, part

room, give_back = borrowed("lanes", "room", "give_back")
array_at, everything_from = borrowed("lanes", "array_at", "everything_from")
tile_1, tile_2, tile_3, lanes_of = borrowed("tiles", "tile_1", "tile_2", "tile_3", "lanes_of")
copy_rows, copy_columns, transpose = borrowed("tiles", "copy_rows", "copy_columns", "transpose")

AVAILABLE = AVX512  # of processors without these registers OpenBLAS makes as much, or more
DEPTH = 384  # of a panel, at most: 8 x 384 numbers are 12 kB
LEFT = 96  # rows of a in a block
# rows of b in a block of full depth, 590 kB; in one half as deep there are twice as many
RIGHT = 384
# Where rows of a lie further apart than this, in bytes, or there are more, its columns are copied:
# the lines of a tile's columns would not stay in the first cache.
APART, MANY = 8192, 1024
SMALL = 1 << 20  # bytes of a whole b, up to which it is in the second cache anyway


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
def _tile(vectors, depth, left, l, row, column, right, r, width, out, o, stride, before, further):
    """As those of ``tiles``, so many vectors wide."""
    if vectors == 3:
        tile_3(depth, left, l, row, column, right, r, width, out, o, stride, before, further)
    elif vectors == 2:
        tile_2(depth, left, l, row, column, right, r, width, out, o, stride, before, further)
    else:
        tile_1(depth, left, l, row, column, right, r, width, out, o, stride, before, further)


@part
def _begin(numbers, start, stride, residuals, at, further, bias, first, rows, columns):
    """Rows of ``out`` are bias and residual, to be added to while they are in the first cache."""
    for row in range(rows):
        o, r = np.uint64(start + row * stride), np.uint64(at + row * further)
        for j in range(np.uint64(columns)):
            numbers[o + j] = bias[np.uint64(first) + j] + residuals[r + j]


@loop(any_layout=True)
def _product(a, b, bias, residual, out):
    m, n, k, size = out.shape[0], out.shape[1], a.shape[1], out.itemsize
    lanes = lanes_of(out)
    columns = VECTORS * lanes
    numbers, stride = everything_from(out), out.strides[0] // size
    residuals, beyond = everything_from(residual), residual.strides[0] // size
    depth = -(-k // -(-k // DEPTH))  # all blocks about the same
    broad = RIGHT * (DEPTH // depth)  # a is copied once for each block of b
    left = room(depth * min(LEFT, -(-m // ROWS) * ROWS), out)
    right = room(depth * min(broad, -(-n // columns) * columns), out)
    edge = room(ROWS * columns, out)
    both = bias.size > 0 and residual.size > 0
    a_numbers, a_row, a_column = everything_from(a), a.strides[0] // size, a.strides[1] // size
    b_numbers, b_column = everything_from(b), b.strides[1] // size
    a_fits = m % ROWS == 0 and (a_column == 1 or (k <= MANY and a_column * size <= APART))
    b_fits = n % lanes == 0 and b.strides[0] == size and n * k * size <= SMALL
    for j0 in range(0, n, broad):
        j1 = min(n, j0 + broad)
        for k0 in range(0, k, depth):
            k1 = min(k, k0 + depth)
            steps = k1 - k0
            # What a tile adds its sums to: those of the blocks before, or what they begin with.
            before, further = np.int64(out.ctypes.data), stride
            if k0 == 0 and not both:
                before, further = np.int64(0), 0
                if bias.size > 0:
                    before = np.int64(bias.ctypes.data)
                elif residual.size > 0:
                    before, further = np.int64(residual.ctypes.data), beyond
            if not b_fits:
                _pack(b, j0, j1, k0, k1, columns, right)
            for i0 in range(0, m, LEFT):
                i1 = min(m, i0 + LEFT)
                if not a_fits:
                    _pack(a, i0, i1, k0, k1, ROWS, left)
                for i in range(i0, i1, ROWS):
                    high = min(ROWS, i1 - i)
                    if k0 == 0 and both:
                        _begin(
                            numbers, i * stride + j0, stride, residuals, i * beyond + j0, beyond,
                            bias, j0, high, j1 - j0,
                        )  # fmt: skip
                    some_a, l, a_down, a_on = left, (i - i0) * steps, 1, ROWS
                    if a_fits:
                        some_a, a_down, a_on = a_numbers, a_row, a_column
                        l = i * a_row + k0 * a_column
                    for j in range(j0, j1, columns):
                        wide = min(columns, j1 - j)
                        vectors = -(-wide // lanes)
                        some_b, r, b_on, o = right, (j - j0) * steps, columns, i * stride + j
                        if b_fits:
                            some_b, r, b_on = b_numbers, j + k0 * b_column, b_column
                        at = before + (i * further + j) * size if before else np.int64(0)
                        if high == ROWS and wide == vectors * lanes:
                            _tile(
                                vectors, steps, some_a, l, a_down, a_on, some_b, r, b_on,
                                numbers, o, stride, at, further,
                            )  # fmt: skip
                            continue
                        _tile(
                            vectors, steps, some_a, l, a_down, a_on, some_b, r, b_on,
                            edge, 0, columns, 0, 0,
                        )  # fmt: skip
                        for row in range(high):
                            for column in range(wide):
                                number = edge[row * columns + column]
                                if before:
                                    start = at + (row * further + column) * size
                                    number += array_at(start, 1, out)[0]
                                numbers[o + row * stride + column] = number
    give_back(left)
    give_back(right)
    give_back(edge)


def product(a, b, bias, residual, out):
    """Write ``a @ b + bias + residual`` into ``out``: arrays of one dtype, float32 or float64.

    The bias is a vector, the residual a matrix like ``out``; or they are None.
    """
    none = _nothing(a.dtype)
    bias = none[0] if bias is None else np.ascontiguousarray(bias)
    if residual is None:
        residual = none
    elif residual.strides[1] != residual.itemsize or residual.strides[0] < 0:
        residual = np.ascontiguousarray(residual)
    _product(_beside(a), _beside(b).T, bias, residual, out)


@cache
def _nothing(dtype):
    return np.empty((1, 0), dtype)


def _beside(matrix):
    """The same numbers, rows or columns side by side and none before the first."""
    size, (down, on) = matrix.itemsize, matrix.strides
    usual = (on == size and down >= 0) or (down == size and on >= 0)
    return matrix if usual else np.ascontiguousarray(matrix)
