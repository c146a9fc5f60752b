"""A transformer by hand: 344 weights that go on with aabaabaab…, first set, then learned.

Follows the article "Make a transformer model by hand" (after "I made a transformer by hand (no
training!)", vgel.me): one attention head, one layer, no norm and no feed-forward, 5 tokens of
context, the vocabulary a and b, vectors of 8 numbers. The rule that the weights spell out: after
"aa" comes b, after "ab" and "ba" comes a.

What comes out: the article's completions and its accuracy of 27/27; then the same architecture
trained from random weights to the same accuracy. Pictures: "aabaa" on its way through the model
made by hand (`by_hand.png`), and its attention beside the learned one (`attention.png`).

    python examples/02_transformer_by_hand.py             # some 5 seconds
    python examples/02_transformer_by_hand.py --seed 3 --steps 500
"""

import argparse
import math
from pathlib import Path

import nn
import nn.functional as F
import tensorgrad
from tensorgrad.optim import AdamW

N_CTX, N_VOCAB, N_EMBED = 5, 2, 8
CHARS = "ab"
TEXTS = ("aabaa", "abaab", "baaba")  # all that 5 tokens of aabaab… can be
LARGE = 1024  # so large that softmax leaves nothing to anything smaller


class Transformer(nn.Module):
    """tokens [T] or [B, T] → logits of the next token [..., T, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(N_VOCAB, N_EMBED)  # the token's vector
        self.wpe = nn.Embedding(N_CTX, N_EMBED)  # the position's vector
        self.c_attn = nn.Linear(N_EMBED, 3 * N_EMBED)  # to query, key and value, side by side
        self.c_proj = nn.Linear(N_EMBED, N_EMBED)  # from the attention's result back to a vector

    def forward(self, tokens: tensorgrad.Tensor) -> tensorgrad.Tensor:
        return self.steps(tokens)["logits"]

    def steps(self, tokens: tensorgrad.Tensor) -> dict[str, tensorgrad.Tensor]:
        """All that is computed on the way to the logits, by name."""
        T = tokens.shape[-1]
        x = self.wte(tokens) + self.wpe.weight[:T]  # [..., T, 8]
        q, k, v = self.c_attn(x).chunk(3, dim=-1)  # 3 times [..., T, 8]
        scores = q @ k.transpose(-2, -1) / math.sqrt(N_EMBED)  # [..., T, T]
        future = tensorgrad.ones(T, T, dtype=tensorgrad.bool).triu(diagonal=1)
        weights = F.softmax(scores.masked_fill(future, -math.inf), dim=-1)  # [..., T, T]
        attended = weights @ v  # [..., T, 8]
        x_out = x + self.c_proj(attended)  # [..., T, 8]: what came in is kept, and added to
        logits = x_out @ self.wte.weight.T  # [..., T, 2]: how much of "a" and of "b" is in it
        return {
            "x": x, "q": q, "k": k, "v": v, "scores": scores, "weights": weights,
            "attended": attended, "x_out": x_out, "logits": logits,
        }  # fmt: skip


# The 8 numbers of a vector: 0 to 4 say where the token stands (one-hot), 5 and 6 what it is
# (one-hot: a, b), and 7 is scratch space, for the prediction.
IS_A, IS_B, SCRATCH = 5, 6, 7


def made_by_hand() -> Transformer:
    """The model with the article's weights."""
    wte = tensorgrad.zeros(N_VOCAB, N_EMBED)
    wte[0, IS_A] = 1
    wte[1, IS_B] = 1
    wpe = tensorgrad.eye(N_CTX, N_EMBED)

    # A vector times these three matrices is its query, its key and its value: row i says what
    # number i of the vector contributes.
    query, key, value = tensorgrad.zeros(3, N_EMBED, N_EMBED)
    for position in range(N_CTX):
        key[position, position] = 1  # "here I am": the position, and nothing else
        query[position, position] = LARGE  # "I look for my own position …
        if position > 0:
            query[position, position - 1] = LARGE  # … and the one before, as much"
    value[IS_A, SCRATCH] = 1  # "I am an a": 1; "I am a b": -1. The mean of the last two tokens is
    value[IS_B, SCRATCH] = -1  # then 1 after "aa", and 0 after "ab" and "ba".

    # The scratch number p becomes a vector again, a - p·a + p·b: "a" unless p says "b". It is
    # large, because the residual connection adds the old token, which must not matter.
    proj = tensorgrad.zeros(N_EMBED, N_EMBED)
    proj[SCRATCH, IS_A] = -LARGE
    proj[SCRATCH, IS_B] = LARGE
    proj_bias = tensorgrad.zeros(N_EMBED)
    proj_bias[IS_A] = LARGE

    model = Transformer()
    model.load_state_dict(
        {
            "wte.weight": wte,
            "wpe.weight": wpe,
            # The article multiplies from the left, x W + b; nn.Linear keeps W transposed.
            "c_attn.weight": tensorgrad.concat([query, key, value], dim=1).T,  # [24, 8]
            "c_attn.bias": tensorgrad.zeros(3 * N_EMBED),
            "c_proj.weight": proj.T,
            "c_proj.bias": proj_bias,
        }
    )
    return model


