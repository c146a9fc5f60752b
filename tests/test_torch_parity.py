"""The same line of code, run on PyTorch and on tensorgrad: values, dtypes, gradients, errors.

``m`` is the module: ``torch`` or ``tensorgrad``. The inputs are in :func:`inputs`.
"""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import tensorgrad
from tensorgrad import functions

pytestmark = pytest.mark.torch


def expressions(text):
    """What semicolons and line ends separate."""
    return [e for part in text.replace("\n", ";").split(";") if (e := part.strip())]


def inputs(m):
    """Tensors of every kind by name; the float ones are leaves that require grad."""
    rng = np.random.default_rng(0)

    def leaf(array):
        return m.tensor(array, dtype=m.float64).requires_grad_()

    return {
        "m": m,
        "np": np,
        "copy": copy,
        "x": leaf(rng.permutation(24).reshape(2, 3, 4) * 0.1 - 1.13),  # no ties, no zeros
        "y": leaf(rng.permutation(24).reshape(2, 3, 4) * 0.1 - 1.08),
        "p": leaf(rng.uniform(0.5, 2.5, (2, 3, 4))),
        "v": leaf(rng.standard_normal(4)),
        "t": leaf([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 0.0], [0.0, -1.0, 0.0, -1.0]]),  # ties
        "z": leaf([0.0, -0.0, 1.0, -2.0]),
        "n": leaf([1.0, np.nan, -np.inf, np.inf]),
        "s": leaf(0.7),  # 0-dim
        "o": leaf([[0.4]]),  # one element
        "e": leaf(np.zeros((0, 3))),
        "f": m.tensor(rng.standard_normal((3, 4)), dtype=m.float32).requires_grad_(),
        "i": m.tensor(rng.integers(0, 3, (2, 3, 4))),
        "u": m.tensor(rng.integers(0, 200, (3, 4)), dtype=m.uint8),
        "k": m.tensor([[2, 0], [1, 1]]),
        "j": m.tensor(1),
        "b": m.tensor(rng.integers(0, 2, (2, 3, 4)) > 0),
        "c": m.tensor([True, False]),
    }


def plain(value):
    """A result as arrays and Python values, so that those of both libraries compare."""
    if hasattr(value, "detach"):
        array = np.asarray(value.detach())
        return [str(array.dtype), array.shape, array.tolist()]
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def floats(value):
    """The tensors of a result through which gradients flow."""
    if hasattr(value, "requires_grad"):
        return [value] if value.requires_grad else []
    return [f for v in value for f in floats(v)] if isinstance(value, (tuple, list)) else []


def run(m, line):
    """What a line gives, with the gradients of an irregular weighting of it, or its error."""
    names = inputs(m)
    try:
        value = eval(line, names)
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        kinds = (IndexError, TypeError, ValueError, RuntimeError)
        return next(kind for kind in kinds if isinstance(error, kind)).__name__
    for k, out in enumerate(outs := floats(value)):
        weights = np.cos(np.arange(np.prod(out.shape)) + k).reshape(out.shape)
        out.backward(m.tensor(weights, dtype=out.dtype), retain_graph=k < len(outs) - 1)
    leaves = [t for t in names.values() if getattr(t, "requires_grad", False)]
    return plain(value), [None if t.grad is None else plain(t.grad) for t in leaves]


def same(ours, theirs):
    if isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, float):
        return ours == theirs or bool(np.isclose(ours, theirs, 1e-6, 1e-12, equal_nan=True))
    return ours == theirs


