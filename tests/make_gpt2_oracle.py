"""Write ``tests/oracle/gpt2_hf.npz``: a small random GPT-2 as Hugging Face's library makes it.

``make oracle`` runs this. The file holds ``model.safetensors`` and ``config.json`` byte by byte,
the logits of some tokens, a greedy continuation, and the versions of the programs that made it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "oracle" / "gpt2_hf.npz"

SEED = 1
SMALL = {"vocab_size": 67, "n_positions": 48, "n_embd": 24, "n_layer": 3, "n_head": 3}
PROMPT, NEW = 8, 32  # tokens


def random_gpt2(seed: int, std: float, **sizes: int) -> Any:
    """A ``GPT2LMHeadModel`` of whose weights none is 0 or 1, so that none can be forgotten.

    ``std`` is the matrices'. It has no end-of-text token, so that it never stops early.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(float("ln_" in name and name.endswith("weight")), std if p.dim() > 1 else 0.1)
    return model


def record(model: Any, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """The logits of the tokens [B, T], and the greedy continuation of the first of them."""
    import torch

    with torch.no_grad():
        logits = model(torch.from_numpy(tokens)).logits.numpy()
        prompt = torch.from_numpy(tokens[:1, :PROMPT])
        written = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW
        )
    return {"logits": logits, "continuation": written[0, PROMPT:].numpy()}


def some_tokens(vocab_size: int, seed: int = SEED) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, (2, 12))


def make() -> dict[str, np.ndarray]:
    import torch
    import transformers

    model = random_gpt2(SEED, 0.3, **SMALL)
    tokens = some_tokens(SMALL["vocab_size"])
    made = {"tokens": tokens, **record(model, tokens)}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for name in ("model.safetensors", "config.json"):
            made[name] = np.frombuffer((Path(folder) / name).read_bytes(), np.uint8)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}, seed {SEED}"
    return {**made, "made by": np.array(versions)}


if __name__ == "__main__":
    np.savez_compressed(FILE, **make())
    print(f"wrote {FILE.name}: {FILE.stat().st_size / 1e6:.2f} MB")
