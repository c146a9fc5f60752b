"""What a run was made with: the revision of the program, versions, the machine, the seed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad


@cache
def revision() -> str | None:
    """The git revision of the checkout that this program lies in; None where it lies in none.

    ``-dirty`` at its end says that files differed from it.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    # A hook or an alias that started us may have named another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def label(seed: int) -> dict[str, Any]:
    """What is needed to do it again, as JSON can hold it.

    >>> label(seed=3)["seed"]
    3
    """
    return {
        "revision": revision(),
        "tensorgrad": tensorgrad.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": _version("numba"),
        "platform": platform.platform(),
        "command": sys.argv,
        "seed": seed,
    }


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
