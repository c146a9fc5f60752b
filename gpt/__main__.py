"""The command line: ``python -m gpt`` train, sample, info, prepare and tokenizer."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import checkpoint, costs, cuts, display, folder, prepare, settings, tokenizer, train
from .beam import beam_search
from .divergence import Diverged
from .model import GPT
from .presets import PRESETS, RunConfig
from .sampling import Sampling
from .text import Piece, Transcript, complete, pieces_of, stream_text

# The headings of --help, each with the first of its fields.
GROUPS = {
    "data": "the text",
    "context": "the model",
    "batch": "the training",
    "eval_every": "the reports",
    "prompt": "the samples at the end",
}


def _bias(text: str) -> tuple[int, float]:
    """Reads TOKEN=VALUE."""
    token, _, value = text.partition("=")
    try:
        return int(token), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TOKEN=VALUE with a token's number and a number, like 13=-2.5 or "
            "13=-inf"
        ) from None


# What a run's config does not have; the other choices are in the parser of `sample`.
SAMPLING_FLAGS: dict[str, dict[str, Any]] = {
    "top-p": {"type": float, "metavar": "X",
              "help": "draw from the likeliest tokens with this probability together"},
    "min-p": {"type": float, "metavar": "X",
              "help": "draw from tokens at least X times as likely as the likeliest"},
    "repetition-penalty": {"type": float, "metavar": "X", "default": 1.0,
                           "help": "above 1, tokens of the text so far are less likely"},
    "logit-bias": {"type": _bias, "metavar": "TOKEN=VALUE", "action": "append", "default": [],
                   "help": "add to a token's logit, -inf forbids it; can be repeated"},
    "stop": {"metavar": "TEXT", "action": "append", "default": [],
             "help": "end before this text; can be repeated"},
    "beams": {"type": int, "metavar": "N",
              "help": "search for the likeliest text among N, and draw nothing"},
    "best": {"action": "store_true", "help": "with the weights of the best validation loss"},
    "num": {"type": int, "metavar": "N", "default": 1, "help": "how many texts to write"},
    "show-probs": {"action": "store_true",
                   "help": "show how likely each piece was: in colours on a terminal, elsewhere "
                   "(or with NO_COLOR) in numbers, with the likeliest pieces of that place"},
}  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.split())}; {self.prog} --help tells more\n")


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Reads what ``kind`` reads, and ``none``."""

    def read(text: str) -> Any:
        try:
            return None if text == "none" else kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor none") from None

    return read


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    """A default as one would write it after its flag; a flag without one is yes or no."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return repr(value) if isinstance(value, str) and not value.isprintable() else f"{value}"


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of RunConfig; one that is not given leaves no trace."""
    hints = typing.get_type_hints(RunConfig)
    group: Any = parser
    for f in dataclasses.fields(RunConfig):
        if f.name in GROUPS:
            group = parser.add_argument_group(GROUPS[f.name])
        kind, *other = typing.get_args(hints[f.name]) or (hints[f.name],)
        shown = _shown(getattr(PRESETS["default"], f.name))
        extra: dict[str, Any] = {"help": f"{f.metadata['help']} [{shown}]".replace("%", "%%")}
        if f.name == "data":
            extra["help"] = f.metadata["help"]
        if kind is bool:
            extra["action"] = argparse.BooleanOptionalAction
        elif f.metadata["choices"]:
            extra["choices"] = f.metadata["choices"]
        else:
            extra["metavar"] = f.metadata["metavar"] or ("N" if kind is int else "X")
            extra["type"] = _or_none(kind) if types.NoneType in other and kind is int else kind
        group.add_argument(_flag(f.name), dest=f.name, default=argparse.SUPPRESS, **extra)


def _add_starting_points(parser: argparse.ArgumentParser) -> None:
    """The flags that choose many things at once."""
    parser.add_argument("--preset", choices=PRESETS, help="named settings, see below [default]")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file of choices, `width = 64` and the "
        "like; flags go before it, and it before the preset"
    )  # fmt: skip


