"""A model's loss on a whole text: every number once more, in another way."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TEXT, Answer, assert_refused, trainer

import tensorgrad
from gpt import corpus, tokenizer, trained
from gpt.commands import eval as command
from gpt.config import GPTConfig
from gpt.evaluation import STRETCHES, evaluate, token_losses, windows_at_once
from gpt.folder import BEST, CHECKPOINT, PREVIOUS
from gpt.model import GPT
from gpt.shards import Tokens
from gpt.tokenizer import BPETokenizer, CharTokenizer

pytestmark = pytest.mark.usefixtures("quick")

CONTEXT = 6


@pytest.fixture(scope="module")
def model() -> GPT:
    """Its weights are far from 0, so that every token of a context matters."""
    tensorgrad.manual_seed(5)
    config = GPTConfig(vocab_size=11, context=CONTEXT, width=8, layers=2, heads=2, dropout=0.5)
    model = GPT(config)
    for parameter in model.parameters():
        parameter.data += 0.5 * tensorgrad.randn(parameter.shape)
    return model


def text_of(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(11, size=n).astype(np.uint16)


def context_of(place: int, n: int, stride: int) -> range:
    """What the token at ``place`` of ``n`` is predicted from, said without windows: of the windows
    that reach it, the first; that which would reach beyond the text begins earlier."""
    begin = max(0, math.ceil((place - CONTEXT) / stride) * stride)
    return range(min(begin, max(0, n - 1 - CONTEXT)), place)


@pytest.mark.parametrize("n", [2, 3, 6, 7, 8, 13, 40])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6])
def test_each_token_alone(model: GPT, n: int, stride: int) -> None:
    """One sequence for each token, its softmax in float64 by NumPy."""
    tokens, wanted = text_of(n), []
    model.eval()
    for place in range(1, n):
        seen = tokens[list(context_of(place, n, stride))].astype(np.int64)
        logits = model(tensorgrad.from_numpy(seen[None])).detach().numpy()[0, -1].astype(np.float64)
        wanted.append(np.log(np.exp(logits).sum()) - logits[tokens[place]])
    model.train()
    for size in (1, 3, None):
        pairs = list(token_losses(model, tokens, stride, size))
        losses, contexts = (np.concatenate(arrays) for arrays in zip(*pairs))
        np.testing.assert_allclose(losses, wanted, rtol=2e-5, atol=2e-6)
        assert contexts.tolist() == [len(context_of(place, n, stride)) for place in range(1, n)]
    assert model.training  # as it was before
    result = evaluate(model, CharTokenizer("abcdefghijk"), tokens, stride)
    assert result.tokens == result.bytes == n - 1
    assert result.loss == pytest.approx(np.mean(wanted), rel=2e-5)
    assert result.perplexity == pytest.approx(math.exp(np.mean(wanted)), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(np.mean(wanted) / math.log(2), rel=2e-5)
    assert result.mean_context == pytest.approx(contexts.mean())
    assert result.short == (contexts < CONTEXT / 2).sum()


@pytest.mark.torch
@pytest.mark.parametrize("stride", [1, 4, 6])
def test_as_pytorch(model: GPT, stride: int) -> None:
    """The twin's cross entropy, in windows that are cut by a loop."""
    import torch
    import torch_twin

    twin = torch_twin.GPT(model.config)
    twin.load_state_dict(
        {name: torch.from_numpy(value.numpy()) for name, value in model.state_dict().items()}
    )
    twin.eval()
    tokens = text_of(50)
    theirs = torch.from_numpy(tokens.astype(np.int64))
    total, count, end = 0.0, 0, 0
    for begin in range(0, 49, stride):
        stop = min(begin + CONTEXT, 49)
        begin = max(0, stop - CONTEXT)
        with torch.no_grad():
            logits = twin(theirs[None, begin:stop])[0]
        losses = torch.nn.functional.cross_entropy(
            logits, theirs[begin + 1 : stop + 1], reduction="none"
        )
        total, count = total + losses[end - begin :].sum().item(), count + stop - end
        end = stop
        if stop == 49:
            break
    result = evaluate(model, CharTokenizer("abcdefghijk"), tokens, stride)
    assert count == result.tokens == 49
    assert result.loss == pytest.approx(total / 49, rel=1e-5)


def test_half_a_context_is_the_default(model: GPT) -> None:
    coder = CharTokenizer("abcdefghijk")
    result = evaluate(model, coder, text_of(40))
    assert result == evaluate(model, coder, text_of(40), 3)
    assert result.short == 2  # those at the beginning
    shards = Tokens([text_of(40)[:15], text_of(40)[15:]])
    assert evaluate(model, coder, shards) == result


def uniform(vocab_size: int) -> GPT:
    """A model that has no idea."""
    model = GPT(GPTConfig(vocab_size=vocab_size, context=4, width=8, layers=1, heads=2))
    for parameter in model.parameters():
        parameter.data[:] = 0
    return model


