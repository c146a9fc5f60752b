"""Fused ops: the composites. Each is the definition that a backend's kernel must agree with."""

from __future__ import annotations

from ..core import accelerated, fused, op

SQRT_HALF = 0.7071067811865476
SQRT_2_OVER_PI = 0.7978845608028654


def _linears(source):
    yield (source.normal(4, 3), source.normal(2, 3), source.normal(2)), {}
    yield (source.normal(2, 2, 3), source.normal(2, 3), None), {}
    yield (source.normal(3), source.normal(2, 3), source.normal(2)), {}
    yield (source.normal(0, 3), source.normal(2, 3), source.normal(2)), {}
    yield (source.normal(2, 3).T, source.normal(2, 2).T, source.normal(2)), {}


@fused(samples=_linears)
def linear(xp, x, weight, bias):
    """x [..., in] times weight [out, in] transposed, plus bias [out] or None → [..., out]."""
    y = x @ xp.swapaxes(weight, 0, 1)
    return y if bias is None else y + bias


def _linears_onto(source):
    for (x, weight, bias), _ in _linears(source):
        yield (x, weight, bias, source.normal(*x.shape[:-1], weight.shape[0])), {}
    yield (source.normal(4, 3), source.normal(2, 3), None, source.normal(2, 4).T), {}
    yield (source.normal(4, 3), source.normal(2, 3), source.normal(2), source.normal(4, 1)), {}


@fused(samples=_linears_onto)
def linear_add(xp, x, weight, bias, residual):
    """:func:`linear` plus a residual that is broadcast to it: y = x Wᵀ + b + r."""
    y = xp.linear(x, weight, bias)
    return y + xp.broadcast_to(residual, y.shape)


@fused(samples=_linears)
def linear_relu(xp, x, weight, bias):
    """max(x Wᵀ + b, 0)."""
    return xp.relu(xp.linear(x, weight, bias))


def _linears_before_gelu(source):
    for i, (arguments, _) in enumerate(_linears(source)):
        yield arguments, {"approximate": ("none", "tanh")[i % 2]}


@fused(samples=_linears_before_gelu)
def linear_gelu(xp, x, weight, bias, /, approximate="none"):
    """:func:`gelu` of x Wᵀ + b."""
    return xp.gelu(xp.linear(x, weight, bias), approximate=approximate)


def _norms(source):
    yield (source.normal(2, 3, 4), source.normal(4), source.normal(4)), {"eps": 1e-5}
    yield (source.normal(3, 4), source.normal(4), None), {"eps": 1e-2}
    yield (source.normal(4), None, None), {"eps": 1e-5}
    yield (source.normal(2, 2, 3), source.normal(2, 3), source.normal(2, 3)), {"dims": 2}
    yield (source.normal(0, 4), source.normal(4), source.normal(4)), {}
    yield (source.normal(4, 3).T, source.normal(4), source.normal(4)), {}


@fused(samples=_norms)
def layer_norm(xp, x, weight, bias, /, eps=1e-5, dims=1):
    """Normalise over the last ``dims`` axes, then scale and shift (Ba et al. 2016)."""
    axes = tuple(range(-dims, 0))
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    y = centred / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _rms_norms(source):
    yield (source.normal(2, 3, 4), source.normal(4)), {"eps": 1e-5}
    yield (source.normal(4), None), {"eps": 1e-5}
    yield (source.normal(2, 2, 3), source.normal(2, 3)), {"dims": 2}
    yield (source.normal(0, 4), source.normal(4)), {}
    yield (source.normal(4, 3).T, source.normal(4)), {}


@fused(samples=_rms_norms)
def rms_norm(xp, x, weight, /, eps=1e-5, dims=1):
    """Divide by the root of the mean square over the last ``dims`` axes, then scale.

    Source: Zhang & Sennrich 2019, eq. 4.
    """
    mean_square = xp.mean(x * x, axis=tuple(range(-dims, 0)), keepdims=True)
    y = x / xp.sqrt(mean_square + eps)
    return y if weight is None else y * weight


def _gelus(source):
    for shape in ((), (3,), (2, 3), (0, 2)):
        for approximate in ("none", "tanh"):
            yield (source.normal(*shape),), {"approximate": approximate}
    yield (source.normal(3, 2).T,), {}


