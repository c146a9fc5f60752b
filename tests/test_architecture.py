"""ARCHITECTURE.md, enforced: who may import whom, and what a source file looks like.

Imports are read from the syntax tree, so that those inside functions count as well: a deferred
import hides an edge from the interpreter, but not from the reader who has to follow it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tensorgrad", "nn", "gpt")

# ------------------------------------------------------------------------------------- the rules

# A module may import from its own stage and from those before it.
ORDER = (
    ("tensorgrad.backend",),
    (
        "tensorgrad.mode",
        "tensorgrad.errors",
        "tensorgrad.devices",
        "tensorgrad.printing",
        "tensorgrad.source",
        "tensorgrad.hooks",
    ),
    ("tensorgrad.variable", "tensorgrad.random"),
    ("tensorgrad.node", "tensorgrad.anomaly"),
    ("tensorgrad.engine",),
    ("tensorgrad.core",),
    ("tensorgrad.ops",),
    (
        "tensorgrad.functions",
        "tensorgrad.contraction",
        "tensorgrad.linalg",
    ),
    (
        "tensorgrad.creation",
        "tensorgrad.sampling",
        "tensorgrad.differentiable",
        "tensorgrad.tensor",
    ),
    (
        "tensorgrad.autograd",
        "tensorgrad.func",
        "tensorgrad.testing",
        "tensorgrad.graph",
        "tensorgrad.replay",
        "tensorgrad.walk",
        "tensorgrad.explanation",
        "tensorgrad.explain",
        "tensorgrad.hints",
        "tensorgrad.culprit",
        "tensorgrad.distributed",
        "tensorgrad.optim",
        "tensorgrad.serialization",
        "tensorgrad.utils",
    ),
    ("tensorgrad",),  # the front: tensorgrad/__init__.py
    ("nn",),
    ("tensorgrad.nn",),  # the alias of nn
    ("gpt",),
    ("examples",),
)
STAGE = {name: stage for stage, names in enumerate(ORDER) for name in names}

# These two exist to break the order: one exports everything, the other makes `tensorgrad.nn`.
SANCTIONED = {"tensorgrad.__init__", "tensorgrad.nn"}

# What the packages after tensorgrad see of it: its front, and these modules. The rest is inside;
# `from tensorgrad import tensor` and `explain` are the functions of those names.
PUBLIC = {
    "autograd",
    "distributed",
    "func",
    "testing",
    "graph",
    "linalg",
    "optim",
    "serialization",
    "utils",
    "nn",
}
INSIDE = {name.partition(".")[2] for name in STAGE} - PUBLIC - {"tensor", "explain"}

# Where a third-party package may be imported. What is not here is not a dependency.
HOMES = {
    "numpy": ("tensorgrad.backend", "gpt", "examples"),
    "llvmlite": ("tensorgrad.backend",),
    "numba": ("tensorgrad.backend",),
    "mpi4py": ("tensorgrad.distributed",),
    "threadpoolctl": ("tensorgrad.backend.products",),
    "graphviz": ("tensorgrad.graph",),
    "pygraphviz": ("tensorgrad.graph",),
    "tiktoken": ("gpt",),
    "regex": ("gpt",),
    "safetensors": ("tensorgrad.serialization",),
    "tqdm": ("gpt",),
    "tomli": ("gpt",),
    "tomllib": ("gpt",),  # the same; Python 3.10 does not know that it is Python's
    "matplotlib": ("gpt", "examples"),
    "tensorboardX": ("gpt",),
    "IPython": ("gpt",),  # no dependency: where it is not at work already, nothing is imported
}
# Each of these is imported in one file of the packages, so that doing without it is a decision
# made in one place. An example stands by itself, and may import what it draws with.
IN_ONE_FILE = (
    "tiktoken", "safetensors", "graphviz", "tqdm", "matplotlib", "pygraphviz", "tomli", "IPython",
    "mpi4py", "tensorboardX",
)  # fmt: skip

LONGEST = 600  # lines; beyond that a file is more than one thing

# ----------------------------------------------------------------------------------- the checker


@dataclass(frozen=True)
class Use:
    """A dotted name that a module takes from elsewhere, by an import or through one."""

    line: int
    name: str  # tensorgrad.optim.SGD
    module: str  # tensorgrad.optim: the part that the import statement spells as a module
    by_attribute: bool = False  # tg.optim, after `import tensorgrad as tg`


@cache
def uses(module: str, source: str) -> tuple[Use, ...]:
    """What ``module`` takes from elsewhere at run time, wherever in its source.

    Imports under ``if TYPE_CHECKING:`` never run, and are left out.
    """
    return tuple(_uses(module, source))


def _uses(module: str, source: str) -> Iterator[Use]:
    aliases: dict[str, str] = {}
    attributes: list[tuple[int, list[str]]] = []
    for node in _walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    root = alias.name.partition(".")[0]
                    aliases[alias.asname or root] = alias.name if alias.asname else root
                    yield Use(node.lineno, alias.name, alias.name)
            case ast.ImportFrom(names=names):
                origin = _origin(module, node)
                for alias in names:
                    aliases[alias.asname or alias.name] = f"{origin}.{alias.name}"
                    yield Use(node.lineno, f"{origin}.{alias.name}", origin)
            case ast.Call(
                func=ast.Attribute(attr="import_module")
                | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Use(node.lineno, name, name)
            case ast.Attribute():
                attributes.append((node.lineno, _chain(node)))
    for line, (root, *rest) in attributes:
        if root in aliases:
            origin = aliases[root]
            yield Use(line, ".".join([origin, *rest]), origin, by_attribute=True)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that can run, without the inner parts of an attribute chain."""
    yield node
    if isinstance(node, ast.Attribute) and _chain(node) != [""]:
        return
    children: Iterator[ast.AST] | list[ast.stmt] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _chain(node.test)[-1] == "TYPE_CHECKING":
        children = node.orelse
    for child in children:
        yield from _walk(child)