def tokenize(text: str) -> tensorgrad.Tensor:
    return tensorgrad.tensor([CHARS.index(char) for char in text])


@tensorgrad.no_grad()
def predict(model: Transformer, text: str) -> str:
    """The likeliest next character, seen from the last 5."""
    logits = model(tokenize(text[-N_CTX:]))  # [T, 2]
    return CHARS[int(logits[-1].argmax())]


def complete(model: Transformer, text: str, new_tokens: int = 10) -> str:
    """The next characters, each taken into account for the ones after it."""
    start = len(text)
    for _ in range(new_tokens):
        text += predict(model, text)
    return text[start:]


def accuracy(model: Transformer) -> tuple[int, int]:
    """Right predictions in aabaab…, from the third character on: before, there is no telling."""
    text = "aab" * 10
    right = [predict(model, text[:i]) == text[i] for i in range(2, len(text) - 1)]
    return sum(right), len(right)


# After a first "a", "a" and "b" are equally likely: ln 2 for 2 of the 15 characters to predict.
LOWEST_LOSS = 2 * math.log(2) / 15


def random_weights() -> Transformer:
    """The same architecture, drawn from N(0, 0.3²) with biases 0.

    PyTorch's N(0, 1) for embeddings would make large logits here, where the table of tokens is
    also the output layer: the first loss would be 4 to 12, and not about ln 2. Of 34 seeds, 32
    learn all 27; the other two end in a minimum that is not the lowest, with 26.
    """
    model = Transformer()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
        else:
            nn.init.zeros_(parameter)
    return model


