"""Writes the frozen pictures of tests/graphs again: look at the difference before committing it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import nn
import tensorgrad
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad import graph

FOLDER = Path(__file__).resolve().parent / "graphs"


def gpt(layers: int = 3) -> GPT:
    return GPT(GPTConfig(vocab_size=11, context=8, width=8, layers=layers, heads=2))


def tokens() -> tensorgrad.Tensor:
    return tensorgrad.tensor([[1, 2, 3, 4]])


def pictures() -> dict[str, str]:
    """DOT text by name. Only shapes and whole numbers, which are the same on every machine."""
    run = graph.trace(gpt(), tokens(), values=False)
    layer = nn.Linear(2, 2)
    with tensorgrad.no_grad():
        layer.weight.copy_(tensorgrad.tensor([[3.0, 0.0], [0.0, 4.0]]))
        layer.bias.zero_()
    model = nn.Sequential(layer, nn.ReLU())
    model.register_buffer("scale", tensorgrad.tensor([2.0, 2.0]))
    with graph.record(model) as small:
        x = tensorgrad.tensor([[1.0, 1.0]], requires_grad=True)
        ((model(x) * model.scale + x).sum() * 3).backward()
    drawn = {
        "gpt_depth_1": graph.draw(run, depth=1, title="Depth 1"),
        "gpt_depth_2": graph.draw(run, depth=2, title="Depth 2"),
        "block": graph.draw(run, module="blocks.1", title="One block", rankdir="LR"),
        "layer": graph.draw(small),
        "layer_backward": graph.draw(small, direction="backward", legend=False),
        "layer_both": graph.draw(small, direction="both", fold=False),
    }
    return {name: without_lines(picture.source) for name, picture in drawn.items()}


def without_lines(source: str) -> str:
    """DOT text with LINE for every place in a program."""
    return re.sub(r'\\n[^\\"]*\.py:\d+', r"\\nLINE", source)


if __name__ == "__main__":
    for name, text in pictures().items():
        (FOLDER / f"{name}.dot").write_text(text, encoding="utf-8")
