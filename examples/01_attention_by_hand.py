"""Attention by hand: every matrix between a sentence and the output of one attention layer.

Follows the tutorial "Transformer Architecture" (batch 4, context 16, width 64, 4 heads), its
sections 3 "Positional Encoding" and 4 "Transformer Block", step by step and in its notation. Its
weights are random and so are these: a pattern in the heat maps is chance, their shape is not.

What comes out: the matrices as numbers and as heat maps (`attention.png`), the table of positions
(`positions.png`), and an experiment on why the scores are divided by √d_k (`scaling.png`; Vaswani
et al. 2017, section 3.2.1).

    python examples/01_attention_by_hand.py             # about 5 seconds
    python examples/01_attention_by_hand.py --seed 7 --out runs/seven
"""

import argparse
import math
from pathlib import Path

import nn
import nn.functional as F
import tensorgrad

BATCH, CONTEXT, WIDTH, HEADS = 4, 16, 64, 4
HEAD_SIZE = WIDTH // HEADS  # 16: what the tutorial calls head_size, and the paper d_k

# A word is a token here, so that the heat maps can be read.
SENTENCES = [
    "the cat sat on the mat because the mat was warm and the cat was tired",
    "a gradient is a slope and a slope tells the walker which way leads down fastest",
    "every word looks back at the words before it and asks which of them matter here",
    "to know what comes next you must know what came before and where in the row",
]
WORDS = [sentence.split() for sentence in SENTENCES]  # [4, 16]


