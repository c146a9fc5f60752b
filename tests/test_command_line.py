"""The command line: what it takes and says, and that bad input costs a line and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import requests
from tiny_run import TEXT, TINY, Answer, contents, flags, metrics, trainer

import tensorgrad
from gpt import __main__ as command_line
from gpt import checkpoint, costs, curves, display, folder, reporting, sampling, tokenizer, train
from gpt.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS, TOKENIZER
from gpt.generate import generate
from gpt.model import GPT
from gpt.presets import PRESETS, RunConfig
from gpt.train import Trainer


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a text in it; runs end without their pictures, which take longer."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr(curves, "save_curves", lambda folder, title: [])
    monkeypatch.setattr(reporting, "draw_block", lambda config, path: path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 4 steps."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "save_curves", lambda folder, title: [])
        patch.setattr(reporting, "draw_block", lambda config, path: path)
        trainer(out, steps=4).run()
    return out


@pytest.fixture
def run(finished: Path, here: Path) -> Path:
    """A copy of it as ``run``."""
    shutil.copytree(finished, here / "run")
    return here / "run"


def assert_one_line(answer: Answer, complaint: str, code: int = 2) -> None:
    assert answer[0] == code
    assert re.fullmatch(rf"error: [^\n]*{complaint}[^\n]*\n", answer[2]), answer[2]
    assert "Errno" not in answer[2]


# --------------------------------------------------------------------------------------- bad input

FILES = {
    "empty.txt": b"",
    "blank.txt": b" \n\t\n",
    "short.txt": b"abc",
    "binary.txt": b"abc\0def",
    "latin.txt": b"caf\xe9 " * 100,
    "image.txt": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "bad.toml": b"width = 3\nwidth = = 4\n",
    "typo.toml": b"widht = 3\n",
    "strange.toml": b"xyzzy = 3\n",
    "type.toml": b"steps = 'many'\n",
    "range.toml": b"dropout = 2.0\n",
    "preset.toml": b"preset = 'big'\n",
}

BAD_TRAINING = {
    "no such file": ("--data absent.txt", r"there is no file absent\.txt"),
    "a folder of all kinds": ("--data .", r"binary\.txt is binary"),
    "a folder of a run": ("--data run", r"metrics\.jsonl, line 1 has no text under 'text'; it has"),
    "an empty name": ("--data ''", "there is no file '':"),
    "an empty file": ("--data empty.txt", r"empty\.txt has no text in it"),
    "a blank file": ("--data blank.txt", r"blank\.txt has no text in it"),
    "text shorter than the context": ("--data short.txt", "context of 8 needs at least 9 tokens"),
    "context longer than the text": ("--context 3000", "context of 3000 needs at least 3001"),
    "zeros": ("--data binary.txt", r"binary\.txt is binary"),
    "another encoding": ("--data latin.txt", r"latin\.txt is not UTF-8"),
    "a picture": ("--data image.txt", r"image\.txt is not UTF-8"),
    "no such tokenizer": ("--tokenizer gpt5", "unknown tokenizer 'gpt5': there are bpe, char, "),
    "vocabulary too small": ("--tokenizer bpe --vocab-size 256", "vocab_size is 256"),
    "vocabulary of 0": ("--tokenizer bpe --vocab-size 0", "vocab_size must be at least 1"),
    "heads": ("--heads 3", "3 heads do not divide the width 16; numbers of heads that do: 1, 2, 4"),
    "an odd width": ("--width 15 --heads 1 --positions sinusoidal", "need an even width"),
    "no such positions": ("--positions rope", "--positions: invalid choice: 'rope'"),
    "no such preset": ("--preset large", "--preset: invalid choice: 'large' .*textbook"),
    "no such flag": ("--depth 3", "unrecognized arguments: --depth 3"),
    "a value too much": ("5", "unrecognized arguments: 5"),
    "a value too few": ("--steps", "--steps: expected one argument"),
    "part of a step": ("--steps 1.5", "--steps: invalid int value: '1.5'"),
    "a word for a number": ("--lr fast", "--lr: invalid float value: 'fast'"),
    "a word for a number or none": ("--top-k all", "--top-k: 'all' is neither a number nor none"),
    "no steps": ("--steps 0", "steps must be at least 1, not 0"),
    "steps back": ("--steps -3", "steps must be at least 1, not -3"),
    "no batch": ("--batch 0", "batch must be at least 1, not 0"),
    "no context": ("--context 0", "context must be a positive integer, not 0"),
    "no layers": ("--layers 0", "layers must be a positive integer, not 0"),
    "negative width": ("--width -16", "width must be a positive integer, not -16"),
    "no rate": ("--lr 0", "lr must be above 0"),
    "a negative rate": ("--lr -1", r"lr must be a number of at least 0, not -1\.0"),
    "nan": ("--lr nan", "lr must be a number of at least 0, not nan"),
    "infinity": ("--weight-decay inf", "weight_decay must be a number of at least 0, not inf"),
    "dropout of all": ("--dropout 1", r"dropout must be in \[0, 1\)"),
    "no evaluations": ("--eval-every 0", "eval_every must be at least 1"),
    "negative seed": ("--seed -1", "seed must not be negative"),
    "negative temperature": ("--temperature -1", "temperature must be a number of at least 0"),
    "none of the tokens": ("--top-k 0", "top_k must be at least 1"),
    "nothing to continue": ("--prompt ''", "prompt must not be empty"),
    "an unknown character": ("--prompt é", r"the prompt cannot be encoded: the character 'é'"),
    "too wide for a machine": ("--width 100000000000000 --heads 1", "not enough memory"),
    "out is a file": ("--out text.txt", r"cannot write to the folder text\.txt .* with --out"),
    "out is below a file": ("--out text.txt/run", r"cannot write to the folder text\.txt/run"),
    "not writable": ("--out /proc/nothing/run", "cannot write to the folder /proc/nothing/run"),
    "nothing to resume": ("--resume --out absent", r"there is no run in absent: absent/config"),
    "resume what is a file": ("--resume --out text.txt", r"there is no run in text\.txt"),
    "resume another width": ("--resume --width 32", "width is 16 there and 32 here"),
    "resume other heads": ("--resume --heads 4", "heads is 2 there and 4 here"),
    "resume with fewer steps": ("--resume --steps 3", "has done 4 steps already"),
    "no batches in a step": ("--accumulate 0", "accumulate must be at least 1, not 0"),
    "negative patience": ("--patience -1", "patience must not be negative, not -1"),
    "a negative spike": ("--spike -1", r"spike must be a number of at least 0, not -1\.0"),
    "no such choices": ("--config absent.toml", r"there is no file absent\.toml: name a TOML"),
    "a folder for choices": ("--config .", "there is no file .: name a TOML file"),
    "choices that are no TOML": ("--config bad.toml", r"bad\.toml is not TOML: .*line 2"),
    "choices in Latin-1": ("--config latin.txt", r"latin\.txt is not UTF-8 \(byte 3\)"),
    "an unknown choice": ("--config typo.toml", r"typo\.toml: .* 'widht'; do you mean width\?"),
    "a strange choice": ("--config strange.toml", "no choice 'xyzzy'; train --help lists"),
    "a choice of another type": ("--config type.toml", r"type\.toml: steps is 'many', which is"),
    "a choice out of range": ("--config range.toml", r"range\.toml: dropout must be in \[0, 1\)"),
    "a preset that there is not": ("--config preset.toml", r"preset\.toml: .* preset 'big', but d"),
    "resume another preset": ("--resume --preset textbook", "width is 16 there and 64 here"),
}


def words(line: str) -> list[str]:
    return [word.strip("'") for word in line.split()]


@pytest.mark.parametrize(("given", "complaint"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_bad_input(
    given: str, complaint: str, run: Path, here: Path, call: Callable[..., Answer]
) -> None:
    if "/proc" in given and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    for name, content in FILES.items():
        (here / name).write_bytes(content)
    before = contents(here)
    tiny = [] if "--resume" in given else flags(data="text.txt")
    answer = call("train", "--out", "run", *tiny, *words(given))
    assert_one_line(answer, complaint)
    assert answer[1] == ""
    assert contents(here) == before
    assert sorted(os.listdir(here)) == sorted(["run", "text.txt", *FILES])


BAD_SAMPLING = {
    "no folder": ("sample", "the following arguments are required: RUN"),
    "no run": ("sample absent", "there is no run in absent"),
    "a file": ("sample text.txt", r"there is no run in text\.txt"),
    "an unknown character": ("sample run --prompt é", r"'é' \(U\+00E9\) is not among the 18"),
    "nothing to continue": ("sample run --prompt ''", "prompt must not be empty"),
    "temperature": ("sample run --temperature -0.5", "temperature must be a number of at least 0"),
    "nan": ("sample run --temperature nan", "temperature must be a number of at least 0"),
    "top-k": ("sample run --top-k 0", "top_k must be at least 1"),
    "tokens": ("sample run --tokens -1", "sample_tokens must not be negative"),
    "seed": ("sample run --seed -1", "seed must not be negative"),
    "a bias without a value": (
        "sample run --logit-bias 3",
        "'3' is not TOKEN=VALUE with a token's",
    ),
    "a bias of nothing": ("sample run --logit-bias =1", "'=1' is not TOKEN=VALUE .* 13=-2.5"),
    "a bias of no number": ("sample run --logit-bias 3=much", "'3=much' is not TOKEN=VALUE with"),
    "a bias of an empty text": ('sample run --logit-bias ""=1', r"'\"\"=1' is not TOKEN=VALUE"),
    "a bias of two texts": ('sample run --logit-bias "3","4"=1', "is not TOKEN=VALUE"),
    "a bias of a strange text": ("sample run --logit-bias a=1", "character 'a' .* is not among"),
    "a bias of two tokens": (
        "sample run --logit-bias is=1",
        r"for one token, and 'is' is 2: 'i' \(14\), 's' \(16\); give one of them",
    ),
    "an infinite bias": ("sample run --logit-bias 3=inf", "token 3 must be a number or -inf"),
    "a bias of an unknown token": ("sample run --logit-bias 18=1", "token 18, .* tokens 0 to 17"),
    "top-p": ("sample run --top-p 0", "top_p must be above 0 and at most 1, got 0.0"),
    "top-p in percent": ("sample run --top-p 90", "top_p must be above 0 and at most 1, got 90"),
    "min-p": ("sample run --min-p 2", "min_p must be from 0 to 1, got 2"),
    "no penalty": ("sample run --repetition-penalty 0", r"above 0 \(1 changes nothing\), got 0"),
    "no stop": ("sample run --stop ''", "a stop string must not be empty"),
    "no stop of a search": ("sample run --beams 2 --stop ''", "a stop string must not be empty"),
    "no text": ("sample run --num 0", "num must be at least 1, not 0"),
    "no beam": ("sample run --beams 0", "beams must be at least 1, got 0"),
    "half a beam": ("sample run --beams 1.5", "--beams: invalid int value: '1.5'"),
    "fewer beams than texts": (
        "sample run --beams 2 --num 3",
        "finds as many texts at most, not 3",
    ),
    "drawn beams": (
        "sample run --beams 2 --seed 1 --top-p 0.9",
        "draws nothing: leave out --seed, --top-p",
    ),
    "a word for a number": ("sample run --tokens many", "--tokens: invalid int value: 'many'"),
    "no best weights": (
        "sample run --best --tokens 3 --prompt 3",
        "there is no checkpoint run/best",
    ),
    "info of no run": ("info absent", "there is no run in absent"),
    "info of a run and choices": ("info run --width 8", "leave out the one or the other"),
    "info of what cannot be": ("info --heads 3", "3 heads do not divide the width 128"),
    "info of no text": ("info --tokenizer char --data absent.txt", r"there is no file absent\.txt"),
    "info of no file": ("info --config absent.toml", r"there is no file absent\.toml"),
    "no command": ("", "the following arguments are required: "),
    "no such command": ("write", "invalid choice: 'write'"),
}


@pytest.mark.parametrize(("given", "complaint"), BAD_SAMPLING.values(), ids=BAD_SAMPLING)
def test_bad_input_to_sample(
    given: str, complaint: str, run: Path, here: Path, call: Callable[..., Answer]
) -> None:
    if "--best" in given:
        (run / BEST).unlink()
    before = contents(here)
    answer = call(*words(given))
    assert_one_line(answer, complaint)
    assert answer[1] == ""
    assert contents(here) == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def other_heads(path: Path) -> None:
    path.write_text(path.read_text().replace('"heads": 2', '"heads": 4'))


DAMAGE = {
    "truncated checkpoint": (CHECKPOINT, truncate, "is truncated or not a safetensors file"),
    "no checkpoint": (CHECKPOINT, Path.unlink, "there is no checkpoint"),
    "folder for a checkpoint": (CHECKPOINT, lambda p: (p.unlink(), p.mkdir()), "no checkpoint"),
    "truncated config": (CONFIG, truncate, "is not the config of a run"),
    "binary config": (CONFIG, lambda p: p.write_bytes(b"\xff\0"), "is not the config of a run"),
    "checkpoint of another config": (CONFIG, other_heads, "heads is 2 there and 4 here"),
    "truncated tokenizer": (TOKENIZER, truncate, "is not a tokenizer file"),
    "no tokenizer": (TOKENIZER, Path.unlink, r"tokenizer\.json: No such file"),
    "other tokenizer": (
        TOKENIZER, lambda p: p.write_text('{"tokenizer": "char", "characters": "ab\\n"}'), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", ["train --resume --out run", "sample run"])
@pytest.mark.parametrize(("name", "spoil", "complaint"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_run(
    command: str,
    name: str,
    spoil: Callable[[Path], Any],
    complaint: str,
    run: Path,
    here: Path,
    call: Callable[..., Answer],
) -> None:
    """Nothing of what is left of the run is touched."""
    spoil(run / name)
    (run / PREVIOUS).unlink()
    before = contents(here)
    assert_one_line(call(*words(command)), complaint)
    assert contents(here) == before


@pytest.mark.parametrize("preset", [None, "textbook"])
def test_no_network(
    preset: str | None, here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error says both ways out."""

    def offline(path: str) -> bytes:
        raise requests.exceptions.ConnectionError(path)

    monkeypatch.setattr("tiktoken.load.read_file", offline)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(here / "cache"))
    chosen = ["--preset", preset] if preset else ["--tokenizer", "o200k_base"]
    answer = call("train", "--data", "text.txt", *chosen)
    assert_one_line(answer, r"set TIKTOKEN_CACHE_DIR to .*, or use the default, --tokenizer bpe")
    assert not (here / "runs").exists()


