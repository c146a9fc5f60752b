"""Token files: what is written comes back, and damage is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import data
from gpt.shards import HEADER, ShardWriter, Tokens, dtype_for, fingerprint, open_shard
from gpt.tokenizer import BPETokenizer, CharTokenizer

MAKER = bytes(range(32))


def written(folder: Path, arrays: list, n_vocab: int = 100, size: int = 10) -> list[Path]:
    writer = ShardWriter(folder, "part", n_vocab, MAKER, size)
    for ids in arrays:
        writer.write(np.array(ids, np.uint32))
    writer.close()
    return [folder / name for name in writer.names]


@given(st.lists(st.lists(st.integers(0, 99), max_size=25)), st.integers(1, 12))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[list[int]], size: int
) -> None:
    paths = written(tmp_path_factory.mktemp("shards"), arrays, size=size)
    ids = [i for array in arrays for i in array]
    shards = [open_shard(path, MAKER) for path in paths]
    assert np.concatenate([[], *shards]).tolist() == ids
    assert all(len(shard) == size for shard in shards[:-1])
    tokens = Tokens(shards)
    assert len(tokens) == len(ids)
    assert tokens[np.arange(len(ids))].tolist() == ids


def test_the_header(tmp_path: Path) -> None:
    """Written down here byte by byte: other programs may read it."""
    (path,) = written(tmp_path, [[1, 2], [3]])
    tokens = b"\1\0\2\0\3\0"
    assert path.name == "part-00000.bin"
    assert path.read_bytes() == (
        b"gptshard" + b"\1\0\0\0" + b"<u2\0" + b"\3" + bytes(7) + MAKER
        + hashlib.sha256(tokens).digest() + bytes(40) + tokens
    )  # fmt: skip
    assert HEADER.size == 128


@pytest.mark.parametrize(
    ("n_vocab", "dtype"), [(2, "<u2"), (2**16, "<u2"), (2**16 + 1, "<u4"), (200_000, "<u4")]
)
def test_dtype(n_vocab: int, dtype: str, tmp_path: Path) -> None:
    assert dtype_for(n_vocab) == np.dtype(dtype)
    (path,) = written(tmp_path, [[0, n_vocab - 1]], n_vocab)
    shard = open_shard(path)
    assert (shard.dtype, shard.tolist()) == (np.dtype(dtype), [0, n_vocab - 1])
    assert not shard.flags.writeable


def changed(at: int, to: bytes):
    return lambda raw: raw[:at] + to + raw[at + len(to) :]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda raw: b"", "is not a file of tokens"),
        (lambda raw: raw[:100], "is not a file of tokens"),
        (lambda raw: b"text " * 99, "is not a file of tokens"),
        (lambda raw: bytes(128), "is not a file of tokens"),  # interrupted: no header yet
        (changed(8, b"\2"), "has the format 2, but this program reads 1"),
        (changed(12, b"<f4"), "has the format"),
        (lambda raw: raw[:-1], "has 133 bytes and should have 134"),
        (lambda raw: raw + b"\0", "has 135 bytes and should have 134"),
        (changed(24, b"x"), "was made by another tokenizer"),
        (changed(130, b"\7"), "is damaged .its checksum is another"),
        (changed(60, b"x"), "is damaged .its checksum is another"),
    ],
)
def test_damage(damage, complaint: str, tmp_path: Path) -> None:
    (path,) = written(tmp_path, [[1, 2, 3]])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"part-00000\.bin .*{complaint}"):
        open_shard(path, MAKER)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.bin: prepare the text again"):
        open_shard(tmp_path / "absent.bin")


def test_fingerprint() -> None:
    """It is the tokens', not the object's."""
    one = BPETokenizer([b"ab"])
    assert fingerprint(one) == fingerprint(BPETokenizer([b"ab"])) != fingerprint(BPETokenizer([]))
    assert fingerprint(one) != fingerprint(BPETokenizer([b"ab"], pattern=r"(?s).+"))
    assert fingerprint(CharTokenizer("ab")) == fingerprint(CharTokenizer("ba"))


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.data())
def test_a_part_of_shards_is_an_array(lengths: list[int], draw: st.DataObject) -> None:
    whole = np.arange(sum(lengths), dtype=np.uint16)
    shards = np.split(whole, np.cumsum(lengths)[:-1])
    start = draw.draw(st.integers(0, len(whole)))
    stop = draw.draw(st.integers(start, len(whole)))
    tokens, expected = Tokens(shards, start, stop), whole[start:stop]
    assert len(tokens) == len(expected)
    if len(expected):
        at = draw.draw(st.lists(st.integers(0, len(expected) - 1)))
        positions = np.array(at, int).reshape(1, -1)
        np.testing.assert_array_equal(tokens[positions], expected[positions])
    for outside in (-1, len(expected)):  # would be tokens of the other part
        with pytest.raises(IndexError, match="positions must be in"):
            tokens[np.array([outside])]
    with pytest.raises(ValueError, match="are not within"):
        Tokens(shards, 0, len(whole) + 1)


def test_batches_of_shards_are_those_of_an_array() -> None:
    ids = np.random.default_rng(0).integers(0, 50, 1000).astype(np.uint16)
    tokens = Tokens(np.split(ids, [3, 100, 101, 640]), 50, 900)
    ours, theirs = (data.Batches(x, 8, 5, seed=3) for x in (tokens, ids[50:900]))
    for _ in range(20):
        np.testing.assert_array_equal(ours.next(), theirs.next())
    state = ours.state_dict()
    expected = ours.next()
    ours.load_state_dict(state)
    np.testing.assert_array_equal(ours.next(), expected)
    for most in (7, 1000):
        np.testing.assert_array_equal(
            data.windows(tokens, 8, most), data.windows(ids[50:900], 8, most)
        )
