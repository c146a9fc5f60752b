"""How arguments are drawn: each maker takes the call that is being drawn and returns source text.

The first tensor of a call is drawn by :func:`x`; the others fit to it, nearly always.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from hypothesis import strategies as st

from .values import DTYPES, FLOATS

Maker = Callable[["Call"], "str | None"]

ALL = ("float64", "float64", "float64", "float32", "float32", *DTYPES)
ANY_VALUES = ("small", "normal", "special", "positive")


class Call:
    """A line being drawn: its statements so far, the shape and dtype of its first tensor."""

    def __init__(self, draw: Callable) -> None:
        self.draw = draw
        self.statements: list[str] = []
        self.shape: tuple[int, ...] = ()
        self.dtype = "float64"

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, *options):
        return self.draw(st.sampled_from(options))

    def rarely(self, one_in: int = 10) -> bool:
        return self.number(1, one_in) == one_in

    def some_shape(self, least: int = 0, most: int = 4) -> tuple[int, ...]:
        sizes = (2, 3, 1, 4, 2, 3, 1, 0)
        return tuple(self.choice(*sizes) for _ in range(self.number(least, most)))

    def first(self, dtypes, values, least, most, shape=None) -> str:
        """The first tensor."""
        self.shape = self.some_shape(least, most) if shape is None else shape
        self.dtype = self.choice(*dtypes)
        return self.tensor(self.shape, self.dtype, self.choice(*values))

    def tensor(self, shape, dtype, values="small", grad=None) -> str:
        """A new tensor: a name, after a statement that makes it."""
        layout = self.choice("", "", "T", "S", "E") if len(shape) else ""
        made = f"t('{dtype}', {shape}, {self.number(0, 999)}, '{values}', '{layout}')"
        if dtype in FLOATS and (self.choice(True, True, False) if grad is None else grad):
            made += ".requires_grad_()"
        return self.named(made)

    def named(self, made: str) -> str:
        name = "xyzuvwqrst"[len(self.statements)]
        self.statements.append(f"{name} = {made}")
        return name

    def another_dtype(self) -> str:
        return self.dtype if not self.rarely(4) else self.choice(*ALL)


def x(*values: str, dtypes=ALL, least: int = 0, most: int = 4) -> Maker:
    """The first tensor; ``values`` name its kinds of numbers (see ``values.array``)."""
    return lambda c: c.first(dtypes, values or ANY_VALUES, least, most)


def floats(*values: str, least: int = 0, most: int = 4) -> Maker:
    """The first tensor, nearly always of a float dtype."""
    return x(*values, dtypes=FLOATS * 6 + ("int64", "bool"), least=least, most=most)


def maybe(maker: Maker, one_in: int = 2) -> Maker:
    """``maker`` or nothing: the argument is left out."""
    return lambda c: None if c.number(1, one_in) == 1 else maker(c)


def one_of(*makers: Maker) -> Maker:
    return lambda c: c.choice(*makers)(c)


def literal(*texts: object) -> Maker:
    """One of some values, as they are written."""
    return lambda c: repr(c.choice(*texts))


flag = literal(True, False)
some_dtype = lambda c: f"m.{c.choice(*DTYPES)}"
float_dtype = lambda c: f"m.{c.choice(*FLOATS)}"
scalar = literal(2, -1, 0, 3, 0.5, -1.5, 2.0, True)
positive_scalar = literal(2, 1, 0.5, 3.0)


def broadcast(c: Call, shape=None) -> tuple[int, ...]:
    """A shape that broadcasts with ``shape``, but for a rare one that does not."""
    shape = c.shape if shape is None else shape
    if c.rarely(25):
        return c.some_shape()
    kept = shape[c.number(0, len(shape)) if c.rarely(3) else 0 :]
    kept = tuple(1 if c.rarely(5) else n for n in kept)
    return (2, *kept) if c.rarely(10) and len(kept) == len(shape) < 4 else kept


def like(*values: str, dtypes=None) -> Maker:
    """Another tensor that broadcasts with the first one."""

    def make(c: Call) -> str:
        dtype = c.choice(*dtypes) if dtypes else c.another_dtype()
        return c.tensor(broadcast(c), dtype, c.choice(*(values or ANY_VALUES)))

    return make


def same(*values: str) -> Maker:
    """Another tensor of the shape and dtype of the first one."""
    return lambda c: c.tensor(c.shape, c.dtype, c.choice(*(values or ANY_VALUES)))


def other(*values: str) -> Maker:
    """Another tensor, or a number."""
    tensor = like(*values)
    return one_of(tensor, tensor, scalar if values != ("positive",) else positive_scalar)


def mask(c: Call) -> str:
    dtype = "bool" if not c.rarely(25) else c.choice(*DTYPES)
    return c.tensor(broadcast(c), dtype)


def fitting(shape: Callable[[Call], tuple], *values: str) -> Maker:
    """Another tensor of a shape that depends on the call, or rarely of any shape."""

    def make(c: Call) -> str:
        wanted = c.some_shape() if c.rarely(20) else shape(c)
        dtype = c.dtype if not c.rarely(20) else c.choice(*ALL)
        return c.tensor(wanted, dtype, c.choice(*(values or ("small", "normal"))))

    return make


# --- dims and sizes -------------------------------------------------------------------------------


def one_dim(c: Call, extra: int = 0) -> int:
    """A dim, from either end; rarely one that the tensor does not have."""
    n = max(len(c.shape) + extra, 1)
    return c.number(-n - 1, n) if c.rarely(20) else c.number(-n, n - 1)


dim = lambda c: repr(one_dim(c))
new_dim = lambda c: repr(one_dim(c, 1))


def dims(c: Call) -> str:
    """One dim or several, as PyTorch's reductions take them."""
    kind = c.choice("one", "one", "several", "none")
    if kind == "one" or not c.shape:
        return dim(c)
    if kind == "none":
        return c.choice("()", "None")
    n, chosen = len(c.shape), c.draw(st.permutations(range(len(c.shape))))
    chosen = [d - n if c.rarely(3) else d for d in chosen[: c.number(1, n)]]
    if c.rarely(20):
        chosen.append(chosen[0])
    return repr(tuple(chosen)) if not c.rarely(4) else repr(chosen)


