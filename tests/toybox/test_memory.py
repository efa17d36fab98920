"""Memory that a long training gives back: what malloc keeps between pieces in use goes, and systems without malloc_trim are left alone."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest
from packs import SCRIPTS, script

FRAGMENTS = """
import ctypes, gc, os, sys, time
from pathlib import Path
import numpy as np
from embedded.memory import give_back

def resident():
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

arrays = [np.ones(4 << 10) for _ in range(8192)]  # 32 KiB each, below what malloc takes from the system piece by piece
arrays = arrays[::16]
kept = resident()
thread, end = give_back(0.05), time.monotonic() + 20
while resident() > kept - 150 and time.monotonic() < end:
    time.sleep(0.05)
print(kept, resident(), thread.daemon, all(a.sum() == 4096 for a in arrays))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim") or not os.path.exists("/proc/self/statm"), reason="no malloc_trim here")
def test_what_malloc_keeps_is_given_back_and_nothing_else() -> None:
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    ended = subprocess.run([sys.executable, "-c", FRAGMENTS], capture_output=True, text=True, env=env, timeout=120)
    assert ended.returncode == 0, ended.stderr
    before, after, daemon, whole = ended.stdout.split()
    assert int(after) < int(before) - 150 and (daemon, whole) == ("True", "True")


@pytest.mark.parametrize("library", [OSError("no such library"), TypeError("None is no name"), object()])
def test_systems_that_cannot_are_left_alone(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    memory = script("embedded.memory")

    def load(name: str | None) -> object:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(memory.ctypes, "CDLL", load)
    before = threading.active_count()
    assert memory.give_back(0.01) is None and threading.active_count() == before
