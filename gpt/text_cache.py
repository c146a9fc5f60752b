"""Where the tokens of a text are kept for the next run on it, if BPE was learnt for it.

To learn BPE of 465,000 characters and to encode them takes as long as a tenth of the shortest run,
and of ten million as long as some hundred steps. The outcome is a prepared folder as any other, in
the user's folder for caches: ``XDG_CACHE_HOME`` or ``~/.cache``. It is found again by the same
version of this program for the same text; nobody has to look after it, and it can be removed at any
time.
"""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from .sources import Source

SHORTEST, LONGEST = 100_000, 10_000_000  # characters of a text that is kept
MOST = 8  # texts; the oldest makes room


def place(source: Source, *how: object) -> Path | None:
    """The folder for what is made in the way ``how`` of a text; None if that is not kept.

    Reading a text is quick, compared with learning BPE of it.

    Raises:
        OSError, ValueError: the source cannot be read.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgrad"
    except RuntimeError:  # nobody's home
        return None
    found, characters = sha256(_program()), 0
    for document in source.documents():
        for piece in document.pieces:
            found.update(piece.encode(errors="surrogatepass"))
            characters += len(piece)
            if characters > LONGEST:
                return None
        found.update(b"\xff")  # a byte that no text has ends each document
    found.update(repr(how).encode())
    return folder / f"text-{found.hexdigest()[:32]}" if characters >= SHORTEST else None


@cache
def _program() -> bytes:
    """All that decides on the tokens of a text: this folder, and the letters that Python knows."""
    found = sha256(platform.python_version().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.digest()


def make_room(folder: Path) -> None:
    """Remove the oldest of the texts beside ``folder`` that are too many, unfinished ones too."""
    times = {}
    for path in folder.parent.glob("text-*"):
        with suppress(OSError):  # another run has removed it
            times[path] = path.stat().st_mtime
    for path in sorted(times, key=times.__getitem__)[:-MOST]:
        shutil.rmtree(path, ignore_errors=True)
