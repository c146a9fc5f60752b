"""What all tests share: where things are, and what happens when something optional is absent."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Corpora and tokeniser tables that are not ours to ship lie beside the checkout, or elsewhere.
SHARED = Path(os.environ.get("TENSORGRAD_SHARED") or ROOT.parent / "shared")

NO_TORCH = "PyTorch is not installed: pip install torch==2.13.0"

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window

# Time limits say more about a busy machine than about the code. In CI the examples are the same
# every time, so that a red run can be repeated; elsewhere new ones are drawn and failures kept.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``torch`` where there is no PyTorch, and do not import it to find out."""
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip(NO_TORCH)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What has been collected stays to the end: the garbage collector need not look at it again.

    Of several processes that run the whole suite, each compiles a share of the kernels first.
    """
    if hasattr(session.config, "workerinput") and len(session.items) > 2000:
        from kernels_first import compile_share

        compile_share(int(session.config.workerinput["workerid"].removeprefix("gw")))
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What programs keep for their next run stays out of the user's folder for caches."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The file of a short text."""
    from tiny_run import TEXT

    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the data that is not in the repository; skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no folder of shared data: set TENSORGRAD_SHARED to it")
    return SHARED


@pytest.fixture(scope="session")
def shared_file(shared: Path) -> Callable[[str], Path]:
    """``shared_file("data/x.txt")`` is the path of that file; skips where it is absent."""

    def find(name: str) -> Path:
        path = shared / name
        if not path.is_file():
            pytest.skip(f"the shared data have no {name}")
        return path

    return find


@pytest.fixture
def tiktoken_cache(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiktoken reads its tables from the shared data, and not from the network."""
    folder = shared / "tiktoken"
    if not folder.is_dir():
        pytest.skip("the shared data have no tiktoken tables")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``call("train", "--steps", 2)``: the exit code, the output, the complaints."""
    from gpt import __main__ as command_line  # most tests need none

    def main(*arguments: object) -> tuple[int, str, str]:
        try:
            code = command_line.main([str(a) for a in arguments])
        except SystemExit as stop:  # argparse's way
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return main


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch; skips where it is not installed."""
    return pytest.importorskip("torch", reason=NO_TORCH)


@pytest.fixture(params=["tensorgrad", pytest.param("torch", marks=pytest.mark.torch)])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    """tensorgrad, and PyTorch where it is installed: a test of both cannot be wrong about it."""
    return importlib.import_module(request.param)


# ----------------------------------------------------------------------------------- tiny trainings


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end without their pictures, which take longer than all the rest."""
    from gpt import reporting

    monkeypatch.setattr(reporting, "draw", lambda *given: ([], []))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> Path:
    """The current folder: empty but for a text."""
    from tiny_run import TEXT

    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``TINY`` that nobody interrupts, with all its pictures; nobody may change it."""
    from tiny_run import trainer

    out = tmp_path_factory.mktemp("straight") / "run"
    lines: list[str] = []
    assert trainer(out, say=lines.append).run()
    (out.parent / "said").write_text("\n".join(lines))
    return out


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps, without pictures; nobody may change it."""
    from tiny_run import trainer

    from gpt import reporting

    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "draw", lambda *given: ([], []))
        trainer(out, steps=4).run()
    return out


@pytest.fixture
def run(finished: Path, here: Path) -> Path:
    """A copy of it as ``run`` in the current folder."""
    return shutil.copytree(finished, here / "run")


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Without the garbage collector only reference counts free anything.

    What is there already stays out of it: to look at everything anew for each of some hundred tests
    would take longer than the tests.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
