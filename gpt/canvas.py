"""The one place that knows matplotlib (extra ``viz``): empty figures, and how all of them look.

A Figure is made without pyplot, so that it has no window, belongs to nobody and can be made in any
thread; in Jupyter it shows itself.
"""

from __future__ import annotations

import io
from typing import Any

# Of Okabe and Ito, told apart by colour-blind readers; in print dashes and markers help.
BLUE, VERMILION, ORANGE, GREEN = "#0072B2", "#D55E00", "#E69F00", "#009E73"
SKY, FAINT = "#56B4E9", "#888888"
# Lightness alone tells small from large, so that these can be read without colours.
LIGHT_TO_DARK, DARK_TO_LIGHT = "Blues", "cividis"
NOTHING = "#e4e4e4"  # where there is no value


def blank(width: float, height: float) -> Any:
    """An empty Figure of so many inches.

    Raises:
        ImportError: matplotlib is not installed; the sentence says how to get it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "pictures need matplotlib (the extra viz): pip install matplotlib"
        ) from None

    class Picture(Figure):
        """It shows itself in Jupyter also without ``%matplotlib inline``."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Picture(figsize=(width, height), dpi=120, layout="constrained")


def colours(name: str) -> Any:
    """The colour map of that name, with ``NOTHING`` where values are masked or not finite."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=NOTHING)


def root_scale(most: float = 1.0) -> Any:
    """Colours by the square root of values from 0 to ``most``: small ones can be told apart."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=most)


def shade(index: int, count: int) -> tuple[float, float, float]:
    """The colour of a block: from dark to light with the depth."""
    part = index / max(1, count - 1)
    return (0.0, 0.2 + 0.5 * part, 0.5 + 0.5 * part)


def plain(axes: Any) -> None:
    """A faint grid and no frame."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def heading(axes: Any, text: str, **style: Any) -> None:
    """A title in which dollars are dollars."""
    axes.set_title(text, parse_math=False, **style)


def label_ticks(axis: Any, labels: list[str], **style: Any) -> None:
    """A tick for each of the labels, at 0, 1, 2, ..., whatever characters they have."""
    axis.set_ticks(range(len(labels)), labels, parse_math=False, **style)
    axis.set_tick_params(length=0)
