"""A run as DOT text: :func:`draw`."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..tensor import Tensor
from .files import blank
from .folding import Key, Layout
from .history import called, checked, history
from .run import Call, Run, Step, Value
from .scene import Arrow, Scene
from .style import (
    BOXES,
    BUFFER_EDGE,
    CLUSTERS,
    HEADING,
    LEAF_EDGE,
    Scale,
    bold,
    count_text,
    faint,
    mean_norm,
    norms_text,
    operation_text,
    paths_text,
    shape_text,
)
from .style import (
    legend as legend_table,
)

if TYPE_CHECKING:
    import graphviz

Names = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
_LEFT = '<br align="left"/>'  # the end of a line that begins on the left
DIRECTIONS = ("forward", "backward", "both")


def draw(
    what: Tensor | Sequence[Tensor] | Run,
    names: Names | None = None,
    *,
    title: str | None = None,
    rankdir: str = "TB",
    depth: int | None = None,
    module: str = "",
    direction: str = "forward",
    fold: bool = True,
    legend: bool | None = None,
    unused: bool = False,
) -> graphviz.Digraph:
    """The operations that tensors were computed by, or those of a run, as a picture.

    Every operation is a box with its name and those of its parameters that are not the default. A
    leaf stands in a box with its name and shape, once, however often it is used; a weight and a
    bias that only one operation uses share a box. The same graph gives the same DOT text, before
    and after ``backward()``.

    Args:
        what: a result, or several, whose recorded history is drawn; or what :func:`record` and
            :func:`trace` have seen, which has modules, values and gradients.
        names: of tensors whose history is drawn, as a mapping or as pairs:
            ``model.named_parameters()``. Without it a tensor's own ``name`` is used, or else "leaf"
            and "output". The name of a value in between is written on its arrows.
        title: a line above the picture.
        rankdir: the direction of the arrows: "TB" is from top to bottom, "LR" from left to right.
        depth: how many levels of modules are opened; None is all, down to single operations.
        module: draw this module only, by its dotted name.
        direction: "forward" shows what computes what; "backward" where gradients flow, along arrows
            whose width and darkness is the norm of the gradient; "both" has both.
        fold: draw equal modules that follow one another once, with their number.
        legend: say what the colours mean; by default for runs only.
        unused: draw operations that lead to no result, too, such as checks of the input.

    Returns:
        A ``graphviz.Digraph``: its ``source`` is the DOT text, :func:`render` makes a file of it.

    >>> import tensorgrad
    >>> x = tensorgrad.ones(4, 3)
    >>> w = tensorgrad.ones(3, 2)
    >>> w.requires_grad = True
    >>> picture = tensorgrad.graph.draw((x @ w).tanh(), names=[("w", w)], title="One layer")
    >>> for line in picture.source.splitlines():
    ...     if "->" in line:
    ...         print(line.strip().partition(" [")[0])
    leaf_1 -> matmul_1
    matmul_1 -> tanh_1
    tanh_1 -> output_1
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"draw: direction is one of {', '.join(DIRECTIONS)}, not {direction!r}")
    if isinstance(what, Run):
        run, legend = what, legend is not False
    else:
        run, values = history(checked(what))
        called(names, values)
    top = run.find(module) if module else run.root if depth == 0 else run.top
    drawn = set(run.steps) if unused else run.useful()
    scene = Scene(run, Layout(top, drawn, depth, fold))
    drawing = _Drawing(scene, direction)
    if direction != "forward" and not drawing.seen:
        raise ValueError(
            "draw: no gradient was seen; trace(model, *inputs, backward=True), or call backward() "
            "inside record()"
        )
    return drawing.picture(title, rankdir, bool(legend))


