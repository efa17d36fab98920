"""Cache of compiled kernels between runs, and the decorator that compiles them.

A kernel is compiled when first called and then kept on disk. The folder's name carries a hash of everything that the
machine code depends on: all kernel sources, the versions of numba and llvmlite, and the processor. So an edit or an
upgrade compiles anew instead of running what is old; numba alone looks at one file per kernel.
"""

import hashlib
import inspect
import math
import os
import platform
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import llvmlite
import llvmlite.binding
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

import splatdistill.render

ENVIRONMENT = "SPLATDISTILL_CACHE"  # names the folder to use
BURST = 20.0  # seconds; compilations closer together are announced once


def fingerprint() -> str:
    """Hash of the kernels' sources and of what compiles and runs them."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in [Path(splatdistill.render.__file__), *sorted(folder.rglob("*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    cpu = llvmlite.binding.get_host_cpu_name()
    machine = (numba.__version__, llvmlite.__version__, cpu, sys.version, platform.machine())
    digest.update(repr(machine).encode())
    return digest.hexdigest()[:16]


def _temporary() -> Path | None:
    """Return a folder that only this user can write to: what is loaded from a cache is run."""
    if not hasattr(os, "getuid"):  # Windows: the temporary folder is the user's own
        return Path(tempfile.gettempdir()) / "splatdistill"
    folder = Path(tempfile.gettempdir()) / f"splatdistill-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None  # `directory` names what remains
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if private else None


def candidates() -> list[Path]:
    """Return folders to try, in order: the user's choice, the user's cache, a temporary one."""
    chosen = os.environ.get(ENVIRONMENT)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    places = [Path(chosen) if chosen else None, Path(user) / "splatdistill", _temporary()]
    return [place for place in places if place is not None]


@cache
def directory() -> Path:
    """Return this version's folder, made in the first place that can be written to. OSError if there is none."""
    tried = []
    for place in candidates():
        folder = place / f"kernels-{fingerprint()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            tried.append(f"{folder}: {error.strerror}")
        else:
            return folder
    raise OSError(f"compiled kernels can be kept nowhere (set {ENVIRONMENT} to a folder): " + "; ".join(tried))


class _Locator(_CacheLocator):
    """Locator of numba's cache folder, whose name is the freshness stamp."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(directory())

    def get_source_stamp(self) -> str:
        return directory().name

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator":
        return cls(py_func)


class _Implementation(CompileResultCacheImpl):
    _locator_classes: ClassVar = [_Locator]


class _Cache(FunctionCache):
    """Compilation cache that reports when somebody has to wait, and works without a readable or writable folder."""

    _impl_class = _Implementation
    _last_compiled = -math.inf

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except (EOFError, OSError, UnpicklingError) as error:
            warnings.warn(f"kernels in {directory()} cannot be read ({error}): compiling them anew", stacklevel=2)
            self.flush()
            found = None
        if found is None:
            now = time.monotonic()
            if now - _Cache._last_compiled > BURST:
                print(
                    "splatdistill: compiling the CPU rasteriser for this processor: some ten seconds, only this once "
                    f"(kept in {directory()})",
                    file=sys.stderr,
                    flush=True,
                )
            _Cache._last_compiled = now
        return found

    def save_overload(self, sig: Any, cres: Any) -> None:
        _Cache._last_compiled = time.monotonic()
        try:
            super().save_overload(sig, cres)
        except OSError as error:
            warnings.warn(f"compiled kernels cannot be kept in {directory()}: {error}", stacklevel=2)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call, or load it. It runs without Python's global lock, so that our threads
    work side by side, and divides like C.
    """
    bare = inspect.unwrap(function)  # a type checker of the tests may have wrapped it
    dispatcher = numba.njit(nogil=True, error_model="numpy")(bare)
    setattr(dispatcher, "_cache", _Cache(bare))  # noqa: B010 (what cache=True does, in our own folder)
    return dispatcher
