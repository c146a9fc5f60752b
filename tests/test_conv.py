"""Convolutions, pooling and resampling by their definitions, and a net of them that learns.

These need no PyTorch; the comparisons with it are in test_functional.py and test_layers.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nn
import nn.functional as F
import tensorgrad


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def naive(x: np.ndarray, w: np.ndarray, stride: int, padding: int, dilation: int, groups: int):
    """A convolution as its definition says: a sum for each output element."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, out, (kh, kw) = len(x), len(w), w.shape[2:]
    size = [(m - dilation * (k - 1) - 1) // stride + 1 for m, k in zip(x.shape[2:], (kh, kw))]
    y = np.zeros((n, out, *size))
    per = out // groups
    for b, o, i, j in itertools.product(range(n), range(out), *map(range, size)):
        for c, di, dj in itertools.product(range(w.shape[1]), range(kh), range(kw)):
            place = (i * stride + di * dilation, j * stride + dj * dilation)
            y[b, o, i, j] += x[(b, o // per * w.shape[1] + c, *place)] * w[o, c, di, dj]
    return y


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (2, 1, 2, 2)],
)
def test_conv2d(stride: int, padding: int, dilation: int, groups: int) -> None:
    x, w = normal(2, 4, 6, 5), normal(4, 4 // groups, 3, 2)
    y = F.conv2d(
        tensorgrad.tensor(x), tensorgrad.tensor(w), None, stride, padding, dilation, groups
    )
    np.testing.assert_allclose(y.numpy(), naive(x, w, stride, padding, dilation, groups), 1e-12)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}])
def test_the_transposed_convolution_is_the_transpose(options: dict) -> None:
    """<conv(x), y> = <x, transposed(y)> for all x and y."""
    w = tensorgrad.tensor(normal(4, 4 // options.get("groups", 1), 3, 3))
    x = tensorgrad.tensor(normal(2, 4, 7, 7))
    out = F.conv2d(x, w, **options)
    y = tensorgrad.tensor(normal(*out.shape))
    back = F.conv_transpose2d(y, w, **options)
    assert back.shape == x.shape
    assert float((out * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-12)


def test_fold_counts_the_windows() -> None:
    """Of an image of ones each pixel comes back as often as windows see it."""
    seen = F.fold(F.unfold(tensorgrad.ones(1, 1, 3, 3), 2), (3, 3), 2)
    assert seen[0, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_max_pool_gives_the_gradient_to_the_first_of_equal_elements() -> None:
    x = tensorgrad.zeros(1, 1, 2, 4, requires_grad=True)
    y, index = F.max_pool2d(x, 2, return_indices=True)
    y.sum().backward()
    assert x.grad[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]
    assert index.tolist() == [[[[0, 2]]]]


def test_max_pool_of_what_is_not_finite() -> None:
    x = tensorgrad.tensor([[[-np.inf, -np.inf, np.nan, 1.0, np.inf, 2.0]]])
    assert F.max_pool1d(x, 2).tolist()[0][0][::2] == [-np.inf, np.inf]
    assert F.max_pool1d(x, 2).isnan().tolist() == [[[False, True, False]]]


def test_pad_by_hand() -> None:
    x = tensorgrad.tensor([[[1.0, 2.0, 3.0]]])
    for mode, expected in {
        "constant": [0, 0, 1, 2, 3, 0],
        "reflect": [3, 2, 1, 2, 3, 2],
        "replicate": [1, 1, 1, 2, 3, 3],
        "circular": [2, 3, 1, 2, 3, 1],
    }.items():
        assert F.pad(x, (2, 1), mode).tolist() == [[expected]], mode


def test_interpolation_of_a_ramp_is_a_ramp() -> None:
    x = tensorgrad.arange(5.0).reshape(1, 1, 5)
    y = F.interpolate(x, 9, mode="linear", align_corners=True)
    np.testing.assert_allclose(y.numpy()[0, 0], np.linspace(0, 4, 9), rtol=1e-6)
    assert F.interpolate(x, scale_factor=2).tolist()[0][0] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_pixel_shuffle_and_back() -> None:
    x = tensorgrad.randn(2, 8, 3, 3)
    y = F.pixel_shuffle(x, 2)
    assert y.shape == (2, 2, 6, 6)
    assert y[0, 0, 0, 1] == x[0, 1, 0, 0]
    assert (F.pixel_unshuffle(y, 2) == x).all()


def test_mistakes_are_explained() -> None:
    x = tensorgrad.ones(2, 3, 5, 5)
    for call, message in (
        (lambda: nn.Conv2d(4, 2, 3)(x), r"takes 4 channels .*\(2, 3, 5, 5\) has 3"),
        (lambda: nn.Conv2d(3, 2, 7)(x), r"spans \(7, 7\) is larger .* \(5, 5\)"),
        (lambda: nn.Conv2d(3, 2, 3)(x[0, 0]), r"\[n, c, ...\] or \[c, ...\] with 2 more dims"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "multiples of the 2 groups"),
        (lambda: nn.MaxPool2d(2, padding=2)(x), "at most half the kernel"),
        (lambda: F.pad(x, (5, 0, 0, 0), "reflect"), "at most 4"),
        (lambda: F.interpolate(x, 3, mode="linear"), "does not take an input of 4 dims"),
    ):
        with pytest.raises((RuntimeError, ValueError, NotImplementedError), match=message):
            call()


def test_a_small_net_learns_where_a_stroke_is() -> None:
    """Pictures of a horizontal or a vertical stroke in noise: two classes, a few steps."""
    tensorgrad.manual_seed(0)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((32, 1, 10, 10)).astype(np.float32) * 0.3
    classes = rng.integers(0, 2, 32)
    for image, kind in zip(images, classes):
        at = rng.integers(2, 8)
        image[0][(at, slice(2, 8)) if kind else (slice(2, 8), at)] += 1.5
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding="same"), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    optimizer, loss = tensorgrad.optim.AdamW(model.parameters(), lr=0.02), nn.CrossEntropyLoss()
    x, t = tensorgrad.tensor(images), tensorgrad.tensor(classes)
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(model(x), t)
        value.backward()
        optimizer.step()
    assert float(value) < 0.2
    assert (model.eval()(x).argmax(1) == t).numpy().mean() > 0.9