def _chain(node: ast.AST) -> list[str]:
    """``a.b.c`` as its parts; one empty part for what is not a plain chain of names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else [""]


def _origin(module: str, node: ast.ImportFrom) -> str:
    """The module that a ``from`` import names, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    package = module.split(".")[: -node.level]
    return ".".join([*package, node.module] if node.module else package)


def stage_of(name: str) -> int | None:
    """The place in ORDER of the module that a dotted name leads to; None outside the project."""
    while name:
        if name in STAGE:
            return STAGE[name]
        name = name.rpartition(".")[0]
    return None


def violations(module: str, source: str) -> list[str]:
    """The rules that the imports of a module break; ``a.__init__`` is the name of a package."""
    if module in SANCTIONED:
        return []
    package = module.partition(".")[0]
    own = stage_of(module)
    if own is None or own == STAGE["tensorgrad"]:
        return [f"{module} has no place in ORDER: give it one"]
    found = []
    for use in uses(module, source):
        where = f"{module}:{use.line}: {use.name}"
        top = use.name.partition(".")[0]
        target = stage_of(use.name)
        if target is None:
            if use.by_attribute or top in sys.stdlib_module_names:
                continue
            homes = HOMES.get(top)
            if homes is None:
                found.append(f"{where}: {top} is not among the dependencies")
            elif not any(f"{module}.".startswith(f"{home}.") for home in homes):
                found.append(f"{where}: {top} is for {', '.join(homes)} only")
        elif target > own:
            found.append(f"{where} is upward: {_label(own)} comes before {_label(target)}")
        elif top != package:
            found += [f"{where} {complaint}" for complaint in _private(use)]
    return found


def _label(stage: int) -> str:
    return "/".join(ORDER[stage])


def _private(use: Use) -> Iterator[str]:
    """Why a name of another package is not part of what that package offers."""
    top, *rest = use.name.split(".")
    if any(part.startswith("_") and not part.endswith("__") for part in rest):
        yield "is private: it starts with an underscore"
    if top == "tensorgrad" and rest:
        spelled_as_module = "." in use.module and not use.by_attribute
        if rest[0] in INSIDE or (spelled_as_module and rest[0] not in PUBLIC):
            yield "is inside tensorgrad: take the name from tensorgrad itself"


