"""What matrix products are made of: tiles that stay in registers, and transposing for them.

A tile of the result, ``ROWS`` by ``VECTORS`` vectors, is held in registers while the two panels go
by: in each step of the sum, the vectors of a row of the right panel are multiplied by each of
``ROWS`` numbers of the left one. Of float32 that is 8 by 48, in registers of 16 numbers: 11 loads
do for 24 multiplications of vectors, of which the processor does two at a time. A panel is a copy
of a part of a matrix in the order in which tiles read it. (After Goto & van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.)

Numba cannot be told that something stays in a register, so here, and nowhere else, LLVM's
instructions are written one by one.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from .machine_code import AVX512, ROWS, VECTORS
from .parts import part

LANES = {4: 16, 8: 8}  # numbers in a vector of 64 bytes, by their size
_LANES_4, _LANES_8 = LANES[4], LANES[8]

_INT, _INDEX = ir.IntType(64), ir.IntType(32)


class _Vectors:
    """LLVM's instructions for vectors of the numbers of an array."""

    def __init__(self, context, builder, array):
        self.builder = builder
        self.size = array.dtype.bitwidth // 8  # also its alignment: a row may begin anywhere
        self.lanes = LANES[self.size]
        self.type = ir.VectorType(context.get_value_type(array.dtype), self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)
        self._any = ir.Constant(self.type, ir.Undefined)

    def load(self, address, count=None):
        kind = ir.VectorType(self.type.element, count or self.lanes)
        return self.builder.load(self._as(kind, address), align=self.size)

    def store(self, vector, address):
        self.builder.store(vector, self._as(vector.type, address), align=self.size)

    def prefetch(self, address):
        """Have what stands there brought into the cache, for it will be written."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INDEX, _INDEX, _INDEX])
        fetch = get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(fetch, [self.builder.bitcast(address, byte), *map(_INDEX, (1, 3, 1))])

    def everywhere(self, address):
        """A vector that has the number at that address in each lane."""
        return self.all_equal(self.builder.load(address))

    def all_equal(self, number):
        first = self.builder.insert_element(self._any, number, _INDEX(0))
        return self.pick(first, self._any, [0] * self.lanes)

    def pick(self, a, b, lanes):
        """The numbers in these lanes of a and b, those of b being counted after those of a."""
        return self.builder.shuffle_vector(
            a, b, ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes)
        )

    def multiply_add(self, a, b, c):
        """a b + c, rounded once where the processor can."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])

    def _as(self, kind, address):
        return self.builder.bitcast(address, kind.as_pointer())


