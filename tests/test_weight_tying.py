"""One parameter under two names stays one, whatever is done to the model.

Every program runs on PyTorch and on tensorgrad and notes what it finds: the notes must be equal,
and say that the weights are tied.
"""

from __future__ import annotations

import copy
import importlib
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tensorgrad
import tensorgrad.nn

PROGRAMS: dict[str, Callable] = {}


def program(function: Callable) -> Callable:
    PROGRAMS[function.__name__] = function
    return function


def language_model(m: ModuleType) -> Any:
    """An embedding, and an output layer with the same weight: [5 tokens, 3 wide]."""

    class Model(m.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = m.nn.Embedding(5, 3)
            self.body = m.nn.Sequential(m.nn.Linear(3, 3), m.nn.Tanh())
            self.output = m.nn.Linear(3, 5, bias=False)
            self.output.weight = self.embedding.weight

        def forward(self, tokens: Any) -> Any:
            return self.output(self.body(self.embedding(tokens)))

    return filled(m, Model())


def filled(m: ModuleType, model: Any) -> Any:
    """The same values in both libraries."""
    with m.no_grad():
        for i, p in enumerate(model.parameters()):
            values = np.cos(np.arange(p.numel()) + i).reshape(tuple(p.shape))
            p.copy_(m.tensor(values.astype("float32")))
    return model


def is_tied(model: Any) -> bool:
    return model.output.weight is model.embedding.weight


def loss(m: ModuleType, model: Any) -> Any:
    tokens = m.tensor([[0, 3, 1]])
    return m.nn.functional.cross_entropy(model(tokens)[0], m.tensor([3, 1, 4]))


def note(notes: list, m: ModuleType, model: Any) -> None:
    """Whether it is tied, the value of the loss, and the gradient that both uses add to."""
    model.zero_grad()
    value = loss(m, model)
    value.backward()
    notes.append((is_tied(model), value.item(), model.embedding.weight.grad.tolist()))


@program
def counted_once(m, notes):
    model = language_model(m)
    notes.append([name for name, _ in model.named_parameters()])
    notes.append([name for name, _ in model.named_parameters(remove_duplicate=False)])
    notes.append(sum(p.numel() for p in model.parameters()))
    notes.append([(k, tuple(v.shape)) for k, v in model.state_dict().items()])
    note(notes, m, model)


@program
def tied_the_other_way(m, notes):
    model = language_model(m)
    model.output = m.nn.Linear(3, 5)
    model.embedding.weight = model.output.weight
    notes.append([name for name, _ in model.named_parameters()])
    note(notes, m, filled(m, model))


@program
def loaded(m, notes):
    model, other = language_model(m), language_model(m)
    with m.no_grad():
        model.embedding.weight += 1
    notes.append(str(other.load_state_dict(model.state_dict())))
    note(notes, m, other)
    notes.append(other.embedding.weight is not model.embedding.weight)


@program
def loaded_at_odds(m, notes):
    """Two values for one parameter: the last one counts."""
    model = language_model(m)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["output.weight"] += 1
    model.load_state_dict(state)
    note(notes, m, model)


@program
def loaded_under_one_name(m, notes):
    model = language_model(m)
    state = {k: v * 2 for k, v in model.state_dict().items() if k != "output.weight"}
    result = model.load_state_dict(state, strict=False)
    notes.append((result.missing_keys, result.unexpected_keys))
    note(notes, m, model)
    with pytest.raises(RuntimeError, match=r"output\.weight"):
        model.load_state_dict(state)


@program
def cast(m, notes):
    model = language_model(m)
    loss(m, model).backward()
    for casting in (
        lambda: model.double(), lambda: model.float(), lambda: model.to(m.float64),
        lambda: model.to("cpu"), lambda: model.half().float(), lambda: model.cpu(),
    ):  # fmt: skip
        casting()
        notes.append(is_tied(model))
        notes.append(len(list(model.parameters())))
    note(notes, m, model.double())


@program
def copied(m, notes):
    model = copy.deepcopy(language_model(m))
    note(notes, m, model)
    shallow = copy.copy(model)
    notes.append(is_tied(shallow) and shallow.output.weight is model.output.weight)
    stack = m.nn.ModuleList(copy.deepcopy(model) for _ in range(2))
    notes.append([is_tied(each) for each in stack])
    notes.append(stack[0].output.weight is stack[1].output.weight)


@program
def frozen(m, notes):
    model = language_model(m)
    model.output.requires_grad_(False)
    notes.append((model.embedding.weight.requires_grad, is_tied(model)))
    notes.append([n for n, p in model.named_parameters() if p.requires_grad])


@pytest.mark.filterwarnings("ignore:.*duplicate")
@program
def optimised(m, notes):
    """Each step moves it once; and its state is there once."""
    for make in (
        lambda ps: m.optim.SGD(ps, lr=0.1, momentum=0.9),
        lambda ps: m.optim.AdamW(ps, lr=0.1, weight_decay=0.1),
    ):
        model = language_model(m)
        optimizer = make(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            loss(m, model).backward()
            norm = m.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        notes.append((norm.item(), len(optimizer.state), len(optimizer.param_groups[0]["params"])))
        note(notes, m, model)


@program
def in_two_groups(m, notes):
    model = language_model(m)
    with pytest.raises(ValueError, match=r"more than one|twice"):
        m.optim.SGD([{"params": [model.embedding.weight]}, {"params": [model.output.weight]}], lr=1)


@program
def as_a_vector(m, notes):
    model = language_model(m)
    utils = m.nn.utils
    vector = utils.parameters_to_vector(model.parameters())
    notes.append(vector.numel())
    utils.vector_to_parameters(vector.detach() * 2, model.parameters())
    note(notes, m, model)


@program
def saved(m, notes):
    """Through a file: tied in the file too, so that a model that is not tied loads it as well."""
    model = language_model(m)
    file = io.BytesIO()
    m.save(model.state_dict(), file)
    file.seek(0)
    state = m.load(file)
    state["embedding.weight"][0, 0] = 7.0
    notes.append(state["output.weight"][0, 0].item())
    other = language_model(m)
    other.load_state_dict(state)
    note(notes, m, other)
    other.output.weight = m.nn.Parameter(m.zeros(5, 3))
    other.load_state_dict(state)
    note(notes, m, other)


@program
def untied(m, notes):
    model = language_model(m)
    model.output.weight = m.nn.Parameter(model.embedding.weight.detach().clone())
    note(notes, m, model)
    notes.append([name for name, _ in model.named_parameters()])


def run(name: str, lib: str) -> list:
    notes: list = []
    PROGRAMS[name](importlib.import_module(lib), notes)
    return notes


def equal(a: Any, b: Any) -> bool:
    if isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == pytest.approx(b, rel=1e-5, abs=1e-6) if isinstance(b, float) else a == b


@pytest.mark.torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_tied_weights(torch: ModuleType, name: str) -> None:
    ours, theirs = run(name, "tensorgrad"), run(name, "torch")
    assert equal(ours, theirs), f"{ours}\n{theirs}"


@pytest.mark.parametrize("name", ["loaded", "cast", "copied", "optimised", "saved"])
def test_they_stay_tied(name: str) -> None:
    notes = run(name, "tensorgrad")
    found = [note[0] for note in notes if isinstance(note, tuple) and len(note) == 3]
    assert True in found


def test_a_model_is_saved_and_comes_back_tied() -> None:
    model = language_model(tensorgrad)
    assert is_tied(model)
    file = io.BytesIO()
    tensorgrad.save(model.state_dict(), file)
    size = file.tell()
    model.output.weight = tensorgrad.nn.Parameter(model.embedding.weight.detach().clone())
    file = io.BytesIO()
    tensorgrad.save(model.state_dict(), file)
    assert file.tell() >= size + 15 * 4  # stored once while tied


def test_assigning_a_state_keeps_them_tied() -> None:
    """Where PyTorch makes two parameters of one, which then have a gradient each."""
    model = language_model(tensorgrad)
    state = {k: v.double() for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert is_tied(model)
    assert model.output.weight.dtype == tensorgrad.float64
    assert np.shares_memory(model.output.weight.detach().numpy(), state["output.weight"].numpy())
