"""One writer for each path, however it ends; every second one is told who the first is."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import kerasbed as kb
from kerasbed.backend import locks
from tests import toys

pytestmark = pytest.mark.one_backend

# Locks without Keras and all that comes with it: a process that is there in a moment.
HOLDER = """
import importlib, sys, time, types
for name in ("kerasbed", "kerasbed.backend"):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
lock = importlib.import_module("kerasbed.backend.locks").hold(sys.argv[2])
print("held", flush=True)
time.sleep(60.0)
"""


@contextlib.contextmanager
def another_process(path):
    """A process that holds the path; it is killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(toys.ROOT), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_process_is_refused_by_the_name_of_the_first(tmp_path):
    path = tmp_path / "search.json"
    with another_process(path) as first:
        with pytest.raises(kb.errors.LockedError, match=rf"search.json is being written by process {first.pid} on"):
            locks.hold(path)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert (tmp_path / ".search.json.lock").exists()  # left behind, and in nobody's way
        locks.hold(path).release()
    assert list(tmp_path.iterdir()) == []


def test_two_objects_of_a_process_exclude_each_other(tmp_path):
    with locks.hold(tmp_path / "a"):
        locks.hold(tmp_path / "b").release()
        with pytest.raises(BlockingIOError, match=f"another object of this process .process {os.getpid()} on"):
            locks.hold(tmp_path / "a")
    lock = locks.hold(tmp_path / "a")
    lock.release()
    lock.release()
    del lock
    kept = locks.hold(tmp_path / "a")
    del kept
    locks.hold(tmp_path / "a").release()


def test_links_to_one_file_are_one_path(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with locks.hold(tmp_path / "file"), pytest.raises(kb.errors.LockedError):
        locks.hold(tmp_path / "link")


def test_of_many_at_once_one_holds(tmp_path):
    def attempt(_):
        try:
            with locks.hold(tmp_path / "a"):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()
                return 1
        except kb.errors.LockedError:
            return 0

    inside = []
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(400))) >= 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_lock_is_left_alone(tmp_path):
    lock = tmp_path / ".a.lock"
    lock.write_text("a diary")
    with pytest.raises(kb.errors.FileError, match="something else has that name"):
        locks.hold(tmp_path / "a")
    assert lock.read_text() == "a diary"
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(kb.errors.FileError, match="something else has that name"):
        locks.hold(tmp_path / "a")
    assert not (tmp_path / "elsewhere").exists()
    lock.unlink()
    for make in (lock.mkdir, lambda: os.mkfifo(lock)):
        make()
        with pytest.raises(kb.errors.FileError, match="something else has that name"):
            locks.hold(tmp_path / "a")
        (lock.rmdir if lock.is_dir() else lock.unlink)()


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing"):
        locks.hold(tmp_path / "missing" / "a")


def test_a_file_system_without_locks_warns(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    with pytest.warns(kb.errors.FileWarning, match="has no locks"):
        locks.hold(tmp_path / "a").release()
