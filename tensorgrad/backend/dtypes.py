"""The dtypes of tensors: one object for each, with PyTorch's facts, over NumPy's dtypes."""

from __future__ import annotations

import numpy as np


class dtype:
    """The type of a tensor's elements: ``tensorgrad.float32`` and its like, one object for each.

    Equal to NumPy's dtype of that kind and to its name; NumPy takes it wherever it takes a dtype.
    Arrays keep NumPy's own: this is what ``Tensor.dtype`` shows.

    >>> float32.is_floating_point, float32.itemsize, float32 == np.float32
    (True, 4, True)
    """

    # ``dtype`` is where NumPy looks; formulas, which run on arrays and on tensors, use ``kind``.
    __slots__ = ("dtype", "name", "kind", "itemsize", "is_floating_point", "is_signed")
    is_complex = False

    def __init__(self, name: str) -> None:
        self.dtype = np.dtype(name)
        self.name = name
        self.kind = self.dtype.kind
        self.itemsize = self.dtype.itemsize
        self.is_floating_point = self.kind == "f"
        self.is_signed = self.kind in "fi"

    def __eq__(self, other):
        if other is None or isinstance(other, dtype):
            return self is other
        try:
            return self.dtype == other
        except TypeError:
            return NotImplemented

    def __hash__(self):
        return hash(self.dtype)

    def __repr__(self):
        return f"tensorgrad.{self.name}"

    def __reduce__(self):
        return _named, (self.name,)


def _named(name):
    return DTYPE[np.dtype(name)]


_NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
# By NumPy's dtype, from the narrowest to the widest.
DTYPE = {made.dtype: made for made in map(dtype, _NAMES)}
bool_, uint8, int8, int16, int32, int64, float16, float32, float64 = DTYPE.values()


def known_dtype(wanted):
    """NumPy's dtype for ``wanted``: one of ours, or a name or a type of NumPy or Python.

    Raises TypeError if tensors cannot have it.
    """
    if type(wanted) is dtype:
        return wanted.dtype
    try:
        known = np.dtype(wanted)
    except TypeError:
        known = wanted
    else:
        if known in DTYPE and wanted is not None:
            return known
    raise TypeError(f"tensors have no dtype {known}; they have {', '.join(_NAMES)}")


# --- the default ----------------------------------------------------------------------------------

_default = float32.dtype


def default_float():
    """NumPy's dtype for Python floats, and for what has no dtype of its own."""
    return _default


def get_default_dtype():
    """The dtype that Python floats become: float32, unless it was set otherwise."""
    return DTYPE[_default]


def set_default_dtype(d):
    """Make Python floats become tensors of the float dtype ``d`` from now on."""
    global _default
    known = known_dtype(d)
    if known.kind != "f":
        raise TypeError(f"only a float dtype can be the default, not {known}")
    _default = known


# --- limits ---------------------------------------------------------------------------------------


class finfo:
    """The limits of a float dtype, by default the default one, as Python numbers."""

    def __init__(self, type=None):
        known = _default if type is None else known_dtype(type)
        if known.kind != "f":
            raise TypeError(f"finfo: needs a float dtype, not {known}; iinfo tells about integers")
        facts = np.finfo(known)
        self.resolution = float(facts.resolution)
        self.min = float(facts.min)
        self.max = float(facts.max)
        self.eps = float(facts.eps)
        self.smallest_normal = self.tiny = float(facts.smallest_normal)
        self.bits = facts.bits
        self.dtype = known.name

    def __repr__(self):
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
            f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
            f"dtype={self.dtype})"
        )


class iinfo:
    """The limits of an integer dtype, as Python numbers."""

    def __init__(self, type):
        known = known_dtype(type)
        if known.kind not in "iu":
            raise TypeError(f"iinfo: needs an integer dtype, not {known}")
        facts = np.iinfo(known)
        self.min = int(facts.min)
        self.max = int(facts.max)
        self.bits = facts.bits
        self.dtype = known.name

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
