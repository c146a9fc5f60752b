"""The documentation runs: the Python blocks of the pages, and the examples in the docstrings."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path
from textwrap import dedent
from types import CodeType, ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PACKAGES = ("tensorgrad", "nn", "gpt")
OPTIONAL = {"numba", "cupy"}  # a module may be unusable for want of these, and of nothing else
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# ```py and ```python, with attributes or without: no block escapes by its label.
FENCE = re.compile(r"^( *)```py[^\n]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)


def blocks(text: str, name: str) -> list[CodeType]:
    """The fenced Python blocks of a page, compiled so that a traceback shows the page's lines."""
    compiled = []
    for match in FENCE.finditer(text):
        lines_before = text.count("\n", 0, match.start(2))
        compiled.append(compile("\n" * lines_before + dedent(match[2]), name, "exec"))
    return compiled


def modules() -> list[str]:
    """The names of all modules of the three packages, packages under their own name."""
    paths = (path for package in PACKAGES for path in (ROOT / package).glob("**/*.py"))
    dotted = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in dotted)


def examples(module: ModuleType) -> list[doctest.DocTest]:
    """The ``>>>`` examples of a module: of its functions and classes, which doctest finds by
    itself, and of its objects with a docstring of their own, such as ops.
    """
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module)
    if not hasattr(module, "__path__"):  # a package's front only hands on what others define
        for name, value in vars(module).items():
            known = inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value)
            if not known and "__doc__" in getattr(value, "__dict__", {}):
                found += finder.find(value, f"{module.__name__}.{name}", module)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks run from top to bottom, as a reader would who types them in."""
    code = blocks(page.read_text(encoding="utf-8"), str(page))
    monkeypatch.chdir(tmp_path)  # what an example writes does not end up in the checkout
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in code:
        exec(block, namespace)


def test_readme_shows_python() -> None:
    assert blocks((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in examples(module):
        runner.run(test)
    assert not runner.failures, f"{runner.failures} examples of {name} print something else"


def test_a_wrong_page_is_noticed() -> None:
    """Blocks share a namespace, other languages are left alone, and line numbers are the page's."""
    page = "# T\n\n```python\nx = 1\n```\n\n```sh\nrm x\n```\n\n```python\nassert x == 2\n```\n"
    first, second = blocks(page, "page.md")
    namespace: dict[str, object] = {}
    exec(first, namespace)
    with pytest.raises(AssertionError) as caught:
        exec(second, namespace)
    assert caught.traceback[-1].lineno + 1 == 12  # counted from 0


def test_examples_of_objects_are_found() -> None:
    module = ModuleType("planted", "A module.\n\n>>> one()\n1\n")
    source = 'def one():\n    """One.\n\n    >>> one()\n    1\n    """\n    return 1\n'
    exec(source, vars(module))
    vars(module)["op"] = SimpleNamespace(__doc__="An op.\n\n>>> one()\n2\n")
    assert sorted(test.name for test in examples(module)) == [
        "planted",
        "planted.one",
        "planted.op",
    ]
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples(module):
        runner.run(test, out=lambda text: None)
    assert (runner.tries, runner.failures) == (3, 1)
