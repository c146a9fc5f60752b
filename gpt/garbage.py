"""How often Python looks for garbage in circles."""

from __future__ import annotations

import gc


def search_rarely() -> None:
    """After 20,000 new objects and not after 700 (2,000 since Python 3.13).

    What is imported and compiled makes many that stay, and a training makes no circles: reference
    counts free what a step has made. For programs that train, as ``python -m gpt`` does.
    """
    gc.set_threshold(20_000, 20, 20)
