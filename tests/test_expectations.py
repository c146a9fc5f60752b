"""``train --check``: what is expected is made of measured runs, good runs pass, spoilt ones do not.

The preset here is a tiny one that is measured on the spot, as ``benchmarks.presets`` measures.
"""

from __future__ import annotations

import dataclasses
import doctest
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TEXT, TINY, contents

from benchmarks import presets as script
from benchmarks import presets_page
from gpt import __main__ as command_line
from gpt import costs, expectations, folder, reporting, train, trial
from gpt.expectations import Band, Expectation, Text
from gpt.presets import PRESETS, RunConfig

ROOT = Path(__file__).resolve().parent.parent
SMALL = dataclasses.replace(
    TINY, dropout=0.0, batch=16, steps=40, eval_every=10, eval_batches=8, save_every=1000, warmup=5
)
Answer = tuple[int, str, str]


@pytest.fixture(scope="module", autouse=True)
def small_preset() -> Iterator[None]:
    """A preset ``small``; runs end without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", SMALL)
        patch.setattr(reporting, "draw", lambda *given: ([], []))
        yield


def main(*arguments: str) -> int:
    try:
        return command_line.main(arguments)
    except SystemExit as stop:  # argparse's way
        return int(stop.code or 0)


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    known: list[Expectation],
) -> Callable[..., Answer]:  # fmt: skip
    """``call("--seed", "3")``: trains the preset with --check in an empty folder with a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "known.json").write_text(json.dumps([e.to_json() for e in known]))
    monkeypatch.setattr(expectations.read, "__defaults__", (tmp_path / "known.json",))

    def run(*flags: str) -> Answer:
        code = main("train", "--preset", "small", "--check", "--data", "text.txt", *flags)
        return (code, *capsys.readouterr())

    return run


def in_process(command: list[str], log: Path) -> tuple[int, int]:
    """Instead of a process of its own."""
    assert command[1:3] == ["-m", "gpt"]
    return main(*command[3:]), 10**8


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[script.Run]:
    """The preset with four seeds."""
    work = tmp_path_factory.mktemp("work")
    (work / "text.txt").write_text(TEXT)
    config = dataclasses.replace(SMALL, data=str(work / "text.txt"))
    text = expectations.text_of(config.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "trained", in_process)
        return [
            script.measured("small", dataclasses.replace(config, seed=seed), text, work)
            for seed in (1, 2, 3, 4)
        ]


@pytest.fixture(scope="module")
def known(runs: list[script.Run]) -> list[Expectation]:
    return [script.expectation("small", runs)]


# ------------------------------------------------------------------------------------ good and bad


def test_a_good_run(call: Callable[..., Answer]) -> None:
    code, out, err = call("--seed", "5")
    assert (code, err) == (0, "")
    lines = out[out.index("what 4 runs of the preset small did on text.txt") :].splitlines()
    assert lines[-1] == "as expected, in all of 12 numbers"
    assert sum(line.endswith("as expected") for line in lines) == 12
    assert re.search(r"^step 40, val loss +\d\.\d{4}   \d\.\d{4} ± 0\.\d{4} +as exp", out, re.M)
    assert re.search(r"^time of the steps, s .* not judged: on \d+ cores", out, re.M)
    assert max(map(len, lines)) <= 160


def slow(patch: pytest.MonkeyPatch) -> None:
    """A learning rate of a twentieth."""
    real = train.warmup_cosine
    patch.setattr(train, "warmup_cosine", lambda *given: lambda step: real(*given)(step) / 20)


def diverging(patch: pytest.MonkeyPatch) -> None:
    """From step 20 on it goes uphill, but not so fast that the training ends."""
    real = train.warmup_cosine
    patch.setattr(
        train, "warmup_cosine",
        lambda *given: lambda step: real(*given)(step) * (1 if step < 20 else -0.5),
    )  # fmt: skip


def leaking(patch: pytest.MonkeyPatch) -> None:
    """What validates is a text that is learnt, and an easy one."""
    real = train.corpus.load

    def load(*given: Any) -> Any:
        found = real(*given)
        easy = np.tile(found.train[:3], 400)
        return dataclasses.replace(found, train=easy, val=easy)

    patch.setattr(train.corpus, "load", load)


def heavy(patch: pytest.MonkeyPatch) -> None:
    """A batch takes a fifth more."""
    real = costs.peak_memory
    patch.setattr(expectations, "peak_memory", lambda *given: 1.2 * real(*given))


SPOILT = {
    "too slow": (slow, "step 20", "HIGHER", "as expected"),
    "diverging": (diverging, "step 40, val loss", "HIGHER", "step 10, val loss"),
    "leaking": (leaking, "val loss over the split", "LOWER", "step 1, "),
    "memory": (heavy, "memory of a batch, MiB", "HIGHER", "val loss over the split"),
}


