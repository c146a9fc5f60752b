"""The notebooks run, from top to bottom in a fresh kernel, and print what is stored in them.

Text is compared, with numbers to one unit of their last printed place; of pictures only that they
are there. A cell tagged `varies` trains something, and its numbers are not the same everywhere.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
for needed in ("nbclient", "ipykernel", "matplotlib", "pygraphviz"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")
from make_notebooks import NOTEBOOKS, executed
from nbclient.exceptions import CellExecutionError

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Notebooks that train for a minute, as the quick run has them; `make test-slow` does not.
QUICK = {"inside_a_trained_gpt": {"STEPS": "5"}}
LARGEST = 60_000  # bytes of a picture: a notebook is read over a network, and kept in git for ever
SMALL = Decimal("1e-6")  # below it, a number is rounding


def outputs(cell: Any) -> list[tuple[str, str]]:
    """What a cell shows: (what kind, its text); of a picture no text."""
    shown = []
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            shown.append((output.name, output.text))
        for kind, content in output.get("data", {}).items():
            shown.append((kind, "" if kind.startswith("image/") else content))
    return shown


def same(found: str, wanted: str) -> bool:
    """Whether two texts are the same but for the last places of numbers with a point."""
    if NUMBER.sub("#", found) != NUMBER.sub("#", wanted):
        return False
    pairs = zip(NUMBER.findall(found), NUMBER.findall(wanted), strict=True)
    return all(a == b or near(Decimal(a), Decimal(b)) for a, b in pairs)


def near(a: Decimal, b: Decimal) -> bool:
    last = max(place for n in (a, b) if isinstance(place := n.as_tuple().exponent, int))
    return last < 0 and abs(a - b) <= max(Decimal(1).scaleb(last), SMALL)


def differences(found: Any, wanted: Any) -> list[str]:
    """Where the outputs of two runs of a notebook differ."""
    complaints = []
    for new, old in zip(found.cells, wanted.cells, strict=True):
        if "varies" in old.metadata.get("tags", ()):
            continue
        a, b = outputs(new), outputs(old)
        alike = [kind for kind, _ in a] == [kind for kind, _ in b]
        if not (alike and all(same(x, y) for (_, x), (_, y) in zip(a, b))):
            complaints.append(f"cell {old.id}:\n{old.source}\nnow {a}\nwas {b}")
    return complaints


LONG = [pytest.mark.slow]  # trains a model


@pytest.fixture(
    params=[pytest.param(p, marks=LONG if "trained" in p.stem else []) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_runs_and_prints_what_is_stored(path: Path) -> None:
    found = executed(path, **QUICK.get(path.stem, {}))
    complaints = differences(found, nbformat.read(path, as_version=4))
    assert not complaints, "\n\n".join([*complaints, "if that is right: make notebooks"])


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_learns_what_is_stored(name: str) -> None:
    """Run in full: the last loss that is printed in training is the one that is stored."""
    path = next(path for path in NOTEBOOKS if path.stem == name)
    last = [
        float(re.findall(r"loss (\d+\.\d+)", str(notebook.cells))[-1])
        for notebook in (executed(path), nbformat.read(path, as_version=4))
    ]
    assert last[0] == pytest.approx(last[1], abs=0.15)


def test_is_stored_as_one_run_left_it(path: Path) -> None:
    """Valid, all cells run once in order, nothing went wrong, and nobody's folders are in it."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)], "make notebooks"
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", f"a warning? {output.text}"
        text = output.get("text", "") + "".join(output.get("data", {}).values())
        assert not re.search(r"ipykernel|/(home|root|tmp|work|Users)/", text)
        for kind, content in output.get("data", {}).items():
            size = len(content) * (3 / 4 if kind == "image/png" else 1)  # a PNG is in base64
            assert not kind.startswith("image/") or size < LARGEST


def test_begins_with_what_it_is_for(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match("# .+\n\n", first.source)
    for words in ("At the end you will know", "It runs"):
        assert words in first.source


# --- the checks themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ("loss 0.1234", "loss 0.1235", True),  # rounded the other way
        ("loss 0.1234", "loss 0.1237", False),
        ("loss 0.1234", "lost 0.1234", False),
        ("3 rows", "4 rows", False),
        ("off by 1e-11", "off by 4e-11", True),
        ("[ 1.0, 2.0]", "[ 1.0]", False),
        ("W1 is nan", "W1 is nan", True),
        ("-0.0000", "0.0000", True),
    ],
)
def test_comparison_of_texts(found: str, wanted: str, expected: bool) -> None:
    assert same(found, wanted) is expected


def test_a_wrong_notebook_is_noticed(tmp_path: Path) -> None:
    """Another number, a picture that is missing; a cell tagged `varies` is let alone."""
    v4 = nbformat.v4
    text = v4.new_output("stream", name="stdout", text="0.5\n")
    other = v4.new_output("stream", name="stdout", text="0.8\n")
    image = v4.new_output("display_data", {"image/png": "aaaa"})
    old = v4.new_notebook(cells=[v4.new_code_cell("x", outputs=[text, image])])
    new = v4.new_notebook(cells=[v4.new_code_cell("x", outputs=[text, image])])
    assert differences(new, old) == []
    new.cells[0].outputs = [other, image]
    assert len(differences(new, old)) == 1
    new.cells[0].outputs = [text]
    assert len(differences(new, old)) == 1
    old.cells[0].metadata["tags"] = ["varies"]
    assert differences(new, old) == []


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    """In a kernel with this checkout's tensorgrad, whose complaints name the cell and the line."""
    path = tmp_path / "wrong.ipynb"
    cell = nbformat.v4.new_code_cell(
        "import tensorgrad\n\nx = tensorgrad.ones(2, requires_grad=True)\ny = x.exp()\n"
        "loss = (y * y).sum()\ny.mul_(2)\nloss.backward()"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(CellExecutionError, match=r"recorded at In\[1\]:5"):
        executed(path)