class _Drawing:
    """A scene on its way into DOT text."""

    def __init__(self, scene: Scene, direction: str) -> None:
        self.scene, self.layout, self.direction = scene, scene.layout, direction
        self.arrows = list(scene.visible())
        self.seen = [norms for _, norms in self.arrows if norms]
        ends = [[v.gradient] for v in scene.outputs if v.gradient is not None]
        self.scale = Scale(map(mean_norm, self.seen + ends))
        self.number = Counter[str]()
        self.name: dict[Key, str] = {}  # of the boxes in the DOT text
        self.kinds: set[str] = set()
        self.places: dict[tuple, str] = {}
        self.backward = direction != "forward"

    def picture(self, title: str | None, rankdir: str, with_legend: bool) -> graphviz.Digraph:
        """The title is above the picture and the legend below it."""
        made = blank(None if with_legend else title, rankdir)
        level = 1
        if with_legend and title:
            made.body.append("\tsubgraph cluster_all {\n")
            made.body.append(f"\t\tlabel=<{bold(title)}> peripheries=0\n")
            level = 2
        self.boxes(made, level)
        if self.direction != "backward":
            for arrow, _ in self.arrows:
                self.forward(made, arrow)
        if self.backward:
            for arrow, norms in self.arrows:
                if norms:
                    self.gradient(made, self.name[arrow.start], self.name[arrow.end], norms)
        for output in self.scene.outputs:
            self.output(made, output)
        if level == 2:
            made.body.append("\t}\n")
        if with_legend:
            made.attr(label=f"<{legend_table(self.kinds, self.lines())}>", labelloc="b")
        return made

    def lines(self) -> list[tuple[str, Mapping[str, str]]]:
        """What the legend says of arrows."""
        found: list[tuple[str, Mapping[str, str]]] = []
        if self.direction != "backward":
            found.append(("values, with their shape", {}))
        if self.backward:
            for norm in self.scale.examples():
                found.append((f"gradient of norm {norm:.2g}", self.scale.style(norm)))
        return found

    # --- boxes ------------------------------------------------------------------------------------

    def boxes(self, made: graphviz.Digraph, level: int) -> None:
        """All boxes in the clusters of their modules."""
        inside: dict[Call, list] = {}  # boxes and clusters, in order
        for key in self.drawn():
            inside.setdefault(self.cluster_of(key), []).append(key)
            call = self.cluster_of(key)
            while call is not self.layout.top:
                outer = inside.setdefault(self.layout.around[call], [])
                if call in outer:
                    break
                outer.append(call)
                call = self.layout.around[call]
        clusters = 0
        stack = [(self.layout.top, iter(inside.get(self.layout.top, ())))]
        while stack:
            within, items = stack[-1]
            indent = "\t" * (level + len(stack) - 1)
            for item in items:
                if item in inside:
                    clusters += 1
                    made.body.append(f"{indent}subgraph cluster_{clusters} {{\n")
                    made.body.extend(self.heading(item, within, clusters, indent + "\t"))
                    stack.append((item, iter(inside[item])))
                    break
                self.box(made, item, within)
                made.body[-1] = indent[1:] + made.body[-1]
            else:
                stack.pop()
                if stack:
                    made.body.append("\t" * (level + len(stack) - 1) + "}\n")

    def drawn(self) -> Iterable[Key]:
        """The boxes; where only gradients are drawn, those that they flow through."""
        if self.direction != "backward":
            return self.scene.boxes
        ends = [self.scene.start(v) for v in self.scene.outputs if v.gradient is not None]
        reached = {k for a, norms in self.arrows if norms for k in (a.start, a.end)} | {*ends}
        return [key for key in self.scene.boxes if key in reached]

    def cluster_of(self, key: Key) -> Call:
        if isinstance(key, Value):
            users = [*self.scene.users.get(key, ())]
            inner = users and key.kind in ("parameter", "buffer", "constant", "leaf")
            return self.layout.common(users) if inner else self.layout.top
        return self.layout.around[key]

    def heading(self, call: Call, within: Call, number: int, indent: str) -> list[str]:
        """What a module's cluster begins with: its name, a box that arrows go around; its looks."""
        ground = CLUSTERS[len(self.layout.path_up(call)) % len(CLUSTERS)]
        copies = self.layout.copies.get(call, [call])
        label = f"<{module_text(call, copies, within, _LEFT)}{_LEFT}>"
        width, hint = "2.5" if copies[1:] else "1", tooltip([call.path, *about_call(call, copies)])
        return [
            indent[1:] + statement(f"heading_{number}", label, {**HEADING, "tooltip": hint}),
            f'{indent}label="" style="rounded,filled" fillcolor="{ground}" color="#8899AA" '
            f'penwidth={width} peripheries=1 tooltip="{hint}"\n',
        ]

    def box(self, made: graphviz.Digraph, key: Key, within: Call) -> None:
        if isinstance(key, Step):
            kind, name = ("move" if key.op.view else "operation"), key.op.name
            label, words = self.step_text(key, within), about_step(key)
            words.append(self.place(key))
        elif isinstance(key, Call):
            kind, name = "module", key.kind
            copies = self.layout.copies.get(key, [key])
            label = module_text(key, copies, within, "<br/>", self.own_gradient(key))
            words = about_call(key, copies)
        else:
            kind = name = key.kind if key.kind in BOXES else "input"
            values = self.scene.groups[key]
            lines = [self.leaf_text(v, within) for v in values]
            label = _LEFT.join([*lines, ""] if lines[1:] else lines)
            words = [word for v in values for word in about_value(v)]
        self.kinds.add(kind)
        self.number[name] += 1
        self.name[key] = quoted(f"{name}_{self.number[name]}")
        looks = {**BOXES[kind][0], "tooltip": tooltip(words)}
        if isinstance(key, Call) and self.layout.copies.get(key):
            looks["peripheries"] = "2"
        made.body.append(statement(self.name[key], f"<{label}>", looks))

    def place(self, step: Step) -> str:
        """Where in the program an operation is, which is the same for many."""
        key = step.code, step.offset
        if key not in self.places:
            self.places[key] = step.source
        return self.places[key]

    def step_text(self, step: Step, within: Call) -> str:
        name, params = operation_text(step.op, step.params, step.inputs)
        label = bold(name)
        layer = self.layout.layer.get(step)
        if layer is not None:
            copies = self.layout.copies.get(layer, [layer])
            times = f" × {len(copies)}" if copies[1:] else ""
            short = paths_text([c.path for c in copies], within.path)
            label += f"<br/>{faint(f'{short}: {layer.kind}{times}')}"
        # The spaces around the lower line, in the larger font, keep it off the upper one.
        return f"{label}<br/> {faint(params)} " if params else label

    def leaf_text(self, value: Value, within: Call) -> str:
        if value.kind == "constant" and value.number is not None and not value.names:
            return faint(f"{value.number:.4g}")
        name = " = ".join(value.names) or (value.kind if value.kind in BOXES else "input")
        if within.path and not value.names[1:]:  # the module's name stands above
            name = name.removeprefix(f"{within.path}.")
        words = shape_text(value.shape)
        if self.backward and value.gradient is not None:
            words += f", gradient {value.gradient:.2g}"
        return f"{bold(name)} {faint(words)}"

    def own_gradient(self, call: Call) -> str:
        """The norm of the gradients of all parameters that are hidden in a module."""
        hidden = {v for v in self.scene.hidden if call in self.scene.users[v]}
        norms = [v.gradient for v in hidden if v.gradient is not None]
        return f"gradient {math.hypot(*norms):.2g}" if self.backward and norms else ""

    # --- arrows -----------------------------------------------------------------------------------

    def forward(self, made: graphviz.Digraph, arrow: Arrow) -> None:
        start, end = self.name[arrow.start], self.name[arrow.end]
        words = about_value(arrow.value)
        if isinstance(arrow.start, Value):
            kind = arrow.start.kind
            looks = {"leaf": LEAF_EDGE, "parameter": LEAF_EDGE, "buffer": BUFFER_EDGE}.get(kind, {})
            made.body.append(
                statement(f"{start} -> {end}", "", {**looks, "tooltip": tooltip(words)})
            )
        else:
            text = " ".join([*arrow.value.names, shape_text(arrow.value.shape)])
            hint = tooltip(words)
            looks = {"labeltooltip": hint, "tooltip": hint}
            # The first space keeps it off the line.
            made.body.append(statement(f"{start} -> {end}", f" {tooltip([text])}", looks))

    def gradient(
        self, made: graphviz.Digraph, start: str, end: str, norms: Sequence[float]
    ) -> None:
        """An arrow the other way."""
        looks = {**self.scale.style(mean_norm(norms)), "dir": "back"}
        if self.direction == "both":
            looks["constraint"] = "false"
        looks["tooltip"] = looks["labeltooltip"] = tooltip(about_norms(norms))
        made.body.append(statement(f"{start} -> {end}", "  " + norms_text(norms), looks))

    def output(self, made: graphviz.Digraph, value: Value) -> None:
        if self.direction == "backward" and value.gradient is None:
            return
        self.kinds.add("output")
        self.number["output"] += 1
        end = f"output_{self.number['output']}"
        name = " = ".join(value.names) or "output"
        label = f"<{bold(name)} {faint(shape_text(value.shape))}>"
        hint = tooltip(about_value(value))
        made.body.append(statement(end, label, {**BOXES["output"][0], "tooltip": hint}))
        start = self.name[self.scene.start(value)]
        if self.direction != "backward":
            looks = LEAF_EDGE if value.maker is None else {}
            made.body.append(statement(f"{start} -> {end}", "", looks))
        if self.backward and value.gradient is not None:
            self.gradient(made, start, end, [value.gradient])


