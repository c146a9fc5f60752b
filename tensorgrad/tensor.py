"""class Tensor: an array with a history, under PyTorch's names.

The mathematics is in ``ops``, the torch-named functions over it in ``functions``; here they become
methods and operators, beside what belongs to a tensor as such: in-place writes, views, dtypes, and
the way to and from NumPy. What it knows of gradients is in ``differentiable``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import creation, functions, linalg, ops, sampling
from .backend import CATEGORY, default_float, overlap, xp
from .devices import CPU, device, strided
from .differentiable import Differentiable
from .errors import explained, inference_written
from .functions.subscripts import steps_of
from .mode import is_grad_enabled, is_inference_mode_enabled
from .mode import state as mode
from .node import Node
from .printing import described
from .variable import Variable, bind, new_storage, tick, wrap

Size = tuple


class Tensor(Differentiable):
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
        if isinstance(data, Variable):
            self.array, self.storage = data.array, data.storage
        else:
            self.array, self.storage = _constant(data, default_float()).array, new_storage()
        if requires_grad:
            self.requires_grad = True

    # --- writing in place -------------------------------------------------------------------------

    def _become(self, result: Any, writer: str, since: Any = None) -> Tensor:
        """Overwrite this tensor with ``result``, values and history.

        What the operations that gave ``result``, those ``since`` a time of the clock, have saved of
        this tensor is copied first.
        """
        if result.shape != self.array.shape:
            raise RuntimeError(
                f"{writer}: the result of shape {tuple(result.shape)} does not fit in place into "
                f"a tensor of shape {tuple(self.shape)}"
            )
        if CATEGORY[result.dtype.kind] > CATEGORY[self.array.dtype.kind]:
            raise RuntimeError(f"{writer}: a result of {result.dtype} cannot be stored in place in "
                               f"a tensor of {self.dtype}")  # fmt: skip
        nodes = [result.node] if result.node is not None else []
        for node in nodes:
            node.keep_copies(self.array, self.storage)
            if since is not None:
                nodes += [p for p in node.parents if isinstance(p, Node) and p.seq > since]
        result = ops.astype(result, self.dtype) if result.dtype != self.dtype else result
        histories = self._histories(result, writer) if is_grad_enabled() else ()
        self._write(Ellipsis, result.array, writer)
        for tensor, now in histories:
            tensor.relink(now)
        if mode.watcher is not None:
            mode.watcher.written(self, result, Ellipsis)
        return self

    def _become_view(self, view: Any, writer: str) -> Tensor:
        """Take the shape and the history of a view of all of this tensor; nothing is written."""
        if self.needs_grad and (self.node is None or not is_grad_enabled()):
            raise RuntimeError(
                f"{writer}: gradients need the shape of a leaf that requires grad, and a history "
                f"the record of how a shape changed; use {writer[:-1]}()"
            )
        self.array = view.array
        self.relink(view)
        return self

    def _histories(self, result: Tensor, writer: str) -> list[tuple[Tensor, Tensor]]:
        """Every tensor that shows memory of this one, with what it is when ``result`` is here.

        Empty if no gradient flows through any of them.
        """
        others = [t for t in self._relatives() if t is not self]
        if not (result.needs_grad or any(t.needs_grad for t in (self, *others))):
            return []
        shared = [(t, found) for t in others if (found := overlap(t.array, self.array))]
        overwritten = (t for t, _ in shared) if self.array.size else others  # an empty view, too
        for t in (self, *overwritten):
            if t.needs_grad and t.node is None:
                raise RuntimeError(
                    f"{writer}: a leaf tensor that requires grad, or a view of one, cannot be "
                    "overwritten while operations are recorded; write under no_grad()"
                )
        flat = ops.reshape(result, (-1,))
        now = [(t, ops.update_index(t, flat[positions], mask)) for t, (mask, positions) in shared]
        # A result without history replaces one: its gradient is 0, which the history has to say.
        own = result if result.needs_grad else ops.update_index(self, result, Ellipsis)
        return [(self, own), *now]

    def _relatives(self) -> list[Tensor]:
        """The tensors alive that are views of the same tensor as this one, or that tensor."""
        return [t for reference in list(self.family or ()) if (t := reference()) is not None]

    def _write(self, index: Any, values: Any, writer: str) -> None:
        if not self.array.flags.writeable:
            raise RuntimeError(
                f"{writer}: this memory cannot be written, as that of an expanded tensor, whose "
                "elements are one in several places; clone() it first"
            )
        if self.storage.inference and not is_inference_mode_enabled():
            raise inference_written(writer)
        try:
            xp.write_at(self.array, index, values)
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise explained(writer, [self.array, values], False, error) from None
        self.wrote(writer)

    def copy_(self, src: Any) -> Tensor:
        """Overwrite with ``src``, a tensor or a number, broadcast and cast; differentiable."""
        src = src if isinstance(src, Tensor) else _constant(src, self.dtype)
        return self._become(
            ops.astype(functions.broadcast_to(src, self.shape), self.dtype), "copy_"
        )

    def fill_(self, value: Any) -> Tensor:
        """Overwrite with one value, a number or a 0-dim tensor."""
        if isinstance(value, Tensor):
            if value.ndim:
                raise RuntimeError(f"fill_: a value is 0-dim, this one has shape {value.shape}; "
                                   "copy_() takes any")  # fmt: skip
            return self.copy_(value)
        return self._become(wrap(xp.full(self.shape, value).astype(self.dtype)), "fill_")

    def zero_(self) -> Tensor:
        return self.fill_(0)

    # --- indexing ---------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        first, then = steps_of(index, self.array.shape)
        picked = ops.getitem(self, first)
        return picked if then is None else ops.getitem(picked, then)

    def __setitem__(self, index: Any, value: Any) -> None:
        raw, then = steps_of(index, self.array.shape)
        if then is not None:
            ops.getitem(self, raw)[then] = value  # through a view
            return None
        writer = "an assignment to an index"
        watched = self.needs_grad or (self.family and any(t.needs_grad for t in self._relatives()))
        if type(value) in (float, int, bool) and not watched:
            self._write(raw, value, writer)
            if mode.watcher is not None:
                mode.watcher.written(self, value, raw)
            return None
        if not isinstance(value, Variable):
            value = _constant(value, self.dtype)
        ones = next((i for i, n in enumerate(value.shape) if n != 1), len(value.shape))
        if ones:  # leading sizes of 1 mean nothing, and NumPy does not always take them
            value = ops.reshape(value, value.shape[ones:])
        if (watched or value.needs_grad) and is_grad_enabled() and self.is_floating_point():
            self._become(ops.update_index(self, value, raw), writer)
        else:
            self._write(raw, value.array, writer)
            if mode.watcher is not None:
                mode.watcher.written(self, value, raw)

    def where(self, condition: Any, other: Any) -> Tensor:
        """This tensor where ``condition`` is True, ``other`` elsewhere; the shapes broadcast."""
        return functions.where(condition, self, other)

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

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def itemsize(self) -> int:
        return self.array.itemsize

    def element_size(self) -> int:
        return self.array.itemsize

    is_cuda = is_mps = is_sparse = is_quantized = False
    is_cpu = True
    layout = strided

    @property
    def device(self) -> device:
        """The CPU."""
        return CPU

    def get_device(self) -> int:
        """The number of the accelerator; -1, for there is none."""
        return -1

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    @property
    def T(self) -> Tensor:
        """The dims in reverse order."""
        return ops.permute_dims(self, tuple(range(self.array.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two dims swapped."""
        return functions.adjoint(self)

    @property
    def H(self) -> Tensor:
        """A matrix transposed."""
        if self.array.ndim not in (0, 2):
            raise RuntimeError(f"H: needs two dims, this tensor has {self.array.ndim}; mH: stacks")
        return functions.adjoint(self)

    mH = mT  # of real numbers

    # --- out of the graph -------------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"item() needs a single element, this tensor has {self.array.size}")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """The array itself: the memory is shared. ``force`` detaches first."""
        if self.needs_grad and not force:
            raise RuntimeError("numpy() of a tensor that requires grad; use .detach().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return xp.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """NumPy's functions of a tensor, as ``np.exp(t)``, give tensors without history."""
        return creation.from_numpy(xp.asarray(array))

    def __dlpack__(self, **options: Any) -> Any:
        """The array for any library that speaks DLPack: the memory is shared."""
        if self.needs_grad:
            raise BufferError("a tensor that requires grad cannot be exported; use .detach()")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple:
        return self.array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"the truth of a tensor of {self.array.size} elements is ambiguous; "
                "use .any() or .all()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def _number(self) -> Any:
        if self.array.size != 1:
            raise ValueError(f"a tensor of shape {tuple(self.shape)} is no number")
        return self.array.item()

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be an index")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if self.array.ndim else format(self.item(), spec)

    def __repr__(self) -> str:
        if self.node is not None:
            return described(self.array, [f"grad_fn=<{self.node.op.name}>"])
        return described(self.array, ["requires_grad=True"] if self.needs_grad else [])

    def __reduce__(self) -> tuple:
        """For pickle: the values of a leaf, without its gradient."""
        return _leaf, (type(self), self._own_values("pickled"), self.needs_grad, self.name)

    def __copy__(self) -> Tensor:
        made = _leaf(type(self), self._own_values("copied"), self.needs_grad, self.name)
        made.storage = self.storage
        return made

    def __deepcopy__(self, memo: dict) -> Tensor:
        array = xp.array(self._own_values("deep-copied"))
        memo[id(self)] = made = _leaf(type(self), array, self.needs_grad, self.name)
        if self._grad is not None:
            made._grad = self._grad.detach().clone()
        return made

    def _own_values(self, done: str) -> Any:
        if self.node is not None:
            raise RuntimeError(f"only leaf tensors can be {done}; use clone() or detach()")
        return self.array

    # --- operators --------------------------------------------------------------------------------

    __add__ = __radd__ = ops.add
    __sub__ = ops.subtract
    __mul__ = __rmul__ = ops.multiply
    __truediv__ = ops.divide
    __floordiv__ = functions.floor_divide
    __mod__ = ops.remainder
    __lshift__, __rshift__ = functions.bitwise_left_shift, functions.bitwise_right_shift
    __pow__ = ops.power
    __matmul__ = ops.matmul
    __neg__ = ops.negative
    __pos__ = functions.positive
    __abs__ = ops.abs
    __and__ = __rand__ = ops.bitwise_and
    __or__ = __ror__ = ops.bitwise_or
    __xor__ = __rxor__ = ops.bitwise_xor
    __lt__, __le__, __gt__, __ge__ = ops.less, ops.less_equal, ops.greater, ops.greater_equal

    def __eq__(self, other: Any) -> Any:
        return ops.equal(self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return ops.not_equal(self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    def __invert__(self) -> Tensor:
        if self.array.dtype.kind == "f":
            raise TypeError(f"~ is for integers and bools, not for {self.dtype}")
        return ops.bitwise_invert(self)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return functions.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __rlshift__(self, other: Any) -> Tensor:
        return functions.bitwise_left_shift(other, self)

    def __rrshift__(self, other: Any) -> Tensor:
        return functions.bitwise_right_shift(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    # --- the functions as methods -----------------------------------------------------------------

    if TYPE_CHECKING:  # they are put in below

        def __getattr__(self, name: str) -> Any: ...


def _in_place(function: Callable, name: str) -> Any:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        since = tick()
        result = function(self, *args, **kwargs)
        if result.storage is self.storage:
            return self._become_view(result, name)
        return self._become(result, name, since)

    method.__name__, method.__doc__ = name, f"``{name[:-1]}``, written into this tensor."
    return method


_COMPARABLE = (Variable, int, float, xp.ndarray, xp.generic)


def _leaf(cls: type[Tensor], array: Any, needs_grad: bool, name: str | None) -> Tensor:
    """A leaf of the given class around ``array``; its ``__init__`` is not called."""
    made = cls.__new__(cls)
    made.array, made.storage = array, new_storage()
    made.needs_grad, made.name = needs_grad, name
    return made


def _constant(value: Any, dtype: Any) -> Tensor:
    """What is not a tensor, as one without history: numbers, arrays, nested lists."""
    array = xp.asarray(value)
    if array.dtype.kind not in CATEGORY:
        raise TypeError(f"a tensor of {dtype} cannot hold a {type(value).__name__}")
    return wrap(array.astype(dtype))


_METHODS = functions.METHODS | linalg.METHODS | creation.METHODS | sampling.METHODS
for _name, _function in _METHODS.items():
    setattr(Tensor, _name, _function)
for _name, _function in functions.IN_PLACE.items():
    setattr(Tensor, _name, _in_place(_function, _name))
for _name, _operator in {
    "add_": "iadd", "sub_": "isub", "mul_": "imul", "div_": "itruediv", "pow_": "ipow",
    "floor_divide_": "ifloordiv", "remainder_": "imod", "bitwise_and_": "iand",
    "bitwise_or_": "ior", "bitwise_xor_": "ixor", "bitwise_left_shift_": "ilshift",
    "bitwise_right_shift_": "irshift",
}.items():  # fmt: skip
    setattr(Tensor, f"__{_operator}__", getattr(Tensor, _name))

bind(Tensor, ops)
__all__ = ["Size", "Tensor"]
