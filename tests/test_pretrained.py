"""GPT-2's files, against Hugging Face's transformers: frozen to a file, and live where it is there.

``tests/oracle/gpt2_hf.npz`` holds a small random GPT-2 as transformers wrote it, and the logits and
the greedy continuation that it had there (``make_gpt2_oracle.py``).
"""

from __future__ import annotations

import functools
import json
import pickle
import runpy
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import make_gpt2_oracle as oracle
import numpy as np
import pytest
import safetensors.numpy

import nn
import tensorgrad
from gpt import pretrained
from gpt.config import GPT2_SIZES, GPTConfig
from gpt.generate import generate
from gpt.model import GPT

WEIGHTS, INDEX, CONFIG = pretrained.WEIGHTS, pretrained.INDEX, pretrained.CONFIG

SMALL = GPTConfig(
    vocab_size=67, context=48, width=24, layers=3, heads=3, activation="gelu_tanh", dropout=0.1
)  # what oracle.SMALL is here


@functools.cache
def frozen() -> dict[str, np.ndarray]:
    with np.load(oracle.FILE) as file:
        return dict(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that transformers wrote."""
    (tmp_path / "gpt2").mkdir()
    for name in (WEIGHTS, CONFIG):
        (tmp_path / "gpt2" / name).write_bytes(frozen()[name].tobytes())
    return tmp_path / "gpt2"


def logits_of(model: GPT, tokens: np.ndarray | None = None) -> np.ndarray:
    tokens = frozen()["tokens"] if tokens is None else tokens
    return model(tensorgrad.from_numpy(tokens)).detach().numpy()


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Other weights in the file: ``change`` edits the dict of arrays, or returns another."""
    arrays = safetensors.numpy.load_file(folder / WEIGHTS)
    arrays = change(arrays) or arrays
    safetensors.numpy.save_file(arrays, folder / WEIGHTS)


def rewrite_config(folder: Path, **changes: Any) -> None:
    fields = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(fields | changes))


# --- reading --------------------------------------------------------------------------------------


def test_the_logits_and_the_continuation_are_theirs(folder: Path) -> None:
    model = pretrained.load(folder)
    assert np.abs(logits_of(model) - frozen()["logits"]).max() < 1e-5
    prompt = frozen()["tokens"][0, : oracle.PROMPT].tolist()
    expected = frozen()["continuation"].tolist()
    assert len(expected) == 32
    assert len(set(expected)) > 4  # it does not only repeat itself
    assert generate(model, prompt, 32, temperature=0) == expected


PLANTED: dict[str, tuple[str, Any]] = {
    "another gelu": ("ACTIVATIONS", {"gelu_new": "gelu"}),
    "norms confused": ("BLOCK", {**pretrained.BLOCK, "norm1": "ln_2", "norm2": "ln_1"}),
    # [24, 24] fits either way
    "not transposed": ("TRANSPOSED", ("c_attn.weight", "mlp.c_proj.weight", "c_fc.weight")),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_error_shows_in_the_logits(
    planted: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, *PLANTED[planted])
    assert np.abs(logits_of(pretrained.load(folder)) - frozen()["logits"]).max() > 1e-3


def test_the_config_is_read(folder: Path) -> None:
    model = pretrained.load(folder)
    assert model.config == SMALL
    assert not model.training
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert model.output.weight is model.token_embedding.weight
    assert pretrained.load(folder, dropout=0.0).config == replace(SMALL, dropout=0.0)
    rewrite_config(folder, attn_pdrop=0.0)
    with pytest.raises(ValueError, match=r"differ, .* choose it with load\(path, dropout=0.1\)"):
        pretrained.load(folder)
    assert pretrained.load(folder, dropout=0.2).config.dropout == 0.2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("gelu", "gelu"),
     ("relu", "relu")],
)  # fmt: skip
def test_activations(theirs: str, ours: str, folder: Path) -> None:
    rewrite_config(folder, activation_function=theirs)
    assert pretrained.load(folder).config.activation == ours


