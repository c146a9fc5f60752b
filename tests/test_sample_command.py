"""``sample``: that its flags do what the library does, and how its texts are shown."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import (
    TINY,
    Answer,
    assert_one_line,
    flags,
    text_of,
    words,
)

from gpt import __main__ as command_line
from gpt import checkpoint, display, folder, sampling, tokenizer
from gpt.folder import CHECKPOINT, TOKENIZER
from gpt.generate import generate
from gpt.model import GPT

pytestmark = pytest.mark.usefixtures("here")


def test_sample(run: Path, call: Callable[..., Answer]) -> None:
    code, out, err = call("sample", "run", "--seed", "5", "--tokens", "40", "--prompt", "3 times")
    assert (code, err) == (0, "")
    assert out.startswith("3 times")
    assert len(out) == len("3 times") + 40 + 1
    again = call("sample", "run", "--seed", "5", "--tokens", "40", "--prompt", "3 times")
    assert again[1] == out
    other = call("sample", "run", "--seed", "6", "--tokens", "40", "--prompt", "3 times")
    assert other[1] != out


def test_sample_without_a_seed_is_new_each_time(run: Path, call: Callable[..., Answer]) -> None:
    assert len({call("sample", "run", "--tokens", "30")[1] for _ in range(3)}) > 1


def test_sample_as_the_run_did(run: Path, call: Callable[..., Answer]) -> None:
    """With its seed and its other choices it writes the run's own sample."""
    answer = call("sample", "run", "--seed", str(TINY.seed))
    assert answer[1] == (run / "sample.txt").read_text() + "\n"


def test_the_likeliest(run: Path, call: Callable[..., Answer]) -> None:
    """Temperature 0, and one token to choose from, need no luck."""
    results = {
        call("sample", "run", "--seed", str(seed), *choice)[1]
        for seed in (1, 2, 3)
        for choice in (["--temperature", "0"], ["--top-k", "1"], ["--temperature", "1e-9"])
    }
    assert len(results) == 1


def test_nothing_more(run: Path, call: Callable[..., Answer]) -> None:
    assert call("sample", "run", "--prompt", "7 is", "--tokens", "0")[:2] == (0, "7 is\n")