def _address(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _sums(lane, depth, numbers, step, row, width, before):
    """before[i, j] + Σ_k numbers[i][k step] row[k width + j lanes], over k < depth, at least one.

    ``numbers`` is an address for each i; each of ``before`` is a vector that stays in a register.
    Instructions that follow come after the loop.
    """
    builder, vectors = lane.builder, range(1 + max(j for _, j in before))
    entry, loop = builder.block, builder.append_basic_block("sum")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, offset, this = builder.phi(_INT), builder.phi(_INT), builder.phi(row.type)
    sums = {place: builder.phi(lane.type) for place in before}
    right = [lane.load(builder.gep(this, [_INT(j * lane.lanes)])) for j in vectors]
    changes = [
        (k, _INT(0), builder.add(k, _INT(1))),
        (offset, _INT(0), builder.add(offset, step)),
        (this, row, builder.gep(this, [width])),
    ]
    for i, address in enumerate(numbers):
        left = lane.everywhere(builder.gep(address, [offset]))  # one at a time: registers are few
        for j in vectors:
            total = sums[i, j]
            changes.append((total, before[i, j], lane.multiply_add(left, right[j], total)))
    for changing, first, later in changes:
        changing.add_incoming(first, entry)
        changing.add_incoming(later, loop)
    after = builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", changes[0][2], depth), loop, after)
    builder.position_at_end(after)
    return dict(zip(sums, (later for _, _, later in changes[3:]), strict=True))


def _tile(vectors):
    @intrinsic
    def tile(
        typing_context, depth, left, l, row, column, right, r, width, out, o, stride, before, step
    ):
        """out[o + i stride + j] = Σ_k left[l + i row + k column] right[r + k width + j]

        plus the number i step + j after the address ``before``, if that is not 0: what stands in
        ``out``, say, or, with a ``step`` of 0, the same for all rows.
        """
        signature = types.void(
            depth, left, l, row, column, right, r, width, out, o, stride, before, step
        )

        def generate(context, builder, signature, arguments):
            depth, left, l, row, column, right, r, width, out, o, stride, before, step = arguments
            lane = _Vectors(context, builder, signature.args[1])
            a = _address(context, builder, signature.args[1], left, l)
            b = _address(context, builder, signature.args[5], right, r)
            c = _address(context, builder, signature.args[8], out, o)
            places = [(i, j) for i in range(ROWS) for j in range(vectors)]

            def addresses(start, stride):
                rows = [builder.gep(start, [builder.mul(_INT(i), stride)]) for i in range(ROWS)]
                return {(i, j): builder.gep(rows[i], [_INT(j * lane.lanes)]) for i, j in places}

            targets = addresses(c, stride)
            for target in targets.values():  # what the sum replaces, which is needed at its end
                lane.prefetch(target)

            numbers = [builder.gep(a, [builder.mul(_INT(i), row)]) for i in range(ROWS)]
            nothing = dict.fromkeys(places, lane.zero)
            new = _sums(lane, depth, numbers, column, b, width, nothing)
            add = builder.icmp_unsigned("!=", before, before.type(0))
            with builder.if_else(add) as (adding, writing):
                with adding:
                    start = builder.inttoptr(before, c.type)
                    for place, address in addresses(start, step).items():
                        lane.store(builder.fadd(lane.load(address), new[place]), targets[place])
                with writing:
                    for place in places:
                        lane.store(new[place], targets[place])
            return context.get_dummy_value()

        return signature, generate

    return tile


tile_1, tile_2, tile_3 = map(_tile, (1, 2, 3))


def _strip(rows):
    @intrinsic
    def strip(typing_context, depth, a, x, row, column, b, y, c, z, width):
        """c[z + i width + j] += Σ_p a[x + i row + p column] b[y + p width + j], i < rows, j < width

        ``width``, a constant, is some vectors wide. As a tile, but that nothing is copied before.
        """
        if not isinstance(width, types.IntegerLiteral):
            return None
        signature = types.void(depth, a, x, row, column, b, y, c, z, width)

        def generate(context, builder, signature, arguments):
            depth, a, x, row, column, b, y, c, z, _ = arguments
            lane = _Vectors(context, builder, signature.args[1])
            width = signature.args[9].literal_value
            vectors = range(width // lane.lanes)
            at_a, at_b, at_c = (
                _address(context, builder, signature.args[i], array, first)
                for i, array, first in ((1, a, x), (5, b, y), (7, c, z))
            )
            numbers = [builder.gep(at_a, [builder.mul(_INT(i), row)]) for i in range(rows)]
            places = {
                (i, j): builder.gep(at_c, [_INT(i * width + j * lane.lanes)])
                for i in range(rows)
                for j in vectors
            }
            before = {place: lane.load(address) for place, address in places.items()}
            new = _sums(lane, depth, numbers, column, at_b, _INT(width), before)
            for place, address in places.items():
                lane.store(new[place], address)
            return context.get_dummy_value()

        return signature, generate

    return strip


strip_4, strip_8 = _strip(4), _strip(8)


def _copy(columns):
    @intrinsic
    def copy(typing_context, source, s, target, t):
        """target[t + i] = source[s + i] for i < ROWS, or for as many as a tile is wide"""
        signature = types.void(source, s, target, t)

        def generate(context, builder, signature, arguments):
            source, s, target, t = arguments
            lane = _Vectors(context, builder, signature.args[0])
            count = VECTORS * lane.lanes if columns else ROWS
            a = _address(context, builder, signature.args[0], source, s)
            b = _address(context, builder, signature.args[2], target, t)
            lane.store(lane.load(a, count), b)
            return context.get_dummy_value()

        return signature, generate

    return copy


copy_rows, copy_columns = _copy(False), _copy(True)


@intrinsic
def times(typing_context, source, s, factor, target, t, width):
    """target[t + j] = source[s + j] factor for j < width, a constant, which is some vectors wide"""
    if not isinstance(width, types.IntegerLiteral):
        return None
    signature = types.void(source, s, source.dtype, target, t, width)

    def generate(context, builder, signature, arguments):
        source, s, factor, target, t, _ = arguments
        lane = _Vectors(context, builder, signature.args[0])
        a = _address(context, builder, signature.args[0], source, s)
        b = _address(context, builder, signature.args[3], target, t)
        by = lane.all_equal(factor)
        for j in range(0, signature.args[5].literal_value, lane.lanes):
            vector = lane.load(builder.gep(a, [_INT(j)]))
            lane.store(builder.fmul(vector, by), builder.gep(b, [_INT(j)]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _transpose_block(typing_context, source, s, stride, target, t, width):
    """target[t + j width + i] = source[s + i stride + j] for i < ROWS and each lane j"""
    signature = types.void(source, s, stride, target, t, width)

    def generate(context, builder, signature, arguments):
        source, s, stride, target, t, width = arguments
        lane = _Vectors(context, builder, signature.args[0])
        a = _address(context, builder, signature.args[0], source, s)
        b = _address(context, builder, signature.args[3], target, t)
        rows = [lane.load(builder.gep(a, [builder.mul(_INT(i), stride)])) for i in range(ROWS)]
        # As with a deck of cards that is cut in the middle and shuffled perfectly: after log2(ROWS)
        # times, the first numbers of all rows stand side by side, and then the second ones.
        half = lane.lanes // 2
        low, high = ([n + i * lane.lanes for n in part for i in (0, 1)]
                     for part in (range(half), range(half, lane.lanes)))  # fmt: skip
        for _ in range(ROWS.bit_length() - 1):
            pairs = zip(rows[: ROWS // 2], rows[ROWS // 2 :], strict=True)
            rows = [lane.pick(x, y, lanes) for x, y in pairs for lanes in (low, high)]
        for j in range(lane.lanes):
            vector, first = rows[j * ROWS // lane.lanes], j * ROWS % lane.lanes
            numbers = lane.pick(vector, vector, list(range(first, first + ROWS)))
            lane.store(numbers, builder.gep(b, [builder.mul(_INT(j), width)]))
        return context.get_dummy_value()

    return signature, generate


@part
def lanes_of(array):
    """How many of its numbers are in a vector."""
    return _LANES_4 if array.itemsize == 4 else _LANES_8


@part
def transpose(source, s, stride, target, t, width, rows, columns):
    """target[t + j width + i] = source[s + i stride + j] for i < rows, j < columns"""
    high = wide = 0  # what is done in blocks
    if AVX512:
        lanes = lanes_of(source)
        high, wide = rows - rows % ROWS, columns - columns % lanes
        for i in range(0, high, ROWS):
            for j in range(0, wide, lanes):
                _transpose_block(
                    source, s + i * stride + j, stride, target, t + j * width + i, width
                )
    for i in range(rows):
        for j in range(wide if i < high else 0, columns):
            target[np.uint64(t + j * width + i)] = source[np.uint64(s + i * stride + j)]
