"""An optimizer whose state is divided among the processes, as in torch.distributed.optim."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from ..backend import xp
from ..mode import enable_grad
from ..optim import Optimizer
from ..serialization import load, save
from ..tensor import Tensor
from ..variable import wrap
from .collectives import broadcast
from .joining import get_rank, get_world_size, joined


class ZeroRedundancyOptimizer(Optimizer):
    """``optimizer_class``, of which each process updates its share of the parameters.

    What the optimizer remembers of a parameter, twice its size for Adam, only its owner has; the
    owners send the others what has become of the parameters. All processes need the same gradients,
    as :class:`nn.parallel.DistributedDataParallel` makes them. (Rajbhandari et al. 2020, stage 1.)

    Args:
        params: as of any optimizer, the same in all processes.
        optimizer_class: for instance ``tensorgrad.optim.AdamW``.
        parameters_as_bucket_view: has no effect.
        defaults: the options of ``optimizer_class``.

    >>> import tensorgrad
    >>> tensorgrad.distributed.init_process_group()  # in each process that mpiexec has started
    >>> w = tensorgrad.ones(3, requires_grad=True)
    >>> optimizer = ZeroRedundancyOptimizer([w], tensorgrad.optim.SGD, lr=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.5, 0.5, 0.5]
    >>> tensorgrad.distributed.destroy_process_group()
    """

    def __init__(
        self,
        params: Iterable[Any],
        optimizer_class: type[Optimizer],
        process_group: None = None,
        parameters_as_bucket_view: bool = False,
        overlap_with_ddp: bool = False,
        **defaults: Any,
    ) -> None:
        if overlap_with_ddp:
            raise NotImplementedError(
                "ZeroRedundancyOptimizer: steps do not overlap with the backward pass; leave "
                "overlap_with_ddp out"
            )
        joined(process_group)
        self.optim = optimizer_class(params, **defaults)
        self.owners: dict[Tensor, int] = {}
        self._loads = [0] * get_world_size()
        self._together: dict[str, Any] | None = None
        self._share()

    def _share(self) -> None:
        """Give each parameter that has no owner to the process with the least; take it all over."""
        inner = self.optim
        self.defaults, self.param_groups, self.state = (
            inner.defaults, inner.param_groups, inner.state
        )  # fmt: skip
        self.has_stepped = inner.has_stepped
        fresh = [p for p in self._parameters() if p not in self.owners]
        for p in sorted(fresh, key=lambda p: -p.array.size):
            owner = self._loads.index(min(self._loads))
            self.owners[p] = owner
            self._loads[owner] += p.array.size

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.optim.add_param_group(param_group)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None, *, factor: float = 1.0) -> Any:
        """Update the parameters of this process, and take the others from their owners."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._together = None
        rank, parameters = get_rank(), self._parameters()
        grads = {p: p.grad for p in parameters}
        try:
            for p in parameters:
                if self.owners[p] != rank:
                    p.grad = None
            self.optim.step(factor=factor)
        finally:
            for p, grad in grads.items():
                p.grad = grad
        self.has_stepped = True
        sent = [
            broadcast(p.data, self.owners[p], async_op=True)
            for p in parameters
            if grads[p] is not None
        ]
        for work in sent:
            if work is not None:
                work.wait()
        return loss

    def consolidate_state_dict(self, to: int | None = 0) -> None:
        """Gather the state of all processes in the process ``to`` (None: in all of them).

        All have to call it; then ``state_dict()`` there has what one optimizer would have.
        """
        state: dict[str, Any] = {}
        for rank in range(get_world_size()):
            mine = rank == get_rank()
            file = BytesIO()
            if mine:
                own = self.optim.state_dict()["state"]
                save({str(i): fields for i, fields in own.items()}, file)
            length = wrap(xp.asarray([len(file.getvalue())]))
            broadcast(length, rank)
            content = wrap(xp.zeros(int(length.array[0]), xp.uint8))
            if mine:
                content.array[:] = bytearray(file.getvalue())
            broadcast(content, rank)
            if to in (None, get_rank()):
                state.update(load(BytesIO(content.array.tobytes())))
        if to in (None, get_rank()):
            numbers = {int(i): fields for i, fields in state.items()}
            self._together = {**self.optim.state_dict(), "state": dict(sorted(numbers.items()))}

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`consolidate_state_dict` has gathered here since the last step.

        Raises:
            RuntimeError: it was not called, or gathered it in another process.
        """
        if self._together is None:
            raise RuntimeError(
                "ZeroRedundancyOptimizer: the state is divided among the processes: call "
                f"consolidate_state_dict(to={get_rank()}) in all of them before state_dict()"
            )
        return self._together

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over this process's share of the state of all parameters."""
        owned = {str(i) for i, p in enumerate(self._parameters()) if self.owners[p] == get_rank()}
        state = {i: fields for i, fields in state_dict["state"].items() if str(i) in owned}
        self.optim.load_state_dict({**state_dict, "state": state})
        self._together = None
        self._share()
