"""Run the notebooks as Jupyter does and write what they print and draw into them: `make notebooks`.

Read the difference before committing it. The tests run them again and compare.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def executed(path: Path, **environment: str) -> Any:
    """The notebook at ``path`` with the outputs of a fresh kernel that imports this checkout.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised; the message has its text.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        coalesce_streams=True,  # what is printed arrives in pieces, cut by chance
        resources={"metadata": {"path": str(ROOT)}},  # the working directory
        extra_arguments=["--log-level=ERROR"],  # not that the kernel listens on this machine
    )
    outside = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    outside["TENSORGRAD_BACKEND"] = "numpy"  # nothing has to be compiled first
    outside.pop("MPLBACKEND", None)  # pictures go into the notebook, whatever the tests want
    client.execute(env=outside)
    notebook.metadata["language_info"] = {"name": "python"}  # not which version it was
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                data.pop("text/plain", None)  # <Picture at 0x7f...>, another one each time
    return notebook


def main(names: list[str]) -> None:
    for path in [Path(name) for name in names] or NOTEBOOKS:
        text = nbformat.writes(executed(path), indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        print(path.name, f"{len(text) / 1024:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
