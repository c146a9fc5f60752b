"""Fill in the blank: a BERT-like encoder guesses hidden words, and a classifier stands on it.

Follows Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", whose sections are named below, on the language reference that comes with Python.

1. Pre-training (3.1, masked language modelling): of each passage, 15 % of the words are hidden and
   guessed from what stands on both sides. How many are right in held-out text, beside counting.
2. Fine-tuning (3.2): is every word in its place, or have two neighbours been swapped? The text
   labels its examples itself. A linear layer on the encoder learns it from a few passages, beside
   the same without pre-training, and beside regressions on counts.

Pictures: guesses with their probabilities (`fill.png`), and both accuracies (`accuracy.png`).

    python examples/04_fill_in_the_blank.py               # 3 minutes, at most 5
    python examples/04_fill_in_the_blank.py --steps 300   # about one, and little is learnt
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain, count, pairwise
from pathlib import Path

import numpy as np

import nn
import nn.functional as F
import tensorgrad
from gpt.data import default_corpus
from tensorgrad.optim import AdamW
from tensorgrad.optim.lr_scheduler import LambdaLR

# BERT's base model has 12 layers, width 768, 12 heads, 512 tokens; and 3.3 billion words of text.
LAYERS, WIDTH, HEADS, CONTEXT = 2, 128, 4, 16
IGNORED = -100  # the label where nothing is to be guessed: what F.cross_entropy leaves out

# ---------------------------------------------------------------------------------- the text

WORD = r"\w+|([^\w\s])\1*"  # a word, or a sign, once or repeated: ( ** ... -----


def passages(text: str, most: int | None = None) -> list[list[str]]:
    """The paragraphs, each a list of lower-case words and signs, without repetitions.

    The reference prints many sections twice, and a copy of a held-out passage would be an answer
    to look up: a paragraph is left out if half of its runs of 8 words have occurred before.
    """
    kept, seen = [], set()
    for paragraph in re.split(r"\n\s*\n", text)[:most]:
        words = [match.group() for match in re.finditer(WORD, paragraph.lower())]
        runs = {tuple(words[i : i + 8]) for i in range(max(1, len(words) - 7))}
        if words and 2 * len(runs & seen) < len(runs):
            kept.append(words)
        seen |= runs
    return kept


def deal(paragraphs: list[list[str]]) -> tuple[list, list, list]:
    """Text to pre-train on (8 of 10 parts), to fine-tune on (1) and held out (1).

    Dealt in blocks of 8 neighbours, which are about the same thing; the same for every seed.
    """
    blocks = [paragraphs[i : i + 8] for i in range(0, len(paragraphs), 8)]
    parts: tuple[list, list, list] = ([], [], [])
    for i, block in enumerate(np.random.default_rng(0).permutation(len(blocks))):
        parts[max(0, i % 10 - 7)].extend(blocks[block])
    return parts


class Vocabulary:
    """Words and their ids, from 0: the frequent ones, then five tokens that are no words.

    (BERT has 30,000 pieces of words, so that nothing is unknown; here a rare word is [UNK].)
    """

    SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def __init__(self, paragraphs: list[list[str]], least: int = 5) -> None:
        counts = Counter(word for words in paragraphs for word in words)
        self.names = [word for word, count in counts.most_common() if count >= least]
        self.n_words = len(self.names)
        self.names += self.SPECIAL
        self.ids = {name: i for i, name in enumerate(self.names)}
        self.pad, self.unknown, self.cls, self.sep, self.mask = map(self.ids.get, self.SPECIAL)

    def rows(self, paragraphs: list[list[str]]) -> list[list[int]]:
        """The paragraphs in pieces of 5 to 14 words, as [CLS] word … word [SEP].

        Figure 2 of the paper, with one segment instead of two: no segment embeddings.
        """
        rows = []
        for words in paragraphs:
            ids = [self.ids.get(word, self.unknown) for word in words]
            n = -(-len(ids) // (CONTEXT - 2))  # pieces, all about as long
            pieces = [ids[i * len(ids) // n : (i + 1) * len(ids) // n] for i in range(n)]
            rows += [[self.cls, *piece, self.sep] for piece in pieces if len(piece) >= 5]
        return rows

    def padded(self, rows: list[list[int]]) -> np.ndarray:
        """Rows of T tokens or fewer → int64 [B, T]."""
        longest = max(map(len, rows))
        return np.array([row + [self.pad] * (longest - len(row)) for row in rows])


def batches(rows: list, size: int, generator: np.random.Generator) -> Iterator[list]:
    """Every row once, in a random order; rows of about the same length together, to pad little."""
    lengths = np.array([len(row) for row in rows])
    order = np.argsort(lengths + generator.uniform(0, 8, len(rows)))
    parts = np.array_split(order, -(-len(rows) // size))
    for part in generator.permutation(len(parts)):
        yield [rows[i] for i in parts[part]]


# --------------------------------------------------------------------------------- the model


class Bert(nn.Module):
    """tokens [B, T] → a vector for each, that knows of the words on both sides: [B, T, width].

    The paper's encoder is that of Vaswani et al. 2017, and so is this one: the norms stand behind
    the sums (post-norm). Activation: GELU (A.2). No mask but for padding: every word sees all.
    """

    def __init__(
        self, vocabulary: Vocabulary, width: int = WIDTH, layers: int = LAYERS, heads: int = HEADS
    ) -> None:
        super().__init__()
        self.pad = vocabulary.pad
        self.tokens = nn.Embedding(len(vocabulary.names), width)
        self.positions = nn.LearnedPositions(CONTEXT, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=False,
        )  # fmt: skip
        self.encoder = nn.TransformerEncoder(layer, layers)
        # The head: one more layer, then the product with every word's vector. The output layer is
        # the token embedding; only a bias is its own.
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(tensorgrad.zeros(len(vocabulary.names)))
        self.begin()

    def begin(self) -> None:
        """Random weights; the positions are learned from a table of sinusoids on.

        BERT draws them at random, too. Then it takes many more steps until a blank finds its
        neighbours, and for so long the encoder only knows how frequent words are.
        """
        nn.init.normal_(self.tokens.weight, std=0.06)
        with tensorgrad.no_grad():
            table = nn.sinusoidal_positions(*self.positions.table.shape)
            self.positions.table.copy_(0.1 * table)
        for parameter in self.encoder.parameters():
            if parameter.ndim == 2:  # the layers are copies of one, and shall not begin alike
                nn.init.normal_(parameter, std=0.05)

    def forward(self, tokens: tensorgrad.Tensor) -> tensorgrad.Tensor:
        x = self.norm(self.positions(self.tokens(tokens)))  # [B, T, width]: word + place
        return self.encoder(x, src_key_padding_mask=tokens == self.pad)  # [B, T, width]

    def guess(self, hidden: tensorgrad.Tensor) -> tensorgrad.Tensor:
        """Vectors [..., width] → logits of the words that are hidden [..., vocabulary]."""
        return self.transform(hidden) @ self.tokens.weight.T + self.bias


# --------------------------------------------------- 3.1 pre-training: masked language modelling


def hide(
    tokens: np.ndarray, vocabulary: Vocabulary, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [B, T] → the same with blanks [B, T], and what to guess there, else −100 [B, T].

    Of the words 15 % are chosen. Of these 80 % become [MASK], 10 % some word by chance and 10 %
    stay: later there will be no [MASK], and a word that is seen must still be thought about.
    """
    chosen = (tokens < vocabulary.n_words) & (generator.random(tokens.shape) < 0.15)
    labels = np.where(chosen, tokens, IGNORED)
    lot = generator.random(tokens.shape)
    chance = generator.integers(vocabulary.n_words, size=tokens.shape)
    tokens = np.where(chosen & (lot < 0.8), vocabulary.mask, tokens)
    return np.where(chosen & (lot >= 0.9), chance, tokens), labels