def test_reading_is_lean_and_draws_nothing(tmp_path: Path) -> None:
    """In memory at once: the weights, and two tensors (one read, one turned)."""
    config = replace(SMALL, width=96, layers=6)
    pretrained.save(GPT(config), tmp_path)
    state = tensorgrad.default_generator.get_state()
    tracemalloc.start()
    model = pretrained.load(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tensorgrad.default_generator.get_state().equal(state)
    largest = max(p.numel() for p in model.parameters())
    assert peak < 4 * (model.parameter_count() + 2 * largest) + 300_000  # Python's own objects


def test_the_first_files_have_buffers_and_no_prefix(folder: Path) -> None:
    """As in openai-community/gpt2: no "transformer.", the causal masks, and maybe the head."""

    def older(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = {name.removeprefix("transformer."): value for name, value in arrays.items()}
        for i in range(3):
            made[f"h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 48, 48), np.float32))
            made[f"h.{i}.attn.masked_bias"] = np.float32([-1e4])
        return made | {"lm_head.weight": made["wte.weight"]}

    expected = logits_of(pretrained.load(folder))
    rewrite(folder, older)
    assert (logits_of(pretrained.load(folder)) == expected).all()
    assert (logits_of(pretrained.load(folder / WEIGHTS)) == expected).all()


def test_half_precision_files(folder: Path) -> None:
    rewrite(folder, lambda arrays: {name: a.astype(np.float16) for name, a in arrays.items()})
    model = pretrained.load(folder)
    assert {p.dtype for p in model.parameters()} == {tensorgrad.float32}
    halved = safetensors.numpy.load_file(folder / WEIGHTS)["transformer.wte.weight"]
    assert (model.token_embedding.weight.detach().numpy() == halved).all()
    assert 0 < np.abs(logits_of(model) - frozen()["logits"]).max() < 0.1


def shard(folder: Path) -> None:
    """The weights in two files and their index, as transformers writes large models."""
    arrays = safetensors.numpy.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(arrays)
    parts = {"model-00001-of-00002.safetensors": names[:20],
             "model-00002-of-00002.safetensors": names[20:]}  # fmt: skip
    for file, part in parts.items():
        safetensors.numpy.save_file({name: arrays[name] for name in part}, folder / file)
    where = {name: file for file, part in parts.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))


def test_shards(folder: Path) -> None:
    shard(folder)
    for path in (folder, folder / INDEX):
        assert np.abs(logits_of(pretrained.load(path)) - frozen()["logits"]).max() < 1e-5


def test_a_file_of_a_published_size_needs_no_config(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*config.json: .* 3 blocks of width 24 are"):
        pretrained.load(folder / WEIGHTS)
    monkeypatch.setitem(GPT2_SIZES, "tiny", (3, 3, 24))
    model = pretrained.load(folder / WEIGHTS)
    assert model.config == SMALL
    assert np.abs(logits_of(model) - frozen()["logits"]).max() < 1e-5
    assert pretrained.load(folder / WEIGHTS, dropout=0.3).config.dropout == 0.3


# --- writing --------------------------------------------------------------------------------------


def test_what_is_written_is_what_they_wrote(folder: Path, tmp_path: Path) -> None:
    """The same tensors, bit by bit; and of the config all that matters to the function."""
    pretrained.save(pretrained.load(folder), tmp_path / "new" / "copy")
    copy = tmp_path / "new" / "copy"
    theirs, ours = (safetensors.numpy.load_file(path / WEIGHTS) for path in (folder, copy))
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        assert array.dtype == ours[name].dtype
        np.testing.assert_array_equal(ours[name], array)
    with safetensors.safe_open(copy / WEIGHTS, "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    theirs, ours = (json.loads((path / CONFIG).read_text()) for path in (folder, copy))
    assert {name: theirs[name] for name in ours} == ours
    assert set(pretrained.FIXED) | {"n_head", "n_positions", "activation_function"} < set(ours)


@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu"])
def test_round_trip(activation: str, tmp_path: Path) -> None:
    tensorgrad.manual_seed(3)
    model = GPT(replace(SMALL, activation=activation, dropout=0.25)).eval()
    pretrained.save(model, tmp_path)
    again = pretrained.load(tmp_path)
    assert again.config == model.config
    assert (logits_of(again) == logits_of(model)).all()


def test_a_loaded_model_can_be_trained(folder: Path) -> None:
    model = pretrained.load(folder, dropout=0.0).train()
    tokens = tensorgrad.from_numpy(frozen()["tokens"])
    optimizer = tensorgrad.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    "changes", [{"positions": "sinusoidal"}, {"bias": False}, {"tied": False}], ids=str
)
def test_what_is_no_gpt2_is_not_written(changes: dict, tmp_path: Path) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"this model is no GPT-2: {name} is"):
        pretrained.save(GPT(replace(SMALL, **changes)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True])
def test_no_weights(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "gpt2"
    if there:
        path.mkdir()
    found = "it has no model.safetensors" if there else "there is no such file or folder"
    complaint = rf"no GPT-2 at .*gpt2 \({found}\): get .* from https://huggingface.co/openai-comm"
    with pytest.raises(FileNotFoundError, match=complaint) as caught:
        pretrained.load(path)
    assert "\n" not in str(caught.value)


def test_only_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(FileNotFoundError, match=r"only pytorch_model.bin, a pickle.*: get model.s"):
        pretrained.load(folder)
    with pytest.raises(ValueError, match=r"looks like a pickle, as torch.save writes it"):
        pretrained.load(folder / "pytorch_model.bin")


@pytest.mark.parametrize("content", ["", "hello, I am no tensors", "{}", "half", "all but 1"])
def test_damaged_weights(content: str, folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    parts = {"half": whole[: len(whole) // 2], "all but 1": whole[:-1]}
    (folder / WEIGHTS).write_bytes(parts.get(content, content.encode()))
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        pretrained.load(folder)


def drop(*names: str) -> Callable:
    return lambda arrays: [arrays.pop(f"transformer.{name}") for name in names] and None


def put(name: str, value: Any) -> Callable:
    return lambda arrays: arrays.update({name: value})


FLOAT = np.float32
BAD_TENSORS: dict[str, tuple[Callable, str]] = {
    "one missing": (drop("h.1.ln_2.bias"), "GPT-2; missing: h.1.ln_2.bias$"),
    "no embedding": (drop("wte.weight"), "there is no wte.weight or no wpe.weight in it"),
    "a flat embedding": (put("transformer.wte.weight", np.zeros(4, FLOAT)), "must be matrices"),
    "some missing": (
        drop(*(f"h.{i}.ln_{j}.{kind}" for i in range(3) for j in (1, 2) for kind in ("bias",))),
        "missing: h.0.ln_1.bias, h.0.ln_2.bias, h.1.ln_1.bias, h.1.ln_2.bias and 2 more$",
    ),
    "unexpected": (put("score.weight", np.zeros((2, 24), FLOAT)), "unexpected: score.weight$"),
    "misshaped": (
        put("transformer.h.0.mlp.c_fc.weight", np.zeros((96, 24), FLOAT)),
        r"misshaped: h.0.mlp.c_fc.weight is \(96, 24\) and must be \(24, 96\)$",
    ),
    "integers": (
        put("transformer.ln_f.bias", np.zeros(24, np.int8)),
        "not floats: ln_f.bias is I8$",
    ),
    "another width": (
        put("transformer.wte.weight", np.zeros((67, 30), FLOAT)),
        "config.json does not belong to the weights: n_embd is 24 there and 30 in the weights",
    ),
    "a block more": (
        put("transformer.h.3.ln_1.bias", np.zeros(24, FLOAT)),
        "n_layer is 3 there and 4 in the weights",
    ),
    "another head": (
        put("lm_head.weight", np.zeros((67, 24), FLOAT)),
        "has a lm_head.weight that is not wte.weight",
    ),
    "a head of another shape": (put("lm_head.weight", np.zeros((1, 24), FLOAT)), "lm_head.weight"),
}


@pytest.mark.parametrize(("change", "complaint"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_other_tensors(change: Callable, complaint: str, folder: Path) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=complaint) as caught:
        pretrained.load(folder)
    assert "\n" not in str(caught.value)


BAD_CONFIGS: list[tuple[Any, str]] = [
    ({"model_type": "llama"}, "its model_type is 'llama', and only 'gpt2' can be loaded"),
    ({"model_type": None}, "its model_type is None"),
    ({"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx is True, .* with False, can"),
    ({"scale_attn_weights": False}, "scale_attn_weights is False"),
    ({"add_cross_attention": True}, "add_cross_attention is True"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06, .* with 1e-05, can be loaded"),
    ({"activation_function": "silu"}, "activation_function is 'silu'; there are gelu_new, "),
    ({"activation_function": ["gelu"]}, r"activation_function is \['gelu'\]"),
    ({"n_inner": 50}, "n_inner is 50, .* four times as wide as the rest: 96"),
    ({"n_head": 5}, "5 heads do not divide the width 24"),
    ({"n_layer": 4}, "n_layer is 4 there and 3 in the weights"),
    ({"n_layer": 10**9}, "n_layer is 1000000000 there"),
    ({"n_positions": 64, "vocab_size": 70}, "vocab_size is 70 .*; n_positions is 64 there and 48"),
    ({"n_embd": "24"}, "width is '24', which is not of the type int"),
    ({"embd_pdrop": "a", "resid_pdrop": "a", "attn_pdrop": "a"}, "dropout is 'a', which is not"),
    ("[1, 2]", r"its model_type is \[1, 2\]"),
    ("{", "is not JSON"),
    ("", "is not JSON"),
    (b"\xff\xfe", "is not JSON"),
]


@pytest.mark.parametrize(
    ("content", "complaint"), BAD_CONFIGS, ids=[str(c) for c, _ in BAD_CONFIGS]
)
def test_other_configs(content: Any, complaint: str, folder: Path) -> None:
    if isinstance(content, dict):
        rewrite_config(folder, **content)
    else:
        (folder / CONFIG).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"config.json .*{complaint}") as caught:
        pretrained.load(folder)
    assert "\n" not in str(caught.value)


def test_options_that_change_nothing_are_allowed(folder: Path) -> None:
    rewrite_config(folder, n_inner=96, reorder_and_upcast_attn=True, use_cache=False, pad=1)
    assert pretrained.load(folder).config == SMALL


BAD_INDEXES: dict[str, tuple[Any, type[Exception], str]] = {
    "no JSON": ("[", ValueError, "index.json is not JSON"),
    "no map": ("{}", ValueError, "is no index: its weight_map must map"),
    "a list": ("[]", ValueError, "is no index"),
    "elsewhere": ('{"weight_map": {"a": "../x"}}', ValueError, "to files beside it"),
    "a number": ('{"weight_map": {"a": 1}}', ValueError, "is no index"),
    "a shard missing": (
        '{"weight_map": {"a": "model-9.safetensors"}}',
        FileNotFoundError,
        "no .*model-9.safetensors, which model.safetensors.index.json names: get it too",
    ),
    "a tensor missing": (
        '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
        ValueError,
        "names tensors that its files do not have: a$",
    ),
}


@pytest.mark.parametrize(("content", "error", "complaint"), BAD_INDEXES.values(), ids=BAD_INDEXES)
def test_other_indexes(content: str, error: type[Exception], complaint: str, folder: Path) -> None:
    shard(folder)
    (folder / INDEX).write_text(content)
    with pytest.raises(error, match=complaint):
        pretrained.load(folder)


# --- the published sizes --------------------------------------------------------------------------

PUBLISHED = {
    "small": 124_439_808, "medium": 354_823_168, "large": 774_030_080, "xl": 1_557_611_200,
}  # fmt: skip


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size: str) -> None:
    """Counted from the config, and from the shapes of a model whose memory is never touched."""
    config = GPTConfig.gpt2(size)
    assert config.head_size == 64
    assert config.parameter_count() == PUBLISHED[size]
    with nn.init.skipped():
        assert GPT(config).parameter_count() == PUBLISHED[size]


def test_published_depths() -> None:
    assert [GPTConfig.gpt2(size).layers for size in GPT2_SIZES] == [12, 24, 36, 48]
    assert list(PUBLISHED) == list(GPT2_SIZES)
    with pytest.raises(ValueError, match="GPT-2 has the sizes small, medium, large, xl, not 'XS'"):
        GPTConfig.gpt2("XS")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_parts_are_counted(bias: bool, tied: bool, positions: str) -> None:
    model = GPT(replace(SMALL, bias=bias, tied=tied, positions=positions))
    counted = model.config.parameter_counts()

    def numel(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert counted["token embedding"] == numel(model.token_embedding)
    assert counted["blocks"] == numel(model.blocks)
    assert counted["final norm"] == numel(model.norm)
    assert counted["output"] == (0 if tied else numel(model.output))
    if positions == "learned":
        assert counted["position embedding"] == numel(model.position_embedding)
    assert model.config.parameter_count() == model.parameter_count()


# --- the example ----------------------------------------------------------------------------------


@pytest.fixture
def example(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """``example("--sizes")`` is what it prints."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["06_gpt2.py", *arguments])
        runpy.run_path(str(root / "examples" / "06_gpt2.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_example(example: Callable[..., str]) -> None:
    out = example()
    assert "written: config.json, model.safetensors" in out
    assert "the same as before: True" in out
    before, after = (line for line in out.splitlines() if line.startswith("the continuation"))
    assert before.split(": ")[1] == after.split(": ")[1]
    assert example("--sizes") in out
    for number in PUBLISHED.values():
        assert f"{number:,}" in out


def test_example_with_weights(
    example: Callable[..., str], tiktoken_cache: Path, tmp_path: Path
) -> None:
    tensorgrad.manual_seed(0)
    config = GPTConfig(vocab_size=50257, context=16, width=8, layers=1, heads=2)
    pretrained.save(GPT(config), tmp_path)
    out = example("--weights", str(tmp_path), "--prompt", "Once upon", "--tokens", "12")
    assert out.startswith("Once upon")
    assert len(out) > len("Once upon") + 12
    with pytest.raises(SystemExit, match=r"error: no GPT-2 at .*https://huggingface.co/"):
        example("--weights", str(tmp_path / "absent"))


# --- transformers itself --------------------------------------------------------------------------


@pytest.fixture
def transformers(torch: ModuleType) -> ModuleType:
    library = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install transformers"
    )
    library.utils.logging.disable_progress_bar()
    return library


@pytest.mark.torch
def test_the_file_is_what_transformers_gives(transformers: ModuleType, folder: Path) -> None:
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    found = oracle.record(model, frozen()["tokens"])
    np.testing.assert_allclose(found["logits"], frozen()["logits"], atol=1e-5)
    assert (found["continuation"] == frozen()["continuation"]).all()


def compare(transformers: ModuleType, folder: Path, theirs: Any) -> None:
    """Their model → ours → theirs again: logits to 1e-4, the same 32 tokens."""
    tokens = oracle.some_tokens(theirs.config.vocab_size)
    expected = oracle.record(theirs, tokens)
    theirs.save_pretrained(folder / "theirs")
    del theirs
    ours = pretrained.load(folder / "theirs")
    assert np.abs(logits_of(ours, tokens) - expected["logits"]).max() < 1e-4
    written = generate(ours, tokens[0, : oracle.PROMPT].tolist(), oracle.NEW, temperature=0)
    assert written == expected["continuation"].tolist()
    assert len(set(written)) > 4
    pretrained.save(ours, folder / "ours")
    del ours
    shutil.rmtree(folder / "theirs")
    again, info = transformers.GPT2LMHeadModel.from_pretrained(
        folder / "ours", output_loading_info=True
    )
    assert not any(info.values()), info
    assert (oracle.record(again, tokens)["logits"] == expected["logits"]).all()


@pytest.mark.torch
@pytest.mark.parametrize("sizes", [{}, {"n_layer": 1, "n_head": 1}, {"n_embd": 40, "n_head": 8}])
def test_small_against_transformers(sizes: dict, transformers: ModuleType, tmp_path: Path) -> None:
    compare(transformers, tmp_path, oracle.random_gpt2(5, 0.3, **{**oracle.SMALL, **sizes}))


@pytest.mark.torch
@pytest.mark.slow
def test_the_124m_size_against_transformers(transformers: ModuleType, tmp_path: Path) -> None:
    model = oracle.random_gpt2(5, 0.05)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED["small"]
    compare(transformers, tmp_path, model)
