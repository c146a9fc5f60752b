"""What all optimizers share: parameter groups, the state of each parameter and its way to a file.

An optimizer is a class with one method: ``update``, which changes one parameter's array in place,
or ``update_all``, which does that to several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..backend import xp
from ..mode import enable_grad, no_grad
from ..source import here
from ..tensor import Tensor
from ..variable import wrap

BLOCK = 32768  # elements updated at a time: parameter, gradient and moments stay in the cache


class Optimizer:
    """The base class: parameter groups, ``step``, ``zero_grad``, ``state_dict``.

    ``params`` are tensors, pairs ``(name, tensor)`` or dicts ``{"params": [...], option: value}``,
    one per group; options that a group does not name have the values in ``defaults``. ``state``
    holds, for each parameter that has been updated, what the optimizer remembers of it.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("an optimizer takes a list of tensors or of dicts, not one tensor")
        given = list(params)
        if not given:
            raise ValueError("the optimizer got no parameters")
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.has_stepped = False
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in more parameters, with options of their own."""
        if not isinstance(param_group, dict):
            raise TypeError(f"a parameter group is a dict, not {type(param_group).__name__}")
        members = param_group["params"]
        if isinstance(members, set):
            raise TypeError("the parameters of a group need an order: give a list, not a set")
        members = [members] if isinstance(members, Tensor) else list(members)
        names = [m[0] for m in members if isinstance(m, tuple)]
        if names and len(names) < len(members):
            raise ValueError("either all parameters of an optimizer have names or none has")
        group = {
            **self.defaults,
            **param_group,
            "params": [m[1] for m in members] if names else members,
        }
        if names:
            group["param_names"] = names
        for other in self.param_groups:
            if ("param_names" in other) != ("param_names" in group):
                raise ValueError("either all parameter groups of an optimizer have names or none")
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        seen = {id(p) for p in self._parameters()}
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"an optimizer updates tensors, not {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("an optimizer can only update leaf tensors")
            if id(p) in seen:
                raise ValueError("a parameter appears twice among the optimizer's groups")
            seen.add(id(p))
        for name, value in group.items():
            if any(isinstance(v, Tensor) for v in (value if name == "betas" else [value])):
                raise TypeError(f"the option {name} cannot be a tensor: give numbers, as of item()")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or set them to 0)."""
        for p in self._parameters():
            p.grad = None if set_to_none or p.grad is None else p.grad.detach().zero_()

    def step(self, closure: Callable[[], Any] | None = None, *, factor: float = 1.0) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: is called first: it computes the gradients anew and returns the loss, which is
                handed on.
            factor: what gradients are multiplied by on the way, such as :func:`clip_factor` says.
                But for rounding that is the step after :func:`clip_grad_norm_`; ``.grad`` stays as
                it is, and is read only once. (PyTorch has no such argument.)
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self.has_stepped = True
        writer, place = f"{type(self).__name__}.step", here()
        with no_grad(), xp.errstate(under="ignore"):
            for group in self.param_groups:
                some = [p for p in group["params"] if p.grad is not None]
                for p in some:  # before it is done, for it might be done in part
                    p.wrote(writer, place)
                self.update_all(some, group, float(factor))
        return loss

    def update_all(self, some: list[Tensor], group: dict[str, Any], factor: float) -> None:
        """Change the arrays of parameters of one group, all of which have a gradient.

        These are to be multiplied by ``factor``, which is 1 where nothing is clipped.
        """
        for p in some:
            g = p.grad.array
            self.update(p, g if factor == 1 else g * factor, group)

    def update(self, p: Tensor, g: Any, group: dict[str, Any]) -> None:
        """Change ``p.array`` in place, given its gradient's array, which stays as it is."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to update a parameter")

    # --- what is remembered of a parameter --------------------------------------------------------

    def buffer(self, p: Tensor, name: str, fill: float = 0.0) -> Any:
        """The array of ``state[p][name]``, made and filled where there is none yet."""
        state, array = self.state[p], p.array
        tensor = state.get(name)
        if tensor is None:
            buffer = xp.zeros_like(array)
            if fill:
                buffer += fill
            state[name] = wrap(buffer)
            return buffer
        buffer = tensor.array
        if buffer.shape != array.shape:
            raise RuntimeError(
                f"{type(self).__name__}: the state {name!r} of shape {tuple(buffer.shape)} belongs "
                f"to another parameter than this one of shape {tuple(array.shape)}"
            )
        return buffer

    def arrays(self, p: Any, names: Iterable[str]) -> list[Any]:
        """That of ``p``, its gradient's, and for each name its :meth:`buffer`; of many parameters
        they are asked for in every step."""
        own = p.array
        found = [own, p.grad.array]
        for name in names:
            held = self.state[p].get(name)
            if held is None or held.array.shape != own.shape:
                found.append(self.buffer(p, name))
            else:
                found.append(held.array)
        return found

    def count(self, p: Tensor, by: int = 1) -> float:
        """Add to the steps of ``p`` and return their number; a 0-dim float32 ``state``."""
        state = self.state[p]
        held = state.get("step")
        if held is None:
            state["step"] = held = wrap(xp.zeros((), xp.float32))
        array = held.array
        steps = array.item() + by
        array.fill(steps)
        return steps

    # --- to a file and back -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and options, with parameters numbered in the order of the groups, as in PyTorch.

        The tensors are those of the optimizer, no copies.
        """
        numbers = {id(p): i for i, p in enumerate(self._parameters())}
        return {
            "state": {numbers[id(p)]: dict(s) for p, s in self.state.items()},
            "param_groups": [
                {**g, "params": [numbers[id(p)] for p in g["params"]]} for g in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what :meth:`state_dict` gave; the groups must have the same sizes."""
        groups = state_dict["param_groups"]
        sizes = [len(g["params"]) for g in groups]
        if sizes != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                f"the loaded state has parameter groups of sizes {sizes}, this optimizer "
                f"{[len(g['params']) for g in self.param_groups]}"
            )
        numbers = [str(i) for g in groups for i in g["params"]]  # strings: so they are in JSON
        owners = dict(zip(numbers, self._parameters(), strict=True))
        state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for i, fields in state_dict["state"].items():
            if str(i) not in owners:
                raise ValueError(f"the loaded state is of a parameter {i}, which is in no group")
            p = owners[str(i)]
            state[p] = {name: _own(name, value, p) for name, value in fields.items()}
        self.state = state
        self.param_groups = [
            {
                **self.defaults,
                **({"param_names": mine["param_names"]} if "param_names" in mine else {}),
                **theirs,
                "params": mine["params"],
            }
            for mine, theirs in zip(self.param_groups, groups, strict=True)
        ]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {v}" for k, v in sorted(group.items()) if k != "params"]
        return "\n".join([*lines, ")"])


def _own(name: str, value: Any, p: Tensor) -> Any:
    """A copy of a loaded value, in the dtype of its parameter; steps are counted in float32."""
    if name == "step":
        return wrap(xp.array(value.array if isinstance(value, Tensor) else value, xp.float32))
    return wrap(xp.array(value.array, p.dtype)) if isinstance(value, Tensor) else value


# --- what the subclasses share --------------------------------------------------------------------


def blocks(*arrays: Any, size: int | None = None) -> Iterable[Sequence[Any]]:
    """The same pieces of arrays of one shape, writable, each small enough for the cache."""
    size, shape = size or BLOCK, arrays[0].shape
    if shape and (arrays[0].size <= size or not all(a.flags.c_contiguous for a in arrays)):
        return [arrays]
    flat = [a.reshape(-1) for a in arrays]  # also of no dims, whose sums would be no arrays
    return ([a[i : i + size] for a in flat] for i in range(0, flat[0].size, size))


def check_options(optimizer: str, betas: tuple[float, ...] = (), **not_negative: Any) -> None:
    """ValueError for numbers below 0 (or nan), and for betas outside of [0, 1)."""
    for name, value in not_negative.items():
        if not isinstance(value, Tensor) and not value >= 0:
            raise ValueError(f"{optimizer}: {name} must not be negative, got {name}={value}")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{optimizer}: betas must lie in [0, 1), got betas={betas}")


def check_implementation(
    optimizer: str,
    foreach: bool | None = None,
    fused: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
) -> None:
    """PyTorch's choices between ways to the same numbers; here is one way, for CPUs."""
    if fused and (foreach or differentiable):
        other = "foreach" if foreach else "differentiable"
        raise RuntimeError(f"{optimizer}: fused and {other} exclude each other")
    if capturable:
        raise RuntimeError(f"{optimizer}: capturable is for CUDA graphs, and there is no GPU here")
    if differentiable:
        raise NotImplementedError(
            f"{optimizer}: a step is not recorded, so it cannot be differentiable; write the "
            "update with tensor operations instead"
        )