def masked_logits(
    model: Bert, tokens: np.ndarray, labels: np.ndarray
) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
    """Logits [chosen, vocabulary] and words [chosen], where there is something to guess.

    Elsewhere the loss would ignore them (the label is −100), so they are not computed.
    """
    hidden = model(tensorgrad.tensor(tokens))  # [B, T, width]
    chosen = tensorgrad.tensor(labels != IGNORED)  # [B, T]
    return model.guess(hidden[chosen]), tensorgrad.tensor(labels)[chosen]


class Training:
    """A.2: AdamW; the rate rises for a while, and falls to 0 in a straight line."""

    def __init__(self, model: nn.Module, steps: int, rate: float) -> None:
        warmup = min(50, 1 + steps // 10)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = AdamW(self.parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.schedule = LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup + 1)),
        )

    def step(self, loss: tensorgrad.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def pretrain(
    model: Bert, rows: list[list[int]], tests: list, vocabulary: Vocabulary, steps: int, seed: int
) -> list[tuple[int, float, float]]:
    """Learn to guess; (step, mean loss since the last report, accuracy on the tests) at times.

    A row gets new blanks each time it comes up. (The paper draws them ten times, beforehand.)
    """
    generator = np.random.default_rng(seed)
    training = Training(model, steps, rate=3e-3)
    epochs = (batches(rows, 128, generator) for _ in count())
    curve, losses = [], []
    for step, batch in zip(range(1, steps + 1), chain.from_iterable(epochs)):
        tokens, labels = hide(vocabulary.padded(batch), vocabulary, generator)
        logits, words = masked_logits(model, tokens, labels)
        loss = F.cross_entropy(logits, words)
        training.step(loss)
        losses.append(loss.item())
        if step * 8 // steps > (step - 1) * 8 // steps:  # 8 times, the last time at the end
            curve.append((step, float(np.mean(losses)), masked_accuracy(model, tests)))
            print("  {:6d}{:10.3f}{:14.1%}".format(*curve[-1]), flush=True)
            losses = []
    return curve


def blank_out(rows: list[list[int]], vocabulary: Vocabulary) -> list[tuple]:
    """Text in which every word is a blank once: (tokens, labels) as from ``hide``, in 7 rounds."""
    generator = np.random.default_rng(0)
    tests = []
    for batch in batches(rows, 256, generator):
        tokens = vocabulary.padded(batch)
        turn = generator.integers(7, size=tokens.shape)
        for i in range(7):
            blank = (turn == i) & (tokens < vocabulary.n_words)
            if blank.any():
                hidden = np.where(blank, vocabulary.mask, tokens)
                tests.append((hidden, np.where(blank, tokens, IGNORED)))
    return tests


@tensorgrad.no_grad()
def masked_accuracy(model: Bert, tests: list[tuple]) -> float:
    """How many blanks the likeliest word fills."""
    right = []
    for tokens, labels in tests:
        logits, words = masked_logits(model, tokens, labels)
        right += (logits.argmax(dim=-1) == words).tolist()
    return sum(right) / len(right)


def counting(rows: list[list[int]], tests: list[tuple], vocabulary: Vocabulary) -> dict[str, float]:
    """How many blanks are filled by counts in ``rows``, each as good as the one before if unsure:
    the most frequent word, the most frequent after the left neighbour, and between both.
    """
    words, after, between = Counter(), defaultdict(Counter), defaultdict(Counter)
    for row in rows:
        for left, middle, right in zip(row, row[1:], row[2:]):
            if middle < vocabulary.n_words:
                words[middle] += 1
                after[left][middle] += 1
                between[left, right][middle] += 1
    most = words.most_common(1)[0][0]
    after, between = (
        {key: counts.most_common(1)[0][0] for key, counts in table.items()}
        for table in (after, between)
    )
    hits = []
    for tokens, labels in tests:
        for i, j in zip(*np.nonzero(labels != IGNORED)):
            left, right = tokens[i, j - 1], tokens[i, j + 1]
            by_left = after.get(left, most)
            by_both = between.get((left, right), by_left)
            hits.append(np.array([most, by_left, by_both]) == labels[i, j])
    names = ("most frequent word", "most frequent after the left neighbour", "… between both")
    return dict(zip(names, np.mean(hits, axis=0).tolist()))


def draw_blanks(rows: list[list[int]], vocabulary: Vocabulary, seed: int, most: int) -> list[tuple]:
    """Passages that read as sentences, by lot, each with the place of a word to hide."""

    def places(row: list[int]) -> list[int]:
        return [j for j, t in enumerate(row)
                if t < vocabulary.n_words and vocabulary.names[t].isalpha()]  # fmt: skip

    prose = [row for row in rows
             if len(row) >= 12 and len(places(row)) > 0.7 * len(row)
             and vocabulary.unknown not in row]  # fmt: skip
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(prose))[:most]
    return [(prose[i], int(generator.choice(places(prose[i])))) for i in drawn]


