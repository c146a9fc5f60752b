"""The command line ``python -m gpt``: the commands of ``gpt/commands/``, and how they fail."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from .commands import COMMANDS
from .garbage import search_rarely
from .launcher import end, start

UNREAD = 141  # what a shell says of a program that SIGPIPE ended

EPILOG = """\
an evening with it:
  python -m gpt train --data my.txt --out runs/mine
  python -m gpt eval runs/mine
  python -m gpt sample runs/mine --prompt "Once upon a time" --top-p 0.9
  python -m gpt chat runs/mine

Each command has a --help of its own. Ctrl-C saves a training, which --resume
continues. Exit codes: 0 done; 1 done, but not as expected (train --check); 2
bad input or a failure, in one line; 3 the training has diverged; 130 Ctrl-C,
143 SIGTERM.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    commands: dict[str, _Parser]

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Words that nobody knows are refused by the parser of the command, which knows more."""
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.commands[given.command].refuse(unknown)
        return given

    def refuse(self, words: list[str]) -> NoReturn:
        """End with a complaint, and perhaps a guess what was meant."""
        known = self._option_string_actions
        near = get_close_matches(words[0].partition("=")[0], known, n=1, cutoff=0.75)
        hint = f" (do you mean {near[0]}?)" if near else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")

    def error(self, message: str) -> NoReturn:
        self.exit(end(f"error: {' '.join(message.split())}; {self.prog} --help tells more", 2))


def _command(name: str) -> Any:
    """The module of a command."""
    import_module("tensorgrad")  # before NumPy, which it tells how many threads there are
    return import_module(f"gpt.commands.{name}")


def parser_for(argv: Sequence[str]) -> _Parser:
    """A parser of all commands that has the flags of those in ``argv``."""
    parser = _Parser(
        prog="python -m gpt",
        description="Train a small GPT on a text, and write with it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help in COMMANDS.items():
        sub = commands.add_parser(name, help=help)
        if name in argv:
            _command(name).add(sub)
    parser.commands = commands.choices
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: done, but not as expected (``train --check``). 2: bad input or a failure, in one
    line on the standard error. 3: the training has diverged, and a paragraph there says why. 130:
    Ctrl-C. 141: nobody reads the output any more. 143: SIGTERM.
    """
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show is no reason to fail
        sys.stdout.reconfigure(errors="replace")
    argv = sys.argv[1:] if argv is None else argv
    try:
        given = vars(parser_for(argv).parse_args(argv))
        name = given.pop("command")
        command = _command(name)
        if name == "train" and (workers := command.workers_wanted(given)):
            return start(workers, argv)
        return command.run(given)
    except BrokenPipeError:
        return UNREAD
    except KeyboardInterrupt:
        problem, code = "interrupted", 130
    except ModuleNotFoundError as error:
        problem, code = f"error: {error}: pip install -e . in the checkout brings what it needs", 2
    except MemoryError:
        problem, code = "error: not enough memory: make --batch, --context or the model smaller", 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename and error.strerror else ""
        problem, code = f"error: {where}{error.strerror or error}", 2
    except (ValueError, RuntimeError, IndexError, OverflowError, ImportError) as error:
        problem, code = f"error: {error}", getattr(error, "exit_code", 2)
    return end(" ".join(problem.split()), code)


def program(argv: Sequence[str] | None = None) -> int:
    """:func:`main` in a process of its own, which looks for garbage in circles less often.

    At the end, to look through all that there is would take a tenth of a second.
    """
    search_rarely()
    code = main(argv)
    if code == UNREAD:  # or Python would complain at its end of what is still to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(program())
