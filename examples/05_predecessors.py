"""Predecessors: n-gram, RNN, LSTM, convolution and transformer predict the same characters.

Each has its paper: counting with interpolated Kneser-Ney smoothing (Shannon 1948; Kneser & Ney
1995; Chen & Goodman 1998), the simple recurrent network (Elman 1990), long short-term memory
(Hochreiter & Schmidhuber 1997), the causal dilated convolution of WaveNet (van den Oord et al.
2016) and the transformer (Vaswani et al. 2017).

The four networks have equally many parameters, and the same batches, optimizer and steps. An n-gram
has no parameters but counts: one line of the table is the order that stores about as many counts
as the networks have parameters, the other the order that is best on the validation text.

What comes out: a table; the losses over steps and over time, with the time per step
(`learning.png`); and how far back each one sees, as the gradient of the last prediction's loss by
every character before it (`how_far_back.png`).

    python examples/05_predecessors.py             # about 3 minutes, at most 4
    python examples/05_predecessors.py --seed 1 --steps 2000 --data shakespeare.txt

Read the result with care. A few hundred steps are little, and a learning rate for all suits some
better than others; Python's reference repeats itself, which is what counting is good at. Seconds
are of this machine: the step's is a median, but whatever else runs here slows it.
"""

from __future__ import annotations

import argparse
import bisect
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import nn
import nn.functional as F
import tensorgrad
from gpt import data
from gpt.config import GPTConfig
from gpt.model import Block
from gpt.tokenizer import CharTokenizer
from nn import sinusoidal_positions
from tensorgrad import Tensor
from tensorgrad.optim import AdamW
from tensorgrad.optim.lr_scheduler import OneCycleLR

CONTEXT, BATCH, WINDOWS = 64, 16, 256
# Judged is the second half of every window, of 256 windows of the validation text 8,192 characters:
# there each model has 32 characters or more to go by.
FIRST_JUDGED = CONTEXT // 2
LEARNING_RATE = 0.01  # of 0.004 and 0.01 the better for RNN, convolution and transformer
HEADS, LAYERS = 4, 2  # the transformer's
DILATIONS = (1, 2, 4, 8, 16)  # the convolution's
MOST_ORDER = 8  # of the n-grams tried; order 11 would gain 0.013 nats, for twice the counts
LEAST = 10 * (CONTEXT + 1)  # characters of text: a tenth of them is validated on


# -------------------------------------------------------------------------------- counting


class NGram:
    """P(character | the order - 1 before it), counted: interpolated Kneser-Ney smoothing.

    With n(hc) the count of the character c after the history h, n(h·) the sum of these over all c,
    N(h·) how many different c there are, and h' the history without its first character:

        P(c | h) = (max(n(hc) - D, 0) + D · N(h·) · P(c | h')) / n(h·)

    What the discount D takes from the counts, P of the shorter history shares out. A shorter
    history's n is not how often, but after how many different characters hc occurred: what only
    ever follows one and the same is not likely elsewhere. The last h' gives each character 1/V.
    """

    DISCOUNT = 0.75

    def __init__(self, text: str, order: int, n_vocab: int) -> None:
        self.order, self.n_vocab = order, n_vocab
        # One table for each length of the history: n(hc), n(h·) and how many characters follow h.
        self.tables: list[tuple[Counter[str], Counter[str], Counter[str]]] = []
        counts = Counter(text[i : i + order] for i in range(len(text) - order + 1))
        for _ in range(order):
            total: Counter[str] = Counter()
            for gram, n in counts.items():
                total[gram[:-1]] += n
            followers = Counter(gram[:-1] for gram in counts)
            self.tables.insert(0, (counts, total, followers))
            counts = Counter(gram[1:] for gram in counts)  # each different first character: one

    def probability(self, context: str, character: str) -> float:
        p = 1 / self.n_vocab
        for length, (counts, total, followers) in enumerate(self.tables):
            history = context[len(context) - length :]
            if length > len(context) or history not in total:
                break  # nor was any longer one seen
            kept = max(counts[history + character] - self.DISCOUNT, 0)
            p = (kept + self.DISCOUNT * followers[history] * p) / total[history]
        return p

    def stored_counts(self) -> int:
        """How many n(hc) there are, of all lengths; the sums of them not counted again."""
        return sum(len(counts) for counts, _, _ in self.tables)

    def loss(self, windows: list[str]) -> float:
        """Mean nats per character over what the networks are judged by, and from as much text."""
        losses = [
            -math.log(self.probability(window[:end], window[end]))
            for window in windows
            for end in range(FIRST_JUDGED + 1, len(window))
        ]
        return sum(losses) / len(losses)


