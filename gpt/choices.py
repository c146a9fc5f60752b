"""What a run begins with: its config from a preset and single choices, vocabulary and prompt."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from . import corpus, folder, tokenizer
from .config import from_json
from .presets import LINE_BREAK, PRESETS, RunConfig

# What a run began with, and a checkpoint therefore holds. All other choices can change on resuming.
FIXED = ("tokenizer", "vocab_size", "context", "width", "layers", "heads", "positions",
         "activation", "bias", "tied", "init", "seed")  # fmt: skip


def choose(
    preset: str | None, given: dict[str, Any], out: str | Path | None = None, resume: bool = False
) -> tuple[RunConfig, Path]:
    """The config and the folder of a run, from a preset's name and single choices.

    A run that is resumed begins with its own config; a preset that is named then has to agree with
    it in what is fixed, and its steps and the like are the run's by now.

    Raises:
        FileNotFoundError: there is no run to resume.
        ValueError: there is no such preset or choice, or a value is out of range.

    >>> config, out = choose("shakespeare-char-cpu", {"steps": 10})
    >>> config.tokenizer, config.steps, out.as_posix()
    ('char', 10, 'runs/shakespeare-char-cpu')
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}, but {', '.join(PRESETS)}")
    out = Path(out) if out is not None else Path("runs") / (preset or "default")
    if resume:
        config, _ = folder.read_config(out)
        if preset:
            named = {name: getattr(PRESETS[preset], name) for name in FIXED}
            given = {**named, "seed": config.seed, **given}
    else:
        config = PRESETS[preset or "default"]
    return changed(config, given), out


def changed(config: RunConfig, given: dict[str, Any]) -> RunConfig:
    """The config with some choices of another value; ValueError if one is unknown or wrong."""
    if not isinstance(config, RunConfig):
        raise TypeError(f"a config is a RunConfig, not {config!r}; a text is given as data=")
    known = config.to_json()
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"do you mean {near[0]}?" if near else "RunConfig lists them"
            raise ValueError(f"there is no choice {name!r}; {hint}")
    given = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in given.items()}
    return from_json(RunConfig, {**known, **given})


def check_fixed(saved: RunConfig, config: RunConfig, out: Path) -> None:
    """ValueError if a choice that cannot change any more is not that of the run in ``out``."""
    clashes = [
        f"{name} is {getattr(saved, name)!r} there and {getattr(config, name)!r} here"
        for name in FIXED
        if getattr(saved, name) != getattr(config, name)
    ]
    if clashes:
        raise ValueError(
            f"the run in {out} has another config: {'; '.join(clashes)}; "
            "leave these choices out to resume it, or --resume to start another run"
        )


def vocabulary(config: RunConfig) -> int:
    """How many tokens the model of a run will have, as far as that is known without its text.

    Of bpe it is what is asked for: of a short text it may learn fewer. Of an encoding of tiktoken
    it is what is asked for, too: the text may need more.
    """
    if config.data is not None and corpus.is_prepared(config.data):
        return tokenizer.load(Path(config.data) / corpus.CODER).n_vocab
    if config.tokenizer == "bpe":
        return 1024 if config.vocab_size is None else config.vocab_size
    if config.tokenizer != "char" and config.vocab_size is not None:
        return config.vocab_size
    source = corpus.source_of(config.data)
    return corpus.learn(config.tokenizer, source, None, "position", 0.0).n_vocab


def embedding_rows(coder: tokenizer.Tokenizer, chosen: int | None, largest: int) -> tuple[int, str]:
    """The rows of a run's embedding, and what the user has to know of them, as a rule nothing.

    They are the tokenizer's vocabulary, or for a ready-made one the choice; never fewer than the
    largest token of the text needs.
    """
    known = coder.n_vocab
    if coder.name in ("bpe", "char") or chosen is None:
        return known, ""
    if chosen > known:
        raise ValueError(
            f"vocab_size is {chosen}, but the tokenizer {coder.name} has {known} tokens"
        )
    if largest < chosen:
        return chosen, ""
    rows = largest + 1
    return rows, (
        f"the text has tokens up to {largest:,}: the vocabulary is {rows:,}, not {chosen:,}"
    )


def prompt_tokens(coder: tokenizer.Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; if characters have no line break, the default prompt is the first."""
    try:
        return coder.encode(prompt)
    except ValueError as error:
        if prompt == LINE_BREAK:
            return [0]
        raise ValueError(f"the prompt cannot be encoded: {error}") from None
