"""Pictures of computations, from the recorded history of a tensor or from a whole run.

>>> import tensorgrad
>>> w = tensorgrad.tensor([2.0, -1.0], requires_grad=True)
>>> loss = (w ** 2).sum()
>>> picture = tensorgrad.graph.draw(loss, names={"w": w, "loss": loss})
>>> path = tensorgrad.graph.render(picture, "loss.dot")  # or .svg, .png, .pdf
>>> 'power_1 -> sum_1 [label=" 2"' in path.read_text(encoding="utf-8")
True

Inputs stand on top and results at the bottom. Blue boxes are operations, white ones those that only
move elements (reshape, transpose, ...); orange leaves are what gradients are collected in; green is
a result. An arrow carries the shape of what flows along it. Nothing is drawn of values without a
gradient, which the history does not record.

:func:`trace` a model, or :func:`record` a block of a program, to see all of it: modules as nested
boxes, equal ones drawn once, values and lines of the source as tooltips of an SVG, gradients.

>>> import nn
>>> model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
>>> run = tensorgrad.graph.trace(model, tensorgrad.ones(2, 4), backward=True)
>>> picture = tensorgrad.graph.draw(run, direction="backward", title="Gradients")
>>> print(tensorgrad.graph.summary(model, tensorgrad.ones(2, 4)))
layer ...
"""

from __future__ import annotations

from .dot import draw
from .files import render
from .recording import record, trace
from .run import Call, Run, Stats, Step, Value
from .table import Summary, summary

__all__ = ["draw", "render", "record", "trace", "summary", "Run", "Call", "Step", "Value", "Stats",
           "Summary"]  # fmt: skip
