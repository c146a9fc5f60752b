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

import numba
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

_FEATURES = numba.config.CPU_FEATURES or get_host_cpu_features()

AVAILABLE = "+avx512f" in _FEATURES.split(",")  # of others OpenBLAS makes as much, or more
ROWS, VECTORS = 8, 3  # of a tile, which takes 24 of the 32 registers
LANES = {4: 16, 8: 8}  # numbers in a vector of 64 bytes, by their size

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
        first = self.builder.insert_element(self._any, self.builder.load(address), _INDEX(0))
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


def _repeat(builder, before, loop, following, count):
    """Closes a loop that repeats ``count`` times; the first of ``following`` counts them.

    These are triples: what changes, its value before, and what it becomes each time.
    """
    for changing, first, later in following:
        changing.add_incoming(first, before)
        changing.add_incoming(later, loop)
    after = builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", following[0][2], count), loop, after)
    builder.position_at_end(after)


def _tile(vectors):
    @intrinsic
    def tile(typing_context, depth, left, l, right, r, out, o, stride, add):
        """out[o + i stride + j] (+)= Σ_k left[l + k ROWS + i] right[r + k COLUMNS + j]"""
        signature = types.void(depth, left, l, right, r, out, o, stride, add)

        def generate(context, builder, signature, arguments):
            depth, left, l, right, r, out, o, stride, add = arguments
            lane = _Vectors(context, builder, signature.args[1])
            a = _address(context, builder, signature.args[1], left, l)
            b = _address(context, builder, signature.args[3], right, r)
            c = _address(context, builder, signature.args[5], out, o)
            places = [(i, j) for i in range(ROWS) for j in range(vectors)]

            # Meanwhile the cache fetches what the sum is added to, or what it replaces.
            rows = [builder.gep(c, [builder.mul(_INT(i), stride)]) for i in range(ROWS)]
            targets = {(i, j): builder.gep(rows[i], [_INT(j * lane.lanes)]) for i, j in places}
            for target in targets.values():
                lane.prefetch(target)

            # for k in range(depth), at least one: sums[i, j] += a[i] * b[j]; a and b go on
            before, loop = builder.block, builder.append_basic_block("sum")
            builder.branch(loop)
            builder.position_at_end(loop)
            k, at_a, at_b = builder.phi(_INT), builder.phi(a.type), builder.phi(b.type)
            old = {place: builder.phi(lane.type) for place in places}
            row = [lane.load(builder.gep(at_b, [_INT(j * lane.lanes)])) for j in range(vectors)]
            new = {}
            for i in range(ROWS):
                number = lane.everywhere(builder.gep(at_a, [_INT(i)]))
                for j in range(vectors):
                    new[i, j] = lane.multiply_add(number, row[j], old[i, j])
            following = [
                (k, _INT(0), builder.add(k, _INT(1))),
                (at_a, a, builder.gep(at_a, [_INT(ROWS)])),
                (at_b, b, builder.gep(at_b, [_INT(VECTORS * lane.lanes)])),
                *((old[place], lane.zero, new[place]) for place in places),
            ]
            _repeat(builder, before, loop, following, depth)
            with builder.if_else(add) as (adding, writing):
                with adding:
                    for place in places:
                        total = builder.fadd(lane.load(targets[place]), new[place])
                        lane.store(total, targets[place])
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
            starts = [builder.gep(at_a, [builder.mul(_INT(i), row)]) for i in range(rows)]
            places = {
                (i, j): builder.gep(at_c, [_INT(i * width + j * lane.lanes)])
                for i in range(rows)
                for j in vectors
            }
            first = {place: lane.load(address) for place, address in places.items()}

            # for p in range(depth), at least one: sums[i, j] += a[i] * b[j]
            before, loop = builder.block, builder.append_basic_block("sum")
            builder.branch(loop)
            builder.position_at_end(loop)
            p, offset, this = builder.phi(_INT), builder.phi(_INT), builder.phi(at_b.type)
            old = {place: builder.phi(lane.type) for place in places}
            numbers = [lane.load(builder.gep(this, [_INT(j * lane.lanes)])) for j in vectors]
            new = {}
            for i in range(rows):
                number = lane.everywhere(builder.gep(starts[i], [offset]))
                for j in vectors:
                    new[i, j] = lane.multiply_add(number, numbers[j], old[i, j])
            following = [
                (p, _INT(0), builder.add(p, _INT(1))),
                (offset, _INT(0), builder.add(offset, column)),
                (this, at_b, builder.gep(this, [_INT(width)])),
                *((old[place], first[place], new[place]) for place in places),
            ]
            _repeat(builder, before, loop, following, depth)
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
def transpose(typing_context, source, s, stride, target, t, width):
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