@fused(samples=_gelus)
def gelu(xp, x, /, approximate="none"):
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016, eq. 2)."""
    if approximate == "tanh":
        return 0.5 * x * (1 + xp.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + xp.erf(x * SQRT_HALF))


def _classifications(source):
    yield (source.normal(4, 3), source.integers(3, 4)), {}
    yield (source.normal(4, 3), source.integers(3, 4)), {"label_smoothing": 0.2}
    yield (source.normal(4, 3), source.integers(3, 4)), {"ignore_index": 1}
    yield (source.normal(1, 1), source.integers(1, 1)), {}
    yield (source.normal(0, 3), source.integers(3, 0)), {}


@fused(samples=_classifications)
def cross_entropy(xp, logits, targets, /, ignore_index=-100, label_smoothing=0.0):
    """-log softmax(logits)[target] of each row: [n, classes] and integers [n] → [n].

    Rows whose target is ``ignore_index`` give 0. Label smoothing as in Szegedy et al. 2015.
    """
    ignored = targets == ignore_index
    log_p = xp.log_softmax(logits, axis=-1)
    target = xp.expand_dims(xp.where(ignored, 0, targets), axis=-1)
    loss = -xp.squeeze(xp.take_along_axis(log_p, target, axis=-1), axis=-1)
    if label_smoothing:
        uniform = -xp.mean(log_p, axis=-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return xp.where(ignored, 0.0, loss)


def _probabilities(source):
    for shape in ((), (3,), (2, 3), (0, 2)):
        yield (source.uniform(0.1, 0.9, *shape), source.uniform(0, 1, *shape)), {}
    yield (source.uniform(0.1, 0.9, 3, 2).T, source.uniform(0, 1, 2, 3)), {}


def _log_from_100(xp, log, inside):
    """A logarithm where ``inside`` says that it is finite, nowhere less than -100."""
    return xp.where(inside, xp.maximum(log, -100.0), -100.0)


@fused(samples=_probabilities)
def binary_cross_entropy(xp, p, target):
    """-(target log p + (1 - target) log(1 - p)), elementwise, for arrays of one shape."""
    some, not_all = p > 0, p < 1
    log_p = _log_from_100(xp, xp.log(xp.where(some, p, 1.0)), some)
    log_q = _log_from_100(xp, xp.log1p(-xp.where(not_all, p, 0.0)), not_all)
    return -(target * log_p + (1 - target) * log_q)


def _dropouts(source):
    for shape in ((), (3,), (2, 3), (0, 2)):
        yield (source.normal(*shape), source.mask(*shape)), {"p": 0.2}
    yield (source.normal(2, 3, 2), source.mask(2, 3, 1)), {"p": 0.5}  # whole channels
    yield (source.normal(3, 2).T, source.mask(2, 3)), {"p": 1.0}


@accelerated("dropout")
def _dropped(xp, x, keep, p):
    return x * (xp.astype(keep, x.dtype) * (1 / (1 - p) if p < 1 else 0.0))


@op(samples=_dropouts)
def dropout(xp, x, keep, /, p):
    """x / (1 - p) where ``keep``, else 0; the caller has drawn what is kept.

    An op and no composite, so that a node keeps ``keep`` alone; its derivative is the same again.
    """
    return _dropped(xp, x, keep, p=p)


dropout.vjp(lambda xp, g, keep, p: _dropped(xp, g, keep, p=p), None)


def _attentions(source):
    q, k, v = source.normal(2, 2, 3, 4), source.normal(2, 2, 3, 4), source.normal(2, 2, 3, 2)
    seeds = source.integers(2**32, 2, 2)
    mask = source.mask(3, 3)
    mask[0] = False  # a row that may look at nothing gives 0
    yield (q, k, v, None, None), {"scale": 0.5}
    yield (q, k, v, None, None), {"scale": 0.5, "causal": True}
    yield (q, k, v, mask, None), {"scale": 0.7}
    yield (q, k, v, source.normal(2, 1, 3, 3), None), {"scale": 0.7}
    yield (q, k, v, None, seeds), {"scale": 0.5, "causal": True, "dropout": 0.4}
    yield (q, k, v, mask, seeds), {"scale": 0.5, "dropout": 0.4}
    yield (q[0, 0, :2], k[0, 0], v[0, 0], None, None), {"scale": 0.5, "causal": True}
    yield (source.normal(2, 1, 3, 4), k, v, None, None), {"scale": 0.5}


@fused(samples=_attentions)
def scaled_dot_product_attention(xp, q, k, v, mask, seeds, /, scale, causal=False, dropout=0.0):
    """softmax(scale q kᵀ, masked) v (Vaswani et al. 2017, eq. 1).

    q [..., n, d], k [..., m, d], v [..., m, e] → [..., n, e]. ``mask`` [..., n, m] is boolean
    (True: may look) or is added to the scores; ``causal``: query i sees the keys 0..i. A query that
    may look at nothing gives 0. ``dropout`` is the probability with which a weight is dropped;
    ``seeds`` [...], integers that the caller has drawn, decide which ones.
    """
    scores = (q @ xp.swapaxes(k, -1, -2)) * scale  # [..., n, m]
    allowed = None
    if causal:
        allowed = xp.tril(xp.ones(scores.shape[-2:], dtype="bool"), 0)
    if mask is not None and mask.dtype != "bool":
        finite = mask > -xp.inf
        scores = scores + xp.where(finite, mask, 0.0)
        mask = finite
    if mask is not None:
        allowed = mask if allowed is None else xp.logical_and(allowed, mask)
    if allowed is None:
        weights = xp.softmax(scores, axis=-1)
    else:
        # Not -inf, which would make 0/0 of a row without anything allowed.
        lowest = -6e4 if scores.dtype == "float16" else -1e30
        weights = xp.softmax(xp.where(allowed, scores, lowest), axis=-1)
        weights = xp.where(allowed, weights, 0.0)
    if seeds is not None:
        keep = xp.coin_flips(seeds, weights.shape[-2:], 1 - dropout)
        weights = xp.where(keep, weights * (1 / (1 - dropout) if dropout < 1 else 0.0), 0.0)
    return weights @ v
