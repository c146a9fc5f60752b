# ruff: noqa: E501, F403, F405 - a table, one line per function
"""The table: how to draw a call of each function. One line per function or family.

Names are those under ``torch``; dotted ones are looked up part by part. A call is written at random
as a function, a method or in place, so far as PyTorch has that form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from types import ModuleType

from .arguments import *
from .values import INTEGERS


@dataclass
class Spec:
    """The makers of a call's arguments, in order and by name."""

    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    self_at: int = 0  # which argument is the tensor whose method it is
    needs: str = ""  # an attribute of Tensor without which there is no such operator
    written: str = ""  # how to write the call, if not as a function or method

    def draw(self, c: Call) -> tuple[list[str], list[str]]:
        """The arguments as text: those by position, those by name."""
        args = [a for make in self.args if (a := make(c)) is not None]
        named = {name: make(c) for name, make in self.kwargs.items()}
        return args, [f"{name}={text}" for name, text in named.items() if text is not None]


def bounds(maker: Maker, names: str) -> Maker:
    """Arguments by name, all made by one maker."""
    return lambda c: ", ".join(f"{name}={maker(c)}" for name in names.split())


SPECS: dict[str, dict[str, Spec]] = {}


def family(name: str):
    """Adds lines to a family of the table: names separated by blanks, then the makers."""
    table = SPECS.setdefault(name, {})

    def add(names: str, *args: Maker, self_at=0, written="", needs="", **kwargs: Maker):
        for each in names.split():
            table[each] = Spec(args, kwargs, self_at, needs, written.replace("NAME", each))

    return add


# fmt: off
# --- elementwise ----------------------------------------------------------------------------------

add = family("unary")
add("abs neg sign positive square exp exp2 expm1 sin cos tan atan sinh cosh tanh asinh sigmoid relu "
    "erf erfc floor ceil trunc frac rad2deg deg2rad signbit sgn", x())
add("isnan isinf isfinite isposinf isneginf isreal logical_not bitwise_not", x())
add("round", x(), decimals=maybe(literal(0, 1, 2, -1), 3))
add("sqrt rsqrt reciprocal log log2 log10", x("positive", "positive", "small", "special"))
add("log1p", x("positive", "unit", "small", "special"))
add("asin acos atanh erfinv", x("unit", "unit", "small", "special"))
add("acosh", x("positive", "positive", "small", "special"))
add("logit", x("unit", "positive", "special"), eps=maybe(literal(0.1, 1e-6)))
add("nan_to_num", x("special", "normal"), nan=maybe(scalar), posinf=maybe(scalar), neginf=maybe(scalar))
add("nn.functional.softplus", floats(), beta=maybe(literal(1, 2, 0.5)), threshold=maybe(literal(20, 1)))
add("nn.functional.relu nn.functional.silu nn.functional.logsigmoid", floats())
add("nn.functional.gelu", floats("small", "normal"), approximate=maybe(literal("none", "tanh")))
add("- ~ abs", x(), written="NAME({})")

add = family("binary")
add("add sub subtract", x(), other(), alpha=maybe(literal(2, -1, 0.5), 2))
add("mul maximum minimum eq ne lt le gt ge logical_and logical_or logical_xor fmax fmin", x(), other())
add("bitwise_and bitwise_or bitwise_xor", x(dtypes=(*INTEGERS, "bool")), other())
add("bitwise_left_shift bitwise_right_shift", x(dtypes=INTEGERS), like("positive"))
add("div", x(), other(), rounding_mode=maybe(literal(None, "floor", "trunc", "floor", "up")))
add("floor_divide remainder fmod", x("small", "normal"), other("positive"))
add("atan2 logaddexp logaddexp2 hypot", x(), like())
add("copysign xlogy", x(), other())
add("pow float_power", x("positive"), other("small", "normal"))
add(
    "lerp",
    floats("small", "normal"),
    like("normal"),
    one_of(literal(0.3, 2.0, 0.0), like("normal")),
)
add("addcmul", x(), like("normal"), like("normal"), value=maybe(literal(2, -1)))
add("addcdiv", floats(), like("normal"), like("positive"), value=maybe(scalar))
add(
    "clamp clip",
    x(),
    one_of(*(bounds(b, k) for b in (scalar, like("small")) for k in ("min", "max", "min max"))),
)
add("clamp_min clamp_max", x(), one_of(scalar, like("small")))
add("isclose", x("normal", "special"), same(), equal_nan=maybe(flag))
add("equal", x("small"), like("small"))
add("allclose", x("normal"), same("normal"))
add("where", mask, x(), other(), self_at=1)
add("masked_fill", x(), mask, one_of(scalar, lambda c: c.tensor((), c.another_dtype(), "small")))

