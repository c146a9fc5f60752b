"""Saving and loading: what comes back is what was saved."""

from __future__ import annotations

import collections
import enum
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from round_trip import DTYPES, same, through_bytes

import nn
import tensorgrad
from tensorgrad import Tensor, optim
from tensorgrad.serialization import load, save

TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["$tensor", "$dict", "$tuple", "$float", "$", "", "__metadata__", "a.b", "requires_grad"]
)


PLAIN = st.none() | st.booleans() | st.integers() | st.integers(2**120, 2**130) | st.floats() | TEXT


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of all dtypes, 0-dim and empty ones included, and not contiguous ones."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    array = draw(hnp.arrays(draw(st.sampled_from(DTYPES)), shapes))
    tensor = tensorgrad.from_numpy(array)
    view = draw(st.sampled_from(["itself", "transposed", "steps", "backwards", "expanded"]))
    if view == "transposed":
        tensor = tensor.T
    elif view == "steps" and tensor.ndim:
        tensor = tensor[::2]
    elif view == "backwards" and tensor.ndim:
        tensor = tensorgrad.from_numpy(array[::-1])
    elif view == "expanded":
        tensor = tensor.expand(2, *tensor.shape)
    if tensor.is_floating_point() and draw(st.booleans()):
        tensor = tensor.detach().requires_grad_()
    return tensor


OBJECTS = st.recursive(
    PLAIN | tensors(),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.lists(parts, max_size=4).map(tuple)
        | st.dictionaries(TEXT, parts, max_size=4)
        | st.dictionaries(PLAIN, parts, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(OBJECTS)
def test_round_trip(obj: Any) -> None:
    assert same(through_bytes(obj), obj)


@settings(max_examples=50)
@given(OBJECTS)
def test_other_programs_read_the_tensors(obj: Any) -> None:
    """Each tensor is in the file once, with its values."""
    file = io.BytesIO()
    save(obj, file)
    stored = list(safetensors.numpy.load(file.getvalue()).values())
    distinct = {id(t): t for t in leaves(obj) if isinstance(t, Tensor)}
    expected = sorted(t.detach().numpy().tobytes() for t in distinct.values())
    assert sorted(array.tobytes() for array in stored) == expected


def leaves(obj: Any) -> list[Any]:
    if isinstance(obj, dict):
        obj = list(obj.values())
    return [x for part in obj for x in leaves(part)] if isinstance(obj, (list, tuple)) else [obj]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, tmp_path: Path) -> None:
    for shape in ((), (0,), (2, 0, 3), (5,), (2, 3)):
        values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        save(tensorgrad.from_numpy(values), tmp_path / "x")
        loaded = load(tmp_path / "x")
        assert loaded.dtype == dtype
        np.testing.assert_array_equal(loaded.numpy(), values, strict=True)


def test_plain_types_come_back() -> None:
    class Kind(enum.IntEnum):
        A = 3

    class Name(str, enum.Enum):
        B = "b"

    Point = collections.namedtuple("Point", "x y")
    for obj, expected in [
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, 2), (1, 2)),
        ({Kind.A: Name.B}, {3: "b"}),
        ({np.int64(2): [np.float64(0.5), np.float32(0.25), np.bool_(True), np.str_("s")]},
         {2: [0.5, 0.25, True, "s"]}),
    ]:  # fmt: skip
        assert same(through_bytes(obj), expected)


def test_a_parameter_becomes_a_tensor() -> None:
    loaded = through_bytes(nn.Linear(2, 1).weight)
    assert type(loaded) is Tensor
    assert loaded.requires_grad
    assert loaded.is_leaf


def test_a_result_is_saved_as_values() -> None:
    x = tensorgrad.tensor([1.0, 2.0], requires_grad=True)
    loaded = through_bytes(x * 2)
    assert loaded.tolist() == [2, 4]
    assert loaded.requires_grad
    assert loaded.is_leaf


def test_loaded_tensors_can_be_written() -> None:
    loaded = through_bytes({"a": tensorgrad.zeros(2), "b": tensorgrad.zeros(2)})
    loaded["a"] += 1
    assert (loaded["a"].tolist(), loaded["b"].tolist()) == ([1, 1], [0, 0])


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(kind: type, tmp_path: Path) -> None:
    path = tmp_path / "ä b.safetensors"
    save([1], kind(path))
    assert load(kind(path)) == [1]
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(TypeError):
        save(1, 5)
    with pytest.raises(TypeError):
        load(5)


