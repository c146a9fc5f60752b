"""Gradients averaged over all processes while the backward pass still makes others.

Parameters share buckets, in the order in which their gradients are likely to come: the reverse of
that of the model. A bucket whose gradients are all there is sent on its way, and every gradient
that comes after it lets MPI go on, which does nothing by itself while a process computes (with
large buckets on several machines a thread asks for it, too). What has not arrived when the pass is
over is awaited.

Where all processes are on one machine, a bucket lies in memory that they share: its gradients are
copied there, and their averages back to where they are.

Elsewhere MPI averages it. It is one flat array then, of which its parameters' ``.grad`` become
views, made anew whenever the gradients are, so that a tensor that was a ``.grad`` before never
changes behind the back of who kept it. A parameter that fills a bucket has none: it is averaged
where it lies. So is one, also on one machine, that is too large to lie in memory twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import ref

from ..backend import xp
from ..hooks import RemovableHandle
from ..mode import state as mode
from ..tensor import Tensor
from ..variable import wrap
from . import shared
from .collectives import ReduceOp, Work, all_reduce
from .group import Window
from .joining import is_initialized, joined

MEBIBYTE = 2**20
# Of buckets, where nobody chooses: their MiB, and about how many there are. The first is as small
# as can be, for the sooner it is full, the more is left of the pass.
SMALLEST, LARGEST, BUCKETS = 1.0, 25.0, 8


class Bucket:
    """Gradients of one dtype that are sent together, by MPI."""

    def __init__(self, members: list[int], parameters: list[Tensor]) -> None:
        self.members, self.parameters = members, parameters
        self.missing = len(members)
        self.views: list[ref] = []  # the arrays of the gradients in the flat array, while they live
        # Only while they are under way:
        self.flat: Any = None
        self.grads: list[Tensor] = []
        self.work: Work | shared.Averaging | None = None

    def came(self, position: int) -> None:
        """The gradient of the member at that position is there."""
        self.missing -= 1

    def send(self) -> None:
        """Begin to average the gradients, which are all there."""
        self.grads = [p.grad for p in self.parameters]
        self.work = self._average()

    def _average(self) -> Any:
        if len(self.parameters) == 1:
            grad = self.parameters[0].grad
        else:
            self.flat = self._still_in_place()
            if self.flat is None:
                self.flat = self._gathered()
            grad = wrap(self.flat)
            self.grads = [p.grad for p in self.parameters]
        return all_reduce(grad, ReduceOp.AVG, async_op=True)

    def _still_in_place(self) -> Any:
        """The flat array of the last time, if all gradients were left in it; else None."""
        views: list[Any] = [view() for view in self.views]
        if views and all(p.grad.array is v for p, v in zip(self.parameters, views)):
            return views[0].base
        return None

    def _gathered(self) -> Any:
        """A flat array with the gradients, which are views of it from now on."""
        flat = xp.empty(sum(p.array.size for p in self.parameters), self.parameters[0].array.dtype)
        start, self.views = 0, []
        for p in self.parameters:
            view = flat[start : start + p.array.size].reshape(p.shape)
            view[...] = p.grad.array
            p.grad = wrap(view)
            self.views.append(ref(view))
            start += p.array.size
        return flat

    def go_on(self) -> bool:
        """Whether the averages are there; asking lets MPI, or this process, go on."""
        return self.work is None or self.work.is_completed()

    def end(self) -> None:
        """Return when the averages are there."""
        if self.work is not None:
            self.work.wait()
            for grad in self.grads:
                grad.wrote("the average over all processes")
        self.work, self.flat, self.grads = None, None, []
        self.missing = len(self.members)


class SharedBucket(Bucket):
    """Gradients of one dtype that are averaged in shared memory."""

    def __init__(self, alike: Bucket, window: Window, start: int) -> None:
        super().__init__(alike.members, alike.parameters)
        shapes = [p.shape for p in self.parameters]
        self.copied: set[int] = set()
        self.place = shared.Place(window, start, shapes, self.parameters[0].array.dtype)

    def came(self, position: int) -> None:
        """Copy it at once, while it is close to the processor."""
        self._copy(position)
        self.missing -= 1

    def _copy(self, position: int) -> None:
        self.place.put(position, self.parameters[position].grad.array)
        self.copied.add(position)

    def _average(self) -> Any:
        for position in range(len(self.parameters)):
            if position not in self.copied:
                self._copy(position)
        return self.place.average([grad.array for grad in self.grads])

    def end(self) -> None:
        super().end()
        self.copied.clear()


class Reducer:
    """Waits for the gradients of parameters, and averages them over all processes.

    Args:
        named: (name, parameter) pairs, the same in all processes; those that require grad count.
        bucket_mb: the size of a bucket, in MiB; None: that of an eighth of all gradients.
        find_unused: parameters may get no gradient, here or anywhere.
    """

    def __init__(
        self, named: Sequence[tuple[str, Tensor]], bucket_mb: float | None, find_unused: bool
    ) -> None:
        self.named = [(name, p) for name, p in named if p.requires_grad]
        self.find_unused = find_unused
        self.enabled = False
        self.came: set[int] = set()
        self.next = 0  # the bucket that is sent next: the order is the same in all processes
        self.done = 0  # the first that is under way, if it is before the next
        self.endings: list | None = None  # which pass is under way
        self.buckets = _placed(
            [
                Bucket(members, [self.named[i][1] for i in members])
                for members in self._division(bucket_mb)
            ]
        )
        self.home = {i: (b, at) for b in self.buckets for at, i in enumerate(b.members)}
        # The hooks must not keep this alive: who wraps a model again has done with the first.
        self.handles: list[RemovableHandle] = [
            p.register_post_accumulate_grad_hook(partial(_tell, ref(self), i))
            for i, (_, p) in enumerate(self.named)
        ]

    def __del__(self) -> None:
        for handle in getattr(self, "handles", ()):
            handle.remove()

    def _division(self, bucket_mb: float | None) -> list[list[int]]:
        """Which parameters share a bucket."""
        if bucket_mb is None:
            total = sum(p.array.nbytes for _, p in self.named) / MEBIBYTE
            bucket_mb = min(max(total / BUCKETS, SMALLEST), LARGEST)
        done: list[list[int]] = []
        filling: dict[Any, list[int]] = {}  # by dtype
        sizes: dict[Any, float] = {}
        for i in reversed(range(len(self.named))):
            array = self.named[i][1].array
            limit = MEBIBYTE * (min(SMALLEST, bucket_mb) if not done else bucket_mb)
            if array.nbytes >= limit:
                done.append([i])
                continue
            if sizes.get(array.dtype, 0) + array.nbytes > limit:
                done.append(filling.pop(array.dtype))
                sizes[array.dtype] = 0
            filling.setdefault(array.dtype, []).append(i)
            sizes[array.dtype] = sizes.get(array.dtype, 0) + array.nbytes
        return done + list(filling.values())

    def ready(self, i: int) -> None:
        """The gradient of parameter ``i`` is there."""
        if not self.enabled:
            return
        name, p = self.named[i]
        if self.endings is None or self.endings is not mode.endings:
            self._begin()
        if i in self.came:
            raise RuntimeError(
                f"DistributedDataParallel: {name} has got a gradient twice in one backward pass, "
                "and the first is on its way to the other processes already"
            )
        if p.grad.needs_grad:
            raise RuntimeError(
                "DistributedDataParallel: gradients with a history cannot be averaged: call "
                "backward(create_graph=True) under no_sync()"
            )
        self.came.add(i)
        bucket, position = self.home[i]
        bucket.came(position)
        self._send()
        # None goes on before the one in front of it, so that all meet in the same order.
        while self.done < self.next and self.buckets[self.done].go_on():
            self.done += 1

    def _begin(self) -> None:
        self._reset()  # an exception may have cut the last pass short
        self.endings = mode.endings
        if self.endings is not None:
            self.endings.append(self._end)

    def _send(self) -> None:
        while self.next < len(self.buckets) and not self.buckets[self.next].missing:
            self.buckets[self.next].send()
            self.next += 1

    def _end(self) -> None:
        """The backward pass is over: all gradients are averaged when this returns."""
        late = [i for i in range(len(self.named)) if i not in self.came]
        if late and not self.find_unused:
            names = ", ".join(self.named[i][0] for i in late[:5])
            more = f" and {len(late) - 5} more" if len(late) > 5 else ""
            raise RuntimeError(
                f"DistributedDataParallel: the backward pass gave no gradient to {names}{more}, "
                "for which the other processes wait; use all parameters in forward(), or pass "
                "find_unused_parameters=True"
            )
        if self.find_unused:
            self._send_without(late)
        self._reset()

    def _send_without(self, late: list[int]) -> None:
        """Average what gradients there are; who has none anywhere stays without."""
        used = wrap(xp.asarray([p.grad is not None for _, p in self.named]))
        absent = [i for i in late if self.named[i][1].grad is None]
        for i in absent:
            p = self.named[i][1]
            p.grad = wrap(xp.zeros_like(p.array))
        for i in late:
            bucket, _ = self.home[i]
            bucket.missing -= 1
        self._send()
        all_reduce(used, ReduceOp.MAX)  # after the buckets: the order has to be that of the others
        self._reset()
        for i in absent:
            if not used.array[i]:
                self.named[i][1].grad = None

    def _reset(self) -> None:
        for bucket in self.buckets:
            bucket.end()
        self.came, self.next, self.done, self.endings = set(), 0, 0, None


def _placed(buckets: list[Bucket]) -> list[Bucket]:
    """The buckets that are small enough in shared memory, if there is any."""
    size, starts = 0, {}
    for i, bucket in enumerate(buckets):
        if sum(p.array.nbytes for p in bucket.parameters) <= LARGEST * MEBIBYTE:
            starts[i] = size
            sizes = [p.array.size for p in bucket.parameters]
            size += shared.room(sizes, bucket.parameters[0].array.dtype)
    window = joined().window(size) if size and is_initialized() else None
    if window is None:
        return buckets
    return [
        SharedBucket(bucket, window, starts[i]) if i in starts else bucket
        for i, bucket in enumerate(buckets)
    ]


def _tell(reducer: ref, i: int, parameter: Tensor) -> None:
    waiting = reducer()
    if waiting is not None:
        waiting.ready(i)