@tensorgrad.no_grad()
def candidates(model: Bert, row: list[int], place: int, vocabulary: Vocabulary) -> list[tuple]:
    """The five likeliest words at a blank, with their probabilities."""
    tokens = tensorgrad.tensor([row])  # [1, T]
    tokens[0, place] = vocabulary.mask
    top = F.softmax(model.guess(model(tokens)[0, place]), dim=-1).topk(5)
    return [(vocabulary.names[i], p) for p, i in zip(top.values.tolist(), top.indices.tolist())]


# ------------------------------------------------------- 3.2 fine-tuning: is a word out of place?


def examples_of_order(
    rows: list[list[int]], vocabulary: Vocabulary, generator: np.random.Generator
) -> list[tuple[list[int], int]]:
    """Each row twice: as it is, labelled 0, and with two neighbouring words swapped, labelled 1.

    The words are the same, so only their order can tell. (Of the paper's tasks, CoLA is of this
    kind: is a sentence acceptable?)
    """
    examples = []
    for row in rows:
        places = [i for i, (a, b) in enumerate(pairwise(row))
                  if a != b and max(a, b) < vocabulary.n_words]  # fmt: skip
        if places:
            i = int(generator.choice(places))
            examples += [(row, 0), ([*row[:i], row[i + 1], row[i], *row[i + 2 :]], 1)]
    return examples


