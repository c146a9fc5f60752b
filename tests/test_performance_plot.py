"""The plot of docs/performance.md shows what ``python -m benchmarks --save`` has written."""

from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

PARTS = ("forward", "backward", "optimizer", "step")


@pytest.fixture
def maker(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_plot", root / "docs" / "make_plot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_ratios_of_the_file_are_drawn(
    maker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each part's median with Numba as a bar, its range as a line, the median of NumPy a dash."""
    found = {
        name: {
            part: {"ratios": {"numba": [k, 3 * k, 2 * k], "numpy": [k / 2, k / 4, k]}}
            for part, k in zip(PARTS, scales)
        }
        for name, scales in {"one": (1.0, 2.0, 0.5, 1.25), "other": (0.75, 3.0, 0.25, 1.5)}.items()
    }
    (tmp_path / "found.json").write_text(json.dumps(found))
    maker.main(str(tmp_path / "found.json"), tmp_path / "plot.svg")
    assert capsys.readouterr().out == f"wrote {tmp_path / 'plot.svg'}\n"
    assert ET.parse(tmp_path / "plot.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"

    (axes,) = maker.draw(found).axes
    for i, bars in enumerate(axes.containers[::2]):  # each is followed by its lines
        ks = [ratios[PARTS[i]]["ratios"]["numba"][0] for ratios in found.values()]
        assert [bar.get_y() + bar.get_height() for bar in bars] == [2 * k for k in ks]
        ends = [sorted(end for _, end in line) for line in axes.collections[i].get_segments()]
        assert ends == [[k, 3 * k] for k in ks]
        dashes = [line for line in axes.lines if line.get_marker() == "_"]
        assert dashes[i].get_ydata().tolist() == [k / 2 for k in ks]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "other"]
