"""Writing: the cache, batches and beams against the model read as a whole.

Truth: ``GPT.forward`` on the whole text, for every token anew.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

import nn
import tensorgrad
from gpt.beam import beam_search
from gpt.cache import KVCache
from gpt.config import GPTConfig
from gpt.decoder import Decoder, can_decode
from gpt.generate import Drawn, draw, generate, generators_for, stream
from gpt.model import GPT
from gpt.sampling import Sampling


def some_model(seed: int, **fields: object) -> GPT:
    """A drawn kind of model, with weights large enough for its parts to matter."""
    chance = random.Random(seed)
    kind = {
        "vocab_size": chance.choice([5, 11, 40]), "context": chance.choice([1, 2, 8, 16]),
        "width": 12, "layers": chance.choice([1, 2, 3]), "heads": chance.choice([1, 2, 3]),
        "positions": chance.choice(["learned", "sinusoidal"]), "bias": chance.random() < 0.5,
        "tied": chance.random() < 0.5, "activation": chance.choice(["gelu", "gelu_tanh", "relu"]),
    }  # fmt: skip
    tensorgrad.manual_seed(seed)
    model = GPT(GPTConfig(**{**kind, **fields}))
    with tensorgrad.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.3)
    return model


def some_tokens(model: GPT, length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(model.config.vocab_size, size=length).tolist()


def logits_of(model: GPT, tokens: list[int]) -> np.ndarray:
    """[T, V], by the model itself."""
    with tensorgrad.no_grad():
        return model.eval()(tensorgrad.tensor([tokens]))[0].numpy()


# --- the decoder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_the_decoder_is_the_model(positions: str, activation: str, bias: bool, tied: bool) -> None:
    """Every kind of model, read in pieces of any size."""
    model = some_model(1, context=16, positions=positions, activation=activation, bias=bias,
                       tied=tied)  # fmt: skip
    tokens = some_tokens(model, 16)
    whole = logits_of(model, tokens)
    for sizes in ([1] * 16, [16], [5, 1, 1, 6, 3]):
        decoder, end = Decoder(model, 16), 0
        for size in sizes:
            piece, end = tokens[end : end + size], end + size
            found = decoder.read([piece])
            np.testing.assert_allclose(found[0], whole[end - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("length", [1, 5, 16])
def test_whole_texts_are_read_as_by_the_model(positions: str, length: int) -> None:
    """Side by side and one after the other; the decoder keeps nothing of them."""
    model = some_model(1, context=16, layers=3, positions=positions).double()
    decoder = Decoder(model, 0)
    for rows in (1, 3):
        texts = [some_tokens(model, length, seed=rows + i) for i in range(rows)]
        expected = [logits_of(model, text)[-1] for text in texts]
        found = decoder.read_whole(texts)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
        assert decoder.cache.length == 0


def test_the_decoder_keeps_the_dtype() -> None:
    model = some_model(1, context=8).double()
    tokens = some_tokens(model, 8)
    found = Decoder(model, 8).read([tokens])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], logits_of(model, tokens)[-1], rtol=1e-12, atol=1e-13)


def test_rows_of_different_lengths() -> None:
    """Padding in front changes nothing, whatever token stands there."""
    model = some_model(2, context=16)
    rows = [some_tokens(model, n, seed=n) for n in (7, 1, 12, 4)]
    decoder = Decoder(model, 16, [12 - len(row) for row in rows])
    found = decoder.read([[3] * (12 - len(row)) + row for row in rows])
    for step in range(5):
        for row, logits in zip(rows, found):
            expected = logits_of(model, row)[-1]
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
            row.append((row[-1] + step) % 5)
        if step < 4:
            found = decoder.read([row[-1:] for row in rows])


def test_the_past_is_not_copied() -> None:
    """The arrays that are made at first are those at the end; attention sees views of them."""
    model = some_model(3, context=16, layers=2)
    decoder = Decoder(model, 16)
    arrays = [layer.ctypes.data for layer in decoder.cache.layers]
    assert [layer.shape for layer in decoder.cache.layers] == [
        (2, 1, model.config.heads, 16, model.config.head_size)
    ] * 2
    for token in some_tokens(model, 10):
        decoder.read([[token]])
    seen = decoder.cache.write(0, np.zeros((2, 1, model.config.heads, 1, model.config.head_size)))
    assert np.shares_memory(seen, decoder.cache.layers[0])
    assert [layer.ctypes.data for layer in decoder.cache.layers] == arrays


def test_the_decoder_shares_the_weights() -> None:
    model = some_model(3, context=8)
    decoder = Decoder(model, 8)
    with tensorgrad.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    np.testing.assert_allclose(
        decoder.read([[1, 2]])[0], logits_of(model, [1, 2])[-1], rtol=1e-4, atol=1e-6
    )


def test_rows_are_chosen_and_repeated() -> None:
    model = some_model(4, context=16)
    rows = [some_tokens(model, n, seed=n) for n in (3, 9, 5)]
    decoder = Decoder(model, 16, [6, 0, 4])
    decoder.read([[0] * (9 - len(row)) + row for row in rows])
    for chosen, length in (([2, 0, 2], 5), ([1, 2], 6), ([0], 5)):
        decoder.cache.select(chosen)
        rows = [[*rows[i], 1] for i in chosen]
        assert decoder.cache.length == length  # common padding is gone
        for row, logits in zip(rows, decoder.read([[1]] * len(rows))):
            np.testing.assert_allclose(logits, logits_of(model, row)[-1], rtol=1e-4, atol=1e-5)


def test_columns_of_padding_are_hidden() -> None:
    cache = KVCache(1, 2, 1, 8, 4, padding=[0, 2])
    cache.length = 3
    hidden = cache.hidden(1)
    assert hidden is not None
    assert hidden.shape == (2, 1, 4, 1)
    assert (hidden[:, 0, :, 0] < -1e29).tolist() == [[False] * 4, [True] * 2 + [False] * 2]
    assert cache.positions(1).tolist() == [[3], [1]]
    assert KVCache(1, 2, 1, 8, 4).hidden(1) is None


# --- the cache gives the tokens of the uncached path ----------------------------------------------

KINDS = ({"temperature": 0}, {}, {"top_k": 3, "top_p": 0.8, "repetition_penalty": 1.3},
         {"temperature": 2.0, "min_p": 0.1, "stop_tokens": (0, 1)})  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_cache_changes_no_token(seed: int) -> None:
    """Prompts shorter and longer than the context, and texts that grow beyond it; each row of a
    batch is what it is alone."""
    model, chance = some_model(seed), random.Random(seed)
    prompts = [some_tokens(model, chance.randint(1, 20), seed=i) for i in range(seed % 4 + 1)]
    for kind in KINDS:
        plain = generate(model, prompts, 25, seed=seed, cache=False, **kind)
        assert generate(model, prompts, 25, seed=seed, **kind) == plain
        alone = [generate(model, p, 25, seed=seed + i, **kind) for i, p in enumerate(prompts)]
        assert alone == plain


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_the_cache_changes_no_token_of_many_models(seed: int) -> None:
    test_the_cache_changes_no_token(seed)


def test_the_draws_are_those_of_the_model() -> None:
    """The logits that a token was drawn by, beyond the context and with neighbours."""
    model = some_model(5, context=8)
    prompts = [some_tokens(model, n, seed=n) for n in (3, 6, 11)]
    texts = [list(prompt) for prompt in prompts]
    for drawn in draw(model, prompts, 12, Sampling(), generators_for(1, 3)):
        for row, new in drawn.items():
            expected = logits_of(model, texts[row][-8:])[-1]
            np.testing.assert_allclose(new.logits, expected, rtol=1e-4, atol=1e-5)
            texts[row].append(new.token)
    assert [len(text) for text in texts] == [15, 18, 23]


def test_a_model_with_other_parts_is_read_by_itself() -> None:
    """Where the decoder's formulas may not be the model's, they are not used."""

    class Louder(nn.Linear):
        def forward(self, input):
            return 3 * super().forward(input)

    model = some_model(6, context=8)
    assert can_decode(model)
    plain = generate(model, [1], 20, seed=1)
    model.blocks[0].attention.proj.__class__ = Louder
    assert not can_decode(model)
    louder = generate(model, [1], 20, seed=1)
    assert louder == generate(model, [1], 20, seed=1, cache=False)
    assert louder != plain

    hooked = some_model(6, context=8)
    handle = hooked.norm.register_forward_hook(lambda module, args, output: -output)
    assert not can_decode(hooked)
    assert generate(hooked, [1], 20, seed=1) != plain
    handle.remove()
    assert can_decode(hooked)
    assert generate(hooked, [1], 20, seed=1) == plain


# --- batches --------------------------------------------------------------------------------------


def test_rows_end_on_their_own() -> None:
    model = some_model(7, vocab_size=5, context=8)
    prompts = [some_tokens(model, n, seed=n) for n in (1, 3, 9, 2, 2)]
    written = generate(model, prompts, 30, seed=4, stop_tokens=[2])
    assert all(2 not in row[:-1] for row in written)
    assert all(row[-1] == 2 or len(row) == 30 for row in written)
    assert len({len(row) for row in written}) > 2
    endless = generate(model, prompts, 30, seed=4)
    assert all(whole[: len(row)] == row for row, whole in zip(written, endless))


def test_seeds_of_a_batch() -> None:
    model = some_model(8, context=8)
    prompts = [[1], [1], [1]]
    a, b, c = generate(model, prompts, 20, seed=5)
    assert a != b != c != a
    assert generate(model, prompts, 20, seed=[7, 6, 5]) == [c, b, a]
    tensorgrad.manual_seed(0)
    first = generate(model, prompts, 20)
    assert generate(model, prompts, 20) != first
    tensorgrad.manual_seed(0)
    assert generate(model, prompts, 20) == first
    with pytest.raises(ValueError, match="2 seeds for 3 prompts"):
        generate(model, prompts, 20, seed=[1, 2])


def test_batches_at_their_edges() -> None:
    model = some_model(8, context=8)
    assert generate(model, [[1], [2]], 0) == [[], []]
    assert [len(row) for row in generate(model, np.array([[1, 2], [3, 4]]), 3)] == [3, 3]
    assert len(generate(model, np.array([1, 2]), 3)) == 3
    with pytest.raises(ValueError, match="at least one token"):
        generate(model, [[1], []], 3)
    for unknown in (-1, model.config.vocab_size):
        with pytest.raises(IndexError, match=f"index {unknown} is out of range"):
            generate(model, [[1], [unknown]], 3)
    with pytest.raises(TypeError, match="top_q"):
        generate(model, [1], 3, top_q=1)
    assert list(stream(model, [1], 6, stop_tokens=range(model.config.vocab_size)))[1:] == []


# --- what is known of a token ---------------------------------------------------------------------


def test_log_probabilities_are_the_models() -> None:
    """Before temperature and filters; alternatives from the likeliest."""
    logits = np.log(np.array([1 / 8, 1 / 2, 1 / 8, 1 / 4], dtype=np.float32)) + 5
    drawn = Drawn(2, logits)
    assert drawn.logprob == pytest.approx(np.log(1 / 8))
    alternatives = drawn.alternatives(3)
    assert [token for token, _ in alternatives] == [1, 3, 0]
    assert [p for _, p in alternatives] == pytest.approx(np.log([1 / 2, 1 / 4, 1 / 8]))
    model = some_model(9, context=16)
    for drawn in draw(model, [[1, 2]], 5, Sampling(0.3, 2), generators_for(1, 1)):
        assert np.exp(Drawn(0, drawn[0].logits).logprob) < 1
        whole = sum(np.exp(p) for _, p in drawn[0].alternatives(99))
        assert whole == pytest.approx(1)


# --- beams ----------------------------------------------------------------------------------------


def all_texts(
    model: GPT, prompt: list[int], length: int, alpha: float, last: int | None
) -> dict[tuple[int, ...], float]:
    """Every continuation, complete with the token ``last`` or at the length, with its score."""
    found: dict[tuple[int, ...], float] = {}
    open_ = {(): 0.0}
    for n in range(1, length + 1):
        longer = {}
        for text, total in open_.items():
            window = [*prompt, *text][-model.config.context :]
            logits = logits_of(model, window)[-1].astype(float)
            logprobs = logits - np.log(np.exp(logits).sum())
            longer |= {(*text, t): total + float(logprobs[t]) for t in range(len(logprobs))}
        ended = {text for text in longer if text[-1] == last or n == length}
        found |= {text: longer[text] / ((5 + n) / 6) ** alpha for text in ended}
        open_ = {text: total for text, total in longer.items() if text not in ended}
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("last", [None, 1])
@pytest.mark.parametrize("cache", [True, False])
def test_enough_beams_find_the_best_of_all(alpha: float, last: int | None, cache: bool) -> None:
    """Against every text there is, in a context that they outgrow."""
    model = some_model(11, vocab_size=4, context=4)
    expected = all_texts(model, [2, 0], 4, alpha, last)
    ranking = sorted(expected, key=expected.__getitem__, reverse=True)
    found = beam_search(
        model, [2, 0], 4, 256, alpha, ends=lambda tokens: tokens[-1] == last, cache=cache
    )
    assert [tuple(text.tokens) for text in found[:20]] == ranking[:20]
    for text in found[:20]:
        assert text.score == pytest.approx(expected[tuple(text.tokens)], rel=1e-4)
        assert len(text.logprobs) == len(text.tokens)
    # the check can fail: the penalty and the end decide
    if last is not None and alpha != 2.0:
        other = all_texts(model, [2, 0], 4, 2.0, last)
        assert sorted(other, key=other.__getitem__, reverse=True) != ranking


@pytest.mark.parametrize("seed", range(6))
def test_few_beams(seed: int) -> None:
    """Against the rule written down plainly: the best few of each length."""
    model, beams = (
        some_model(seed).double(),
        seed % 4 + 2,
    )  # float32 could tell near ties apart otherwise
    prompt = some_tokens(model, 3)
    kept = [((), 0.0)]
    for _ in range(12):
        longer = []
        for text, total in kept:
            window = [*prompt, *text][-model.config.context :]
            logits = logits_of(model, window)[-1].astype(float)
            logprobs = logits - np.log(np.exp(logits).sum())
            longer += [((*text, t), total + p) for t, p in enumerate(logprobs)]
        kept = sorted(longer, key=lambda pair: -pair[1])[:beams]
    found = beam_search(model, prompt, 12, beams, 0.0)
    assert [tuple(text.tokens) for text in found] == [text for text, _ in kept]
    assert [text.score for text in found] == pytest.approx([total for _, total in kept], rel=1e-4)


def test_one_beam_is_greedy() -> None:
    model = some_model(12, context=8)
    (only,) = beam_search(model, [1, 2], 20, beams=1)
    assert only.tokens == generate(model, [1, 2], 20, temperature=0)


def test_a_beam_that_ends_is_kept() -> None:
    """Until nothing can be better; the rest of the search is not made."""
    model = some_model(13, vocab_size=5, context=8)
    ended = beam_search(model, [1], 30, 3, 0.6, ends=lambda tokens: len(tokens) == 2)
    assert [len(text.tokens) for text in ended] == [2, 2, 2]
    assert beam_search(model, [1], 2, 3, 0.6) == ended
    assert beam_search(model, [1], 0, 3) == [([], [], 0.0)]
    with pytest.raises(ValueError, match="beams must be at least 1, got 0"):
        beam_search(model, [1], 3, beams=0)
    with pytest.raises(ValueError, match="length_penalty must not be negative"):
        beam_search(model, [1], 3, length_penalty=-1.0)
