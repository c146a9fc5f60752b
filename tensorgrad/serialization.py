"""Saving and loading: tensors, and the dicts, lists and plain values around them, in one file.

The file is a safetensors file. Its body holds the tensors, under names that say where they stand
(``model.weight``), so that every program that knows the format can read them; its header holds as
JSON how they are arranged. There is no pickle: loading runs no code from the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .backend import xp
from .tensor import Tensor
from .variable import wrap

VERSION = 1
DEEPEST = 100  # containers within containers

# The entries of the header that make a safetensors file one of ours.
_VERSION, _OBJECT, _CHECKSUM = "tensorgrad.version", "tensorgrad.object", "tensorgrad.crc32"

# safetensors' names of the dtypes, as they lie in the file; bfloat16 is the upper half of float32.
_DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
           "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}  # fmt: skip
_NAMES = {xp.dtype(dtype): name for name, dtype in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer one

_SAVABLE = "tensors, numbers, strings, bools, None, and dicts, lists and tuples of them"


def save(obj: Any, f: Any) -> None:
    """Write ``obj`` to the file ``f``, whole or not at all.

    ``obj`` is a tensor, a number, string, bool or None, or dicts, lists and tuples of such, nested
    as you like. What :func:`load` returns is equal to it, with these differences:

    - Tensors are values: dtype, shape and ``requires_grad`` are kept, as in PyTorch; histories and
      gradients are not, and a Parameter becomes a Tensor.
    - Tensors that show the same memory in the same way (tied weights) are stored once and share
      it again. A view of a part of another tensor becomes a tensor of its own.
    - Subclasses become the plain types: an OrderedDict a dict, a named tuple a tuple, a NumPy
      scalar a Python number.

    Args:
        obj: the object; the keys of its dicts are strings, numbers, bools or None.
        f: a path, or a file open for writing bytes. What was under a path stays there until the
            new file is whole and on the disk; no such care is taken of an open file.

    Raises:
        TypeError: something in ``obj`` is of another type; nothing was written. The message says
            where it stands.
        ValueError: ``obj`` contains itself, or has too much beside its tensors (100 MB of JSON).
        OSError: the file cannot be written, and is as it was.

    >>> import tensorgrad
    >>> weight = tensorgrad.tensor([[1.0, 2.0]], requires_grad=True)
    >>> save({"model": {"weight": weight}, "betas": (0.9, 0.99), "seen": {3: True}}, "state.st")
    >>> load("state.st")
    {'model': {'weight': tensor([[1., 2.]], requires_grad=True)},
     'betas': (0.9, 0.99), 'seen': {3: True}}
    """
    pieces = _pieces(obj)
    if hasattr(f, "write"):
        for piece in pieces:
            f.write(piece)
    else:
        replace({Path(f): pieces})


def load(f: Any) -> Any:
    """What :func:`save` wrote to the file ``f``; no code from the file is run.

    Other safetensors files, such as published models, are dicts of their tensors by name. Tensors
    of bfloat16 become float32, which holds the same values.

    Args:
        f: a path, or a file open for reading bytes, which is read to its end.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is truncated or corrupt, no safetensors file, written by a newer version, or
            it holds a dtype that tensors do not have.
    """
    if hasattr(f, "read"):
        content, name = f.read(), str(getattr(f, "name", "the file"))
        if not isinstance(content, bytes):
            raise TypeError(f"{name} gives {type(content).__name__}: open it with mode 'rb'")
    else:
        content, name = Path(f).read_bytes(), os.fspath(f)
    arrays, header = _from_bytes(content, name)
    if not any(key.startswith("tensorgrad.") for key in header):
        return {key: wrap(array) for key, array in arrays.items()}
    version, text = header.get(_VERSION, ""), header.get(_OBJECT, "")
    if version.isdecimal() and int(version) > VERSION:
        raise ValueError(
            f"{name} has the format {version} and this version of tensorgrad reads up to "
            f"{VERSION}: use the one that wrote it"
        )
    if header.get(_CHECKSUM) != _checksum(version, text, arrays):
        raise ValueError(f"{name} is corrupt, its checksum is wrong: restore it from a copy")
    try:
        return _Reader(arrays).decode(json.loads(text))
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        raise ValueError(f"{name} is damaged ({error}): restore it from a copy") from None


class Stored(NamedTuple):
    """A tensor in a safetensors file: its shape, its dtype there (``F32``), how to read it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]


