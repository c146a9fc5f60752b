"""The same call of ``nn.functional`` on PyTorch and on tensorgrad: values, gradients, errors.

``F`` is the module of functions, ``m`` the library; the inputs are in :func:`inputs`.
"""

from __future__ import annotations

import re
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nn.functional
import tensorgrad

KINDS = (IndexError, NotImplementedError, TypeError, ValueError, AssertionError, RuntimeError)


def expressions(text: str) -> list[str]:
    return [e for part in text.replace("\n", ";").split(";") if (e := part.strip())]


def inputs(m: ModuleType) -> dict[str, Any]:
    """Tensors of every kind by name; the float64 ones are leaves that require grad."""
    rng = np.random.default_rng(0)

    def leaf(array: Any) -> Any:
        return m.tensor(np.asarray(array), dtype=m.float64).requires_grad_()

    def normal(*shape: int) -> Any:
        return leaf(rng.standard_normal(shape))

    def classes(high: int, *shape: int) -> Any:
        return m.tensor(rng.integers(0, high, shape))

    def probabilities(*shape: int) -> Any:
        e = np.exp(rng.standard_normal(shape))
        return leaf(e / e.sum(1, keepdims=True))

    made = {
        "x": leaf(rng.permutation(24).reshape(2, 3, 4) * 0.1 - 1.13),  # no ties, no zeros
        "y": leaf(rng.permutation(24).reshape(2, 3, 4) * 0.1 - 1.08),
        "k": leaf([-1e4, -100, -6, -3, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 3, 6, 30, 1e4]),  # kinks
        "n": leaf([np.nan, np.inf, -np.inf]),
        "a": normal(5, 3), "c": normal(5, 3), "d": normal(5, 3), "v": normal(4), "h": normal(3),
        "s": normal(2, 4, 9), "im": normal(2, 4, 6, 7), "vol": normal(1, 2, 4, 3, 4),
        "ties": leaf(np.maximum(rng.integers(-2, 3, (2, 2, 5, 6)), 0)),
        "w1": normal(6, 4, 3), "w2": normal(6, 4, 3, 2), "wg": normal(6, 2, 3, 2),
        "w3": normal(2, 2, 2, 2, 3), "w11": normal(5, 4, 1, 1), "tg": normal(4, 3, 3, 2),
        "b6": normal(6), "b2": normal(2), "u": normal(2, 8, 12), "p4": normal(2, 4),
        "w34": normal(4, 3, 4), "l": normal(5, 3), "t": classes(3, 5), "q": probabilities(5, 3),
        "cw": m.tensor([0.5, 2.0, 1.5], dtype=m.float64),
        "ld": normal(2, 3, 4, 2), "td": classes(3, 2, 4, 2), "qd": probabilities(2, 3, 4, 2),
        "ti": m.tensor([2, -100, 1, -100, 0]), "tn": m.tensor([-100] * 5), "t0": m.tensor(1),
        "pr": leaf(rng.uniform(0.05, 0.95, (5, 3))), "bits": leaf(rng.integers(0, 2, (5, 3))),
        "ends": leaf([0.0, 0.0, 1.0, 1.0, 1e-20, 0.5]), "eb": leaf([0.0, 1.0, 0.0, 1.0, 0.5, 0.5]),
        "sg": m.tensor([1, -1, 1, -1, -1]), "sf": leaf([1.0, -1.0, 1.0]),
        "z": leaf([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5]]), "z2": normal(2, 3),
        "cnt": leaf(rng.poisson(2.0, (5, 3))), "var": leaf(rng.uniform(0.1, 2, (5, 3))),
        "va": leaf(rng.uniform(0.1, 2, 5)), "tiny": leaf(np.full((5, 3), 1e-9)),
        "id": m.tensor([[1, 0, 3], [1, 1, 2]]), "tab": normal(4, 3),
        "rm": m.tensor(rng.standard_normal(4)), "rv": m.tensor(rng.uniform(0.5, 2, 4)),
        "f": m.tensor(rng.standard_normal((2, 4, 6, 7)), dtype=m.float32),
        "fw": m.tensor(rng.standard_normal((6, 4, 3, 2)), dtype=m.float32),
        "look": m.tensor(rng.random((2, 2)) < 0.6),
    }  # fmt: skip
    return {"m": m, "F": m.nn.functional, "np": np, "inf": float("inf"), **made}


