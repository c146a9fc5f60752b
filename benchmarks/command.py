"""What the commands of this folder that compare configurations have in common."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from typing import Any, NoReturn

from .worker import CONFIGS


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        refuse(message)


def parser(module: str, description: str | None, **options: Any) -> argparse.ArgumentParser:
    """Of ``python -m module [CONFIG ...] [--turns N]``, for further options."""
    made = _Parser(prog=f"python -m {module}", description=description, **options)
    made.add_argument("configs", nargs="*", type=_configuration, help=", ".join(CONFIGS))
    made.add_argument("--turns", type=int, default=15, help="of each side [15; of large ones 6]")
    return made


def _configuration(name: str) -> str:
    if name not in CONFIGS:
        raise argparse.ArgumentTypeError(
            f"there is no configuration {name!r}: choose from {', '.join(CONFIGS)}"
        )
    return name


def need_torch() -> None:
    """End here if there is nothing to compare with."""
    if importlib.util.find_spec("torch") is None:
        refuse("the comparison needs PyTorch: pip install torch==2.13.0")


def refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
