"""The command line: ``python -m gpt train`` and ``python -m gpt sample``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import checkpoint, tokenizer, train
from .config import GPTConfig
from .generate import stream
from .model import GPT
from .presets import PRESETS, RunConfig


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of RunConfig; one that is not given leaves no trace."""
    hints = typing.get_type_hints(RunConfig)
    for f in dataclasses.fields(RunConfig):
        kind = hints[f.name]
        options = typing.get_args(kind)
        if types.NoneType in options:
            kind = next(k for k in options if k is not types.NoneType)
        flag = "--" + f.name.replace("_", "-")
        help_text = f.metadata["help"].replace("%", "%%")
        extra: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": f.name, "help": help_text}
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **extra)
        else:
            parser.add_argument(flag, type=kind, metavar=kind.__name__.upper(), **extra)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gpt", description="Train a small GPT on a text, and write with it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "train",
        help="train a model",
        description="Train a GPT. Without arguments: on the Python language reference that every "
        "Python carries, in about three minutes on two cores.",
        epilog="Defaults are those of the preset: --preset X --steps 1 shows what X is made of "
        "in its config.json.",
    )
    run.add_argument("--preset", choices=PRESETS, help="named settings (default: default)")
    run.add_argument("--out", type=Path, help="folder of the run (default: runs/PRESET)")
    run.add_argument("--resume", action="store_true", help="continue the run in --out")
    _add_flags(run)
    write = commands.add_parser("sample", help="write with a trained model")
    write.add_argument("run", type=Path, help="folder of a run")
    write.add_argument("--prompt", default="\n", help="text to continue")
    write.add_argument("--tokens", type=int, default=300, help="how many to write")
    write.add_argument("--temperature", type=float, default=0.8)
    write.add_argument("--top-k", type=int)
    write.add_argument("--seed", type=int, default=None)
    return parser


def _record(folder: Path) -> dict[str, Any]:
    """The config.json of a run."""
    path = folder / train.CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {"run": dict(record["run"]), "model": dict(record["model"])}
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no run in {folder}: {path} is missing") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not the config of a run; restore it from a copy") from None


# A checkpoint fits only a model of the same shape, over the same tokens.
FIXED = ("tokenizer", "vocab_size", "context", "width", "layers", "heads", "positions",
         "activation", "bias", "tied")  # fmt: skip


def _train(arguments: argparse.Namespace) -> int:
    given = {k: v for k, v in vars(arguments).items() if k not in ("command", "preset", "out",
                                                                   "resume")}  # fmt: skip
    preset = arguments.preset or "default"
    out = arguments.out or Path("runs") / preset
    if arguments.resume:
        saved = _record(out)["run"]
        wanted = {**(PRESETS[arguments.preset].to_json() if arguments.preset else {}), **given}
        clashes = [
            f"{k} is {saved.get(k)!r} there and {wanted[k]!r} here"
            for k in FIXED
            if k in wanted and wanted[k] != saved.get(k)
        ]
        if clashes:
            raise ValueError(f"the run in {out} has another config: {'; '.join(clashes)}")
        config = RunConfig(**{**saved, **given})
    else:
        config = dataclasses.replace(PRESETS[preset], **given)
    return 0 if train.Trainer(config, out, arguments.resume).run() else 130


def _sample(arguments: argparse.Namespace) -> int:
    record = _record(arguments.run)
    model = GPT(GPTConfig.from_json(record["model"]))
    path = arguments.run / train.CHECKPOINT
    checkpoint.restore_model(model, checkpoint.read(path)[1], path)
    coder = tokenizer.load(arguments.run / train.TOKENIZER)
    prompt = coder.encode(arguments.prompt)
    written: list[int] = []
    print(arguments.prompt, end="", flush=True)
    shown = ""
    for token in stream(
        model, prompt, arguments.tokens, arguments.temperature, arguments.top_k, arguments.seed
    ):
        written.append(token)
        text = coder.decode(written)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # wait for the rest of a character
            print(text[len(shown) :], end="", flush=True)
            shown = text
    print()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input, 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return {"train": _train, "sample": _sample}[arguments.command](arguments)
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
