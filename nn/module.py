"""Module, the base of all layers, and Parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import tensorgrad
from tensorgrad import Tensor

from .complaints import KINDS, complaint
from .hooks import Hooked


class Parameter(Tensor):
    """A tensor that a module trains: a leaf that requires grad.

    >>> import tensorgrad
    >>> Parameter(tensorgrad.zeros(2)).requires_grad
    True
    """

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        super().__init__(data.detach(), requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find, and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class Module(Hooked):
    """A function with parameters: assign Parameters, Modules and buffers as attributes, and
    define ``forward``.

    >>> import nn, tensorgrad
    >>> layer = nn.Linear(3, 2)
    >>> layer(tensorgrad.zeros(5, 3)).shape
    (5, 2)
    >>> [name for name, _ in layer.named_parameters()]
    ['weight', 'bias']
    """

    _expects = ""  # the shapes of the inputs, for messages; {0.name} is an attribute
    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient: set[str]

    def __init__(self) -> None:
        fields = self.__dict__
        fields["training"] = True
        fields["_parameters"], fields["_buffers"], fields["_modules"] = {}, {}, {}
        fields["_transient"] = set()  # buffers that are not part of the state

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooks is not None:
                return self._hooks.call(self, args, kwargs)
            return self.forward(*args, **kwargs)
        except KINDS as error:
            explained = complaint(self, error, args, kwargs, Module.__call__.__code__)
            if explained is error:
                raise
            raise explained from error

    # --- attributes -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            raise AttributeError(f"call super().__init__() in {type(self).__name__}.__init__ first")
        if isinstance(value, Parameter) or name in self._parameters:
            self.register_parameter(name, value)
        elif isinstance(value, Module) or name in self._modules:
            self.add_module(name, value)
        elif name in self._buffers:
            self.register_buffer(name, value, persistent=name not in self._transient)
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        for kind in ("_modules", "_parameters", "_buffers"):
            if kind in fields and name in fields[kind]:
                return fields[kind][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if not self._drop(name):
            object.__delattr__(self, name)

    def _drop(self, name: str, keep: dict | None = None) -> bool:
        """Forget what is called ``name``, but leave it its place if it is in ``keep``."""
        self._transient.discard(name)
        found = False
        for kind in (self.__dict__, self._parameters, self._modules, self._buffers):
            if name in kind and kind is not keep:
                del kind[name]
                found = True
        return found

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child, or None to reserve its name."""
        _check(self, name, module, Module)
        self._drop(name, keep=self._modules)
        self._modules[name] = module

    register_module = add_module

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Add a parameter, or None to reserve its name."""
        _check(self, name, value, Parameter)
        self._drop(name, keep=self._parameters)
        self._parameters[name] = value
        if value is not None and value.name is None:
            value.name = name

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is not trained; in the ``state_dict`` if ``persistent``."""
        _check(self, name, value, Tensor)
        self._drop(name, keep=self._buffers)
        self._buffers[name] = value
        if not persistent:
            self._transient.add(name)

    # --- walking ----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for name, child in self._modules.items():
            if child is not None:
                yield name, child

    def children(self) -> Iterator[Module]:
        for _, child in self.named_children():
            yield child

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once unless ``remove_duplicate`` is False."""
        memo = set() if memo is None else memo
        waiting = [(prefix, self)]  # a stack, for each level of generators would hand on each value
        while waiting:
            path, module = waiting.pop()
            if module not in memo:
                if remove_duplicate:
                    memo.add(module)
                yield path, module
                for name, child in reversed(module._modules.items()):
                    if child is not None:
                        waiting.append((f"{path}.{name}" if path else name, child))

    def modules(self) -> Iterator[Module]:
        for _, module in self.named_modules():
            yield module

    def _named(
        self, kind: str, prefix: str = "", recurse: bool = True, once: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(name, tensor) of all parameters or buffers."""
        seen: set[int] = set()
        several = self.named_modules(prefix=prefix, remove_duplicate=once)
        for path, module in several if recurse else [(prefix, self)]:
            for name, value in getattr(module, kind).items():
                if value is not None and not (once and id(value) in seen):
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) pairs; a shared parameter comes once, under its first name."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, value in self.named_parameters(recurse=recurse):
            yield value

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, buffer) pairs, those that are not in the ``state_dict`` among them."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        for _, value in self.named_buffers(recurse=recurse):
            yield value

    def get_submodule(self, target: str) -> Module:
        """The module with a dotted name, as ``named_modules`` gives it; ``""`` is this one."""
        module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{type(module).__name__} has no submodule {name!r}")
            module = child
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a dotted name, as ``named_parameters`` gives it."""
        return self._member(target, "_parameters")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with a dotted name, as ``named_buffers`` gives it."""
        return self._member(target, "_buffers")

    def _member(self, target: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if getattr(owner, kind).get(name) is None:
            raise AttributeError(f"{type(owner).__name__} has no {kind[1:-1]} {name!r}")
        return getattr(owner, kind)[name]

    def apply(self, function: Callable[[Module], None]) -> Module:
        """Call ``function`` on every module below and on this one, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- modes ------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Switch dropout and the like on or off, here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them 0."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = tensorgrad.zeros_like(parameter.grad)

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Cast the float parameters and buffers, in place; the arguments are those of Tensor.to.

        A device changes nothing: there is one, the CPU.
        """
        probes = (tensorgrad.float32, tensorgrad.float64)
        found = {tensorgrad.empty(0, dtype=p).to(*args, **kwargs).dtype for p in probes}
        if len(found) > 1:  # no dtype was given
            return self
        (dtype,) = found
        if not dtype.is_floating_point:
            raise TypeError(f"a module can be cast to float dtypes only, not to {dtype}")
        for kind in ("_parameters", "_buffers"):
            for _, value in self._named(kind):
                if value.is_floating_point():
                    value.data = value.detach().to(dtype)
                    value.grad = None if value.grad is None else value.grad.to(dtype)
        return self

    def half(self) -> Module:
        return self.to(tensorgrad.float16)

    def float(self) -> Module:
        return self.to(tensorgrad.float32)

    def double(self) -> Module:
        return self.to(tensorgrad.float64)

    def cpu(self) -> Module:
        return self

    def cuda(self, device: Any = None) -> Module:
        """Raises RuntimeError: there is no other device than the CPU."""
        return self.to("cuda")

    # --- state ------------------------------------------------------------------------------------

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) under every name that leads to it, also where modules are shared."""
        for name, value in {**self._parameters, **self._buffers}.items():
            if value is not None and name not in self._transient:
                yield prefix + name, value
        for name, child in self.named_children():
            yield from child._state(f"{prefix}{name}.")

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Names and values of all parameters and persistent buffers; memory is shared.

        The values are detached unless ``keep_vars``.
        """
        return {name: v if keep_vars else v.detach() for name, v in self._state(prefix)}

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values in by name, cast to the dtypes that are here.

        With ``assign`` the given tensors' own memory and dtypes take the place of the present ones.
        Returns the missing and the unexpected names, which without ``strict`` are allowed.

        Raises:
            RuntimeError: names every missing, unexpected and misshaped key; nothing was loaded.
        """
        own = dict(self._state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        misshaped = [
            f"{name} has shape {tuple(state_dict[name].shape)}, needed is {tuple(own[name].shape)}"
            for name in own
            if name in state_dict and tuple(state_dict[name].shape) != tuple(own[name].shape)
        ]
        problems = []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(unexpected)}")
        if misshaped:
            problems.append(f"misshaped: {'; '.join(misshaped)}")
        if problems:
            raise RuntimeError(
                f"the state does not fit {type(self).__name__}; {'. '.join(problems)}"
            )
        with tensorgrad.no_grad():
            for name, value in own.items():
                if name in state_dict and assign:
                    value.data = state_dict[name]
                elif name in state_dict:
                    value.copy_(state_dict[name])
        return IncompatibleKeys(missing, unexpected)

    # --- printing ---------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments as they are printed between the brackets."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        parts = [f"({name}): {text}" for name, text in self._printed_children()]
        if not parts and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        body = "\n".join([extra, *parts] if extra else parts).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"

    def _printed_children(self) -> Iterator[tuple[str, str]]:
        for name, child in self.named_children():
            yield name, repr(child)


def _check(owner: Module, name: str, value: object, kind: type) -> None:
    """Whether ``owner`` can have a member of this name, which must be of this kind or None."""
    own = type(owner).__name__
    if not isinstance(name, str):
        raise TypeError(f"{own}: a name must be a string, not {name!r}")
    if not name or "." in name:  # a dotted name is a path
        raise KeyError(f"{own}: a name must not be empty nor contain a dot: {name!r}")
    if value is not None and not isinstance(value, kind):
        raise TypeError(
            f"{own}: {name} must be a {kind.__name__} or None, got {type(value).__name__}"
        )
