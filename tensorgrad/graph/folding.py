"""Which box of a picture each operation belongs to: modules shut at a depth, equal ones folded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .run import Call, Step, Value
from .style import operation_text

Key = Any  # of a box: a Step, a Call that is shut, or a Value that no operation made


class Layout:
    """The boxes and clusters of a picture of ``top``, of its operations that are ``drawn``.

    Modules ``depth`` levels below it are shut: one box for all that is in them. A module that is
    one operation is that operation's box. Of equal modules that follow one another, with ``fold``,
    the first stands for all: ``copies`` has them by the first.
    """

    def __init__(self, top: Call, drawn: set[Step], depth: int | None, fold: bool) -> None:
        self.top, self.drawn = top, drawn
        self.home: dict[Step, Step | Call] = {}
        self.around: dict[Key, Call] = {}  # the cluster that a box, or another cluster, stands in
        self.layer: dict[Step, Call] = {}  # of an operation that is all of a module
        self.copies: dict[Call, list[Call]] = {}
        self.alias: dict[Step, Step] = {}
        self.leaf_alias: dict[Value, Value] = {}
        self.member: dict[Step, list[tuple[Call, int]]] = {}  # of which folds, and its number there
        stack = [top]
        while stack:
            call = stack.pop()
            for item, same in self._folded(call.items, fold):
                if isinstance(item, Step):
                    self.home[item], self.around[item] = item, call
                    continue
                if same[1:]:
                    self._fold(item, same)
                steps = self.steps(item)
                shut = depth is not None and item.depth - top.depth >= depth
                if shut or len(steps) == 1:
                    key: Key = item if shut else steps[0]
                    self.home.update((step, key) for step in steps)
                    self.around[key] = call
                    if not shut:
                        self.layer[steps[0]] = item
                else:
                    self.around[item] = call
                    stack.append(item)

    def steps(self, call: Call) -> list[Step]:
        """The operations in a call that are drawn."""
        return [step for step in call.steps() if step in self.drawn]

    def _folded(self, items: list, fold: bool) -> Iterator[tuple[Any, list]]:
        """The items, each with those that it stands for; what is not drawn left out."""
        kept = [i for i in items if (i in self.drawn if isinstance(i, Step) else self.steps(i))]
        position = 0
        while position < len(kept):
            item = kept[position]
            same = [item]
            if fold and isinstance(item, Call):
                last, links = _Structure(item, self.steps(item)), None
                for other in kept[position + 1 :]:
                    if not isinstance(other, Call) or other.kind != item.kind:
                        break
                    structure = _Structure(other, self.steps(other))
                    found = structure.links_to(last)
                    if found is None or (links is not None and found != links):
                        break
                    same.append(other)
                    last, links = structure, found
            yield item, same
            position += len(same)

    def _fold(self, first: Call, same: list[Call]) -> None:
        self.copies[first] = same
        own = self.steps(first)
        for number, copy in enumerate(same):
            for step, like in zip(self.steps(copy), own, strict=True):
                self.member.setdefault(step, []).append((first, number))
                if step is like:
                    continue
                self.alias[step] = like
                for value, shown in zip(step.inputs, like.inputs):
                    leaf = isinstance(value, Value) and value.maker is None
                    if leaf and value is not shown and isinstance(shown, Value):
                        self.leaf_alias[value] = shown

    def shown(self, step: Step) -> Step:
        """The operation that is drawn for this one."""
        while step in self.alias:
            step = self.alias[step]
        return step

    def value(self, value: Value) -> Value:
        """The value that is drawn for this one."""
        while value in self.leaf_alias:
            value = self.leaf_alias[value]
        return self.shown(value.maker).output if value.maker else value

    def links_copies(self, maker: Step, user: Step) -> bool:
        """Whether a value goes from one of several folded modules to another."""
        if not self.member:
            return False
        ours = self._numbers(user)
        return any(ours.get(first, n) != n for first, n in self._numbers(maker).items())

    def _numbers(self, step: Step) -> dict[Call, int]:
        found: dict[Call, int] = {}
        while True:
            for first, number in self.member.get(step, ()):
                found.setdefault(first, number)
            if step not in self.alias:
                return found
            step = self.alias[step]

    def path_up(self, key: Key) -> list[Call]:
        """The clusters around a box, the innermost first."""
        found = [self.around.get(key, self.top)]
        while found[-1] is not self.top:
            found.append(self.around[found[-1]])
        return found

    def common(self, keys: list[Key]) -> Call:
        """The innermost cluster around all of these boxes."""
        paths = [self.path_up(key) for key in keys]
        return next(c for c in paths[0] if all(c in path for path in paths))


# --- which modules are equal ----------------------------------------------------------------------


class _Structure:
    """What a call did, without its values: equal for equal modules."""

    def __init__(self, call: Call, steps: list[Step]) -> None:
        self.numbers: dict[Step, int] = {}
        outside: dict[Value, int] = {}
        self.rows = []
        for step in steps:
            uses: list[Any] = []
            for value in step.inputs:
                if not isinstance(value, Value):
                    uses.append(repr(value))
                elif value.maker in self.numbers:
                    uses.append(self.numbers[value.maker])
                else:
                    number = outside.setdefault(value, len(outside))
                    uses.append((number, value.kind == "parameter", value.shape))
            inside = step.call.path.removeprefix(call.path)
            words = operation_text(step.op, step.params, ())
            shape, dtype = step.output.shape, str(step.output.dtype)
            self.rows.append((words, inside, step.call.kind, shape, dtype, tuple(uses)))
            self.numbers[step] = len(self.numbers)
        self.outside = list(outside)

    def links_to(self, before: _Structure) -> list | None:
        """How values from outside come here, compared with the module before; None if not alike.

        A value comes from that module, or both are given the same, or each has its own leaf.
        """
        if self.rows != before.rows:
            return None
        links: list[Any] = []
        for value, other in zip(self.outside, before.outside, strict=True):
            if value is other:
                links.append("same")
            elif value.maker in before.numbers:
                links.append(before.numbers[value.maker])
            elif value.maker is None and other.maker is None and value.kind == other.kind:
                links.append("own")
            else:
                return None
        return links
