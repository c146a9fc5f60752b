"""Pictures, files of them, and the one place that knows Graphviz."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import EDGE, GRAPH, NODE, bold

if TYPE_CHECKING:
    import graphviz

_FORMATS = ("svg", "png", "pdf")
_TEXTS = ("dot", "gv")
_PNG_DPI = "192"  # twice the resolution of a screen, so that small print stays legible


def blank(title: str | None = None, rankdir: str = "TB") -> graphviz.Digraph:
    """An empty picture in the style of all of them."""
    picture = _picture_type()(
        "tensorgrad",
        graph_attr={"rankdir": rankdir, **GRAPH},
        node_attr=NODE,
        edge_attr=EDGE,
    )
    if title:
        picture.attr(label=f"<{bold(title)}>")
    return picture


@functools.cache
def _picture_type() -> Any:
    """A Digraph that shows itself in Jupyter with whatever there is to lay it out."""
    import graphviz  # not before a picture is made

    class Picture(graphviz.Digraph):
        def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, str]:
            content = _laid_out(self, "svg")
            if content is None:
                _advise()
                return {"text/plain": self.source}
            return {"image/svg+xml": content.decode("utf-8")}

    return Picture


def render(picture: graphviz.Digraph, path: str | Path) -> Path:
    """Write a picture made by :func:`draw` as SVG, PNG or PDF, by the suffix of ``path``.

    Graphviz' program ``dot`` makes the layout where it works, and the package pygraphviz where it
    does not. With neither, the DOT text is left under the suffix .dot, and a warning says
    once what to install. The suffixes .dot and .gv ask for that text.

    Returns:
        The path of the file written.
    """
    path = Path(path)
    form = path.suffix[1:].lower()
    if form not in _FORMATS + _TEXTS:
        known = ", ".join(f".{f}" for f in _FORMATS + _TEXTS)
        raise ValueError(f"render: no format has the suffix {path.suffix!r} of {path}; use {known}")
    text = picture.source.encode()
    if form in _TEXTS:
        return _write(path, text)
    content = _laid_out(picture, form)
    if content is not None:
        return _write(path, content)
    path = _write(path.with_suffix(".dot"), text)
    _advise()
    return path


def _laid_out(picture: graphviz.Digraph, form: str) -> bytes | None:
    """The picture in a format; None where nothing is installed that could lay it out."""
    import graphviz

    if form == "png":
        picture = picture.copy()
        picture.graph_attr["dpi"] = _PNG_DPI
    try:
        return picture.pipe(format=form)
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError, OSError):
        pass  # not installed, or not so that it works
    try:
        import pygraphviz
    except ImportError:
        return None
    with _quiet():
        return pygraphviz.AGraph(string=picture.source).draw(format=form, prog="dot")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what C libraries write to the standard error.

    The wheels of pygraphviz bring a Fontconfig of their own, which complains of what it does not
    know in the files of the system's newer one. An error in the picture is raised all the same.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # the program has no standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _write(path: Path, content: bytes) -> Path:
    try:
        path.write_bytes(content)
    except OSError as error:
        reason = f"the picture cannot be written: {error.strerror}"
        raise type(error)(error.errno, reason, str(path)) from None
    return path


@functools.cache  # once is enough
def _advise() -> None:
    warnings.warn(
        "there is no Graphviz to lay the picture out, so its DOT text is left in a .dot file; "
        "pip install 'pygraphviz>=2' or install Graphviz' program dot",
        stacklevel=3,
    )