def test_no_memory_and_no_package(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: BaseException) -> None:
        def build(*arguments: Any) -> None:
            raise error

        monkeypatch.setattr(train, "GPT", build)

    fail(MemoryError())
    assert_one_line(call("train", *flags(data="text.txt")), "not enough memory: make --batch, ")
    fail(ModuleNotFoundError("No module named 'tqdm'", name="tqdm"))
    assert_one_line(call("train", *flags(data="text.txt")), "named 'tqdm': pip install -e .")
    fail(PermissionError(13, "Permission denied", "secret"))
    assert_one_line(call("train", *flags(data="text.txt")), "secret: Permission denied")
    fail(KeyboardInterrupt())
    assert call("train", *flags(data="text.txt"))[::2] == (130, "interrupted\n")


def test_mismatched_shapes() -> None:
    """In the library an error names the operation, the shapes, and what would have fitted."""
    a, b = tensorgrad.ones(2, 3), tensorgrad.ones(4, 5)
    with pytest.raises(RuntimeError, match=r"add: shapes \(2, 3\) and \(4, 5\) do not broadcast"):
        a + b
    with pytest.raises(RuntimeError, match=r"matmul.*\(2, 3\) and \(4, 5\)"):
        a @ b


def test_a_token_out_of_range(run: Path, call: Callable[..., Answer]) -> None:
    """The tokenizer of another run knows more tokens than this model."""
    more = {"tokenizer": "char", "characters": TEXT + "ABCDEFGH"}
    (run / TOKENIZER).write_text(json.dumps(more))
    answer = call("sample", "run", "--prompt", "times")
    assert_one_line(answer, r"index \d+ is out of range, the table has 18 rows")


