"""Pictures of a trained model: what they show is what the tensors hold.

The numbers that are expected are computed here, in NumPy and in float64, from the weights alone.
"""

from __future__ import annotations

import math
import re
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tiny_run import TEXT, metrics, trainer

import tensorgrad
from gpt import canvas, figures
from gpt.config import GPTConfig
from gpt.figures import embeddings, gradients, histograms, inside, labels, landscape
from gpt.model import GPT
from gpt.tokenizer import BPETokenizer, CharTokenizer, train_bpe

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


SENTENCE = "a cab, a bad cab"


CODER = CharTokenizer("abcd, \n")


LAYERS, HEADS, CONTEXT = 3, 2, 12


SHAPE = GPTConfig(CODER.n_vocab, context=CONTEXT, width=16, layers=LAYERS, heads=HEADS)


@pytest.fixture
def model() -> GPT:
    """A model whose weights are large enough that its maps and predictions are not all alike."""
    tensorgrad.manual_seed(3)
    made = GPT(SHAPE)
    with tensorgrad.no_grad():
        for parameter in made.parameters():
            parameter.add_(tensorgrad.randn(*parameter.shape) * 0.3)
    return made


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array(CODER.encode(SENTENCE))
    return tokens[:10].reshape(2, 5), tokens[1:11].reshape(2, 5)


def snapshot(model: GPT) -> dict[str, bytes]:
    return {name: p.detach().numpy().tobytes() for name, p in model.named_parameters()}


