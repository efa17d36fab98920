"""Calls of the operating system that Linux, macOS and Windows make differently, each written once."""

import os
import signal
import subprocess
import sys
from typing import Any

FAR = 2**40  # where a lock lies on Windows, beyond whatever is written: where it lies, nobody else can read
HANGUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
POLITE: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""Signals that ask a process to end: Ctrl-C, kill, a terminal that is closed, and on Windows Ctrl-Break."""
BINARY: int = getattr(os, "O_BINARY", 0)  # for os.open; without it Windows writes "\r\n" for "\n"


def cores() -> int:
    """Return the number of processor cores that this process may use, or that there are where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_resident() -> int:
    """Return the most memory that this process has had, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # bytes on macOS, KiB on Linux


def lock(file: int) -> bool:
    """Lock an open file until it is closed or the process ends; return False if another holds the lock. OSError where the file
    system knows no locks, or the system none.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_far(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_far(file: int) -> bool:
    """Lock a file as `lock` does, by Windows' locks of a range of bytes; return whether that succeeded."""
    try:
        import msvcrt
    except ImportError as e:
        raise OSError("this system has no locks that are known here") from e
    windows: Any = msvcrt
    os.lseek(file, FAR, os.SEEK_SET)
    try:
        windows.locking(file, windows.LK_NBLCK, 1)
    except PermissionError:
        return False
    return True


def apart(keep: int) -> dict[str, Any]:
    """Return the arguments of subprocess.Popen for a child that Ctrl-C in this process's terminal does not reach, so that it can be
    asked once, from here. It inherits the file `keep` where that can be, and with it the lock on it.
    """
    if (group := getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", None)) is not None:  # Windows
        return {"creationflags": group}
    return {"process_group": 0, "pass_fds": (keep,)}


def ask_to_stop(child: subprocess.Popen) -> None:
    """Ask a child that was begun `apart` to end as by Ctrl-C."""
    child.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