# -------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["sample"],
        ["chat"],
        ["eval"],
        ["info"],
        ["prepare"],
        ["tokenizer", "train"],
        ["tokenizer", "inspect"],
    ],
)
def test_help(command: list[str], call: Callable[..., Answer]) -> None:
    code, out, err = call(*command, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "python -m gpt" in out


def test_help_shows_every_choice_and_its_default(call: Callable[..., Answer]) -> None:
    out = " ".join(call("train", "--help")[1].split())
    for field in dataclasses.fields(RunConfig):
        assert f"--{field.name.replace('_', '-')}" in out
    for default in ("[0.1]", "[bpe]", "[1300]", "[50]", "[none]", "[yes]", "['\\n']"):
        assert default in out
    for name in PRESETS:
        assert f"{name}: " in out
    assert "textbook: --tokenizer cl100k_base --vocab-size 100070 --context 16 --width 64" in out


def test_presets_in_the_help_are_true(call: Callable[..., Answer]) -> None:
    """Each, read back as flags on top of the default, is the preset."""
    text = " ".join(call("train", "--help")[1].partition("presets:")[2].split())
    shown = dict(re.findall(r"([a-z-]+): (.*?)(?= [a-z-]+: |$)", text))
    assert list(shown) == list(PRESETS)
    assert shown.pop("default") == "the values in brackets above"
    for name, line in shown.items():
        parsed = vars(command_line.parser_for(["train"]).parse_args(["train", *shlex.split(line)]))
        for other in ("command", "preset", "config", "out", "resume", "check"):
            del parsed[other]
        assert dataclasses.replace(PRESETS["default"], **parsed) == PRESETS[name]


def test_every_field_is_a_flag(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arrives in the config; none and no- flags too."""
    monkeypatch.setitem(sys.modules, "tensorboardX", MagicMock())
    changed: dict[str, Any] = {
        "data": "text.txt", "tokenizer": "bpe", "vocab_size": 260, "context": 4, "width": 8,
        "layers": 2, "heads": 2, "positions": "sinusoidal", "activation": "relu", "bias": False,
        "tied": False, "dropout": 0.3, "init": "torch", "batch": 3, "accumulate": 2,
        "steps": 2, "lr": 0.25, "min_lr": 0.125, "warmup": 1, "weight_decay": 0.5, "beta1": 0.75,
        "beta2": 0.875, "clip": 2.0, "spike": 9.0, "patience": 5, "recompute": True, "seed": 4,
        "eval_every": 3, "eval_batches": 1, "save_every": 5, "tensorboard": True, "pictures": False,
        "prompt": "é", "sample_tokens": 6, "temperature": 1.5, "top_k": 7,
    }  # fmt: skip
    assert list(changed) == [field.name for field in dataclasses.fields(RunConfig)]
    assert all(
        value != getattr(RunConfig, name) for name, value in changed.items() if name != "tokenizer"
    )
    arguments = []
    for name, value in changed.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", str(value)]
    assert call("train", "--out", "run", *arguments)[0] == 0
    assert folder.read_config(here / "run")[0] == RunConfig(**changed)


def test_none(here: Path, call: Callable[..., Answer]) -> None:
    """A preset's number can be taken back."""
    assert PRESETS["default"].top_k is not None
    answer = call("train", "--out", "run", *flags(data="text.txt", steps=1), "--top-k", "none")
    assert answer[0] == 0
    assert folder.read_config(here / "run")[0].top_k is None


def test_preset_names_the_folder(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(TINY, data="text.txt", steps=2)
    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setitem(PRESETS, "default", dataclasses.replace(small, seed=3))
    assert call("train", "--preset", "small", "--batch", "3")[0] == 0
    assert folder.read_config(here / "runs" / "small")[0] == dataclasses.replace(small, batch=3)
    assert call("train")[0] == 0
    assert folder.read_config(here / "runs" / "default")[0].seed == 3
    # A preset on resuming names the folder, and has to agree in what cannot change.
    again = ["train", "--preset", "small", "--resume", "--steps", "3"]
    assert_one_line(call(*again, "--seed", "9"), "seed is 1337 there and 9 here; leave")
    assert call(*again)[0] == 0
    config = folder.read_config(here / "runs" / "small")[0]
    assert config == dataclasses.replace(small, batch=3, steps=3)


def test_choices_from_a_file(here: Path, call: Callable[..., Answer]) -> None:
    """Flags go before the file, the file before its preset; hyphens or not; none is none."""
    (here / "run.toml").write_text(
        'preset = "textbook"\ndata = "text.txt"\ntokenizer = "char"\nwidth = 16\ntop-k = "none"\n'
        "layers = 1\nsample_tokens = 2\nlr = 1\nsteps = 9\neval_batches = 1\nbias = false\n"
        'prompt = "3 times"\n'
    )
    assert call("train", "--config", "run.toml", "--steps", "2", "--out", "run")[0] == 0
    assert folder.read_config(here / "run")[0] == dataclasses.replace(
        PRESETS["textbook"], data="text.txt", tokenizer="char", width=16, top_k=None, layers=1,
        sample_tokens=2, lr=1.0, steps=2, eval_batches=1, bias=False,
        prompt="3 times",
    )  # fmt: skip
    # On resuming the run's own choices are there already; a file can change what flags can.
    (here / "more.toml").write_text("steps = 3\n")
    assert call("train", "--config", "more.toml", "--resume", "--out", "run")[0] == 0
    (here / "more.toml").write_text("width = 32\n")
    answer = call("train", "--config", "more.toml", "--resume", "--out", "run")
    assert_one_line(answer, "width is 16 there and 32 here")


def test_info(run: Path, call: Callable[..., Answer]) -> None:
    """Of a run, and of the same choices: its parameters add up to the model's."""
    out = text_of(call("info", "run"))
    parts = {
        name: int(count.replace(",", ""))
        for name, count in re.findall(r"^  (\S+) +([\d,]+) .*%$", out, re.MULTILINE)
    }
    assert parts["blocks.*.feed_forward"] == 16 * 64 + 64 + 64 * 16 + 16
    assert sum(parts.values()) == 3728
    assert "  all                              3,728\n" in out
    weights = 2 * (12 * 16 * 16 + 18 * 16) + 4 * 8 * 16
    assert f"operations per token: {weights:,} to read it, {3 * weights:,} to train" in out
    sizes = re.findall(r"^  .* ([\d,]+\.\d)$", out, re.MULTILINE)
    assert len(sizes) == 4
    again = text_of(call("info", *flags(data="text.txt")))
    assert again.splitlines()[:10] == out.splitlines()[:10]
    assert "a batch without --recompute" in text_of(call("info", "--recompute", "--width", "8"))


def test_info_of_presets(call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without learning a vocabulary, which takes long."""
    monkeypatch.setattr(tokenizer, "build", lambda *args: pytest.fail("builds a tokenizer"))
    monkeypatch.setattr(costs, "described", lambda model, *rest: [f"{model.parameter_count():,}"])
    assert text_of(call("info")) == "932,608\n"
    assert text_of(call("info", "--preset", "textbook")) == "13,309,030\n"


# ---------------------------------------------------------------------------------------- training


def test_train_and_resume(here: Path, call: Callable[..., Answer]) -> None:
    """Twice 4 steps, and the metrics are those of a run whose rate does not change."""
    tiny = flags(data="text.txt", steps=4, warmup=0, min_lr=TINY.lr)
    code, out, err = call("train", "--out", "run", *tiny)
    assert (code, err) == (0, "")
    assert "wrote run: checkpoint.safetensors, previous.safetensors, best.safetensors," in out
    code, out, err = call("train", "--out", "run", "--resume", "--steps", "8")
    assert (code, err) == (0, "")
    assert out.startswith("resumed run at step 4\n")
    trainer(here / "straight", steps=8, warmup=0, min_lr=TINY.lr).run()
    times = ("tokens_per_second", "seconds")
    assert metrics(here / "run", but=times) == metrics(here / "straight", but=times)
    ours, theirs = (checkpoint.read(here / d / CHECKPOINT)[1] for d in ("run", "straight"))
    np.testing.assert_equal(ours, theirs)


def test_divergence_is_one_line(here: Path, call: Callable[..., Answer]) -> None:
    """And no warnings of NumPy's before it."""
    spoilt = flags(data="text.txt", lr=1e6, warmup=0, clip=0.0)
    answer = call("train", "--out", "run", *spoilt)
    assert_one_line(answer, r"diverged in step \d: .* gives (nan|inf), at .* lower --lr", code=3)


def test_how_to_go_on(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the one that the user has; Ctrl-C ends with the exit code 130."""

    def stop(self: Trainer) -> None:
        self.stopped_by = signal.SIGINT
        self.say(f"go on: {self.command}")

    monkeypatch.setattr(Trainer, "run", stop)
    for script, command in (
        ("examples/train_gpt.py", "python examples/train_gpt.py"),
        ("gpt/__main__.py", "python -m gpt train"),
        ("/bin/tensorgrad-gpt", "python -m gpt train"),
    ):
        monkeypatch.setattr(sys, "argv", [script])
        code, out, _ = call("train", "--out", "run", *flags(data="text.txt"))
        assert code == 130
        assert out.endswith(f"go on: {command}\n")


# ---------------------------------------------------------------------------------------- sampling


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


def text_of(answer: Answer) -> str:
    assert answer[::2] == (0, "")
    return answer[1]


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


# ------------------------------------------------------------------- as a process, as users have it


def start(root: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """``python -m gpt`` on its own; every warning is an error."""
    environment = {
        **os.environ, "PYTHONPATH": str(root), "PYTHONWARNINGS": "error", **options.pop("env", {})
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, encoding="utf-8",
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_ctrl_c(root: Path, here: Path, call: Callable[..., Answer]) -> None:
    """A signal at any moment of the training, and --resume ends as if there had been none."""
    tiny = flags(data="text.txt", steps=200, eval_every=10, eval_batches=1, save_every=10_000)
    with start(root, "-m", "gpt", "train", "--out", "run", *tiny) as process:
        assert process.stdout
        assert process.stderr
        lines = iter(process.stdout.readline, "")
        seen = [next(line for line in lines if line.startswith("step     10 "))]
        process.send_signal(signal.SIGINT)
        seen += lines
        assert "stopping after this step" in process.stderr.read()
    assert process.returncode == 130
    stopped = re.fullmatch(rf"stopped after step (\d+) of 200; saved run/{CHECKPOINT}\n", seen[-2])
    assert stopped
    assert 10 <= int(stopped[1]) < 200
    assert seen[-1] == "to go on: python -m gpt train --resume --out run\n"
    assert not any("\r" in line for line in seen)

    assert call("train", "--resume", "--out", "run")[0] == 0
    trainer(here / "straight", steps=200, eval_every=10, eval_batches=1, data="text.txt").run()
    times = ("tokens_per_second", "seconds")
    assert metrics(here / "run", but=times) == metrics(here / "straight", but=times)
    ours, theirs = (checkpoint.read(here / d / CHECKPOINT)[1] for d in ("run", "straight"))
    np.testing.assert_equal(ours, theirs)


def test_the_example(root: Path, here: Path) -> None:
    """A run with everything, from a folder of one's own, on an output that knows ASCII only."""
    (here / "text.txt").write_text(TEXT.replace("times", "×"), encoding="utf-8")
    process = start(
        root, str(root / "examples" / "train_gpt.py"), *flags(data="text.txt", steps=3), "--out",
        "run", env={"PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "wrote run: " in out
    assert "sample.txt" in out
    assert "×" in (here / "run" / "sample.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="no head there")
def test_head(root: Path, run: Path) -> None:
    """``sample run | head -c 20``: no traceback, no complaint at exit."""
    with start(root, "-m", "gpt", "sample", "run", "--tokens", "5000") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(20)
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_progress_on_a_terminal(root: Path, here: Path) -> None:
    """A bar with steps, time left, loss and speed; lines above it stay whole."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    tiny = flags(data="text.txt", steps=200, eval_every=100)
    process = start(
        root, "-c",
        "from gpt import __main__ as m, train as t; "
        "t.Trainer._finish = lambda self, result: None; import sys; sys.exit(m.main())",
        "train", "--out", "run", *tiny,
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b"".join(read_terminal(ours)).decode()
    assert process.wait() == 0
    bars = [text for text in re.split(r"[\r\n]", shown) if "|" in text]
    assert len(bars) > 5
    last = bars[-1]
    assert re.match(r"100% \|.{30}\| 200/200 steps, 00:00 left, loss \d\.\d{3}, [\d,]+ token", last)
    assert re.match(r"  \d% \|", bars[1])
    assert any(re.search(r"/200 steps, 00:\d\d left", bar) for bar in bars[2:-1])
    rows = [line for line in re.split(r"[\r\n]", shown) if line.startswith("step ")]
    assert [int(row.split()[1]) for row in rows] == [1, 100, 200]
    assert all("|" not in row for row in rows)


def read_terminal(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux' end of file
            piece = b""
        if not piece:
            os.close(descriptor)
            return
        yield piece


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ([], ["numpy", "tensorgrad", "nn", "gpt.train"]),
        (["train"], ["matplotlib", "graphviz", "pygraphviz", "tiktoken", "tqdm", "safetensors"]),
    ],
)
def test_start_is_quick(command: list[str], heavy: list[str], root: Path, here: Path) -> None:
    """--help loads nothing that only a command, or only a part of its work, needs."""
    code = (
        "import sys\nfrom gpt.__main__ import main\n"
        f"try: main({[*command, '--help']})\nexcept SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    process = start(root, "-c", code)
    out, err = process.communicate()
    assert (out.splitlines()[-1], err) == ("[]", "")
