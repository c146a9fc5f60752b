"""What a recorded graph keeps alive, and when it goes: long ones too, and without recursion."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import tensorgrad
from tensorgrad import core, ops
from tensorgrad.autograd import grad


def leaf(data, dtype=tensorgrad.float64):
    return tensorgrad.tensor(data, dtype=dtype, requires_grad=True)


def test_a_chain_of_100_000_operations():
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y * 1.0 + 1.0
    y.backward(retain_graph=True)
    assert x.grad.item() == 1.0
    assert y.item() == 50_001.0
    del y  # 100,000 nodes, each held by the next


def test_a_ladder_of_diamonds_is_walked_once():
    """Sixty forks and joins: 2**60 paths, 180 nodes."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y * 0.5 + y * 0.5
    calls = 0
    pull = core.Op.pull

    def counted(*args):
        nonlocal calls
        calls += 1
        return pull(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.Op, "pull", counted)
        y.backward()
    assert x.grad.item() == 1.0
    assert calls == 3 * 60


def nodes_of(tensor):
    """Weak references to the whole graph behind a tensor."""
    seen, stack = {}, [tensor.node]
    while stack:
        node = stack.pop()
        if isinstance(node, core.Node) and id(node) not in seen:
            seen[id(node)] = weakref.ref(node)
            stack.extend(node.parents)
    return list(seen.values())


def little_network(x, w):
    """Views, writes in place, a fused op, several uses: whatever could make a cycle."""
    h = ops.linear(x, w, None).tanh() * 2
    h[0] = 1.0
    h[:, 1].mul_(2)
    h += x.T.T
    return (h[:, 0] * h.softmax(-1)[:, 1] + h.max(1)[0]).sum()


@pytest.mark.parametrize("use", ["backward", "grad", "create_graph", "nothing", "error"])
def test_reference_counts_free_the_graph(use, no_gc):
    x, w = leaf(np.ones((4, 3))), leaf(np.ones((3, 3)))
    loss = little_network(x, w)
    alive = nodes_of(loss)
    assert len(alive) > 10
    if use == "backward":
        loss.backward()
    elif use == "grad":
        grad(loss, [x, w])
    elif use == "create_graph":
        (g,) = grad(loss, w, create_graph=True)
        alive += nodes_of(g)
        grad((g * g).sum(), w)
        del g
    elif use == "error":
        with pytest.raises(RuntimeError):
            loss.backward(tensorgrad.ones(3))
    del loss
    assert not [r for r in alive if r() is not None]
    arrays = [weakref.ref(t.array) for t in (x, w)]
    del x, w
    assert not [r for r in arrays if r() is not None]


def test_views_of_a_long_lived_tensor_leave_nothing_behind(no_gc):
    x = leaf(np.ones(10))
    for i in range(1000):
        x[i % 10]
    assert len(x.family) == 1
    kept = [x[i] for i in range(10)]
    assert len(x.family) == 11
    array = weakref.ref(x.array)
    del x, kept
    assert array() is None


def test_saved_arrays_go_as_backward_uses_them(no_gc):
    """Freed by the time the pass is over, though the graph itself is still held."""
    x = leaf(np.ones(1000))
    saved, y = [], x
    for _ in range(5):
        y = y.exp() * 1e-3
        saved += [weakref.ref(a) for a in y.node.parents[0].saved]
    alive_at = []
    release = core.Node.release

    def watching(node):
        release(node)
        alive_at.append(sum(r() is not None for r in saved))

    loss = y.sum()
    del y
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.Node, "release", watching)
        loss.backward()
    assert alive_at[0] == 5
    assert alive_at[-1] == 0
    assert sorted(alive_at, reverse=True) == alive_at
    assert len(nodes_of(loss)) == 11


def test_what_no_formula_names_is_not_kept(no_gc):
    x, b = leaf(np.ones(100)), leaf(np.ones(100))
    hidden = x + b  # the gradient of a sum needs neither
    array = weakref.ref(hidden.array)
    y = hidden + b
    del hidden
    assert array() is None
    y.sum().backward()


def test_memory_stays_flat_over_training_steps(no_gc):
    w = leaf(np.full((20, 20), 0.1))
    optimizer = tensorgrad.optim.AdamW([w], lr=1e-3)
    x = tensorgrad.ones(8, 20, dtype=tensorgrad.float64)

    def step():
        h = x
        for _ in range(3):
            h = ops.layer_norm(ops.linear(h, w, None).tanh(), None, None)
        h = tensorgrad.cat(h.split(10, -1), -1)
        loss = ops.cross_entropy(h, tensorgrad.arange(8)).mean() + h[0, 0] ** 2
        optimizer.zero_grad()
        loss.backward()
        tensorgrad.optim.clip_grad_norm_([w], 1.0)
        optimizer.step()

    tracemalloc.start()
    try:
        for _ in range(20):
            step()
        before, objects = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
        for _ in range(60):
            step()
        grown, objects = (
            tracemalloc.get_traced_memory()[0] - before,
            len(gc.get_objects()) - objects,
        )
    finally:
        tracemalloc.stop()
    # One array a step would be 190 KB; the interpreter's lists of free tuples may grow a little.
    assert grown < 60_000, f"60 steps left {grown} bytes behind"
    assert objects < 50, f"60 steps left {objects} objects behind"
