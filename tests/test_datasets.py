"""Datasets, their parts, and the order of their samples.

The truth is PyTorch's documentation of ``torch.utils.data``, written as expectations; a test that
takes ``lib`` runs them on ``tensorgrad`` and, where it is installed, on ``torch`` itself, so that
no expectation can be wrong about torch.
"""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from data_twins import plain, stream_of
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad
from tensorgrad.utils import data as ours


@pytest.fixture
def data(lib: ModuleType) -> ModuleType:
    return importlib.import_module(f"{lib.__name__}.utils.data")


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


# ------------------------------------------------------------------------------------- random_split


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


# -------------------------------------------------------------------------------- several processes


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
