"""Where the two libraries may differ, each with its reason. What is not here is a disagreement."""

from __future__ import annotations

import re

# reason: (what the statement looks like, what PyTorch says). tensorgrad may give a result.
GOES_ON = {
    "PyTorch has no CPU kernel for this dtype": (
        "",
        "not implemented for|not supported for|does not support",
    ),
    "PyTorch has no derivative of the in-place form": ("the backward pass", "derivative for"),
    "an internal error of PyTorch": ("", "INTERNAL ASSERT FAILED"),
    "a negative fraction is cut to an integer, and that wraps around in bytes": (
        r"full|masked_fill|\] = ",
        "without overflow",
    ),
    "a result lies in its own order, where PyTorch keeps the strides of its input": (
        "view",
        "view size is not compatible",
    ),
    "a view made before its base had a history has one too": (
        "",
        "^a leaf Variable that requires grad is being used",
    ),
    "PyTorch's own backward pass makes a gradient of another shape": (
        "the backward pass",
        "returned an invalid gradient",
    ),
    "a number will do where PyTorch wants a tensor": ("", "must be Tensor, not (int|float|bool)"),
    "more combinations of arguments will do, as in a call of a Python function": (
        "",
        "received an invalid combination of arguments|missing 1 required positional arg"
        "|positional arguments? but|must be tuple of ints, not (int|NoneType)",
    ),
    "one of several views made at once may be written as any view": (
        "",
        "output of a function that returns multiple views",
    ),
    "PyTorch casts a gradient to the integers that it is not for": (
        "the backward pass",
        "can't be cast to the desired output type",
    ),
    "PyTorch cannot take some strides": ("kron|take_along_dim", "view size is not compatible"),
    "integers are divided as by /": ("addcdiv", "Integer division with addcdiv"),
    "PyTorch has no derivative with respect to floats among integers": (
        "the backward pass|_scatter",
        "Autograd not support dtype",
    ),
    "() is all dims for every reduction": ("logsumexp", "doesn't match the broadcast shape"),
    "a result of another float dtype is cast in place": (
        "",
        "Bad in-place call: input tensor dtype|float_power_ has dtype",
    ),
    "bools subtract as 0 and 1": ("", "Subtraction, the `-` operator, with"),
    "operands are promoted where PyTorch wants one dtype": ("", "expected dtype .* but got dtype"),
    "what is written may overlap with what is read": ("", "Please clone\\(\\) the tensor before"),
}

