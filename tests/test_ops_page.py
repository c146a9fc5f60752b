"""docs/ops.md says what the registry says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tensorgrad import ops
from tensorgrad.core import registry

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ops", DOCS / "make_ops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(maker: ModuleType) -> str:
    return maker.page()


def test_the_page_is_current(page):
    assert page == (DOCS / "ops.md").read_text(encoding="utf-8"), "run: make ops"


def test_every_op_has_a_row(page):
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert sorted(row[3:].partition("(")[0] for row in rows) == sorted(registry)


def test_formulas_are_those_of_the_source(maker):
    """Two lambdas on one line are told apart, helpers and long formulas shown whole."""
    multiply = registry["multiply"].formulas
    assert maker.formula(multiply["a"]) == "g * b"
    assert maker.formula(multiply["b"]) == "g * a"
    assert maker.formula(ops.tanh.op.forward) == "xp.tanh(x)"
    assert maker.formula(registry["softmax"].forward).splitlines() == [
        "e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))",
        "return e / xp.sum(e, axis=axis, keepdims=True)",
    ]
