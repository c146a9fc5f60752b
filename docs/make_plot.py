"""Draws docs/images/performance.svg from what ``python -m benchmarks --save FILE`` has measured.

python docs/make_plot.py FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

TARGET = Path(__file__).parent / "images" / "performance.svg"
PARTS = ("forward", "backward", "optimizer", "step")
COLOURS = ("#56B4E9", "#0072B2", "#E69F00", "#444444")  # Okabe and Ito


def draw(found: dict[str, Any]) -> Figure:
    """Bars of PyTorch's time divided by ours, with their range; a dash for NumPy alone."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(PARTS)
    for i, (part, colour) in enumerate(zip(PARTS, COLOURS)):
        places = [k + (i - 1.5) * width for k in range(len(found))]
        numba, numpy = (
            [sorted(c[part]["ratios"][name]) for c in found.values()] for name in ("numba", "numpy")
        )
        middle = [median(r) for r in numba]
        spread = [
            [m - r[0] for m, r in zip(middle, numba)],
            [r[-1] - m for m, r in zip(middle, numba)],
        ]
        name = "whole step" if part == "step" else part
        axes.bar(places, [m - 1 for m in middle], width, bottom=1, color=colour, label=name)
        axes.errorbar(places, middle, spread, fmt="none", ecolor="black", elinewidth=0.7)
        axes.plot(places, [median(r) for r in numpy], "_", color="black", markersize=9)
    axes.plot([], [], "_", color="black", markersize=9, label="NumPy alone")
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(found)), list(found))
    axes.set_yscale("log", base=2)  # twice as fast is as far from equal as half as fast
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("PyTorch's time / ours")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return figure


def main(measured: str, target: Path = TARGET) -> None:
    """Draw what the file ``measured`` holds."""
    draw(json.loads(Path(measured).read_text())).savefig(target, metadata={"Date": None})
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