def test_characters_of_several_tokens(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are shown whole, and what is left at the end as what it is."""
    tiny = flags(data="text.txt", tokenizer="bpe", vocab_size=257, steps=1)
    assert call("train", "--out", "run", *tiny)[0] == 0
    ids = [*"潮a".encode(), *"é".encode(), 0xE6, 0xBD]
    monkeypatch.setattr(sampling.Sampling, "draw", lambda *a: ids.pop(0))
    pieces: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *a, end="\n", **k: pieces.append("".join(a) + end))
    assert command_line.main(["sample", "run", "--prompt", "x", "--tokens", str(len(ids))]) == 0
    assert pieces == ["x", "潮", "a", "é", "�", "\n"]


def test_choices_arrive(run: Path, call: Callable[..., Answer]) -> None:
    """Each new flag does what the library's argument of its name does."""
    config, model_config = folder.read_config(run)
    model = GPT(model_config)
    checkpoint.restore_model(model, *checkpoint.read(run / CHECKPOINT), run / CHECKPOINT)
    coder = tokenizer.load(run / TOKENIZER)
    prompt = coder.encode("3 times")
    written = set()
    for line, choice in {
        "": {},
        "--top-p 0.5": {"top_p": 0.5},
        "--min-p 0.95": {"min_p": 0.95},
        "--repetition-penalty 4": {"repetition_penalty": 4.0},
        "--logit-bias 3=-inf --logit-bias 5=2.5": {"logit_bias": {3: -math.inf, 5: 2.5}},
    }.items():
        answer = call("sample", "run", "--prompt", "3 times", "--seed", "5", "--temperature", "2",
                      "--tokens", "40", *words(line))  # fmt: skip
        new = generate(model, prompt, 40, 2.0, config.top_k, 5, **choice)
        assert text_of(answer) == coder.decode(prompt + new) + "\n"
        written.add(answer[1])
    assert len(written) == 5


def test_a_bias_by_its_text(run: Path, call: Callable[..., Answer]) -> None:
    """Quotes are for what would be a number, and for line breaks; the last one counts."""
    arguments = ("sample", "run", "--prompt", "3 times", "--seed", "5", "--tokens", "40")
    by_number, by_text = {}, {}
    for text, quoted in (("s", "s"), (";", "';'"), ("7", '"7"'), ("\n", r"'\n'")):
        token = tokenizer.load(run / TOKENIZER).encode(text)[0]
        by_number[text] = text_of(call(*arguments, "--logit-bias", f"{token}=9"))
        by_text[text] = text_of(call(*arguments, "--logit-bias", f"{quoted}=9"))
        assert by_number[text].count(text) > 20
    assert by_text == by_number
    assert "s" not in text_of(call(*arguments, "--logit-bias", "s=9", "--logit-bias", "s=-inf"))[7:]
    assert_one_line(call(*arguments, "--logit-bias", "==1"), "the character '=' .* is not among")


def test_the_first_of_several_texts_is_there_at_once(
    run: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    draw = sampling.Sampling.draw
    monkeypatch.setattr(sampling.Sampling, "draw", lambda *a: (events.append("draw"), draw(*a))[1])
    monkeypatch.setattr("builtins.print", lambda *a, **k: events.append("".join(a)))
    assert command_line.main(["sample", "run", "--tokens", "9", "--num", "3"]) == 0
    assert events[:2] == ["--- 1 of 3 ---", "\n"]  # the prompt
    assert events[2:5] == ["draw"] * 3
    assert events[5] != "draw"
    assert events[6:9] == ["draw"] * 3
    assert events.count("draw") == 27


def test_stop(run: Path, call: Callable[..., Answer]) -> None:
    """The text ends before it, for each of several texts and for a search too."""
    arguments = ("sample", "run", "--prompt", "3 times", "--seed", "5", "--tokens", "40")
    whole = text_of(call(*arguments))
    stop = whole[17:19]
    cut = whole.index(stop, len("3 times"))
    assert text_of(call(*arguments, "--stop", stop, "--stop", "§")) == whole[:cut] + "\n"
    several = text_of(call(*arguments, "--stop", stop, "--num", "2"))
    assert several.startswith("--- 1 of 2 ---\n" + whole[:cut] + "\n--- 2 of 2 ---\n3 times")
    beam = ("sample", "run", "--prompt", "3 times", "--tokens", "12", "--beams", "3")
    found = text_of(call(*beam))
    assert text_of(call(*beam, "--stop", found[10])).startswith("3 times")


def test_several_texts(run: Path, call: Callable[..., Answer]) -> None:
    """Each is that of the next seed."""
    arguments = ("sample", "run", "--prompt", "3 times", "--tokens", "30")
    alone = [text_of(call(*arguments, "--seed", str(seed))) for seed in (5, 6, 7)]
    together = text_of(call(*arguments, "--seed", "5", "--num", "3"))
    assert re.split(r"--- \d of 3 ---\n", together) == ["", *alone]


def test_beams(run: Path, call: Callable[..., Answer]) -> None:
    arguments = ("sample", "run", "--prompt", "3 times", "--tokens", "12")
    greedy = text_of(call(*arguments, "--temperature", "0"))
    assert text_of(call(*arguments, "--beams", "1")) == greedy
    best = text_of(call(*arguments, "--beams", "4"))
    ranked = text_of(call(*arguments, "--beams", "4", "--num", "4"))
    assert ranked.count("3 times") >= 4
    assert ranked.startswith("--- 1 of 4 ---\n" + best)


def test_probabilities_as_numbers(run: Path, call: Callable[..., Answer]) -> None:
    """A line for each piece; together they are the text, and its alternatives come with it."""
    arguments = ("sample", "run", "--prompt", "3 times", "--seed", "5", "--tokens", "20")
    whole = text_of(call(*arguments))
    first, *lines = text_of(call(*arguments, "--show-probs")).splitlines()
    assert first == "prompt '3 times'"
    shown = [re.fullmatch(r"(0\.\d{3})  ('.*?') +of (.*)", line) for line in lines]
    assert "".join(ast.literal_eval(match[2]) for match in shown) == whole[7:-1]
    for match in shown:
        others = [float(p) for p in re.findall(r"(\d\.\d{3}) '", match[3])]
        assert len(others) == 3
        assert others == sorted(others, reverse=True)
        assert float(match[1]) <= others[0]
    searched = text_of(call(*arguments[:4], "--tokens", "5", "--beams", "2", "--show-probs"))
    assert len(searched.splitlines()) == 6


@pytest.mark.parametrize("no_color", ["", "1"])
def test_probabilities_in_colours(
    no_color: str, run: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, unless NO_COLOR is set to something; without them it is the plain text."""
    monkeypatch.setenv("NO_COLOR", no_color)
    arguments = ("sample", "run", "--prompt", "3 times", "--seed", "5", "--tokens", "20")
    plain = text_of(call(*arguments))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    shown = text_of(call(*arguments, "--show-probs"))
    if no_color:
        assert shown.startswith("prompt '3 times'")
        assert "\x1b" not in shown
    else:
        assert re.sub(r"\x1b\[[\d;]*m", "", shown) == plain
        assert shown.startswith("3 times\x1b[30;48;5;")


def test_colours() -> None:
    """Red is unlikely, green is certain; no colour reaches beyond the end of a line."""
    assert display.painted("a", 0.0) == "\x1b[30;48;5;196ma\x1b[0m"
    assert display.painted("a\n\nb", 1.0) == "\x1b[30;48;5;46ma\x1b[0m\n\n\x1b[30;48;5;46mb\x1b[0m"
