"""Token files: a header and then the tokens, mapped into memory instead of read.

The header of 128 bytes has the magic word, the version, the tokens' dtype in NumPy's letters, their
count, and two SHA-256 sums: of the tokenizer that made them, and of what follows the header.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .tokenizer import Tokenizer

MAGIC, VERSION = b"gptshard", 1
HEADER = struct.Struct("<8sI4sQ32s32s40x")  # magic, version, dtype, count, tokenizer, tokens
DTYPES: dict[bytes, np.dtype[Any]] = {b"<u2": np.dtype("<u2"), b"<u4": np.dtype("<u4")}

SHARD = 1 << 26  # tokens in a shard


def dtype_for(n_vocab: int) -> np.dtype[Any]:
    """The smaller of uint16 and uint32 that holds every token of a vocabulary."""
    return DTYPES[b"<u2" if n_vocab <= 2**16 else b"<u4"]


def fingerprint(coder: Tokenizer) -> bytes:
    """The SHA-256 of all that makes a tokenizer what it is."""
    return hashlib.sha256(json.dumps(coder.to_json(), sort_keys=True).encode()).digest()


class ShardWriter:
    """Writes tokens to ``name-00000.bin`` and so on in a folder, ``size`` to a shard at most.

    A header is written when its shard is complete: one without is not a shard.
    """

    def __init__(
        self, folder: Path, name: str, n_vocab: int, tokenizer: bytes, size: int = SHARD
    ) -> None:
        self.folder, self.name, self.size = folder, name, size
        self.dtype, self.tokenizer = dtype_for(n_vocab), tokenizer
        self.names: list[str] = []
        self.tokens = 0
        self._file: IO[bytes] | None = None

    def write(self, ids: npt.NDArray[np.integer]) -> None:
        """Add tokens; OSError if that failed (a full disk, say)."""
        try:
            self._write(ids)
        except OSError as error:
            raise OSError(
                f"the tokens cannot be written ({error.strerror or error}): choose another --out"
            ) from None

    def _write(self, ids: npt.NDArray[np.integer]) -> None:
        while len(ids):
            if self._file is None:
                self._begin()
            assert self._file is not None
            part = ids[: self.size - self._count]
            content = part.astype(self.dtype).tobytes()
            self._file.write(content)
            self._sum.update(content)
            self._count += len(part)
            self.tokens += len(part)
            ids = ids[len(part) :]
            if self._count == self.size:
                self._end()

    def close(self) -> None:
        if self._file is not None:
            self._end()

    def abandon(self) -> None:
        """Leave an unfinished shard without its header."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self.names.append(f"{self.name}-{len(self.names):05}.bin")
        self._file = open(self.folder / self.names[-1], "xb")  # noqa: SIM115 (closed in _end)
        self._file.write(bytes(HEADER.size))
        self._sum, self._count = hashlib.sha256(), 0

    def _end(self) -> None:
        assert self._file is not None
        with self._file as file:
            file.seek(0)
            kind = self.dtype.str.encode()
            file.write(
                HEADER.pack(MAGIC, VERSION, kind, self._count, self.tokenizer, self._sum.digest())
            )
            file.flush()
            os.fsync(file.fileno())
        self._file = None


def open_shard(path: Path, tokenizer: bytes | None = None) -> npt.NDArray[np.unsignedinteger]:
    """The tokens of a shard, read-only and mapped into memory, after all sums were checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is foreign, truncated, damaged, of a newer version, or was not made by the
            tokenizer with the fingerprint ``tokenizer``.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER.size)
            if len(header) < HEADER.size or not header.startswith(MAGIC):
                raise ValueError(f"{path} is not a file of tokens: prepare the text again")
            _, version, kind, count, maker, expected = HEADER.unpack(header)
            dtype = DTYPES.get(kind.rstrip(b"\0"))
            if version != VERSION or dtype is None:
                raise ValueError(
                    f"{path} has the format {version}, but this program reads {VERSION}: use the "
                    "version of the program that wrote it"
                )
            size = HEADER.size + count * dtype.itemsize
            if (real := os.fstat(file.fileno()).st_size) != size:
                raise ValueError(
                    f"{path} has {real:,} bytes and should have {size:,}: prepare the text again"
                )
            if tokenizer not in (None, maker):
                raise ValueError(
                    f"{path} was made by another tokenizer: prepare the text again with this one"
                )
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
            if found.digest() != expected:
                raise ValueError(
                    f"{path} is damaged (its checksum is another): prepare the text again"
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: prepare the text again") from None
    if hasattr(mmap, "MADV_RANDOM"):  # windows are drawn from anywhere: reading ahead is a waste
        mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, dtype, count, HEADER.size)


class Tokens:
    """Shards in a row as one array, of which positions can be looked up; or a part of them.

    >>> tokens = Tokens([np.array([7, 8], np.uint16), np.array([9], np.uint16)])
    >>> len(tokens), tokens[np.array([[0, 1], [1, 2]])].tolist()
    (3, [[7, 8], [8, 9]])
    >>> tokens.read().tolist(), Tokens(tokens.shards, 1).read().tolist()
    ([7, 8, 9], [8, 9])
    """

    def __init__(
        self,
        shards: Sequence[npt.NDArray[np.unsignedinteger]],
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.shards = list(shards)
        self.ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)
        total = int(self.ends[-1]) if self.shards else 0
        self.start, self.stop = start, total if stop is None else stop
        if not 0 <= self.start <= self.stop <= total:
            raise ValueError(f"tokens {start} to {stop} are not within the {total} that there are")
        self.dtype = self.shards[0].dtype if self.shards else np.dtype(np.uint16)

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> npt.NDArray[np.unsignedinteger]:
        """All of them, in memory."""
        return np.concatenate([*self.shards, np.empty(0, self.dtype)])[self.start : self.stop]

    def __getitem__(self, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.unsignedinteger]:
        """The tokens at an array of positions, in its shape; IndexError if one is outside."""
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"positions must be in [0, {len(self)})")
        places = positions + self.start
        which = np.searchsorted(self.ends, places, side="right")
        result = np.empty(positions.shape, self.dtype)
        for i in np.unique(which):
            here = which == i
            shard = self.shards[i]
            result[here] = shard[places[here] - (self.ends[i] - len(shard))]
        return result
