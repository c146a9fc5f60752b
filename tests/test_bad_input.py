"""Bad input costs a line that names it and the remedy, exit code 2, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from tiny_run import (
    TEXT,
    Answer,
    assert_one_line,
    assert_refused,
    contents,
    flags,
    words,
)

import tensorgrad
from gpt import train
from gpt.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS, TOKENIZER

pytestmark = pytest.mark.usefixtures("here")


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
    "a tokenizer's file": ("--tokenizer my.json", "for a file, see prepare --tokenizer"),
    "vocabulary too small": ("--tokenizer bpe --vocab-size 256", "vocab_size is 256"),
    "vocabulary of 0": ("--tokenizer bpe --vocab-size 0", "vocab_size must be at least 1"),
    "heads": ("--heads 3", "3 heads do not divide the width 16; numbers of heads that do: 1, 2, 4"),
    "an odd width": ("--width 15 --heads 1 --positions sinusoidal", "need an even width"),
    "no such positions": ("--positions rope", "--positions: invalid choice: 'rope'"),
    "no such preset": ("--preset large", "--preset: invalid choice: 'large' .*textbook"),
    "no such flag": ("--depth 3", "unrecognized arguments: --depth 3"),
    "a flag misspelt": ("--stpes 3", r"--stpes 3 \(do you mean --steps\?\); .* gpt train --help"),
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
    "too many layers": (f"--layers {10**30}", "not enough memory: make"),
    "a variable not set": ("--out ''", "--out: it is empty: is a variable not set"),
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


@pytest.mark.parametrize(("given", "complaint"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_bad_input(
    given: str, complaint: str, run: Path, here: Path, call: Callable[..., Answer]
) -> None:
    if "/proc" in given and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    for name, content in FILES.items():
        (here / name).write_bytes(content)
    tiny = [] if "--resume" in given else flags(data="text.txt")
    assert_refused(call, ["train", "--out", "run", *tiny, *words(given)], complaint, here)


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
    assert_refused(call, words(given), complaint, here)


# ------------------------------------------------------------------------------------- damaged runs


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


def test_a_token_out_of_range(run: Path, call: Callable[..., Answer]) -> None:
    """The tokenizer of another run knows more tokens than this model."""
    more = {"tokenizer": "char", "characters": TEXT + "ABCDEFGH"}
    (run / TOKENIZER).write_text(json.dumps(more))
    answer = call("sample", "run", "--prompt", "times")
    assert_one_line(answer, r"index \d+ is out of range, the table has 18 rows")


# -------------------------------------------------------------------------------- what is not there


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
