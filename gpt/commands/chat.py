"""``python -m gpt chat``: a text that the user and a model write in turns."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from tensorgrad import Generator

from .. import display, train
from ..generate import draw
from ..reporting import printable
from ..text import Piece, Transcript
from . import writing
from .flags import or_none
from .writing import Writing

DESCRIPTION = """\
Write a text in turns with a trained model: a line of yours, then what the model
continues it with, then the next line, with all of the text before it in view,
as far as the model's context reaches.

    python -m gpt chat runs/default --tokens 100 --stop "."

These models continue text as they have read it. They were not trained to answer
or to follow instructions: write the beginning of what you want to read. With a
model of plays, `ROMEO:` is a better question than a question.
"""

EPILOG = """\
keys and commands at a terminal:
  Enter alone    the model goes on
  Ctrl-C         ends what it is writing, and not the program
  Ctrl-D         ends the program
  /help          lists the commands: /reset, /temperature 0.5, ...

From a pipe or a file each line is a turn, and the text is printed without
anything else; what is wrong with a line ends the program (exit code 2).
"""

# What can be changed between two turns: how it is read, and what /help says of it.
SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "temperature": (float, "below 1 bolder, above 1 more varied, 0 the likeliest"),
    "top_k": (or_none(int), "draw from the N likeliest tokens only, or none"),
    "top_p": (or_none(float), "draw from the likeliest tokens with this probability together"),
    "min_p": (or_none(float), "draw from tokens at least so many times as likely as the likeliest"),
    "repetition_penalty": (float, "above 1, tokens of the text so far are less likely"),
    "tokens": (int, "how many to write in a turn"),
}


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.usage = "%(prog)s RUN [FLAG ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    writing.add_flags(parser)


class Chat:
    """The text so far, and who adds what to it."""

    def __init__(self, work: Writing) -> None:
        self.work, self.coder, self.model = work, work.run.tokenizer, work.run.model
        self.sampling, self.tokens = work.sampling, work.config.sample_tokens
        self.generator = Generator(work.config.seed)
        self.context = self.model.config.context
        self.reset()

    def reset(self) -> None:
        """Forget the text."""
        self.text: list[int] = []  # its tokens
        self.is_cut = False

    def begin(self, line: str) -> str:
        """Add a line of the user's; returns the text that the model continues with its turn.

        Raises:
            ValueError: the tokenizer does not know a character.
        """
        if not self.text:
            self.text = train.prompt_tokens(self.coder, line or self.work.config.prompt)
            return self.coder.decode(self.text)
        if line:
            self.text += self._new_line(line)
        return line

    def _new_line(self, line: str) -> list[int]:
        """The tokens of a line, and of the line break before it, if one is missing."""
        if not self.coder.decode(self.text[-1:]).endswith("\n"):
            with suppress(ValueError):  # characters without a line break
                return self.coder.encode(f"\n{line}")
        return self.coder.encode(line)

    def notice(self) -> str:
        """What the user has to know before the next turn: when the context is full, once."""
        if self.is_cut or len(self.text) <= self.context:
            return ""
        self.is_cut = True
        return (
            f"(the text is longer than the model's context: it sees the last {self.context} tokens "
            "of it; /reset begins a new one)"
        )

    def write(self, top: int = 0) -> Iterator[Piece]:
        """The model's turn. What it has written is part of the text, however the turn ends."""
        transcript = Transcript(self.coder, self.work.stop)
        self.text = self.text[-self.context :]
        steps = draw(
            self.model, [self.text], self.tokens, self.sampling, [self.generator],
            ends=lambda row, drawn: transcript.stopped,
        )  # fmt: skip
        for step in steps:
            drawn = step[0]
            self.text.append(drawn.token)
            yield from transcript.feed(drawn.token, drawn.logprob, drawn.alternatives(top))
        yield from transcript.end()

    # --- commands -------------------------------------------------------------------------------

    def command(self, line: str) -> str:
        """Do what a line with a slash says; returns what to tell the user.

        Raises:
            ValueError: there is no such command, or its value is none.
        """
        name, _, value = line[1:].strip().partition(" ")
        name, value = name.replace("-", "_"), value.strip()
        if name in SETTINGS:
            return self._set(name, value) if value else self._setting(name)
        if name == "help":
            return self.help()
        if name == "reset":
            self.reset()
            return "(a new text)"
        raise ValueError(
            f"there is no command /{name}: /help lists them, and a line of text that begins with "
            "a slash begins with two here"
        )

    def help(self) -> str:
        """The commands, and what is set."""
        lines = [
            ("/help", "this list"),
            ("/reset", "begin a new text"),
            *((f"/{name.replace('_', '-')} X", f"{say} [{self._get(name)}]")
              for name, (_, say) in SETTINGS.items()),
            ("Enter alone", "the model goes on"),
            ("Ctrl-C", "ends what it is writing"),
            ("Ctrl-D", "ends the program"),
        ]  # fmt: skip
        return "\n".join(f"  {name:<22}{say}" for name, say in lines)

    def _get(self, name: str) -> str:
        value = self.tokens if name == "tokens" else getattr(self.sampling, name)
        return "none" if value is None else f"{value}"

    def _setting(self, name: str) -> str:
        return f"({name.replace('_', '-')} {self._get(name)})"

    def _set(self, name: str, value: str) -> str:
        try:
            read = SETTINGS[name][0](value)
        except (ValueError, argparse.ArgumentTypeError):
            raise ValueError(f"/{name.replace('_', '-')} takes a number, not {value!r}") from None
        if name != "tokens":
            self.sampling = dataclasses.replace(self.sampling, **{name: read})
        elif read < 0:
            raise ValueError(f"tokens must not be negative, not {read}")
        else:
            self.tokens = read
        return self._setting(name)


def run(given: dict[str, Any]) -> int:
    """Read lines and write, until there are no more."""
    chat = Chat(writing.load(given))
    if not sys.stdin.isatty():
        for line in _lines():
            _turn(chat, line)
        return 0
    with suppress(ImportError):
        import readline  # noqa: F401  # input() lets the user edit with it, where there is one
    print(greeting(chat))
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print("\n(Ctrl-D ends the program)")
            continue
        try:
            _turn(chat, line, at_terminal=True)
        except KeyboardInterrupt:
            print("\n(stopped)")
        except ValueError as error:
            print(f"({error})")


def _lines() -> Iterator[str]:
    """Those of a pipe or a file."""
    try:
        for line in sys.stdin:
            yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"the standard input is no text ({error}): give UTF-8") from None


def _turn(chat: Chat, line: str, at_terminal: bool = False) -> None:
    """Obey a line, or take it into the text and let the model go on."""
    if line.startswith("/") and not line.startswith("//"):
        answer = chat.command(line)
        print(answer, flush=True, file=sys.stdout if at_terminal else sys.stderr)
        return
    said = chat.begin(line.removeprefix("/") if line.startswith("//") else line)
    if notice := chat.notice():
        print(notice, flush=True, file=sys.stdout if at_terminal else sys.stderr)
    probs = chat.work.show_probs
    pieces = chat.write(display.TOP if probs else 0)
    display.show("" if at_terminal else said, pieces, chat.coder, probs)


def greeting(chat: Chat) -> str:
    """What the user reads before the first turn."""
    run = chat.work.run
    return printable(
        f"{run.path}: {chat.model.parameter_count():,} parameters, {run.step:,} steps\n"
        "It continues text as it has read it, and was not trained to answer: write a beginning.\n"
        "/help lists the commands; Ctrl-C ends what it writes, Ctrl-D the program."
    )