def permutation(c: Call) -> str:
    order = c.draw(st.permutations(range(len(c.shape))))
    return repr(tuple(d - len(order) if c.rarely(4) else d for d in order[c.rarely(25) :]))


def sizes(c: Call) -> tuple[int, ...]:
    """Sizes with as many elements as the first tensor, one perhaps -1."""
    n, found = prod(c.shape), []
    if c.rarely(20):
        return c.some_shape()
    while n > 1 and len(found) < 4:
        divisors = [d for d in range(1, n + 1) if n % d == 0]
        found.append(c.choice(*divisors))
        n //= found[-1]
    found.append(n)
    if found and c.rarely(3):
        found[c.number(0, len(found) - 1)] = -1
    return tuple(found)


def expanded(c: Call) -> tuple[int, ...]:
    """Sizes that the first tensor expands to, nearly always."""
    new = tuple(c.choice(2, 1, 3, 0) for _ in range(c.number(0, 2)))
    kept = (c.choice(2, 3, 1, 0) if n == 1 else c.choice(n, n, -1) for n in c.shape)
    return (*new, *kept) if not c.rarely(20) else c.some_shape()


def spread(shape: Callable[[Call], tuple]) -> Maker:
    """Sizes as one argument or one by one."""

    def make(c: Call) -> str:
        found = shape(c)
        return repr(found) if not found or c.rarely(2) else repr(found)[1:-1].rstrip(",")

    return make


def counts(c: Call) -> tuple[int, ...]:
    """How often to repeat along each dim."""
    return tuple(c.choice(1, 2, 0, 3) for _ in range(len(c.shape) + c.choice(0, 0, 0, 1, -1)))


def size_of(c: Call, d: int) -> int:
    """The size of a dim that the tensor may not have."""
    return c.shape[d] if -len(c.shape) <= d < len(c.shape) else 1


def shape_without(c: Call, d: int, size: int) -> tuple[int, ...]:
    """The shape of the first tensor with another size at dim ``d``."""
    if not -len(c.shape) <= d < len(c.shape):
        return c.shape
    return tuple(size if k == d % len(c.shape) else n for k, n in enumerate(c.shape))


# --- several arguments that depend on each other --------------------------------------------------


def tensors(*values: str, along: bool = True) -> Maker:
    """A list of tensors of one shape but for dim 0 (``along``), with the first tensor."""

    def make(c: Call) -> str:
        made = [c.first(ALL, values or ("small", "normal"), 0, 3)]
        for _ in range(c.number(0, 2)):
            shape = shape_without(c, 0, c.choice(1, 2, 0)) if along and c.rarely(2) else c.shape
            shape = c.some_shape() if c.rarely(20) else shape
            made.append(c.tensor(shape, c.another_dtype(), "normal"))
        return f"[{', '.join(made)}]" if not c.rarely(40) else "[]"

    return make