def test_bits_per_byte() -> None:
    """Of a model that finds all tokens alike: log2(V) bits a token, whatever the tokenizer."""
    text = "潮 is a tide, é is not.\n" * 9
    for coder in (CharTokenizer(text), tokenizer.train_bpe(text, 270), BPETokenizer([])):
        ids = np.array(coder.encode(text))
        result = evaluate(uniform(coder.n_vocab), coder, ids)
        size = len(text.encode()) - len(coder.token_bytes(ids[0]))
        assert (result.tokens, result.bytes) == (len(ids) - 1, size)
        assert result.perplexity == pytest.approx(coder.n_vocab, rel=1e-5)
        bits = math.log2(coder.n_vocab) * (len(ids) - 1) / size
        assert result.bits_per_byte == pytest.approx(bits, rel=1e-5)
        assert result.error == pytest.approx(0, abs=1e-6)


def test_what_stands_between_documents_is_no_text() -> None:
    """It is predicted, and costs, but has no bytes."""
    coder = BPETokenizer([])
    ids = np.array([*coder.encode("one"), coder.end_of_text, *coder.encode("two")])
    result = evaluate(uniform(coder.n_vocab), coder, ids)
    assert (result.tokens, result.bytes) == (6, 5)
    assert result.bits_per_byte == pytest.approx(math.log2(257) * 6 / 5, rel=1e-5)


def test_standard_error(model: GPT) -> None:
    """That of the means of stretches; their scatter is larger where neighbours are alike."""
    coder, n = CharTokenizer("abcdefghijk"), 20 * STRETCHES
    mixed = text_of(n + 1)
    losses = np.concatenate([losses for losses, _ in token_losses(model, mixed, 3)])
    means = losses.reshape(STRETCHES, -1).mean(1)
    result = evaluate(model, coder, mixed)
    assert result.error == pytest.approx(means.std(ddof=1) / math.sqrt(STRETCHES), rel=1e-6)
    as_if_independent = losses.std(ddof=1) / math.sqrt(n)
    assert result.error == pytest.approx(as_if_independent, rel=0.3)
    alike = np.repeat(text_of(51), 20)[: n + 1]
    losses = np.concatenate([losses for losses, _ in token_losses(model, alike, 3)])
    assert evaluate(model, coder, alike).error > 1.5 * losses.std() / math.sqrt(n)
    assert math.isnan(evaluate(model, coder, mixed[:4]).error)  # too short to tell


def test_what_cannot_be_evaluated(model: GPT) -> None:
    coder = CharTokenizer("abcdefghijk")
    with pytest.raises(ValueError, match="the text has 1 tokens: two are needed, to predict one"):
        evaluate(model, coder, text_of(1))
    for stride in (0, 7):
        with pytest.raises(ValueError, match=f"from 1 to the context, 6, not {stride}"):
            evaluate(model, coder, text_of(9), stride)
    with pytest.raises(ValueError, match="the text has the token 11, and the model knows 0 to 10"):
        evaluate(model, coder, np.array([1, 2, 11, 3]))
    broken = uniform(11)
    broken.output.weight.data[3] = math.nan
    with pytest.raises(RuntimeError, match="its weights are broken"):
        evaluate(broken, coder, text_of(9))


# -------------------------------------------------------------------------------- the command line


@pytest.fixture
def call(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """The command ``eval``."""
    return partial(call, "eval")


def numbers(answer: Answer) -> list[float]:
    """Loss, perplexity and bits per byte."""
    assert (answer[0], answer[2]) == (0, "")
    found = re.search(
        r"\nloss +([\d.]+) ± [\d.]+ nats per token\nperplexity +([\d.]+) ± [\d.]+\n"
        r"bits per byte +([\d.]+) ± [\d.]+\n", answer[1]
    )  # fmt: skip
    assert found, answer[1]
    return [float(number) for number in found.groups()]


def test_the_runs_own_text(finished: Path, call: Callable[..., Answer]) -> None:
    """Side by side it is what training said at its end, on as many tokens as its windows hold."""
    summary = json.loads((finished / "summary.json").read_text())
    loss, perplexity, bits = numbers(call(str(finished), "--stride", "8"))
    model = trained.load(finished)
    tokens, warning = command.tokens_of(model, None, "val")
    assert warning == ""
    whole = evaluate(model.model, model.tokenizer, tokens, 8)
    same = evaluate(model.model, model.tokenizer, tokens[: summary["val_tokens"] + 1], 8)
    assert same.loss == pytest.approx(summary["val_loss"], rel=1e-5)
    assert (loss, perplexity, bits) == pytest.approx(
        (whole.loss, math.exp(whole.loss), whole.loss / math.log(2)), abs=1e-3
    )
    ids = model.tokenizer.encode(TEXT)
    for split, part in (("val", ids[int(0.9 * len(ids)) :]), ("train", ids[: int(0.9 * len(ids))]),
                        ("all", ids)):  # fmt: skip
        answer = call(str(finished), "--split", split)
        expected = evaluate(model.model, model.tokenizer, np.array(part))
        assert numbers(answer)[0] == pytest.approx(expected.loss, abs=1e-4)
        assert f"{len(part) - 1:,} tokens of {len(part) - 1:,} bytes;" in answer[1]
        assert "windows of 8 tokens, 4 apart: " in answer[1]
        assert ("split of " in answer[1]) == (split != "all")


def test_another_text(finished: Path, tmp_path: Path, call: Callable[..., Answer]) -> None:
    """The whole of it, unless a part is asked for; or a part of one that is prepared."""
    other = tmp_path / "other.txt"
    other.write_text(TEXT[::-1][:999])
    answer = call(str(finished), "--data", str(other))
    assert f"checkpoint.safetensors, step 4, on {other}\n" in answer[1]
    assert "998 tokens of 998 bytes" in answer[1]
    assert numbers(call(str(finished), "--data", str(other), "--split", "train")) != numbers(answer)
    coder = tokenizer.load(finished / "tokenizer.json")
    made = tmp_path / "made"
    prepared = corpus.prepare(corpus.Source(other), made, coder, "position", 0.3)
    answer = call(str(finished), "--data", str(made))
    assert f"{len(prepared.val) - 1} tokens of" in answer[1]
    assert "the validation split of" in answer[1]
    code, out, err = call(str(finished), "--data", str(made), "--split", "all")
    assert (code, out) == (2, "")
    assert "is prepared in two parts: give --split train or val" in err


def test_which_weights(finished: Path, tmp_path: Path, call: Callable[..., Answer]) -> None:
    """The last, the best, those of a file; and the ones before where the last are damaged."""
    trainer(tmp_path / "run", steps=5).run()
    last = call(str(tmp_path / "run"))[1]
    before = call(str(tmp_path / "run" / PREVIOUS))[1]
    assert ", step 5, on the" in last
    assert f"{PREVIOUS}, step 3, on the" in before
    assert numbers(call(str(finished), "--best")) == numbers(call(str(finished / BEST)))
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"")
    code, out, err = call(str(tmp_path / "run"))
    assert (code, out) == (0, before)
    assert re.fullmatch(r"[^\n]* is truncated [^\n]*; taking previous\.safetensors instead\n", err)