VALUES = expressions(
    """
    x + y; x - v; x * s; x / p; p ** x; p ** 2; x ** 2; x ** 3; z ** 2; z ** 0; z ** 1; p ** -0.5;
    p ** j; 2 ** x; 0 ** p; 2 - x; 2 / p; x * 3; -x; abs(x); x + i; x + b; i + b; i - 1; i * 2.5;
    i / 2; i / i.max(); b / 2; b * b; b + b; i ** 2; 2 ** i; f + x; f * s; f * 2;
    f + np.float64(2); 2.5 * f; f - u; u * 2; u + 2.5; -i; abs(i); ~b; ~i; ~u; b & ~b; b | c[0];
    m.bitwise_and(i, 2); m.bitwise_or(b, ~b); i.bitwise_xor(i + 1); u.bitwise_not();
    i & 1; i | i; i ^ 3; b ^ b; 1 | i; x > y; x >= 0; x == x; x != y; i == 1; i < 1.5; b == True;
    x == None; x != None; x == 'a'; x < i; m.add(x, y, alpha=2); m.sub(x, y, alpha=0.5);
    m.mul(x, v); m.div(x, p); m.maximum(t, t + 0); m.maximum(x, y); m.minimum(x, v);
    m.minimum(t, t[0]); m.where(x > 0, x, y); m.where(b, x, 0.0); m.where(b, 1, 0);
    m.where(b, 1.0, 2); m.where(b[0], v, x); m.where(b, i, 0.5); m.logical_and(b, ~b);
    m.logical_or(i, b); m.logical_not(x); m.logical_not(i); x.masked_fill(b, -1.0);
    x.masked_fill(b[0], float('-inf')); x.masked_fill(b, s); v.masked_fill(b, 2);
    i.masked_fill(b, 7); i.masked_fill(b, 2.5); b.masked_fill(b, False); m.eq(i, 1); m.ne(i, 1);
    m.lt(x, 0); m.le(x, y); m.gt(x, y); m.ge(x, v)

    p.log(); x.exp(); p.sqrt(); z.sqrt()[2]; x.sin(); x.cos(); x.tanh(); x.erf(); f.erf();
    x.relu(); z.relu(); n.relu(); x.sign(); z.abs(); x.neg(); i.exp(); i.sqrt(); b.sin();
    n.isnan(); n.isfinite(); i.isfinite(); x.pow(3); p.pow(y); x.clone(); x.softmax(-1);
    x.softmax(0); s.softmax(0); m.softmax(f, dim=1); m.softmax(f, 1, dtype=m.float64);
    e.softmax(1); x.log_softmax(1); f.double().log_softmax(-1); x.logsumexp(-1);
    x.logsumexp((0, 2));
    x.logsumexp(1, keepdim=True); m.tensor([-np.inf, -np.inf]).logsumexp(0)

    x.sum(); x.sum(0); x.sum(-1, keepdim=True); x.sum((0, 2)); x.sum((-1, 1), keepdim=True);
    x.sum([0]); x.sum(()); s.sum(); s.sum(0); s.sum(-1); e.sum(); e.sum(0); e.sum(1); b.sum();
    b.sum(1); u.sum(); i.sum(0); b.sum(dtype=m.float64); x.sum(dtype=m.float32); x.mean();
    x.mean(1); x.mean(()); x.amax(()); x.squeeze(()); x.mean((0, -1), keepdim=True);
    i.mean(dtype=m.float64); s.mean(); f.mean(); x.var(); x.var(0); x.var((0, 2));
    x.var(-1, keepdim=True); x.var(1, unbiased=False); x.var(1, correction=0);
    x.var(-1, correction=2); x.std(); x.std(2); x.std(0, unbiased=False); m.stack([v, v]).std(0);
    x.amax(); x.amax(1); x.amax((0, 1)); t.amax(); t.amax(0); t.amax(1, keepdim=True); t.amin();
    t.amin((0, 1)); t.max(); t.min(); x.max(); x.max(1); x.max(-1, keepdim=True); x.max(y);
    x.min(0); x.min(); x.min(y); s.max(0); s.min(-1); s.max(); i.max(); i.max(0); b.max();
    n.max(0)[0].isnan(); x.argmax(); x.argmax(0); x.argmax(-1, keepdim=True); x.argmin(1);
    t.argmax(1); t.argmin(); s.argmax(); s.argmax(0); n.argmax(); b.any(); b.any(1); b.all();
    b.all(-1, keepdim=True); i.any(0); x.all(); s.any(); e.any(); e.all(0); x.argsort();
    x.argsort(0); x.argsort(1, descending=True); x.sort(); x.sort(0, descending=True); s.sort();
    u.sort(1, descending=True)[0]; b.sort(1, descending=True)[0]; n.sort();
    n.sort(descending=True); x.topk(2); x.topk(2, 1); x.topk(1, 0, largest=False); x.topk(0);
    x.gather(1, i); x.gather(2, i); x.gather(-1, i[:, :2, :3]); v.gather(0, k[0])

    x.prod(); x.prod(1); x.prod(-1, True); z.prod(); z.prod(0); t.prod(); t.prod(0); t.prod(1);
    s.prod(); s.prod(0);
    e.prod(); e.prod(0); e.prod(1, keepdim=True); i.prod(); u.prod(1); b.prod(0);
    f.prod(0, dtype=m.float64); i.prod(dtype=m.float32);
    x.nansum(); n.nansum(); n.nansum(0); b.nansum(1); u.nansum(); n.nansum(dtype=m.float32);
    n[:1].nanmean(); n[:3].nanmean(0);
    x.nanmean((0, 2), True); f.nanmean(1, dtype=m.float64); x.count_nonzero(); t.count_nonzero(0);
    t.count_nonzero((0, 1)); i.count_nonzero((-1, 0)); n.count_nonzero(); b.count_nonzero(());
    x.var(False); x.var(0, False); x.var(0, True, True); x.var(None, False);
    x.var((0, 2), correction=0); x.var(1, correction=0.5); x.var(1, correction=None);
    x.var(0, correction=2); x.std(0, correction=2); x[:1].var(0); x[:1].std(0); s.var(); e.var();
    e.var(0); e.var(1); e.std(1); e.std(correction=0); x.std(False); x.std((0, 1), False, True);
    n.var(); n.std();
    m.var_mean(x); m.var_mean(x, 0); m.var_mean(x, (0, 2), correction=0, keepdim=True);
    m.var_mean(x, False); m.std_mean(x); m.std_mean(x, 1, False, True); m.std_mean(t, 0);
    m.std_mean(s, correction=0);
    n.max(); n.min(); n.amax(); n.amin(0); n[1:].max(0); n.min(0); n.argmax(0); n.argmin();
    n.argmin(0, True); x.argmax(keepdim=True); e.argmax(1); e.max(1); e.amax(1); e.amin(1);
    u.argmax(); u.max(1); b.max(0); b.amax(1); b.min();
    x.aminmax(); x.aminmax(dim=1); t.aminmax(dim=0, keepdim=True); t.aminmax();
    t.aminmax(keepdim=True); n.aminmax(); s.aminmax(dim=0); b.aminmax(); i.aminmax(dim=-1);
    e.aminmax(dim=1);
    b.any((0, 2)); b.all((0, -1), keepdim=True); b.any(()); x.all(()); b.all(dim=[]); u.any();
    u.all(1); i.any((0, 1)); e.all((0, 1)); e.any(0); u.any(());
    n.logsumexp(0); m.tensor([-np.inf, np.inf]).logsumexp(0); e.logsumexp(0); e.logsumexp(1);
    i.logsumexp(2); b.logsumexp(0); x.logsumexp((0, 1, 2)); e.softmax(0); e.log_softmax(0);
    x.cumsum(0); x.cumsum(-1); x.cumsum(dim=1, dtype=m.float32); s.cumsum(0); e.cumsum(0);
    e.cumsum(1); b.cumsum(0); u.cumsum(1); i.cumsum(1); f.cumsum(0); n.cumsum(0);
    b.cumsum(2, dtype=m.float64);
    x.cumprod(0); x.cumprod(-1); t.cumprod(0); t.cumprod(1); z.cumprod(0); s.cumprod(-1);
    e.cumprod(1); b.cumprod(0); u.cumprod(1); i.cumprod(1); f.cumprod(0);
    f.cumprod(1, dtype=m.float64); p.cumprod(1);
    x.clone().cumsum_(1); x.clone().cumprod_(1); t.clone().cumprod_(1); u.clone().cumsum_(1);
    u.clone().cumprod_(0); x.clone().cumsum_(dim=0);
    x.logcumsumexp(1); (x * 100).logcumsumexp(-1); f.logcumsumexp(0); s.logcumsumexp(0);
    e.logcumsumexp(0); n.logcumsumexp(0); m.log(p - p[:1]).logcumsumexp(0); n[3:].logcumsumexp(0);
    m.cat([v, n[3:], v]).logcumsumexp(0); m.cat([n[2:3], v]).logcumsumexp(0);
    x.cummax(1); x.cummin(-1); t.cummax(0); t.cummax(1); t.cummin(1); n.cummax(0); n.cummin(0);
    m.cat([v, n, v, n]).cummax(0); i.cummax(2); b.cummin(0); u.cummax(1); s.cummax(0);
    s.cummin(-1); e.cummax(0); e.cummin(1);
    x.median(); x.median(1); x.median(-1, True); x.median(0); t.median(); t[0].median();
    t[1].median(); n.median(); n.median(0); n[1:2].median(); m.cat([n, n]).median();
    m.cat([n, v]).nanmedian(); n.nanmedian(); n.nanmedian(0); n[1:2].nanmedian();
    n[1:2].nanmedian(0); s.median(); s.median(0); e.median(); e.nanmedian(); e.median(1);
    x.nanmedian(2); i.median(); u.median(1)[0]; i[0, 0, :0].median(); i.nanmedian();
    i[:, :, :3].median(2)[0]; m.stack([n, v]).median(1); m.stack([n, v]).nanmedian(0);
    x.kthvalue(1, 0); x.kthvalue(3, 1); x.kthvalue(2); x.kthvalue(4, keepdim=True); n.kthvalue(4);
    n.kthvalue(1); s.kthvalue(1); e.kthvalue(2, 1); u.kthvalue(2, 1)[0]; i.kthvalue(2)[0];
    t.mode(); t.mode(0); t.mode(1, True); i.mode(); i.mode(0, keepdim=True); b.mode(1); u.mode(1);
    s.mode(); e.mode(1); x.mode(1);
    x.quantile(0.3); x.quantile(0.3, 1); x.quantile(0.5, -1, True);
    x.quantile(m.tensor([0.1, 0.5, 1.0], dtype=m.float64));
    x.quantile(m.tensor([0.1, 0.9], dtype=m.float64), 1);
    x.quantile(m.tensor([0.0, 0.9], dtype=m.float64), 0, keepdim=True);
    x.quantile(m.tensor([0.2, 0.9], dtype=m.float64), keepdim=True);
    x.quantile(m.tensor(0.2, dtype=m.float64), 1, True); x.quantile(0.4, keepdim=True);
    x.quantile(0.3, 1, interpolation='lower'); x.quantile(0.3, 1, interpolation='higher');
    x.quantile(0.3, 2, interpolation='nearest'); x.quantile(0.3, 2, interpolation='midpoint');
    x.quantile(0.5, 1, interpolation='midpoint'); x.quantile(1, 1); x.quantile(0, 2);
    f.quantile(0.77, 1); n.quantile(0.5); n.nanquantile(0.4); n[:1].quantile(0.5);
    n[1:2].nanquantile(0.5); s.quantile(0.5); s.quantile(0.5, 0); s.quantile(0.5, 0, True);
    m.stack([n, v]).nanquantile(m.tensor([0.2, 0.9], dtype=m.float64), 0);
    m.stack([n, v]).quantile(0.7, 1); m.stack([n[:3], v[:3]]).nanquantile(0.1, 1, True);
    x.quantile(m.tensor([], dtype=m.float64), 1); x.quantile(s.detach().requires_grad_(), 1);
    x.quantile(m.sigmoid(v), 1);
    x.sort(stable=True); x.sort(dim=0, stable=True, descending=True); x.sort(dim=1, stable=None);
    i.sort(stable=True); i.sort(dim=0, stable=True, descending=True); b.sort(dim=1, stable=True);
    e.sort(); e.sort(0); s.sort(0, True); i.argsort(stable=True);
    i.argsort(dim=0, descending=True, stable=True); s.argsort(); s.argsort(-1, True);
    e.argsort(0); x.msort(); i.msort(); s.msort(); e.msort(); n.msort();
    x.topk(2, sorted=True); x.topk(2, -1, False, True); n.topk(2)[0]; n.topk(3, largest=False)[0];
    m.cat([n, n]).topk(3)[0]; s.topk(1); s.topk(0); e.topk(0, 0); e.topk(2, 1);
    x.topk(3, 1, sorted=True)[0].sum(); i.topk(2)[0]; u.topk(3, 0, False);
    i.unique(); i.unique(True, True, True); i.unique(return_counts=True);
    i.unique(return_inverse=True); i.unique(dim=0);
    i.unique(dim=1, return_inverse=True, return_counts=True);
    i.unique(dim=2, return_inverse=True, return_counts=True); i.unique(dim=-1);
    k.unique(dim=0, return_inverse=True);
    m.unique(i[:, :, :2].reshape(-1, 2), dim=0, return_inverse=True, return_counts=True);
    m.unique(i[:, 0] % 2, False, False, True, 0); b.unique(return_counts=True); u.unique();
    n.detach().unique(return_counts=True);
    m.cat([n, z, n]).detach().unique(return_inverse=True, return_counts=True);
    j.unique(return_inverse=True, return_counts=True);
    e.detach().unique(return_inverse=True, return_counts=True);
    e.detach().unique(dim=0, return_inverse=True, return_counts=True);
    m.stack([n, n]).detach().unique(dim=0, return_inverse=True, return_counts=True);
    b.unique(dim=1, return_inverse=True);
    i.unique_consecutive(); i.unique_consecutive(True, True);
    i.unique_consecutive(return_inverse=True, dim=2);
    m.unique_consecutive(i % 2, return_counts=True);
    b.unique_consecutive(return_counts=True, return_inverse=True);
    k.unique_consecutive(True, True, 1); n.detach().unique_consecutive();
    j.unique_consecutive(True, True); e.detach().unique_consecutive(True, True);
    e.detach().unique_consecutive(True, True, 0); t.detach().unique_consecutive(True, True);
    m.cat([n, n]).detach().unique_consecutive(True, True);
    t[[0, 0, 2, 0]].detach().unique_consecutive(True, True, 0);
    m.searchsorted(x.detach().sort(-1)[0], y.detach());
    m.searchsorted(t.detach().sort()[0], t.detach(), right=True);
    m.searchsorted(t.detach().sort()[0], t.detach(), side='right');
    m.searchsorted(t.detach().sort()[0], t.detach());
    m.searchsorted(t[0].detach().sort()[0], x.detach());
    m.searchsorted(v.detach(), x.detach(), sorter=v.detach().argsort());
    m.searchsorted(v.detach().sort()[0], 0.3); m.searchsorted(k[0].sort()[0], 1);
    m.searchsorted(k[0].sort()[0], 1.5); m.searchsorted(k[0].sort()[0], x.detach());
    m.searchsorted(v.detach().sort()[0], i);
    m.searchsorted(v.detach().sort()[0], j, out_int32=True);
    m.searchsorted(n.detach().sort()[0], m.cat([n, v, z]).detach());
    m.searchsorted(n.detach().sort()[0], m.cat([n, v, z]).detach(), right=True);
    m.searchsorted(m.cat([n, n, z]).detach().sort()[0], m.cat([n, v, z]).detach());
    m.searchsorted(v[:0].detach(), v.detach()); m.searchsorted(v.detach(), e.detach());
    m.searchsorted(f.detach().sort()[0], t.detach());
    m.searchsorted(f[0].detach().sort()[0], s.detach()); m.searchsorted(u[0].sort()[0], u);
    m.searchsorted(u[0].sort()[0], 7.5, side='left');
    m.bucketize(x.detach(), v.detach().sort()[0]); m.bucketize(i, k[0].sort()[0], right=True);
    m.bucketize(0.3, v.detach().sort()[0]); m.bucketize(2, k[0].sort()[0], out_int32=True);
    m.bucketize(i, v.detach().sort()[0]);
    i.flatten().bincount(); k[0].bincount(minlength=5);
    i.flatten().bincount(x.detach().flatten()); i[0, 0].bincount(f.detach()[0]);
    i[0, 0].bincount(i[0, 1]); u[0].bincount(); i[0, 0, :0].bincount();
    i[0, 0, :0].bincount(minlength=2); i[0, 0, :0].bincount(v[:0].detach(), 3);
    m.bincount(k[1], b[0, 0, :2], minlength=4);
    x.detach().histc(5); m.histc(x.detach(), 7, -1, 1); m.histc(f.detach(), bins=4, min=0, max=1);
    n.detach().histc(4, 0, 2); t[1].detach().histc(3); z.detach().histc(3); s.detach().histc(4);
    e.detach().histc(3); m.histc(f.detach()); m.ones(3).histc(4); m.histc(t.detach(), 3, 2, 2)

    x.reshape(6, 4); x.reshape(-1); x.reshape((2, -1)); x.transpose(0, 2).reshape(-1, 2);
    s.reshape(1, 1); o.reshape(()); e.reshape(3, 0); x.view(4, 6); x.view(-1, 3); x.flatten();
    x.flatten(1); x.flatten(0, 1); x.flatten(-2, -1); s.flatten(); v.flatten(); x.transpose(0, 1);
    x.transpose(-1, 0); s.transpose(0, -1); x.permute(2, 0, 1); x.permute((0, 2, 1));
    x.permute(-1, 0, 1); t.T; x.mT; v.expand(3, 4); v.expand(2, 3, -1); o.expand(2, 3);
    s.expand(2); m.broadcast_to(v, (3, 4)); x.unsqueeze(0); x.unsqueeze(-1); x.unsqueeze(3);
    s.unsqueeze(0); o.squeeze(); o.squeeze(0); x.squeeze(0); o.squeeze((0, 1)); x[:1].squeeze();
    s.squeeze(0); m.cat([x, y]); m.cat((x, y), dim=1); m.cat([x, y[:, :1]], -2); m.cat([x, i]);
    m.cat([f, m.tensor([[1, 2, 3, 4]])], 0); m.cat([e, e]); m.concat([v, v, v]); m.stack([v, v]);
    m.stack([x, y], 1); m.stack([x, y], -1); m.stack([s, s]); x.narrow(1, 1, 2);
    x.narrow(-1, -2, 2); x.narrow(0, 2, 0); x.split(2, dim=1); x.split(1); x.split([1, 3], -1);
    x.split([0, 3], 1); e.split(2); x.chunk(2, 1); x.chunk(5, 2); x.chunk(3, 0); x.unbind();
    x.unbind(-1); list(v); list(i[0, 0]); x.tril(); x.triu(1); x.tril(-1); x.mT.triu(); i.tril()

    x.contiguous().is_contiguous(); x.mT.contiguous().is_contiguous(); x.mT.contiguous();
    x.view_as(m.zeros(24)); x.reshape_as(m.zeros(6, 4)); x.mT.reshape_as(m.zeros(8, 3));
    x.view(x.dtype); x.view(m.float64).requires_grad; m.reshape(x, shape=(4, 6));
    x.view(size=(4, 6)); x.ravel(); s.ravel(); m.ravel(x.mT); x.unflatten(1, (3, 1));
    x.unflatten(-1, [2, -1]); m.unflatten(x, 0, (-1,)); e.unflatten(0, (-1, 2)); t.t(); v.t();
    m.t(s); x.adjoint(); m.adjoint(t); s.adjoint(); t.H; t.mH; s.H; x.mH; x.swapaxes(0, 1);
    m.swapaxes(x, axis0=0, axis1=-1); x.swapdims(1, 2); x.movedim(0, 2); x.movedim(-1, 0);
    m.movedim(x, (0, 1), (1, 2)); x.movedim((2, 0), (0, 1)); s.movedim(0, -1); x.moveaxis(1, 0);
    m.permute(x, dims=(0, 2, 1)); x.squeeze((0, -1)); x[:1, :, :1].squeeze((0, -1)); v.expand_as(x);
    v.expand(size=(2, 4)); o.expand_as(t); m.broadcast_to(v, size=(3, 4));
    m.broadcast_tensors(v, x, s); m.broadcast_tensors(); m.broadcast_tensors(i, v);
    tuple(m.broadcast_shapes((2, 1), 3, (5, 1, 1))); tuple(m.broadcast_shapes()); m.atleast_1d(s);
    m.atleast_1d(s, v); m.atleast_1d([s, v]); m.atleast_1d(x) is x; m.atleast_2d(s, v, t);
    m.atleast_3d(s, v, t, x); m.atleast_2d((s,)); x.unfold(1, 2, 1); x.unfold(2, 2, 2);
    x.unfold(-1, 3, 1); v.unfold(0, 2, 3); s.unfold(0, 1, 1); x.unfold(1, 0, 1); x.unfold(1, 3, 5);
    i.unfold(2, 2, 1); x.unfold(2, 3, 1).unfold(1, 2, 1); x.mT.unfold(1, 3, 1); s.unfold(0, 0, 1);
    x.unfold(2, 2, 2).mT @ x.unfold(2, 2, 1)[..., :2, :]

    m.flip(x, (0,)); x.flip(0, 2); x.flip((1, -1)); x.flip(dims=[2]); m.flip(x, ()); s.flip(0);
    m.fliplr(x); t.fliplr(); m.flipud(v); x.flipud(); e.flip(0); b.flip(1); m.roll(x, 1);
    x.roll(-2, 1); x.roll((1, 2), (0, -1)); x.roll((1, 1), (2, 2)); x.roll(shifts=7, dims=2);
    s.roll(1); e.roll(1, 0); i.roll(1); m.rot90(x); x.rot90(0); x.rot90(2, (0, 2)); x.rot90(3);
    x.rot90(-1, [1, 2]); t.rot90(5); x.rot90(k=1, dims=(-1, 0)); i.rot90(2); v.repeat(2);
    x.repeat(1, 1, 1); x.repeat(2, 1, 3); x.repeat((2, 1, 1, 2)); s.repeat(()); s.repeat(2, 2);
    x.repeat(0, 1, 1); e.repeat(2, 1); o.repeat(3, 2); x.mT.repeat(1, 2, 1);
    x.repeat(repeats=(1, 1, 2)); x.tile(2); m.tile(x, (2, 1)); x.tile(()); s.tile(());
    x.tile(dims=(2, 1, 1, 1)); b.tile(2); x.repeat_interleave(2); x.repeat_interleave(2, 1);
    m.repeat_interleave(x, 3, dim=-1, output_size=12); x.repeat_interleave(1, 0);
    x.repeat_interleave(0, 0); x.repeat_interleave(m.tensor([1, 0, 2]), 1); s.repeat_interleave(2);
    x.repeat_interleave(m.tensor([2]), 0); v.repeat_interleave(j); m.repeat_interleave(k[0]);
    t.repeat_interleave(m.tensor([0, 2, 1], dtype=m.int32), 0, output_size=3);
    m.repeat_interleave(k[0].int(), output_size=2); i.repeat_interleave(2, 2)

    x.triu(-1); b.tril(); e.triu(); m.tril(x, diagonal=1); m.tril_indices(3, 3);
    m.tril_indices(3, 4, 1); m.tril_indices(2, 3, offset=-1, dtype=m.int32); m.tril_indices(0, 3);
    m.triu_indices(2, 3, -5); m.triu_indices(row=2, col=3, offset=1); m.diag(v); m.diag(v, 1);
    v.diag(-2); t.diag(); m.diag(t, diagonal=1); t.diag(-1); t.diag(9); m.diag(i[0, 0]);
    m.diag(b[0, 0]); m.diag_embed(x); x.diag_embed(1); x.diag_embed(-1, 0, 2);
    v.diag_embed(1, -1, 0); x.diag_embed(offset=1, dim1=-1, dim2=1); m.diag_embed(e);
    i.diag_embed(); m.diagflat(x[0], 1); s.diagflat(); i[0].diagflat(offset=-1); x.diagonal();
    x.diagonal(1, 1, 2); x.diagonal(-1, 2, 0); m.diagonal_scatter(t, v[:3]);
    t.diagonal_scatter(v[:3], 1); x.diagonal_scatter(y[:, :, 0], 1, 1, 2);
    x.diagonal_scatter(t[:, :2], dim1=0, dim2=2)[0]; t.diagonal_scatter(i[0, 0, :3]);
    m.select_scatter(x, t, 0, 1); x.select_scatter(t[:, :2].mT, -1, -2); t.select_scatter(v, 0, 2);
    m.slice_scatter(x, y[:, :2], 1, 0, 2); x.slice_scatter(y);
    x.slice_scatter(y[:, ::2], 1, step=2); x.slice_scatter(y[..., :3], -1, -3);
    x.slice_scatter(y[..., :2], 2, 1, 9, 2); x.slice_scatter(m.zeros(0, 3, 4), 0, 2, 1)

    m.cat([m.zeros(0), x]); m.cat([x, m.zeros(0, dtype=m.float64)], 2); m.cat([e[:, 0], v]);
    m.cat([e[:, 0], x, y], -1); m.cat([m.zeros(0), i[0]]); m.cat([m.zeros(0), m.zeros(0)]);
    m.cat([m.zeros(0), m.zeros(0, dtype=m.int64)]); m.cat([b, i]); m.cat([u, i[0], f]);
    m.cat([u, u.to(m.int8)]); m.cat([b, b]); m.cat((x,), dim=1); m.concatenate([x, y], 2);
    m.stack([i, x]); m.stack([u, f], 2); m.stack([x], -2); m.stack([j, s]); m.stack([e, e], 1);
    m.stack([b, b], dim=1); m.stack([x.mT, y.mT], 1); m.stack([s.float(), s]); m.hstack([x, y]);
    m.hstack([v, v[:2]]); m.hstack((s, v)); m.hstack([s, j]); m.vstack([v, t]); m.row_stack((v, v));
    m.vstack([s, s]); m.dstack([v, v]); m.dstack([x, y]); m.dstack([t, t]); m.column_stack([v, v]);
    m.column_stack([v[:3], t]); m.column_stack([s, s]); m.block_diag(t, v, s); m.block_diag();
    m.block_diag(k, t.float()); m.block_diag(e, t); m.block_diag(m.zeros(0), i[0], e.detach());
    m.block_diag(x[0]); m.meshgrid(v, t[0, :2], indexing='ij');
    m.meshgrid(v, t[0, :2], s, indexing='xy'); m.meshgrid([v, s], indexing='ij');
    m.meshgrid(v, indexing='xy'); m.meshgrid(i[0, 0], k[0]); m.meshgrid(v, e[:, 0], indexing='ij');
    m.cartesian_prod(v, t[0, :2]); m.cartesian_prod(v); m.cartesian_prod(i[0, 0], k[0], k[1]);
    m.combinations(v); m.combinations(v, 3); m.combinations(v, 2, True); m.combinations(v, r=0);
    m.combinations(v, 5); m.combinations(v, 1); m.combinations(i[0, 0], with_replacement=True)

    x.narrow(0, j, 1); x.select(1, 1); x.select(-1, -2); m.select(x, 0, j); i.select(0, 1);
    x.split_with_sizes([1, 2], 1); m.split_with_sizes(x, (4,), -1); x.split(2, -1); e.split(0);
    x.tensor_split(2, 1); m.tensor_split(x, 5, 2); x.tensor_split((1, 3), 2); x.tensor_split(());
    x.tensor_split((1, 9), 2); x.tensor_split([-1], 2); x.tensor_split((3, 1), dim=2);
    x.tensor_split(m.tensor(2), 2); x.tensor_split(m.tensor([1, 3]), 2); e.tensor_split(3);
    v.hsplit(2); x.hsplit(3); m.hsplit(x, (1, 2)); x.vsplit(2); m.vsplit(x, [1]); x.dsplit(2);
    m.dsplit(x, (1, 5)); x.unbind(1); e.unbind()

    x[0]; x[-1, 2]; x[1, 2, 3]; x[..., 0]; x[:, 1:, ::2]; x[None]; x[:, None, 0];
    x[..., None].shape; v[2:1]; v[-2:]; v[:100]; x[b]; x[b[:, :, 0]]; x[c]; x[c, 1]; t[k];
    t[k - 1]; t[k][0]; x[:, k]; t[k, 1]; t[k, :, None]; x[k[:, :1] * 0, k]; x[0, k, 1:];
    x[[0, 1]]; x[[1, 0], [2, 1]]; x[[True, False]]; x[j]; x[j, j]; x[np.array([1, 0, 0])];
    x[np.int64(1)]; x[x > 0]; x[0][1][2]; v[[]]; x[m.tensor([1, -1], dtype=m.int32)]; s[...];
    s[None]; s[()]; x[()]; i[1, 1]

    x[True]; x[False]; x[True, 0]; x[0, c[0], None]; s[True]; s[c[1]]; x[0, :, [1, 2]];
    x[j, :, k[1]]; x[0, None, k]; x[None, [1, 0], None, 0]; x[:, 0, [1]]; x[0, [1, 2], 1];
    x[[0, 1], :, 1]; x[[0, 1], :, [1, 2]]; x[:, [0, 1], [1, 2]]; x[c, 1:, [0]];
    x[c, :, [True, False, False, True]]; x[b[:, :, 0], [0, 1, 2, 3][:1]]; x[..., b[0, 0]];
    x[:, b[0]]; x[None, c, ..., [1]]; x[True, :, k]; x[:, True, [0]]; x[j:, :j]; x[..., j];
    x[((0, 1), (1, 2))]; x[(0, (1, 2))]; x[range(2)]; x[:, [[0, 1], [2, 2]]]; x[k[:, None] % 2, k];
    x[m.tensor(1, dtype=m.int16)]; x[np.uint8(1)]; e[e > 0]; e[:, [0]]; x[b & ~b]

    s.gather(0, j * 0); s.gather(0, k[1] * 0); v.gather(0, j); x.gather(0, i[:0]);
    i.gather(1, i, sparse_grad=True); x.gather(1, i.int()); e.gather(0, i[0, :0, :3]);
    x.take_along_dim(i, 1); x.take_along_dim(i[:, :1] - 1, 1);
    x.take_along_dim(k.reshape(4, 1, 1)[:1], 1); x[:1].take_along_dim(i[:, :1, :1], 2);
    x.take_along_dim(k); s.take_along_dim(j * 0); m.take_along_dim(t, t.argsort(0), dim=0);
    x.scatter(1, i[:, :1], y[:, :1]); x.scatter(2, i[..., :1], p[..., :1]);
    x.scatter(1, i[:1, :1], y[:1, :1]); x.scatter(1, i, -1.0); x.scatter(1, i, value=2);
    m.scatter(x, 1, i[:, :1].int(), y[:, :1]); t.scatter(1, t.argsort(1), t * 2);
    x.scatter(1, i[:0], y[:0]); s.scatter(0, j * 0, o[0, 0]); s.scatter(0, k[0, 1:], o[0]);
    s.scatter(0, j * 0, 2); i.scatter(1, i, 2.7); i.scatter(1, i, i);
    x.detach().scatter(1, i, y.detach(), reduce='add');
    x.detach().scatter(1, i, 2, reduce='multiply'); i.scatter(1, i[:1], i, reduce='multiply');
    x.scatter_add(1, i, y); x.scatter_add(0, i % 2, y); v.scatter_add(0, k[0], v[:2]);
    i.scatter_add(1, i, i); b.scatter_add(1, i, b); s.scatter_add(0, j * 0, s);
    x.scatter_add(0, i[:0], y[:0]); (x * 1).scatter_(1, i[:, :1], y[:, :1]);
    (x * 1).scatter_add_(1, i, y); x.scatter_reduce(1, i, y, 'sum');
    x.scatter_reduce(1, i, y, 'sum', include_self=False); x.scatter_reduce(1, i, y, 'mean');
    x.scatter_reduce(1, i, y, 'mean', include_self=False); x.scatter_reduce(1, i, y, 'prod');
    x.scatter_reduce(1, i, y, 'prod', include_self=False); x.scatter_reduce(1, i, y, 'amax');
    x.scatter_reduce(1, i, y, 'amin', include_self=False); t.scatter_reduce(0, i[0], t, 'amax');
    t.scatter_reduce(1, i[0], t, 'amin'); t.scatter_reduce(1, i[0], t, 'prod');
    t.scatter_reduce(1, i[0], t, 'prod', include_self=False);
    t.scatter_reduce(0, i[0, :2], t[:2], 'mean'); (x * 1).scatter_reduce_(1, i, y, 'prod');
    i.scatter_reduce(1, i, -i, 'mean'); i.scatter_reduce(1, i, i, 'mean', include_self=False);
    i.scatter_reduce(1, i, i + 2, 'prod'); i.scatter_reduce(1, i, i, 'amax');
    b.scatter_reduce(1, i, b, 'prod'); b.scatter_reduce(1, i, b, 'amin');
    u.scatter_reduce(0, i[0], u, 'sum'); s.scatter_reduce(0, j * 0, s, 'prod');
    n.scatter_reduce(0, m.tensor([1, 1, 2, 3]), n, 'amax'); x.index_select(1, k[0]);
    x.index_select(-1, k[1].int()); x.index_select(0, j); s.index_select(0, k[0, 1:]);
    x.index_select(0, k[0, :0]); x.index_add(1, k[1], y[:, :2]);
    x.index_add(-1, k[0], y[..., :2], alpha=2.5); x.index_add(0, j, y[:1]);
    s.index_add(0, k[0, 1:], s); i.index_add(1, k[1], i[:, 1:], alpha=2.5);
    b.index_add(1, k[1], b[:, :2]); (x * 1).index_add_(1, k[1].int(), y[:, :2]);
    x.index_copy(1, k[0], y[:, :2]); x.index_copy(-1, j, y[..., :1]);
    s.index_copy(0, k[0, 1:], o[0]); (x * 1).index_copy_(1, k[0], y[:, :2]);
    x.index_fill(1, k[1], 5); x.index_fill(0, j, s); x.index_fill(2, k[0], m.tensor(3));
    i.index_fill(1, k[0], 2.5); b.index_fill(1, k[0], 2); s.index_fill(0, j * 0, 2.0);
    (x * 1).index_fill_(1, k[0] - 3, 0.5); x.index_reduce(1, k[1], y[:, :2], 'prod');
    x.index_reduce(0, k[1], y, 'mean');
    x.index_reduce(1, k[1], y[:, :2], 'amax', include_self=False);
    (x * 1).index_reduce_(2, k[0], y[..., :2], 'amin');
    t.index_reduce(1, m.tensor([0, 0, 1, 1]), t, 'amax');
    i.index_reduce(1, k[1], -i[:, :2], 'mean'); x.index_put((j,), y[0]);
    x.index_put((k % 2,), v, accumulate=True); x.index_put([k % 2, k], v, True);
    x.index_put((b,), s); x.index_put((b,), v[:1]); x.index_put((c, k[:1, 0]), v);
    x.index_put((b,), s, True); (x * 1).index_put_((j, k[0]), v); x.take(k); x.take(k - 3);
    x.take(j); s.take(k * 0); e.take(k[:0]); x.put(k[0], v[:2]);
    x.put(k - 2, t[0].reshape(2, 2), accumulate=True); (x * 1).put_(k[0], v[2:]); s.put(j * 0, s);
    x.masked_select(b); x.masked_select(b[0]); v.masked_select(b); s.masked_select(c[0]);
    x.masked_select(c[1]); x.masked_scatter(b, y); x.masked_scatter(b[0], y);
    v.masked_scatter(b, y); s.masked_scatter(c[0], v); (x * 1).masked_scatter_(b, y);
    (x * 1).masked_fill_(b, s); i.masked_fill(b, m.tensor(2.5)); v.masked_fill(b, s);
    m.masked_fill(x, b, m.tensor(2)); x.nonzero(); i.nonzero(as_tuple=True); s.nonzero();
    s.nonzero(as_tuple=True); e.nonzero(); m.nonzero(b); i.argwhere(); s.argwhere(); m.where(i);
    m.where(s); m.where(b); x.where(b, y); x.where(b, 0.5); v.where(b, x); i.where(b, 0.5);
    m.where(condition=b, input=x, other=y)

    x @ v; v @ v; v @ x.mT; t @ x[0].mT; x @ x.transpose(1, 2); m.matmul(x[:, None], p.mT); e @ t;
    e.T @ e

    x.to(m.float32); x.float(); f.double(); x.long(); x.int(); x.bool(); i.float(); x.type_as(f);
    x.double() is x; x.detach(); x.data; x.contiguous() is x; x.mT.contiguous();
    x.mT.is_contiguous();
    x.requires_grad, (x + 1).requires_grad, i.requires_grad, x.detach().requires_grad;
    x.is_leaf, (x + 1).is_leaf, i.is_leaf;
    x.numel(), x.dim(), x.ndim, x.size(0), x.size(-1), x.nbytes, x.element_size(), len(x);
    x.is_floating_point(), i.is_floating_point(); s.item(), j.item(), c[0].item(), o.item();
    x.tolist(); s.tolist(); e.tolist(); b.tolist(); float(s), int(j), int(s), bool(j), bool(s);
    [10, 20, 30][j]; hash(x) == hash(x); x[0, 0, 0] in x; 99 in x;
    f'{s.detach()}', f'{s:.2f}', f'{j}'; np.asarray(x.detach()).shape;
    copy.copy(v), copy.deepcopy(v); np.float64(2) * f; np.int64(2) * i

    m.zeros(2, 3); m.zeros((2, 3), dtype=m.int64); m.zeros([2]); m.zeros(()); m.ones(2);
    m.full((2, 2), 7); m.full((2,), 0.5); m.full((), True); m.full((2,), 1, dtype=m.float64);
    m.zeros_like(x); m.ones_like(i); m.zeros_like(x, dtype=m.int32); m.arange(5); m.arange(2, 5);
    m.arange(0, 1, 0.25); m.arange(5, 0, -2); m.arange(3.0); m.arange(3, dtype=m.float64);
    m.linspace(0, 1, 5); m.linspace(1, -1, 3, dtype=m.float64); m.eye(2); m.eye(2, 3);
    m.tensor([1, 2]); m.tensor([1.0, 2]); m.tensor([True]); m.tensor([]); m.tensor(3);
    m.tensor([[1], [2]], dtype=m.float64); m.tensor(np.arange(3, dtype=np.int16));
    m.tensor(np.float64(1)); m.tensor([1.5, 2.5], dtype=m.int64); m.as_tensor([1, 2]);
    m.as_tensor(x) is x; m.from_numpy(np.arange(3.0))
"""
)


