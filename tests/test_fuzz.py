"""Differential fuzzing in short: a fixed number of drawn cases of every function (see fuzz/).

``make fuzz`` runs the long mode. What it finds, and was mended, stands in FOUND.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from fuzz.compare import close, difference
from fuzz.programs import drawn_program
from fuzz.specs import SPECS, common_forms, drawn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tensorgrad
from tensorgrad import functions, linalg

CASES = 8  # of each function
short = partial(
    settings,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking takes minutes; the line is short, and the long mode
)  # prints the shortest of many


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for table in SPECS.values() for name in table])
def test_function(torch, name):
    if not common_forms(name)[0]:
        pytest.skip(f"there is no {name} yet")

    @short(max_examples=CASES)
    @given(st.data())
    def check(data):
        line = drawn(data.draw, name)
        assert difference(line) is None, line

    check()


@pytest.mark.torch
@short(max_examples=60)
@given(st.data())
def test_programs(torch, data):
    line = drawn_program(data.draw)
    assert difference(line, stop=False) is None, line


# One line for each disagreement that was found: the same statements on both give the same.
FOUND = """
x = t('bool', (3,), 0); out = m.sign(x)
x = m.tensor([nan, -inf, 0.0]); out = x.sign(); y = x.abs()
x = m.tensor([nan, 1.0]).requires_grad_(); out = x.abs()
x = t('bool', (2,), 0); out = m.square(x)
x = t('int64', (2,), 1); out = x.floor(); out += 1
x = t('int64', (2,), 1); out = x.ceil(); y = x.trunc(); z = x.round()
x = t('float32', (2,), 1); out = m.bitwise_not(x)
x = t('float32', (2,), 1); out = ~x
x = t('bool', (2,), 1); out = m.round(x, decimals=2)
x = m.tensor([nan, 1.0, 2.0]).requires_grad_(); y = m.ones(3).requires_grad_(); out = x.maximum(y)
x = m.tensor([nan, 1.0, 2.0]).requires_grad_(); y = m.ones(3).requires_grad_(); out = x.minimum(y)
x = m.zeros(2).requires_grad_(); y = m.tensor([0.0, 1.0]).requires_grad_(); out = m.atan2(x, y)
x = m.tensor([1.0, inf]).requires_grad_(); y = m.tensor([inf, 1.0]); out = m.logaddexp(x, y)
x = t('uint8', (2,), 1); y = t('bool', (2,), 1); out = x.masked_fill(y, -1.5)
x = t('int64', (3,), 0); out = 3 % m.tensor([0, 1])
x = t('int64', (3,), 0); out = m.tensor([1, 2]).fmod(m.tensor([0, 1]))
x = m.tensor([1, 2]); out = x.div(m.tensor([0, 1]), rounding_mode='trunc')
x = m.tensor([1, -1, 2, 0, -3]); out = x ** m.tensor([-1, -3, -2, -1, 2])
x = m.tensor([1, 2]); out = m.add(x, x, alpha=0.5)
x = m.ones(2).requires_grad_(); y = m.zeros(2); out = m.div(x, y, rounding_mode='trunc')
x = m.ones(2).requires_grad_(); y = m.zeros(2); out = m.div(x, y, rounding_mode='floor')
x = m.tensor([0.5]).requires_grad_(); y = m.tensor([-1.0]); out = x.trunc().pow(y)
x = m.ones(3).requires_grad_(); y = x * 2; out = y.div_(x, rounding_mode='floor')
x = m.ones(3).requires_grad_(); y = x * 2; out = y.lerp_(x, y)
x = m.ones(2); out = x.fill_(m.ones(2, 1))
x = t('uint8', (2,), 1); out = x.fill_(-1)
x = t('int32', (), 1); out = x.add(3, alpha=-1); y = x.sub(3, alpha=2); z = m.rsub(x, 3, alpha=2)
x = m.ones(2, 3).requires_grad_(); y = x.narrow(1, 0, 0); out = y.div_(2)
x = m.ones(3).requires_grad_(); out = x.flatten(); y = out.requires_grad
x = m.tensor([-128, 127], dtype=m.int8); out = x.logit()
x = m.ones(2); y = t('uint8', (2,), 1); out = x.add(y, alpha=-1); z = x.sub(y, alpha=3)
x = t('uint8', (2,), 1); out = x + -1; y = -1 * x; z = x == -1
x = t('uint8', (3,), 1); out = x.index_fill(0, i(0, 2, (1,), 1), -1); x[2] = -1
x = t('uint8', (3,), 1); out = x ** -1
x = m.tensor([0.0, 0.0, 2.0]); y = m.tensor([-1.0, 2.0, 3.0]).requires_grad_(); out = x ** y
x = m.tensor([1.0, -2.0]).requires_grad_(); y = m.tensor([-1.0]); out = x.maximum(y).sqrt()
x = m.tensor([1.0, -2.0]).requires_grad_(); y = m.tensor([-1.0]); out = x.minimum(y).sqrt()
x = m.zeros(0, 2); out = x.chunk(3)
x = m.zeros(()); out = x.unflatten(0, (-1,))
""".strip().splitlines()


@pytest.mark.torch
@pytest.mark.parametrize("line", FOUND)
def test_what_was_found(torch, line):
    assert difference(line) is None


# --- the fuzzer itself ----------------------------------------------------------------------------

COVERED = {name.rpartition(".")[2] for table in SPECS.values() for name in table}
OTHERWISE = {
    "embedding": "nn.functional's, with the arguments in another order: test_layers.py",
    **dict.fromkeys(
        ["byte", "char", "cpu", "cuda", "is_complex", "is_nonzero", "is_signed", "is_tensor"],
        "casts and facts: test_dtypes.py",
    ),
    **dict.fromkeys(
        ["gcd", "heaviside", "lcm", "ldexp", "rsub", "sinc"], "as a table: test_elementwise.py"
    ),
    "as_strided": "refused: test_shapes.py",
}


def test_every_function_has_a_spec():
    """Under its own name, or under another name for the same function."""
    names = {*functions.__all__, *functions.METHODS, *linalg.METHODS}
    sources = (tensorgrad, tensorgrad.Tensor)
    objects = {id(getattr(m, name)) for m in sources for name in COVERED if hasattr(m, name)}

    def covered(name):
        function = getattr(tensorgrad, name, None) or getattr(tensorgrad.Tensor, name)
        return name in COVERED or id(function) in objects or name in OTHERWISE

    assert not [name for name in sorted(names) if not covered(name)]
    assert not set(OTHERWISE) & COVERED


PLANTED = {
    "a value": ("exp", lambda x: tensorgrad.ops.exp(x) * 1.001),
    "a dtype": ("exp", lambda x: tensorgrad.ops.exp(x).double()),
    "a shape": ("exp", lambda x: tensorgrad.ops.exp(x)[None]),
    "an error": ("exp", lambda x: tensorgrad.ops.exp(x) + x.nothing),
    "a gradient": ("exp", lambda x: tensorgrad.ops.exp(x.detach()) + 0 * x),
    "a view": ("squeeze", lambda x: x.clone()),
    "a copy": ("exp", lambda x: x),
}


@pytest.mark.torch
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_error_is_found(torch, monkeypatch, what):
    name, wrong = PLANTED[what]
    line = f"x = t('float32', (2,), 1, 'normal', '').requires_grad_(); out = m.{name}(x)"
    monkeypatch.setattr(tensorgrad, name, wrong, raising=False)
    assert difference(line)


def test_what_counts_as_close():
    a = np.array([1.0, np.nan, np.inf])
    assert close(a, a, 1e-9)
    assert not close(a, np.array([1.0, np.nan, -np.inf]), 1e-9)
    assert not close(a, np.array([1.0, 1.0, np.inf]), 1e-9)
    assert not close(a, np.array([1.001, np.nan, np.inf]), 1e-4)
    assert close(np.array([1e6, 0.0]), np.array([1e6, 1e-4]), 1e-9)  # of the largest around
