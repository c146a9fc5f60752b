"""One run at a time in a folder: a lock that vanishes with the process that holds it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

if sys.platform != "win32":
    import fcntl


class Busy(RuntimeError):
    """Somebody else is at work in the folder."""


class Lock:
    """The right to write to the folder of a run.

    It is the operating system's ``flock`` of the folder itself: no file is left behind, a process
    that is killed leaves no lock, and a folder that is renamed takes it along. Within a process the
    newest claim counts, unless the older one is ``in_use``: whoever runs the cell of a notebook
    again does not get into his own way. On Windows, and where the file system knows no such locks,
    nothing is locked; nor by who is not ``needed`` for it.
    """

    _all: ClassVar[WeakSet[Lock]] = WeakSet()  # those of this process

    def __init__(self, folder: Path, needed: bool = True) -> None:
        self.folder, self.needed = folder, needed
        self.in_use = False
        self.place: tuple[int, int] | None = None  # device and inode of the folder, once locked
        self._handle: int | None = None
        self._all.add(self)

    def take(self) -> None:
        """Take the lock of the folder that is there now; Busy if that cannot be."""
        if sys.platform == "win32" or not self.needed:
            return
        try:
            handle = os.open(self.folder, os.O_RDONLY)
        except OSError:  # it may not be read, or is none: what comes next complains
            return
        status = os.fstat(handle)
        place = status.st_dev, status.st_ino
        if self._handle is not None and self.place == place:
            os.close(handle)
            return
        for other in self._all:
            if other is not self and other.place == place and not other.in_use:
                other.release()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Busy(
                f"another run is going on in the folder {self.folder}: wait for its end, or choose "
                "another with --out"
            ) from None
        except OSError:  # no locks here, as on some network drives
            os.close(handle)
            return
        self.release()
        self._handle, self.place = handle, place

    def take_again(self) -> None:
        """Take it back after a release; Busy if that cannot be, or the folder is another one."""
        before = self.place
        self.take()
        if before is not None and self.place != before:
            self.release()
            self.place = before
            raise Busy(f"the folder {self.folder} is that of another run by now: begin again")

    def release(self) -> None:
        if self._handle is not None and sys.platform != "win32":
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self._close()


def _let_go() -> None:
    """A child gives back its copies: only its parent's life counts."""
    for lock in Lock._all:
        with suppress(OSError):
            lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
