"""What is done with operations beyond evaluating them, per thread: by default they are recorded."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator
from typing import Any

_GENERATOR = 0x20  # inspect.CO_GENERATOR; importing inspect takes as long as half of tensorgrad


class Watcher:
    """What is told of the operations of a thread while it is :class:`watching`.

    These methods do nothing; a subclass has those that it needs.
    """

    def evaluated(self, op: Any, args: tuple, values: list, params: dict, result: Any) -> None:
        """An op was applied; ``values`` are the arrays of ``args``, in their common dtype."""

    def applied(self, name: str, args: tuple, results: list, node: Any) -> None:
        """A function with a backward of its own was applied; ``node`` is None if unrecorded."""

    def written(self, tensor: Any, source: Any, index: Any) -> None:
        """A tensor, or what ``index`` picks of it, was overwritten by ``source``."""

    def differentiated(self, node: Any, g: Any, gradients: list) -> None:
        """A backward pass has given a node ``g``, and got (position, gradient) for arguments."""


class _Mode(threading.local):
    recording = True
    inference = False  # results are inference tensors, which no backward pass may save
    checking = False  # recorded operations and their derivatives are searched for nan and inf
    watcher: Watcher | None = None  # is told of every operation
    endings: list[Callable[[], None]] | None = None  # for the end of the backward pass under way


state = _Mode()

# One entry for each place that has switched on inference, checking or a watcher, in whatever
# thread: while it is empty, an operation need not ask.
unusual: list[object] = []


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return state.recording


def is_inference_mode_enabled() -> bool:
    """Whether results are inference tensors in this thread."""
    return state.inference


def is_anomaly_enabled() -> bool:
    """Whether operations are searched for nan and inf in this thread."""
    return state.checking


class _Recording:
    """Sets recording while it is entered; as a decorator, while the function runs."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.previous: list[Any] = []  # a stack, so that one object can be entered repeatedly

    def __enter__(self) -> None:
        self.previous.append(state.recording)
        state.recording = self.mode and not state.inference

    def __exit__(self, *exc: object) -> None:
        state.recording = self.previous.pop()

    def _again(self) -> _Recording:
        """Another one like this."""
        return _Recording(self.mode)

    def __call__(self, function: Callable) -> Callable:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _GENERATOR:
            return self._wrapped_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():  # its own, for several threads may be in the function
                return function(*args, **kwargs)

        return wrapped

    def _wrapped_generator(self, function: Callable) -> Callable:
        """Only the body runs in this mode, not what its caller does between two values."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Generator:
            generator, recording = function(*args, **kwargs), self._again()
            resume, value = generator.send, None
            try:
                while True:
                    with recording:
                        result = resume(value)
                    try:
                        resume, value = generator.send, (yield result)
                    except GeneratorExit:
                        with recording:
                            generator.close()
                        raise
                    except BaseException as error:
                        resume, value = generator.throw, error
            except StopIteration as stop:
                return stop.value

        return wrapped


class set_grad_enabled(_Recording):
    """Switch recording on or off: a call, a context manager, or a decorator."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self.before = state.recording  # a `with` ends with what was before this call
        state.recording = bool(mode) and not state.inference

    def __exit__(self, *exc: object) -> None:
        state.recording = self.before

    def __call__(self, function: Callable) -> Callable:
        state.recording = self.before  # a decorator switches only while the function runs
        return super().__call__(function)


class no_grad(_Recording):
    """Do not record: ``with no_grad():``, ``@no_grad()`` or ``@no_grad``."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: Callable | None = None) -> None:
        super().__init__(False)


class enable_grad(no_grad):
    """Record, inside a :class:`no_grad` block; written in the same three ways."""

    def __init__(self, function: Callable | None = None) -> None:
        super().__init__()
        self.mode = True


class inference_mode(_Recording):
    """:class:`no_grad` whose results, inference tensors, can never take part in a backward pass.

    ``with inference_mode():``, ``@inference_mode()`` or ``@inference_mode``;
    ``inference_mode(False)`` is an ordinary stretch inside. An operation that would save an
    inference tensor for its derivative raises, and outside no inference tensor is written in place;
    views of ordinary tensors stay ordinary. Nothing is recorded under ``enable_grad`` either.

    >>> import tensorgrad
    >>> with tensorgrad.inference_mode():
    ...     y = tensorgrad.ones(2) * 3
    >>> y.is_inference(), y.clone().is_inference()
    (True, False)
    """

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)

    def __enter__(self) -> None:
        self.previous.append((state.recording, state.inference))
        state.recording, state.inference = self.mode, not self.mode
        unusual.append(inference_mode)

    def __exit__(self, *exc: object) -> None:
        unusual.remove(inference_mode)
        state.recording, state.inference = self.previous.pop()

    def _again(self) -> _Recording:
        return inference_mode(not self.mode)


class set_detect_anomaly:
    """Switch the search for nan and inf on or off: a call, or a context manager.

    While it is on, the first recorded operation with nan or inf in its result raises RuntimeError,
    and so does the first backward step with nan or inf in a gradient (PyTorch: a gradient with
    nan). An inf is no fault if an operand was infinite already, as under a mask of -inf. Where
    nothing is recorded nothing is checked. It holds for this thread, and costs nothing when off.

    Args:
        check_nan: False checks nothing; the line of every operation is known without it.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = state.checking
        self._switch(bool(mode and check_nan))

    def _switch(self, checking: bool) -> None:
        if checking and not state.checking:
            unusual.append(set_detect_anomaly)
        elif state.checking and not checking:
            unusual.remove(set_detect_anomaly)
        state.checking = checking

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self._switch(self.before)


class detect_anomaly(set_detect_anomaly):
    """Search a block for nan and inf; what counts is told at :class:`set_detect_anomaly`.

    >>> import tensorgrad
    >>> x = tensorgrad.tensor([1.0, 0.0], requires_grad=True)
    >>> with tensorgrad.autograd.detect_anomaly():
    ...     x.sqrt().sum().backward()
    Traceback (most recent call last):
    RuntimeError: the backward pass of sqrt gives inf in the gradient of its argument 'x', ...
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.before = state.checking
        self.checking = check_nan

    def __enter__(self) -> None:
        self.before = state.checking
        self._switch(self.checking)


class watching:
    """Tell ``watcher`` of every operation of this thread; with None, nobody is told."""

    def __init__(self, watcher: Watcher | None) -> None:
        self.watcher = watcher

    def __enter__(self) -> None:
        self.before = state.watcher
        state.watcher = self.watcher
        unusual.append(watching)

    def __exit__(self, *exc: object) -> None:
        unusual.remove(watching)
        state.watcher = self.before
