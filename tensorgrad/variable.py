"""An array with a history: what the chain rule needs of a tensor.

``core`` records operations on Variables; class Tensor, further up, is a Variable with PyTorch's
methods. What lies above and is needed below, that class and the ops, is handed down once, at
import, by :func:`bind`.
"""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ref

from .backend import DTYPE
from .mode import state as mode
from .source import here

if TYPE_CHECKING:
    from .hooks import Hooks
    from .node import Node

Array = Any  # an array of the backend

# One clock orders the recorded operations and the in-place writes: a node's inputs were made before
# it, so walking back in time is a topological order; and an array written after the node that saved
# it has been spoilt. Neither needs any other bookkeeping.
tick = itertools.count(1).__next__


class Storage:
    """What all views of one array share: when it was last written in place, and by what.

    Class attributes are the state of a storage never written, so that making one costs nothing.
    """

    written: int = 0  # clock time of the last in-place write
    writer: str = ""
    place: Any = None  # of that write in the user's program
    version: int = 0  # the number of in-place writes so far
    inference = False


class InferenceStorage(Storage):
    """The storage of tensors made in inference mode, which no operation may save."""

    inference = True


def new_storage() -> Storage:
    """The storage of a new array, which knows whether it is made in inference mode."""
    return InferenceStorage() if mode.inference else Storage()


class Variable:
    """The part of a Tensor that the chain rule needs: an array, its history and its gradient."""

    array: Array
    storage: Storage
    family: set[ref] | None = None  # of all views of one tensor and itself; None without views
    node: Node | None = None  # the operation that made it; None for a leaf
    needs_grad: bool = False
    _grad: Any = None
    hooks: Hooks | None = None  # of a leaf; those of a result belong to its node
    name: str | None = None  # for pictures and messages

    __hash__ = object.__hash__

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """As PyTorch shows it; the engine reads ``array.dtype``, which is NumPy's."""
        return DTYPE[self.array.dtype]

    def wrote(self, writer: str, place: Any = None) -> None:
        """Record that the array was just overwritten, for backward passes that needed it."""
        storage = self.storage
        storage.version += 1
        storage.written, storage.writer, storage.place = tick(), writer, place or here()

    def adopt(self, view: Variable) -> None:
        """Note that ``view`` is another name for some of this memory, as long as it lives."""
        if self.family is None:
            self.family = set()
            self.family.add(ref(self, self.family.discard))
        view.family = self.family
        view.family.add(ref(view, view.family.discard))


class Bound:
    """What lies above this file and is handed down to it once, at import."""

    tensor_type: type[Variable] = Variable
    ops: ModuleType


def bind(tensor_type: type[Variable], ops: ModuleType) -> None:
    """Tell the engine which class to wrap results in and where the ops over it are."""
    Bound.tensor_type, Bound.ops = tensor_type, ops


def wrap(array: Array, node: Node | None = None, storage: Storage | None = None) -> Any:
    """A tensor around ``array``; it needs a gradient if ``node`` made it."""
    cls = Bound.tensor_type
    tensor = cls.__new__(cls)
    tensor.array = array
    tensor.storage = storage or new_storage()
    if node is not None:
        tensor.node = node
        tensor.needs_grad = True
    return tensor
