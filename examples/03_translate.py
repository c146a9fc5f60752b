"""Translate dates: "the third of March nineteen ninety-eight" → "1998-03-03", letter by letter.

The encoder-decoder transformer of "Attention is all you need" (Vaswani et al. 2017), in small, and
trained as there; the numbers in the comments are the paper's sections. The task has one right
answer for each input, so that a result is right or wrong. A tenth of the dates is held out: in
training they occur in none of the formats.

What comes out: the share of held-out inputs whose translation is right to the letter, by greedy
decoding and by beam search (more than 99%); what each character of an answer looked at
(`alignment.png`); loss and learning rate (`training.png`).

    python examples/03_translate.py             # 3 minutes, at most 5
    python examples/03_translate.py --seed 7 --steps 1000 --beam 8
"""

import argparse
import copy
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

import nn
import nn.functional as F
import tensorgrad
from tensorgrad.optim import Adam
from tensorgrad.optim.lr_scheduler import LambdaLR

# ------------------------------------------------------------------------------- the task

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
HELD_OUT = 3652  # a tenth of these dates

# Not by strftime, which speaks the language of the machine.
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December"]  # fmt: skip
ROMAN = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
         "eighteen", "nineteen"]  # fmt: skip
TENS = ["", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth",
             "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}  # fmt: skip


def in_words(n: int) -> str:
    """0 to 99: forty-two."""
    if n < 20:
        return SMALL[n]
    tens, ones = divmod(n, 10)
    return f"{TENS[tens]}-{SMALL[ones]}" if ones else TENS[tens]


def ordinal_in_words(n: int) -> str:
    """1 to 99: forty-second."""
    start, dash, last = in_words(n).rpartition("-")
    if last.endswith("y"):
        last = f"{last[:-1]}ieth"
    else:
        last = IRREGULAR.get(last, f"{last}th")
    return start + dash + last


def year_in_words(year: int) -> str:
    """1910 to 2099: nineteen ninety-eight, two thousand and one, twenty ten."""
    if year == 2000:
        return "two thousand"
    if 2000 < year < 2010:
        return f"two thousand and {in_words(year - 2000)}"
    return f"{in_words(year // 100)} {in_words(year % 100)}"


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, …, 11th, …, 31st."""
    ending = "th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


# Each says day, month and year without doubt. "03/03/98" does not: which comes first, and which
# century? In these, dots have the day in front and slashes the year.
FORMATS = {
    "3 March 1998": lambda d: f"{d.day} {MONTHS[d.month - 1]} {d.year}",
    "March 3rd, 1998": lambda d: f"{MONTHS[d.month - 1]} {ordinal(d.day)}, {d.year}",
    "Tuesday, 3 Mar 1998": lambda d: (
        f"{WEEKDAYS[d.weekday()]}, {d.day} {MONTHS[d.month - 1][:3]} {d.year}"
    ),
    "3.3.1998": lambda d: f"{d.day}.{d.month}.{d.year}",
    "1998/3/3": lambda d: f"{d.year}/{d.month}/{d.day}",
    "3 III 1998": lambda d: f"{d.day} {ROMAN[d.month - 1]} {d.year}",
    "the third of March nineteen ninety-eight": lambda d: (
        f"the {ordinal_in_words(d.day)} of {MONTHS[d.month - 1]} {year_in_words(d.year)}"
    ),
}


def split_dates(chance: random.Random) -> tuple[list[date], list[date]]:
    """All dates in random order, cut in two: those to train on, and the held-out ones.

    The cut is between dates, not between inputs: otherwise a date to be tested would have been
    seen with its answer, in another format.
    """
    dates = [FIRST + timedelta(days=i) for i in range((LAST - FIRST).days + 1)]
    chance.shuffle(dates)
    return dates[HELD_OUT:], dates[:HELD_OUT]


# A character is a token. Inputs and answers share one vocabulary, as in the paper (5.1).
PAD, START, END = range(3)
CHARACTERS = sorted(set("0123456789-").union(*(
    write(date(2000, 1, 1) + timedelta(days=i)) for write in FORMATS.values() for i in range(366)
), *map(year_in_words, range(FIRST.year, LAST.year + 1))))  # fmt: skip
TOKEN = {character: token for token, character in enumerate(CHARACTERS, start=3)}
VOCABULARY = 3 + len(CHARACTERS)
LONGEST_ANSWER = len("1998-03-03") + 1  # with END


def to_tokens(texts: list[str]) -> tensorgrad.Tensor:
    """Texts → tokens [N, length of the longest + 1]: each ends with END, then comes padding."""
    rows = [[*(TOKEN[character] for character in text), END] for text in texts]
    length = max(map(len, rows))
    return tensorgrad.tensor([row + [PAD] * (length - len(row)) for row in rows])


def to_texts(tokens: tensorgrad.Tensor) -> list[str]:
    """Tokens [N, T] → texts, each up to its END."""
    names = ["", "", "", *CHARACTERS]
    rows = [row[: row.index(END)] if END in row else row for row in tokens.tolist()]
    return ["".join(names[token] for token in row) for row in rows]


# ------------------------------------------------------------------------------ the model


class Translator(nn.Module):
    """source [N, S], target [N, T] → logits of the target's next tokens [N, T, VOCABULARY].

    The paper's base model has d_model 512, 8 heads, 6 + 6 layers and d_ff 2048. nn.Transformer is
    that model but for two things: a norm more at the end of encoder and decoder, and dropout on
    attention weights too. Dropout is 0.1 there. Here it is off: what is trained on hardly comes
    twice, and nothing can be learned by heart.
    """

    def __init__(self, d_model: int = 64, heads: int = 4, layers: int = 2, dropout: float = 0.0):
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(VOCABULARY, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)  # of length 1, about
        self.positions = nn.SinusoidalPositions(64, d_model)  # 3.5
        self.dropout = nn.Dropout(dropout)  # 5.4
        self.transformer = nn.Transformer(
            d_model, heads, layers, layers, dim_feedforward=4 * d_model, dropout=dropout,
            batch_first=True, norm_first=False,
        )  # fmt: skip

    def embed(self, tokens: tensorgrad.Tensor) -> tensorgrad.Tensor:
        """[N, T] → [N, T, d_model]. Times √d_model (3.4), a vector is about as long as a row of
        the table of positions, √(d_model/2).
        """
        x = self.embedding(tokens) * math.sqrt(self.d_model)
        return self.dropout(self.positions(x))

    def encode(self, source: tensorgrad.Tensor) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
        """source [N, S] → memory [N, S, d_model], and where it is padding [N, S]."""
        padding = source == PAD  # True: nobody may look there
        memory = self.transformer.encoder(self.embed(source), src_key_padding_mask=padding)
        return memory, padding

    def decode(
        self, target: tensorgrad.Tensor, memory: tensorgrad.Tensor, padding: tensorgrad.Tensor
    ) -> tensorgrad.Tensor:
        """target [N, T], and what ``encode`` gave → logits [N, T, VOCABULARY]."""
        T = target.shape[1]
        future = tensorgrad.ones(T, T, dtype=tensorgrad.bool).triu(diagonal=1)  # 3.2.3
        x = self.transformer.decoder(
            self.embed(target), memory, tgt_mask=future, memory_key_padding_mask=padding
        )  # [N, T, d_model]
        return x @ self.embedding.weight.T  # the same matrix as in `embed` (3.4)

    def forward(self, source: tensorgrad.Tensor, target: tensorgrad.Tensor) -> tensorgrad.Tensor:
        return self.decode(target, *self.encode(source))


# --------------------------------------------------------------------------- the training

SMOOTHING = 0.1  # 5.4: the right token is to get 0.9, and all tokens share 0.1


def lowest_loss() -> float:
    """Where the loss ends if all is learned: with smoothing, being surer than asked costs."""
    other = SMOOTHING / VOCABULARY
    right = 1 - SMOOTHING + other
    return -right * math.log(right) - (VOCABULARY - 1) * other * math.log(other)


def learning_rate(step: int, d_model: int, warmup: int) -> float:
    """d_model^-0.5 · min(step^-0.5, step · warmup^-1.5), equation 3; the first step is 1."""
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def batches(dates: list[date], size: int, chance: random.Random) -> Iterator[list[tuple[str, str]]]:
    """Without end: ``size`` pairs of input and answer, random dates in random formats.

    Pairs of about the same length come together (5.1): half as much to compute, for padding is
    computed like anything else.
    """
    writers = list(FORMATS.values())
    while True:
        pairs = []
        for day in chance.choices(dates, k=4 * size):
            pairs.append((chance.choice(writers)(day), day.isoformat()))
        pairs.sort(key=lambda pair: len(pair[0]))
        starts = list(range(0, len(pairs), size))
        chance.shuffle(starts)
        for start in starts:
            yield pairs[start : start + size]


Weights = dict[str, tensorgrad.Tensor]


def mean_of(checkpoints: Sequence[Weights]) -> Weights:
    """The mean of each weight (6.1). While the rate is high, each has errors of its own."""
    return {
        name: tensorgrad.stack([weights[name] for weights in checkpoints]).mean(dim=0)
        for name in checkpoints[0]
    }


def train(
    model: Translator,
    dates: list[date],
    steps: int,
    warmup: int,
    chance: random.Random,
    batch: int = 64,
) -> tuple[list[float], list[float]]:
    """Returns losses and learning rates, one for each step.

    The weights are then the mean of the last five checkpoints, here 25 steps apart.
    """
    # 5.3. The schedule is multiplied by lr: 1 in the paper, whose batches have 25,000 tokens. Those
    # of 700 here need smaller steps: at the paper's rate, what has been learned is lost again.
    optimizer = Adam(model.parameters(), lr=0.4, betas=(0.9, 0.98), eps=1e-9)
    scheduler = LambdaLR(optimizer, lambda done: learning_rate(done + 1, model.d_model, warmup))
    losses, rates = [], []
    checkpoints: deque[Weights] = deque(maxlen=5)
    part = math.ceil(steps / 10)
    model.train()
    for step, pairs in zip(range(1, steps + 1), batches(dates, batch, chance)):
        source = to_tokens([source for source, _ in pairs])  # [batch, S]
        answer = to_tokens([answer for _, answer in pairs])  # [batch, T]
        # The decoder gets the answer one place later, behind START, and so predicts each
        # character from those before it, all at once.
        target = tensorgrad.cat([tensorgrad.full((batch, 1), START), answer[:, :-1]], dim=1)
        logits = model(source, target)  # [batch, T, VOCABULARY]
        loss = F.cross_entropy(
            logits.reshape(-1, VOCABULARY), answer.reshape(-1),
            ignore_index=PAD, label_smoothing=SMOOTHING,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates += scheduler.get_last_lr()
        scheduler.step()
        losses.append(loss.item())
        if (steps - step) % 25 == 0:
            checkpoints.append(copy.deepcopy(model.state_dict()))
        if step % part == 0 or step == steps:
            latest = losses[(step - 1) // part * part :]  # since the last line
            print(f"step {step:5d}   loss {sum(latest) / len(latest):.4f}   "
                  f"learning rate {rates[-1]:.5f}")  # fmt: skip
    model.load_state_dict(mean_of(checkpoints))
    model.eval()
    return losses, rates


# --------------------------------------------------------------------------- the decoding


@tensorgrad.no_grad()
def greedy(model, source: tensorgrad.Tensor, longest: int = LONGEST_ANSWER) -> tensorgrad.Tensor:
    """source [N, S] → tokens [N, ≤ longest]: always the likeliest next one, until END."""
    memory, padding = model.encode(source)
    tokens = tensorgrad.full((len(source), 1), START)
    for _ in range(longest):
        done = (tokens == END).any(dim=1)  # [N]
        if done.all():
            break
        # All is computed again for every new token: the simplest, and not the fastest.
        logits = model.decode(tokens, memory, padding)[:, -1]  # [N, VOCABULARY]
        best = logits.argmax(dim=-1).masked_fill(done, PAD)
        tokens = tensorgrad.cat([tokens, best.unsqueeze(1)], dim=1)
    return tokens[:, 1:]


def length_penalty(length: tensorgrad.Tensor, alpha: float) -> tensorgrad.Tensor:
    """((5 + |Y|) / 6)^α (Wu et al. 2016, equation 14); the paper has α = 0.6 (6.1)."""
    return ((5 + length) / 6) ** alpha


@tensorgrad.no_grad()
def beam_search(
    model,
    source: tensorgrad.Tensor,
    width: int = 4,
    longest: int = LONGEST_ANSWER,
    alpha: float = 0.6,
) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
    """source [N, S] → the best of ``width`` hypotheses, tokens [N, ≤ longest], and its score [N].

    A hypothesis Y has the score log P(Y | source) / length_penalty(|Y|), where |Y| counts its END:
    each token makes P smaller, and without the division short ones would win. In each step all
    continuations of all hypotheses compete for the ``width`` places, those that have ended too.
    """
    N = len(source)
    memory, padding = (
        part.repeat_interleave(width, dim=0) for part in model.encode(source)
    )  # [N · width, S, d_model], [N · width, S]
    tokens = tensorgrad.full((N, width, 1), START)
    log_p = tensorgrad.full((N, width), -math.inf)  # of the hypotheses
    log_p[:, 0] = 0  # at first there is only one: the empty one
    score = log_p
    for _ in range(longest):
        done = (tokens == END).any(dim=-1)  # [N, width]
        if done.all():
            break
        logits = model.decode(tokens.reshape(N * width, -1), memory, padding)[:, -1]
        step = F.log_softmax(logits, dim=-1).reshape(N, width, -1)  # [N, width, VOCABULARY]
        # Behind END comes padding: for certain, and so at no cost.
        step = step.masked_fill(done.unsqueeze(-1), -math.inf)
        step[..., PAD] = step[..., PAD].masked_fill(done, 0)
        length = (tokens[..., 1:] != PAD).sum(dim=-1) + ~done  # [N, width], of a continuation

        candidates = log_p.unsqueeze(-1) + step  # [N, width, VOCABULARY]
        scores = candidates / length_penalty(length, alpha).unsqueeze(-1)
        score, place = scores.reshape(N, -1).topk(width)  # [N, width], the best first
        log_p = candidates.reshape(N, -1).gather(1, place)
        parent, token = place // step.shape[-1], place % step.shape[-1]
        parents = tokens.gather(1, parent.unsqueeze(-1).expand(tokens.shape))
        tokens = tensorgrad.cat([parents, token.unsqueeze(-1)], dim=-1)
    return tokens[:, 0, 1:], score[:, 0]


@tensorgrad.no_grad()
def cross_attention(model: Translator, source: tensorgrad.Tensor, answer: tensorgrad.Tensor):
    """source [N, S], answer [N, T] → the last decoder layer's weights, [N, heads, T, S].

    Row t is the look at the source with which token t of the answer was chosen. Layers do not hand
    out their weights: a hook takes down what the attention is asked, and it is asked once more.
    """
    attention = model.transformer.decoder.layers[-1].multihead_attn
    asked: list[tuple] = []
    hook = attention.register_forward_pre_hook(lambda module, inputs: asked.append(inputs))
    start = tensorgrad.full((len(answer), 1), START)
    model(source, tensorgrad.cat([start, answer[:, :-1]], dim=1))
    hook.remove()
    query, memory, _, padding, *_ = asked[0]
    return attention(query, memory, memory, padding, average_attn_weights=False)[1]


# ------------------------------------------------------------------------------ as numbers


def translate(model: Translator, sources: list[str], width: int) -> tuple[list[str], list[str]]:
    """What greedy decoding and beam search make of the sources."""
    by_greedy, by_beam = [], []
    for start in range(0, len(sources), 100):
        source = to_tokens(sources[start : start + 100])
        by_greedy += to_texts(greedy(model, source))
        by_beam += to_texts(beam_search(model, source, width)[0])
    return by_greedy, by_beam


def line(*cells: object) -> None:
    print("".join(f"{cell!s:{width}}" for cell, width in zip(cells, (54, 12, 12, 0))).rstrip())


def report(model: Translator, dates: list[date], width: int) -> None:
    """An example of each format, then how many are right to the letter, then some that are not."""
    n = len(dates)
    sources = [write(day) for write in FORMATS.values() for day in dates]  # n of each format
    answers = [day.isoformat() for day in dates] * len(FORMATS)
    both = translate(model, sources, width)
    right = [[text == answer for text, answer in zip(texts, answers)] for texts in both]
    decoders = ("greedy", f"beam of {width}")

    print()
    line("a held-out date", *decoders)
    for i in range(0, len(sources), n):
        line(sources[i], *(texts[i] for texts in both))
    print()
    line(f"right, of {n} held-out dates in each format", *decoders)
    for i, name in enumerate(FORMATS):
        line(name, *(sum(marks[i * n : (i + 1) * n]) for marks in right))
    line("exact match", *(f"{sum(marks) / len(marks):.2%}" for marks in right))
    wrong = [i for i in range(len(sources)) if not all(marks[i] for marks in right)]
    if wrong:
        print()
        line(f"wrong, {min(len(wrong), 5)} of {len(wrong)}", *decoders, "right")
        for i in wrong[:5]:
            line(sources[i], *(texts[i] for texts in both), answers[i])


# ----------------------------------------------------------------------------- as pictures


def draw_alignment(figure, model: Translator, day: date) -> None:
    """Who looked where: the mean of the heads in the last decoder layer, for three formats."""
    places = figure.subplot_mosaic([["1998/3/3", "Tuesday, 3 Mar 1998"],
                                    ["the third of March nineteen ninety-eight"] * 2],
                                   width_ratios=[11, 22])  # fmt: skip
    answer = to_tokens([day.isoformat()])  # [1, T]
    for name, axes in places.items():
        text = FORMATS[name](day)
        weights = cross_attention(model, to_tokens([text]), answer)[0].mean(dim=0)  # [T, S]
        image = axes.imshow(weights.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(text) + 1), [*text.replace(" ", "␣"), "⏎"])
        axes.set_yticks(range(answer.shape[1]), [*day.isoformat(), "⏎"])
        axes.tick_params(length=0)
        axes.set_title(text)
    figure.suptitle("Cross-attention in the last decoder layer, mean of the heads (⏎: the end)")
    figure.supxlabel("character that is looked at")
    figure.supylabel("character that is written")
    figure.colorbar(image, ax=list(places.values()), label="weight", shrink=0.6)


def draw_training(figure, losses: list[float], rates: list[float]) -> None:
    """The loss over the steps, and the rate that the schedule gave them."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    steps = range(1, len(losses) + 1)
    above.plot(steps, losses, color="#0072B2", alpha=0.3, linewidth=0.6, label="one batch")
    means = [sum(losses[end - 25 : end]) / 25 for end in range(25, len(losses) + 1, 25)]
    above.plot([25 * i + 13 for i in range(len(means))], means, color="#0072B2", label="mean of 25")
    above.axhline(lowest_loss(), color="#D55E00", linestyle="--",
                  label=f"lowest possible with smoothing {SMOOTHING}")  # fmt: skip
    above.set(title="learning to translate dates", ylabel="cross-entropy (nats)")
    above.set_ylim(bottom=0)
    above.legend(frameon=False)
    below.plot(steps, rates, color="#0072B2")
    below.set(xlabel="step", ylabel="learning rate")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/03_translate"),
                        help="folder for the pictures")  # fmt: skip
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and dates")
    parser.add_argument("--steps", type=int, default=1600, help="of the training")
    parser.add_argument("--warmup", type=int, default=400, help="steps of rising learning rate")
    parser.add_argument("--beam", type=int, default=4, help="hypotheses in beam search")
    parser.add_argument("--test", type=int, default=200,
                        help="held-out dates to translate, each in all formats")  # fmt: skip
    options = parser.parse_args(arguments)
    for name in ("steps", "warmup", "beam", "test"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if options.test > HELD_OUT:
        parser.error(f"--test must be at most {HELD_OUT}, the number of held-out dates")

    tensorgrad.manual_seed(options.seed)
    chance = random.Random(options.seed)
    seen, held_out = split_dates(chance)
    model = Translator()
    print(f"{len(seen)} dates to train on, {len(held_out)} held out, {len(FORMATS)} formats, "
          f"{VOCABULARY} tokens, {sum(p.numel() for p in model.parameters())} weights")  # fmt: skip
    losses, rates = train(model, seen, options.steps, options.warmup, chance)
    print(f"lowest possible loss: {lowest_loss():.4f}")
    report(model, held_out[: options.test], options.beam)

    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("\nno pictures: they need matplotlib (pip install matplotlib)")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    print()
    for name, size, draw, parts in (
        ("alignment", (12, 7.5), draw_alignment, (model, held_out[0])),
        ("training", (9, 4.8), draw_training, (losses, rates)),
    ):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        draw(figure, *parts)
        path = options.out / f"{name}.{options.format}"
        figure.savefig(path)
        print(f"picture: {path}")


if __name__ == "__main__":
    main()