def stored(path: Any) -> dict[str, Stored]:
    """The tensors of a safetensors file by name, none of them read yet.

    So a large file of another program needs the memory of one tensor at a time. The errors are
    :func:`load`'s.

    >>> import tensorgrad
    >>> save({"weight": tensorgrad.ones(2, 3)}, "w.safetensors")
    >>> weight = stored("w.safetensors")["weight"]
    >>> weight.shape, weight.read().sum().item()
    ((2, 3), 6.0)
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        size = file.read(8)
        try:
            with safe_open(path, framework="numpy"):  # is it whole, and is all of it described?
                header = json.loads(file.read(int.from_bytes(size, "little")))
        except (SafetensorError, ValueError, RecursionError, OSError) as error:
            raise _refused(os.fspath(path), size + file.read(8), error) from None
        body = file.tell()
    header.pop("__metadata__", None)
    return {key: _stored(Path(path), body, key, entry) for key, entry in header.items()}


def safetensors_file(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterable[Any]:
    """The contents of a plain safetensors file, as :func:`replace` takes them.

    One buffer after the other: a view, such as a transposed matrix, is copied when its turn comes.
    """
    return _buffers({name: tensor.array for name, tensor in tensors.items()}, metadata or {})


def replace(contents: Mapping[Path, bytes | Iterable[Any]]) -> None:
    """Give files new contents, bytes or buffers in a row; none is touched before all are safe.

    The new contents are written beside the files, synced and renamed. A link stays a link, and the
    file that it leads to is replaced.

    Raises:
        OSError: that failed (a full disk, say); the files are as they were.
    """
    # Names of their own: two programs that save to one path must not write to one file.
    suffix = f".{secrets.token_hex(4)}.tmp"
    written: list[tuple[Path, Path, Path]] = []  # a path, its file, and the contents for now
    try:
        for path, content in contents.items():
            target = Path(os.path.realpath(path))
            if target.exists() and not target.is_file():
                raise OSError("it is not a regular file")
            temporary = target.with_name(target.name + suffix)
            written.append((path, target, temporary))
            with open(temporary, "xb") as file:
                pieces: Iterable[Any] = [content] if isinstance(content, bytes) else content
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
        for path, target, temporary in written:  # noqa: B007 (the message names it)
            os.replace(temporary, target)
        for folder in {target.parent for _, target, _ in written}:
            sync_folder(folder)
    except BaseException as error:  # Ctrl-C included
        for _, _, litter in written:
            with contextlib.suppress(OSError):
                litter.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(
                f"{path} cannot be written ({error.strerror or error}) and is left as it was"
            ) from None
        raise


def sync_folder(folder: Path) -> None:
    """See to it that what was renamed in a folder is so after a power failure, too.

    Where folders cannot be synced (Windows, some network drives), nothing is done.
    """
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --- the file -------------------------------------------------------------------------------------


def _pieces(obj: Any) -> Iterable[Any]:
    """The bytes of the file that holds ``obj``: its header, then one buffer for each tensor."""
    writer = _Writer()
    text = json.dumps(writer.encode(obj), allow_nan=False)
    crc = _checksum(str(VERSION), text, writer.arrays)
    return _buffers(writer.arrays, {_VERSION: str(VERSION), _OBJECT: text, _CHECKSUM: crc})


def _buffers(arrays: dict[str, Any], metadata: Mapping[str, str]) -> Iterable[Any]:
    """The header of a safetensors file, then one buffer for each array, made when it is due."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    # The widest first, so that each lies at a multiple of its size.
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    for name, array in ordered.items():
        start, end = end, end + array.nbytes
        kind = _NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > _LONGEST_HEADER:
        raise ValueError(
            f"save: what is beside the tensors takes {len(head):,} characters of JSON, too many "
            "for the header of a safetensors file: make tensors of long lists of numbers"
        )
    return chain([len(head).to_bytes(8, "little") + head], map(_buffer, ordered.values()))


def _buffer(array: Any) -> Any:
    """The bytes of an array as they lie in the file: row by row, little-endian."""
    return xp.asarray(array, array.dtype.newbyteorder("<"), order="C").reshape(-1).view("u1").data


def _from_bytes(content: bytes, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays of a safetensors file by name, and the texts in its header."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(content)
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError) as error:
        raise _refused(name, content, error) from None
    arrays = {}
    for key, entry in entries:
        dtype = _dtype_of(entry["dtype"], key, name)
        array = xp.ndarray(tuple(entry["shape"]), dtype, buffer=entry["data"])
        arrays[key] = _native(array, entry["dtype"])
    return arrays, header


def _refused(name: str, content: bytes, error: Exception) -> ValueError:
    """Why a file that begins with ``content`` is no safetensors file."""
    # The length that a safetensors file begins with can have that byte too, but then zeros.
    pickled = content.startswith(b"\x80") and any(content[2:8])
    if pickled or content.startswith(b"PK\x03\x04"):
        return ValueError(
            f"{name} looks like a pickle, as torch.save writes it, and reading one can "
            "run any code: have PyTorch save it with safetensors.torch.save_file"
        )
    return ValueError(
        f"{name} is truncated or not a safetensors file ({error}): restore it from a copy"
    )


def _dtype_of(kind: str, key: str, name: str) -> str:
    if kind not in _DTYPES:
        raise ValueError(f"{name} holds {key!r} as {kind}, which tensors here cannot be")
    return _DTYPES[kind]


