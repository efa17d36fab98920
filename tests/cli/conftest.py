"""Where subcommands are tried: an empty folder without hub or network, and a prior of random weights."""

from pathlib import Path

import pytest
from helpers import write_sd_folder

from splatdistill.priors import weights


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, without hub or network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of diffusers, small and untrained."""
    return write_sd_folder(tmp_path_factory.mktemp("sd"))
