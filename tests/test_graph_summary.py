"""The table of a model: its layers with their parameters, operations and memory."""

from __future__ import annotations

import pytest

import nn
import nn.functional as F
import tensorgrad
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad import graph
from tensorgrad.graph.flops import flops
from tensorgrad.mode import state, unusual


@pytest.fixture(autouse=True)
def nobody_watches_afterwards():
    yield
    assert unusual == []
    assert state.watcher is None


def closed_form(c: GPTConfig, T: int) -> int:
    """Multiplications and additions of a forward pass over T tokens: 24C² + 4TC per layer."""
    return T * (c.layers * (24 * c.width**2 + 4 * T * c.width) + 2 * c.width * c.vocab_size)


def test_summary_of_a_gpt():
    config = GPTConfig(vocab_size=11, context=16, width=32, layers=3, heads=4)
    model, T = GPT(config), 16
    found = graph.summary(model, tensorgrad.zeros(1, T, dtype=tensorgrad.int64))
    assert found.parameters == config.parameter_count() == model.parameter_count()
    assert found.flops == closed_form(config, T)
    layers = {layer.path: layer for layer in found.layers}
    assert layers[""].flops == found.flops
    assert layers["blocks.1"].flops == T * (24 * 32**2 + 4 * T * 32)
    assert layers["blocks.1"].shapes == [(1, 16, 32)]
    assert layers["blocks.1.attention.qkv"].parameters == 3 * 32 * 33
    assert layers[""].memory == found.memory
    few = graph.summary(model, tensorgrad.zeros(1, T, dtype=tensorgrad.int64), depth=1)
    assert {layer.path for layer in few.layers} < layers.keys()
    assert few.flops == found.flops
    text = str(few).splitlines()
    assert len({len(line) for line in text if "─" not in line}) == 1
    assert f"{found.parameters:,}" in text[-1]


def test_the_rule_of_6n():
    """A training step costs about 6 FLOPs per weight and token (Kaplan et al. 2020)."""
    config = GPTConfig(vocab_size=3, context=8, width=64, layers=4, heads=1, bias=False)
    found = graph.summary(GPT(config), tensorgrad.zeros(1, 8, dtype=tensorgrad.int64))
    matrices = config.layers * 12 * config.width**2 + config.vocab_size * config.width
    assert 3 * found.flops == pytest.approx(6 * matrices * 8, rel=0.03)


def test_memory_kept_for_backward():
    """A linear layer keeps its input, tanh its output; what is kept already counts once."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    found = graph.summary(model, tensorgrad.ones(32, 8))
    first, tanh, last = (layer.memory for layer in found.layers[1:])
    assert (first, tanh, last) == (32 * 8 * 4, 32 * 16 * 4, 0)
    with tensorgrad.no_grad():
        assert graph.summary(model, tensorgrad.ones(32, 8)).memory == 0


def test_a_module_called_twice_is_one_line():
    layer = nn.Linear(4, 4)
    found = graph.summary(nn.Sequential(layer, nn.Tanh(), layer), tensorgrad.ones(1, 4))
    assert [x.path for x in found.layers] == ["", "0", "1"]
    assert found.layers[1].flops == found.flops == 2 * 2 * 16
    assert found.parameters == 20


PRODUCTS = {
    "mm": lambda t, x: t.ones(3, 4) @ t.ones(4, 5),
    "bmm": lambda t, x: t.bmm(t.ones(2, 3, 4), t.ones(2, 4, 5)),
    "einsum": lambda t, x: t.einsum("bij,bjk->bik", t.ones(2, 3, 4), t.ones(2, 4, 5)),
    "linear": lambda t, x: x.linear(t.ones(2, 3, 4), t.ones(5, 4), t.ones(5)),
    "conv2d": lambda t, x: x.conv2d(t.ones(2, 3, 8, 8), t.ones(5, 3, 3, 3), padding=1),
    "elementwise": lambda t, x: (t.ones(3) + 1).exp().sum(),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", PRODUCTS)
def test_flops_as_pytorch_counts_them(name, torch):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        PRODUCTS[name](torch, torch.nn.functional)
    with graph.record(values=False) as run:
        PRODUCTS[name](tensorgrad, F)
    assert sum(map(flops, run.steps)) == counter.get_total_flops()


def test_flops_of_attention():
    shapes = (2, 4, 6, 8), (2, 4, 10, 8), (2, 4, 10, 3)
    q, k, v = (tensorgrad.ones(*shape) for shape in shapes)
    with graph.record(values=False) as run:
        F.scaled_dot_product_attention(q, k, v)
    assert sum(map(flops, run.steps)) == 2 * 2 * 4 * 6 * 10 * (8 + 3)