# ------------------------------------------------------------------------------ the networks

# In the shapes B is the batch, T the characters of a window, C the width, V the vocabulary.


class Predictor(nn.Module):
    """characters [B, T] → logits of the next ones [B, T, V]; what is between, a subclass says."""

    def __init__(self, n_vocab: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(n_vocab, width)
        self.output = nn.Linear(width, n_vocab)

    def forward(self, characters: Tensor) -> Tensor:
        return self.read(self.embedding(characters))

    def read(self, vectors: Tensor) -> Tensor:
        """The same from the characters' vectors: [B, T, C] → [B, T, V]."""
        return self.output(self.mix(vectors))

    def mix(self, x: Tensor) -> Tensor:
        """Each position learns of those before it: [B, T, C] → [B, T, C]."""
        raise NotImplementedError


class Recurrent(Predictor):
    """All of the past in C numbers, which every step makes anew: h = tanh(W x + U h + b)."""

    def __init__(self, n_vocab: int, width: int) -> None:
        super().__init__(n_vocab, width)
        self.rnn = nn.RNN(width, width, batch_first=True)

    def mix(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]  # the results of all steps, [B, T, C]


class LongShortTerm(Predictor):
    """A memory that is added to and not made anew; gates say what enters, stays and shows."""

    def __init__(self, n_vocab: int, width: int) -> None:
        super().__init__(n_vocab, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def mix(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]  # [B, T, C]


class Convolution(Predictor):
    """Layers that each combine a position with one before it: 1 back, 2 back, 4 back, ...

    Twice as far with every layer, and then the end: nothing beyond ``RECEPTIVE_FIELD`` gets in.
    """

    RECEPTIVE_FIELD = 1 + sum(DILATIONS)  # 32 characters, with kernels of 2

    def __init__(self, n_vocab: int, width: int) -> None:
        super().__init__(n_vocab, width)
        self.pairs = nn.ModuleList(
            nn.Conv1d(width, 2 * width, kernel_size=2, dilation=dilation) for dilation in DILATIONS
        )
        self.joins = nn.ModuleList(nn.Conv1d(width, width, kernel_size=1) for _ in DILATIONS)

    def mix(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # [B, C, T]
        for dilation, pair, join in zip(DILATIONS, self.pairs, self.joins):
            # Zeros in front only: the kernel's last element then lies on the position itself.
            past = F.pad(x, (dilation, 0))  # [B, C, T + dilation]
            filtered, gate = pair(past).chunk(2, dim=1)  # twice [B, C, T]
            x = x + join(filtered.tanh() * gate.sigmoid())
        return x.transpose(1, 2)  # [B, T, C]


class Transformer(Predictor):
    """Every position looks at all before it, and chooses: the GPT's blocks."""

    def __init__(self, n_vocab: int, width: int) -> None:
        super().__init__(n_vocab, width)
        config = GPTConfig(n_vocab, context=CONTEXT, width=width, layers=LAYERS, heads=HEADS)
        self.register_buffer("positions", sinusoidal_positions(CONTEXT, width))  # [64, C]
        self.blocks = nn.Sequential(*(Block(config) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(width)

    def mix(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(x + self.positions[: x.shape[1]]))


NETWORKS: dict[str, type[Predictor]] = {
    "RNN": Recurrent,
    "LSTM": LongShortTerm,
    "convolution": Convolution,
    "transformer": Transformer,
}


def parameters(network: type[Predictor], n_vocab: int, width: int) -> int:
    return sum(p.numel() for p in network(n_vocab, width).parameters())


def equal_widths(n_vocab: int, transformer_width: int) -> dict[str, int]:
    """The width of each network with which its parameters come nearest to the transformer's.

    The transformer's is given, for it must be a multiple of the number of heads.
    """
    wanted = parameters(Transformer, n_vocab, transformer_width)
    widths = {}
    for name, network in NETWORKS.items():

        def count(width: int, network: type[Predictor] = network) -> int:
            return parameters(network, n_vocab, width)

        if network is Transformer:
            widths[name] = transformer_width
        else:  # more width, more parameters: halve the range until the first that has enough
            enough = bisect.bisect_left(range(20 * transformer_width), wanted, lo=2, key=count)
            widths[name] = min(enough - 1, enough, key=lambda width: abs(count(width) - wanted))
    return widths


@tensorgrad.no_grad()
def validation_loss(model: Predictor, x: Tensor, y: Tensor) -> float:
    """Mean nats per character over the second halves of the windows: x, y [n, T]."""
    total = 0.0
    for i in range(0, len(x), 64):
        logits = model(x[i : i + 64])[:, FIRST_JUDGED:]  # [64, T/2, V]
        targets = y[i : i + 64, FIRST_JUDGED:]
        total += F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="sum"
        ).item()
    return total / (len(x) * (x.shape[1] - FIRST_JUDGED))


def train(
    model: Predictor, batches: data.Batches, steps: int, judge: Callable[[], float]
) -> tuple[list[tuple[int, float]], float]:
    """AdamW, its rate rising and falling: (step, loss by ``judge``) 20 times; seconds per step."""
    optimizer = AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.1,
                          cycle_momentum=False)  # fmt: skip
    every = max(1, steps // 20)
    curve, seconds = [(0, judge())], []
    for step in range(1, steps + 1):
        x, y = map(tensorgrad.tensor, batches.next())  # [B, T]
        start = time.perf_counter()
        logits = model(x)  # [B, T, V]
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # recurrent networks' may explode
        optimizer.step()
        schedule.step()
        seconds.append(time.perf_counter() - start)
        if step % every == 0 or step == steps:
            curve.append((step, judge()))
    return curve, median(seconds)


def gradient_by_distance(model: Predictor, x: Tensor, y: Tensor) -> list[float]:
    """How much the prediction after a window depends on its last character, the one before, ...

    The length of the gradient of the last position's loss by each character's vector, its mean over
    the windows x, y [n, T], as a share of all T: networks of other widths have other vectors.
    """
    vectors = model.embedding(x).detach().requires_grad_()  # [n, T, C]
    last = model.read(vectors)[:, -1]  # [n, V]
    loss = F.cross_entropy(last, y[:, -1], reduction="sum")  # no window knows of another
    (gradient,) = tensorgrad.grad(loss, vectors)
    lengths = (gradient**2).sum(dim=-1).sqrt().mean(dim=0)  # [T]
    return (lengths / lengths.sum()).flip(0).tolist()


# -------------------------------------------------------------------------------- the contest


def choose_ngrams(
    text: str, n_vocab: int, windows: list[str], wanted: int
) -> tuple[list[dict], dict, dict]:
    """All orders until one is worse than the one before; the nearest in size, and the best."""
    rows: list[dict] = []
    for order in range(1, MOST_ORDER + 1):
        start = time.perf_counter()
        ngram = NGram(text, order, n_vocab)
        seconds = time.perf_counter() - start
        rows.append({"order": order, "counts": ngram.stored_counts(),
                     "loss": ngram.loss(windows), "seconds": seconds})  # fmt: skip
        if order > 1 and rows[-1]["loss"] > rows[-2]["loss"]:
            break
    nearest = min(rows, key=lambda row: abs(math.log(row["counts"] / wanted)))
    return rows, nearest, min(rows, key=lambda row: row["loss"])


def contest(text: str, width: int, steps: int, seed: int) -> dict[str, dict]:
    """Each competitor's results, by its name."""
    tokenizer = CharTokenizer(text)
    ids, held_out = data.train_val_split(tokenizer.encode(text))
    x, y = map(tensorgrad.tensor, data.windows(held_out, CONTEXT, WINDOWS))  # [n, T]
    windows = [tokenizer.decode([*row, nxt[-1]]) for row, nxt in zip(x.tolist(), y.tolist())]
    widths = equal_widths(tokenizer.n_vocab, width)
    wanted = parameters(Transformer, tokenizer.n_vocab, width)

    orders, nearest, best = choose_ngrams(
        tokenizer.decode(ids.tolist()), tokenizer.n_vocab, windows, wanted
    )
    show_orders(orders, wanted)
    results: dict[str, dict] = {}
    for row in (nearest, best):  # one line if they are the same
        results[f"{row['order']}-gram"] = {**row, "size": row["counts"]}
    for name, network in NETWORKS.items():
        tensorgrad.manual_seed(seed)
        model = network(tokenizer.n_vocab, widths[name])
        before = gradient_by_distance(model, x, y)
        batches = data.Batches(ids, CONTEXT, BATCH, seed)  # the same ones for all
        curve, seconds = train(model, batches, steps, lambda m=model: validation_loss(m, x, y))
        results[name] = {
            "size": sum(p.numel() for p in model.parameters()), "width": widths[name],
            "curve": curve, "loss": curve[-1][1], "step": seconds, "seconds": seconds * steps,
            "before": before, "after": gradient_by_distance(model, x, y),
        }  # fmt: skip
        print(f"{name}: {steps} steps, loss {curve[0][1]:.3f} → {curve[-1][1]:.3f}", flush=True)
    return results


# ------------------------------------------------------------------------------ as numbers


def show_orders(rows: list[dict], wanted: int) -> None:
    print("n-grams      stored counts   validation loss")
    for row in rows:
        print(f"  order {row['order']:2d}{row['counts']:17,}{row['loss']:18.3f}")
    print(f"  (the networks have about {wanted:,} parameters)\n", flush=True)


def within(shares: list[float], part: float) -> int:
    """How many of the last characters have this part of the gradient."""
    total = 0.0
    for characters, share in enumerate(shares, start=1):
        total += share
        if total >= part:
            return characters
    return len(shares)


def show_results(results: dict[str, dict]) -> None:
    print(
        "\n             parameters           validation  bits per   median of   all steps,"
        "\n              or counts     width        loss character      a step  or counting"
    )
    for name, row in results.items():
        step = f"{row['step'] * 1000:.1f} ms" if "step" in row else ""
        print(f"{name:12s}{row['size']:11,}{row.get('width', ''):>10}{row['loss']:12.3f}"
              f"{row['loss'] / math.log(2):10.3f}{step:>12}{row['seconds']:11.1f} s")  # fmt: skip
    print("\nThis part of the gradient of the last prediction comes from so many characters:"
          "\n              before training      after training"
          "\n               50 %  90 %  99 %    50 %  90 %  99 %")  # fmt: skip
    for name, row in results.items():
        if "before" in row:
            cells = [
                "".join(f"{within(row[when], part):6d}" for part in (0.5, 0.9, 0.99))
                for when in ("before", "after")
            ]
            print(f"{name:12s} {'  '.join(cells)}")


# ----------------------------------------------------------------------------- as pictures

# Colours of Okabe & Ito, told apart by colour-blind readers; dashes and markers besides.
LOOKS = {
    "RNN": {"color": "#D55E00", "linestyle": "-", "marker": "o"},
    "LSTM": {"color": "#CC79A7", "linestyle": "--", "marker": "s"},
    "convolution": {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    "transformer": {"color": "#0072B2", "linestyle": "-", "marker": "D"},
}
NGRAM_LINES = ({"color": "black", "linestyle": ":"}, {"color": "black", "linestyle": (0, (6, 2))})


def draw_learning(figure, results: dict[str, dict]) -> None:
    """Loss over steps, loss over seconds, and what a step takes."""
    by_step, by_time, bars = figure.subplots(1, 3, width_ratios=[3, 3, 2])
    networks = [name for name in results if name in LOOKS]
    for name in networks:
        steps, losses = zip(*results[name]["curve"])
        for axes, scale in ((by_step, 1), (by_time, results[name]["step"])):
            axes.plot([step * scale for step in steps], losses, label=name, markersize=3.5,
                      **LOOKS[name])  # fmt: skip
    for name, line in zip([name for name in results if name not in LOOKS], NGRAM_LINES):
        label = f"{name} ({results[name]['size']:,} counts)"
        for axes in (by_step, by_time):
            axes.axhline(results[name]["loss"], label=label, **line)
    top = max(results[name]["curve"][1][1] for name in networks)  # not the loss of random weights
    for axes, unit in ((by_step, "step"), (by_time, "seconds of training")):
        axes.set(xlabel=unit, ylabel="validation loss (nats per character)")
        axes.set_xlim(left=0)
        axes.set_ylim(min(row["loss"] for row in results.values()) - 0.1, top + 0.1)
    by_step.set_title(f"about {round(results['transformer']['size'], -3):,} parameters each")
    by_step.legend(frameon=False)
    by_time.set_title("the same over time")
    milliseconds = [results[name]["step"] * 1000 for name in networks]
    drawn = bars.barh(networks, milliseconds, color=[LOOKS[name]["color"] for name in networks])
    bars.bar_label(drawn, fmt="%.0f", padding=3)
    bars.set(title="time per step", xlabel="milliseconds (median)")
    bars.set_xlim(0, 1.15 * max(milliseconds))
    bars.invert_yaxis()
    for axes in (by_step, by_time, bars):
        axes.grid(alpha=0.25, axis="x" if axes is bars else "both")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def draw_how_far_back(figure, results: dict[str, dict]) -> None:
    """Shares of the gradient over the distance; straight lines here are exponential decay."""
    order = max(row["order"] for row in results.values() if "order" in row)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, when in zip(panels, ("before", "after")):
        axes.axvspan(0.5, order - 0.5, color="#e4e4e4", label=f"all that the {order}-gram sees")
        for name, look in LOOKS.items():
            shares = [share or math.nan for share in results[name][when]]  # log(0) is not drawn
            axes.plot(range(1, len(shares) + 1), shares, label=name, markersize=3.5, markevery=5,
                      **look)  # fmt: skip
        axes.axvline(Convolution.RECEPTIVE_FIELD + 0.5, color=LOOKS["convolution"]["color"],
                     linewidth=1)  # fmt: skip
        axes.set(title=f"{when} training", xlabel="characters back (1: the last one)",
                 yscale="log", xlim=(0.5, CONTEXT + 0.5))  # fmt: skip
        axes.set_ylim(1e-7, 1.5)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of the gradient")
    panels[1].text(Convolution.RECEPTIVE_FIELD + 1.2, 2e-6, "from here on 0\nfor the convolution",
                   color=LOOKS["convolution"]["color"], va="bottom")  # fmt: skip
    panels[1].legend(frameon=False, loc="upper right")
    figure.suptitle("How far back the prediction after a window depends on its characters")


def save_pictures(out: Path, results: dict[str, dict], kind: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("\nno pictures: they need matplotlib (pip install matplotlib)")
        return
    out.mkdir(parents=True, exist_ok=True)
    print()
    for name, size, draw in (
        ("learning", (14, 4.6), draw_learning),
        ("how_far_back", (12, 4.8), draw_how_far_back),
    ):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        draw(figure, results)
        figure.savefig(out / f"{name}.{kind}")
        print(f"picture: {out / name}.{kind}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/05_predecessors"),
                        help="folder for the pictures")  # fmt: skip
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and batches")
    parser.add_argument("--steps", type=int, default=600, help="of each network's training")
    parser.add_argument("--width", type=int, default=64,
                        help="of the transformer; the others get as many parameters")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="FILE",
                        help="a text to learn from; without one Python's reference")  # fmt: skip
    parser.add_argument("--characters", type=int, help="use so many of the text, and not all")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    if options.width < HEADS or options.width % HEADS:
        parser.error(f"--width must be a multiple of the {HEADS} heads")
    if options.characters is not None and options.characters < 1:
        parser.error("--characters must be at least 1")
    try:
        text = data.read_text(options.data) if options.data else data.default_corpus()
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))
    text = text[: options.characters]
    if len(data.train_val_split(range(len(text)))[1]) <= CONTEXT:
        parser.error(f"of {len(text)} characters too few are left to validate on: {LEAST} will do")
    results = contest(text, options.width, options.steps, options.seed)
    show_results(results)
    save_pictures(options.out, results, options.format)


if __name__ == "__main__":
    main()
