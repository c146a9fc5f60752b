"""Datasets, samplers, batches and the loader.

The truth is PyTorch's documentation of ``torch.utils.data``, written as expectations; a test that
takes ``lib`` runs them on ``tensorgrad`` and, where it is installed, on ``torch`` itself, so that
no expectation can be wrong about torch.
"""

from __future__ import annotations

import importlib
import warnings
from collections import Counter, OrderedDict, UserList, defaultdict, namedtuple
from collections.abc import Iterator
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad
from tensorgrad.utils import data as ours


@pytest.fixture(params=["tensorgrad", pytest.param("torch", marks=pytest.mark.torch)])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def data(lib: ModuleType) -> ModuleType:
    return importlib.import_module(f"{lib.__name__}.utils.data")


def plain(value: Any) -> Any:
    """What there is to compare: tensors as (dtype, values), containers with their types."""
    if hasattr(value, "tolist"):
        return str(value.dtype).rpartition(".")[2], value.tolist()
    if hasattr(value, "items"):
        return type(value), [(k, plain(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple, UserList)):
        return type(value), [plain(v) for v in value]
    return value


Point = namedtuple("Point", "x y")


class Stream(ours.IterableDataset):
    """0, 1, ..., n - 1, without a length."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


def stream_of(data: ModuleType, n: int) -> Any:
    """The same for either library, which want a subclass of their own."""
    return type("Stream", (data.IterableDataset,), {"__iter__": lambda self: iter(range(n))})()


# --------------------------------------------------------------------------------------- datasets


def test_tensor_dataset(lib: ModuleType, data: ModuleType) -> None:
    dataset = data.TensorDataset(lib.arange(6).reshape(3, 2), lib.tensor([7, 8, 9]))
    assert len(dataset) == 3
    assert plain(dataset[1]) == (tuple, [("int64", [2, 3]), ("int64", 8)])
    assert plain(dataset[-1]) == (tuple, [("int64", [4, 5]), ("int64", 9)])
    assert plain(dataset[[2, 0]])[1][1] == ("int64", [9, 7])
    assert plain(dataset[1:])[1][1] == ("int64", [8, 9])
    with pytest.raises(IndexError):
        dataset[3]
    assert len(list(dataset)) == 3


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ([(3,), (2, 5)], r"same first size, got shapes \[\(3,\), \(2, 5\)\]"),
        ([], r"got shapes \[\]"),
        ([()], r"got shapes \[\(\)\]"),
    ],
)
def test_tensors_that_are_no_dataset(shapes: list[tuple], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ours.TensorDataset(*(tensorgrad.zeros(shape) for shape in shapes))


def test_subset(lib: ModuleType, data: ModuleType) -> None:
    dataset = data.TensorDataset(lib.arange(10))
    subset = data.Subset(dataset, [5, 3, 8])
    assert len(subset) == 3
    assert [x.item() for (x,) in subset] == [5, 3, 8]
    assert plain(subset[[0, 2]]) == (tuple, [("int64", [5, 8])])
    nested = data.Subset(subset, [2, 0])
    assert [x.tolist() for (x,) in data.DataLoader(nested, batch_size=2)] == [[8, 5]]


def test_concat(lib: ModuleType, data: ModuleType) -> None:
    joined = data.ConcatDataset([range(3), [], "ab", range(5, 6)])
    assert len(joined) == 6
    assert list(joined) == [0, 1, 2, "a", "b", 5]
    assert [joined[i] for i in (-1, -6)] == [5, 0]
    assert joined.cumulative_sizes == [3, 3, 5, 6]
    with pytest.raises(IndexError):
        joined[6]
    with pytest.raises((IndexError, ValueError)):
        joined[-7]
    one = data.TensorDataset(lib.arange(2))
    assert [x.item() for (x,) in one + one] == [0, 1, 0, 1]
    with pytest.raises((ValueError, AssertionError)):
        data.ConcatDataset([])
    with pytest.raises((TypeError, AssertionError)):
        data.ConcatDataset([[1], stream_of(data, 3)])


def test_what_a_subclass_must_define(data: ModuleType) -> None:
    with pytest.raises(NotImplementedError):
        data.Dataset()[0]
    with pytest.raises((NotImplementedError, TypeError)):
        iter(data.IterableDataset())
    with pytest.raises(NotImplementedError):
        iter(data.Sampler())
    with pytest.raises(TypeError):
        len(data.Dataset())


def test_samples_at_once(data: ModuleType) -> None:
    """``__getitems__`` gets the indices of a batch, through subsets too."""
    asked = []

    class Several(data.Dataset):
        def __len__(self) -> int:
            return 5

        def __getitems__(self, indices: list[int]) -> list[int]:
            asked.append(indices)
            return [10 * i for i in indices]

    subset = data.Subset(data.Subset(Several(), [4, 3, 2]), [2, 0, 1])
    assert [b.tolist() for b in data.DataLoader(subset, batch_size=2)] == [[20, 40], [30]]
    assert asked == [[2, 4], [3]]


def test_subset_that_changes_its_samples() -> None:
    """In torch it must define ``__getitems__`` as well; here that is not needed."""

    class Doubled(ours.Subset):
        def __getitem__(self, index: Any) -> Any:
            return 2 * super().__getitem__(index)

    (batch,) = ours.DataLoader(Doubled(range(10), [3, 4]), batch_size=2)
    assert batch.tolist() == [6, 8]


# ------------------------------------------------------------------------------------ random_split


@pytest.mark.parametrize(
    ("n", "lengths", "sizes"),
    [
        (10, [3, 7], [3, 7]),
        (10, [0, 10], [0, 10]),
        (10, [0.3, 0.7], [3, 7]),
        (10, [0.75, 0.25], [8, 2]),
        (11, [0.5, 0.25, 0.25], [6, 3, 2]),
        (14, [0.25, 0.25, 0.25, 0.25], [4, 4, 3, 3]),
        (100, [0.1] * 10, [10] * 10),
        (7, [1.0], [7]),
        (1, [1], [1]),
    ],
)
def test_random_split(n: int, lengths: list, sizes: list[int], data: ModuleType) -> None:
    source = list(range(100, 100 + n))
    parts = data.random_split(source, lengths)
    assert [len(part) for part in parts] == sizes
    assert all(isinstance(part, data.Subset) for part in parts)
    assert sorted(x for part in parts for x in part) == source


def test_random_split_is_random(lib: ModuleType, data: ModuleType) -> None:
    def split(seed: int) -> list[list[int]]:
        generator = lib.Generator().manual_seed(seed)
        return [list(part) for part in data.random_split(range(50), [20, 30], generator)]

    assert split(1) == split(1) != split(2)
    lib.manual_seed(5)
    first = [list(part) for part in data.random_split(range(50), [20, 30])]
    lib.manual_seed(5)
    assert [list(part) for part in data.random_split(range(50), [20, 30])] == first


@pytest.mark.parametrize("lengths", [[3, 6], [0.5, 0.4], [3, 8], [], [2.5, 7.5], [1.2, -0.2]])
def test_lengths_that_do_not_add_up(lengths: list, data: ModuleType) -> None:
    with pytest.raises((ValueError, TypeError)):  # torch slices with 2.5
        data.random_split(range(10), lengths)


def test_random_split_explains() -> None:
    with pytest.raises(ValueError, match=r"add up to the 10 samples .* 1, got \[3, 6\]"):
        ours.random_split(range(10), [3, 6])
    with pytest.raises(ValueError, match=r"no length can be negative, got \[-1, 11\]"):
        ours.random_split(range(10), [-1, 11])


def test_an_empty_part_is_warned_of(data: ModuleType) -> None:
    with pytest.warns(UserWarning, match=r"1.* 0|part 1, the fraction 0\.1 of 3 samples, is empty"):
        parts = data.random_split(range(3), [0.9, 0.1])
    assert [len(part) for part in parts] == [3, 0]


@pytest.mark.torch
@given(st.integers(1, 60), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_sizes_by_fraction_are_torchs(n: int, shares: list[int]) -> None:
    from torch.utils.data import random_split

    lengths = [share / sum(shares) for share in shares]
    if sum(lengths) > 1:  # torch takes no sum that rounding has made greater than 1
        lengths = [share / (sum(shares) * (1 + 1e-12)) for share in shares]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [len(part) for part in random_split(range(n), lengths)]
        assert [len(part) for part in ours.random_split(range(n), lengths)] == expected


def test_fractions_may_round_up() -> None:
    lengths = [0.7, 0.1, 0.1, 0.1 + 1e-12]
    assert sum(lengths) > 1
    assert [len(p) for p in ours.random_split(range(10), lengths)] == [7, 1, 1, 1]


# ----------------------------------------------------------------------------------------- samplers


def test_sequential(data: ModuleType) -> None:
    sampler = data.SequentialSampler("abcd")
    assert (len(sampler), list(sampler)) == (4, [0, 1, 2, 3])


@pytest.mark.parametrize("num_samples", [None, 1, 5, 6, 12, 33, 100])
def test_random_without_replacement(num_samples: int | None, data: ModuleType) -> None:
    """In 100 draws of 6 no index comes for the n-th time before each has come n - 1 times."""
    sampler = data.RandomSampler(range(6), num_samples=num_samples)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == sampler.num_samples == (num_samples or 6)
    for start in range(0, len(drawn), 6):
        part = drawn[start : start + 6]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(6))


@pytest.mark.parametrize("num_samples", [None, 1, 32, 33, 1000])
def test_random_with_replacement(num_samples: int | None, data: ModuleType) -> None:
    sampler = data.RandomSampler(range(6), replacement=True, num_samples=num_samples)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == (num_samples or 6)
    assert all(type(i) is int and 0 <= i < 6 for i in drawn)


@pytest.mark.parametrize("replacement", [False, True])
def test_the_generator_decides(replacement: bool, lib: ModuleType, data: ModuleType) -> None:
    def draw(seed: int) -> list[int]:
        generator = lib.Generator().manual_seed(seed)
        return list(data.RandomSampler(range(40), replacement, generator=generator))

    assert draw(1) == draw(1) != draw(2)


def test_draws_are_fair() -> None:
    """Each index at each place: 6,000 draws of 3, within 5 sigma."""
    for replacement in (False, True):
        sampler = ours.RandomSampler(range(3), replacement, generator=tensorgrad.Generator(0))
        counts = Counter(place for _ in range(6000) for place in enumerate(sampler))
        assert len(counts) == 9
        assert all(abs(n - 2000) < 5 * (6000 * 2 / 9) ** 0.5 for n in counts.values())


def test_long_orders_are_whole() -> None:
    """They are handed on in pieces."""
    assert sorted(ours.RandomSampler(range(10_000))) == list(range(10_000))


@pytest.mark.parametrize("wrong", [{"num_samples": 0}, {"num_samples": -1}, {"num_samples": 2.5}])
def test_wrong_random_sampler(wrong: dict, data: ModuleType) -> None:
    with pytest.raises(ValueError, match="num_samples"):
        data.RandomSampler(range(3), **wrong)
    with pytest.raises(TypeError, match="replacement"):
        data.RandomSampler(range(3), replacement=1)
    with pytest.raises(ValueError, match="num_samples"):
        data.RandomSampler([])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 6, 7])
def test_batch_sampler(n: int, drop_last: bool, data: ModuleType) -> None:
    sampler = data.BatchSampler(data.SequentialSampler(range(n)), 3, drop_last)
    full = [list(range(i, i + 3)) for i in range(0, n - 2, 3)]
    rest = [list(range(n - n % 3, n))] if n % 3 and not drop_last else []
    assert list(sampler) == full + rest
    assert len(sampler) == len(full + rest)


@pytest.mark.parametrize("wrong", [(0, False), (-1, False), (1.5, False), (True, False), (2, 1)])
def test_wrong_batch_sampler(wrong: tuple, data: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"batch_size|drop_last"):
        data.BatchSampler(range(3), *wrong)


# ------------------------------------------------------------------------------------------ collate

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


# ------------------------------------------------------------------------------------------- loader


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


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "workers"), [(10, 3), (9, 3), (2, 5), (7, 2), (1, 4)])
def test_each_process_has_its_part(n: int, workers: int, drop_last: bool) -> None:
    from tensorgrad.utils.data import DistributedSampler

    samplers = [
        DistributedSampler(range(n), workers, rank, drop_last=drop_last, seed=4)
        for rank in range(workers)
    ]
    orders = []
    for epoch in (0, 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        parts = [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])}
        seen = [i for together in zip(*parts) for i in together]
        assert len(set(seen)) == min(n, len(seen))
        assert len(seen) == (n // workers if drop_last else -(-n // workers)) * workers
        orders.append(seen)
    assert n < 5 or orders[0] != orders[1]


@pytest.mark.torch
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "workers"), [(10, 3), (9, 3), (2, 5), (7, 2), (1, 4)])
def test_parts_are_those_of_pytorch(torch: Any, n: int, workers: int, drop_last: bool) -> None:
    from tensorgrad.utils.data.distributed import DistributedSampler

    for rank in range(workers):
        arguments = (range(n), workers, rank, False, 0, drop_last)
        theirs = torch.utils.data.DistributedSampler(*arguments)
        ours = DistributedSampler(*arguments)
        assert (list(ours), len(ours)) == (list(theirs), len(theirs))


def test_parts_of_processes_that_are_not_there() -> None:
    from tensorgrad.utils.data import DistributedSampler

    with pytest.raises(ValueError, match="no rank 2 among 2"):
        DistributedSampler(range(3), 2, 2)
    with pytest.raises(ValueError, match="has not been initialized"):
        DistributedSampler(range(3))