add = family("operators")
for symbol in ["+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "&", "|", "^", "<<", ">>"]:
    numbers = {"/": "positive", "//": "positive", "%": "positive", "**": "normal"}.get(symbol)
    left = x("positive") if symbol == "**" else x(dtypes=INTEGERS) if symbol in "<<>>" else x()
    right = like("positive") if symbol in ("<<", ">>") else other(*([numbers] if numbers else []))
    needs = {"<<": "__lshift__", ">>": "__rshift__"}.get(symbol, "")
    add(symbol, left, right, written="{} NAME {}", needs=needs)
    if symbol not in ("<<", ">>"):
        add(f"reflected:{symbol}", x("positive"), scalar, written=f"{{1}} {symbol} {{0}}")
    if symbol not in ("==", "!=", "<", "<=", ">", ">="):
        add(f"augmented:{symbol}", left, right, written=f"AUGMENT {{}} {symbol}= {{}}", needs=needs)
add("@", matrices("*ij", "*jk"), written="@")

# --- reductions and order -------------------------------------------------------------------------

over = maybe(lambda c: f"dim={dims(c)}" + c.choice("", ", keepdim=True"), 3)
over_one = maybe(lambda c: f"dim={dim(c)}" + c.choice("", ", keepdim=True"), 3)
along = {"dim": dim}
add = family("reductions")
add("sum nansum", x(), over, dtype=maybe(float_dtype, 6))
add("mean nanmean", floats(), over, dtype=maybe(float_dtype, 6))
add("prod", x("normal", "small"), over_one, dtype=maybe(float_dtype, 6))
add("var std var_mean std_mean", floats("normal", "small", "special"), over, correction=maybe(literal(0, 1, 2)))
add("amax amin any all", x(), over)
add("max min", x(), over_one)
add("aminmax", x(), over_one)
add("argmax argmin", x(), over_one)
add("median nanmedian", x("distinct"), over_one)
add("mode", x("distinct"), dim)
add("logsumexp", floats(), dims, keepdim=maybe(flag))
add("softmax log_softmax", floats(), dim, dtype=maybe(float_dtype, 6))
add("cumsum", x(), dim, dtype=maybe(float_dtype, 6))
add("cumprod", x("normal", "small"), dim, dtype=maybe(float_dtype, 6))
add("logcumsumexp", floats("normal"), dim)
add("cummax cummin", x("distinct", "small"), dim)
add("diff", x(), n=maybe(literal(1, 2, 0)), dim=maybe(dim))
add("count_nonzero", x(), dim=maybe(dims))
inf = float("inf")
add("norm", floats("small", "normal"), literal(2, 1, "fro", inf, 0, 3, -inf), over)
add("linalg.norm", floats("normal", most=2), literal(2, 1, inf), over_one)
add("linalg.vector_norm", floats("small", "normal"), literal(2, 1, inf, 0, 3, -inf, 0.5), over)
add("linalg.matrix_norm", floats("normal", least=2), ord=maybe(literal("fro", 1, inf, "nuc")))
add("quantile nanquantile", floats("distinct"), literal(0.5, 0.0, 1.0, 0.3), over_one)

add = family("order")
order = {"dim": maybe(dim), "descending": maybe(flag)}
add("sort argsort", x("distinct", "small", "special"), **order, stable=literal(True))
add("msort", x("distinct"))
add("topk", x("distinct"), literal(1, 0, 2), dim=maybe(dim), largest=maybe(flag))
add("kthvalue", x("distinct"), literal(1, 2), dim=maybe(dim), keepdim=maybe(flag))
add("unique", x("small"), return_inverse=maybe(flag), return_counts=maybe(flag), dim=maybe(dim))
add("unique_consecutive", x("small"), return_inverse=maybe(flag), return_counts=maybe(flag))
add("searchsorted", x("distinct", least=1, most=1, dtypes=("float64", "int64")), fitting(lambda c: (3,)), right=maybe(flag), self_at=9)
add("bucketize", x("normal"), lambda c: c.tensor((0,), c.dtype), right=maybe(flag))
add("bincount", x("positive", least=1, most=1, dtypes=("int64", "uint8", "int32", "float64")), minlength=maybe(literal(0, 4)))
add("histc", floats("normal"), bins=literal(4, 3))

# --- shapes and joining ---------------------------------------------------------------------------

add = family("shapes")
add("reshape view", x(), spread(sizes))
add("view_as reshape_as", x(), fitting(sizes))
add("flatten", x(), start_dim=maybe(dim), end_dim=maybe(dim))
add("ravel t numel is_floating_point contiguous clone detach", x())
add("unflatten", x(), dim, literal((1, -1), (-1,), (2, 1), (2, -1), (-1, 1, 1)))
add("transpose swapaxes swapdims", x(), dim, dim)
add("permute", x(), spread_permutation := (lambda c: permutation(c)))
add("movedim moveaxis", x(), dim, dim)
add("squeeze", x(), dim=maybe(one_of(dim, dims)))
add("unsqueeze", x(), new_dim)
add("expand", x(), spread(expanded))
add("broadcast_to", x(), lambda c: repr(expanded(c)))
add("expand_as", x(), fitting(lambda c: tuple(abs(n) for n in expanded(c))))
add("repeat", x(), spread(counts))
add("tile", x(), lambda c: repr(counts(c)))
add("repeat_interleave", x(), literal(2, 1, 0, 3), dim=maybe(dim))
add("flip", x(), spread(lambda c: (one_dim(c),)))
add("fliplr flipud", x())
add("roll", x(), literal(1, -2, 0, 5), maybe(dim))
add("rot90", x(), maybe(literal(1, -1, 2, 0, 5)))
add("diagonal", x(least=1), offset=maybe(literal(0, 1, -1, 3)), dim1=maybe(dim), dim2=maybe(dim))
add("diag", x(least=1, most=2), maybe(literal(0, 1, -1)))
add("diag_embed", x(least=1, most=3), offset=maybe(literal(0, 1, -1)))
add("diagflat", x(), maybe(literal(0, 1, -1)))
add("tril triu", x(least=1), maybe(literal(0, 1, -1, 5)))
add("unfold", x(), dim, literal(1, 2, 3, 0), literal(1, 2))
add("T mT H mH real shape dtype ndim", x(), written="{}.NAME")
add("narrow", x(), dim, literal(0, 1, -1, 2), literal(1, 0, 2))
add("select", x(), dim, literal(0, -1, 1, 3))
add("split", x(), one_of(literal(1, 2, 3), literal([1, 1], [2, 1], [0, 2], [1])), dim=maybe(dim))
add("chunk tensor_split", x(), literal(2, 1, 3, 5, 0), dim=maybe(dim))
add("split_with_sizes", x(), literal([1, 1], [2, 1], [0, 2], [1]), dim=maybe(dim))
add("unbind", x(), maybe(dim))
add("adjoint", x(least=2))
add("select_scatter", x(least=1), fitting(lambda c: c.shape[1:]), literal(0), literal(0, -1, 1))
add("slice_scatter", x(least=1), fitting(lambda c: c.shape), start=maybe(literal(0)))
add("diagonal_scatter", x(least=2, most=2), fitting(lambda c: (min(c.shape),)))
add("hsplit vsplit dsplit", x(least=1), literal(1, 2, [1], [1, 2]))
add("atleast_1d atleast_2d atleast_3d", x())

add = family("joining")
add("cat concat", tensors(), maybe(dim))
add("stack", tensors(along=False), maybe(new_dim))
add("hstack vstack dstack column_stack row_stack", tensors())
add("meshgrid", one_of(lambda c: f"{c.first(ALL, ('normal',), 1, 1)}, {c.tensor((2,), c.dtype)}"), indexing=maybe(literal("ij", "xy"), 9))
add("broadcast_tensors", lambda c: f"{x()(c)}, {like()(c)}")
add("broadcast_shapes", lambda c: f"{expanded(c)}, {c.some_shape(0, 2)}")
add("combinations", x("normal", least=1, most=1), maybe(literal(2, 1, 0, 3)))
add("block_diag", lambda c: f"{c.first(ALL, ('normal',), 0, 2)}, {c.tensor((2, 3), c.dtype)}")
add("cartesian_prod", lambda c: f"{c.first(ALL, ('normal',), 1, 1)}, {c.tensor((2,), c.dtype)}")

# --- indexing -------------------------------------------------------------------------------------

reduced = literal("sum", "prod", "mean", "amax", "amin")
add = family("indexing")
add("getitem", x(), index, written="{}[{}]")
add("setitem", x(), index, assigned, written="ASSIGN {}[{}] = {}")
add("gather", x(), dim_and_index())
add("scatter", x(), dim_and_index(unique=True), one_of(source(), scalar))
add("scatter_add", x(), dim_and_index(), source())
add("scatter_reduce", x("distinct"), dim_and_index(), source("positive"), reduced, include_self=maybe(flag))
add("index_select", x(), dim_and_index(flat=True))
add("index_add", x(), dim_and_index(flat=True), source(), alpha=maybe(literal(2, -1)))
add("index_copy", x(), dim_and_index(flat=True, unique=True), source())
add("index_fill", x(), dim_and_index(flat=True), scalar)
add("index_put", x(least=1), lambda c: f"(i(0, {max(c.shape[0], 1)}, (2,), {c.number(0, 99)}),)", assigned, accumulate=literal(True))
add("masked_select", x(), mask)
add("masked_scatter", x(), mask, fitting(lambda c: (*c.shape, 2)))
add("take", x(), lambda c: c.named(f"i(-1, {max(prod(c.shape), 1)}, {c.some_shape(0, 2)}, 3)"))
add("take_along_dim", x(), lambda c: dim_and_index(smaller=False)(c).partition(", ")[2], maybe(dim))
add("nonzero argwhere", x("small"))
add("nn.functional.one_hot", x("positive", dtypes=("int64", "int64", "int32", "float32")), maybe(literal(-1, 6, 2)))
add("index_reduce", x("distinct"), dim_and_index(flat=True), source("positive"), literal("prod", "mean", "amax", "amin"), include_self=maybe(flag))
add("put", x(), lambda c: c.named(f"p({prod(c.shape)}, 2, 3)"), fitting(lambda c: (min(prod(c.shape), 2),)))
add("fill_diagonal_", x("normal", least=1), scalar)

# --- matrices -------------------------------------------------------------------------------------

add = family("matrices")
weights = {"beta": maybe(scalar), "alpha": maybe(scalar)}
add("mm", matrices("ij", "jk"))
add("bmm", matrices("bij", "bjk"))
add("mv", matrices("ij", "j"))
add("dot inner vdot", matrices("i", "i"))
add("outer ger", matrices("i", "j"))
add("matmul", one_of(matrices("*ij", "*jk"), matrices("*ij", "j"), matrices("j", "*jk"), matrices("i", "i"), matrices("bij", "jk")))
add("addmm", matrices("ik", "ij", "jk"), **weights)
add("addmv", matrices("i", "ij", "j"), **weights)
add("addr", matrices("ij", "i", "j"), **weights)
add("baddbmm", matrices("bik", "bij", "bjk"), **weights)
add("addbmm", matrices("ik", "bij", "bjk"), **weights)
add("kron", one_of(matrices("ij", "kl"), matrices("i", "kl"), matrices("ij", "ij")))
add("tensordot", one_of(matrices("ijk", "jkl"), matrices("ij", "jk")), dims=literal(1, 2, 0, ([1], [0])))
add("einsum", one_of(*(lambda c, e=e: f"'{e}', " + matrices(*e.partition("->")[0].split(","))(c) for e in ("ij,jk->ik", "bij,bjk->bik", "i,j->ij", "ij->ji", "ii->i", "ij->", "ij,ij", "ii", "bij,kj->bik"))), self_at=9)
add("trace", matrices("ij"))
add("cross linalg.cross", lambda c: f"{c.first(ALL, ('normal',), 0, 0, (2, 3))}, {c.tensor((2, 3), c.dtype)}", dim=literal(-1, 1))
add("linalg.inv inverse", invertible())
add("det linalg.det slogdet linalg.slogdet logdet", invertible())
add("linalg.solve", invertible(), fitting(lambda c: (*c.shape[:-1], 2), "normal"))
add("linalg.cholesky", invertible(definite=True), upper=maybe(flag))
add("linalg.matrix_power matrix_power", invertible(), literal(2, 0, 1, -1, 3, -2))
add("linalg.multi_dot", lambda c: f"[{matrices('ij', 'jk', 'kl')(c)}]")
add("chain_matmul", matrices("ij", "jk", "kl"))
add("cdist", matrices("ij", "kj", values=("normal",), dtypes=("float64",)))

# --- casts and creation ---------------------------------------------------------------------------

add = family("casts")
add("to type", x("small", "normal"), some_dtype)
add("float double half long int short bool", x("small", "normal"), written="{}.NAME()")
add("type_as", x("small", "normal"), like("small"))
add(
    "new_zeros new_ones new_empty",
    x(),
    lambda c: repr(c.some_shape(0, 2)),
    written="{}.NAME({}) * 0",
)
add("new_full", x(), lambda c: repr(c.some_shape(0, 2)), scalar)
add("new_tensor", x(), literal([1, 2], 2.5, [[True]]))
add("copy_ fill_", x("small", "normal"), one_of(scalar, like("small")))
add("zero_", x())
add("item tolist", x("small", "normal", most=1))
add("result_type", x(), other())

whole = literal(3, 0, 2, 5, -1)
step = literal(1, 2, 0.5, -1, 3)
kind = {"dtype": maybe(some_dtype)}
size = lambda c: repr(c.some_shape(0, 3))
add = family("creation")
add("zeros ones", one_of(size, whole), **kind)
add("full", size, scalar, **kind)
add("zeros_like ones_like", x(), **kind)
add("full_like", x("small"), scalar, **kind)
add("arange", one_of(whole, lambda c: f"{whole(c)}, {literal(7, 2.5, -3)(c)}, {step(c)}"), **kind)
add(
    "linspace",
    literal(0, -1, 2.5),
    literal(1, 3, -4.0),
    literal(5, 1, 0, 2),
    dtype=maybe(float_dtype),
)
add("logspace", literal(0, -1), literal(1, 2), literal(5, 1, 0), dtype=maybe(float_dtype))
add("eye", literal(3, 0, 1), maybe(literal(2, 0, 4)), **kind)
add("tensor as_tensor asarray", literal(1, 2.5, True, [1, 2], [1.5, 2], [[True, False]], [], [[1], [2]], [[1, 2.5]], [[1, 2], [3]]), **kind)
add("tril_indices triu_indices", literal(3, 2, 0), literal(3, 2, 4), maybe(literal(0, 1, -1)))
add("scalar_tensor", scalar)
add("vander", x("small", least=1, most=1))


# fmt: on
# --- writing a call -------------------------------------------------------------------------------


def found(m: ModuleType, name: str):
    """What a dotted name leads to; None if it leads nowhere."""
    return reduce(lambda at, part: getattr(at, part, None), name.split("."), m)


def forms(m: ModuleType, name: str, spec: Spec) -> set[str]:
    """The ways in which the module ``m`` can write this call."""
    if spec.written:
        needs = name if spec.written.startswith("{}.") else spec.needs or "__add__"
        return {"written"} if hasattr(m.Tensor, needs) else set()
    ways = {"function"} if callable(found(m, name)) else set()
    if spec.args and "." not in name:
        ways |= {"method"} if hasattr(m.Tensor, name) else set()
        ways |= {"in place"} if hasattr(m.Tensor, name + "_") else set()
    return ways


@cache
def common_forms(name: str) -> tuple[list[str], list[str]]:
    """The ways to write a call in both libraries, and those that only PyTorch has."""
    import torch

    import tensorgrad

    spec = spec_of(name)
    theirs, ours = forms(torch, name, spec), forms(tensorgrad, name, spec)
    return sorted(theirs & ours), sorted(theirs - ours)


def spec_of(name: str) -> Spec:
    return next(table[name] for table in SPECS.values() if name in table)


def write(c: Call, name: str, spec: Spec, ways: Sequence[str] = ()) -> str:
    """The last statement of a drawn call; those that it needs before are the call's own.

    ``ways``: those that are preferred. Then a write is into the tensor itself, never a clone.
    """
    args, named = spec.draw(c)
    possible = common_forms(name)[0]
    way = c.choice(*([w for w in possible if w in ways] or possible))
    first = args[min(spec.self_at, len(args) - 1)] if args else ""
    if way == "written":
        if spec.written == "@":
            return "out = " + " @ ".join(args[0].split(", "))
        text = spec.written.format(*args)
        kind, _, rest = text.partition(" ")
        if kind in ("ASSIGN", "AUGMENT"):
            if ways:
                return rest
            c.statements.append(f"out = {first}.clone()" if c.choice(1, 0) else f"out = {first}")
            return "out" + rest[len(first) :]
        return f"out = {text}"
    if way == "function":
        return f"out = m.{name}({', '.join(args + named)})"
    del args[spec.self_at]
    if ", " in first and first[0] != "(":  # several tensors from one maker
        first, _, rest = first.partition(", ")
        args.insert(0, rest)
    if way == "in place":
        first, name = (f"{first}.clone()" if not ways and c.choice(1, 1, 0) else first), f"{name}_"
    return f"out = {first}.{name}({', '.join(args + named)})"


def drawn(draw, name: str) -> str:
    """A whole line for the function ``name``."""
    c = Call(draw)
    last = write(c, name, spec_of(name))
    return "; ".join([*c.statements, last])
