"""Freed memory is kept: counted in page faults of the operating system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource
import tensorgrad
x = tensorgrad.zeros(1_000_000)
for _ in range(3):
    y = x + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    y = x + 1  # 4 MB each, a thousand pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(root: Path, **env: str) -> int:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**clean, "PYTHONPATH": str(root), **env},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_memory_is_used_again(root: Path) -> None:
    assert faults(root) < 500


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_a_choice_of_the_user_stands(root: Path) -> None:
    # Every array of more than a megabyte straight from the system, and back to it.
    assert faults(root, MALLOC_MMAP_THRESHOLD_=str(1 << 20), MALLOC_TOP_PAD_="0") > 5_000