def _native(array: Any, kind: str) -> Any:
    """What was read, as this machine and tensors have it."""
    if kind == "BF16":
        array = xp.asarray(array.astype("u4") << 16).view("f4")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _stored(path: Path, body: int, key: str, entry: dict[str, Any]) -> Stored:
    """A tensor of the file whose tensors begin at the offset ``body``."""
    shape, kind = tuple(entry["shape"]), entry["dtype"]
    start, end = entry["data_offsets"]

    def read() -> Tensor:
        array = xp.empty(shape, _dtype_of(kind, key, str(path)))
        with open(path, "rb") as file:
            file.seek(body + start)
            if file.readinto(array.reshape(-1).view("u1").data) != end - start:
                raise ValueError(f"{path} has become shorter while it was read")
        return wrap(_native(array, kind))

    return Stored(shape, kind, read)


def _checksum(version: str, text: str, arrays: dict[str, Any]) -> str:
    """A number that a change of anything in the file changes, as text."""
    crc = zlib.crc32(text.encode(), zlib.crc32(version.encode()))
    for _, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array, crc)
    return f"{crc:08x}"


# --- the structure --------------------------------------------------------------------------------
#
# JSON has the lists, the strings and most numbers. The rest are objects with a key that begins with
# a dollar sign:
#
#   {"$tensor": name, "requires_grad": true}   {"$tuple": [...]}   {"$float": "nan"}
#   {"$dict": [[key, value], ...]}, where not all keys are strings or one begins with a dollar sign


class _Writer:
    """Encodes an object as JSON, and collects the arrays of its tensors under their names."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        # By what a tensor shows. The tensor is kept: its address must not become another's.
        self.names: dict[Any, tuple[str, Tensor]] = {}

    def encode(self, value: Any, path: tuple = ()) -> Any:
        if len(path) > DEEPEST:
            raise ValueError(
                f"save: what is {_at(path[:3])}... is nested more than {DEEPEST} levels deep, or "
                "contains itself"
            )
        if isinstance(value, Tensor):
            marker: dict[str, Any] = {"$tensor": self.name(value, path)}
            return {**marker, "requires_grad": True} if value.requires_grad else marker
        if isinstance(value, dict):
            pairs = [(_plain(k, path, key=True), self.encode(v, (*path, k)))
                     for k, v in value.items()]  # fmt: skip
            if all(isinstance(k, str) and not k.startswith("$") for k, _ in pairs):
                return dict(pairs)
            return {"$dict": [[_number(k), v] for k, v in pairs]}
        if isinstance(value, (list, tuple)):
            items = [self.encode(v, (*path, i)) for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        return _number(_plain(value, path))

    def name(self, tensor: Tensor, path: tuple) -> str:
        """The name under which the values of a tensor are stored."""
        array = tensor.array
        shown: Any = id(tensor)
        if array.size:
            address = array.__array_interface__["data"][0]
            shown = address, array.dtype, array.shape, array.strides
        if shown not in self.names:
            wanted = name = ".".join(map(str, path)).encode(errors="replace").decode() or "tensor"
            n = 1
            while name in self.arrays or name == "__metadata__":
                n += 1
                name = f"{wanted}~{n}"
            self.names[shown] = name, tensor
            self.arrays[name] = xp.asarray(array, order="C")
        return self.names[shown][0]


def _plain(value: Any, path: tuple, key: bool = False) -> Any:
    """A string, number, bool or None without a subclass; TypeError for what is none."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, xp.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if key:
        raise TypeError(
            f"save: the dict {_at(path)} has the key {value!r}; keys are strings, numbers, bools "
            "or None"
        )
    hint = ""
    if hasattr(value, "state_dict"):
        hint = "; save its state_dict()"
    elif isinstance(value, xp.ndarray):
        hint = "; tensorgrad.from_numpy() makes a tensor of it"
    raise TypeError(
        f"save: what is {_at(path)} is of type {type(value).__name__}, and a file holds "
        f"{_SAVABLE}{hint}"
    )


def _number(value: Any) -> Any:
    """A plain value as JSON, which has no nan and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    return value


def _at(path: tuple) -> str:
    return f"at {''.join(f'[{key!r}]' for key in path)}" if path else "to be saved"


class _Reader:
    """Makes the object of its JSON and the arrays."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.tensors = {(name, False): wrap(array) for name, array in arrays.items()}

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(v) for v in value]
        match value:
            case {"$tensor": name}:
                return self.tensor(name, value.get("requires_grad", False))
            case {"$tuple": items}:
                return tuple(self.decode(v) for v in items)
            case {"$dict": pairs}:
                return {self.decode(k): self.decode(v) for k, v in pairs}
            case {"$float": text}:
                return float(text)
            case dict():
                return {k: self.decode(v) for k, v in value.items()}
        return value

    def tensor(self, name: str, requires_grad: bool) -> Tensor:
        """One tensor for all places where the same was; two where only some require grad."""
        if (name, requires_grad) not in self.tensors:
            made = self.tensors[name, requires_grad] = self.tensors[name, False].detach()
            made.requires_grad = True
        return self.tensors[name, requires_grad]
