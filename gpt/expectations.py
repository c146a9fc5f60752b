"""What the presets are expected to do, as measured, and whether a run did.

``benchmarks/presets.py`` trains each preset with several seeds and writes ``expectations.json``:
for points of the curves and for the end, the mean over the seeds and a band around it. The band is
made of how far the seeds lay apart, so that of a hundred good runs with new seeds about one should
be called unexpected.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import corpus, curves, folder
from .costs import peak_memory, resident_peak
from .model import GPT
from .presets import PRESETS, RunConfig

FILE = Path(__file__).with_name("expectations.json")

# Choices that change nothing of what is learnt. Any other makes it another run than was measured.
FREE = {"data", "seed", "recompute", "shard_optimizer", "spike", "patience", "eval_every",
        "eval_batches", "save_every", "pictures", "prompt", "sample_tokens", "temperature",
        "top_k"}  # fmt: skip
NEAR = 0.01  # how much longer or shorter the default text may be, of another release of Python
MEMORY = 0.1  # about how much that of a batch may differ: kernels in NumPy or Numba, versions


@dataclass(frozen=True)
class Band:
    """Where a number is expected: at most ``width`` away from ``mean``."""

    mean: float
    width: float

    def __contains__(self, value: float) -> bool:
        return abs(value - self.mean) <= self.width  # nan is in no band


@dataclass(frozen=True)
class Text:
    """Which text it was."""

    name: str
    characters: int
    crc: int  # zlib's CRC-32 of its documents in UTF-8, one after the other


@dataclass(frozen=True)
class Expectation:
    """What a preset did on a text.

    Args:
        config: the preset at that time; one that was changed since has to be measured again.
        curve: for some steps the bands of ``train_loss`` and ``val_loss``, over random batches.
        val_loss: the loss over the validation split at the end.
        memory: of one batch, as ``costs.peak_memory`` has it, in bytes.
        resident: the most memory that the whole process had, in bytes, for each seed.
        seconds: what the training steps took, for each seed.
    """

    preset: str
    config: dict[str, Any]
    text: Text
    seeds: list[int]
    curve: dict[int, dict[str, Band]]
    val_loss: Band
    memory: int
    resident: list[int]
    seconds: list[float]
    machine: str
    sample: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Expectation:
        curve = {
            int(step): {name: Band(**band) for name, band in bands.items()}
            for step, bands in saved["curve"].items()
        }
        val_loss, text = Band(**saved["val_loss"]), Text(**saved["text"])
        return cls(**{**saved, "curve": curve, "val_loss": val_loss, "text": text})


def read(path: Path = FILE) -> list[Expectation]:
    """All that have been measured; ValueError if the file is damaged."""
    try:
        return [Expectation.from_json(saved) for saved in json.loads(path.read_bytes())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): restore it from a copy") from None


def text_of(data: str | None) -> Text:
    """The text that a run would learn from; ValueError for one that is prepared already."""
    if data is not None and corpus.is_prepared(data):
        raise ValueError(
            f"--check needs the text, and {data} has its tokens only: give the text as --data"
        )
    characters = crc = 0
    for document in corpus.source_of(data).documents():
        for piece in document.pieces:
            characters += len(piece)
            crc = zlib.crc32(piece.encode(errors="surrogatepass"), crc)
    return Text(Path(data).name if data else "the Python language reference", characters, crc)


def find(
    preset: str, config: RunConfig, known: list[Expectation] | None = None
) -> tuple[Expectation, list[str]]:
    """What is expected of a run with these choices, and what the user should know of it.

    Raises:
        ValueError: nothing is; the sentence says why, and what would have to be left out.
    """
    usual, given = PRESETS[preset].to_json(), config.to_json()
    if other := [name for name in usual if name not in FREE and given[name] != usual[name]]:
        changes = ", ".join(f"{name} is {given[name]!r} and not {usual[name]!r}" for name in other)
        raise ValueError(
            f"--check compares with the preset {preset}, and this is another run ({changes}): "
            "leave these choices out, or --check"
        )
    measured = [e for e in (read() if known is None else known) if e.preset == preset]
    if not measured:
        raise ValueError(
            f"the preset {preset} has not been measured, so that nothing is expected of it: leave "
            f"out --check, or measure it (python -m benchmarks.presets {preset})"
        )
    text = text_of(config.data)
    found = min(
        measured, key=lambda e: (e.text.crc != text.crc, abs(e.text.characters - text.characters))
    )
    if found.text.crc != text.crc:
        texts = " or ".join(f"{e.text.name} ({e.text.characters:,})" for e in measured)
        if config.data is not None or found.text.name != text.name:
            raise ValueError(
                f"{text.name} with its {text.characters:,} characters is not the text that the "
                f"preset {preset} was measured on, {texts}: give that as --data, or leave out "
                "--check"
            )
        if abs(text.characters - found.text.characters) > NEAR * found.text.characters:
            raise ValueError(
                f"{text.name} of this Python has {text.characters:,} characters, and the preset "
                f"{preset} was measured on {texts}: leave out --check, or measure it here "
                f"(python -m benchmarks.presets {preset})"
            )
    then = {name: value for name, value in found.config.items() if name in usual}
    if stale := [name for name in then if name not in FREE and then[name] != usual[name]]:
        raise ValueError(
            f"the preset {preset} has changed since it was measured ({', '.join(stale)}): leave "
            f"out --check, or measure it again (python -m benchmarks.presets {preset})"
        )
    notes = []
    if found.text.crc != text.crc:
        notes.append(
            f"the text is that of another release of Python than was measured: {text.characters:,} "
            f"characters, not {found.text.characters:,}; losses can differ by that, too"
        )
    return found, notes


# --- a run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One number of a run beside what was expected; ``fits`` is None for what is not judged."""

    what: str
    found: str
    expected: str
    fits: bool | None
    remark: str

    def __str__(self) -> str:
        return f"{self.what:<26}{self.found:>10}   {self.expected:<22}{self.remark}"


