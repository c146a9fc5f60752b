"""What the commands of the benchmarks say to wrong flags, and the processes that take a core."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks import beside, command


@pytest.mark.parametrize(
    ("given", "complaint"),
    [(["nope"], "there is no configuration 'nope': choose from char, tiny"),
     (["char", "--turns", "x"], "invalid int value: 'x'"),
     (["--nope"], "unrecognized arguments: --nope")],
)  # fmt: skip
def test_wrong_flags(given: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.parser("benchmarks", None).parse_args(given)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line


def test_without_pytorch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        command.need_torch()
    assert end.value.code == 2
    assert "pip install torch==2.13.0" in capsys.readouterr().err


def seconds_used(pid: int) -> float:
    """What a process has taken of the processor so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / 100  # clock ticks in user mode; there are 100 a second on Linux


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_others_rest_but_when_they_run() -> None:
    others = beside.Others(1)
    (process,) = others.processes
    try:
        time.sleep(0.1)
        before = seconds_used(process.pid)
        time.sleep(0.2)
        assert seconds_used(process.pid) == before
        deadline = time.monotonic() + 30
        with others.running():
            while seconds_used(process.pid) == before:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        others.end()
    assert process.wait() != 0