def plain(value: Any) -> Any:
    if hasattr(value, "detach"):
        array = np.asarray(value.detach())
        return [str(array.dtype), array.shape, array.tolist()]
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def floats(value: Any) -> list[Any]:
    if hasattr(value, "requires_grad"):
        return [value] if value.requires_grad else []
    return [f for v in value for f in floats(v)] if isinstance(value, (tuple, list)) else []


def run(m: ModuleType, line: str) -> Any:
    """What a line gives and the gradients of an irregular weighting of it, or its error's kind."""
    names = inputs(m)
    try:
        value = eval(line, names)
    except KINDS as error:
        return next(kind for kind in KINDS if isinstance(error, kind)).__name__
    for k, out in enumerate(outs := floats(value)):
        weights = np.cos(np.arange(np.prod(out.shape)) + k).reshape(tuple(out.shape))
        out.backward(m.tensor(weights, dtype=out.dtype), retain_graph=k < len(outs) - 1)
    leaves = [t for t in names.values() if getattr(t, "requires_grad", False)]
    return plain(value), [None if t.grad is None else plain(t.grad) for t in leaves]


def same(ours: Any, theirs: Any, tolerance: float) -> bool:
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(same(a, b, tolerance) for a, b in zip(ours, theirs))
    if isinstance(theirs, float):
        return bool(np.isclose(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool(ours == theirs)


VALUES = expressions("""
    F.relu(x); F.relu(k); F.relu(x.clone(), inplace=True); F.relu_(x.clone()); F.leaky_relu(k);
    F.leaky_relu(x, 0.3); F.leaky_relu_(x * 1, 0.3); F.elu(k); F.elu(x, 0.5); F.elu_(x * 2, 0.5);
    F.selu(k); F.selu(x); F.selu_(x * 1); F.celu(k); F.celu(x, 0.5); F.celu(x, -0.5);
    F.celu_(x * 1, 2.0); F.gelu(x); F.gelu(x, approximate='tanh'); F.gelu(x, approximate='none');
    F.silu(k); F.silu(x); F.silu(x * 1, inplace=True); F.mish(k); F.mish(x);
    F.mish(x * 1, inplace=True); F.softplus(k); F.softplus(x, 2.0); F.softplus(k, 2.0, 5.0);
    F.softplus(k, threshold=1.0); F.softsign(k); F.sigmoid(x); F.sigmoid(k); F.logsigmoid(k);
    F.logsigmoid(x); F.tanh(k); F.hardtanh(k); F.hardtanh(x, -0.5, 0.7); F.hardtanh_(x * 1);
    F.hardtanh(x * 1, inplace=True); F.relu6(k); F.relu6(x * 1, inplace=True); F.hardswish(k);
    F.hardswish(x * 4, inplace=True); F.hardsigmoid(k.float());
    F.hardsigmoid(x.float() * 4, inplace=True); F.hardshrink(k); F.hardshrink(x, 0.2);
    F.softshrink(k); F.softshrink(x, 0.2); F.tanhshrink(x); F.threshold(k, 0.5, 7.0);
    F.threshold_(x * 1, 0.1, 2); F.threshold(x * 1, 0.1, 2, inplace=True); F.rrelu(x);
    F.rrelu(k, 0.1, 0.3); F.rrelu(x, 0.2, 0.2, True); F.rrelu_(x * 1); F.prelu(x, h);
    F.prelu(x, h[:1]); F.prelu(v, h[0]); F.prelu(k, h[:1]); F.glu(x); F.glu(x, 2); F.glu(im, 1);
    F.softmax(x, 1); F.softmax(x, dim=-1, dtype=m.float32); F.softmax(v); F.softmax(a);
    F.softmax(x); F.softmax(im); F.log_softmax(x, 1); F.log_softmax(f, 1, dtype=m.float64);
    F.softmin(x, 1); F.softmin(a, -1); F.relu(n); F.hardtanh(n); F.leaky_relu(n)

    F.linear(a, w2[0, 0, :, :1].T); F.linear(x, p4, b2); F.linear(v, p4);
    F.bilinear(a, p4[:1].expand(5, 4), m.ones(2, 3, 4, dtype=m.float64), b2);
    F.bilinear(x[..., :3], y, w34); F.embedding(id, tab); F.embedding(id, tab, padding_idx=1);
    F.embedding(id, tab, -3); F.embedding(id, tab.detach(), max_norm=0.5);
    F.embedding(id, tab.detach(), max_norm=0.5, norm_type=1.0); F.embedding(id.int(), tab);
    F.embedding(t0, tab); F.embedding(id[:0], tab); F.one_hot(t); F.one_hot(id, 6);
    F.one_hot(t[:0], 2); F.normalize(x); F.normalize(x, 1.0, 0); F.normalize(x * 0, dim=2);
    F.cosine_similarity(x, y); F.cosine_similarity(a, c, dim=0, eps=0.1);
    F.cosine_similarity(v, x, -1); F.pairwise_distance(a, c); F.pairwise_distance(a, c, 1.0, 1e-3);
    F.cosine_similarity(x[:, :1], y[0], 2); F.cosine_similarity(a, c, eps=2.0);
    F.pairwise_distance(v, v * 2, keepdim=True); F.pairwise_distance(x, y, p=3.0)

    F.layer_norm(x, (4,)); F.layer_norm(x, (3, 4), eps=0.1); F.layer_norm(x, [4], v, v * 2);
    F.layer_norm(f, (7,)); F.rms_norm(x, (4,)); F.rms_norm(x, (3, 4)); F.rms_norm(x, (4,), v, 0.1);
    F.rms_norm(f, (7,)); F.batch_norm(im, rm, rv); F.batch_norm(p4, rm, rv, v, v * 2);
    F.batch_norm(im, None, None, training=True); F.batch_norm(p4, None, None, v, v * 2, True);
    [F.batch_norm(im, rm, rv, v, v, True, 0.3, 0.1), rm, rv];
    [F.batch_norm(im, rm, rv, training=True, momentum=0.0), rm, rv]; F.instance_norm(im);
    F.instance_norm(im, weight=v, bias=v + 1, eps=0.1); [F.instance_norm(im, rm, rv), rm, rv];
    [F.instance_norm(im, rm, rv, use_input_stats=False), rm]; F.group_norm(im, 2);
    F.group_norm(im, 4, v, v * 2, 0.1); F.group_norm(p4, 1); F.group_norm(im, 2, v)

    F.dropout(x, 0.4, False); F.dropout(x, 1.0); F.dropout(x, 0.0); F.dropout(x, 0.5, False, True);
    F.dropout(x * 1, 1.0, inplace=True); F.dropout1d(x, 1.0); F.dropout1d(a, 0.5, False);
    F.dropout2d(im, 1.0); F.dropout2d(im, 0.3, training=False); F.dropout3d(vol, 1.0);
    F.dropout3d(vol, 0.0); F.alpha_dropout(x, 1.0, True); F.alpha_dropout(x, 0.4);
    F.alpha_dropout(x * 1, 1.0, True, True); F.local_response_norm(im, 3);
    F.local_response_norm(s, 4, 0.5, 1.5, 2.0); F.channel_shuffle(im, 2);
    F.channel_shuffle(vol, 1)

    F.conv1d(s, w1); F.conv1d(s, w1, b6, 2, 1); F.conv1d(s[0], w1, b6);
    F.conv1d(s, w1, padding='same'); F.conv1d(s, w1, padding='valid', stride=3);
    F.conv1d(s, w1, dilation=3, padding=2); F.conv2d(im, w2); F.conv2d(im, w2, b6);
    F.conv2d(im, w2, stride=2); F.conv2d(im, w2, b6, (1, 2), (2, 1), (2, 3));
    F.conv2d(im, w2, padding='same', dilation=(1, 2)); F.conv2d(im, wg, b6, groups=2);
    F.conv2d(im, wg, groups=2, stride=(2, 3), padding=1); F.conv2d(im, w2[:4, :1], groups=4);
    F.conv2d(im[1], w2, b6); F.conv2d(im, w11); F.conv2d(im, w11, stride=2);
    F.conv2d(im, w11, padding=1); F.conv2d(f, fw); F.conv2d(im[:0], w2); F.conv3d(vol, w3, b2);
    F.conv3d(vol, w3, padding='same'); F.conv2d(im.transpose(2, 3), w2);
    F.conv_transpose1d(s, w1.transpose(0, 1), b6); F.conv_transpose1d(s[0], w1.transpose(0, 1));
    F.conv_transpose1d(s, w1.transpose(0, 1), b6, 2, 1, 1); F.conv_transpose2d(im, tg, stride=2);
    F.conv_transpose2d(im, tg, h, (2, 3), (1, 0), (0, 2));
    F.conv_transpose2d(im, tg, b6, 2, 1, groups=2, dilation=(1, 2));
    F.conv_transpose2d(im, tg, dilation=3, output_padding=2, stride=2);
    F.conv_transpose2d(im, tg, padding=2); F.conv_transpose3d(vol, w3, b2, 2); F.unfold(im, 2);
    F.unfold(im, (2, 3), 2, 1, (1, 2)); F.unfold(im[0], 3, stride=3); F.fold(u, (5, 3), (2, 1));
    F.fold(u, (4, 5), 2); F.fold(u[0], (4, 5), 2); F.fold(u, (4, 6), 2, padding=1, stride=(2, 2));
    F.fold(u, (8, 9), (2, 2), 2, 0, 2)

    F.max_pool1d(s, 3); F.max_pool1d(s, 2, 3, 1); F.max_pool1d(s[0], 2, return_indices=True);
    F.max_pool2d(im, 2); F.max_pool2d(ties, 2); F.max_pool2d(ties, 3, 1, 1);
    F.max_pool2d(ties, 3, 2, 1, return_indices=True);
    F.max_pool2d(im, (2, 3), (1, 2), (1, 1), (2, 1)); F.max_pool2d(im, 2, ceil_mode=True);
    F.max_pool2d(im, 3, 2, 1, ceil_mode=True); F.max_pool2d(im[0], 3, 2, 1, 2, True, True);
    F.max_pool2d(f, 2); F.max_pool2d(-im.exp(), 2, padding=1); F.max_pool3d(vol, 2);
    F.max_pool3d(vol, 2, 1, 1, return_indices=True); F.avg_pool1d(s, 3);
    F.avg_pool1d(s, 4, 2, 1, True, False); F.avg_pool1d(s[0], 2); F.avg_pool2d(im, 2);
    F.avg_pool2d(im, 3, 2, 1); F.avg_pool2d(im, 3, 2, 1, ceil_mode=True);
    F.avg_pool2d(im, 3, 2, 1, True, False); F.avg_pool2d(im, (3, 2), (2, 3), (1, 0), True);
    F.avg_pool2d(im, 2, divisor_override=3); F.avg_pool2d(im[0], 2, 1, 1, count_include_pad=False);
    F.avg_pool3d(vol, 2); F.avg_pool3d(vol, 2, 1, 1, divisor_override=2);
    F.adaptive_avg_pool1d(s, 4); F.adaptive_avg_pool1d(s, 1); F.adaptive_avg_pool1d(s[0], 3);
    F.adaptive_avg_pool2d(im, 1); F.adaptive_avg_pool2d(im, (4, 5));
    F.adaptive_avg_pool2d(im, (None, 3)); F.adaptive_avg_pool2d(im, (8, 9));
    F.adaptive_avg_pool3d(vol, 2); F.adaptive_max_pool1d(s, 4);
    F.adaptive_max_pool2d(im, (4, 3), return_indices=True); F.adaptive_max_pool2d(ties, 3);
    F.adaptive_max_pool2d(im[0], (None, 2)); F.adaptive_max_pool3d(vol, 2, True)

    F.pad(x, (1, 2)); F.pad(x, (1, 2), value=3.5); F.pad(x, (1, 0, 0, 2, 1, 1)); F.pad(x, (-1, 2));
    F.pad(x, (-1, -2, 1, -1), value=1.0); F.pad(x, ()); F.pad(s, (2, 3), 'reflect');
    F.pad(s[0], (2, 3), 'reflect'); F.pad(im, (1, 1, 1, 1, 1, 1), 'reflect');
    F.pad(im, (2, 3, 5, 1), 'reflect'); F.pad(s, (12, 3), 'replicate');
    F.pad(im, (0, 2, 9, 1), 'replicate'); F.pad(vol, (1, 2, 1, 0, 2, 2), 'replicate');
    F.pad(s, (9, 3), 'circular'); F.pad(im, (2, 0, 0, 6), 'circular');
    F.pad(im, (2, 0), 'constant', -inf); F.pad(vol, (1, 1, 2, 1, 3, 1), 'circular');
    F.pad(vol, (1, 1, 2, 1, 3, 1), 'reflect'); F.interpolate(im, scale_factor=2);
    F.interpolate(im, size=(4, 9)); F.interpolate(im, 5); F.interpolate(s, scale_factor=1.7);
    F.interpolate(s, 20); F.interpolate(vol, scale_factor=(1, 2, 1.5));
    F.interpolate(s, 20, mode='nearest-exact'); F.interpolate(im, (4, 9), mode='nearest-exact');
    F.interpolate(im, scale_factor=0.6);
    F.interpolate(im, scale_factor=0.6, recompute_scale_factor=True);
    F.interpolate(im, scale_factor=2.3, mode='bilinear');
    F.interpolate(im, (4, 9), mode='bilinear');
    F.interpolate(im, (4, 9), mode='bilinear', align_corners=True);
    F.interpolate(f, (9, 9), mode='bilinear');
    F.interpolate(im, (1, 9), mode='bilinear', align_corners=True);
    F.interpolate(s, 17, mode='linear');
    F.interpolate(im, scale_factor=2.3, mode='bilinear', recompute_scale_factor=True);
    F.interpolate(s, scale_factor=0.4, mode='linear', align_corners=True);
    F.interpolate(vol, (3, 5, 6), mode='trilinear'); F.interpolate(im, (9, 4), mode='bicubic');
    F.interpolate(im, scale_factor=1.9, mode='bicubic', align_corners=True);
    F.interpolate(im, scale_factor=1.9, mode='bicubic'); F.interpolate(im, (4, 5), mode='area');
    F.interpolate(s, scale_factor=0.5, mode='area');
    F.upsample(im, scale_factor=2, mode='bilinear'); F.pixel_shuffle(im, 2);
    F.pixel_shuffle(im[0], 2); F.pixel_unshuffle(im[..., :6], 2); F.pixel_unshuffle(im[..., :6], 3)

    F.cross_entropy(l, t); F.cross_entropy(l, t, reduction='sum');
    F.cross_entropy(l, t, reduction='none'); F.cross_entropy(l, t, ignore_index=2);
    F.cross_entropy(l, ti); F.cross_entropy(l * 1e4, t); F.cross_entropy(l, t, cw);
    F.cross_entropy(l, ti, cw, reduction='none'); F.cross_entropy(l, ti, cw);
    F.cross_entropy(l, t, label_smoothing=0.1); F.cross_entropy(l, ti, cw, label_smoothing=0.3);
    F.cross_entropy(l, t, cw, ignore_index=1, label_smoothing=0.3, reduction='sum');
    F.cross_entropy(l[0], t0); F.cross_entropy(l[0], t0, cw, reduction='none');
    F.cross_entropy(ld, td); F.cross_entropy(ld, td, cw, ignore_index=0);
    F.cross_entropy(ld, td, reduction='none');
    F.cross_entropy(ld, td, cw, label_smoothing=0.2, reduction='none'); F.cross_entropy(l, q);
    F.cross_entropy(l, q, cw); F.cross_entropy(l, q, cw, label_smoothing=0.2);
    F.cross_entropy(ld, qd, cw); F.cross_entropy(ld, qd, reduction='none');
    F.cross_entropy(l, q, reduction='sum'); F.cross_entropy(l[0], q[0]);
    F.cross_entropy(l, t, size_average=False); F.cross_entropy(l, t, None, None, -100, False);
    F.cross_entropy(l[:0], t[:0], reduction='sum'); F.cross_entropy(f[0, 0], t[:1].expand(6));
    F.nll_loss(l, t); F.nll_loss(l, ti, cw); F.nll_loss(l, t, cw, reduction='none');
    F.nll_loss(ld, td, ignore_index=1); F.nll_loss(ld, td, cw, reduction='sum');
    F.nll_loss(l[0], t0, cw); F.binary_cross_entropy(pr, bits);
    F.binary_cross_entropy(pr, q, reduction='none'); F.binary_cross_entropy(pr, bits, cw);
    F.binary_cross_entropy(pr, bits, var.detach(), reduction='sum');
    F.binary_cross_entropy(ends.float(), eb.float().detach());
    F.binary_cross_entropy(ends.float(), ends.float().detach(), reduction='none');
    F.binary_cross_entropy_with_logits(l, bits); F.binary_cross_entropy_with_logits(l, q, cw);
    F.binary_cross_entropy_with_logits(l, bits, pos_weight=cw);
    F.binary_cross_entropy_with_logits(k, k * 0);
    F.binary_cross_entropy_with_logits(k, k * 0 + 1, reduction='none');
    F.binary_cross_entropy_with_logits(l, bits, cw, pos_weight=cw, reduction='sum');
    F.multilabel_soft_margin_loss(l, bits);
    F.multilabel_soft_margin_loss(l, bits, cw, reduction='none');
    F.soft_margin_loss(h, sf.detach()); F.soft_margin_loss(h, sf.detach(), reduction='sum');
    F.kl_div(l, q); F.kl_div(l, q, reduction='batchmean');
    F.kl_div(z2, z.detach(), reduction='none'); F.kl_div(l, c, log_target=True, reduction='sum');
    F.kl_div(z2, z2, reduction='batchmean', log_target=True)

    F.mse_loss(a, c); F.mse_loss(a, c, reduction='none');
    F.mse_loss(a, c, reduction='sum', weight=pr); F.mse_loss(a, c, weight=pr); F.mse_loss(a, h);
    F.mse_loss(a, c, False); F.l1_loss(a, c); F.l1_loss(a, a); F.l1_loss(a, c, weight=pr);
    F.l1_loss(a, c, reduction='none', weight=pr); F.smooth_l1_loss(a, c);
    F.smooth_l1_loss(a, c, beta=0.5, reduction='none'); F.smooth_l1_loss(a, c, beta=0.0);
    F.smooth_l1_loss(k, k * 0); F.huber_loss(a, c); F.huber_loss(a, c, 'none', 0.5);
    F.huber_loss(k, k * 0, 'sum', 3.0); F.huber_loss(a, c, weight=pr); F.poisson_nll_loss(l, cnt);
    F.poisson_nll_loss(l, cnt, full=True);
    F.poisson_nll_loss(var, cnt, False, True, reduction='none'); F.gaussian_nll_loss(a, c, var);
    F.gaussian_nll_loss(a, c, va);
    F.gaussian_nll_loss(a, c, var[:, :1], full=True, reduction='sum');
    F.gaussian_nll_loss(a, c, 0.5); F.gaussian_nll_loss(a, c, tiny, eps=1e-3, reduction='none');
    F.cosine_embedding_loss(a, c, sg); F.cosine_embedding_loss(a, c, sg, -0.5, reduction='none');
    F.cosine_embedding_loss(a[0], c[0], t0); F.margin_ranking_loss(a[:, 0], c[:, 0], sg, 0.5);
    F.margin_ranking_loss(a[:, 0], a[:, 0], sg); F.hinge_embedding_loss(a[:, 0], sg);
    F.hinge_embedding_loss(a[:, 0], sg, 0.5, reduction='none'); F.triplet_margin_loss(a, c, d);
    F.triplet_margin_loss(a, c, d, 0.5, 1.0, swap=True, reduction='none');
    F.triplet_margin_loss(h, sf, h * 2)

    F.scaled_dot_product_attention(x, y, y);
    F.scaled_dot_product_attention(x, y, y, is_causal=True);
    F.scaled_dot_product_attention(x, y, y, scale=0.3);
    F.scaled_dot_product_attention(x[:, :2], y[:, 1:], y[:, 1:], look | ~look);
    F.scaled_dot_product_attention(x[:, :2], y[:, 1:], y[:, 1:], p4[:, :2])
""")

ERRORS = expressions("""
    F.linear(a, p4); F.bilinear(a, c, p4[None]); F.embedding(id + 3, tab); F.embedding(id - 4, tab);
    F.embedding(a, tab); F.embedding(id, tab, padding_idx=4); F.embedding(id, tab, padding_idx=-5);
    F.one_hot(t, 1); F.one_hot(t - 1, 3); F.one_hot(t.int()); F.one_hot(t[:0]);
    F.layer_norm(x, (3,)); F.rms_norm(x, (3,)); F.batch_norm(im, None, None);
    F.batch_norm(im, rm[:3], rv); F.batch_norm(im, rm, rv, h);
    F.batch_norm(p4[:1], rm, rv, training=True); F.group_norm(im, 3);
    F.instance_norm(im[..., :1, :1]); F.gelu(x, approximate='exact'); F.celu(x, 0.0);
    F.hardtanh(x, 1.0, -1.0); F.softshrink(x, -1.0); F.rrelu(x, 0.5, 0.1); F.prelu(x, p4[0]);
    F.glu(h); F.glu(h[0]); F.softmax(x, 3); F.relu_(x); F.elu_(x); F.dropout(x, 1.5);
    F.dropout(x, -0.1); F.dropout1d(im, 0.5); F.conv1d(im, w1); F.conv2d(s, w2); F.conv2d(im, w1);
    F.conv2d(im, wg); F.conv2d(im, w2, groups=2); F.conv2d(im, w2, h); F.conv2d(im, w2, stride=0);
    F.conv2d(im, w2, padding=-1); F.conv2d(im, w2, stride=(1, 2, 3)); F.conv2d(im, w2, dilation=4);
    F.conv2d(im, w2, stride=2, padding='same'); F.conv2d(im, w2, padding='both'); F.conv2d(f, w2);
    F.conv_transpose2d(im, w2); F.conv_transpose2d(im, tg, output_padding=1);
    F.conv_transpose2d(im, tg, groups=3); F.conv_transpose2d(im[..., :1], tg, padding=3);
    F.unfold(im, 8); F.fold(u, (4, 4), 2); F.fold(u[:, :7], (4, 5), 2);
    F.max_pool2d(im, 2, padding=2); F.max_pool2d(im, 9); F.max_pool2d(s[0], 2);
    F.max_pool2d(im, 2, 0); F.max_pool2d(im, (2, 2, 2)); F.avg_pool2d(im, 2, padding=2);
    F.avg_pool2d(im, 9); F.avg_pool2d(im, 2, divisor_override=0);
    F.adaptive_avg_pool2d(im, (2, 2, 2)); F.adaptive_avg_pool2d(im[0, 0], 2);
    F.adaptive_max_pool2d(im, -1); F.pad(x, (1, 2, 3)); F.pad(h, (1, 1, 1, 1)); F.pad(x, (-3, -2));
    F.pad(s, (9, 0), 'reflect'); F.pad(s, (10, 0), 'circular'); F.pad(s, (1, 1), 'mirror');
    F.pad(s, (1, 1), 'reflect', 2.0); F.interpolate(im); F.interpolate(im, 3, 2.0);
    F.interpolate(im, 3, mode='linear'); F.interpolate(s, 3, mode='bilinear');
    F.interpolate(im, (3, 3, 3)); F.interpolate(im, 3, mode='best');
    F.interpolate(im, 3, align_corners=True); F.interpolate(im, 0); F.interpolate(a, 3);
    F.pixel_shuffle(im, 3); F.pixel_unshuffle(im, 2); F.channel_shuffle(im, 3);
    F.channel_shuffle(h, 1); F.local_response_norm(a, 2); F.layer_norm(id, (3,));
    F.alpha_dropout(x, 1.5, True); F.cross_entropy(l, t[:3]);
    F.cross_entropy(l, t + 1); F.cross_entropy(l, t - 1); F.cross_entropy(l, t, h[:2]);
    F.cross_entropy(l, l[0]); F.cross_entropy(l, q, ignore_index=1);
    F.cross_entropy(l, t, reduction='best'); F.cross_entropy(l, t, label_smoothing=1.5);
    F.cross_entropy(ld, td[:, :2]); F.cross_entropy(l, l[:, 0]); F.nll_loss(l, t + 1);
    F.nll_loss(l, q); F.nll_loss(l, t[:3]); F.binary_cross_entropy(pr, q[:2]);
    F.binary_cross_entropy(pr + 1, q); F.binary_cross_entropy_with_logits(l, q[:2]);
    F.mse_loss(a, c, weight=h); F.mse_loss(a, c, reduction='best'); F.mse_loss(a, v);
    F.smooth_l1_loss(a, c, beta=-1.0); F.huber_loss(a, c, delta=0.0);
    F.poisson_nll_loss(l, cnt, reduction='best'); F.gaussian_nll_loss(a, c, -var);
    F.gaussian_nll_loss(a, c, var[:2]); F.cosine_embedding_loss(a, c, a);
    F.margin_ranking_loss(a, c, t); F.triplet_margin_loss(a, c, d[0]);
    F.triplet_margin_loss(a, c, d, margin=-1.0);
    F.scaled_dot_product_attention(x, y, y, look, is_causal=True); F.kl_div(l, q, reduction='best')
""")  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("line", VALUES)
def test_values_and_gradients(torch: ModuleType, line: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = run(torch, line)
        warnings.filterwarnings("error", category=DeprecationWarning)
        ours = run(tensorgrad, line)
    assert not isinstance(theirs, str), f"PyTorch refuses this: {theirs}"
    tolerance = 2e-5 if "float32" in str(theirs) else 1e-9
    assert same(ours, theirs, tolerance), f"tensorgrad: {ours}\nPyTorch:    {theirs}"


@pytest.mark.torch
@pytest.mark.parametrize("line", ERRORS)
def test_errors(torch: ModuleType, line: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = run(torch, line), run(tensorgrad, line)
    assert isinstance(theirs, str), f"PyTorch accepts this: {theirs}"
    assert ours == theirs


def test_every_function_is_compared() -> None:
    called = set(re.findall(r"\bF\.(\w+)\(", ";".join(VALUES)))
    assert set(nn.functional.__all__) - called == set()
