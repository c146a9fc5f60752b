"""Two hosts on one machine, for what crosses a network: namespaces of Linux that a cable joins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mpiexec import mpiexec

ADDRESSES = "198.18.0.1", "198.18.0.2"  # of a network for such purposes (RFC 2544)
OVER_TCP = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0"}
# In ssh's place: it is called as ``ssh [-x ...] HOST COMMAND``.
LAUNCHER = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
case $1 in {0}) host={2};; {1}) host={3};; esac
shift
exec ip netns exec $host sh -c "$*"
"""


@contextmanager
def two_hosts(folder: Path) -> Iterator[list[str]]:
    """The command that starts workers, one on each of two hosts, but for their number.

    It has to be called with what is in ``OVER_TCP``, or MPI finds out that they share a memory.
    """
    program, names = mpiexec(), [f"tensorgrad-{os.getpid()}-{i}" for i in (1, 2)]
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root can have several hosts on a machine, on Linux and with iproute2")
    if "HYDRA" not in subprocess.run([program, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("only MPICH's mpiexec takes another program for ssh in this way")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "eth0", "netns", names[0], "type", "veth",
            "peer", "name", "eth0", "netns", names[1])  # fmt: skip
        for name, address in zip(names, ADDRESSES):
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
        for _ in range(500):  # the system takes its time
            if all("state UP" in _ip("-n", name, "link", "show", "eth0") for name in names):
                break
            time.sleep(0.02)
    except subprocess.CalledProcessError as error:
        _take_apart(names)
        pytest.skip(f"no hosts of one's own here: {error.stderr.strip()}")
    launcher = folder / "launcher"
    launcher.write_text(LAUNCHER.format(*ADDRESSES, *names))
    launcher.chmod(0o755)
    try:
        yield [
            "ip", "netns", "exec", names[0], program, "-launcher", "ssh",
            "-launcher-exec", str(launcher), "-localhost", ADDRESSES[0],
            "-hosts", ",".join(ADDRESSES),
        ]  # fmt: skip
    finally:
        _take_apart(names)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _take_apart(names: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
