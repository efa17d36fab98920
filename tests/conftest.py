"""Parts that every test shares: checked array shapes, one thread, fixed seeds, and the device under test."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch loads; inherited by the processes that tests start
os.environ.setdefault("SPLATDISTILL_NO_VIEWER", "1")  # pytest -s in a terminal is nobody who watches

import functools
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT / "tests", ROOT / "viewer", ROOT):  # the same import names as when installed
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _compiled(module: str) -> bool:
    """Return whether a module hands its functions to numba, which can compile them only undecorated."""
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return bool(re.search(r"^\s*(from|import) (numba|llvmlite)\b", source.read_text(encoding="utf-8"), re.MULTILINE))


_hook = install_import_hook("splatdistill", "checked.checked").hook
_ours = _hook.should_instrument
_hook.should_instrument = lambda module: _ours(module) and not _compiled(module)
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where device-dependent tests run: cpu (default) or cuda")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Return the device given by --device; a missing device fails the test instead of skipping it."""
    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.fail("--device cuda was asked for, but torch sees no CUDA device", pytrace=False)
    return chosen


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed the global generators, which tests and third parties use; library code draws from explicit ones."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def rng() -> torch.Generator:
    """Return a fresh CPU generator, the same in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder, without hub or network."""
    from splatdistill.priors import weights

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Stable Diffusion pipeline on disk, small and untrained."""
    from helpers import write_sd_folder

    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def short_films(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the films that runs leave."""
    from splatdistill.train import loop

    monkeypatch.setattr(loop, "finish", functools.partial(loop.finish, size=16, frames=2))