# ------------------------------------------------------------------------------- the model in NumPy


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def read_by_hand(model: GPT, tokens: list[int]) -> tuple[list, list, list]:
    """The attention maps [H, T, T], the residual stream [T, C] and the logits [T, V], by layer."""
    w = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
    erf = np.vectorize(math.erf)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return (x - x.mean(-1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    T, C = len(tokens), model.config.width
    D = C // HEADS
    x = w["token_embedding.weight"][tokens] + w["position_embedding.weight"][:T]
    maps, stream = [], [x]
    for n in range(LAYERS):
        block = f"blocks.{n}"
        q, k, v = np.split(linear(norm(x, f"{block}.norm1"), f"{block}.attention.qkv"), 3, -1)
        heads, results = [], []
        for h in range(HEADS):
            part = slice(h * D, (h + 1) * D)
            scores = q[:, part] @ k[:, part].T / math.sqrt(D)
            scores[np.triu_indices(T, 1)] = -np.inf
            heads.append(softmax(scores))
            results.append(heads[-1] @ v[:, part])
        x = x + linear(np.concatenate(results, -1), f"{block}.attention.proj")
        up = linear(norm(x, f"{block}.norm2"), f"{block}.feed_forward.0")
        up = up * (1 + erf(up / math.sqrt(2))) / 2
        x = x + linear(up, f"{block}.feed_forward.2")
        maps.append(np.stack(heads))
        stream.append(x)
    return maps, stream, [norm(x, "norm") @ w["token_embedding.weight"].T for x in stream]


def images(figure: Any) -> list[np.ndarray]:
    """The arrays of a figure's pictures, without those of colour bars."""
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def texts(figure: Any) -> list[Any]:
    import matplotlib.text

    return figure.findobj(matplotlib.text.Text)


def words(figure: Any) -> str:
    """All that is written on a figure."""
    return "\n".join(t.get_text() for t in texts(figure))


# ----------------------------------------------------------------------- what the model does inside


def test_maps_are_what_the_model_attends_with(model):
    tokens = CODER.encode(SENTENCE)[:CONTEXT]
    maps, _, logits = read_by_hand(model, tokens)
    # The formulas above are the model's, so their maps are what it has used.
    with tensorgrad.no_grad():
        own = model(tensorgrad.tensor([tokens]))[0].numpy()
    np.testing.assert_allclose(logits[-1], own, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(inside.attention_weights(model, tokens), maps, atol=1e-5)


def test_attention_maps(model):
    tokens = CODER.encode(SENTENCE)[:8]
    maps, _, _ = read_by_hand(model, tokens)
    figure = figures.attention_maps(model, CODER, SENTENCE, most=8)
    shown = images(figure)
    assert len(shown) == LAYERS * HEADS
    past = np.tril(np.ones((8, 8), bool))
    for n, array in enumerate(shown):
        layer, head = divmod(n, HEADS)
        np.testing.assert_allclose(array[past], maps[layer][head][past], atol=1e-5)
        assert (array.mask == ~past).all()
        assert figure.axes[n].get_title() == f"layer {layer}, head {head}"
    expected = ["a", "␣", "c", "a", "b", ",", "␣", "a"]
    assert ticks(figure.axes[0].yaxis) == expected
    assert ticks(figure.axes[1].yaxis) == [""] * 8  # they stand at the edge of the grid
    assert ticks(figure.axes[len(shown) - 1].xaxis) == expected
    assert "the first 8 tokens" in words(figure)
    assert "first" not in words(figures.attention_maps(model, CODER, "a cab"))


def test_attention_maps_of_some_layers(model):
    figure = figures.attention_maps(model, CODER, "abc", layers=[1])
    every = images(figures.attention_maps(model, CODER, "abc"))
    assert len(images(figure)) == HEADS
    for array, expected in zip(images(figure), every[HEADS : 2 * HEADS]):
        np.testing.assert_array_equal(array, expected)
    with pytest.raises(ValueError, match=r"the layers are 0 to 2; asked for were \[3\]"):
        figures.attention_maps(model, CODER, "abc", layers=[3])


def test_heads_that_make_no_square():
    model = GPT(GPTConfig(CODER.n_vocab, context=4, width=10, layers=2, heads=5))
    figure = figures.attention_maps(model, CODER, "abc", layers=[0])
    assert len(images(figure)) == 5
    assert ticks(figure.axes[4].xaxis) == ticks(figure.axes[2].xaxis) == ["a", "b", "c"]
    assert ticks(figure.axes[1].xaxis) == ["", "", ""]


def test_a_long_text_is_cut_at_the_context(model):
    assert images(figures.attention_maps(model, CODER, "abcd" * 100))[0].shape == (12, 12)


def test_looking_changes_nothing(model):
    model.dropout.p = 0.5
    model.train()
    model.blocks[1].eval()
    model.recompute = True
    modes = [module.training for module in model.modules()]
    weights, drawn = snapshot(model), tensorgrad.get_rng_state().tolist()
    first = inside.attention_weights(model, [1, 2, 3])
    np.testing.assert_array_equal(first, inside.attention_weights(model, [1, 2, 3]))
    gradients.gradient_norms(model, [[1, 2]], [[2, 3]])
    inside.lens_logits(model, [1, 2])
    assert [module.training for module in model.modules()] == modes
    assert model.recompute
    assert not any(module._hooks for module in model.modules())
    assert tensorgrad.get_rng_state().tolist() == drawn
    assert snapshot(model) == weights
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_fails_is_left_as_it_was(model):
    model.train()
    with pytest.raises(ValueError, match="does not fit into the context"):
        inside.residual_stream(model, [0] * 13)
    assert model.training
    assert not any(module._hooks for module in model.modules())


def test_logit_lens(model):
    tokens = CODER.encode(SENTENCE)[:7]
    _, stream, logits = read_by_hand(model, tokens[:-1])
    for own, expected in zip(inside.residual_stream(model, tokens[:-1]), stream):
        np.testing.assert_allclose(own.numpy(), expected, rtol=1e-3, atol=1e-4)
    lens = inside.lens_logits(model, tokens[:-1])
    with tensorgrad.no_grad():
        np.testing.assert_array_equal(lens[-1], model(tensorgrad.tensor([tokens[:-1]]))[0].numpy())

    figure = figures.logit_lens(model, CODER, SENTENCE, most=6)
    axes, p = figure.axes[0], softmax(np.stack(logits))
    np.testing.assert_allclose(images(figure)[0], p.max(-1), atol=1e-4)
    best = p.argmax(-1)
    visible = {" ": "␣", "\n": "↵"}
    shown = [CODER.decode([t]) for t in best.reshape(-1)]
    assert [t.get_text() for t in axes.texts] == [visible.get(c, c) for c in shown]
    right = {(r, c) for r in range(LAYERS + 1) for c in range(6) if best[r, c] == tokens[c + 1]}
    assert right  # or nothing is compared
    framed = {
        (round(np.mean(line.get_ydata()[:4])), round(np.mean(line.get_xdata()[:4])))
        for line in axes.lines
    }
    assert framed == right
    assert ticks(axes.xaxis) == ["a", "␣", "c", "a", "b", ","]
    assert ticks(axes.child_axes[0].xaxis) == ["␣", "c", "a", "b", ",", "␣"]
    assert ticks(axes.yaxis) == ["embedding", "block 0", "block 1", "block 2 = model"]


def test_logit_lens_of_one_token(model):
    figure = figures.logit_lens(model, CODER, "a")
    assert images(figure)[0].shape == (LAYERS + 1, 1)
    assert not figure.axes[0].lines


# --------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_position_table(positions):
    model = GPT(GPTConfig(5, context=6, width=8, layers=1, heads=1, positions=positions))
    table, cosines = images(figures.position_table(model))
    if positions == "learned":
        expected = model.state_dict()["position_embedding.weight"].numpy()
    else:
        angles = np.arange(6)[:, None] / 10000 ** (np.arange(0, 8, 2) / 8)
        expected = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(6, 8)
    np.testing.assert_allclose(table, expected, atol=1e-6)
    for i in range(6):
        for j in range(6):
            a, b = expected[i], expected[j]
            cosine = a @ b / math.sqrt((a @ a) * (b @ b))
            assert cosines[i, j] == pytest.approx(cosine, abs=1e-5)


def test_embedding_neighbours(model):
    table = model.token_embedding.weight.detach().numpy().astype(np.float64)
    figure = figures.embedding_neighbours(model, CODER, "a cab", count=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["a", "c", "b"]  # each once; a space has no letters
    for axes, title in zip(figure.axes, titles):
        (row,) = CODER.encode(title)
        cosine = {}
        for other in set(range(len(table))) - {row}:
            a, b = table[row], table[other]
            cosine[other] = a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)
        nearest = sorted(cosine, key=lambda other: -cosine[other])[:3]
        assert ticks(axes.yaxis) == labels.token_labels(nearest, CODER)
        widths = [bar.get_width() for bar in axes.patches]
        np.testing.assert_allclose(widths, [cosine[n] for n in nearest], rtol=1e-4)
    assert "2 of 3 tokens" in words(figures.embedding_neighbours(model, CODER, "abc", most=2))
    assert figures.embedding_neighbours(model, CODER, ", ,").axes[0].get_title() == ","


def test_embedding_map(model):
    table = model.token_embedding.weight.detach().numpy().astype(np.float64)
    centred = table - table.mean(0)
    u, s, directions = np.linalg.svd(centred, full_matrices=False)
    # The largest number of a direction is positive, so that no picture is another's mirror image.
    signs = [np.sign(d[np.abs(d).argmax()]) for d in directions[:2]]
    expected = (u * s)[:, :2] * signs
    figure = figures.embedding_map(model, CODER, "abba")
    axes = figure.axes[0]
    everything, named = (dots.get_offsets() for dots in axes.collections)
    np.testing.assert_allclose(everything, expected, atol=1e-5)
    ids = CODER.encode("ab")
    np.testing.assert_allclose(named, expected[ids], atol=1e-5)
    for text in axes.texts:
        (token,) = CODER.encode(text.get_text())
        np.testing.assert_allclose(text.xy, expected[token], atol=1e-5)
    assert {text.get_text() for text in axes.texts} <= {"a", "b"}
    parts = s**2 / (s**2).sum()
    assert axes.get_xlabel() == f"component 1: {parts[0]:.1%} of the variance"
    assert axes.get_ylabel() == f"component 2: {parts[1]:.1%} of the variance"
    assert len(figures.embedding_map(model, CODER).axes[0].collections[1].get_offsets()) == 7


def test_a_table_without_variance():
    points, parts = embeddings.principal_components(np.ones((3, 2)))
    assert not points.any()
    assert not parts.any()


def test_names_on_the_map_do_not_overlap(model):
    with tensorgrad.no_grad():
        model.token_embedding.weight[1:].copy_(model.token_embedding.weight[1] * 1.0)
    assert len(figures.embedding_map(model, CODER).axes[0].texts) == 2


# ------------------------------------------------------------------------------------- the training


def test_gradient_flow(tmp_path, quick):
    trainer(tmp_path / "run", layers=2, steps=4).run()
    lines = metrics(tmp_path / "run")
    figure = figures.gradient_flow(lines)
    axes, layers = figure.axes[0], list(lines[0]["grad_norms"])
    assert ticks(axes.yaxis) == layers
    assert layers == ["token_embedding", "position_embedding", "blocks.0", "blocks.1", "norm"]
    for row, layer in enumerate(layers):
        expected = [line["grad_norms"][layer] for line in lines]
        np.testing.assert_array_equal(images(figure)[0][row], expected)
    assert ticks(axes.xaxis) == [str(line["step"]) for line in lines]


def test_gradients_that_are_zero_or_missing_have_no_colour():
    lines = [{"step": 1, "grad_norms": {"a": 1.0}}, {"step": 2, "grad_norms": {"a": 0.0, "b": 2.0}}]
    (shown,) = images(figures.gradient_flow([*lines, {"step": 3}]))
    assert shown.mask.tolist() == [[False, True], [True, False]]
    figures.gradient_flow([{"step": 1, "grad_norms": {"a": 0.0}}]).savefig(
        "/dev/null", format="png"
    )


def test_gradients_of_one_batch(model, batch):
    figure = figures.gradient_flow([{"step": 1, "grad_norm": 2.0}], model, batch)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert "one batch" in figure.axes[0].get_title()
    model(*map(tensorgrad.tensor, batch)).backward()
    expected: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        layer = re.match(r"blocks\.\d|\w+", name)[0]
        expected[layer] = expected.get(layer, 0) + float((parameter.grad.numpy() ** 2).sum())
    assert ticks(figure.axes[0].yaxis) == list(expected)
    np.testing.assert_allclose(widths, np.sqrt(list(expected.values())), rtol=1e-4)
    with pytest.raises(ValueError, match="no grad_norms: give a model and a batch"):
        figures.gradient_flow([])


def test_weight_histograms(model):
    figure = figures.weight_histograms(model)
    seen = 0
    for axes in (axes for axes in figure.axes if axes.get_title()):
        kind, size = re.fullmatch(r"(\S+) \(([\d,]+)\)", axes.get_title()).groups()
        of_kind = {n: p for n, p in model.named_parameters() if n == kind or n.endswith(f".{kind}")}
        if kind.startswith("norm."):
            of_kind = {n: p for n, p in of_kind.items() if n == kind}
        assert len(axes.patches) == len(of_kind)
        for stairs, parameter in zip(axes.patches, of_kind.values()):
            part, edges, _ = stairs.get_data()
            values = parameter.detach().numpy().reshape(-1)
            assert f"{values.size:,}" == size
            inside = [((lo <= values) & (values < hi)).mean() for lo, hi in pairwise(edges)]
            inside[-1] += (values == edges[-1]).mean()
            np.testing.assert_allclose(part, inside, atol=1e-12)
            assert part.sum() == pytest.approx(1)
            seen += 1
    assert seen == len(list(model.parameters()))


def test_last_update(tmp_path):
    run = trainer(tmp_path / "run", clip=0.1, weight_decay=0.3)
    for _ in range(4):
        before = {n: p.detach().numpy().copy() for n, p in run.model.named_parameters()}
        lr = run.schedule.get_last_lr()[0]
        run.train_step()
    after = {n: p.detach().numpy() for n, p in run.model.named_parameters()}
    updates = figures.last_update(run.model, run.optimizer, lr)
    assert list(updates) == list(after)
    for name, update in updates.items():
        np.testing.assert_allclose(update, after[name] - before[name], rtol=2e-3, atol=3e-7)

    figure = figures.update_histograms(run.model, updates)
    axes = next(a for a in figure.axes if a.get_title().startswith("attention.qkv.weight"))
    name = "blocks.0.attention.qkv.weight"
    (mark,) = axes.lines
    moved, was = after[name] - before[name], before[name]
    ratio = np.linalg.norm(moved.astype(float)) / np.linalg.norm(was.astype(float))
    assert mark.get_xdata()[0] == pytest.approx(math.log10(ratio), abs=1e-3)
    part, edges, _ = axes.patches[0].get_data()
    ratios = np.log10(np.abs(moved / was))
    middle = (edges[1:] @ part + edges[:-1] @ part) / 2
    assert part.sum() == pytest.approx(1)
    assert middle == pytest.approx(ratios.mean(), abs=edges[1] - edges[0])


def test_ratios_leave_out_what_is_zero():
    update, after = np.array([0.1, 0.0, 0.5]), np.array([1.1, 2.0, 0.5])
    np.testing.assert_allclose(histograms.log_ratios(update, after), [-1.0])  # 0 moved, 0 before
    assert math.isnan(histograms.norm_ratio(np.zeros(3), after))
    assert histograms.norm_ratio(np.array([0.3, 0.4]), np.array([3.3, 4.4])) == pytest.approx(-1)


def test_no_update_can_be_told(model):
    adamw = tensorgrad.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="has not made a step yet"):
        figures.last_update(model, adamw, 0.1)
    adam = tensorgrad.optim.Adam(model.parameters())
    with pytest.raises(ValueError, match="of a plain AdamW only"):
        figures.last_update(model, adam, 0.1)


# ------------------------------------------------------------------------------------ the landscape


def test_directions_are_normalised_by_filters(model):
    first, second = landscape.random_directions(model, 2, seed=1)
    for name, parameter in model.named_parameters():
        w = parameter.detach().numpy()
        if w.ndim < 2:
            assert not first[name].any()
            continue
        for row, own in zip(first[name], w):
            assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(own), rel=1e-5)
        assert not np.allclose(first[name], second[name])
    again = landscape.random_directions(model, 1, seed=1)[0]
    assert all((again[name] == first[name]).all() for name in first)


def test_loss_landscape(model, batch):
    weights = snapshot(model)
    figure = figures.loss_landscape(model, batch, points=5, reach=0.5, seed=2)
    assert snapshot(model) == weights
    (grid,) = images(figure)
    x, y = map(tensorgrad.tensor, batch)
    with tensorgrad.no_grad():
        assert grid[2, 2] == model(x, y).item()
    directions = landscape.random_directions(model, 2, seed=2)
    steps = [-0.5, -0.25, 0, 0.25, 0.5]
    for row, column in ((0, 0), (1, 4), (4, 2)):
        moved = GPT(SHAPE)
        moved.load_state_dict(model.state_dict())
        with tensorgrad.no_grad():
            for name, parameter in moved.named_parameters():
                shift = steps[column] * directions[0][name] + steps[row] * directions[1][name]
                parameter.add_(tensorgrad.tensor(shift, dtype=tensorgrad.float32))
            assert grid[row, column] == pytest.approx(moved(x, y).item(), rel=1e-5)
    lines = figure.axes[1].lines
    for line, values in zip(lines, (grid[2], grid[:, 2])):
        np.testing.assert_allclose(line.get_xdata(), steps)
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert figure.axes[1].get_legend().texts[2].get_text() == f"the model: {grid[2, 2]:.3f}"
    with pytest.raises(ValueError, match="points must be odd and at least 3, not 4"):
        figures.loss_landscape(model, batch, points=4)


def test_an_interrupted_landscape_gives_the_weights_back(model, batch, monkeypatch):
    weights, calls, forward = snapshot(model), iter(range(100)), model.forward

    def interrupted(*args: Any) -> Any:
        if next(calls) == 7:
            raise KeyboardInterrupt
        return forward(*args)

    monkeypatch.setattr(model, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        figures.loss_landscape(model, batch, points=3)
    assert snapshot(model) == weights


def test_a_loss_that_is_no_number_has_no_colour(model, batch):
    with tensorgrad.no_grad():
        model.norm.weight[0] = float("nan")
    figure = figures.loss_landscape(model, batch, points=3)
    assert images(figure)[0].mask.all()
    figure.savefig("/dev/null", format="png")


# ------------------------------------------------------------------------------------------- labels


def test_labels_show_what_is_invisible():
    coder = BPETokenizer([b" the", b"\n\n", "é".encode(), b"a very long token", "\u200b".encode()])
    shown = labels.token_labels([256, 257, 258, 259, 260, 0xC3, 7, 9, 13, ord("$")], coder)
    assert shown == ["␣the", "↵↵", "é", "a␣very␣long…", "\\u200b", "\\xc3", "\\x07", "⇥", "←", "$"]


def test_dollars_are_dollars():
    coder = CharTokenizer("$x_")
    model = GPT(GPTConfig(coder.n_vocab, context=8, width=8, layers=1, heads=1))
    for draw in (figures.attention_maps, figures.logit_lens, figures.embedding_neighbours,
                 figures.embedding_map):  # fmt: skip
        found = [t for t in texts(draw(model, coder, "$x_$")) if "$" in t.get_text()]
        assert found
        assert not any(t.get_parse_math() for t in found)


def test_texts_that_cannot_be_drawn(model):
    with pytest.raises(ValueError, match="the text is empty"):
        figures.attention_maps(model, CODER, "")
    with pytest.raises(ValueError, match="has the token 7, but the model has 7 tokens only"):
        figures.logit_lens(model, CODER, [1, 7])


def test_a_tokenizer_of_more_bytes_than_characters():
    coder = train_bpe(TEXT, 270)
    model = GPT(GPTConfig(coder.n_vocab, context=8, width=8, layers=1, heads=1))
    figure = figures.embedding_neighbours(model, coder, "7 times é", count=4)
    assert len(figure.axes[0].patches) == 4


# --------------------------------------------------------------------------- the figures themselves


def test_no_figure_is_left_with_pyplot(model):
    figures.position_table(model)
    plots = sys.modules.get("matplotlib.pyplot")
    assert plots is None or not plots.get_fignums()


def test_a_figure_shows_itself_in_jupyter() -> None:
    assert canvas.blank(1, 1)._repr_png_().startswith(b"\x89PNG")
