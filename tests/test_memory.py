"""Long graphs and long runs: no recursion, no cycles, nothing left behind.

The garbage collector is off in these tests, so that reference counts alone must free everything;
what it would still find at the end are cycles.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import numpy as np
import pytest

import nn
import tensorgrad
from nn import functional as F
from tensorgrad import grad, optim
from tensorgrad.core import registry
from tensorgrad.ops.samples import Source

pytestmark = pytest.mark.usefixtures("no_gc")


def leaf(*shape: int):
    array = np.random.default_rng(0).uniform(0.5, 1.5, shape)
    return tensorgrad.from_numpy(array).requires_grad_()


# --- 100,000 operations in a row ------------------------------------------------------------------


def arithmetic(y, k):
    return y * 1.0 if k % 2 else y + 0.0


def views(y, k):
    return y.reshape(2, 1) if k % 2 else y.reshape(2)


def writes(y, k):
    return y.add_(1.0) if k % 2 else y.mul_(1.0)


def writes_through_views(y, k):
    y[k % 2] = 0.5
    return y


def forks(y, k):
    return 0.5 * y + 0.5 * y.detach() + y * 0.5 - y.detach() * 0.5


LINKS = {arithmetic: 100_000, views: 20_000, writes: 20_000, writes_through_views: 5_000,
         forks: 10_000}  # fmt: skip


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.__name__)
def test_a_chain_is_walked_without_recursion(link):
    x = leaf(2)
    y = x + 0.0
    for k in range(LINKS[link]):
        y = link(y, k)
    y.sum().backward()
    expected = 0.0 if link is writes_through_views else 1.0
    assert x.grad.tolist() == [expected, expected]
    del y
    assert gc.collect() == 0


def test_a_chain_is_differentiated_twice():
    """The second graph is longer than the first, and as deep."""
    x = leaf(2)
    y = x * x
    for _ in range(5_000):
        y = y * 1.0
    (g,) = grad(y.sum(), x, create_graph=True)
    (h,) = grad(g.sum(), x)
    assert h.tolist() == [2.0, 2.0]
    del y, g, h
    assert gc.collect() == 0


# --- many steps -----------------------------------------------------------------------------------


class Attention(nn.Module):
    """One block of a transformer on sequences of 4 numbers out of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.qkv = nn.Linear(4, 12)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, tokens):
        h = self.embed(tokens)  # [2, 4, 4]
        q, k, v = self.qkv(self.norm(h)).split(4, -1)
        h = h + F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(h)  # [2, 4, 5]


def attention_step() -> Callable[[], None]:
    model = Attention()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    tokens = tensorgrad.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])

    def step() -> None:
        logits = model(tokens)
        loss = F.cross_entropy(logits.reshape(8, 5), tokens.reshape(8))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def regression_step() -> Callable[[], None]:
    """Two layers by hand, with views, writes in place and a gradient that is differentiated."""
    w, v = leaf(3, 4), leaf(4)
    optimizer = optim.AdamW([w, v], lr=1e-4)
    x = leaf(5, 3).detach()

    def step() -> None:
        h = (x @ w).tanh() * 2
        h[0] = 1.0
        h.T[1].mul_(2)
        loss = (h @ v).square().mean()
        (g,) = grad(loss, v, create_graph=True)
        optimizer.zero_grad()
        (loss + 1e-3 * g.square().sum()).backward()
        optimizer.step()

    return step


def assert_flat(step: Callable[[], None], steps: int) -> None:
    for _ in range(50):
        step()
    gc.collect()  # also empties the interpreter's own lists of free tuples and floats
    before = sys.getallocatedblocks()
    for _ in range(steps):
        step()
    assert gc.collect() == 0, f"{steps} steps left cycles behind"
    blocks = sys.getallocatedblocks() - before
    # One tensor left behind by each step would be several blocks a step. Python 3.10 goes on
    # filling its lists of free objects, up to some 600, for a thousand steps.
    assert blocks < 800 + steps / 20, f"{steps} steps left {blocks} blocks of memory behind"


@pytest.mark.parametrize("make", [attention_step, regression_step])
def test_memory_stays_flat(make):
    assert_flat(make(), 500)


@pytest.mark.slow
@pytest.mark.parametrize("make", [attention_step, regression_step])
def test_memory_stays_flat_over_10_000_steps(make):
    assert_flat(make(), 10_000)


def test_a_leak_is_found():
    """The check is checked: a tensor kept each step, and a cycle made each step."""
    kept = []
    with pytest.raises(AssertionError, match="left"):
        assert_flat(lambda: kept.append(tensorgrad.ones(2)), 1_000)

    def cycle() -> None:
        itself: list = []
        itself.append(itself)

    with pytest.raises(AssertionError, match="left"):
        assert_flat(cycle, 1_000)


# --- no cycles ------------------------------------------------------------------------------------


def inputs_of(args) -> list:
    """Sample arguments as tensors; the float ones require grad."""
    made = [tensorgrad.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
    return [t.requires_grad_() if hasattr(t, "array") and t.is_floating_point() else t
            for t in made]  # fmt: skip


@pytest.mark.parametrize("name", sorted(registry))
def test_no_op_makes_a_cycle(name):
    """Forward, backward and twice backward of every registered op."""
    evaluate(registry[name])  # compiling a kernel, the first time, leaves cycles behind
    gc.collect()
    evaluate(registry[name])
    assert gc.collect() == 0


def evaluate(op) -> None:
    for args, params in list(op.samples(Source(seed=1)))[:3]:
        inputs = inputs_of(args)
        y = op(*inputs, **params)
        if y.requires_grad:
            leaves = [t for t in inputs if getattr(t, "requires_grad", False)]
            y.sum().backward(retain_graph=True)
            found = grad(y.sum(), leaves, create_graph=True, allow_unused=True)
            again = [g.sum() for g in found if g is not None and g.requires_grad]
            if again:
                grad(again, leaves, allow_unused=True)
            del leaves, found, again
        del args, params, inputs, y


def refused_shapes(x):
    return x @ x.reshape(-1)


def refused_writes(x):
    x[0].mul_(2)


def refused_backward(x):
    y = x.exp()
    y.add_(1)
    y.sum().backward()


def refused_second_backward(x):
    y = x.exp().sum()
    y.backward()
    y.backward()


@pytest.mark.parametrize(
    "refused", [refused_shapes, refused_writes, refused_backward, refused_second_backward]
)
def test_an_error_makes_no_cycle(refused):
    """In a long session that tries things out, nothing may pile up either."""
    x = leaf(3, 2)
    failed = False
    try:
        refused(x)
    except RuntimeError:
        failed = True
    assert failed
    del x
    assert gc.collect() == 0


def test_gradients_of_views_lie_as_the_views_do() -> None:
    """Of three slices of one product, cut into heads: what reaches the product is no copy."""
    x = tensorgrad.zeros(2, 3, 24, requires_grad=True)
    product = x * 1.0
    heads = product.view(2, 3, 3, 4, 2).permute(2, 0, 3, 1, 4)
    seen: list[np.ndarray] = []
    heads.register_hook(lambda g: seen.append(g.array))
    product.register_hook(lambda g: seen.append(g.array))
    q, k, v = heads.unbind(0)
    (q * 1.0 + k * 2.0 + v * 3.0).sum().backward()
    assert np.shares_memory(*seen)
    expected = np.broadcast_to(np.array([1.0, 2.0, 3.0]).repeat(8), (2, 3, 24))
    np.testing.assert_array_equal(x.grad.numpy(), expected)