@pytest.mark.parametrize(("spoil", "wrong", "remark", "right"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_run(
    spoil: Callable[[pytest.MonkeyPatch], None], wrong: str, remark: str, right: str,
    call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is named where it shows; what is right is still called so."""
    spoil(monkeypatch)
    monkeypatch.setattr(train, "WINDOWS", 50)
    code, out, err = call("--seed", "5", "--spike", "0")
    assert (code, err) == (1, "")
    lines = out[out.index("what 4 runs") :].splitlines()
    assert any(line.startswith(wrong) and line.endswith(remark) for line in lines), out
    assert any(right in line and line.endswith("as expected") for line in lines), out
    assert re.fullmatch(r"NOT as expected: \d+ of 12 numbers, .* the first", lines[-1])


def test_a_spoilt_metric(call: Callable[..., Answer], known: list[Expectation]) -> None:
    """One number outside, however little, is enough; and nan is never expected."""
    assert call("--seed", "5")[0] == 0
    path = Path("runs/small") / folder.METRICS
    lines = path.read_text().splitlines()
    band = known[0].curve[30]["train_loss"]
    for value, remark in ((band.mean - 1.01 * band.width, "LOWER"),
                          (band.mean + 1.01 * band.width, "HIGHER"),
                          (float("nan"), "HIGHER")):  # fmt: skip
        changed = {**json.loads(lines[3]), "train_loss": value}
        path.write_text("\n".join([*lines[:3], json.dumps(changed), *lines[4:], ""]))
        said, fits = expectations.report(known[0], path.parent)
        assert not fits
        assert said[-1] == "NOT as expected: 1 of 12 numbers, step 30, train loss the first"
        assert sum(line.endswith(remark) for line in said) == 1
    changed["train_loss"] = band.mean + 0.99 * band.width
    path.write_text("\n".join([*lines[:3], json.dumps(changed), *lines[4:], ""]))
    assert expectations.report(known[0], path.parent)[1]


# ------------------------------------------------------------- what does not apply, or not any more


def test_what_is_not_judged(call: Callable[..., Answer]) -> None:
    """Choices that change nothing of what is learnt, but of what can be compared."""
    code, out, _ = call("--seed", "5", "--eval-every", "20", "--recompute", "--temperature", "1")
    assert code == 0
    assert out.count("not judged: there was no evaluation") == 4
    assert re.search(r"^memory of a batch.* not judged: with another --recompute$", out, re.M)
    assert "as expected, in all of 7 numbers" in out
    code, out, _ = call("--seed", "5", "--eval-batches", "1")
    assert code == 0
    assert out.count("not judged: --eval-batches 1: the band is for 8") == 10
    assert "as expected, in all of 2 numbers" in out


def end_at_30(patch: pytest.MonkeyPatch) -> None:
    """As if patience had run out then."""
    real = train.Patience.better

    def better(self: Any, step: int, loss: float) -> bool:
        self.limit = -1 if step == 30 else 0
        return real(self, step, loss)

    patch.setattr(train.Patience, "better", better)
    patch.setattr(train.Patience, "exhausted", property(lambda self: self.limit < 0))


def test_an_early_end(call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is expected of a run at a step that was not to be its last."""
    end_at_30(monkeypatch)
    _, out, _ = call("--seed", "5", "--patience", "1")
    assert re.search(
        r"^val loss over the split .* not judged: the run ended at step 30$", out, re.M
    )
    assert out.count("there was no evaluation") == 2


def test_a_resumed_run(call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked as a whole."""
    with monkeypatch.context() as patch:
        end_at_30(patch)
        call("--seed", "5")
    code, out, _ = call("--resume", "--seed", "5")
    assert code == 0
    assert "resumed runs/small at step 30" in out
    assert "as expected, in all of 12 numbers" in out


BAD = {
    "another width": ("--width 32", r"the preset small, and this is another run \(width is 32 and"),
    "fewer steps": ("--steps 30", r"another run \(steps is 30 and not 40\): leave these choices"),
    "two changes": ("--lr 0.1 --batch 3", r"\(batch is 3 and not 16, lr is 0.1 and not 0.01\)"),
    "another text": ("--data other.txt", r"other.txt with its 999 characters is not the text that "
                     r"the preset small was measured on, text\.txt \(\d"),
    "a text with one other letter": ("--data near.txt", "is not the text that the preset small"),
    "no text": ("--data absent.txt", r"there is no file absent\.txt"),
    "tokens": ("--data made", "--check needs the text, and made has its tokens only: give the"),
    "a preset without": ("--preset textbook", "the preset textbook has not been measured, so that"),
    "a file of choices": ("--config run.toml", r"another run \(layers is 2 and not 1\)"),
    "nothing to resume": ("--resume --out absent", "there is no run in absent"),
    "a value": ("--check=yes", "--check: ignored explicit argument 'yes'"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "complaint"), BAD.values(), ids=BAD)
def test_refused(
    flags: str, complaint: str, call: Callable[..., Answer], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Before anything is trained or written, or tried with several workers."""
    (tmp_path / "other.txt").write_text(TEXT[:999])
    (tmp_path / "near.txt").write_text(TEXT.replace("3", "2", 1))
    (tmp_path / "run.toml").write_text("layers = 2\n")
    if "made" in flags:
        assert main("prepare", "text.txt", "--out", "made", "--tokenizer", "char") == 0
        call()  # which takes what was printed
        assert main("train", "--preset", "small", "--data", "text.txt", "--out", "x") == 0
    before = contents(tmp_path)
    monkeypatch.setattr(trial, "fitting", lambda config: pytest.fail("workers were tried"))
    call_again = call(*flags.split())
    assert call_again[0] == 2
    assert re.fullmatch(rf"error: [^\n]*{complaint}[^\n]*\n", call_again[2]), call_again[2]
    assert contents(tmp_path) == before


def test_a_preset_that_has_changed(
    call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", dataclasses.replace(SMALL, lr=0.02, seed=9))
    code, _, err = call()
    assert code == 2
    assert "the preset small has changed since it was measured (lr): leave out --check" in err


def test_the_text_of_another_python(
    known: list[Expectation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly the same default text will do, and is told of; of several the nearest is taken."""
    default = PRESETS["default"]
    name = "the Python language reference"
    measured = [
        dataclasses.replace(
            known[0], preset="default", config=default.to_json(), text=Text(name, n, n)
        )
        for n in (100_000, 110_000)
    ]

    def found(characters: int) -> tuple[Expectation, list[str]]:
        monkeypatch.setattr(
            expectations, "text_of", lambda data: Text(name, characters, characters)
        )
        return expectations.find("default", default, measured)

    assert found(110_000) == (measured[1], [])
    expected, notes = found(109_500)
    assert expected is measured[1]
    assert (
        "another release of Python than was measured: 109,500 characters, not 110,000" in notes[0]
    )
    with pytest.raises(ValueError, match=r"of this Python has 105,000 characters, and the preset"):
        found(105_000)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "expectations.json"
    for content in ("", "[{}]", "[1]", "{}[", '{"a": 1}'):
        path.write_text(content)
        with pytest.raises(
            ValueError, match=r"expectations\.json is damaged .*: restore it from a"
        ):
            expectations.read(path)


# --------------------------------------------------------------------------------------- the bands


def test_student() -> None:
    """As tables have it."""
    for level, df, t in ((0.95, 1, 12.706), (0.95, 10, 2.228), (0.99, 4, 4.604), (0.999, 16, 4.015),
                         (0.999, 30, 3.646), (0.99, 2, 9.925), (0.999, 1, 636.619)):  # fmt: skip
        assert script.student(level, df) == pytest.approx(t, abs=2e-3)


def invented(rng: np.random.Generator, shift: float = 0.0) -> script.Run:
    """A run whose losses scatter by 0.02 around a curve."""
    metrics = [
        {"step": step, **{k: 3 + 4 / (1 + i) + shift + 0.02 * rng.normal()
                          for k in ("train_loss", "val_loss")}, "seconds": 1.0}
        for i, step in enumerate([1, *range(200, 1601, 200)])
    ]  # fmt: skip
    val_loss = 3 + shift + 0.02 * rng.normal()
    return script.Run({"seed": 0}, Text("", 0, 0), metrics, val_loss, 1, 1, 1.0, "", "")


@pytest.mark.parametrize("n", [2, 4])
def test_false_alarms_and_power(n: int) -> None:
    """About one good run in a hundred is called unexpected; one that is 0.2 worse always is."""
    rng = np.random.default_rng(n)
    trials, alarms, seen = 120, 0, 0
    for _ in range(trials):
        expected = script.expectation("small", [invented(rng) for _ in range(n)])
        alarms += bool(script.outside(expected, invented(rng)))
        seen += bool(script.outside(expected, invented(rng, 0.2)))
    assert alarms <= 0.05 * trials
    assert seen >= 0.99 * trials


def test_the_last_loss_has_a_narrower_band() -> None:
    """As soon as there are seeds enough to show that it scatters less."""
    rng = np.random.default_rng(0)
    runs = [dataclasses.replace(invented(rng), val_loss=3 + 0.001 * rng.normal()) for _ in "123456"]
    few, many = (script.expectation("small", found) for found in (runs[:2], runs))
    assert few.val_loss.width > 0.05
    assert many.val_loss.width < 0.02 < many.curve[1600]["val_loss"].width


def test_one_run_is_no_measure() -> None:
    with pytest.raises(ValueError, match="measure two at least"):
        script.expectation("small", [invented(np.random.default_rng(0))])


# -------------------------------------------------------------------------------------- the script


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was stopped goes on; one of other choices, or of another text, does not count."""
    (tmp_path / "text.txt").write_text(TEXT)
    config = dataclasses.replace(SMALL, data=str(tmp_path / "text.txt"), steps=20)
    text = expectations.text_of(config.data)
    commands: list[list[str]] = []

    def trained(command: list[str], log: Path) -> tuple[int, int]:
        commands.append(command)
        return in_process(command, log)

    monkeypatch.setattr(script, "trained", trained)
    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "_finish", lambda *given: None)  # killed before its end
        with pytest.raises(FileNotFoundError):
            script.measured("small", config, text, tmp_path)
    whole = script.measured("small", config, text, tmp_path)
    assert ["--resume" in command for command in commands] == [False, True]
    assert whole.metrics[-1]["step"] == 20
    assert script.measured("small", config, text, tmp_path) == whole
    assert len(commands) == 2
    assert "measured before" in capsys.readouterr().out
    other = dataclasses.replace(config, steps=10)
    assert script.measured("small", other, text, tmp_path).metrics[-1]["step"] == 10
    assert "--resume" not in commands[2]
    monkeypatch.setattr(script, "trained", lambda *given: (2, 0))
    with pytest.raises(RuntimeError, match=r"ended with the exit code 2: .*\.log tells more"):
        script.measured("small", config, text, tmp_path)


def test_all_or_nothing(
    runs: list[script.Run], known: list[Expectation], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The file, the page and the picture; other presets and other texts stay in them."""
    pytest.importorskip("matplotlib")
    (new,) = known
    assert new.config["data"] is None  # a path of this machine
    script.write(new, runs, tmp_path)
    picture = (tmp_path / "docs" / "images" / "preset-small.svg").read_bytes()
    assert b"</svg>" in picture
    monkeypatch.setattr(presets_page, "picture", lambda *given: picture)  # which takes long
    script.write(dataclasses.replace(new, preset="textbook"), runs, tmp_path)
    longer = dataclasses.replace(new, text=dataclasses.replace(new.text, characters=10**6, crc=1))
    script.write(longer, runs, tmp_path)
    script.write(dataclasses.replace(new, machine="a better one"), runs, tmp_path)
    found = expectations.read(tmp_path / "gpt" / "expectations.json")
    assert [(e.preset, e.text.characters, e.machine == new.machine) for e in found] == [
        ("textbook", len(TEXT), True), ("small", len(TEXT), False), ("small", 10**6, True),
    ]  # fmt: skip
    assert found[2] == longer
    page = (tmp_path / "docs" / "presets.md").read_text()
    assert page == presets_page.page(found)
    assert f"| {new.val_loss.mean:.3f} ± {new.val_loss.width:.3f}, perplexity" in page
    assert "## default" in page
    assert page.count("It has not been measured") == len(PRESETS) - 2
    before = contents(tmp_path)
    monkeypatch.setattr(presets_page, "picture", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        script.write(longer, runs, tmp_path)
    assert contents(tmp_path) == before


def test_points_of_a_curve() -> None:
    assert doctest.testmod(script).failed == 0
    assert script.points_of([1, 10, 20]) == [1, 10, 20]
    points = script.points_of([1, *range(50, 5001, 50)])
    assert points[:2] == [1, 50]
    assert points[-1] == 5000
    assert len(points) == 9


# ----------------------------------------------------------------------------- what is in the files


def test_the_files_of_the_repository() -> None:
    """They belong together, and to the presets as they are."""
    known = expectations.read()
    del PRESETS["small"]
    try:
        assert (ROOT / "docs" / "presets.md").read_text(encoding="utf-8") == presets_page.page(
            known
        )
    finally:
        PRESETS["small"] = SMALL
    for e in known:
        usual = PRESETS[e.preset].to_json()
        then = {k: v for k, v in e.config.items() if k in usual and k not in expectations.FREE}
        stale = [k for k, v in then.items() if v != usual[k]]
        assert not stale, f"python -m benchmarks.presets {e.preset}: {stale} have changed"
        assert (ROOT / "docs" / "images" / f"preset-{e.preset}.svg").is_file()
        assert isinstance(e.val_loss, Band)
        assert len(set(e.seeds)) == len(e.seeds) >= 2


def test_free_choices_are_choices() -> None:
    assert set(RunConfig.__dataclass_fields__) >= expectations.FREE
