"""A GPT, its tokenizers and data, and how it is trained.

>>> from gpt import GPT, GPTConfig
>>> GPT(GPTConfig(vocab_size=11, context=8, width=16, layers=2, heads=2)).parameter_count()
6896
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .callbacks import Callback, Result
    from .config import GPTConfig
    from .live import LivePlot
    from .model import GPT
    from .presets import PRESETS, RunConfig
    from .tensorboard import TensorBoard
    from .train import Trainer

# Where the names are; each is imported when it is first asked for, and `import gpt` costs nothing.
_HOMES = {
    "Callback": "callbacks", "GPT": "model", "GPTConfig": "config", "LivePlot": "live",
    "PRESETS": "presets", "Result": "callbacks", "RunConfig": "presets",
    "TensorBoard": "tensorboard", "Trainer": "train",
}  # fmt: skip

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt' has no attribute {name!r}")
    import_module("tensorgrad")  # before NumPy, which it tells how many threads there are
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
