"""Nested tuples, lists and dicts of values, as functions take and return them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def leaves(tree: Any) -> list:
    """The values that are no tuple, list or dict, in order.

    >>> leaves({"a": 1, "b": (2, [3])})
    [1, 2, 3]
    """
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in leaves(branch)]
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves(branch)]
    return [tree]


def rebuilt(tree: Any, values: Iterable) -> Any:
    """``values`` in the structure of ``tree``, whose leaves they replace in order.

    >>> rebuilt({"a": 1, "b": (2, [3])}, "xyz")
    {'a': 'x', 'b': ('y', ['z'])}
    """
    return _filled(tree, iter(values))


def _filled(tree: Any, values: Iterator) -> Any:
    if isinstance(tree, (tuple, list)):
        branches = [_filled(branch, values) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    if isinstance(tree, dict):
        return type(tree)((key, _filled(branch, values)) for key, branch in tree.items())
    return next(values)


def mapped(function: Callable, tree: Any) -> Any:
    """The tree with ``function`` applied to every leaf."""
    return rebuilt(tree, map(function, leaves(tree)))


def spread(prefix: Any, tree: Any) -> list | None:
    """One value for each leaf of ``tree``: those of ``prefix``, each for all below its place.

    None if the prefix branches where the tree does not, or otherwise.

    >>> spread((0, None), ([1, 2], 3))
    [0, 0, None]
    """
    if isinstance(prefix, (tuple, list, dict)):
        if type(prefix) is not type(tree) or len(prefix) != len(tree):
            return None
        keys = range(len(tree)) if isinstance(prefix, (tuple, list)) else list(tree)
        if isinstance(prefix, dict) and prefix.keys() != set(keys):
            return None
        pairs = [(prefix[key], tree[key]) for key in keys]
        parts = [spread(*pair) for pair in pairs]
        return None if None in parts else [v for part in parts if part is not None for v in part]
    return [prefix] * len(leaves(tree))
