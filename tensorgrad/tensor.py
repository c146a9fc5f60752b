"""class Tensor: an array with a history, under PyTorch's names.

The mathematics is in ``ops``, the torch-named functions over it in ``functions``; here they become
methods and operators, beside what belongs to a tensor as such: autograd, in-place writes, views,
dtypes, and the way to and from NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import core, functions, ops
from .backend import xp
from .core import Variable, wrap
from .mode import is_grad_enabled
from .random import draw_normal, draw_uniform

Size = tuple


class Tensor(Variable):
    """An n-dimensional array that can be differentiated; ``tensorgrad.tensor(...)`` makes one.

    >>> import tensorgrad
    >>> x = tensorgrad.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __hash__ = object.__hash__
    # NumPy must leave `array + tensor` to Tensor.__radd__ instead of looping over the elements.
    __array_priority__ = 1000

    def __init__(self, data: Any = (), requires_grad: bool = False) -> None:
        source = data.array if isinstance(data, Variable) else xp.asarray(data)
        self.array = source
        self.storage = data.storage if isinstance(data, Variable) else core.Storage()
        if requires_grad:
            self.requires_grad = True

    # --- autograd ---------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor: a leaf's choice, inherited by its results."""
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not value:
            raise RuntimeError(
                "requires_grad can be switched off only on leaf tensors; use detach() instead"
            )
        if value and self.array.dtype.kind != "f":
            raise RuntimeError(
                f"only tensors of a float dtype can require gradients, not {self.array.dtype}"
            )
        self.needs_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    @property
    def grad_fn(self) -> core.Node | None:
        """The recorded operation that made this tensor."""
        return self.node

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the derivative of this tensor to the ``.grad`` of every leaf it depends on.

        ``gradient`` (the shape of this tensor) is implied to be 1 for a single element. The saved
        values are freed unless ``retain_graph``; ``create_graph`` makes the gradients
        differentiable themselves and implies ``retain_graph``.
        """
        keep = create_graph if retain_graph is None else retain_graph
        g = core.grad_of(self, gradient)
        core.backward([self], [g], retain_graph=keep, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same memory without the history."""
        return wrap(self.array, None, self.storage)

    @property
    def data(self) -> Tensor:
        """The same memory without the history; assigning replaces the array."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self.array, self.storage = value.array, value.storage

    @property
    def _version(self) -> int:
        return self.storage.version

    # --- writing in place -------------------------------------------------------------------------

    def _become(self, result: Any, writer: str) -> Tensor:
        """Overwrite this tensor with ``result``, values and history."""
        if tuple(result.shape) != tuple(self.shape):
            raise RuntimeError(
                f"{writer}: the result of shape {tuple(result.shape)} does not fit in place into "
                f"a tensor of shape {tuple(self.shape)}"
            )
        if not xp.can_cast(result.dtype, self.dtype, "same_kind"):
            raise RuntimeError(f"{writer}: a result of {result.dtype} cannot be stored in place in "
                               f"a tensor of {self.dtype}")  # fmt: skip
        self._writable(writer, result.needs_grad)
        xp.copyto(self.array, result.array, casting="same_kind")
        self.wrote(writer)
        if result.needs_grad:
            self.node, self.needs_grad = result.node, True
        return self

    def _writable(self, writer: str, tracked: bool) -> None:
        """Refuse writes whose derivative would be wrong."""
        if not is_grad_enabled():
            return
        if self.needs_grad and self.node is None:
            raise RuntimeError(
                f"{writer}: a leaf tensor that requires grad cannot be overwritten while "
                "operations are recorded; write under no_grad()"
            )
        if self.storage.shared and (tracked or self.needs_grad):
            raise RuntimeError(
                f"{writer}: this tensor shares its memory with a view, whose history would become "
                "wrong; use the operation that makes a new tensor, or clone() first"
            )

    def copy_(self, src: Tensor) -> Tensor:
        """Overwrite with ``src``, broadcast and cast; differentiable."""
        return self._become(ops.astype(ops.broadcast_to(src, self.shape), self.dtype), "copy_")

    def fill_(self, value: float) -> Tensor:
        return self._become(wrap(xp.full(self.shape, value, self.dtype)), "fill_")

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        """Overwrite with draws from a normal distribution."""
        drawn = wrap(draw_normal(self.shape, self.dtype, generator))
        return self._become(drawn * std + mean, "normal_")

    def uniform_(self, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Tensor:
        """Overwrite with draws from the uniform distribution on [low, high)."""
        drawn = wrap(draw_uniform(self.shape, self.dtype, generator))
        return self._become(drawn * (high - low) + low, "uniform_")

    # --- indexing ---------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, _raw_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        raw = _raw_index(index)
        tracked = isinstance(value, Variable) and value.needs_grad
        if is_grad_enabled() and (tracked or self.needs_grad):
            if not isinstance(value, Variable):
                value = wrap(xp.asarray(value, dtype=self.dtype))
            self._become(ops.update_index(self, value, raw), "an assignment to an index")
        else:
            self.array[raw] = value.array if isinstance(value, Variable) else value
            self.wrote("an assignment to an index")

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-dimensional tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise TypeError("iteration over a 0-dimensional tensor")
        return iter(functions.unbind(self))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    # --- facts ------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def dim(self) -> int:
        return self.array.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return self.array.size

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def element_size(self) -> int:
        return self.array.itemsize

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        return self.array.dtype.kind == "f"

    @property
    def T(self) -> Tensor:
        """The dims in reverse order."""
        return ops.permute_dims(self, tuple(range(self.array.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two dims swapped."""
        return ops.swapaxes(self, -1, -2)

    def contiguous(self) -> Tensor:
        return self if self.is_contiguous() else ops.clone(self)

    # --- out of the graph -------------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"item() needs a single element, this tensor has {self.array.size}")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def numpy(self) -> Any:
        """The array itself: the memory is shared."""
        if self.needs_grad:
            raise RuntimeError("numpy() of a tensor that requires grad; use .detach().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return xp.array(self.numpy(), dtype=dtype, copy=copy)

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"the truth of a tensor of {self.array.size} elements is ambiguous; "
                "use .any() or .all()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be an index")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec else str(self), spec)

    def __repr__(self) -> str:
        text = xp.array2string(self.array, separator=", ", prefix="tensor(", precision=4,
                               floatmode="maxprec_equal" if self.array.ndim else "maxprec",
                               threshold=1000)  # fmt: skip
        notes = [text]
        if self.array.dtype.name not in ("float32", "int64", "bool"):
            notes.append(f"dtype=tensorgrad.{self.array.dtype}")
        if self.node is not None:
            notes.append(f"grad_fn=<{self.node.op.name}>")
        elif self.needs_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join(notes)})"

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.node is not None:
            raise RuntimeError("only leaf tensors can be deep-copied; use clone() or detach()")
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.array, made.storage = xp.array(self.array, copy=True), core.Storage()
        made.needs_grad, made.name = self.needs_grad, self.name
        if self.grad is not None:
            made.grad = self.grad.detach().clone()
        return made

    # --- dtypes -----------------------------------------------------------------------------------

    def to(self, dtype: Any) -> Tensor:
        """This tensor in another dtype; itself if it has it. ``'cpu'`` changes nothing."""
        if dtype == "cpu" or self.array.dtype == dtype:
            return self
        return ops.astype(self, dtype)

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other.dtype)

    def float(self) -> Tensor:
        return self.to("float32")

    def double(self) -> Tensor:
        return self.to("float64")

    def long(self) -> Tensor:
        return self.to("int64")

    def int(self) -> Tensor:
        return self.to("int32")

    def bool(self) -> Tensor:
        return self.to("bool")

    # --- operators --------------------------------------------------------------------------------

    __add__ = __radd__ = ops.add
    __sub__ = ops.subtract
    __mul__ = __rmul__ = ops.multiply
    __truediv__ = ops.divide
    __pow__ = ops.power
    __matmul__ = ops.matmul
    __neg__ = ops.negative
    __abs__ = ops.abs
    __invert__ = ops.logical_not
    __and__ = ops.logical_and
    __or__ = ops.logical_or
    __eq__ = ops.equal
    __ne__ = ops.not_equal
    __lt__, __le__, __gt__, __ge__ = ops.less, ops.less_equal, ops.greater, ops.greater_equal

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    # --- the functions as methods -----------------------------------------------------------------

    abs, exp, log, sqrt = functions.abs, functions.exp, functions.log, functions.sqrt
    sin, cos, tanh, erf = functions.sin, functions.cos, functions.tanh, functions.erf
    relu, sign, neg, pow = functions.relu, functions.sign, functions.neg, functions.pow
    add, sub, mul, div = functions.add, functions.sub, functions.mul, functions.div
    maximum, minimum = functions.maximum, functions.minimum
    eq, ne, lt, le = functions.eq, functions.ne, functions.lt, functions.le
    gt, ge = functions.gt, functions.ge
    logical_not, logical_and = functions.logical_not, functions.logical_and
    logical_or = functions.logical_or
    isfinite, isnan = functions.isfinite, functions.isnan
    masked_fill, clone, matmul = functions.masked_fill, functions.clone, functions.matmul
    sum, mean, var, std = functions.sum, functions.mean, functions.var, functions.std
    max, min, amax, amin = functions.max, functions.min, functions.amax, functions.amin
    argmax, argmin, any, all = functions.argmax, functions.argmin, functions.any, functions.all
    softmax, log_softmax = functions.softmax, functions.log_softmax
    logsumexp, argsort, sort = functions.logsumexp, functions.argsort, functions.sort
    topk, gather = functions.topk, functions.gather
    reshape, view, flatten = functions.reshape, functions.view, functions.flatten
    transpose, permute, expand = functions.transpose, functions.permute, functions.expand
    broadcast_to, squeeze = functions.broadcast_to, functions.squeeze
    unsqueeze, narrow, split = functions.unsqueeze, functions.narrow, functions.split
    chunk, unbind, tril, triu = functions.chunk, functions.unbind, functions.tril, functions.triu

    # --- the functions in place -------------------------------------------------------------------

    @staticmethod
    def _in_place(function: Callable, name: str) -> Any:
        def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return self._become(function(self, *args, **kwargs), name)

        method.__name__, method.__doc__ = name, f"``{name[:-1]}``, written into this tensor."
        return method

    add_, sub_ = _in_place(functions.add, "add_"), _in_place(functions.sub, "sub_")
    mul_, div_ = _in_place(functions.mul, "mul_"), _in_place(functions.div, "div_")
    pow_, neg_ = _in_place(functions.pow, "pow_"), _in_place(functions.neg, "neg_")
    exp_, sqrt_ = _in_place(functions.exp, "exp_"), _in_place(functions.sqrt, "sqrt_")
    tanh_, relu_ = _in_place(functions.tanh, "tanh_"), _in_place(functions.relu, "relu_")
    masked_fill_ = _in_place(functions.masked_fill, "masked_fill_")
    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_


def _raw_index(index: Any) -> Any:
    """An index with its tensors and lists as raw arrays."""
    if type(index) in (int, slice):
        return index
    if isinstance(index, tuple):
        return tuple(_raw_part(i) for i in index)
    return _raw_part(index)


def _raw_part(part: Any) -> Any:
    if isinstance(part, Variable):
        part = part.array
    elif isinstance(part, (list, range)):
        part = xp.asarray(part, dtype=None if len(part) else "int64")
    dtype = getattr(part, "dtype", None)
    if isinstance(part, float) or (dtype is not None and dtype.kind == "f"):
        raise IndexError(
            "tensors are indexed by integers, slices, ..., None, and integer or bool tensors; "
            "this index is a float: call .long() on it"
        )
    return part


core.bind(Tensor, ops)
__all__ = ["Size", "Tensor"]
