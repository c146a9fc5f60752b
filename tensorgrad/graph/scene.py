"""What a picture shows: boxes, and arrows between them, of the operations that a layout groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from .folding import Key, Layout
from .run import Run, Step, Value


class Arrow:
    """One or several uses of values, drawn as one arrow."""

    def __init__(self, start: Key, end: Key, value: Value, place: int | None) -> None:
        self.start, self.end, self.value = start, end, value
        self.place = place  # the argument, of an operation
        self.values: dict[Value, None] = {}  # all that flow along it
        self.parts: dict[Value, list[float]] = {}  # norms of what each use sent back

    @property
    def norms(self) -> list[float]:
        """Norms of the gradients that came back: one for each value.

        The gradient of a value is the sum of what its uses send; of some of its uses only the
        parts are known.
        """
        found = []
        for value, parts in self.parts.items():
            whole = len(parts) == value.parts and value.gradient is not None
            found += [value.gradient] if whole and value.gradient is not None else parts
        return found


class Scene:
    """The boxes of a picture and its arrows, both in the order of the operations.

    ``boxes`` are operations, shut modules, and leaves: values that no operation in the picture
    made. ``shared`` has for each leaf the one whose box it stands in, for a weight and a bias that
    nothing else uses are one box, or else they would fill the page.
    """

    def __init__(self, run: Run, layout: Layout) -> None:
        self.run, self.layout = run, layout
        self.inside = dict.fromkeys(layout.steps(layout.top))
        self.arrows: dict[tuple, Arrow] = {}
        self.users: dict[Value, dict[Key, None]] = {}  # the boxes that use a leaf
        for step in self.inside:
            for i, value in enumerate(step.inputs):
                if isinstance(value, Value):
                    self._use(step, i, value)
        self.outputs = self._outputs()
        self.hidden = {v for v in self.users if self._is_hidden(v)}
        uses = Counter(arrow.start for arrow in self.arrows.values())
        self.only = {arrow.start: arrow for arrow in self.arrows.values()}  # of leaves used once
        self.shared: dict[Value, Value] = {}
        self.groups: dict[Value, list[Value]] = {}  # the same the other way round
        self.boxes: dict[Key, None] = {}
        for step in self.inside:
            shown = layout.shown(step)
            self.boxes[layout.home[shown]] = None
            if shown is step:
                self._place_leaves(step, uses)
        for value in self.outputs:
            if value.maker is None and value not in self.shared:
                self.shared[value] = value
                self.groups[value] = [value]
                self.boxes[value] = None

    def start(self, value: Value) -> Key:
        """The box that a value comes from."""
        if value.maker in self.inside:
            return self.layout.home[self.layout.shown(value.maker)]
        return self.layout.value(value)

    def _use(self, step: Step, i: int, value: Value) -> None:
        made_here = value.maker in self.inside
        if made_here and value.maker and self.layout.links_copies(value.maker, step):
            return
        start, end = self.start(value), self.layout.home[self.layout.shown(step)]
        if start is end:
            return
        if not made_here:
            self.users.setdefault(start, {})[end] = None
        shown = self.layout.value(value)
        place = i if isinstance(end, Step) else None
        arrow = self.arrows.get((start, end, shown, place))
        if arrow is None:
            arrow = self.arrows[start, end, shown, place] = Arrow(start, end, shown, place)
        arrow.values[value] = None
        if i in step.gradients:
            arrow.parts.setdefault(value, []).append(step.gradients[i])

    def _outputs(self) -> list[Value]:
        """The results that leave the picture."""
        if self.layout.top is self.run.top or self.layout.top is self.run.root:
            return self.run.outputs
        taken = {v for s in self.run.steps if s not in self.inside for v in s.inputs}
        taken.update(self.run.outputs)
        return [step.output for step in self.inside if step.output in taken]

    def _is_hidden(self, leaf: Value) -> bool:
        """What only one shut module uses is part of it."""
        users = self.users[leaf]
        own = leaf.kind in ("parameter", "buffer", "constant", "leaf")
        return own and len(users) == 1 and not isinstance(next(iter(users)), Step)

    def _place_leaves(self, step: Step, uses: Counter) -> None:
        found = dict(enumerate(self._leaves(step)))
        weights = [
            v for v, name in zip(found.values(), step.op.arguments)
            if v and name in ("weight", "bias") and v.kind in ("parameter", "leaf")
            and uses[v] == 1 and v not in self.outputs
        ]  # fmt: skip
        for value in found.values():
            if value and value not in self.hidden and value not in self.shared:
                first = weights[0] if value in weights else value
                self.shared[value] = first
                self.groups.setdefault(first, []).append(value)
                self.boxes[first] = None

    def _leaves(self, step: Step) -> Iterator[Value | None]:
        """For each argument the leaf that is drawn for it, if it is one."""
        for value in step.inputs:
            leaf = isinstance(value, Value) and value.maker not in self.inside
            yield self.layout.value(value) if leaf else None

    def visible(self) -> Iterator[tuple[Arrow, list[float]]]:
        """The arrows with the norms of gradients along them, one for leaves that share a box."""
        for arrow in self.arrows.values():
            start = arrow.start
            if not isinstance(start, Value):
                yield arrow, arrow.norms
            elif start not in self.hidden and self.shared[start] is start:
                parts = [arrow.norms]
                for other in self.groups[start][1:]:
                    parts.append(self.only[other].norms)
                yield arrow, [math.hypot(*norms) for norms in zip(*filter(None, parts))]
