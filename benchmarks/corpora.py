"""``python -m benchmarks.corpora``: how fast a tokenizer learns, and how little memory data take.

The text is what every Python carries: its documentation and the sources of its standard library,
repeated as often as needed. With ``--size 10`` (megabytes, the default) 8,192 tokens are learnt and
the text is encoded. With ``--memory`` the text is prepared and trained on, each in a process of its
own, and their peaks of resident memory are told (Linux); ``--line`` puts all of it on one line.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt import tokenizer
from gpt.data import default_corpus

TRAINING = ("--steps", "20", "--eval-every", "20", "--eval-batches", "2", "--sample-tokens", "1")


def text_of_python(size: int) -> str:
    """About ``size`` characters."""
    texts, total = [default_corpus()], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if total < size and "site-packages" not in path.parts:
            texts.append(path.read_text(encoding="utf-8", errors="ignore").replace("\0", ""))
            total += len(texts[-1])
    return "\n".join(texts)[:size]


def speed(size: int, vocab_size: int) -> None:
    text = text_of_python(size)
    print(f"{len(text):,} characters")
    coder = timed(f"learn {vocab_size:,} tokens", lambda: tokenizer.train_bpe(text, vocab_size))
    ids = timed("encode", lambda: coder.encode(text))
    print(f"{len(ids):,} tokens")


def timed(what: str, work: Callable[[], Any]) -> Any:
    wall, own = time.perf_counter(), time.process_time()
    result = work()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    print(f"{what}: {wall:.1f} s ({own:.1f} s of CPU)", flush=True)
    return result


def memory(size: int, one_line: bool) -> None:
    """Prepare and train; the peak of each as the kernel knows it."""
    text = text_of_python(min(size, 10**7))
    if one_line:
        text = text.replace("\n", " ")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        with open(path, "w", encoding="utf-8", newline="") as file:
            for _ in range(size // len(text)):
                file.write(text)
        print(f"{path.stat().st_size:,} bytes of text", flush=True)
        made, run = f"{folder}/made", f"{folder}/run"
        for arguments in (
            ("prepare", str(path), "--out", made),
            ("train", "--data", made, "--out", run, *TRAINING),
        ):
            started = time.perf_counter()
            print(f"{arguments[0]}: {peak(arguments):,} MB at most", end="", flush=True)
            print(f", {time.perf_counter() - started:.0f} s", flush=True)


def peak(arguments: tuple[str, ...]) -> int:
    """The most megabytes that a command had in memory, mapped files included."""
    code = (
        "import sys; from gpt.__main__ import main; code = main(); "
        "print(open('/proc/self/status').read()); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    found = re.search(r"VmHWM:\s*(\d+) kB", done.stdout)
    if done.returncode or not found:
        sys.exit(done.stderr or f"{arguments[0]} ended with {done.returncode}, or this is no Linux")
    return int(found[1]) // 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpora", description=__doc__)
    parser.add_argument("--size", type=int, default=10, help="megabytes of text [10]")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--memory", action="store_true", help="prepare and train, in little memory")
    parser.add_argument("--line", action="store_true", help="the text is a single line")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.size * 10**6, arguments.line)
    else:
        speed(arguments.size * 10**6, arguments.vocab_size)


if __name__ == "__main__":
    main()