# reason: (the statement, what tensorgrad says, what PyTorch says: None, it goes on; "", whatever).
REFUSES: dict[str, tuple[str, str, str | None]] = {
    "fewer than two dims have no mT; PyTorch's is deprecated": ("", "m[TH]: needs two", None),
    "there are no singular values": ("norm", "needs singular values", None),
    "PyTorch does not look at the dtypes of empty factors": ("", "dtypes must be equal", None),
    "PyTorch complains of the dims of a scalar, of shapes elsewhere": (
        "", "", "Dimension specified|When source (is|and dest)|Number of indices"
    ),
    "some of PyTorch's index errors are RuntimeErrors": (
        "index_", "out of range", "out of DATA bounds|out of bounds for dim|Index to scalar"
    ),
    "PyTorch does not look at the dtype of an index that chooses nothing": (
        "", "index must be int64", None
    ),
    "PyTorch does not write when it rounds integers in place": (
        "the backward pass", "(floor_|ceil_|trunc_|round_) has overwritten", None
    ),
    "PyTorch writes to some tensors whose elements are one in several places": (
        "", "this memory cannot be written", ""
    ),
    "a 0-dim exponent is refused as a number is": ("", "to negative integer powers", None),
    "PyTorch's unflatten of 0-dim tensors ends in an unexpected error": (
        "unflatten", "", "unexpected error"
    ),
    "PyTorch has no CPU kernel for this dtype": ("", "", "not implemented for|does not support"),
    "PyTorch writes truth values into leaves that require grad": (
        r"logical_\w+_\(", "a leaf tensor", None
    ),
    "PyTorch looks at the number of chunks before it looks at the dim": (
        "chunk", "out of range", "to be greater than 0"
    ),
    "PyTorch cuts fractions off beta and alpha among integers": (
        "add.*mm|addmv|addr", "must be integers", None
    ),
    "PyTorch forbids what makes a tuple's element another, we wait for Python to": (
        "", "does not support item assignment", ""
    ),
    "PyTorch looks first whether one of several views made at once is written": (
        "", "", "output of a function that returns multiple views"
    ),
    "PyTorch looks for a dim before it counts the dims": (
        "baddbmm|addbmm", "must have 3 dims", "Dimension out of range"
    ),
    "a step of 0 is a RuntimeError when it comes of a cast, too": (
        "arange", "steps of 0", "step must be nonzero"
    ),
    "a sum of bools is an integer, also with alpha": (
        r"\.(add|sub)_\(.*alpha", "cannot be stored in place in a tensor of tensorgrad.bool", None
    ),
    "rounding decides whether a singular matrix looks like one": (
        "matrix_power|inv|solve", "the matrix is singular", None
    ),
    "PyTorch compares the dtypes before it looks at the indices": (
        "index_reduce", "out of range", "must have the same scalar type"
    ),
    "bools are no numbers to be ordered": ("kthvalue|bucketize", "takes no bools", ""),
    "PyTorch does not look whether the indices are in range": (
        "take_along_dim", "out of range for dim", None
    ),
    "PyTorch's parser complains first": (
        "", "",
        "must be Tensor, not|invalid combination of arg|must be tuple of ints|missing 1 req"
        "|positional arg",
    ),
}  # fmt: skip