def test_a_text_that_has_changed(tmp_path: Path, call: Callable[..., Answer]) -> None:
    trainer(tmp_path / "run", steps=1).run()
    (tmp_path / "text.txt").write_text(TEXT[::-1])
    code, _, err = call(str(tmp_path / "run"))
    assert code == 0
    assert re.fullmatch(r"the text is not the one that the run has learnt from: [^\n]*\n", err)


@pytest.mark.parametrize(
    ("vocab_size", "width", "context", "windows"),
    [(1024, 128, 64, 64), (65, 384, 256, 10), (50257, 768, 1024, 1)],
)
def test_a_pass_is_about_as_wide_whatever_the_model(
    vocab_size: int, width: int, context: int, windows: int
) -> None:
    config = GPTConfig(vocab_size=vocab_size, width=width, context=context, layers=1, heads=1)
    assert windows_at_once(config) == windows


BAD = {
    "no run": ("", "required: RUN"),
    "absent": ("absent", "there is no run in absent"),
    "a text": ("text.txt", r"there is no run in text\.txt"),
    "an absent checkpoint": ("run/x.safetensors", "there is no checkpoint run/x.safetensors"),
    "a checkpoint without its run": ("x.safetensors", r"there is no run in \.: config\.json"),
    "the best of one": ("run/best.safetensors --best", "is one checkpoint: leave out --best"),
    "no text": ("run --data absent.txt", r"there is no file absent\.txt"),
    "an empty text": ("run --data empty.txt", r"empty\.txt has no text in it"),
    "binary": ("run --data binary.txt", r"binary\.txt is binary"),
    "a character": ("run --data e.txt", r"'é' \(U\+00E9\) is not among the 18"),
    "one token": ("run --data one.txt", "there are 1 tokens to evaluate on, and two are needed"),
    "no such split": ("run --split test", "--split: invalid choice: 'test'"),
    "no stride": ("run --stride 0", "stride must be from 1 to the context, 8, not 0"),
    "a long stride": ("run --stride 9", "stride must be from 1 to the context, 8, not 9"),
    "a word": ("run --stride half", "--stride: invalid int value: 'half'"),
    "a sampling flag": ("run --seed 3", "unrecognized arguments: --seed 3"),
}


@pytest.mark.parametrize(("line", "complaint"), BAD.values(), ids=BAD)
def test_bad_input(
    line: str, complaint: str, finished: Path, tmp_path: Path, call: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(finished)
    for name, content in {"text.txt": TEXT.encode(), "empty.txt": b"", "binary.txt": b"a\0b",
                          "e.txt": "é".encode(), "one.txt": b"1",
                          "x.safetensors": b"x"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    assert_refused(call, line.split(), complaint, finished)


def test_a_token_that_the_model_has_not(tmp_path: Path, call: Callable[..., Answer]) -> None:
    """The tokenizer of another run knows more."""
    trainer(tmp_path / "run", steps=1).run()
    more = {"tokenizer": "char", "characters": TEXT + "ABCDEFGH"}
    (tmp_path / "run" / "tokenizer.json").write_text(json.dumps(more))
    code, _, err = call(str(tmp_path / "run"))
    assert code == 2
    assert re.search(r"the text has the token \d+, and the model knows 0 to 17: it cannot", err)