def position_table(context: int, width: int) -> tensorgrad.Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/width)), PE(pos, 2i+1) = cos of the same: [16, 64].

    In float32, as in the tutorial: rounding may move the sixth digit by one.
    """
    pos = tensorgrad.arange(context).float().unsqueeze(1)  # [16, 1]
    two_i = tensorgrad.arange(0, width, 2).float()  # [32]
    angle = pos * tensorgrad.exp(two_i * (-math.log(10000) / width))  # [16, 32]
    table = tensorgrad.zeros(context, width)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()
    return table


def attention_by_hand() -> dict[str, tensorgrad.Tensor]:
    """From words to the output of masked multi-head attention; every step by its name."""
    vocabulary = sorted(set(" ".join(SENTENCES).split()))
    tokens = tensorgrad.tensor(
        [[vocabulary.index(word) for word in row] for row in WORDS]
    )  # [4, 16]

    # A vector for each word plus a vector for its place. The same word has the same vector in
    # every row; the positions make the sum differ.
    embedding = nn.Embedding(len(vocabulary), WIDTH)
    X = embedding(tokens) + position_table(CONTEXT, WIDTH)  # [4, 16, 64]

    # What a word asks for, what it offers, and what it hands over.
    Wq = nn.Linear(WIDTH, WIDTH, bias=False)
    Wk = nn.Linear(WIDTH, WIDTH, bias=False)
    Wv = nn.Linear(WIDTH, WIDTH, bias=False)
    Q, K, V = Wq(X), Wk(X), Wv(X)  # each [4, 16, 64]

    # Cut the 64 numbers of a word into 4 heads of 16, and bring the heads before the words:
    # a matrix product then works on [words, head_size], for each sentence and head by itself.
    q, k, v = (matrix.reshape(BATCH, CONTEXT, HEADS, HEAD_SIZE) for matrix in (Q, K, V))
    q, k, v = (matrix.transpose(1, 2) for matrix in (q, k, v))  # [4, 16, 4, 16] → [4, 4, 16, 16]

    scores = q @ k.transpose(-2, -1)  # [4, 4, 16, 16]: row i, column j: word i asks word j
    scaled = scores / math.sqrt(HEAD_SIZE)  # divided by 4

    # A word may look at itself and back. exp(-inf) = 0: a masked word gets no weight at all.
    future = tensorgrad.ones(CONTEXT, CONTEXT, dtype=tensorgrad.bool).triu(diagonal=1)
    masked = scaled.masked_fill(future, -math.inf)  # [4, 4, 16, 16]

    weights = F.softmax(masked, dim=-1)  # [4, 4, 16, 16]: each row sums to 1
    A = weights @ v  # [4, 4, 16, 16]: each row a mean of the rows of v

    # The heads side by side again, and one more linear map to mix them.
    joined = A.transpose(1, 2).reshape(BATCH, CONTEXT, WIDTH)  # [4, 16, 64]
    Wo = nn.Linear(WIDTH, WIDTH, bias=False)
    output = Wo(joined)  # [4, 16, 64]

    return {
        "X": X, "Q": Q, "K": K, "V": V, "q": q, "k": k, "v": v, "scores": scores,
        "scaled": scaled, "masked": masked, "weights": weights, "A": A, "joined": joined,
        "output": output,
    }  # fmt: skip


def scaling_experiment(samples: int) -> list[dict[str, float]]:
    """Why divide by √d_k? Random queries and keys, 16 keys to a query, of more and more numbers.

    q·k is a sum of d_k products with mean 0 and variance 1, so its variance is d_k. Among 16
    scores that far apart the largest takes all the weight; then no small change of a score changes
    a weight, and the gradient is gone. Divided by √d_k, scores have variance 1 at any size.
    """
    rows = []
    for d_k in (1, 4, 16, 64, 256, 1024):
        q = tensorgrad.randn(samples, 1, d_k)
        k = tensorgrad.randn(samples, CONTEXT, d_k)
        products = (q @ k.transpose(1, 2)).squeeze(1)  # [samples, 16]
        row: dict[str, float] = {"d_k": d_k}
        for name, scores in (("plain", products), ("scaled", products / math.sqrt(d_k))):
            scores.requires_grad_()
            weights = F.softmax(scores, dim=-1)  # [samples, 16]
            # Any loss would do: what comes back to the scores has passed through the softmax.
            loss = (weights * tensorgrad.randn(samples, CONTEXT)).sum()
            (gradient,) = tensorgrad.grad(loss, scores)
            lengths = (gradient**2).sum(dim=-1).sqrt()  # [samples]
            row[f"variance, {name}"] = scores.var().item()
            row[f"largest weight, {name}"] = weights.max(dim=-1).values.mean().item()
            row[f"gradient, {name}"] = lengths.sort().values[samples // 2].item()  # the median
        rows.append(row)
    return rows


# ------------------------------------------------------------------------------ as numbers


def show(title: str, matrix: tensorgrad.Tensor, edge: int = 3) -> None:
    """The corners of a matrix, as the tutorial prints them."""
    print(f"\n{title}")
    rows = matrix.tolist()
    for row in [*rows[:edge], None, *rows[-edge:]]:
        if row is None:
            print("       ...")
        else:
            cells = [f"{value:9.4f}" for value in row]
            print("".join([*cells[:edge], "      ...", *cells[-edge:]]))


def show_positions(table: tensorgrad.Tensor) -> None:
    """The columns that the tutorial prints: the first and the last ten."""
    for first in (0, WIDTH - 10):
        print(f"\npositions, dimensions {first} to {first + 9}, {CONTEXT} rows")
        for pos, row in enumerate(table.tolist()):
            print(f"{pos:4d}" + "".join(f"{value:10.6f}" for value in row[first : first + 10]))


def show_scaling(rows: list[dict[str, float]]) -> None:
    print("\nq·k of random q and k:        plain                         divided by √d_k")
    print("   d_k    variance  largest weight  gradient    variance  largest weight  gradient")
    for row in rows:
        cells = [
            f"{row[f'variance, {name}']:12.2f}{row[f'largest weight, {name}']:16.3f}"
            f"{row[f'gradient, {name}']:10.1e}"
            for name in ("plain", "scaled")
        ]
        print(f"{row['d_k']:6d}" + "".join(cells))


# ----------------------------------------------------------------------------- as pictures


def draw_attention(figure, steps: dict[str, tensorgrad.Tensor], sentence: int, head: int) -> None:
    """Scores, scores after the mask, weights. Masked cells are hatched: not small but absent."""
    scaled, masked, weights = (
        steps[name][sentence, head].detach().numpy() for name in ("scaled", "masked", "weights")
    )
    weights = weights.copy()
    weights[masked == -math.inf] = math.nan  # drawn as the mask, like -inf
    words, panels = WORDS[sentence], figure.subplots(1, 3)
    reach = abs(scaled).max()  # both panels of scores have one scale, with 0 in its middle
    score_map = {"cmap": "PuOr", "vmin": -reach, "vmax": reach}
    images = [
        panels[0].imshow(scaled, **score_map),
        panels[1].imshow(masked, **score_map),
        panels[2].imshow(weights, cmap="viridis", vmin=0, vmax=0.5),
    ]
    titles = ("scores: Q Kᵀ / √16", "scores after the mask", "weights: softmax of each row")
    for axes, title in zip(panels, titles):
        axes.set_title(title)
        axes.patch.set(facecolor="#f2f2f2", edgecolor="#c4c4c4", hatch="////")
        axes.set_xticks(range(CONTEXT), words, rotation=90)
        axes.set_yticks(range(CONTEXT), words)
        axes.set_xlabel("word that is looked at (key)")
        axes.tick_params(length=0)
    panels[0].set_ylabel("word that looks (query)")
    figure.colorbar(images[1], ax=panels[:2], label="score", shrink=0.9)
    figure.colorbar(images[2], ax=panels[2], label="weight", shrink=0.9, extend="max")
    figure.suptitle(f"One of {HEADS} heads, with random weights (hatched: masked)")


def draw_positions(figure, table: tensorgrad.Tensor) -> None:
    """The table in the tutorial's colours, and how alike the vectors of two positions are."""
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    image = left.imshow(table.numpy(), cmap="viridis", vmin=-1, vmax=1, aspect="auto")
    left.set(title="position table", xlabel="dimension", ylabel="position")
    figure.colorbar(image, ax=left, label="value")
    image = right.imshow((table @ table.T).numpy(), cmap="cividis")
    right.set(title="PE · PEᵀ", xlabel="position", ylabel="position")
    figure.colorbar(image, ax=right, label="dot product", shrink=0.8)
    right.set_xticks(range(0, CONTEXT, 5))


