"""Where compiled kernels are kept between runs, and the decorator that compiles them.

A kernel is compiled when first called and then kept on disk. The folder's name carries a hash of everything that the
machine code depends on: all kernel sources, the versions of numba and llvmlite, and the processor. So an edit or an
upgrade compiles anew instead of running what is old; numba alone looks at one file per kernel.
"""

import hashlib
import inspect
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

import splatdistill.render

ENVIRONMENT = "SPLATDISTILL_CACHE"  # names the folder to use


def fingerprint() -> str:
    """Hash of the kernels' sources and of what compiles and runs them."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in [Path(splatdistill.render.__file__), *sorted(folder.rglob("*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    llvmlite.binding.initialize_native_target()
    machine = (numba.__version__, llvmlite.__version__, llvmlite.binding.get_host_cpu_name(), sys.version, platform.machine())
    digest.update(repr(machine).encode())
    return digest.hexdigest()[:16]


def candidates() -> list[Path]:
    """Folders to try, in order: the user's choice, the user's cache, a temporary one."""
    chosen = os.environ.get(ENVIRONMENT)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    temporary = Path(tempfile.gettempdir()) / f"splatdistill-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    return [*([Path(chosen)] if chosen else []), Path(user) / "splatdistill", temporary]


@cache
def directory() -> Path:
    """This version's folder, made in the first place that can be written to."""
    tried = []
    for place in candidates():
        folder = place / f"kernels-{fingerprint()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
        except OSError as error:
            tried.append(f"{folder}: {error}")
    raise OSError("no folder for compiled kernels can be written to; tried " + "; ".join(tried))


class _Locator(_CacheLocator):
    """Tells numba the folder; its name is the freshness stamp."""

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
    _locator_classes = [_Locator]


class _Cache(FunctionCache):
    _impl_class = _Implementation


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call, or load it. It runs without Python's global lock, so that our threads
    work side by side, and divides like C.
    """
    bare = inspect.unwrap(function)  # a type checker of the tests may have wrapped it
    dispatcher = numba.njit(nogil=True, error_model="numpy")(bare)
    dispatcher._cache = _Cache(bare)  # what cache=True does, in our own folder
    return dispatcher
