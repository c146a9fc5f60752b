"""Gradients that need not become arrays of their own, as they can be added to one."""

from __future__ import annotations

import numpy as np


class Unwritten:
    """An array that is not written yet: ``add_to`` adds it to one, :meth:`written` makes it one.

    Those that there are have a shape and a dtype, and what they are computed from does not change
    until then.
    """

    __slots__ = ()
    base = None

    def add_to(self, out):
        """``out += self`` for an array ``out`` of this shape and dtype."""
        raise NotImplementedError

    def written(self, strides=()):
        """The array; its axes in memory, if it can choose, in the order of those that have these
        strides."""
        raise NotImplementedError

    def __array__(self, dtype=None, copy=None):
        out = self.written()
        return out if dtype is None else np.asarray(out, dtype)
