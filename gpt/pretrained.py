"""GPT-2's published weights: files in Hugging Face's layout become a GPT, and a GPT such files.

The same numbers lie there under other names. Their Conv1D layers keep a weight as [in, out], where
nn.Linear has [out, in]; the output layer is the token embedding, and the files do not repeat it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nn
from tensorgrad import Tensor
from tensorgrad.serialization import Stored, replace, safetensors_file, stored

from .config import GPT2_SIZES, GPTConfig
from .model import GPT

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"

# --- the names ------------------------------------------------------------------------------------

# Of layers, without ".weight" and ".bias"; those of a block without "blocks.3." and "h.3.".
OUTER = {
    # ours               theirs
    "token_embedding": "wte",
    "position_embedding": "wpe",
    "norm": "ln_f",
}
BLOCK = {
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.proj": "attn.c_proj",
    "norm2": "ln_2",
    "feed_forward.0": "mlp.c_fc",
    "feed_forward.2": "mlp.c_proj",
}
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # their Conv1D layers

PREFIX = "transformer."  # of all names but the head's; the first files were written without it
HEAD = "lm_head.weight"  # the token embedding again, in some files
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # the causal mask, in the first files


def _their_name(ours: str) -> str:
    """``blocks.0.attention.qkv.weight`` → ``h.0.attn.c_attn.weight``."""
    layer, _, kind = ours.rpartition(".")
    if not layer.startswith("blocks."):
        return f"{OUTER[layer]}.{kind}"
    _, i, layer = layer.split(".", 2)
    return f"h.{i}.{BLOCK[layer]}.{kind}"


def _in_their_layout(model: GPT) -> dict[str, Tensor]:
    """The weights under their names and in their shapes: views, through which one can write."""
    ours = model.state_dict()
    del ours["output.weight"]  # the token embedding, under its second name
    theirs = {_their_name(name): tensor for name, tensor in ours.items()}
    return {name: t.T if name.endswith(TRANSPOSED) else t for name, t in theirs.items()}


# --- the config -----------------------------------------------------------------------------------

# Their field, ours, and what it is where a config.json does not say.
FIELDS = (
    ("vocab_size", "vocab_size", 50257),
    ("n_positions", "context", 1024),
    ("n_embd", "width", 768),
    ("n_layer", "layers", 12),
    ("n_head", "heads", 12),
)
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")  # theirs are three, ours is one
ACTIVATIONS = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu",
}  # fmt: skip

# What changes the function that is computed, and the one value that GPT computes with.
FIXED = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def _from_their_config(fields: Any, dropout: float | None) -> GPTConfig:
    """The shape that a ``config.json`` describes; ValueError for what a GPT cannot be."""
    if not isinstance(fields, dict) or fields.get("model_type") != "gpt2":
        kind = fields.get("model_type") if isinstance(fields, dict) else fields
        raise ValueError(f"its model_type is {kind!r}, and only 'gpt2' can be loaded")
    for name, wanted in FIXED.items():
        if fields.get(name, wanted) != wanted:
            raise ValueError(
                f"{name} is {fields[name]!r}, and only GPT-2 as it was published, with {wanted!r}, "
                "can be loaded"
            )
    ours = {own: fields.get(name, default) for name, own, default in FIELDS}
    activation = fields.get("activation_function", "gelu_new")
    if activation not in list(ACTIVATIONS):  # it may be anything
        raise ValueError(
            f"activation_function is {activation!r}; there are {', '.join(ACTIVATIONS)}"
        )
    if dropout is None:
        dropout, *others = (fields.get(name, 0.1) for name in DROPOUTS)
        if any(rate != dropout for rate in others):
            raise ValueError(
                f"{', '.join(DROPOUTS)} differ, and here there is one rate: choose it with "
                "load(path, dropout=0.1)"
            )
    ours |= {"activation": ACTIVATIONS[activation], "dropout": dropout}
    config = GPTConfig.from_json(ours)
    if fields.get("n_inner") not in (None, 4 * config.width):
        raise ValueError(
            f"n_inner is {fields['n_inner']!r}, and the feed-forward layers here are four times "
            f"as wide as the rest: {4 * config.width}"
        )
    return config


def _to_their_config(config: GPTConfig) -> dict[str, Any]:
    """What Hugging Face's ``GPT2Config`` reads; ValueError where GPT-2 cannot be like this."""
    wanted: dict[str, Any] = {"positions": "learned", "bias": True, "tied": True}
    clashes = [
        f"{name} is {getattr(config, name)!r} and not {value!r}"
        for name, value in wanted.items()
        if getattr(config, name) != value
    ]
    if clashes:
        raise ValueError(f"this model is no GPT-2: {', '.join(clashes)}")
    # The first name of each activation is the one they use.
    activation = next(name for name, ours in ACTIVATIONS.items() if ours == config.activation)
    end_of_text = 50256 if config.vocab_size == 50257 else None  # in GPT-2's own vocabulary
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        **{name: getattr(config, own) for name, own, _ in FIELDS},
        "n_inner": None,
        "activation_function": activation,
        **dict.fromkeys(DROPOUTS, config.dropout),
        **FIXED,
        "initializer_range": 0.02,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }


def _sizes_of(tensors: Mapping[str, Stored]) -> dict[str, Any]:
    """What the shapes tell of a config: all but the heads."""
    if not {"wte.weight", "wpe.weight"} <= set(tensors):
        raise ValueError("there is no wte.weight or no wpe.weight in it: these are not GPT-2's")
    embeddings = [tensors[name].shape for name in ("wte.weight", "wpe.weight")]
    if any(len(shape) != 2 for shape in embeddings):
        raise ValueError("wte.weight and wpe.weight must be matrices")
    (vocab_size, width), (context, _) = embeddings
    blocks = {name.split(".")[1] for name in tensors if name.startswith("h.")}
    return {"vocab_size": vocab_size, "context": context, "width": width, "layers": len(blocks)}


def _config_of(path: Path, sizes: dict[str, Any], dropout: float | None) -> GPTConfig:
    """The config in the file ``path``; where there is none, the published one with these sizes."""
    if not path.exists():
        for size, (layers, _, width) in GPT2_SIZES.items():
            if (layers, width) == (sizes["layers"], sizes["width"]):
                config = dataclasses.replace(GPTConfig.gpt2(size), **sizes)
                return config if dropout is None else dataclasses.replace(config, dropout=dropout)
        raise FileNotFoundError(
            f"there is no {path}: the weights do not tell the number of heads, and "
            f"{sizes['layers']} blocks of width {sizes['width']} are no published size"
        )
    try:
        config = _from_their_config(_json(path), dropout)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    clashes = [
        f"{theirs} is {getattr(config, own)} there and {sizes[own]} in the weights"
        for theirs, own, _ in FIELDS
        if own in sizes and getattr(config, own) != sizes[own]
    ]
    if clashes:
        raise ValueError(f"{path} does not belong to the weights: {'; '.join(clashes)}")
    return config


# --- the files ------------------------------------------------------------------------------------


def load(path: str | Path, dropout: float | None = None) -> GPT:
    """A published GPT-2, or one that :func:`save` or Hugging Face's ``save_pretrained`` wrote.

    One tensor is read at a time, so that the weights are in memory once.

    Args:
        path: the folder with ``model.safetensors`` (or its shards and their index) and
            ``config.json``; or the file itself, which, if it is of a published size, needs no
            ``config.json`` beside it.
        dropout: the rate in training; default: the file's.

    Returns:
        The model in evaluation mode; ``model.train()`` readies it for fine-tuning.

    Raises:
        FileNotFoundError: there are no weights; the message says where to get them.
        ValueError: a file is damaged, of another kind of model, or a GPT cannot be like it.

    >>> import tensorgrad
    >>> model = GPT(GPTConfig(vocab_size=11, context=8, width=16, layers=2, heads=2))
    >>> save(model, "tiny")
    >>> tokens = tensorgrad.tensor([[1, 2, 3]])
    >>> (load("tiny")(tokens) == model(tokens)).all().item()
    True
    """
    weights = _weights_at(Path(path))
    found = _open_all(weights)
    given = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in found.items()
        if not BUFFERS.fullmatch(name.removeprefix(PREFIX))
    }
    head = given.pop(HEAD, None)
    try:
        sizes = _sizes_of(given)
    except ValueError as error:
        raise ValueError(f"{weights} cannot be used: {error}") from None
    config = _config_of(weights.with_name(CONFIG), sizes, dropout)
    with nn.init.skipped():
        model = GPT(config)
    model.eval()
    wanted = _in_their_layout(model)
    _check(weights, given, wanted)
    for name, tensor in wanted.items():
        tensor.copy_(given[name].read())
    if head is not None and not _equal(head, wanted["wte.weight"]):
        raise ValueError(f"{weights} has a {HEAD} that is not wte.weight; here they are one")
    return model


