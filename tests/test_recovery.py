"""A run survives what happens to its process, its disk and its files: nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mpiexec import PLAIN
from tiny_run import assert_same_run, contents, state, trainer

import tensorgrad
from gpt import __main__ as command_line
from gpt import checkpoint, folder, label, reporting
from gpt import lock as lock_module
from gpt.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS, SUMMARY
from gpt.lock import Busy, Lock
from gpt.train import Trainer
from tensorgrad import serialization

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to which nothing happens."""
    out = tmp_path_factory.mktemp("quiet") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "draw", lambda *args: ([], []))
        trainer(out).run()
    return out


def step_of(out: Path, name: str) -> int:
    return state(out, name)["header"]["facts"]["step"]


# ----------------------------------------------------------------------------------- checkpoints


def test_last_previous_and_best(quiet: Path) -> None:
    """Saved after the steps 3, 6 and 8; the loss falls, so that the last evaluation is the best."""
    assert step_of(quiet, CHECKPOINT) == 8
    assert step_of(quiet, PREVIOUS) == 6
    rows = [json.loads(line) for line in (quiet / "metrics.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["val_loss"])
    assert step_of(quiet, BEST) == best["step"]
    assert json.loads((quiet / SUMMARY).read_text())["best"] == {
        "step": best["step"], "val_loss": best["val_loss"],
    }  # fmt: skip


def test_the_best_stays_when_it_gets_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.4, 2.0])
    monkeypatch.setattr(
        Trainer, "evaluate", lambda self: {"train_loss": 1.0, "val_loss": next(losses)}
    )
    trainer(tmp_path / "run").run()
    assert step_of(tmp_path / "run", BEST) == 2


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flipped(path: Path) -> None:
    """One bit of a weight."""
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def newer(path: Path) -> None:
    tensorgrad.save({"header": {"version": 99}, "model": {}, "optimizer": {}}, path)


def foreign(path: Path) -> None:
    tensorgrad.save({"weight": tensorgrad.ones(3)}, path)


def of_another_model(path: Path) -> None:
    other = trainer(path.parent.parent / "other", heads=1)
    checkpoint.save(path, other.model, other.optimizer, {})


def without_facts(path: Path) -> None:
    run = trainer(path.parent.parent / "other")
    checkpoint.save(path, run.model, run.optimizer, {"step": 8})


BAD = {
    "truncated": (truncated, "is truncated"),
    "one bit": (flipped, "is corrupt, its checksum is wrong"),
    "empty": (lambda path: path.write_bytes(b""), "is truncated"),
    "pickle": (lambda path: path.write_bytes(b"\x80\x04N." * 9), "looks like a pickle"),
    "newer": (newer, "has the format 99, but this program reads 1"),
    "foreign": (foreign, "not a checkpoint of a run"),
    "of another model": (of_another_model, "heads is 1 there and 2 here"),
    "without facts": (without_facts, "is damaged"),
    "missing": (Path.unlink, "there is no checkpoint"),
}