def _presets() -> Iterator[str]:
    """Each preset as the flags that would make it of the default one."""
    default = PRESETS["default"]
    for name, preset in PRESETS.items():
        words = []
        for field, value in preset.to_json().items():
            if value != getattr(default, field):
                if isinstance(value, bool):
                    words.append(_flag(field) if value else _flag("no_" + field))
                else:
                    shown = _shown(value)
                    words.append(f"{_flag(field)} {repr(shown) if ' ' in shown else shown}")
        flags = "  ".join(words) or "the values in brackets above"
        yield textwrap.fill(
            flags, 78, initial_indent=f"  {name}: ", subsequent_indent="    ",
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m gpt", description="Train a small GPT on a text, and write with it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "train",
        help="train a model",
        usage="%(prog)s [--preset NAME] [--config FILE] [--out DIR]\n       [--resume] [FLAG ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a GPT. Without arguments: on the Python language reference that every\n"
        "Python carries, in about three minutes on two cores.\n\n"
        "In brackets: the values of the preset `default`.",
        epilog="presets:\n" + "\n".join(_presets()),
    )
    _add_starting_points(run)
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run [runs/PRESET]; one that is "
        "there already is kept under another name"
    )  # fmt: skip
    run.add_argument(
        "--resume", action="store_true", help="go on in --out from its checkpoint, with its "
        "choices; another --steps, --lr and the like can be given"
    )  # fmt: skip
    _add_flags(run)
    write = commands.add_parser(
        "sample", help="write with a trained model", description="Write with a trained model."
    )
    write.add_argument("run", type=Path, metavar="DIR", help="folder of a run")
    for name, kind, help in (
        ("prompt", str, "text to continue [the run's]"),
        ("tokens", int, "how many to write [the run's]"),
        ("temperature", float, "below 1 bolder, above 1 more varied, 0 the likeliest [the run's]"),
        ("top-k", _or_none(int), "draw from the N likeliest tokens only, or none [the run's]"),
        ("seed", int, "the same seed writes the same text [a new one each time]"),
    ):
        write.add_argument(
            f"--{name}", type=kind, help=help, default=argparse.SUPPRESS,
            dest="sample_tokens" if name == "tokens" else None,
            metavar="TEXT" if kind is str else "X" if kind is float else "N",
        )  # fmt: skip
    for name, extra in SAMPLING_FLAGS.items():
        write.add_argument(f"--{name}", **extra)
    about = commands.add_parser(
        "info",
        help="tell what a model would cost, or a run's does",
        usage="%(prog)s [DIR] [--preset NAME] [--config FILE] [FLAG ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tell a model's parameters, its operations per token and its memory in\n"
        "training: of the run in DIR, or of one with these choices.",
    )
    about.add_argument("run", type=Path, metavar="DIR", nargs="?", help="folder of a run")
    _add_starting_points(about)
    _add_flags(about)
    prepare.add_parser(commands)
    cuts.add_parser(commands)
    return parser