def save(model: GPT, folder: str | Path) -> None:
    """Write ``model.safetensors`` and ``config.json``, as Hugging Face's ``save_pretrained`` does.

    Raises:
        ValueError: GPT-2 has learned positions, biases and a tied head, and ``model`` has not.
        OSError: the files cannot be written, and are as they were.
    """
    config = json.dumps(_to_their_config(model.config), indent=2) + "\n"
    tensors = {PREFIX + name: tensor for name, tensor in _in_their_layout(model).items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    replace(
        {
            folder / WEIGHTS: safetensors_file(tensors, {"format": "pt"}),  # they insist on it
            folder / CONFIG: config.encode(),
        }
    )


def _weights_at(path: Path) -> Path:
    """The file of the weights, or the index of its shards."""
    if path.is_file():
        return path
    for name in (WEIGHTS, INDEX):
        if (path / name).is_file():
            return path / name
    found = "there is no such file or folder"
    if (path / "pytorch_model.bin").is_file():
        found = "only pytorch_model.bin, a pickle, and reading one can run any code"
    elif path.is_dir():
        found = "it has no model.safetensors"
    raise FileNotFoundError(
        f"no GPT-2 at {path} ({found}): get model.safetensors and config.json from "
        "https://huggingface.co/openai-community/gpt2 (or gpt2-medium, gpt2-large, gpt2-xl), say "
        f"with `hf download openai-community/gpt2 {WEIGHTS} {CONFIG} --local-dir {path}`"
    )


def _open_all(weights: Path) -> dict[str, Stored]:
    """The tensors of a file, or of the shards that an index names."""
    if not weights.name.endswith(".index.json"):
        return stored(weights)
    index = _json(weights)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    # A shard lies beside its index: a name must not lead elsewhere.
    if not isinstance(shards, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in shards.values()
    ):
        raise ValueError(f"{weights} is no index: its weight_map must map names to files beside it")
    found: dict[str, Stored] = {}
    for shard in sorted(set(shards.values())):
        path = weights.with_name(shard)
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}, which {weights.name} names: get it too")
        found |= stored(path)
    if absent := sorted(set(shards) - set(found)):
        raise ValueError(f"{weights} names tensors that its files do not have: {_some(absent)}")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from None


def _check(weights: Path, given: Mapping[str, Stored], wanted: Mapping[str, Tensor]) -> None:
    """Names, shapes and dtypes, before anything is read."""
    both = [name for name in wanted if name in given]
    problems = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "misshaped": [
            f"{name} is {given[name].shape} and must be {wanted[name].shape}"
            for name in both
            if given[name].shape != wanted[name].shape
        ],
        "not floats": [
            f"{name} is {given[name].dtype}"
            for name in both
            if given[name].dtype not in ("F64", "F32", "F16", "BF16")
        ],
    }
    texts = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if texts:
        raise ValueError(f"{weights} does not hold this GPT-2; {'. '.join(texts)}")


def _some(names: list[str], n: int = 4) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def _equal(head: Stored, embedding: Tensor) -> bool:
    return head.shape == embedding.shape and bool((head.read() == embedding).all())