class Classifier(nn.Module):
    """tokens [B, T] → logits of the two classes [B, 2]: the encoder, and one linear layer on it.

    The paper takes the vector of [CLS], because its second task of pre-training (3.1, not done
    here) has given that one something to say. Here the mean of all vectors does better.
    """

    def __init__(self, encoder: Bert, frozen: bool = False) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(not frozen)
        self.output = nn.Linear(encoder.tokens.weight.shape[1], 2)

    def forward(self, tokens: tensorgrad.Tensor) -> tensorgrad.Tensor:
        hidden = self.encoder(tokens)  # [B, T, width]
        padding = (tokens == self.encoder.pad).unsqueeze(-1)  # [B, T, 1]
        total = hidden.masked_fill(padding, 0.0).sum(dim=1)  # [B, width]
        return self.output(total / (~padding).sum(dim=1))


def unzip(examples: list, vocabulary: Vocabulary) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
    """Tokens [B, T] and labels [B]."""
    rows, labels = zip(*examples)
    return tensorgrad.tensor(vocabulary.padded(list(rows))), tensorgrad.tensor(labels)


@tensorgrad.no_grad()
def accuracy(model: Classifier, examples: list, vocabulary: Vocabulary) -> float:
    right = []
    for i in range(0, len(examples), 256):
        tokens, labels = unzip(examples[i : i + 256], vocabulary)
        right += (model(tokens).argmax(dim=-1) == labels).tolist()
    return sum(right) / len(right)


