"""A file is written whole or not at all, whatever fails on the way."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from round_trip import same

import tensorgrad
from tensorgrad.serialization import load, replace, save

OBJECT = {"ä": tensorgrad.arange(3).float(), "b": [1, None]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    save(OBJECT, path)
    return path


def full_disk(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_a_full_disk(fails: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fails, full_disk)
    complaint = r"safetensors cannot be written \(No space left on device\) and is left as it was$"
    with pytest.raises(OSError, match=complaint):
        save({}, saved)
    assert same(load(saved), OBJECT)
    assert os.listdir(saved.parent) == [saved.name]


def test_a_write_that_fails(saved: Path) -> None:
    """The system takes the first 20,000 bytes, and no more."""
    resource = pytest.importorskip("resource", reason="no limits on files here")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"safetensors cannot be written \(File too large\)"):
            save(tensorgrad.zeros(10_000), saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(load(saved), OBJECT)
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_ctrl_c_while_writing(fails: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fails, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save({}, saved)
    assert same(load(saved), OBJECT)
    assert os.listdir(saved.parent) == [saved.name]


def test_contents_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[int]]] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def watched(*args: Any, name: str = name, real: Any = real) -> None:
            calls.append((name, sorted(path.stat().st_size for path in tmp_path.iterdir())))
            real(*args)

        monkeypatch.setattr(os, name, watched)
    replace({tmp_path / "a": b"1", tmp_path / "b": [b"2", b"", b"3"]})
    assert calls == [
        ("fsync", [1]), ("fsync", [1, 2]), ("replace", [1, 2]), ("replace", [1, 2]),
        ("fsync", [1, 2]),
    ]  # fmt: skip
    assert (tmp_path / "b").read_bytes() == b"23"


def test_folders_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where they cannot be opened: the files are written all the same."""
    real = os.open

    def refuse(path: Any, *args: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    replace({tmp_path / "a": b"1"})
    assert (tmp_path / "a").read_bytes() == b"1"


def test_several_files_change_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    replace({a: b"1", b: b"1"})
    synced: list[int] = []

    def second_fails(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            full_disk()

    monkeypatch.setattr("os.fsync", second_fails)
    with pytest.raises(OSError, match="b cannot be written"):
        replace({a: b"2", b: b"2"})
    assert (a.read_bytes(), b.read_bytes()) == (b"1", b"1")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    save(1, real)
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no links here")
    save(2, link)
    assert link.is_symlink()
    assert load(real) == 2
    assert os.listdir(real.parent) == ["real"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a regular file"):
        save(1, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_two_at_once(tmp_path: Path) -> None:
    """The last one wins, and nobody ever sees half of one."""
    path = tmp_path / "x"
    objects = [{"a": tensorgrad.full((1000 * (i + 1),), i)} for i in range(4)]
    save(objects[0], path)
    failures: list[BaseException] = []

    def work(obj: Any) -> None:
        try:
            for _ in range(10):
                save(obj, path)
                loaded = load(path)
                assert any(same(loaded, one) for one in objects)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(obj,)) for obj in objects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["x"]