def _choices(given: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The preset, and what the file of choices and the flags say; the flags go before."""
    preset, file = given.pop("preset"), given.pop("config")
    given = {**(settings.read(file) if file else {}), **given}
    named = given.pop("preset", None)
    return preset or named, given


def _info(given: dict[str, Any]) -> int:
    out = given.pop("run")
    preset, given = _choices(given)
    if out:
        if preset or given:
            raise ValueError("info tells of a run or of choices: leave out the one or the other")
        config, model_config = folder.read_config(out)
    else:
        config = dataclasses.replace(PRESETS[preset or "default"], **given)
        model_config = config.model(train.vocabulary(config))
    for line in costs.described(GPT(model_config), config.batch, config.recompute):
        print(line)
    return 0


def _train(given: dict[str, Any]) -> int:
    out, resume = given.pop("out"), given.pop("resume")
    preset, given = _choices(given)
    out = out or Path("runs") / (preset or "default")
    if resume:
        config, _ = folder.read_config(out)
        if preset:  # its steps and the like are the run's by now; what is fixed has to agree
            named = {name: getattr(PRESETS[preset], name) for name in train.FIXED}
            given = {**named, "seed": config.seed, **given}
    else:
        config = PRESETS[preset or "default"]
    config = dataclasses.replace(config, **given)
    script = Path(sys.argv[0])
    command = f"python {script}" if script.name == "train_gpt.py" else "python -m gpt train"
    run = train.Trainer(config, out, resume, command=command)
    return 0 if run.run() else 128 + run.stopped_by


def _sample(given: dict[str, Any]) -> int:
    out, num, beams = given.pop("run"), given.pop("num"), given.pop("beams")
    stop, show_probs, best = given.pop("stop"), given.pop("show_probs"), given.pop("best")
    choices: dict[str, Any] = {
        "top_p": given.pop("top_p"), "min_p": given.pop("min_p"),
        "repetition_penalty": given.pop("repetition_penalty"),
        "logit_bias": dict(given.pop("logit_bias")),
    }  # fmt: skip
    if num < 1:
        raise ValueError(f"num must be at least 1, not {num}")
    drawing: list[str] = [name for name in ("temperature", "top_k", "seed") if name in given]
    drawing += [name for name, value in choices.items() if value not in (None, 1.0, {})]
    if beams is not None and drawing:
        raise ValueError(
            f"--beams searches and draws nothing: leave out {', '.join(map(_flag, drawing))}"
        )
    if beams is not None and num > max(beams, 1):
        raise ValueError(f"a search with {beams} beams finds as many texts at most, not {num}")
    config, model_config = folder.read_config(out)
    given.setdefault("seed", secrets.randbits(32))
    config = dataclasses.replace(config, **given)
    choices |= {"temperature": config.temperature, "top_k": config.top_k}
    Sampling(**choices).check(model_config.vocab_size)
    model = GPT(model_config)
    names = [folder.BEST] if best else [folder.CHECKPOINT, folder.PREVIOUS]
    path, bad = checkpoint.restore_first(
        [out / name for name in names],
        lambda path: checkpoint.restore_model(model, *checkpoint.read(path), path),
    )
    if bad:
        print(f"{bad}; writing with {path.name} instead", file=sys.stderr)
    coder = tokenizer.load(out / folder.TOKENIZER)
    prompt = train.prompt_tokens(coder, config.prompt)
    Transcript(coder, stop)  # complains about stop strings before anything is written
    rest = (model, coder, prompt, config.sample_tokens)
    top = display.TOP if show_probs else 0
    if beams is not None:
        texts = _search(*rest, beams, stop)[:num]
    elif num == 1:
        texts = [stream_text(*rest, stop=stop, top=top, seed=config.seed, **choices)]
    else:
        written = complete(model, coder, [prompt] * num, config.sample_tokens, stop=stop, top=top,
                           seed=config.seed, **choices)  # fmt: skip
        texts = [iter(pieces_of(coder, text, stop)) for text in written]
    start = coder.decode(prompt)
    for n, pieces in enumerate(texts, start=1):
        if num > 1:
            print(f"--- {n} of {num} ---")
        display.show(start, pieces, coder, show_probs)
    return 0


def _search(
    model: GPT, coder: tokenizer.Tokenizer, prompt: list[int], count: int, beams: int,
    stop: Sequence[str],
) -> list[Iterator[Piece]]:  # fmt: skip
    """The texts that a beam search finds; one that a stop string ends is complete."""

    def ends(tokens: list[int]) -> bool:
        transcript = Transcript(coder, stop)
        for token in tokens:
            transcript.feed(token)
        return transcript.stopped

    found = beam_search(model, prompt, count, beams, ends=ends)
    return [iter(pieces_of(coder, text, stop)) for text in found]


COMMANDS = {
    "train": _train, "sample": _sample, "info": _info, "prepare": prepare.command,
    "tokenizer": cuts.command,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 2: bad input or a failure, in one line on the standard error. 3: the training has
    diverged, and a paragraph there says why. 130: Ctrl-C. 141: nobody reads the output any more.
    143: SIGTERM.
    """
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show is no reason to fail
        sys.stdout.reconfigure(errors="replace")
    given = vars(_parser().parse_args(argv))
    try:
        return COMMANDS[given.pop("command")](given)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        problem, code = "interrupted", 130
    except ModuleNotFoundError as error:
        problem, code = f"error: {error}: pip install -e . in the checkout brings what it needs", 2
    except MemoryError:
        problem, code = "error: not enough memory: make --batch, --context or the model smaller", 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename and error.strerror else ""
        problem, code = f"error: {where}{error.strerror or error}", 2
    except Diverged as error:
        problem, code = f"error: {error}", 3
    except (ValueError, RuntimeError, IndexError, OverflowError) as error:
        problem, code = f"error: {error}", 2
    print(" ".join(problem.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