def dim_and_index(smaller: bool = True, unique: bool = False, flat: bool = False) -> Maker:
    """``dim, index``: int64 indices into that dim, in the first tensor's shape or in one dim."""

    def make(c: Call) -> str:
        d = one_dim(c)
        n = size_of(c, d)
        seed = c.number(0, 999)
        if flat or (unique and len(c.shape) != 1):
            k = c.number(0, n)
            index = f"p({n}, {k}, {seed})"
            if not unique:
                k = c.number(0, 4) if n else 0
                index = f"i({-c.rarely(20)}, {max(n, 1) + c.rarely(20)}, ({k},), {seed})"
            c.indexed = shape_without(c, d, k)
            if unique and not flat:  # one position each, for writes whose order must not matter
                c.indexed = shape_without(c, d, k)
                ones = shape_without(c, d, -1) and tuple(
                    -1 if j == d % max(len(c.shape), 1) else 1 for j in range(len(c.shape))
                )
                index += f".reshape({ones}).expand({c.indexed})"
        else:
            shape = shape_without(c, d, c.number(0, 3))
            if smaller and c.rarely(3):
                shape = tuple(c.number(min(1, s), s) for s in shape)
            low, high = (-1 if c.rarely(25) else 0), max(n, 1) + c.rarely(25)
            dtype = "int64" if not c.rarely(25) else c.choice("int32", "uint8")
            index = f"i({low}, {high}, {shape}, {seed}, '{dtype}')"
            c.indexed = shape
        return f"{d}, {c.named(index)}"

    return make


def source(*values: str) -> Maker:
    """The tensor that goes where ``dim_and_index`` says."""
    return fitting(lambda c: c.indexed, *values)


def index(c: Call) -> str:
    """What can stand in the brackets of ``x[...]``."""
    parts, left = [], list(c.shape)
    for _ in range(c.number(0, 3)):
        n = left[0] if left else 2
        kind = c.choice("slice", "int", "None", "...", "tensor", "list", "mask")
        if kind == "slice":
            low, high = c.choice("", "0", "1", "-1", "5"), c.choice("", "2", "-1", "0")
            parts.append(f"{low}:{high}" + c.choice("", "", ":2"))
        elif kind == "int":
            parts.append(str(c.number(-n, n - 1 if n else 0)))
        elif kind == "None":
            parts.append("None")
        elif kind == "..." and "..." not in parts:
            parts.append("...")
            left = left[1:]
        elif kind == "list" and n:
            parts.append(repr([c.number(-n, n - 1) for _ in range(c.number(1, 3))]))
        elif kind == "tensor" and n:
            shape = c.choice((2,), (), (1,), (2, 1), (3,), (0,))
            parts.append(f"i({-n}, {n}, {shape}, {c.number(0, 99)})")
        elif kind == "mask" and left:
            k = c.number(1, min(2, len(left)))
            parts.append(f"t('bool', {tuple(left[:k])}, {c.number(0, 99)})")
            left = left[k - 1 :]
        if kind not in ("None", "..."):
            left = left[1:]
    if not parts:
        return c.choice("...", "()", "None")
    return ", ".join(parts)


def assigned(c: Call) -> str:
    """What can be assigned to ``x[index]``: a number, or a tensor of a few elements."""
    if c.choice(True, False):
        return scalar(c)
    shape = c.choice((), (1,), c.shape[-1:], (1, *c.shape[-1:]), c.shape[1:])
    return c.tensor(shape, c.another_dtype(), c.choice("small", "normal"))


def matrices(*shapes: str, values=("small", "normal"), dtypes=None) -> Maker:
    """Tensors whose sizes are letters, equal letters equal sizes: ``"bij", "bjk"``.

    The first is the first tensor. A ``*`` in front of both is a stack of matrices or none.
    """

    def make(c: Call) -> str:
        sizes = {letter: c.choice(2, 3, 1, 4, 0) for letter in "abcijklmn"}
        stack = c.choice((), (), (2,), (2, 3), (1,))
        made = []
        for k, letters in enumerate(shapes):
            front = stack if letters[0] == "*" else ()
            shape = (*front, *(sizes[a] for a in letters.lstrip("*")))
            if c.rarely(25):
                shape = c.some_shape()
            if k == 0:
                allowed = dtypes or ("float64",) * 4 + ("float32", "int64", "float16", "uint8")
                made.append(c.first(allowed, values, 0, 0, shape))
            else:
                dtype = c.dtype if not c.rarely(20) else c.choice(*ALL)
                made.append(c.tensor(shape, dtype, c.choice(*values)))
        return ", ".join(made)

    return make


def invertible(definite: bool = False) -> Maker:
    """Square matrices far from singular, rarely any matrices; the first tensor is the name."""

    def make(c: Call) -> str:
        n = c.choice(2, 3, 1, 0)
        c.shape = (*c.choice((), (), (2,), (1, 2)), n, n)
        c.dtype = c.choice("float64", "float64", "float32")
        a = c.tensor(c.shape, c.dtype, "unit")
        if c.rarely(12):
            return c.choice(a, f"{a}[..., :1]", f"{a}.sum(-1)", f"{a} * 0")
        eye = f"2 * m.eye({n}, dtype=m.{c.dtype})"
        return f"({a} @ {a}.mT + {eye})" if definite else f"({a} + {eye})"

    return make
