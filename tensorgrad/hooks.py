"""Functions that wait for a gradient, and the handles that take them away again.

A node or a leaf owns its hooks, so that they live as long as it does. ``hooked`` knows weakly which
nodes and leaves have any: while it is empty, a backward pass need not look for them.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from weakref import ref

from .mode import state as mode

hooked: set[ref] = set()

_number = itertools.count().__next__


class Hooks:
    """What waits for the gradient of one node or leaf."""

    def __init__(self, owner: Any) -> None:
        # Called with the gradient, which they may replace; with a leaf whose .grad is complete.
        self.before: OrderedDict[int, Callable] = OrderedDict()
        self.after: OrderedDict[int, Callable] = OrderedDict()
        self.keepers: list[ref] = []  # results that want their gradient in .grad
        hooked.add(ref(owner, hooked.discard))


def hooks_of(owner: Any) -> Hooks:
    """The hooks of a node or leaf, made if it has none yet."""
    hooks = getattr(owner, "hooks", None)
    if hooks is None:
        owner.hooks = hooks = Hooks(owner)
    return hooks


class whole_pass:
    """A backward pass from its start to its end, with those that it starts on the way.

    ``mode.endings`` is the list of the functions that are called when it has ended well; a hook
    may add to it.
    """

    def __enter__(self) -> None:
        self.outermost = mode.endings is None
        if self.outermost:
            mode.endings = []

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if self.outermost:
            endings, mode.endings = mode.endings, None
            if kind is None:
                for ending in endings or ():
                    ending()


class RemovableHandle:
    """Removes a hook from its table: by ``remove()``, or at the end of a ``with`` block.

    The table is in the order of calls: that of registration, unless a hook wants to be ``first``.
    """

    def __init__(self, table: OrderedDict, hook: Callable, first: bool = False) -> None:
        if not callable(hook):
            raise TypeError(f"a hook must be callable, not {type(hook).__name__}")
        self.table = ref(table)
        self.id = _number()
        table[self.id] = hook
        if first:
            table.move_to_end(self.id, last=False)

    def remove(self) -> None:
        table = self.table()
        if table is not None:
            table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()
