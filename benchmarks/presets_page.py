"""docs/presets.md and its pictures, from what ``benchmarks/presets.py`` has measured."""

from __future__ import annotations

import io
import math
from typing import Any

from gpt.commands.flags import presets_as_flags
from gpt.expectations import MEMORY, Band, Expectation
from gpt.presets import PRESETS
from gpt.reporting import printable

INTRODUCTION = """\
# The presets, and what to expect of them

`python -m benchmarks.presets` has written this page: it trains each preset as a user would
(`python -m gpt train --preset NAME`), with several seeds, and measures. To see whether a run of
yours does the same:

    python -m gpt train --preset NAME --check

says at its end, number by number, what is as expected and what is lower or higher; the exit code is
1 if something is not. Losses are in nats per token. Those along the way average random batches,
{batches} of each split, and scatter; the one over the split reads the text that validates in order.

Each band (±) is made of how far the seeds lay apart: the standard deviation at its point, or that
of the whole curve if it is larger (a few seeds tell little about one point), times as many as
Student's t needs for about one good run in a hundred to be called unexpected in any of its numbers.
The loss over the split scatters less, and has the band of its own seeds if that is narrower.
A loss *below* the band is unexpected as well: where text that validates has been learnt, say. The
memory of a batch (forward and backward pass, gradients included, without weights and optimizer) is
counted by Python's tracemalloc and may differ by {memory:.0%}. Time, and the memory of the process,
depend on the machine and on what else it does; they are not judged.
"""

ABOUT = {
    "default": """\
What `make train` does: 932,608 parameters learn from the Python language reference that comes with
every Python, in tokens that are learnt from it, too.
""",
    "shakespeare-char-cpu": """\
nanoGPT's configuration for a CPU at twice its learning rate: a character-level model of
Shakespeare's plays. The text, `tinyshakespeare.txt`, is not in the repository: `--data` names it.
""",
    "textbook": """\
A tutorial's model: eight layers of width 64 with biases and 100,070 tokens, so that nearly all of
its 13 million parameters are embedding and output layer. The text, `sales_textbook.txt`, is not in
the repository: `--data` names it. Its validation loss stops falling while its training loss goes
on.
""",
}


def page(known: list[Expectation]) -> str:
    """The whole page; the presets that have not been measured say so."""
    batches = PRESETS["default"].eval_batches
    parts = [INTRODUCTION.format(batches=batches, memory=MEMORY)]
    flags = dict(zip(PRESETS, presets_as_flags()))
    for name in PRESETS:
        said = flags[name].partition(": ")[2]
        parts.append(f"## {name}\n\n{ABOUT.get(name, '')}")
        if name != "default":
            parts.append("\n".join(f"    {line.strip()}" for line in said.splitlines()) + "\n")
        mine = [e for e in known if e.preset == name]
        parts += [_section(e) for e in mine]
        if not mine:
            parts.append("It has not been measured, so there is nothing to expect of it yet.\n")
    return "\n".join(parts)


def _section(e: Expectation) -> str:
    seeds = ", ".join(map(str, e.seeds))
    steps, last = e.config["steps"], e.curve[max(e.curve)]
    lines = [
        f"Measured on {e.text.name} ({e.text.characters:,} characters), seeds {seeds};",
        f"{e.machine}.",
        "",
        f"| after {steps:,} steps | |",
        "|---|---|",
        f"| validation loss over the split | {_shown(e.val_loss)}, perplexity "
        f"{math.exp(e.val_loss.mean):,.2f} |",
        f"| validation loss, random batches | {_shown(last['val_loss'])} |",
        f"| training loss, random batches | {_shown(last['train_loss'])} |",
        f"| time of the steps | {_time(e)} |",
        f"| memory of the process | {max(e.resident) / 2**20:,.0f} MiB at most |",
        f"| memory of a batch | {e.memory / 2**20:,.1f} MiB |",
        "",
        f"| step | {' | '.join(f'{step:,}' for step in e.curve)} |",
        f"|---|{'---|' * len(e.curve)}",
    ]
    for split, words in (("train_loss", "training"), ("val_loss", "validation")):
        cells = (f"{both[split].mean:.3f} ± {both[split].width:.3f}" for both in e.curve.values())
        lines.append(f"| {words} | {' | '.join(cells)} |")
    sample = printable(e.sample).rstrip().split("\n")
    return "\n".join(
        [*lines, "", f"![losses of {e.preset}](images/preset-{e.preset}.svg)", "",
         f"What the run with the seed {e.seeds[0]} wrote at its end:", "",
         *(f"    {line}".rstrip() for line in sample), ""]
    )  # fmt: skip


def _shown(band: Band) -> str:
    return f"{band.mean:.3f} ± {band.width:.3f}"


def _time(e: Expectation) -> str:
    seconds, seed = min(zip(e.seconds, e.seeds))
    return f"{seconds:,.0f} s (seed {seed}; up to {max(e.seconds):,.0f} beside other work)"


def picture(e: Expectation, runs: list[list[dict[str, Any]]]) -> bytes:
    """The curves of all seeds, and the bands that a run is compared with, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    # Colours of Okabe & Ito, told apart in print and by colour-blind readers; a dash besides.
    for split, label, colour, line in (
        ("train_loss", "training", "#0072B2", "-"),
        ("val_loss", "validation", "#D55E00", "--"),
    ):
        for i, metrics in enumerate(runs):
            axes.plot(
                [m["step"] for m in metrics], [m[split] for m in metrics], color=colour,
                linestyle=line, linewidth=1.0, label=None if i else label,
            )  # fmt: skip
        middle = [both[split].mean for both in e.curve.values()]
        widths = [both[split].width for both in e.curve.values()]
        axes.errorbar(list(e.curve), middle, widths, fmt="none", ecolor=colour, capsize=3)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.set_title(f"{e.preset}: {len(runs)} seeds, and the bands of --check", parse_math=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    content = io.BytesIO()
    # The same numbers give the same file; letters stay letters, which is a third of the size.
    with matplotlib.rc_context({"svg.hashsalt": e.preset, "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
