"""Modules that hold modules, or parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_int
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from .linear import Linear, activated
from .module import Module, Parameter


class _Numbered(Module):
    """Children called ``"0"``, ``"1"``, …, and what lists can do."""

    def _renumber(self, modules: Iterable[Any]) -> None:
        modules = list(modules)
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def _key(self, i: int) -> str:
        """The name of the ``i``-th child, counted from the end if negative."""
        n = len(self)
        if not -n <= as_int(i) < n:
            raise IndexError(f"index {i} is out of range for {n} modules")
        return list(self._modules)[i]

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before another; returns the container."""
        children = list(self.children())
        children.insert(index, module)
        self._renumber(children)
        return self

    def pop(self, key: int = -1) -> Module:
        """Take a module out and return it."""
        module = self[key]
        del self[key]
        return module

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._of(list(self.children())[index])
        return self._modules[self._key(index)]

    def _of(self, modules: list[Module]) -> Any:
        """A container of the same class around some of the modules."""
        made = self.__class__.__new__(self.__class__)
        Module.__init__(made)
        made._renumber(modules)
        return made

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        children = list(self.children())
        if not isinstance(index, slice):
            self._key(index)
        del children[index]
        self._renumber(children)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __add__(self, other: Iterable[Module]) -> Any:
        return self._of([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> Any:
        return self.extend(other)


class Sequential(_Numbered):
    """Modules applied one after the other: ``Sequential(a, b)(x)`` is ``b(a(x))``.

    ``Sequential({"name": a, ...})`` gives them names. A linear layer and a ReLU or GELU behind it
    are computed as one operation, unless one of them has hooks.
    """

    _expects = "one input"

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        pairs = named.items() if named is not None else ((str(i), m) for i, m in enumerate(modules))
        for name, module in pairs:
            self.add_module(name, module)  # type: ignore[arg-type]

    def forward(self, x: Any) -> Any:
        modules = self.children()
        for module in modules:
            behind = next(modules, None) if type(module) is Linear else None
            x = module(x) if behind is None else activated(module, behind, x)
        return x

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            made = self._of([])
            for name, module in list(self.named_children())[index]:
                made.add_module(name, module)
            return made
        return super().__getitem__(index)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Sequential(Linear(3, 4), Linear(4, 2)), (tensorgrad.randn(5, 3),)


class ModuleList(_Numbered):
    """A list of modules whose parameters are found."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _printed_children(self) -> Iterator[tuple[str, str]]:
        """Equal neighbours once, with their range and number."""
        runs: list[tuple[int, int, str]] = []
        for i, child in enumerate(self):
            text = repr(child)
            first = runs.pop()[0] if runs and runs[-1][2] == text else i
            runs.append((first, i, text))
        for first, last, text in runs:
            if first == last:
                yield str(first), text
            else:
                yield f"{first}-{last}", f"{last - first + 1} x {text}"


class ModuleDict(Module):
    """A dict of modules whose parameters are found."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for name, module in dict(modules).items():
            self[name] = module

    def clear(self) -> None:
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Module | None]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module | None]]:
        return self._modules.items()

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)


class _Parameters(Module):
    """Printed one parameter a line."""

    def __repr__(self) -> str:
        lines = "".join(f"\n    {_described(*item)}" for item in self._parameters.items())
        lines += "\n" if lines else ""
        return f"{type(self).__name__}({lines})"


class ParameterList(_Parameters):
    """A list of parameters that are found; tensors become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end; returns the list."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end; returns the list."""
        for value in list(values):
            self.append(value)
        return self

    def _key(self, i: int) -> str:
        n = len(self)
        if not -n <= as_int(i) < n:
            raise IndexError(f"index {i} is out of range for {n} parameters")
        return str(i % n)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self._parameters[self._key(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.register_parameter(self._key(index), _as_parameter(value))

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)


class ParameterDict(_Parameters):
    """A dict of parameters that are found; tensors become parameters."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update(values or {})

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace parameters; those of a plain dict in the order of their names."""
        pairs = dict(values).items()
        plain = isinstance(values, Mapping) and not isinstance(values, OrderedDict)
        for name, value in sorted(pairs) if plain else pairs:
            self[name] = value

    def pop(self, key: str) -> Any:
        """Take a parameter out and return it."""
        value = self[key]
        del self[key]
        return value

    def keys(self) -> Iterable[str]:
        return self._parameters.keys()

    def values(self) -> Iterable[Any]:
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._parameters.items()

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)


def _as_parameter(value: Any) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, Parameter):
        return Parameter(value)
    return value


def _described(name: str, parameter: Any) -> str:
    sizes = "x".join(map(str, parameter.shape))
    kind = "Parameter" if isinstance(parameter, Parameter) else "Tensor"
    return f"({name}): {kind} containing: [{parameter.dtype} of size {sizes}]"