def loops(sources: dict[str, str]) -> list[str]:
    """A cycle of imports among the modules, deferred ones included; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        if module not in SANCTIONED:
            edges = (_file(use, sources) for use in uses(module, source) if not use.by_attribute)
            graph[module] = {edge for edge in edges if edge and edge != module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


def _file(use: Use, sources: dict[str, str]) -> str | None:
    """The module of ``sources`` that an import loads, so far as it is one."""
    for name in (use.name, use.module):
        for module in (name, f"{name}.__init__"):
            if module in sources:
                return module
    return None


def shape(module: str, source: str) -> list[str]:
    """What is wrong with a source file as a file."""
    tree = ast.parse(source)
    found = []
    if not ast.get_docstring(tree):
        found.append("has no docstring that says what it is for")
    if len(tree.body) < 2 and not module.endswith("__init__"):
        found.append("is empty")
    if (lines := len(source.splitlines())) > LONGEST:
        found.append(f"has {lines} lines: more than {LONGEST}")
    return [f"{module} {complaint}" for complaint in found]


# ------------------------------------------------------------------------------ what is checked


@cache
def project(*folders: str) -> dict[str, str]:
    """The sources in these folders by module name; a package's own is ``package.__init__``."""
    paths = (path for folder in folders for path in sorted((ROOT / folder).glob("**/*.py")))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in paths
    }


@pytest.mark.parametrize("module", project(*PACKAGES, "examples"))
def test_imports_follow_the_order(module: str) -> None:
    assert violations(module, project(*PACKAGES, "examples")[module]) == []


def test_imports_form_no_loop() -> None:
    loop = loops(project(*PACKAGES, "examples"))
    assert not loop, " → ".join(loop)


@pytest.mark.parametrize("package", IN_ONE_FILE)
def test_package_is_imported_in_one_file(package: str) -> None:
    importers = [
        module
        for module, source in project(*PACKAGES).items()
        if any(use.module.partition(".")[0] == package for use in uses(module, source))
    ]
    assert len(importers) == 1, f"{package} is imported by {', '.join(importers) or 'nobody'}"


@pytest.mark.parametrize("module", project(*PACKAGES))
def test_source_file(module: str) -> None:
    assert shape(module, project(*PACKAGES)[module]) == []


def test_all_packages_are_there() -> None:
    """The tests above run over what they find: this one sees that they find something."""
    assert {module.partition(".")[0] for module in project(*PACKAGES)} == set(PACKAGES)


