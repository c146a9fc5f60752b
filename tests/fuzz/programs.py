"""Random programs: statements over a small pool of tensors, with views, writes and modes.

A program is drawn while PyTorch runs it, so that later arguments fit to earlier results.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

from .arguments import Call
from .compare import namespace
from .specs import common_forms, spec_of, write

VIEWS = [
    "view", "reshape", "transpose", "permute", "unsqueeze", "squeeze", "expand", "narrow",
    "select", "diagonal", "flatten", "unbind", "split", "chunk", "getitem", "T", "mT",
    "movedim", "unfold", "detach", "view_as", "tensor_split",
]  # fmt: skip
WRITES = [
    "add", "sub", "mul", "div", "pow", "neg", "exp", "sin", "tanh", "sigmoid", "relu", "square",
    "sqrt", "abs", "clamp", "floor", "zero_", "copy_", "fill_", "masked_fill", "setitem",
    "augmented:+", "augmented:*", "augmented:/", "augmented:-", "index_add", "scatter_add",
    "index_fill", "masked_scatter", "index_copy", "lerp", "addcmul",
]  # fmt: skip
READS = [
    "add", "mul", "div", "sub", "exp", "tanh", "sin", "square", "sqrt", "sum", "mean", "amax",
    "max", "softmax", "logsumexp", "cumsum", "prod", "var", "matmul", "where", "maximum",
    "clone", "gather", "index_select", "cat", "stack", "norm", "tril", "repeat", "sort",
]  # fmt: skip


def _is_parameter(tensor) -> bool:
    with suppress(RuntimeError):  # PyTorch refuses to look at a view that a write has spoilt
        return tensor.requires_grad and tensor.is_leaf
    return False


class Program(Call):
    """A call whose tensors are, most of the time, those of the pool."""

    def __init__(self, draw) -> None:
        super().__init__(draw)
        import torch

        self.known, self.names = namespace(torch), {}
        self.writing = False

    def pool(self):
        """The tensors that there are, by name; parts of tuples as ``name[k]``."""
        found = {}
        for name, value in self.names.items():
            if hasattr(value, "requires_grad"):
                found[name] = value
            elif isinstance(value, (tuple, list)):
                found.update((f"{name}[{k}]", v) for k, v in enumerate(value)
                             if hasattr(v, "requires_grad"))  # fmt: skip
        return found

    def first(self, dtypes, values, least, most, shape=None) -> str:
        pool = self.pool()
        if shape is not None or not pool:
            return super().first(dtypes, values, least, most, shape)
        if self.writing and not self.rarely(10):  # a leaf that requires grad cannot be written
            pool = {n: v for n, v in pool.items() if not _is_parameter(v)} or pool
        name = self.choice(*reversed(pool))
        self.shape = tuple(pool[name].shape)
        self.dtype = str(pool[name].dtype).removeprefix("torch.")
        return name

    def tensor(self, shape, dtype, values="small", grad=None) -> str:
        fits = [n for n, v in self.pool().items()
                if tuple(v.shape) == tuple(shape) and str(v.dtype) == f"torch.{dtype}"]  # fmt: skip
        if fits and not self.rarely(4):
            return self.choice(*fits)
        return super().tensor(shape, dtype, values, grad)

    def named(self, made: str) -> str:
        name = f"x{len(self.statements)}"
        self.run(f"{name} = {made}")
        return name

    def run(self, statement: str) -> None:
        """Add a statement, and do it."""
        self.statements.append(statement)
        with warnings.catch_warnings(), suppress(Exception):  # the comparison will see it again
            warnings.simplefilter("ignore")
            exec(statement, self.known, self.names)


def drawn_program(draw) -> str:
    """Two or three tensors, then two to eight statements."""
    c = Program(draw)
    dtypes = ("float64",) if not c.rarely(4) else ("float64", "float32", "int64", "uint8", "bool")
    shape = c.choice((2, 3), (3,), (2, 2), (4,), (3, 2, 2), ())
    for _ in range(c.number(2, 3)):
        Call.tensor(c, shape, c.choice(*dtypes), c.choice("normal", "small", "positive"))
    c.run(f"z = x0.{c.choice('clone', 'sin', 'neg')}()")
    for k in range(c.number(2, 8)):
        kind = c.choice("view", "view", "write", "write", "write", "read")
        c.writing = kind == "write"
        names = {"view": VIEWS, "write": WRITES, "read": READS}[kind]
        ways = ["in place"] if kind == "write" else ["function", "method"]
        name = c.choice(*(n for n in names if common_forms(n)[0]))
        last = write(c, name, spec_of(name), [*ways, "written"])
        last = f"y{k}{last[3:]}" if last.startswith("out = ") else last
        if c.writing and c.rarely(
            8
        ):  # PyTorch's views made under no_grad are neither fish nor fowl
            last = f"with m.no_grad(): {last}"
        c.run(last)
    return "; ".join(c.statements)
