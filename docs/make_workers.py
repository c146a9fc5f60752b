"""Writes the tables and the picture of "Several processes" in docs/performance.md.

python -m benchmarks.workers --save FILE
python docs/make_workers.py FILE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import scaling

PAGE = Path(__file__).parent / "performance.md"
TARGET = Path(__file__).parent / "images" / "workers.svg"
BEGIN, END = "<!-- written by docs/make_workers.py -->\n", "<!-- until here -->\n"
PICTURE = "![Speeds with several processes, measured and predicted](images/workers.svg)"

# Of the prediction: sequences in a batch that stays the same, and of each worker in one that grows
# with them; sequences in a pass; how much faster a worker might be.
BATCH, OWN, AT_ONCE, FASTER = 1024, 4, 2, 16
COUNTS = (8, 32, 128, 512, 1024)
COLOURS = ("#D55E00", "#E69F00", "#0072B2")  # Okabe and Ito: one for each network
NAMES = {
    "workers 1": "one process, one thread",
    "threads": "one process, {cores} threads",
    "torch": "PyTorch, its own threads",
}


def tables(found: dict[str, Any]) -> str:
    """All tables, as Markdown, with the sentences that explain them."""
    parts = [*_speeds(found), "", *_parts(found), "", *_all_reduces(found), "", *_model(found)]
    if "large" in found:
        parts += ["", *_prediction(found)]
    return "\n".join([*parts, "", PICTURE]) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|---|" + "---|" * (len(head) - 1),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.{0 if seconds >= 0.1 else 1}f}"


def _speed(speeds: list[float]) -> str:
    return f"{median(speeds):.2f} ({min(speeds):.2f} to {max(speeds):.2f})"


def _speeds(found: dict[str, Any]) -> Iterator[str]:
    several = [n for n in _sides(found) if n != "workers 1"]
    names = [_name(side, found) for side in several]
    rows = []
    for name, config in found["configs"].items():
        model = f"`{name}`: {config['batch']} x {config['context']} tokens"
        speeds = [_speed(config["speeds"][n]) if n in config["speeds"] else "" for n in several]
        rows.append([model, _ms(config["seconds"]["workers 1"]), *speeds])
    yield from _table(["a training step", f"{_name('workers 1', found)}: ms", *names], rows)


def _name(side: str, found: dict[str, Any]) -> str:
    return NAMES.get(side, f"{side.split()[-1]} workers").format(**found)


def _sides(found: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(n for c in found["configs"].values() for n in c["seconds"]))


def _parts(found: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, config in found["configs"].items():
        for workers, parts in config["apart"].items():
            apart = [parts[part] for part in ("computation", "waiting", "communication")]
            whole = [sum(apart), config["seconds"][f"workers {workers}"]]
            rows.append([f"`{name}`", workers, *map(_ms, [*apart, *whole])])
    yield "Taken apart, so that nothing overlaps, and beside it the step as it is; milliseconds:"
    yield ""
    yield from _table(
        ["", "workers", "computation", "waiting for the others", "communication", "together",
         "as it is"], rows,
    )  # fmt: skip


def _all_reduces(found: dict[str, Any]) -> Iterator[str]:
    sizes = [size for size, _ in next(iter(found["reduce"].values()))]
    rows = []
    for workers, points in found["reduce"].items():
        latency, per_byte = scaling.fitted([(s, t) for s, t in points])
        off = max(abs((latency + per_byte * s) / t - 1) for s, t in points)
        rate = f"{1e-9 / per_byte:.2f} GB/s" if per_byte else ""
        times = [f"{t * 1e6:,.0f}" for _, t in points]
        rows.append([workers, *times, f"{latency * 1e6:,.0f} µs", rate, f"{off:.0%}"])
    yield (
        "To average a gradient of so many bytes (copying runs at "
        f"{1e-9 / found['copying']:.1f} GB/s here, adding at {1e-9 / found['adding']:.1f}), in "
        "microseconds:"
    )
    yield ""
    head = ["workers", *map(_bytes, sizes), "fitted latency", "rate", "off by at most"]
    yield from _table(head, rows)


def _bytes(size: int) -> str:
    for power, unit in ((30, "GB"), (20, "MB"), (10, "kB")):
        if size >= 1 << power:
            return f"{size >> power} {unit}"
    return f"{size} B"


def _model(found: dict[str, Any]) -> Iterator[str]:
    points = scaling.reproduced(found)
    worst = max(abs(p.error) for p in points if p.workers <= found["cores"])
    crowded = max((abs(p.error) for p in points if p.workers > found["cores"]), default=0.0)
    yield (
        f"The model of `benchmarks/scaling.py`, in which a busy core takes "
        f"{scaling.busy(found):.2f} times as long as one whose neighbours rest, is off by "
        f"{worst:.0%} at most where each worker has a core, and by {crowded:.0%} where several "
        "share one:"
    )
    yield ""
    rows = [
        [f"`{p.config}`", f"{p.workers}", _ms(p.measured), _ms(p.model.seconds), f"{p.error:+.1%}",
         *map(_ms, (p.model.compute, p.model.waiting, p.model.communication))]
        for p in points
    ]  # fmt: skip
    head = ["", "workers", "measured: ms", "model: ms", "error"]
    yield from _table([*head, "computing", "waiting", "communication"], rows)


# --- the prediction -------------------------------------------------------------------------------


def _work(found: dict[str, Any]) -> scaling.Work:
    """A worker's step with the large model, as unsteady as the steps that were measured."""
    spread = median(config["spread"] for config in found["configs"].values())
    return scaling.work_of(found, {**found["large"], "spread": spread}, AT_ONCE)