def test_architecture_page_is_complete() -> None:
    """ARCHITECTURE.md names every module of the packages, and no file that does not exist."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    names = {name.removesuffix(".__init__").rpartition(".")[2] for name in project(*PACKAGES)}
    unnamed = {name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", page)}
    assert not unnamed, f"ARCHITECTURE.md does not mention {sorted(unnamed)}"
    folders = (*PACKAGES, "examples", "tests", "benchmarks", "docs")  # and not the environment
    paths = [path for folder in folders for path in (ROOT / folder).glob("**/*.py")]
    gone = {
        name
        for name in re.findall(r"[\w/]+\.py\b", page)
        if not any(path.as_posix().endswith(f"/{name}") for path in paths)
    }
    assert not gone, f"ARCHITECTURE.md mentions {sorted(gone)}, which do not exist"


# ---------------------------------------------------------------------- the checker is checked

WRONG = {
    "upward": ("tensorgrad.core", "from tensorgrad.ops import add", "upward"),
    "upward, relative": ("tensorgrad.core", "from .tensor import Tensor", "upward"),
    "upward, module by name": ("tensorgrad.ops.reduce", "from .. import autograd", "upward"),
    "upward, deferred": ("tensorgrad.core", "def f():\n    import tensorgrad.graph", "upward"),
    "upward, as a string": (
        "tensorgrad.core",
        "import importlib\nimportlib.import_module('tensorgrad.graph')",
        "upward",
    ),
    "upward, to the front": ("tensorgrad.tensor", "import tensorgrad", "upward"),
    "upward, to nn": ("tensorgrad.optim", "from nn import Module", "upward"),
    "upward, from nn": ("nn.loss", "from gpt.config import Config", "upward"),
    "upward, else branch": (
        "tensorgrad.core",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from tensorgrad import ops",
        "upward",
    ),
    "numpy in core": ("tensorgrad.core", "import numpy as np", "numpy is for"),
    "numpy in nn": ("nn.init", "import numpy.random", "numpy is for"),
    "numba in ops": ("tensorgrad.ops.fused", "from numba import njit", "numba is for"),
    "no dependency": ("gpt.train", "import torch", "not among the dependencies"),
    "nn uses core": ("nn.linear", "from tensorgrad.core import Op", "inside"),
    "nn uses ops": ("nn.linear", "from tensorgrad import ops", "inside"),
    "nn uses a module": ("nn.linear", "from tensorgrad.tensor import Tensor", "inside"),
    "nn uses core by attribute": ("nn.linear", "import tensorgrad as tg\ntg.core.Op()", "inside"),
    "nn uses a private name": ("nn.linear", "from tensorgrad import _seed", "private"),
    "nn uses a private attribute": (
        "nn.linear",
        "import tensorgrad as tg\ndef f(x):\n    return tg.Tensor._wrap(x)[0].shape",
        "private",
    ),
    "gpt uses a private name of nn": ("gpt.model", "from nn.module import _walk", "private"),
    "gpt uses the backend": ("gpt.__main__", "import tensorgrad.backend", "inside"),
    "example uses core": ("examples.train_gpt", "import tensorgrad.core as c", "inside"),
    "no place": ("tensorgrad.extras", "x = 1", "no place"),
}

RIGHT = {
    "downward": ("tensorgrad.ops.reduce", "from ..core import op\nfrom . import shape"),
    "same stage": ("tensorgrad.creation", "from tensorgrad.tensor import Tensor"),
    "module of the same name": ("tensorgrad.creation", "from . import tensor, ops, core"),
    "numpy in the backend": ("tensorgrad.backend.__init__", "import math, numpy as np"),
    "types only": (
        "tensorgrad.core",
        "import typing\nif typing.TYPE_CHECKING:\n    from .tensor import Tensor\n    import numpy",
    ),
    "public names": (
        "nn.linear",
        "import tensorgrad as tg\nfrom tensorgrad import Tensor, optim, tensor\n"
        "import tensorgrad.optim\ntg.tensor(1).sum()\ntg.__version__\nTensor.zeros\nself._x = 1",
    ),
    "public nn": ("gpt.model", "import nn\nfrom nn import functional as F\nnn.Linear\nF.gelu"),
    "dependencies of gpt": ("gpt.tokenizer", "def f():\n    import tiktoken\n    import numpy"),
    "example": ("examples.train_gpt", "from gpt.train import train\nfrom gpt import Config"),
    "front": ("tensorgrad.__init__", "from .graph import draw\nfrom tensorgrad.core import _x"),
    "alias": ("tensorgrad.nn", "import sys\nimport nn\nsys.modules[__name__] = nn"),
}


@pytest.mark.parametrize(("module", "source", "complaint"), WRONG.values(), ids=WRONG)
def test_checker_catches(module: str, source: str, complaint: str) -> None:
    found = violations(module, source)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(("module", "source"), RIGHT.values(), ids=RIGHT)
def test_checker_allows(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_checker_catches_loops() -> None:
    ring = {"nn.__init__": "from .a import A", "nn.a": "def f():\n    from nn import b", "nn.b": ""}
    assert loops(ring) == []
    ring["nn.b"] = "import nn"
    assert loops(ring) == ["nn.__init__", "nn.a", "nn.b", "nn.__init__"]


def test_checker_catches_bad_files() -> None:
    assert shape("nn.a", '"""Something."""\nx = 1') == []
    assert shape("nn.__init__", '"""A front."""') == []
    assert shape("nn.a", "") == ["nn.a has no docstring that says what it is for", "nn.a is empty"]
    assert shape("nn.a", '"""Long."""\n' + "x = 1\n" * 600) == ["nn.a has 601 lines: more than 600"]