# --- in words -------------------------------------------------------------------------------------


def module_text(
    call: Call, copies: Sequence[Call], within: Call, gap: str, gradient: str = ""
) -> str:
    """The name of a module, its class and how many parameters it has."""
    path = paths_text([c.path for c in copies], within.path)
    times = f" × {len(copies)}" if copies[1:] else ""
    lines = [faint(call.kind + times)] if path else []
    if call.own:
        each = " each" if copies[1:] else ""
        lines.append(faint(f"{count_text(sum(v.size for v in call.own))} parameters{each}"))
    if gradient:
        lines.append(faint(gradient))
    return gap.join([bold(path or call.kind), *lines])


def about_step(step: Step) -> list[str]:
    place = [f"in {step.call.path} ({step.call.kind})"] if step.call.path else []
    return [step.op.name, *place, *about_value(step.output)]


def about_call(call: Call, copies: Sequence[Call]) -> list[str]:
    shapes = [f"result {shape_text(shape)}" for shape in call.shapes]
    first = [f"shown is the first of {len(copies)}"] if copies[1:] else []
    return [f"{call.kind}({call.about})".replace("\n", " "), *shapes, *first]


def about_value(value: Value) -> list[str]:
    named = [" = ".join(value.names)] if value.names else []
    words = [*named, f"{dtype_text(value.dtype)} {shape_text(value.shape)}".strip()]
    if value.stats is not None:
        words.append(str(value.stats))
    if value.gradient is not None:
        words.append(f"gradient of norm {value.gradient:.4g}")
    return words


