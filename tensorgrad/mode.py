"""Whether operations are recorded: per thread, on by default."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator
from typing import Any

_GENERATOR = 0x20  # inspect.CO_GENERATOR; importing inspect takes as long as half of tensorgrad


class _Mode(threading.local):
    recording = True


state = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return state.recording


class _Recording:
    """Sets recording while it is entered; as a decorator, while the function runs."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.previous: list[bool] = []  # a stack, so that one object can be entered repeatedly

    def __enter__(self) -> None:
        self.previous.append(state.recording)
        state.recording = self.mode

    def __exit__(self, *exc: object) -> None:
        state.recording = self.previous.pop()

    def __call__(self, function: Callable) -> Callable:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _GENERATOR:
            return self._wrapped_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _Recording(self.mode):  # its own, for several threads may be in the function
                return function(*args, **kwargs)

        return wrapped

    def _wrapped_generator(self, function: Callable) -> Callable:
        """Only the body runs in this mode, not what its caller does between two values."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Generator:
            generator, recording = function(*args, **kwargs), _Recording(self.mode)
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
        state.recording = mode

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