def train(model: Transformer, steps: int) -> list[float]:
    """AdamW on all there is to learn from: the three texts of 5 that aabaab… consists of."""
    inputs = tensorgrad.stack([tokenize(text) for text in TEXTS])  # [3, 5]
    targets = tensorgrad.stack([tokenize(text) for text in ("abaab", "baaba", "aabaa")])
    optimizer = AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        logits = model(inputs)  # [3, 5, 2]
        loss = F.cross_entropy(logits.reshape(-1, N_VOCAB), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ------------------------------------------------------------------------------ as numbers


def report(model: Transformer) -> None:
    """What the model says after each character of "aabaa", its completions and its accuracy."""
    text = "aabaa"
    steps = model.steps(tokenize(text))
    print("            logit of   logit of    goes   and looks at its")
    print("  it sees          a          b  on with   characters with weight")
    for i, (a, b) in enumerate(steps["logits"].tolist()):
        weights = " ".join(f"{weight:.2f}" for weight in steps["weights"][i, : i + 1].tolist())
        print(f"  {text[: i + 1]:7s}{a:11.2f}{b:11.2f}     {'a' if a > b else 'b'}     {weights}")
    for text in ("a", "ba", "abaab", "bbbbb"):
        print(f'  complete("{text}") → {complete(model, text)}')
    right, total = accuracy(model)
    print(f"  accuracy: {right} / {total}")


# ----------------------------------------------------------------------------- as pictures


def heat_map(axes, matrix: tensorgrad.Tensor, title: str, rows, columns, digits: int, **colours):
    """A matrix with its numbers written into it. Cells of NaN are masked: they are hatched."""
    image = axes.imshow(matrix.detach().numpy(), **colours)
    axes.patch.set(facecolor="#f2f2f2", edgecolor="#c4c4c4", hatch="////")
    axes.set_title(title)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for i, row in enumerate(matrix.tolist()):
        for j, value in enumerate(row):
            if not math.isnan(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                axes.text(j, i, f"{value:.{digits}f}", color="white" if dark else "black",
                          ha="center", va="center", fontsize=8.5)  # fmt: skip
    return image


def hide_future(matrix: tensorgrad.Tensor) -> tensorgrad.Tensor:
    """NaN above the diagonal, where the mask is."""
    return matrix.masked_fill(tensorgrad.ones(*matrix.shape).triu(diagonal=1) > 0, math.nan)


def draw_by_hand(figure, model: Transformer) -> None:
    """The way of "aabaa" through the model, in six matrices."""
    text = "aabaa"
    steps = model.steps(tokenize(text))
    parts = [*"01234", "a", "b", "p"]  # of a vector: position, token, prediction
    panels = (
        ("x", "1  token + position", parts, 0),
        ("v", "2  values: p is 1 for a, −1 for b", parts, 0),
        ("scores", "3  scores: q kᵀ / √8", text, 0),
        ("weights", "4  weights: softmax", text, 1),
        ("attended", "5  weights · values: the mean p", parts, 0),
        ("x_out", "6  x + projection: b where p is 1, else a", parts, 0),
    )
    figure.suptitle(
        '"aabaa" in the transformer made by hand: a row for each character, '
        "columns: position 0 to 4, token a or b, prediction p"
    )
    top, bottom = figure.subfigures(2, 1)
    places = [*top.subplots(1, 3, width_ratios=[8, 8, 5]),
              *bottom.subplots(1, 3, width_ratios=[5, 8, 8])]  # fmt: skip
    for axes, (name, title, columns, digits) in zip(places, panels):
        matrix = steps[name].detach()
        reach = matrix.abs().max().item()  # white is 0
        if columns == text:
            matrix = hide_future(matrix)
        heat_map(axes, matrix, title, text, columns, digits, cmap="PuOr", vmin=-reach, vmax=reach)


def draw_attention(figure, by_hand: Transformer, learned: Transformer, losses: list[float]) -> None:
    """Who attends to whom, in the three texts; and the loss of the training."""
    names = [[f"{model}, {text}" for text in TEXTS] for model in ("by hand", "learned")]
    panels = figure.subplot_mosaic([[*names[0], "loss"], [*names[1], "loss"]],
                                   width_ratios=[1, 1, 1, 1.5])  # fmt: skip
    for row, model in zip(names, (by_hand, learned)):
        for name, text in zip(row, TEXTS):
            weights = hide_future(model.steps(tokenize(text))["weights"])
            image = heat_map(panels[name], weights, name, text, text, 2,
                             cmap="viridis", vmin=0, vmax=1)  # fmt: skip
        panels[row[0]].set_ylabel("character that looks")
    panels[names[1][1]].set_xlabel("character that is looked at")
    figure.colorbar(image, ax=[panels[name] for row in names for name in row], label="weight")
    axes = panels["loss"]
    axes.plot(range(1, len(losses) + 1), losses, color="#0072B2", label="training")
    axes.axhline(LOWEST_LOSS, color="#D55E00", linestyle="--", label="lowest possible")
    axes.set(title="training from random weights", xlabel="step", ylabel="cross-entropy (nats)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/02_transformer_by_hand"),
                        help="folder for the pictures")  # fmt: skip
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--steps", type=int, default=200, help="of the training")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps must be at least 1")

    by_hand = made_by_hand()
    print(f"made by hand, {sum(p.numel() for p in by_hand.parameters())} weights")
    report(by_hand)

    tensorgrad.manual_seed(options.seed)
    learned = random_weights()
    right, total = accuracy(learned)
    print(f"\nrandom weights: accuracy {right} / {total}")
    losses = train(learned, options.steps)
    print(f"trained for {options.steps} steps: loss {losses[0]:.4f} → {losses[-1]:.4f}, "
          f"lowest possible {LOWEST_LOSS:.4f}")  # fmt: skip
    report(learned)

    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("\nno pictures: they need matplotlib (pip install matplotlib)")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    print()
    for name, size, draw, models in (
        ("by_hand", (12, 7.2), draw_by_hand, (by_hand,)),
        ("attention", (14, 5.6), draw_attention, (by_hand, learned, losses)),
    ):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        draw(figure, *models)
        path = options.out / f"{name}.{options.format}"
        figure.savefig(path)
        print(f"picture: {path}")


if __name__ == "__main__":
    main()