def _prediction(found: dict[str, Any]) -> Iterator[str]:
    large, work, networks = found["large"], _work(found), scaling.networks(found)
    parameters = large["profile"]["parameters"]
    yield (
        f"Predicted: GPT-2 with {parameters / 1e6:.0f}M parameters, sequences of "
        f"{large['context']:,} tokens, of which a worker takes {work.per_row:.1f} s each and "
        f"{work.fixed:.1f} s a step; its computing time scatters by {work.spread:.1%}, as measured "
        f"above. The part of N times one worker's speed that N workers reach, sharing {BATCH:,} "
        f"sequences / with {OWN} each:"
    )
    for times in (1, FASTER):
        worker = work.faster(times)
        yield ""
        if times > 1:
            yield f"and if a worker were {times} times as fast:"
            yield ""
        rows = []
        for workers in COUNTS:
            cells = (
                f"{scaling.strong(worker, BATCH, workers, n.all_reduce):.0%} / "
                f"{scaling.weak(worker, OWN, workers, n.all_reduce):.0%}"
                for n in networks
            )
            rows.append([f"{workers:,}", *cells])
        yield from _table(["workers", *(n.name for n in networks)], rows)


# --- the picture ----------------------------------------------------------------------------------


def draw(found: dict[str, Any]) -> Figure:
    """Speeds as measured and as the model has them; efficiencies as it predicts them."""
    panels = 3 if "large" in found else 1
    figure = Figure(figsize=(3.5 * panels, 3.6), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_measured(axes[0], found)
    if "large" in found:
        name = f"GPT-2 {found['large']['profile']['parameters'] / 1e6:.0f}M"
        title = f"{name}: {BATCH:,} sequences shared"
        _draw_predicted(axes[1], found, title, scaling.strong, BATCH)
        _draw_predicted(axes[2], found, f"{name}: {OWN} sequences each", scaling.weak, OWN)
        axes[1].set_ylabel("efficiency, predicted")
        axes[1].legend(frameon=False, fontsize=8, loc="lower left")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_measured(axes: Any, found: dict[str, Any]) -> None:
    sides = _sides(found)
    labels = [_name(side, found) for side in sides]
    colours = ("#BBBBBB", "#56B4E9", "#0072B2", "#009E73", "#E69F00")
    width = 0.8 / len(sides)
    model = {(p.config, f"workers {p.workers}"): p for p in scaling.reproduced(found)}
    for i, (side, label, colour) in enumerate(zip(sides, labels, colours)):
        for k, (name, config) in enumerate(found["configs"].items()):
            if side not in config["speeds"]:
                continue
            place, speeds = k + (i - (len(sides) - 1) / 2) * width, config["speeds"][side]
            middle = median(speeds)
            axes.bar(place, middle, width, color=colour, label=None if k else label)
            spread = [[middle - min(speeds)], [max(speeds) - middle]]
            axes.errorbar(place, middle, spread, fmt="none", ecolor="black", elinewidth=0.7)
            if (name, side) in model and side != "workers 1":
                alone = config["seconds"]["workers 1"]
                said = alone / model[name, side].model.seconds
                axes.plot(place, said, "D", color="white", markeredgecolor="black", markersize=4)
    axes.plot([], [], "D", color="white", markeredgecolor="black", markersize=4, label="the model")
    axes.set_xticks(range(len(found["configs"])), list(found["configs"]))
    axes.set_title(f"measured, {found['cores']} cores", fontsize=10)
    axes.set_ylabel("speed, of one process with one thread")
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1])  # the legend stands above the bars
    axes.legend(frameon=False, fontsize=7, loc="upper left", ncols=2)


def _draw_predicted(
    axes: Any, found: dict[str, Any], title: str, efficiency: Callable[..., float], rows: int
) -> None:
    counts = [2**i for i in range(11)]
    for network, colour in zip(scaling.networks(found), COLOURS):
        for times, line in ((1, "-"), (FASTER, "--")):
            worker = _work(found).faster(times)
            with_overlap, without = (
                [efficiency(worker, rows, n, network.all_reduce, hidden) for n in counts]
                for hidden in (True, False)
            )
            label = network.name if times == 1 else None
            axes.plot(counts, with_overlap, line, color=colour, label=label, linewidth=1.3)
            axes.fill_between(counts, without, with_overlap, color=colour, alpha=0.15, linewidth=0)
    axes.plot([], [], "--", color="black", label=f"workers {FASTER} times as fast", linewidth=1.3)
    axes.fill_between([], [], [], color="#BBBBBB", label="if nothing overlaps")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts[::2], [f"{n:,}" for n in counts[::2]])
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    axes.set_xlabel("workers")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)


def main(file: Path, page: Path = PAGE, target: Path = TARGET) -> None:
    found = json.loads(file.read_text())
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page} has no lines {BEGIN.strip()} and {END.strip()}, which frame the tables")
    written = f"{before}{BEGIN}\n{tables(found)}\n{END}{after}"
    page.write_text(written, encoding="utf-8")
    with rc_context({"svg.hashsalt": "workers", "svg.fonttype": "none"}):  # the same file each time
        draw(found).savefig(target, metadata={"Date": None})
    print(f"wrote {page} and {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
