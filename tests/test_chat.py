"""``chat``: turns from a pipe and at a terminal, and that each writes what the library would."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_run import Answer, assert_refused

import tensorgrad
from gpt import trained
from gpt.generate import draw, generate
from gpt.sampling import Sampling

FLAGS = ("--tokens", "20", "--temperature", "2", "--top-k", "none", "--seed", "5")


@pytest.fixture
def piped(
    finished: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """``piped("one\\ntwo\\n", "--seed", "3")``: a chat whose lines come from a pipe."""

    def chat(lines: str | bytes, *flags: str) -> Answer:
        content = lines.encode() if isinstance(lines, str) else lines
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))
        return call("chat", str(finished), *flags)

    return chat


def turns(run: Path, *lines: str, context: int = 8) -> str:
    """What FLAGS should give, written with ``draw`` and one generator."""
    model = trained.load(run)
    generator, text, shown = tensorgrad.Generator(5), [], ""
    for line in lines:
        if text and line and model.tokenizer.decode(text[-1:]) != "\n":
            text += model.tokenizer.encode("\n")
        text += model.tokenizer.encode(line)
        new = [
            step[0].token
            for step in draw(model.model, [text[-context:]], 20, Sampling(2.0), [generator])
        ]
        text += new
        shown += line + model.tokenizer.decode(new) + "\n"
    return shown


# ----------------------------------------------------------------------------------- from a pipe


def test_the_first_turn_is_a_sample(
    finished: Path, piped: Callable[..., Answer], call: Callable[..., Answer]
) -> None:
    code, out, err = piped("3 times", *FLAGS)
    assert (code, err) == (0, "")
    assert out == call("sample", str(finished), "--prompt", "3 times", *FLAGS)[1]
    code, out, err = piped("\n", *FLAGS)
    assert (code, err) == (0, "")
    assert out == call("sample", str(finished), *FLAGS)[1]  # from the run's own prompt
    assert piped("", *FLAGS) == (0, "", "")


def test_turns_go_on(finished: Path, piped: Callable[..., Answer]) -> None:
    """The text so far is the context; an empty line adds nothing to it."""
    code, out, err = piped("3 times\n\n1\n2 is\n", *FLAGS)
    assert code == 0
    assert out == turns(finished, "3 times", "", "1", "2 is")
    assert re.fullmatch(r"\(the text is longer than the model's context: .* 8 tokens .*\)\n", err)


def test_a_full_context_is_told_once(piped: Callable[..., Answer]) -> None:
    """And once more after a new beginning."""
    assert piped("3\n", *FLAGS)[2] == ""
    assert piped("3\n1\n1\n1\n", *FLAGS)[2].count("the last 8 tokens") == 1
    assert piped("3\n1\n/reset\n3\n1\n", *FLAGS)[2].count("the last 8 tokens") == 2
    assert piped("3 times 3\n", *FLAGS)[2].count("the last 8 tokens") == 1


def test_commands(finished: Path, piped: Callable[..., Answer]) -> None:
    """They change the turns that follow, and their answers are no part of the text."""
    code, out, err = piped(
        "/temperature 2\n/top-k none\n/tokens 20\n3 times\n/reset\n/tokens\n/min-p none\n1\n",
        "--seed", "5",
    )  # fmt: skip
    assert code == 0
    first = turns(finished, "3 times")
    assert out.startswith(first + "1")
    assert len(out) == len(first) + 1 + 20 + 1
    said = ["(temperature 2.0)", "(top-k none)", "(tokens 20)", "(a new text)", "(tokens 20)",
            "(min-p none)"]  # fmt: skip
    assert err.splitlines() == said
    _, out, err = piped("/help\n/top_p 0.5\n/repetition-penalty 3\n/help", "--temperature", "0.5")
    assert out == ""
    before, after = err[: err.index("(top-p")], err[err.rindex("3.0)") :]
    for command in ("/reset", "/temperature X", "/top-k X", "/tokens X", "Ctrl-D"):
        assert f"  {command} " in before
    assert "[0.5]" in before
    assert "together [none]" in before
    assert "together [0.5]" in after
    assert max(map(len, before.splitlines())) <= 100


def test_a_new_text(finished: Path, piped: Callable[..., Answer]) -> None:
    """Nothing of the old one is left in it."""
    assert piped("3 times\n/reset\n1\n", *FLAGS, "--temperature", "0")[1].endswith(
        piped("1\n", *FLAGS, "--temperature", "0")[1]
    )


def test_temperature_0(finished: Path, piped: Callable[..., Answer]) -> None:
    model = trained.load(finished)
    prompt = model.tokenizer.encode("3 times")
    new = generate(model.model, prompt, 6, 0)
    assert piped("/temperature 0\n3 times\n", "--tokens", "6")[1] == (
        model.tokenizer.decode(prompt + new) + "\n"
    )


def test_stop_strings(finished: Path, piped: Callable[..., Answer]) -> None:
    whole = piped("3 times", *FLAGS)[1]
    assert piped("3 times", *FLAGS, "--stop", whole[12:14])[1] == whole[:12] + "\n"


def test_a_slash_of_the_text(piped: Callable[..., Answer]) -> None:
    code, _, err = piped("//x")
    assert code == 2
    assert "the character '/' (U+002F) is not among" in err


def test_probabilities(finished: Path, piped: Callable[..., Answer]) -> None:
    whole = piped("3 times", *FLAGS)[1]
    first, *lines = piped("3 times", *FLAGS, "--show-probs")[1].splitlines()
    assert first == "prompt '3 times'"
    pieces = [re.fullmatch(r"\d\.\d{3}  '(.*)' +of .*", line)[1] for line in lines]
    assert "3 times" + "".join(pieces).replace("\\n", "\n") + "\n" == whole


BAD = {
    "an unknown character": ("3\né\n3", "é"),
    "no such command": ("3\n/foo\n3", "there is no command /foo: /help lists them"),
    "a slash": ("3\n/\n3", "there is no command /: /help lists them"),
    "a word for a number": ("3\n/tokens many\n3", "/tokens takes a number, not 'many'"),
    "a word for a number or none": ("3\n/top-k all\n3", "/top-k takes a number, not 'all'"),
    "out of range": ("3\n/temperature -1\n3", "temperature must not be negative, got -1"),
    "less than nothing": ("3\n/tokens -1\n3", "tokens must not be negative, not -1"),
    "no UTF-8": (b"3\n\xff\n", "the standard input is no text .*: give UTF-8"),
}


@pytest.mark.parametrize(("lines", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_line_ends_a_pipe(
    lines: str | bytes, complaint: str, piped: Callable[..., Answer]
) -> None:
    code, out, err = piped(lines, "--tokens", "3")
    assert code == 2
    assert re.search(rf"^error: .*{complaint}[^\n]*\n\Z", err, re.MULTILINE), err
    assert out == "" if isinstance(lines, bytes) else out.count("3") >= 1


BAD_FLAGS = {
    "no run": ("chat", "required: RUN"),
    "an absent run": ("chat absent", "there is no run in absent"),
    "a prompt": ("chat run --prompt x", "unrecognized arguments: --prompt x"),
    "several texts": ("chat run --num 2", "unrecognized arguments: --num 2"),
    "a search": ("chat run --beams 2", "unrecognized arguments: --beams 2"),
    "temperature": ("chat run --temperature -1", "temperature must be a number of at least 0"),
    "bias": ("chat run --logit-bias is=1", "is for one token, and 'is' is 2: 'i' .14., 's' .16."),
    "stop": ("chat run --stop=", "a stop string must not be empty"),
    "the best of one": ("chat run/best.safetensors --best", "is one checkpoint: leave out --best"),
}


@pytest.mark.parametrize(("line", "complaint"), BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_bad_flags(
    line: str, complaint: str, finished: Path, call: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(finished.parent)
    assert_refused(call, line.split(), complaint, finished)


# --------------------------------------------------------------------------------- at a terminal


@pytest.fixture
def typed(
    finished: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """``typed(["3", EOFError], ...)``: a chat at a terminal, and what is typed or happens there."""

    def chat(lines: list[str | type[BaseException]], *flags: str) -> Answer:
        waiting = iter(lines)

        def answer(prompt: str) -> str:
            assert prompt == "> "
            line = next(waiting, EOFError)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("builtins.input", answer)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setitem(sys.modules, "readline", None)  # it is not everywhere
        return call("chat", str(finished), *flags)

    return chat


def test_at_a_terminal(finished: Path, typed: Callable[..., Answer]) -> None:
    """Only what the model adds is shown; complaints and Ctrl-C end nothing but their turn."""
    code, out, err = typed(["3 times", "é", "/foo", KeyboardInterrupt, "", "/help"], *FLAGS)
    assert (code, err) == (0, "")
    assert "checkpoint.safetensors: 3,728 parameters, 4 steps\n" in out
    assert "was not trained to answer" in out
    first, second = (turns(finished, "3 times", "")[n:] for n in (7, 28))
    text = out[out.index("the program.\n") + 13 :]
    assert text.startswith(first[:21] + "(the character 'é' (U+00E9) is not among")
    assert "(there is no command /foo: " in text
    assert "\n(Ctrl-D ends the program)\n" in text
    assert second in text
    assert text.endswith("  Ctrl-D                ends the program\n\n")


def test_ctrl_c_keeps_what_was_written(
    finished: Path, typed: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn goes on from there."""
    drawn: list[int] = []
    real = Sampling.draw

    def interrupted(self: Sampling, *given: object) -> int:
        if len(drawn) == 5:
            drawn.append(-1)
            raise KeyboardInterrupt
        drawn.append(real(self, *given))
        return drawn[-1]

    monkeypatch.setattr(Sampling, "draw", interrupted)
    code, out, _ = typed(["3 times", ""], *FLAGS)
    text = turns_without_break(finished)
    first, second = out[out.index("the program.\n") + 13 :].split("\n(stopped)\n")
    assert code == 0
    assert text.startswith(first)
    assert len(first) == 5
    assert second.partition("a new one)\n")[2].startswith(text[5:25])


