"""Samples become batches: collating, and the loader.

The truth is PyTorch's documentation of ``torch.utils.data``, written as expectations; a test that
takes ``lib`` runs them on ``tensorgrad`` and, where it is installed, on ``torch`` itself, so that
no expectation can be wrong about torch.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict, UserList, defaultdict, namedtuple
from collections.abc import Iterator
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest
from data_twins import plain, stream_of
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad
from tensorgrad.utils import data as ours


@pytest.fixture
def data(lib: ModuleType) -> ModuleType:
    return importlib.import_module(f"{lib.__name__}.utils.data")


Point = namedtuple("Point", "x y")


SAMPLES = {
    "ints": [1, 2, 3],
    "bools": [True, False],
    "floats": [1.5, 2.0],
    "int first": [1, 2.5],
    "float first": [2.5, 1],
    "strings": ["a", "b"],
    "bytes": [b"a", b"bc"],
    "arrays": [np.arange(3), np.zeros(3, np.int64)],
    "0-dim arrays": [np.array(1.5), np.array(2.5)],
    "mixed arrays": [np.array([1]), np.array([2.5], np.float32)],
    "small arrays": [np.ones((2, 0), np.int8), np.ones((2, 0), np.int8)],
    "numpy scalars": [np.float32(1), np.float32(2)],
    "numpy floats": [np.float64(1), np.float64(2)],
    "numpy bools": [np.bool_(True), np.bool_(False)],
    "numpy strings": [np.str_("a"), np.str_("b")],
    "lists": [[1, 2.0], [3, 4.0]],
    "tuples": [(1, "a"), (2, "b")],
    "empty lists": [[], []],
    "named tuples": [Point(1, [2]), Point(3, [4])],
    "dicts": [{"x": 1, "y": (2, 3)}, {"y": (4, 5), "x": 6}],
    "more keys": [{"x": 1}, {"x": 2, "y": 3}],
    "ordered dicts": [OrderedDict(x=1), OrderedDict(x=2)],
    "default dicts": [defaultdict(list, x=1), defaultdict(list, x=2)],
    "frozen dicts": [MappingProxyType({"x": 1}), MappingProxyType({"x": 2})],
    "lists of another type": [UserList([1, 2]), UserList([3, 4])],
    "ranges": [range(2), range(1, 3)],
    "nested": [{"a": [(np.float32(1), [True])]}, {"a": [(np.float32(2), [False])]}],
    "one": [{"a": [1, "x"]}],
}


@pytest.mark.torch
@pytest.mark.parametrize("batch", SAMPLES.values(), ids=SAMPLES)
def test_collate_is_torchs(batch: list) -> None:
    from torch.utils.data import default_collate

    collated = ours.default_collate(batch)
    assert plain(collated) == plain(default_collate(batch))
    if isinstance(collated, defaultdict):
        assert collated.default_factory is list


@pytest.mark.torch
@pytest.mark.parametrize("batch", SAMPLES.values(), ids=SAMPLES)
def test_convert_is_torchs(batch: list) -> None:
    from torch.utils.data import default_convert

    for sample in (batch, *batch, tuple(batch), [None, np.array(["a"])]):
        found, expected = ours.default_convert(sample), default_convert(sample)
        assert repr(plain(found)) == repr(plain(expected))


def test_collate(lib: ModuleType, data: ModuleType) -> None:
    """What the comparison above relies on, in plain words."""
    collated = data.default_collate([{"a": (1, 0.5, "x")}, {"a": (2, 1.5, "y")}])
    ints, floats, strings = collated["a"]
    assert plain(ints) == ("int64", [1, 2])
    assert plain(floats) == ("float64", [0.5, 1.5])
    assert strings == ("x", "y")


def test_collate_tensors(lib: ModuleType, data: ModuleType) -> None:
    for dtype in ("float16", "float32", "int64", "uint8", "bool"):
        rows = [lib.ones(2, 3, dtype=getattr(lib, dtype)) for _ in range(4)]
        batch = data.default_collate(rows)
        assert tuple(batch.shape) == (4, 2, 3)
        assert plain(batch)[0] == dtype
        batch[0, 0, 0] = 0  # the samples are copied
        assert rows[0].all()
    mixed = data.default_collate([lib.tensor([1]), lib.tensor([0.5])])
    assert plain(mixed) == ("float32", [[1], [0.5]])


def test_collate_keeps_the_history(lib: ModuleType, data: ModuleType) -> None:
    x = lib.ones(2, requires_grad=True)
    (data.default_collate([x, lib.ones(2), x * 2]) * 3).sum().backward()
    assert x.grad.tolist() == [9, 9]


@pytest.mark.parametrize(
    ("batch", "kind", "complaint"),
    [
        ([np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(4)], RuntimeError,
         r"samples 0 and 2 have the shapes \(2, 3\) and \(4,\), and a batch needs them equal"),
        ([{"x": [tensorgrad.zeros(2)]}, {"x": [tensorgrad.zeros(3)]}], RuntimeError,
         r"samples 0 and 1 have the shapes \(2,\) and \(3,\) at \['x'\]\[0\], and"),
        ([(1, [2]), (1, [2, 3])], RuntimeError, r"have the lengths 1 and 2 at \[1\], and a batch"),
        ([{"x": 1}, {}], KeyError, r"sample 1 lacks \['x'\]"),
        ([None, None], TypeError, "samples are of type NoneType; a batch can be made of"),
        ([{"x": {1}}], TypeError, r"samples at \['x'\] are of type set"),
        ([tensorgrad.zeros(1), 2], TypeError, "sample 0 is a Tensor and sample 1 a int"),
        ([[1], 2], TypeError, "sample 0 is a list and sample 1 a int"),
        ([1, [2]], TypeError, "sample 0 is a int and sample 1 a list"),
        ([{"a": 1}, [2]], TypeError, "sample 0 is a dict and sample 1 a list"),
        ([np.array(["a"]), np.array(["b"])], TypeError, "tensors have no dtype <U1"),
        ([], ValueError, "the batch is empty"),
    ],
)  # fmt: skip
def test_cannot_be_collated(batch: list, kind: type, complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        ours.default_collate(batch)


# --------------------------------------------------------------------------------------- the loader


@settings(max_examples=60)
@given(st.integers(0, 20), st.integers(1, 8), st.booleans(), st.booleans())
@pytest.mark.torch
def test_batches_are_torchs(n: int, batch_size: int, drop_last: bool, streams: bool) -> None:
    import torch.utils.data as theirs

    found = []
    for module in (ours, theirs):
        dataset = stream_of(module, n) if streams else [(i, i / 2) for i in range(n)]
        loader = module.DataLoader(dataset, batch_size=batch_size, drop_last=drop_last)
        found.append([plain(batch) for batch in loader])
        if not streams:
            assert len(loader) == len(found[-1])
    assert found[0] == found[1]


def test_loader_of_tensors(lib: ModuleType, data: ModuleType) -> None:
    dataset = data.TensorDataset(lib.arange(10).reshape(5, 2), lib.arange(5))
    loader = data.DataLoader(dataset, batch_size=2)
    assert len(loader) == 3
    x, y = next(iter(loader))
    assert (x.tolist(), y.tolist()) == ([[0, 1], [2, 3]], [0, 1])
    assert [y.tolist() for _, y in loader] == [[0, 1], [2, 3], [4]]
    assert len(data.DataLoader(dataset, batch_size=2, drop_last=True)) == 2


def test_loader_of_a_list(data: ModuleType) -> None:
    loader = data.DataLoader([3, 1, 2])
    assert [batch.tolist() for batch in loader] == [[3], [1], [2]]
    assert list(data.DataLoader([])) == []
    assert len(data.DataLoader([])) == 0


def test_shuffle(lib: ModuleType, data: ModuleType) -> None:
    def order(loader: Any) -> list[int]:
        return [i for batch in loader for i in batch.tolist()]

    def loader(seed: int) -> Any:
        generator = lib.Generator().manual_seed(seed)
        return data.DataLoader(range(100), batch_size=7, shuffle=True, generator=generator)

    first = loader(1)
    epochs = [order(first), order(first)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(100))
    assert epochs[0] != epochs[1] != list(range(100))
    again = loader(1)
    assert [order(again), order(again)] == epochs
    assert order(loader(2)) != epochs[0]
    lib.manual_seed(3)
    default = order(data.DataLoader(range(100), batch_size=7, shuffle=True))
    lib.manual_seed(3)
    assert order(data.DataLoader(range(100), batch_size=7, shuffle=True)) == default


def test_an_epoch_can_be_repeated(lib: ModuleType, data: ModuleType) -> None:
    generator = lib.Generator()
    loader = data.DataLoader(range(50), batch_size=8, shuffle=True, generator=generator)
    list(loader)
    state = generator.get_state()
    epochs = [[b.tolist() for b in loader] for _ in range(2)]
    generator.set_state(state)
    assert [[b.tolist() for b in loader] for _ in range(2)] == epochs


def test_an_epoch_takes_one_draw() -> None:
    """So that how far a batch is looked at, or what is drawn between batches, changes nothing."""
    generator = tensorgrad.Generator(0)
    loader = ours.DataLoader(range(50), batch_size=8, shuffle=True, generator=generator)
    undisturbed = [b.tolist() for b in loader]
    state = generator.get_state()
    generator.manual_seed(0)
    disturbed = []
    batches = iter(loader)
    disturbed.append(next(batches).tolist())
    assert generator.get_state().equal(state)
    tensorgrad.rand(3, generator=generator)
    disturbed += [b.tolist() for b in batches]
    assert disturbed == undisturbed


def test_two_passes_at_once(data: ModuleType) -> None:
    loader = data.DataLoader(range(4), batch_size=2)
    assert [(a.tolist(), b.tolist()) for a, b in zip(loader, loader)] == [
        ([0, 1], [0, 1]),
        ([2, 3], [2, 3]),
    ]


def test_samplers_of_ones_own(data: ModuleType) -> None:
    loader = data.DataLoader("abcdef", batch_size=2, sampler=[5, 0, 0])
    assert list(loader) == [["f", "a"], ["a"]]
    assert len(loader) == 2
    loader = data.DataLoader("abcdef", batch_sampler=[[0], [1, 2, 3]])
    assert list(loader) == [["a"], ["b", "c", "d"]]
    assert len(loader) == 2
    assert loader.batch_size is None
    loader = data.DataLoader({"k": 1, "l": 2}, sampler=["l", "k", "l"], batch_size=3)
    assert next(iter(loader)).tolist() == [2, 1, 2]
    endless = data.DataLoader(range(3), batch_size=2, sampler=iter([1, 2, 0]))
    with pytest.raises(TypeError):
        len(endless)
    assert [b.tolist() for b in endless] == [[1, 2], [0]]


def test_without_batches(lib: ModuleType, data: ModuleType) -> None:
    loader = data.DataLoader([np.zeros(2), "a", 3, (1, np.ones(1))], batch_size=None)
    assert len(loader) == 4
    array, text, number, pair = loader
    assert plain(array) == ("float64", [0, 0])
    assert (text, number) == ("a", 3)
    assert plain(pair) == (list, [1, ("float64", [1])])
    # The indices of a batch as one index: a single read instead of one for each sample.
    dataset = data.TensorDataset(lib.arange(5))
    batches = data.BatchSampler(data.SequentialSampler(dataset), 2, False)
    loader = data.DataLoader(dataset, sampler=batches, batch_size=None)
    assert [x.tolist() for (x,) in loader] == [[0, 1], [2, 3], [4]]


def test_streams(data: ModuleType) -> None:
    loader = data.DataLoader(stream_of(data, 5), batch_size=2)
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3], [4]]
    with pytest.raises(TypeError):
        len(loader)
    single = data.DataLoader(stream_of(data, 3), batch_size=None)
    assert list(single) == [0, 1, 2]
    sized = stream_of(data, 5)
    type(sized).__len__ = lambda self: 5
    assert len(data.DataLoader(sized, batch_size=2)) == 3
    assert len(data.DataLoader(sized, batch_size=2, drop_last=True)) == 2
    assert len(data.DataLoader(sized, batch_size=None)) == 5


def test_streams_are_read_when_needed() -> None:
    """A batch of an endless stream, and no sample more."""
    read = []

    class Endless(ours.IterableDataset):
        def __iter__(self) -> Iterator[int]:
            while True:
                read.append(len(read))
                yield read[-1]

    assert next(iter(ours.DataLoader(Endless(), batch_size=3))).tolist() == [0, 1, 2]
    assert read == [0, 1, 2]


def test_collate_fn(data: ModuleType) -> None:
    assert list(data.DataLoader([[1], [1, 2]], batch_size=2, collate_fn=len)) == [2]
    assert list(data.DataLoader([[1], [1, 2]], batch_size=None, collate_fn=len)) == [1, 2]


WRONG: list[tuple[dict, str]] = [
    ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ({"batch_size": 2.0}, "batch_size must be an integer of at least 1, got 2.0"),
    ({"batch_size": None, "drop_last": True}, "drop_last has no meaning without batches"),
    ({"sampler": [0], "shuffle": True}, "a sampler says the order"),
    ({"batch_sampler": [[0]], "batch_size": 2}, "a batch_sampler says what each batch is"),
    ({"batch_sampler": [[0]], "shuffle": True}, "a batch_sampler says what each batch is"),
    ({"batch_sampler": [[0]], "sampler": [0]}, "a batch_sampler says what each batch is"),
    ({"batch_sampler": [[0]], "drop_last": True}, "a batch_sampler says what each batch is"),
]


@pytest.mark.parametrize(("arguments", "complaint"), WRONG)
def test_wrong_loader(arguments: dict, complaint: str, lib: ModuleType, data: ModuleType) -> None:
    with pytest.raises(ValueError, match=complaint if lib is tensorgrad else None):
        data.DataLoader(range(3), **arguments)


@pytest.mark.parametrize(
    "arguments", [{"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}]
)
def test_streams_have_their_own_order(arguments: dict, lib: ModuleType, data: ModuleType) -> None:
    complaint = "come in its own order" if lib is tensorgrad else None
    with pytest.raises(ValueError, match=complaint):
        data.DataLoader(stream_of(data, 3), **arguments)


def test_what_is_no_dataset() -> None:
    with pytest.raises(TypeError, match="a generator has no samples by index; subclass Dataset or"):
        ours.DataLoader(i for i in range(3))


@pytest.mark.parametrize("workers", [1, 4, -1, None])
def test_there_are_no_workers(workers: Any) -> None:
    with pytest.raises(ValueError, match=f"num_workers is {workers}, and there are no workers"):
        ours.DataLoader(range(3), num_workers=workers)
    assert len(ours.DataLoader(range(3), num_workers=0)) == 3


@pytest.mark.parametrize("name", ["dataset", "batch_size", "sampler", "batch_sampler", "drop_last"])
def test_what_a_loader_is_made_of_stays(name: str, data: ModuleType) -> None:
    loader = data.DataLoader(range(3))
    with pytest.raises(ValueError, match=name):
        setattr(loader, name, 2)


@pytest.mark.torch
def test_attributes_are_torchs(torch: ModuleType) -> None:
    from torch.utils import data as theirs

    for arguments in ({}, {"batch_size": None}, {"batch_sampler": [[0]]}, {"shuffle": True},
                      {"sampler": [1]}, {"batch_size": 3, "drop_last": True}):  # fmt: skip
        found, expected = (m.DataLoader(range(3), **arguments) for m in (ours, theirs))
        for name in ("batch_size", "drop_last", "num_workers"):
            assert getattr(found, name) == getattr(expected, name)
        for name in ("sampler", "batch_sampler", "collate_fn"):
            kinds = [type(getattr(loader, name)).__name__ for loader in (found, expected)]
            assert kinds[0] == kinds[1]


def test_training_with_a_loader() -> None:
    """A line is found from shuffled batches."""
    import nn
    from tensorgrad.optim import AdamW

    tensorgrad.manual_seed(0)
    x = tensorgrad.randn(64, 2)
    y = x @ tensorgrad.tensor([[2.0], [-1.0]]) + 0.5
    model = nn.Linear(2, 1)
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0)
    loader = ours.DataLoader(ours.TensorDataset(x, y), batch_size=16, shuffle=True)
    for _ in range(60):
        for inputs, targets in loader:
            optimizer.zero_grad()
            ((model(inputs) - targets) ** 2).mean().backward()
            optimizer.step()
    np.testing.assert_allclose(model.weight.detach().numpy(), [[2, -1]], atol=1e-2)
    np.testing.assert_allclose(model.bias.detach().numpy(), [0.5], atol=1e-2)