def verdicts(expected: Expectation, out: Path) -> Iterator[Verdict]:
    """Compare the run in a folder, which has ended, with what was expected of it."""
    config, model_config = folder.read_config(out)
    metrics = {m["step"]: m for m in curves.read_metrics(out / folder.METRICS)}
    summary = json.loads((out / folder.SUMMARY).read_text(encoding="utf-8"))
    averaged = expected.config["eval_batches"]
    for step, bands in expected.curve.items():
        for name, band in bands.items():
            what = f"step {step:,}, {name.replace('_', ' ')}"
            if step not in metrics:
                yield _unjudged(what, "", f"{band.mean:.4f}", "there was no evaluation")
            elif config.eval_batches != averaged:
                why = f"--eval-batches {config.eval_batches}: the band is for {averaged}"
                yield _unjudged(what, f"{metrics[step][name]:.4f}", f"{band.mean:.4f}", why)
            else:
                yield _judged(what, metrics[step][name], band)
    what = "val loss over the split"
    if summary["step"] == expected.config["steps"]:
        yield _judged(what, summary["val_loss"], expected.val_loss)
    else:
        why = f"the run ended at step {summary['step']:,}"
        yield _unjudged(what, f"{summary['val_loss']:.4f}", f"{expected.val_loss.mean:.4f}", why)
    memory = peak_memory(GPT(model_config), config.batch, config.recompute) / 2**20
    usual = expected.memory / 2**20
    if config.recompute == expected.config["recompute"]:
        yield _judged("memory of a batch, MiB", memory, Band(usual, MEMORY * usual), 2)
    else:
        why = "with another --recompute"
        yield _unjudged("memory of a batch, MiB", f"{memory:,.2f}", f"{usual:,.2f}", why)
    machine = f"on {expected.machine}"
    if (resident := resident_peak()) is not None:
        usual = max(expected.resident) / 2**20
        yield _unjudged("memory of all, MiB", f"{resident / 2**20:,.0f}", f"{usual:,.0f}", machine)
    seconds = max((m.get("seconds", 0.0) for m in metrics.values()), default=0.0)
    usual = min(expected.seconds)  # the others may have shared the machine
    yield _unjudged("time of the steps, s", f"{seconds:,.0f}", f"{usual:,.0f}", machine)


def _judged(what: str, value: float, band: Band, digits: int = 4) -> Verdict:
    fits = value in band
    remark = "as expected" if fits else "LOWER" if value < band.mean else "HIGHER"
    expected = f"{band.mean:,.{digits}f} ± {band.width:,.{digits}f}"
    return Verdict(what, f"{value:,.{digits}f}", expected, fits, remark)


def _unjudged(what: str, found: str, expected: str, why: str) -> Verdict:
    return Verdict(what, found, expected, None, f"not judged: {why}")


def report(expected: Expectation, out: Path) -> tuple[list[str], bool]:
    """The lines for the user, and whether the run did what was expected of it."""
    found = list(verdicts(expected, out))
    judged = [verdict for verdict in found if verdict.fits is not None]
    wrong = [verdict for verdict in judged if not verdict.fits]
    lines = [
        f"what {len(expected.seeds)} runs of the preset {expected.preset} did on "
        f"{expected.text.name}, and this one:",
        f"{'':<26}{'this run':>10}   expected",
        *map(str, found),
    ]
    if wrong:
        lines.append(
            f"NOT as expected: {len(wrong)} of {len(judged)} numbers, {wrong[0].what} the first"
        )
    else:
        lines.append(f"as expected, in all of {len(judged)} numbers")
    return lines, not wrong
