"""The search for the first nan or inf, and the modes beside recording."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nn
import tensorgrad
from tensorgrad import autograd, ones, tensor
from tensorgrad.autograd import detect_anomaly, set_detect_anomaly
from tensorgrad.mode import unusual


def leaf(values):
    return tensor(values, dtype=tensorgrad.float64, requires_grad=True)


def fails(function, message):
    with pytest.raises(RuntimeError, match=message) as error:
        function()
    assert "\n" not in str(error.value)
    assert f"test_anomaly.py:{function.__code__.co_firstlineno}" in str(error.value)


# --- anomalies ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_forward_pass():
    x = leaf([1.0, 0.0, -2.0])
    with detect_anomaly():
        fails(
            lambda: x.sqrt() * 0,
            r"forward pass of sqrt gives nan, at .*: x: shape \(3,\) float64, -2 to 1; result: "
            r"shape \(3,\) float64, 0 to 1, 1 of 3 nan",
        )
        fails(lambda: x / x.detach(), "forward pass of divide gives nan, at .*; b: shape")
        fails(lambda: 1 / x, "forward pass of divide gives inf, .*a: 1; b: shape")
        fails(lambda: (x * 1e200) ** 2, "forward pass of power gives inf")
        fails(lambda: x * float("nan"), "forward pass of multiply gives nan")
        fails(lambda: nn.functional.gelu(x * float("nan")), "forward pass of multiply gives nan")
        big = leaf([[1e300, 1e300]])
        fails(lambda: nn.functional.linear(big, big * 1.0), "forward pass of linear gives inf")


def test_the_backward_pass():
    x = leaf([4.0, 0.0])
    with detect_anomaly():
        fails(
            lambda: x.sqrt().sum().backward(),
            r"backward pass of sqrt gives inf in the gradient of its argument 'x', recorded at .*: "
            r"gradient of the result: shape \(2,\) float64, 1 to 1; result: shape \(2,\) float64, "
            "0 to 2",
        )
        fails(lambda: ((x * x).sum().sqrt() - 4).sqrt().backward(), "backward pass of sqrt gives")
        fails(lambda: (x.sqrt() * 0).sum().backward(), "backward pass of sqrt gives nan")
        fails(
            lambda: autograd.grad(x.sqrt().sum(), x, create_graph=True), "backward pass of sqrt gi"
        )
        start = tensor([1.0, float("nan")])
        fails(lambda: (x * 2).backward(start), r"multiply gives nan .*1 of 2 nan; b: 2")


def test_an_infinite_operand_is_no_anomaly():
    """Masks are made of -inf: attention, softmax, where."""
    x = leaf(np.arange(9.0).reshape(3, 3))
    mask = ones(3, 3).tril() == 0
    with detect_anomaly():
        scores = x.masked_fill(mask, float("-inf"))
        scores.softmax(-1).sum().backward(retain_graph=True)
        (scores.log_softmax(-1) * 1.0)[:, 0].sum().backward()
        tensorgrad.where(mask, x, float("inf")).amin().backward()
        additive = tensor(np.where(mask.numpy(), -np.inf, 0.0))
        (x + additive).softmax(-1)[1].sum().backward()
        q = x.reshape(1, 1, 3, 3)
        nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_on_and_off():
    x = leaf([0.0])
    root = x.sqrt().sum()
    with detect_anomaly():
        assert autograd.is_anomaly_enabled()
        with set_detect_anomaly(False):
            root.backward(retain_graph=True)
        with detect_anomaly(check_nan=False):
            root.backward(retain_graph=True)
        assert autograd.is_anomaly_enabled()
        with pytest.raises(RuntimeError, match="sqrt gives inf"):
            root.backward(retain_graph=True)
        with tensorgrad.no_grad():
            assert (1 / x).item() == np.inf  # not recorded, not checked
    assert not autograd.is_anomaly_enabled()
    switch = set_detect_anomaly(True)
    assert autograd.is_anomaly_enabled()
    set_detect_anomaly(True)
    with switch:
        pass
    assert not autograd.is_anomaly_enabled()
    with pytest.raises(KeyError), detect_anomaly():
        raise KeyError
    assert not unusual
    root.backward()


def test_it_holds_for_one_thread():
    found = []

    def work():
        found.append(autograd.is_anomaly_enabled())
        leaf([0.0]).sqrt().sum().backward()

    with detect_anomaly():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [False]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_in_a_function_of_the_user():
    class Odd(autograd.Function):
        @staticmethod
        def forward(ctx, x, bad):
            ctx.save_for_backward(x)
            return 1 / (x * 0) if bad else x * 2

        @staticmethod
        def backward(ctx, g):
            return g / 0, None

    with detect_anomaly():
        fails(lambda: Odd.apply(leaf([1.0]), True), r"forward pass of Odd gives inf, at .*: x: sha")
        fails(
            lambda: Odd.apply(leaf([1.0]), False).sum().backward(),
            r"backward pass of Odd gives inf in the gradient of its argument 'x'.*saved_tensors\[0",
        )


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
def test_torch_raises_too(torch):
    x = torch.tensor([4.0, 0.0], requires_grad=True)
    with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="nan"):
        (x.sqrt() * 0).sum().backward()


# --- inference mode: the same lines on PyTorch ----------------------------------------------------

INFERENCE = """
y.is_inference(), y.requires_grad, y.is_leaf
m.ones(2).is_inference(), made.is_inference(), x.is_inference()
y.clone().is_inference(), y[0].is_inference(), y.detach().is_inference(), (y + 1).is_inference()
of_x.is_inference(), inside_enable.requires_grad, inside_enable.is_inference()
enabled, m.is_inference_mode_enabled(), m.is_grad_enabled()
(x + y).requires_grad, (x + y).is_inference()
nested.requires_grad, nested.is_inference()
decorated(x).requires_grad, decorated(x).is_inference(), bare(x).is_inference()
written.requires_grad, written.is_inference()
x * y
(x / (y + 0).clone()).tolist(), (x * y.clone()).requires_grad
m.nn.functional.linear(x, y.reshape(1, 2))
y.add_(1)
y.__setitem__(0, 1.0)
y.requires_grad_()
y._version
y.backward()
x.register_hook(print) and 1
"""


def run(m, line):
    x = m.tensor([1.0, 2.0]).requires_grad_()
    written = x * 2
    with m.inference_mode():
        y, made, of_x = x * 2, m.ones(2), x[0]
        enabled = m.is_inference_mode_enabled(), m.is_grad_enabled()
        y.mul_(2)
        written.mul_(3)
        with m.enable_grad():
            inside_enable = x * 2
        with m.inference_mode(False):
            nested = x * 3
    names = {
        **locals(),
        "decorated": m.inference_mode()(lambda x: x * 2),
        "bare": m.inference_mode(lambda x: x * 2),
    }
    try:
        value = eval(line, names)
        return value.tolist() if hasattr(value, "detach") else value
    except RuntimeError:
        return "refused"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("line", INFERENCE.strip().splitlines())
def test_inference_mode(torch, line):
    assert run(tensorgrad, line) == run(torch, line)


def test_inference_mode_without_torch():
    x = leaf([1.0, 2.0])
    with tensorgrad.inference_mode():
        y = x * 2
        z = y.sum()
    assert y.is_inference()
    assert z.is_inference()
    assert not unusual
    with pytest.raises(RuntimeError, match="multiply: a tensor made in inference_mode cannot be"):
        x * y
    with pytest.raises(RuntimeError, match="add_: a tensor made in inference_mode is written"):
        y.add_(1)
    (x * y.clone()).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]

    @tensorgrad.inference_mode()
    def values():
        while True:
            yield tensorgrad.is_inference_mode_enabled()

    generator = values()
    assert next(generator)
    assert not tensorgrad.is_inference_mode_enabled()
    generator.close()
    assert not unusual
