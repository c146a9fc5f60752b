"""Recurrent layers and cells, against PyTorch's with the same weights; and positions."""

from __future__ import annotations

import numpy as np
import pytest
from layer_twins import agree, flat, leaves, twins

import nn
import tensorgrad
import tensorgrad.nn

RNG = np.random.default_rng(0)
L, N, I, H = 5, 2, 3, 4
X = RNG.standard_normal((L, N, I))


def states(count: int, kind: str, *batch: int):
    made = tuple(RNG.standard_normal((count, *batch, H)) for _ in range(2))
    return made if kind == "LSTM" else made[0]


VARIANTS = [
    {},
    {"bias": False},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.3},
]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_sequences(torch, kind, options, dtype):
    ours, theirs = twins(torch, kind, I, H, dtype=dtype, **options)
    ours.eval(), theirs.eval()
    assert repr(ours) == repr(theirs)
    agree(torch, ours, theirs, (X,), dtype=dtype)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch = L if options.get("batch_first") else N
    agree(torch, ours, theirs, (X, states(count, kind, batch)), dtype=dtype)
    agree(torch, ours, theirs, (X[:, 0], states(count, kind)), dtype=dtype)


@pytest.mark.torch
def test_relu(torch):
    ours, theirs = twins(torch, "RNN", I, H, nonlinearity="relu")
    agree(torch, ours, theirs, (X,))
    ours, theirs = twins(torch, "RNNCell", I, H, nonlinearity="relu")
    agree(torch, ours, theirs, (X[0],))
    assert repr(ours) == repr(theirs)


@pytest.mark.torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells(torch, kind, bias):
    ours, theirs = twins(torch, f"{kind}Cell", I, H, bias=bias)
    assert repr(ours) == repr(theirs)
    state = states(N, kind)
    agree(torch, ours, theirs, (X[0],))
    agree(torch, ours, theirs, (X[0], state))
    one = tuple(s[0] for s in state) if kind == "LSTM" else state[0]
    agree(torch, ours, theirs, (X[0, 0], one))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_is_its_cell_step_by_step(kind):
    layer, cell = getattr(nn, kind)(I, H).double(), getattr(nn, f"{kind}Cell")(I, H).double()
    cell.load_state_dict({n.removesuffix("_l0"): v for n, v in layer.state_dict().items()})
    x = tensorgrad.tensor(X)
    results, last = layer(x)
    state = None
    for t in range(L):
        state = cell(x[t], state)
        h = state[0] if kind == "LSTM" else state
        np.testing.assert_allclose(h.tolist(), results[t].tolist(), rtol=1e-12)
    last = last[0] if kind == "LSTM" else last
    assert last[0].tolist() == results[-1].tolist()