@pytest.mark.parametrize(("spoil", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_checkpoint(
    spoil: Callable[[Path], Any], complaint: str, quiet: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The one before it is used, one line says so, the bad one is kept, and the end is the same."""
    out, lines = tmp_path / "run", []
    trainer(out).run()
    spoil(out / CHECKPOINT)
    content = (out / CHECKPOINT).read_bytes() if (out / CHECKPOINT).exists() else None

    assert command_line.main(["sample", str(out), "--tokens", "3"]) == 0
    said = capsys.readouterr().err
    if spoil is without_facts:  # the weights are there, and no more is needed to write
        assert said == ""
    else:
        assert complaint in said
        assert said.endswith(f"; taking {PREVIOUS} instead\n")
        assert said.count("\n") == 1

    run = trainer(out, resume=True, say=lines.append)
    assert run.step == 6
    assert complaint in lines[0]
    assert f"going on from {PREVIOUS} instead" in lines[0]
    kept = out / f"{CHECKPOINT}.bad-1"
    assert kept.exists() == (content is not None)
    if content is not None:
        assert kept.read_bytes() == content
        assert lines[0].endswith(f"the bad file is kept as {kept}")
    run.run()
    assert_same_run(out, quiet)
    assert step_of(out, PREVIOUS) == 6


def test_both_bad(tmp_path: Path) -> None:
    """Then nothing is touched, and the complaint is about the last."""
    out = tmp_path / "run"
    trainer(out).run()
    flipped(out / CHECKPOINT)
    truncated(out / PREVIOUS)
    before = contents(out)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is corrupt.* best\.safetensors"):
        trainer(out, resume=True)
    assert contents(out) == before
    (out / BEST).rename(out / CHECKPOINT)  # as the complaint says
    assert trainer(out, resume=True).run()
    for name in (BEST, PREVIOUS):
        (out / name).unlink(missing_ok=True)
    flipped(out / CHECKPOINT)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is corrupt[^;]*$"):
        trainer(out, resume=True)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    """A pickle that would make a file when it is loaded."""
    import pickle

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="looks like a pickle"):
        checkpoint.read(path)
    assert not (tmp_path / "sprung").exists()


def test_another_text(tmp_path: Path) -> None:
    """The same file with other words: one can go on, and is told."""
    out, lines = tmp_path / "run", []
    trainer(out, steps=2).run()
    text = tmp_path / "text.txt"
    text.write_text(text.read_text()[::-1])
    trainer(out, resume=True, say=lines.append, steps=3).run()
    assert "the text is not the one that the run has learnt from until now" in lines


def test_best_weights_can_write(
    quiet: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda path: (asked.append(path.name), read(path))[1])
    assert command_line.main(["sample", str(quiet), "--best", "--tokens", "3"]) == 0
    assert asked == [BEST]


# ---------------------------------------------------------------------------------------- the disk

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FAULTS = {
    "write": 0, "fsync": 0, "rename the new file": 0, "rename the old one": 1, "put in place": 2,
}  # fmt: skip


class HalfWritten:
    """A file that takes a hundred bytes, and then fails."""

    def __init__(self, file: Any, error: BaseException) -> None:
        self.file, self.error = file, error

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    def writelines(self, pieces: Any) -> None:
        self.file.write(bytes(next(iter(pieces)))[:100])
        raise self.error


def break_disk(patch: pytest.MonkeyPatch, where: str, error: BaseException) -> None:
    """Let one kind of operation fail, a rename after so many that work."""
    left = [FAULTS[where]]

    def fail(*args: Any, real: Callable[..., Any] = os.replace) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise error
        real(*args)

    if where == "write":

        def half(*args: Any) -> HalfWritten:
            return HalfWritten(open(*args), error)

        patch.setattr(serialization, "open", half, raising=False)
    else:
        patch.setattr(os, "fsync" if where == "fsync" else "replace", fail)


@pytest.mark.parametrize("where", FAULTS)
@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.EIO, os.strerror(errno.EIO)), KeyboardInterrupt()],
    ids=["full disk", "broken disk", "Ctrl-C"],
)  # fmt: skip
def test_faults(
    where: str, error: BaseException, quiet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save after the sixth step fails, and the run can go on as if it had not come so far."""
    out = tmp_path / "run"
    run = trainer(out, steps=8)
    real = Trainer.save

    def save(self: Trainer) -> Path:
        if self.step == 6:
            with monkeypatch.context() as patch:
                break_disk(patch, where, error)
                return real(self)
        return real(self)

    monkeypatch.setattr(Trainer, "save", save)
    with pytest.raises(type(error)) as caught:
        run.run()
    monkeypatch.setattr(Trainer, "save", real)
    if isinstance(error, OSError):
        said = f"{out / CHECKPOINT} cannot be written ({error.strerror}) and is left as it was"
        assert str(caught.value) == said
    assert step_of(out, CHECKPOINT) == 3
    assert not [name for name in os.listdir(out) if ".new" in name or ".tmp" in name]
    trainer(out, resume=True).run()
    assert_same_run(out, quiet)


def test_litter_is_swept(quiet: Path, tmp_path: Path) -> None:
    """What a killed program left of a write goes, what is not ours stays."""
    out = tmp_path / "run"
    trainer(out).run()
    (out / f"{CHECKPOINT}.new").write_bytes(b"half")
    (out / f"{CHECKPOINT}.new.0a1b2c3d.tmp").write_bytes(b"half")
    (out / "config.json.0a1b2c3d.tmp").write_bytes(b"half")
    (out / "notes.tmp").write_bytes(b"mine")
    trainer(out, resume=True)
    left = [name for name in os.listdir(out) if name.endswith((".new", ".tmp"))]
    assert left == ["notes.tmp"]


def test_killed_while_it_began(tmp_path: Path) -> None:
    """With a tokenizer and nothing else in the folder: it is kept as an earlier run is."""
    out = tmp_path / "run"
    trainer(out)
    (out / CONFIG).unlink()
    trainer(out).run()
    assert (tmp_path / "run-1" / "tokenizer.json").exists()


# ------------------------------------------------------------------------------------- the process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a kill takes os.fork")
def test_kill(root: Path) -> None:
    """Five times; ``python -m tests.kill`` does it a hundred times."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.kill", "--times", "5"], cwd=root, capture_output=True,
        text=True, env={**os.environ, **PLAIN, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("5 kills, ")


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int], None]]:
    """``send(signum, at)``: a signal in the middle of a step."""
    real = Trainer.train_step
    before = signal.getsignal(signal.SIGTERM)

    def prepare(signum: int, at: int) -> None:
        def step(self: Trainer) -> tuple[float, float]:
            if self.step == at - 1:
                monkeypatch.setattr(Trainer, "train_step", real)
                signal.raise_signal(signum)
            return real(self)

        monkeypatch.setattr(Trainer, "train_step", step)

    yield prepare
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("at", [1, 4, 8])
def test_sigterm(
    at: int, quiet: Path, tmp_path: Path, send: Callable[[int, int], None],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As Ctrl-C: the step is finished and saved."""
    out, lines = tmp_path / "run", []
    send(signal.SIGTERM, at)
    run = trainer(out, say=lines.append)
    assert not run.run()
    assert run.stopped_by == signal.SIGTERM
    assert "stopping after this step (SIGTERM again: at once" in capfd.readouterr().err
    assert lines[-2] == f"stopped after step {at} of 8; saved {out / CHECKPOINT}"
    assert trainer(out, resume=True).run()
    assert_same_run(out, quiet)


def test_exit_codes(
    tmp_path: Path, send: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer(tmp_path / "run", steps=1).run()
    for signum, steps in ((signal.SIGTERM, 3), (signal.SIGINT, 5)):
        send(signum, steps - 1)
        again = ["train", "--resume", "--out", "run", "--steps", str(steps)]
        assert command_line.main(again) == 128 + signum


# --------------------------------------------------------------------------------------- the label


def test_label(tmp_path: Path, root: Path) -> None:
    """What the run was made with, at its start and each time that it went on."""
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    trainer(out, resume=True, steps=4).run()
    sessions = json.loads((out / CONFIG).read_text())["sessions"]
    assert [session["step"] for session in sessions] == [0, 2]
    summary = json.loads((out / SUMMARY).read_text())
    for record in (*sessions, summary):
        assert record["seed"] == 1337
        assert record["tensorgrad"] == tensorgrad.__version__
        assert record["python"] == sys.version.split()[0]
        assert {"numpy", "numba", "platform", "command"} <= set(record)
    if (root / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True)
        if head.returncode == 0:
            assert summary["revision"].startswith(head.stdout.decode().strip())


def test_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where there is no checkout, nor where there is no git."""
    monkeypatch.setenv("PATH", "")
    label.revision.cache_clear()
    assert label.revision() is None
    monkeypatch.setattr(label, "__file__", "/nowhere/gpt/label.py")
    label.revision.cache_clear()
    assert label.revision() is None
    label.revision.cache_clear()


def test_a_config_of_an_earlier_version(tmp_path: Path) -> None:
    """Without sessions, without the newer choices; the checkpoint without the newer facts."""
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    record = json.loads((out / CONFIG).read_text())
    del record["sessions"]
    for name in ("accumulate", "spike", "patience", "recompute"):
        del record["run"][name]
    (out / CONFIG).write_text(json.dumps(record))
    header, _ = checkpoint.read(out / CHECKPOINT)
    run = trainer(out, resume=True)
    facts = {k: v for k, v in header["facts"].items() if k not in ("best", "losses", "text")}
    checkpoint.save(out / CHECKPOINT, run.model, run.optimizer, facts)
    trainer(out, resume=True, steps=4).run()
    assert folder.read_config(out)[0].steps == 4


# ---------------------------------------------------------------------------------------- the lock

posix = pytest.mark.skipif(os.name != "posix", reason="nothing is locked there")
BUSY = (
    r"another run is going on in the folder .*run: wait for its end, or choose another with --out"
)


@pytest.fixture
def elsewhere(root: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """``elsewhere(folder)`` is another process that has the folder's lock."""
    processes = []

    def start(out: Path) -> subprocess.Popen[str]:
        code = (
            "import sys, pathlib; from gpt.lock import Lock; lock = Lock(pathlib.Path(sys.argv[1]))"
            "; lock.take(); print('locked', flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(out)], cwd=root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@posix
def test_two_processes(
    tmp_path: Path, elsewhere: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second gets one line and touches nothing; one that was killed is in nobody's way."""
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    other = elsewhere(out)
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(Busy, match=BUSY):
            trainer(out, resume=resume)
    assert command_line.main(["train", "--resume", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: another run is going on in the folder ")
    assert said.count("\n") == 1
    assert command_line.main(["sample", str(out), "--tokens", "2"]) == 0  # reading is no harm
    assert contents(tmp_path) == before
    other.kill()
    other.wait()
    assert trainer(out, resume=True, steps=3).run()
    trainer(out, steps=1).run()
    assert sorted(os.listdir(tmp_path)) == ["run", "run-1", "text.txt"]
    assert not [name for name in os.listdir(out) if "lock" in name]


@posix
def test_the_folder_is_locked_while_a_run_lasts(tmp_path: Path, root: Path) -> None:
    """From its beginning on, in the folder that it has made, until its end."""
    out = tmp_path / "run"
    code = "import sys, pathlib; from gpt.lock import Lock; Lock(pathlib.Path(sys.argv[1])).take()"

    def free() -> bool:
        command = [sys.executable, "-c", code, str(out)]
        return subprocess.run(command, cwd=root, stderr=subprocess.DEVNULL).returncode == 0

    seen = []
    trainer(out, steps=1).run()
    run = trainer(out, steps=1, callbacks=[lambda *args: seen.append(free())])
    seen.append(free())
    run.run()
    assert seen == [False, False]
    assert free()


@posix
def test_within_a_process(tmp_path: Path, quiet: Path) -> None:
    """A cell that is run again wins; two that train at once do not."""
    out = tmp_path / "run"
    first = trainer(out)

    def again(run: Trainer, step: int, now: Any) -> None:
        with pytest.raises(Busy, match=BUSY):
            trainer(out)

    second = trainer(out, callbacks=[again])
    assert (tmp_path / "run-1").exists()
    second.run()
    with pytest.raises(Busy, match="run is that of another run by now: begin again"):
        first.run()
    with pytest.raises(Busy, match="begin again"):  # nor at the second attempt
        first.run()
    assert_same_run(out, quiet)
    assert trainer(out, resume=True).run()


@posix
def test_a_folder_that_appears_in_the_meantime(
    tmp_path: Path, elsewhere: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the folder and its making: what the other has written stays."""
    out, real = tmp_path / "run", Path.mkdir

    def mkdir(self: Path, *args: Any, **others: Any) -> None:
        real(self, *args, **others)
        if self == out:
            (out / CONFIG).write_text("the other's")
            elsewhere(out)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(Busy, match=BUSY):
        trainer(out)
    assert contents(out) == {CONFIG: b"the other's"}


@posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this takes os.fork")
def test_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker that outlives the run that was killed."""
    lock = Lock(tmp_path)
    lock.take()
    (alive, is_alive), (end, ended) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(ended)
        os.write(is_alive, b"1")
        os.read(end, 1)
        os._exit(0)
    try:
        os.read(alive, 1)
        lock._close()  # what the end of a process does, without giving the lock back first
        other = Lock(tmp_path)
        other.take()
        assert other.place
    finally:
        os.close(ended)
        os.waitpid(child, 0)
        for handle in (alive, is_alive, end):
            os.close(handle)


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, and on some network drives: nothing is locked, and all else works."""
    monkeypatch.setattr(lock_module, "sys", SimpleNamespace(platform="win32"))
    trainer(tmp_path / "run", steps=1).run()
    monkeypatch.undo()
    if os.name == "posix":

        def refuse(*args: Any) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(lock_module.fcntl, "flock", refuse)
        trainer(tmp_path / "other", steps=1, pictures=False).run()
