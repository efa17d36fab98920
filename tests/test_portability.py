"""Systems that lack what only Linux has: every module can be imported and a run made, locks by Windows' own calls, and numbers that
are the same thing everywhere.
"""

import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest
from conftest import ROOT

from splatdistill import system

LACKING = """
import builtins, os, signal, types

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
NAMES = {
    "os": "sched_getaffinity fork getuid geteuid getgid getppid killpg setsid getpgid register_at_fork mkfifo sysconf uname getloadavg chown fchmod "
          "fdatasync pread pwrite statvfs nice wait4 waitid O_NOFOLLOW O_NONBLOCK O_CLOEXEC",
    "signal": "SIGHUP SIGALRM SIGKILL SIGUSR1 SIGUSR2 SIGCHLD SIGPIPE alarm setitimer pause sigwait pthread_sigmask pthread_kill",
}

def without(module, names):
    made = types.ModuleType(module.__name__)
    made.__dict__.update({k: v for k, v in vars(module).items() if k not in names.split()})
    return made

poorer, whole = {name: without(__import__(name), names) for name, names in NAMES.items()}, builtins.__import__

def importing(name, globals=None, locals=None, fromlist=(), level=0):
    if ((globals or {}).get("__name__") or "").startswith("splatdistill") and level == 0:
        if name in MODULES:
            raise ImportError(name)
        if name in poorer:
            return poorer[name]
    return whole(name, globals, locals, fromlist, level)

builtins.__import__ = importing  # other libraries know the systems themselves, and would take this one for what it is
"""
IMPORTS = """
import importlib, pkgutil, splatdistill, splatdistill_viewer
found = [m.name for p in (splatdistill, splatdistill_viewer) for m in pkgutil.walk_packages(p.__path__, p.__name__ + ".") if not m.name.endswith("__main__")]
for name in found:
    importlib.import_module(name)
print(len(found), "modules")
"""
RUN = """
import functools
from splatdistill.cli import main
from splatdistill.train import loop
loop.finish = functools.partial(loop.finish, size=16, frames=2)
assert main(["train", "--prompt", "a red ball", "--prior", "tiny", "--device", "cpu", "--steps", "2", "--init.count", "50", "--preview-every", "1", "--out", "run"]) == 0
assert main(["train", "--resume", "run", "--steps", "3"]) == 0
assert main(["export", "run", "--out", "run.sog"]) == 0
assert main(["doctor"]) == 0
"""


def test_every_module_and_a_run_do_without_what_only_linux_has(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "viewer")])}
    ended = subprocess.run([sys.executable, "-c", LACKING + IMPORTS + RUN], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[0]) > 200 and (tmp_path / "run" / "splats.ply").is_file() and (tmp_path / "run.sog").is_file()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a stand-in for Windows' module of locks, built on the one kind of Linux' locks with the same behaviour: of a
    range of bytes, owned by whoever opened the file.
    """

    def locking(file: int, mode: int, count: int) -> None:
        assert mode == 2
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, os.lseek(file, 0, os.SEEK_CUR), count, 0)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
        except BlockingIOError as e:
            raise PermissionError(13, "Permission denied") from e

    made = types.ModuleType("msvcrt")
    made.__dict__.update(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", made)


def locks(path: Path) -> None:
    """Check that one at a time holds the lock on a file that is written meanwhile."""
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2))
    try:
        assert system.lock(first) and not system.lock(second)
        path.write_bytes(b"as long as it likes")
        os.close(first)
        assert system.lock(second) and path.read_bytes() == b"as long as it likes"
    finally:
        os.close(second)


def test_a_lock_is_one_holder_s(tmp_path: Path) -> None:
    locks(tmp_path / "log")


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="no locks of open files here to stand in for Windows'")
def test_so_is_one_by_the_calls_of_windows(tmp_path: Path, windows: None) -> None:
    locks(tmp_path / "log")


def test_a_system_without_locks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, name, None)
    with (tmp_path / "log").open("wb") as file, pytest.raises(OSError, match="no locks"):
        system.lock(file.fileno())


def test_peak_memory_is_bytes_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil  # imports the module resource itself

    assert psutil.Process().memory_info().rss > 0
    here = system.peak_resident()
    assert 50 * 2**20 < here < 100 * 2**30
    taken = bytearray(os.urandom(2**20) * 100)
    assert system.peak_resident() >= 0.9 * len(taken)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert system.peak_resident() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.9 * len(taken) < system.peak_resident() <= 1.1 * here + len(taken)


def test_cores_are_those_of_this_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.cores() == os.cpu_count()


def test_a_child_is_asked_to_stop_as_by_ctrl_c(tmp_path: Path) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's parent ignores it\ntry:\n    print('there', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('asked')"
    with (tmp_path / "lock").open("wb") as file:
        assert system.lock(file.fileno())
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **system.apart(file.fileno())) as child:
            assert child.stdout is not None and child.stdout.readline() == "there\n"
            assert os.getpgid(child.pid) == child.pid
            file.close()
            with (tmp_path / "lock").open("wb") as other:
                assert not system.lock(other.fileno()), "the child holds the lock on"
            system.ask_to_stop(child)
            assert child.stdout.readline() == "asked\n" and child.wait(10) == 0


def test_signals_that_ask_politely() -> None:
    assert set(system.POLITE) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} and signal.SIGHUP == system.HANGUP