def draw_scaling(figure, rows: list[dict[str, float]]) -> None:
    """Variance of the scores, largest weight and gradient over d_k, with and without division."""
    sizes = [row["d_k"] for row in rows]
    quantities = {
        "variance": "variance of the scores",
        "largest weight": f"largest of {CONTEXT} weights (mean)",
        "gradient": "gradient of the scores (median length)",
    }
    # Colours of Okabe & Ito, told apart by colour-blind readers; markers and dashes besides.
    looks = {
        "plain": {"color": "#D55E00", "marker": "s", "label": r"$q \cdot k$"},
        "scaled": {
            "color": "#0072B2",
            "marker": "o",
            "linestyle": "--",
            "label": r"$q \cdot k / \sqrt{d_k}$",
        },
    }
    for axes, (quantity, title) in zip(figure.subplots(1, 3), quantities.items()):
        for name, look in looks.items():
            axes.plot(sizes, [row[f"{quantity}, {name}"] for row in rows], **look)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(title=title, xlabel="$d_k$")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if quantity == "largest weight":
            axes.set_ylim(0, 1.02)
        else:
            axes.set_yscale("log")
    figure.axes[0].legend(frameon=False)


def save_pictures(out: Path, steps: dict, table: tensorgrad.Tensor, rows: list, kind: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("\nno pictures: they need matplotlib (pip install matplotlib)")
        return
    out.mkdir(parents=True, exist_ok=True)
    print()
    for name, size, draw in (
        ("attention", (14, 4.9), lambda figure: draw_attention(figure, steps, 0, 0)),
        ("positions", (12, 3.6), lambda figure: draw_positions(figure, table)),
        ("scaling", (12, 3.6), lambda figure: draw_scaling(figure, rows)),
    ):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        draw(figure)
        figure.savefig(out / f"{name}.{kind}")
        print(f"picture: {out / name}.{kind}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/01_attention_by_hand"),
                        help="folder for the pictures")  # fmt: skip
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and samples")
    parser.add_argument("--samples", type=int, default=1000,
                        help="queries per size in the experiment on √d_k")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.samples < 1:
        parser.error("--samples must be at least 1")
    tensorgrad.manual_seed(options.seed)

    table = position_table(CONTEXT, WIDTH)
    show_positions(table)

    steps = attention_by_hand()
    print("\nshapes")
    for name, step in steps.items():
        print(f"  {name:8s}{list(step.shape)}")
    print(f"\nFirst sentence, first of {HEADS} heads: {SENTENCES[0]}")
    for name in ("scores", "scaled", "masked", "weights", "A"):
        show(f"{name}, [16, 16]", steps[name][0, 0])
    show("output, [16, 64]", steps["output"][0])

    # The layer does all of this in one call.
    layer = F.scaled_dot_product_attention(steps["q"], steps["k"], steps["v"], is_causal=True)
    difference = (steps["A"] - layer).abs().max().item()
    print(f"\nlargest difference from F.scaled_dot_product_attention: {difference:.1e}")

    rows = scaling_experiment(options.samples)
    show_scaling(rows)
    save_pictures(options.out, steps, table, rows, options.format)


if __name__ == "__main__":
    main()
