"""Where tensors are: in the memory of the CPU, under the names that PyTorch code asks for.

Code that looks for an accelerator and falls back to the CPU runs as it is; what insists on another
device, another layout of memory or pinned memory hears that there is none.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .backend import threads

_TYPES = ("cpu", "cuda", "mps", "xpu", "meta")  # what PyTorch code may name


def get_num_threads() -> int:
    """How many threads matrix products and long loops have.

    ``OMP_NUM_THREADS``, or the number of cores that this process may use; of several processes on
    one machine, each has its share. It is looked at once, while tensorgrad is imported.
    """
    return threads.COUNT


class device:
    """The name of a device: ``device("cpu")``; equal to that string.

    Others, as ``device("cuda:1")``, can be named but not used.
    """

    __slots__ = ("type", "index")

    def __init__(self, type: Any, index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            type, index = "cuda", type
        elif isinstance(type, str) and ":" in type:
            type, _, digits = type.partition(":")
            if not digits.isdecimal():
                raise RuntimeError(f"device: the index in '{type}:{digits}' is no number")
            index = int(digits)
        if type not in _TYPES:
            raise RuntimeError(f"device: expected one of {', '.join(_TYPES)}, got {type!r}")
        self.type: str = type
        self.index = index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __eq__(self, other: Any) -> Any:
        return str(self) == str(other) if isinstance(other, (device, str)) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple:
        return device, (self.type, self.index)


CPU = device("cpu")


def require_cpu(wanted: Any) -> None:
    """Complain if ``wanted``, a device or the name of one, is not the CPU."""
    if wanted is not None and wanted is not CPU and device(wanted).type != "cpu":
        raise RuntimeError(
            f"tensorgrad computes on the CPU: there is no device '{device(wanted)}' to use; "
            "device='cpu' or none works"
        )


# --- how the elements lie in memory ---------------------------------------------------------------


class _Constant:
    """A name of torch with no meaning but itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"tensorgrad.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class layout(_Constant):
    """How a tensor's elements are found: always by strides."""


class memory_format(_Constant):
    """In which order a new tensor's elements lie: always row by row."""


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")


def require_ordinary(
    device: Any = None, layout: Any = None, pin_memory: bool = False, memory_format: Any = None
) -> None:
    """Complain about what PyTorch code may ask of a new tensor's memory and is not to be had."""
    require_cpu(device)
    if layout not in (None, strided):
        raise RuntimeError(f"tensors have one layout, tensorgrad.strided, not {layout}")
    if pin_memory:
        raise RuntimeError("pin_memory: there is no accelerator to pin memory for")
    if memory_format not in (None, contiguous_format, preserve_format):
        raise RuntimeError(f"tensors lie in memory as contiguous_format, not {memory_format}")


# --- accelerators, of which there are none --------------------------------------------------------


def _absent(**settings: Any) -> SimpleNamespace:
    return SimpleNamespace(is_available=lambda: False, **settings)


cuda = _absent(
    device_count=lambda: 0,
    is_initialized=lambda: False,
    is_bf16_supported=lambda: False,
    manual_seed=lambda seed: None,  # PyTorch too ignores these without a GPU
    manual_seed_all=lambda seed: None,
    empty_cache=lambda: None,
)
backends = SimpleNamespace(
    mps=_absent(is_built=lambda: False),
    cudnn=_absent(enabled=False, benchmark=False, deterministic=False, allow_tf32=False),
    cuda=_absent(
        is_built=lambda: False,
        matmul=SimpleNamespace(allow_tf32=False),
    ),
)