ERRORS = expressions("""
    x + v[:3]; x @ x; x @ s; s @ x; x[:, :2] @ t[:2]; x @ y.mT[:1].expand(3, 4, 3); x + None;
    x + 'a'; x + [1, 2]; None + x; x ** None; x < None; -b; b - b; ~x; i ** -1; x.sum(3);
    x.sum(-4); x.sum((0, 0)); s.sum(1); i.mean(); i.var(); i.std(); x.argmax(3); e.argmax();
    e.argmax(0); e.max(); e.max(0); e.amax(); x.max(3); x.softmax(3); x.log_softmax(-4);
    x.logsumexp(5); x.argsort(3); x.sort(3); x.topk(5); x.topk(-1); x.topk(1, 3); x.gather(0, k);
    x.gather(3, i); x.gather(0, i + 5); x.gather(2, i - 3); x[:, :2, :2].gather(1, i);
    x.masked_fill(i, 0.0); x.masked_fill(b[:, :2], 0.0); x.reshape(5); x.reshape(-1, -1);
    x.reshape(-1, 5); e.reshape(-1, 0); x.view(5); x.mT.view(-1); x.flatten(2, 1); x.flatten(3);
    x.flatten(0, 3); x.transpose(0, 3); x.permute(0, 1); x.permute(0, 0, 1); x.permute(0, 1, 3);
    v.mT; x.expand(2, 2, 4); x.expand(4); x.expand(-1, 2, 3, 4); v.expand(3, 5);
    m.broadcast_to(v, (4, 3)); x.squeeze(3); x.unsqueeze(4); x.unsqueeze(-5); m.cat([]);
    m.cat([x, y], 3); m.cat([x, y[:, :2]]); m.cat([x, v]); m.cat([s, s]); m.stack([]);
    m.stack([x, v]); m.stack([x, y], 4); x.narrow(1, 2, 2); x.narrow(1, -4, 1);
    x.narrow(1, 0, -1); x.narrow(3, 0, 1); s.narrow(0, 0, 1); x.split(0); x.split(-1);
    x.split([1, 2]); x.split([3, -1]); x.split(1, 3); s.split(1); x.chunk(0); x.chunk(2, 3);
    s.chunk(1); x.unbind(3); s.unbind(); v.tril(); x[2]; x[-3]; x[0, 0, 0, 0]; x[::-1]; v[3:0:-1];
    x[0.5]; x[0:1.5]; x[m.tensor(0.5)]; x[m.tensor([0.5])]; x[m.tensor([5])];
    x[m.tensor([True, False, True])]; x[0, m.tensor([0, 1, 2]), m.tensor([0, 1])]; s[0]; s[:];
    x.item(); e.item(); int(x); bool(x); bool(e); len(s); list(s); x.__index__(); s.__index__();
    x.numpy(); f'{x:.2f}'; i.requires_grad_(); (x + 1).requires_grad_(False);
    copy.deepcopy(x + 1); x.backward(); x.detach().backward(); x.sum().backward(m.ones(2));
    x.sum().backward(1.0); x.add_(1); x.zero_(); x[0].mul_(2); x.__setitem__(0, 1.0); i.add_(0.5);
    i.div_(2); b.add_(1); i.mul_(x); v.expand(3, 4).detach().add_(1);
    v.detach().add_(m.ones(3, 4)); v.detach().copy_(m.ones(3, 4));
    v.detach().__setitem__(0, m.ones(2)); v.detach().__setitem__(7, 1.0);
    v.detach().__setitem__(slice(None), m.ones(3)); v.detach().__setitem__(0, None);
    v.detach().__setitem__(0, 'a'); v.detach().__setitem__(0.5, 1.0); m.zeros(-1); m.zeros(2.5);
    m.zeros('a'); m.full((-1,), 0); m.ones((2, -3)); m.arange(0, 5, 0); m.arange(5, 0);
    m.arange(0, 5, -1); m.randint(5, 2, (3,)); m.randn(-2);
    m.multinomial(m.tensor([-1.0, 2.0]), 1); m.bernoulli(m.tensor([1.5]));
    m.tensor([[1], [1, 2]]); m.tensor('a'); m.tensor([1, 'a']);
    x.prod(3); x.prod((0, 1)); x.nansum(3); i.nanmean(); x.count_nonzero(3);
    x.count_nonzero((0, 0)); x.var(0, unbiased=True, correction=1); i.var(0); m.var_mean(i);
    m.std_mean(x, 4); b.argmax(); b.argmin(0);
    e.amax(0); e.amin(); e.amin(0); e.min(); e.min(0); e.aminmax(); e.aminmax(dim=0);
    x.aminmax(dim=3); x.aminmax(1); x.any(3); x.all((0, 0)); x.any((0, 4));
    x.cumsum(); x.cumsum(3); s.cumsum(1); x.cumsum((0,)); x.cumprod(-4); i.logcumsumexp(0);
    b.logcumsumexp(0); x.logcumsumexp(3); x.cummax(3); x.cummin(); b.clone().cumsum_(0);
    s.cummax(1);
    b.median(); b.median(0); e.median(0); e.nanmedian(0); x.median(3); b.nanmedian();
    e.kthvalue(1, 0); x.kthvalue(0); x.kthvalue(5); x.kthvalue(1.5); b.kthvalue(1); s.kthvalue(2);
    x.kthvalue(1, 3); e.kthvalue(4, 1); e.mode(0); x.mode(3);
    x.quantile(1.5); x.quantile(-0.1); x.quantile(float('nan'));
    x.quantile(m.tensor([0.5, 2.0], dtype=m.float64)); x.quantile(m.tensor([0.5]));
    x.quantile(m.tensor([[0.5]], dtype=m.float64)); i.quantile(0.5); e.quantile(0.5);
    e.quantile(0.5, 0); x.quantile(0.5, 3); x.quantile(0.5, interpolation='cubic');
    i.nanquantile(0.5); x.quantile(0.5, (0, 1)); x.quantile('a');
    x.argsort(0, True, True); x.sort(0, True, True); s.sort(1); s.argsort(1); x.topk(1.5);
    b.topk(1); s.topk(2); s.topk(1, 1); e.topk(1, 0);
    x.unique(dim=3); s.unique(dim=0); e.unique(dim=1); e.unique_consecutive(dim=1);
    x.unique_consecutive(dim=-4); s.unique_consecutive(dim=0);
    m.searchsorted(x, v); m.searchsorted(x, 1.0); m.searchsorted(s, v);
    m.searchsorted(v, x, side='left', right=True); m.searchsorted(v, x, side='up');
    m.searchsorted(v, x, sorter=k[0]); m.searchsorted(v, x, sorter=v);
    m.searchsorted(v, x, sorter=m.tensor([0, 1, 2, 4]));
    m.searchsorted(v, x, sorter=m.tensor([0, 1, 2, -1])); m.searchsorted(b, b); m.bucketize(x, x);
    m.bucketize(x, s);
    v.bincount(); i.bincount(); j.bincount(); c.bincount(); (k[0] - 1).bincount();
    k[0].bincount(minlength=-1); k[0].bincount(v); i.histc(); x.detach().histc(0);
    x.detach().histc(4, 2, 1); n.detach().histc(4); m.bincount(k[0], x);
    m.tensor([1, 2], requires_grad=True); m.tensor(1.0, dtype='nonsense'); m.from_numpy([1, 2]);
    m.from_numpy(np.array(['a'])); m.from_numpy(np.array([1j], dtype='c8').astype('O'));
    m.exp(x, 5, 6); m.maximum(x)

    x.view_as(v); x.reshape_as(v); x.unflatten(1, (2, 2)); x.unflatten(1, ());
    x.unflatten(1, (-1, -1)); x.unflatten(1, (-1, 2)); x.unflatten(3, (2, 2)); s.unflatten(0, (1,));
    e.unflatten(0, (0, -1)); x.t(); x.H; v.H; v.mH; v.adjoint(); x.movedim((0, 0), (1, 2));
    x.movedim((0, 1), (1, 1)); x.movedim((0, 1), 2); x.movedim((0, 1), (2,)); x.movedim(3, 0);
    x.swapaxes(0, 3); x.squeeze((0, 0)); x.squeeze((0, 3)); x.unsqueeze((0, 1)); x.expand_as(v);
    m.broadcast_tensors(v, v[:3]); m.broadcast_shapes((2,), (3,)); x.unfold(1, 4, 1);
    x.unfold(1, 2, 0); x.unfold(1, -1, 1); x.unfold(3, 1, 1); s.unfold(0, 2, 1); s.permute();
    s.expand(); s.reshape(); x.view(); s.repeat(); s.tile(); x.flip(); m.flip(x, (0, 0));
    x.flip(3); v.fliplr(); s.flipud(); x.roll((1, 2)); x.roll(1, (0, 1)); x.roll((1, 2), 0);
    s.roll(1, 0); x.roll(1, 3); v.rot90(); x.rot90(1, (0, 0)); x.rot90(1, (0, 3));
    x.rot90(1, (0, 1, 2)); x.repeat(2); x.repeat(1, 1, -1); x.repeat_interleave(-1);
    x.repeat_interleave(1.5, 0); v.repeat_interleave(m.tensor([2, 1])); x.repeat_interleave(2, 3);
    v.repeat_interleave(m.tensor([[2, 1, 1, 1]])); v.repeat_interleave(m.tensor([-1, 1, 1, 1]));
    v.repeat_interleave(v); v.repeat_interleave([1, 1, 1, 1]); s.repeat_interleave(2, 0);
    m.repeat_interleave(i); m.repeat_interleave(j); m.repeat_interleave(v);
    x.repeat_interleave(2, 1, output_size=4); v.repeat_interleave(k[0, :1], output_size=3);
    m.tril_indices(-1, 3); m.triu_indices(3, 3, dtype=m.float32); x.diag(); s.diag();
    v.diag_embed(0, 0, 0); v.diag_embed(0, 0, 5); s.diag_embed(); t.diagonal_scatter(v);
    t.diagonal_scatter(s); t.diagonal_scatter(v[:3], 0, 1, 1); x.select_scatter(t, 0, 2);
    x.select_scatter(v, 0, 1); x.slice_scatter(y[:1]); x.slice_scatter(y, 0, step=-1);
    x.slice_scatter(y, 3); x.diagonal(0, 1, 1); m.cat(x); m.cat([x, 1]); m.cat([e, x]);
    m.cat([m.zeros(0), s]); m.cat([m.zeros(0), t], 2); m.stack(x); m.stack([s, 1]); m.hstack([]);
    m.hstack(v); m.vstack([x, v]); m.dstack([t, v]); m.column_stack([x, v]); m.block_diag(x);
    m.block_diag(1, 2); m.meshgrid(); m.meshgrid(t, v); m.meshgrid(v, k[0]);
    m.meshgrid(v, v, indexing='zz'); m.cartesian_prod(t); m.cartesian_prod(s, v);
    m.cartesian_prod(v, k[0]); m.cartesian_prod(); m.combinations(t); m.combinations(v, -1);
    m.combinations(s); x.select(1, 3); x.select(3, 0); s.select(0, 0); x.select(0, 0.5);
    x.split(2.0); x.split_with_sizes([1, 1], 1); x.split_with_sizes(2, 1); x.tensor_split(0);
    x.tensor_split(m.tensor([1.0, 3.0]), 2); x.tensor_split(m.tensor([[1, 3]]), 2);
    s.tensor_split(2); x.tensor_split(2, 5); x.tensor_split(1.5); v.hsplit(3); s.hsplit(2);
    x.hsplit(2); v.vsplit(2); t.dsplit(2); v.hsplit(0); x.narrow(0, 0.5, 1); x.squeeze_();
    x.t_(); (x + 1).transpose_(0, 3); (x + 1).t_(); v.tril_()

    x[m.zeros(0, dtype=m.bool)]; x[m.zeros(2, 0, dtype=m.bool)]; x[m.tensor([0, 1], dtype=m.int8)];
    x[:, c]; x[b, 0]; x[b[:, :1]]; x[:, [[0], [1, 2]]]; x[:, [3]]; x.gather(1, x);
    x.gather(1, [0]); x.take_along_dim(k, 1); x.take_along_dim(i[:, :2], 2);
    x.take_along_dim(i.int(), 1); x.take_along_dim(k - 1); s.take_along_dim(j * 0, 0);
    x.scatter(1, i + 3, y); x.scatter(1, i - 3, y); x.scatter(3, i, y); x.scatter(1, k, y);
    x.scatter(1, i, y[:1]); x.scatter(1, i, f); x.scatter(1, x, y); x.scatter(1, i, s);
    x.scatter(1, i, 1.0, reduce='sum'); x[:, :2, :2].scatter(1, i, 1.0);
    x.scatter_add(1, i, y.float()); x.scatter_add(1, i, 1.0); x.scatter_reduce(1, i, y, 'bad');
    x.scatter_reduce(1, i, 2.0, 'sum'); x.index_select(1, k); x.index_select(3, j);
    x.index_select(1, c); s.index_select(0, k[1] * 0); s.index_select(0, j); x.index_add(1, k, y);
    x.index_add(1, k[0], y); x.index_add(1, k[0] + 1, y[:, :2]); x.index_add(1, k[0], y[:1, :2]);
    x.index_add(1, k[0], i[:, :2]); x.index_add(1, c, y); x.index_copy(1, k[0] + 1, y[:, :2]);
    x.index_copy(1, k[0].int(), y[:, :2]); x.index_copy(1, k[0], y.float()[:, :2]);
    x.index_fill(1, k[0] + 1, 5); x.index_fill(1, k[0] - 4, 5); x.index_fill(1, k[0], v);
    i.index_fill(1, k[0], float('nan')); x.index_reduce(1, k[0], y[:, :2], 'sum');
    x.index_put((k,), s); x.index_put((k[1],), y.float()[:1]); x.index_put((0,), s);
    x.index_put(k, s); x.index_put((k[1],), 2.0); x.index_put((k[1],), y[None]);
    x.index_put((x[0],), s); x.index_put((b,), y); x.index_put((k, k, k, k), s); x.take(k + 22);
    x.take(k - 25); x.take(k.int()); x.take([0]); e.take(k); x.put(k, v[:2]);
    x.put(k[0], i[0, 0, :2]); x.put(k[0] + 23, v[:2]); x.put(k[0].int(), v[:2]);
    x.masked_fill(b, v); x.masked_fill(b.long(), 1); i.masked_fill(b, float('nan'));
    u.masked_fill(u > 0, 300); x.masked_select(i); x.masked_select(b[:, :2]);
    x.masked_scatter(b, v); x.masked_scatter(b, i); x.masked_scatter(i, y);
    x.masked_scatter(b, 2.0); (v * 1).masked_scatter_(b, x); m.where(i, x, y); m.where(b, x);
    m.where(True, x, y); x.where(b); x.where(i, y); (x * 1).__setitem__(b, m.ones(1, 2, 1))
""")


@pytest.mark.parametrize("line", VALUES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_values_and_gradients(torch, line):
    ours, theirs = run(tensorgrad, line), run(torch, line)
    assert not isinstance(theirs, str), f"PyTorch refuses this: {theirs}"
    assert same(ours, theirs), f"tensorgrad: {ours}\nPyTorch:    {theirs}"


def test_every_function_is_in_the_table():
    """But for the embedding, whose arguments are in another order, for what is always refused, and
    for the families that test_elementwise.py and test_dtypes.py compare."""
    called = set(re.findall(r"\.(\w+)\(", ";".join(VALUES)))
    elsewhere = {*functions.elementwise.__all__, *functions.casting.__all__}
    names = {*functions.__all__, *functions.METHODS} - elsewhere - {*functions.casting.METHODS_ONLY}
    assert names - called == {"embedding", "as_strided"}


@pytest.mark.parametrize("line", ERRORS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_errors(torch, line):
    theirs = run(torch, line)
    assert isinstance(theirs, str), f"PyTorch accepts this: {theirs}"
    assert run(tensorgrad, line) == theirs