def fine_tune(
    model: Classifier, train: list, test: list, vocabulary: Vocabulary, epochs: int, rate: float,
    seed: int,
) -> list[float]:  # fmt: skip
    """Train what is not frozen; the accuracy on the test before, and after each epoch."""
    generator = np.random.default_rng(seed)
    n = -(-len(train) // 32)  # batches of 32 (A.3)
    training = Training(model, epochs * n, rate)
    curve = [accuracy(model, test, vocabulary)]
    for _ in range(epochs):
        for part in np.array_split(generator.permutation(len(train)), n):
            tokens, labels = unzip([train[i] for i in part], vocabulary)
            training.step(F.cross_entropy(model(tokens), labels))
        curve.append(accuracy(model, test, vocabulary))
    return curve


def bag_of_words(examples: list, vocabulary: Vocabulary) -> np.ndarray:
    """How often each word occurs, wherever: [examples, vocabulary]."""
    return np.array([np.bincount(row, minlength=len(vocabulary.names)) for row, _ in examples])


def counts_of_pairs(examples: list, text: list[list[int]]) -> np.ndarray:
    """Of each example's pairs of neighbours, the share that ``text`` never has, and the mean
    logarithm of the second word's probability after the first: [examples, 2].
    """
    words = Counter(token for row in text for token in row)
    pairs = Counter(pair for row in text for pair in pairwise(row))
    total = sum(words.values())
    features = []
    for row, _ in examples:
        log = [np.log((pairs[a, b] + (words[b] + 1) / total) / (words[a] + 1))
               for a, b in pairwise(row)]  # fmt: skip
        features.append([np.mean([pair not in pairs for pair in pairwise(row)]), np.mean(log)])
    return np.array(features)


def regression(features: list[np.ndarray], examples: list[list]) -> float:
    """Logistic regression on features [examples, n], first to learn and then to test: accuracy."""
    mean, spread = features[0].mean(axis=0), features[0].std(axis=0) + 1e-6
    x, y = (tensorgrad.tensor((part - mean) / spread).float() for part in features)
    labels, wanted = (tensorgrad.tensor([label for _, label in part]) for part in examples)
    model = nn.Linear(x.shape[1], 2)
    optimizer = AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return (model(y).argmax(dim=-1) == wanted).float().mean().item()


def classify(
    bert: Bert, text: list, train: list, test: list, vocabulary: Vocabulary, epochs: int, seed: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Accuracies on the test: of three encoders after each epoch, and of two ways to count."""
    curves = {}
    for name, pretrained, rate in (
        ("pre-trained, fine-tuned", True, 2e-3),
        ("pre-trained, frozen", True, 1e-2),
        ("from random weights", False, 2e-3),
    ):
        encoder = Bert(vocabulary)
        if pretrained:
            encoder.load_state_dict(bert.state_dict())
        model = Classifier(encoder, frozen=name.endswith("frozen"))
        curves[name] = fine_tune(model, train, test, vocabulary, epochs, rate, seed)
    examples = [train, test]
    bags = [bag_of_words(part, vocabulary) for part in examples]
    pairs = [counts_of_pairs(part, text) for part in examples]
    counts = {"counts of words": regression(bags, examples),
              "counts of neighbours": regression(pairs, examples)}  # fmt: skip
    return curves, counts


# ----------------------------------------------------------------------------- as pictures

# Colours of Okabe & Ito, told apart by colour-blind readers; markers and dashes besides.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def sentence(row: list[int], place: int, vocabulary: Vocabulary) -> str:
    """The words of a row, with a blank."""
    words = [vocabulary.names[token] for token in row]
    words[place] = "____"
    return " ".join(words[1:-1])


def draw_fill(figure, guesses: list[tuple], vocabulary: Vocabulary) -> None:
    """Bars for the candidates of each blank; the word that stood there is blue."""
    figure.suptitle("Held-out passages, and what the encoder would put into the blank "
                    "(blue: the word of the text)")  # fmt: skip
    panels = figure.subplots(3, 2).flatten()
    for axes in panels[len(guesses) :]:
        axes.set_axis_off()
    for axes, (row, place, found) in zip(panels, guesses):
        names, values = zip(*found[::-1])
        word = vocabulary.names[row[place]]
        axes.barh(names, values, color=[BLUE if name == word else "#b8b8b8" for name in names])
        for i, value in enumerate(values):
            axes.text(value + 0.01, i, f"{value:.2f}", va="center", fontsize=9)
        axes.set_xlim(0, 1.1)
        title = textwrap.fill(sentence(row, place, vocabulary), 65)
        if word not in names:
            title += f"   (in the text: {word})"
        axes.set_title(title, fontsize=10, loc="left", parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("probability")


def draw_accuracy(figure, curve: list, counted: dict, curves: dict, counts: dict) -> None:
    """Both accuracies on held-out text while training, and what counting reaches."""
    left, right = figure.subplots(1, 2)
    steps, _, values = zip(*curve)
    left.plot(steps, values, color=BLUE, marker="o", label="the encoder")
    left.set(title="hidden words that are guessed", xlabel="step of the pre-training")
    for (name, values), colour, marker in zip(curves.items(), (BLUE, GREEN, ORANGE), "os^"):
        right.plot(range(len(values)), values, color=colour, marker=marker, label=name)
    right.set(title="is a word out of place? (in half of the examples)",
              xlabel="epoch of the fine-tuning")  # fmt: skip
    for axes, lines, bottom in ((left, counted, 0), (right, counts, 0.4)):
        for (name, value), dash in zip(lines.items(), (":", "--", "-.")):
            axes.axhline(value, color=GREY, linestyle=dash, label=name)
        axes.set_ylim(bottom, max(axes.get_ylim()[1] * 1.05, bottom + 0.4))
        axes.set_ylabel("accuracy on held-out text")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)


def save_pictures(out: Path, kind: str, fill: tuple, accuracies: tuple) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("\nno pictures: they need matplotlib (pip install matplotlib)")
        return
    out.mkdir(parents=True, exist_ok=True)
    print()
    for name, size, draw, shown in (
        ("fill", (12, 7.5), draw_fill, fill),
        ("accuracy", (12, 5.2), draw_accuracy, accuracies),
    ):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        draw(figure, *shown)
        path = out / f"{name}.{kind}"
        figure.savefig(path)
        print(f"picture: {path}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/04_fill_in_the_blank"),
                        help="folder for the pictures")  # fmt: skip
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the pictures")
    parser.add_argument("--seed", type=int, default=0, help="of weights, blanks and batches")
    parser.add_argument("--steps", type=int, default=1500, help="of the pre-training")
    parser.add_argument("--epochs", type=int, default=8, help="of each fine-tuning")
    parser.add_argument("--paragraphs", type=int, help="use only so many of the text")
    options = parser.parse_args(arguments)
    for name, least in (("seed", 0), ("steps", 1), ("epochs", 1), ("paragraphs", 100)):
        if getattr(options, name) is not None and getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}")
    try:
        text = default_corpus()
    except RuntimeError as error:
        parser.error(str(error))
    tensorgrad.manual_seed(options.seed)

    parts = deal(passages(text, options.paragraphs))
    vocabulary = Vocabulary(parts[0])
    train, labelled, held_out = (vocabulary.rows(part) for part in parts)
    sizes = [sum(len(row) - 2 for row in rows) for rows in (train, labelled, held_out)]
    print("words: {:,} to pre-train on, {:,} to fine-tune on, {:,} held out".format(*sizes))
    print(f"vocabulary: {vocabulary.n_words:,} words and {', '.join(vocabulary.SPECIAL)}")
    bert = Bert(vocabulary)
    print(f"encoder: {LAYERS} layers, {WIDTH} wide, {HEADS} heads: "
          f"{sum(p.numel() for p in bert.parameters()):,} weights")  # fmt: skip

    print("\npre-training\n    step      loss  guessed in held-out text")
    tests = blank_out(held_out, vocabulary)
    curve = pretrain(bert, train, tests, vocabulary, options.steps, options.seed)
    counted = counting(train, tests, vocabulary)
    print("\nhidden words of the held-out text that are guessed")
    for name, value in (*counted.items(), ("the encoder", curve[-1][2])):
        print(f"  {value:6.1%}  {name}")

    print("\nheld-out passages, the likeliest words for a blank, and the word of the text")
    guesses = []
    for row, place in draw_blanks(held_out, vocabulary, options.seed, most=12):
        guesses.append((row, place, candidates(bert, row, place, vocabulary)))
        words = "  ".join(f"{name} {value:.2f}" for name, value in guesses[-1][2])
        print(f"  {sentence(row, place, vocabulary)}")
        print(f"      {words}   ({vocabulary.names[row[place]]})")

    generator = np.random.default_rng(options.seed)
    examples = [examples_of_order(rows, vocabulary, generator) for rows in (labelled, held_out)]
    print("\nis a word out of place? {:,} examples to learn from, {:,} held out; "
          "right:".format(*map(len, examples)))  # fmt: skip
    curves, counts = classify(bert, train, *examples, vocabulary, options.epochs, options.seed)
    last = {name: values[-1] for name, values in curves.items()}
    for name, value in sorted({**counts, **last}.items(), key=lambda item: item[1]):
        print(f"  {value:6.1%}  {name}")

    save_pictures(options.out, options.format, (guesses[:6], vocabulary),
                  (curve, counted, curves, counts))  # fmt: skip


if __name__ == "__main__":
    main()