def turns_without_break(run: Path) -> str:
    """What a single turn of 25 tokens writes after "3 times"."""
    model = trained.load(run)
    prompt = model.tokenizer.encode("3 times")
    return model.tokenizer.decode(generate(model.model, prompt, 25, 2.0, seed=5))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_a_real_terminal(root: Path, finished: Path) -> None:
    """Text is there while it is written, Ctrl-C stops it, Ctrl-D ends the program."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt", "chat", str(finished), "--tokens", "1000000"], stdin=theirs,
        stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONWARNINGS": "error"},
        # Whoever runs the tests in the background may have them, and their children, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(theirs)
    shown = reading(ours)
    wait_for(shown, b"> ")
    os.write(ours, b"3 times\n")
    written = b"".join(next(shown) for _ in range(20))
    assert len(written) > 20
    process.send_signal(signal.SIGINT)
    wait_for(shown, b"(stopped)\r\n> ")
    os.write(ours, b"/help\n")
    wait_for(shown, b"Ctrl-D                ends the program\r\n> ")
    os.write(ours, b"\x04")
    assert process.wait(20) == 0
    assert process.stderr
    assert process.stderr.read() == b""
    process.stderr.close()
    os.close(ours)


def reading(descriptor: int) -> Iterator[bytes]:
    while select.select([descriptor], [], [], 60)[0]:
        yield os.read(descriptor, 65536)
    raise TimeoutError("nothing more is written")


def wait_for(shown: Iterator[bytes], end: bytes) -> None:
    text = b""
    while not text.endswith(end):
        text += next(shown)
