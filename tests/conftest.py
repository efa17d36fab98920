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
    """True for a module that hands its functions to numba, which can compile them only bare."""
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
    """The device given by --device; asking for one that is not there fails the test, it does not skip it."""
    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.fail("--device cuda was asked for, but torch sees no CUDA device", pytrace=False)
    return chosen


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Library code draws from explicit generators; this pins what tests and third parties draw besides."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def rng() -> torch.Generator:
    """A fresh CPU generator, the same in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, without hub or network."""
    from splatdistill.priors import weights

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion pipeline on disk, small and untrained."""
    from helpers import write_sd_folder

    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def short_films(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave what they leave, smaller."""
    from splatdistill.train import loop

    monkeypatch.setattr(loop, "finish", functools.partial(loop.finish, size=16, frames=2))
