"""GPT-2: its four published sizes, and their weights in Hugging Face's files.

    python examples/06_gpt2.py              a small random one, written and read again: a second
    python examples/06_gpt2.py --sizes      the sizes, counted and not made: at once
    python examples/06_gpt2.py --weights F  the published weights in the folder F continue a prompt

The weights are at https://huggingface.co/openai-community/gpt2 (or gpt2-medium, gpt2-large,
gpt2-xl): model.safetensors and config.json into one folder. The small one takes 0.5 GB there and in
memory, and some seconds to load; then some tokens a second are written on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import tensorgrad
from gpt import pretrained, tokenizer
from gpt.config import GPT2_SIZES, GPTConfig
from gpt.generate import generate
from gpt.model import GPT
from gpt.text import stream_text

WEIGHT = 4  # bytes of a float32
TRAINED = 4 * WEIGHT  # with its gradient and AdamW's two moments


def show_sizes() -> None:
    """A column for each size: its shape, its parameters part by part, its memory."""
    configs = [GPTConfig.gpt2(size) for size in GPT2_SIZES]
    rows: dict[str, list] = {"GPT-2": list(GPT2_SIZES)}
    for name in ("layers", "heads", "width"):
        rows[name] = [getattr(config, name) for config in configs]
    for part in configs[0].parameter_counts():
        rows[part] = [config.parameter_counts()[part] for config in configs]
    totals = [config.parameter_count() for config in configs]
    rows["parameters"] = totals
    rows["GB as float32"] = [n * WEIGHT / 1e9 for n in totals]
    rows["GB to train"] = [n * TRAINED / 1e9 for n in totals]
    for name, values in rows.items():
        texts = [f"{v:.1f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v
                 for v in values]  # fmt: skip
        print(f"{name:19}" + "".join(f"{text:>15}" for text in texts))
    print("(the output layer is the token embedding; training: without the activations)")


def show_round_trip() -> None:
    """What Hugging Face's layout is, on a GPT-2 small enough to look at."""
    tensorgrad.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, context=64, width=24, layers=2, heads=3,
                          activation="gelu_tanh")).eval()  # fmt: skip
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    with tempfile.TemporaryDirectory() as folder:
        pretrained.save(model, folder)
        print("written:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))
        again = pretrained.load(folder)
    before, after = (m(tensorgrad.tensor([tokens])).detach() for m in (model, again))
    print(f"logits {list(after.shape)}, the same as before: {bool((before == after).all())}")
    for name, m in (("before", model), ("after", again)):
        print(f"the continuation {name}:", generate(m, tokens, 8, seed=1))


def continue_prompt(options: argparse.Namespace) -> None:
    """Print the prompt and what the model makes of it, token by token."""
    words = tokenizer.TiktokenTokenizer("gpt2")
    model = pretrained.load(options.weights)
    print(options.prompt, end="", flush=True)
    pieces = stream_text(model, words, options.prompt, options.tokens, seed=options.seed,
                         temperature=options.temperature, top_k=options.top_k)  # fmt: skip
    for piece in pieces:  # whole characters, which may take several tokens
        print(piece.text, end="", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", action="store_true", help="count the published sizes")
    parser.add_argument("--weights", metavar="FOLDER", help="continue a prompt with these weights")
    parser.add_argument("--prompt", default="The meaning of life is", help="default: %(default)r")
    parser.add_argument("--tokens", type=int, default=40, help="to write; default: %(default)s")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest")
    parser.add_argument("--top-k", type=int, default=40, help="draw from so many; %(default)s")
    parser.add_argument("--seed", type=int, help="makes the draws reproducible")
    options = parser.parse_args()
    if options.sizes:
        show_sizes()
    elif options.weights:
        try:
            continue_prompt(options)
        except (OSError, ValueError, RuntimeError) as error:
            sys.exit(f"error: {error}")
    else:
        show_round_trip()
        print()
        show_sizes()


if __name__ == "__main__":
    main()