# reason: (the line, what differs).
DIFFERS = {
    "PyTorch lets gradients through in place, as if the result were the input": (
        r"\.logical_\w+_\(", "^(second )?grads"
    ),
    "PyTorch's comparisons in place have a gradient, 0": (
        r"\.(eq|ne|lt|le|gt|ge)_\(", "^(second )?grads.*None|requires_grad: False"
    ),
    "outside of [0, 1], where logit is nan, PyTorch's gradient is nan too": ("logit", "grads"),
    "PyTorch takes the logarithm of a base that is a number in float32, and lacks it at 0": (
        r"= -?[\d.]+ \*\* |= True \*\*", "grads"
    ),
    "the sign of a determinant has no history, where PyTorch's has the gradient 0": (
        "slogdet", r"^out\[0\].requires_grad"
    ),
    "the 0th power is an identity without history, where PyTorch's has the gradient 0": (
        r"matrix_power\((.* )?0\)", "requires_grad|grads: None"
    ),
    "a number of nonzeros has the gradient 0, PyTorch's None": (r"norm\(.*\b0\b", "grads.* None"),
    "a norm's second derivative at 0 is 0 as its first, PyTorch's nan": ("norm", "^second.*nan"),
    "what is overwritten by a tensor has no gradient, where PyTorch's is 0": (
        r"_\(|\] = ", r"^grads\[\d\]: None, PyTorch array\([][\s,.0-]*(dtype=\w+)?\)$"
    ),
    "the second derivative of atan2 at the origin is 0 as the first, PyTorch's nan": (
        "atan2", "^second.*nan"
    ),
    "nan passes clamp with its gradient, in PyTorch without": ("special.*(clamp|clip)", "grads"),
    "PyTorch's gradient of block_diag counts no rows of an empty block": (
        r"\(0,\).*block_diag", "grads"
    ),
    "PyTorch copies a strided tensor of few elements that has a view in one dim": (
        "ravel", "shares memory"
    ),
    "PyTorch finds mean and variance in one pass, in which infinities become nan": (
        "special.*(var|std)_mean", "nan"
    ),
    "where the variance is nan, PyTorch's second derivative is not": ("var|std", "^second.*nan"),
    "beta=0 leaves the tensor out, whose gradient is None, PyTorch's 0": (
        "beta=0", "^grads.* None, PyTorch array"
    ),
    "the mean of no number is nan, as PyTorch's gradient is": ("special.*nanmean", "grads.*nan"),
    "logsigmoid's second derivative at infinity": ("special.*logsigmoid", "^second.*nan"),
    "what writes nothing leaves no history": (
        r"_scatter\(", "requires_grad: False|^(second )?grads: None"
    ),
    "PyTorch's broadcast_tensors returns a tensor of the right shape itself": (
        "broadcast_tensors", "grads"
    ),
    "at 0 copysign has the second derivative 0 as the first, PyTorch's is nan": (
        "copysign", "^second.*nan"
    ),
    "PyTorch takes the logarithm of a number in float32": (r"xlogy\([-\d.]+\)", "grads"),
    "a bound that equals the other takes the gradient, in PyTorch neither does": (
        r"(clamp|clip)_?\(min=.*max=", "grads"
    ),
    "PyTorch's gradient of var over the dims () counts one element": (
        r"(var|std).*dim=\(\)", "grads"
    ),
    "an empty part that is written has the gradient None, PyTorch's an empty one": (
        r"_scatter\(", r"grads\[\d\]: None, PyTorch array\(\[\], "
    ),
    "of values written to one place only the last has a gradient, in PyTorch all": (
        r"\[(\[.*\]|i\(.*\))\] = ", "grads"
    ),
    "nothing of an empty view is written, and nothing gets a history": (
        r"unfold\(-?\d+, 0, .*= ", "requires_grad: False, PyTorch True"
    ),
    "a product with an infinite factor keeps its exact derivative, PyTorch's is nan": (
        "special.*prod", "grads.*nan"
    ),
    "the second derivative of a power at 0, PyTorch's nan": (r"pow|\*\*", "^second.*nan"),
    "the derivative of a remainder of infinity, PyTorch's nan": (
        "special.*(%|remainder|fmod)", "grads.*nan"
    ),
    "an empty tensor holds what was in its memory": (r"new_empty|empty\(", "^out"),
    "what is overwritten passes no nan on": (
        r"_\(|\] = ", r"^grads\[\d\]: (None|0\.0), PyTorch .*nan"
    ),
    "softmax gives floats, also of no integers at all": ("softmax", r"float32\[.*int64\["),
    "which of equal elements is named is not specified": (
        "median.*dim|median\\(.*\\d|topk|kthvalue", r"^out\[1\]|^(second )?grads"
    ),
    "PyTorch reads a dim expanded from one element as if there were several": (
        r"'E'.*median", r"^out\[0\]"
    ),
    "PyTorch casts a step to an integer before it counts": ("arange.*dtype=", "^out"),
}  # fmt: skip


def ours_may_go_on(statement: str, theirs: Exception) -> str | None:
    """The reason why tensorgrad may have a result where PyTorch has an error."""
    for reason, (looks, says) in GOES_ON.items():
        if re.search(looks, statement) and re.search(says, str(theirs)):
            return reason
    return None


def ours_may_refuse(statement: str, ours: Exception, theirs: Exception | None) -> str | None:
    """The reason why tensorgrad may have an error where PyTorch has a result, or another error."""
    for reason, (looks, say, says) in REFUSES.items():
        agreed = says == "" or (says is theirs is None)
        if says and theirs is not None:
            agreed = re.search(says, str(theirs)) is not None
        if agreed and re.search(looks, statement) and re.search(say, str(ours)):
            return reason
    return None


def ours_may_differ(line: str, what: str) -> str | None:
    """The reason why tensorgrad may have another result than PyTorch."""
    for reason, (looks, differs) in DIFFERS.items():
        if re.search(looks, line) and re.search(differs, what, re.DOTALL):
            return reason
    return None