def test_open_files(tmp_path: Path) -> None:
    obj = {"a": tensorgrad.arange(5), "empty": tensorgrad.zeros(0, 2), "b": tensorgrad.tensor(True)}
    with open(tmp_path / "x", "wb") as file:
        save(obj, file)
    save(obj, tmp_path / "y")
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    with open(tmp_path / "x", "rb") as file:
        assert same(load(file), obj)
    with (
        open(tmp_path / "x", encoding="latin-1") as text,
        pytest.raises(TypeError, match="x gives str: open it with mode 'rb'"),
    ):
        load(text)


# ------------------------------------------------------------------------------------ shared memory


def test_tied_weights_are_stored_once() -> None:
    model = nn.Sequential(nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False))
    model[1].weight = model[0].weight
    file = io.BytesIO()
    save(model.state_dict(), file)
    assert list(safetensors.numpy.load(file.getvalue())) == ["0.weight"]
    loaded = load(io.BytesIO(file.getvalue()))
    assert list(loaded) == ["0.weight", "1.weight"]
    loaded["0.weight"].zero_()
    assert not loaded["1.weight"].any()


def test_sharing_is_of_what_is_seen() -> None:
    """The same values in other memory, or other values of the same memory, are not the same."""
    x = tensorgrad.arange(4).float().reshape(2, 2)
    bits = tensorgrad.from_numpy(x.numpy().view(np.int32))
    loaded = through_bytes([x, x.detach(), x.clone(), x.T, x[0], x.flatten(), bits])
    first, same_memory, *others = loaded
    first[0, 1] = 9
    assert same_memory.tolist() == [[0, 9], [2, 3]]
    expected = [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [0, 1], [0, 1, 2, 3], bits.tolist()]
    assert [other.tolist() for other in others] == expected


def test_nothing_is_not_shared() -> None:
    obj = [tensorgrad.zeros(0, 2), tensorgrad.zeros(3, 0).long(), tensorgrad.zeros(0, 2)]
    loaded = through_bytes(obj)
    assert same(loaded, obj)
    assert loaded[0] is not loaded[2]


def test_sharing_with_and_without_grad() -> None:
    x = tensorgrad.ones(2, requires_grad=True)
    a, b, c = through_bytes([x.detach(), x, x])
    assert (a.requires_grad, b.requires_grad) == (False, True)
    assert b is c
    a.fill_(5)
    assert b.tolist() == [5, 5]
    y = (b * b).sum()
    a.fill_(6)  # the backward pass must notice, as with any two views
    with pytest.raises(RuntimeError, match="overwritten"):
        y.backward()


def test_names_that_would_clash() -> None:
    t = [tensorgrad.tensor(float(i)) for i in range(7)]
    obj = {"a": {"b": t[0], 0: t[1]}, "a.b": t[2], "a.0": t[3], "__metadata__": t[4],
           "a.b~2": t[5], "\ud800": t[6]}  # fmt: skip
    assert same(through_bytes(obj), obj)


def test_tensors_that_live_only_while_they_are_saved() -> None:
    """Memory that one has left can be another's: that does not make them the same."""

    class Fresh(list):
        def __iter__(self) -> Any:
            return (tensorgrad.full((5, 1), float(i)).expand(5, 9) for i in range(20))

    assert [t[0, 0].item() for t in through_bytes(Fresh())] == list(range(20))


# ------------------------------------------------------------------------------------- real objects


def test_training_goes_on(tmp_path: Path) -> None:
    """A model, an optimizer and a generator that were loaded do what the first would have done."""

    def setup() -> tuple[nn.Module, optim.AdamW, tensorgrad.Generator]:
        tensorgrad.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        return model, optim.AdamW(model.parameters(), lr=0.1), tensorgrad.Generator(1)

    def steps(model: nn.Module, optimizer: optim.AdamW, generator: tensorgrad.Generator) -> None:
        for _ in range(2):
            optimizer.zero_grad()
            (model(tensorgrad.randn(8, 3, generator=generator)) ** 2).mean().backward()
            optimizer.step()

    first = model, optimizer, generator = setup()
    steps(*first)
    states = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": generator.get_state(),
        "step": 2,
    }
    save(states, tmp_path / "run")
    steps(*first)

    second = model2, optimizer2, generator2 = setup()
    saved = load(tmp_path / "run")
    assert all(type(k) is int for k in saved["optimizer"]["state"])
    model2.load_state_dict(saved["model"])
    optimizer2.load_state_dict(saved["optimizer"])
    generator2.set_state(saved["random"])
    steps(*second)
    assert same(model2.state_dict(), model.state_dict())
    assert same(optimizer2.state_dict(), optimizer.state_dict())