PACKED = [
    {},
    {"num_layers": 2, "bias": False},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


@pytest.mark.torch
@pytest.mark.parametrize("options", PACKED, ids=str)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [(5, 3, 3), (2, 5, 1), (4, 4, 4)], ids=str)
def test_packed_sequences(torch, kind, options, lengths):
    """Outputs, last states and all gradients, with states to begin with and without."""
    ours, theirs = twins(torch, kind, I, H, **options)
    assert tensorgrad.nn.utils.rnn
    x = np.random.default_rng(1).standard_normal((5, 3, I))
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    for hx in (None, states(count, kind, 3)):
        found = []
        for lib, layer in ((tensorgrad, ours), (torch, theirs)):
            layer.zero_grad()
            given, start = leaves(lib, x), leaves(lib, hx)
            rnn = lib.nn.utils.rnn
            packed = rnn.pack_padded_sequence(given, lengths, enforce_sorted=False)
            y, last = layer(packed, start)
            padded, sizes = rnn.pad_packed_sequence(y)
            outputs = [padded, *(last if kind == "LSTM" else [last])]
            sum((t * t.detach().cos()).sum() for t in outputs).backward()
            trained = [given, *(flat(start)), *layer.parameters()]
            found.append([*outputs, sizes, *(t.grad for t in trained)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_packed_sequence_is_its_sequences(kind):
    layer = getattr(nn, kind)(I, H, bidirectional=True).double()
    parts = [tensorgrad.tensor(X[:n, 0]) for n in (2, 5, 1)]
    y, last = layer(nn.utils.rnn.pack_sequence(parts, enforce_sorted=False))
    last = last[0] if kind == "LSTM" else last
    for i, (part, found) in enumerate(zip(parts, nn.utils.rnn.unpack_sequence(y), strict=True)):
        alone, h = layer(part)
        np.testing.assert_allclose(found.tolist(), alone.tolist(), rtol=1e-12)
        np.testing.assert_allclose(
            last[:, i].tolist(), (h[0] if kind == "LSTM" else h).tolist(), rtol=1e-12
        )
    with pytest.raises(RuntimeError, match=r"GRU.*\[steps, 3\].*PackedSequence|the packed data"):
        layer(nn.utils.rnn.pack_sequence([tensorgrad.zeros(2, 4)]))


def test_initial_values_are_uniform_within_the_bound():
    layer = nn.LSTM(8, 25, num_layers=2)
    for name, p in layer.named_parameters():
        values = p.detach().numpy()
        assert 0.15 < np.abs(values).max() <= 0.2, name
        assert values.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.15), name


def test_dropout_is_between_the_layers_only():
    tensorgrad.manual_seed(0)
    x = tensorgrad.tensor(X, dtype=tensorgrad.float32)
    one, two = nn.GRU(I, H, dropout=0.5), nn.GRU(I, H, num_layers=2, dropout=0.5)
    assert one(x)[0].tolist() == one(x)[0].tolist()
    assert two(x)[0].tolist() != two(x)[0].tolist()
    assert two.eval()(x)[0].tolist() == two(x)[0].tolist()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: nn.LSTM(3, 0), ValueError, "hidden_size and num_layers"),
        (lambda: nn.GRU(3, 2, dropout=2), ValueError, "probability"),
        (lambda: nn.RNN(3, 2, nonlinearity="elu"), ValueError, "not 'elu'"),
        (lambda: nn.RNN(3, 2)(tensorgrad.zeros(2, 2, 4)), RuntimeError, r"I = 3; .*\(2, 2, 4\)"),
        (lambda: nn.RNN(3, 2)(tensorgrad.zeros(5, 2, 3), tensorgrad.zeros(1, 3, 2)), RuntimeError,
         r"shape \(1, 2, 2\), not \(1, 3, 2\)"),
        (lambda: nn.GRUCell(3, 2)(tensorgrad.zeros(5, 3), tensorgrad.zeros(4, 2)), RuntimeError,
         r"shape \(5, 2\), not \(4, 2\)"),
        (lambda: nn.LSTMCell(3, 2)(tensorgrad.zeros(5, 4)), RuntimeError, r"\(5, 4\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# --- positions ------------------------------------------------------------------------------------


def test_sinusoidal_positions_follow_the_formula():
    table = nn.SinusoidalPositions(50, 8, dtype=tensorgrad.float64).table.numpy()
    p, i = np.arange(50)[:, None], np.arange(4)[None]
    angles = p / 10000 ** (2 * i / 8)
    np.testing.assert_allclose(table[:, 0::2], np.sin(angles), atol=1e-12)
    np.testing.assert_allclose(table[:, 1::2], np.cos(angles), atol=1e-12)
    assert not nn.SinusoidalPositions(5, 8).state_dict()
    assert list(nn.LearnedPositions(5, 8).state_dict()) == ["table"]


def test_rotary_positions_are_turns_by_complex_numbers():
    """Of the definition: the pair as a complex number times exp(i p rate)."""
    x = RNG.standard_normal((2, 3, 6, 8))
    turned = nn.RotaryPositions(20, 8, dtype=tensorgrad.float64)(tensorgrad.tensor(x), start=4)
    rates = 10000.0 ** (-np.arange(0, 8, 2) / 8)
    turns = np.exp(1j * np.arange(4, 10)[:, None] * rates)
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * turns
    np.testing.assert_allclose(turned.numpy()[..., 0::2], z.real, atol=1e-12)
    np.testing.assert_allclose(turned.numpy()[..., 1::2], z.imag, atol=1e-12)


def test_rotated_products_depend_on_distances_only():
    rotary = nn.RotaryPositions(64, 8, dtype=tensorgrad.float64)
    q, k = (tensorgrad.tensor(RNG.standard_normal((1, 8))) for _ in range(2))
    near, far = ((rotary(q, start=p + 3) * rotary(k, start=p)).sum().item() for p in (0, 50))
    assert near == pytest.approx(far, abs=1e-12)


@pytest.mark.parametrize("kind", ["SinusoidalPositions", "LearnedPositions", "RotaryPositions"])
def test_positions_that_do_not_fit_are_refused(kind):
    layer = getattr(nn, kind)(4, 6)
    with pytest.raises(RuntimeError, match=kind):
        layer(tensorgrad.zeros(1, 5, 6))
    with pytest.raises(RuntimeError, match=kind):
        layer(tensorgrad.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="even"):
        nn.RotaryPositions(4, 5)
