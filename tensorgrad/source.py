"""Where in the user's program something happens: the innermost line outside tensorgrad and nn.

Recording a place costs every operation, so it is kept as two small things, a code object and an
offset into it, and becomes ``file:line`` only when a message asks.
"""

from __future__ import annotations

import os
import sys
from sys import _getframe
from types import CodeType, FrameType

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGES = tuple(os.path.join(_ROOT, name) + os.sep for name in ("tensorgrad", "nn"))


# The files that were seen, so that one look-up tells most callers from ours.
OUTSIDE: set[str] = set()
_inside: set[str] = set()


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame from this one outwards that is not of tensorgrad or nn."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name not in _inside:
            if name in OUTSIDE or not name.startswith(_PACKAGES):
                OUTSIDE.add(name)
                return frame
            _inside.add(name)
        frame = frame.f_back
    return None


def here() -> tuple[CodeType, int] | None:
    """The place in the user's program that is being executed."""
    frame = user_frame(_getframe(1))
    return frame and (frame.f_code, frame.f_lasti)


def line(code: CodeType | None, offset: int) -> str:
    """``file:line`` of a place, relative to the working directory if the file lies in it.

    Of a cell in Jupyter or IPython it is ``In[3]:line``, as the cell is labelled there.
    """
    if code is None:
        return "an unknown line"
    name, below = code.co_filename, os.path.join(os.getcwd(), "")
    return f"{_cell(name) or name.removeprefix(below)}:{_number(code, offset)}"


def _cell(name: str) -> str | None:
    """The label of the cell that was compiled under a name, which is a temporary file's."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    labels = getattr(getattr(shell, "compile", None), "format_code_name", lambda name: None)
    found = labels(name)  # ("Cell", "In[3]")
    return found[1] if found else None


def text(code: CodeType | None, offset: int) -> str:
    """What stands on that line, or nothing where the file cannot be read."""
    import linecache  # not needed to compute

    return linecache.getline(code.co_filename, _number(code, offset)).strip() if code else ""


def _number(code: CodeType, offset: int) -> int:
    lines = (n for start, end, n in code.co_lines() if start <= offset < end and n)
    return next(lines, code.co_firstlineno)