def about_norms(norms: Sequence[float]) -> list[str]:
    head = f"gradient of norm {norms_text(norms)}"
    if not norms[1:]:
        return [head]
    return [f"{head}, in order:", *(f"{n:.4g}" for n in norms)]


def tooltip(lines: Iterable[str]) -> str:
    """Lines as an attribute that a reader of the SVG sees under the mouse."""
    return "\\n".join(line.replace("\\", "\\\\").replace('"', "'") for line in lines if line)


@functools.lru_cache(maxsize=64)
def dtype_text(dtype: Any) -> str:
    return str(dtype).removeprefix("tensorgrad.")


# --- as DOT ---------------------------------------------------------------------------------------

_WORD = re.compile(r"[A-Za-z_]\w*|\d+(\.\d+)?")


@functools.lru_cache(maxsize=4096)
def quoted(text: str) -> str:
    """A name or an attribute as DOT takes it."""
    return text if _WORD.fullmatch(text) else '"' + text.replace('"', '\\"') + '"'


def statement(head: str, label: str, looks: Mapping[str, str]) -> str:
    """A line for a box or an arrow; a label in <> is HTML-like."""
    words = []
    if label:
        words.append(f"label={label}" if label[0] == "<" else f'label="{label}"')
    words += [f"{name}={quoted(looks[name])}" for name in sorted(looks)]
    return f"\t{head} [{' '.join(words)}]\n" if words else f"\t{head}\n"
