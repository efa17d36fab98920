"""Training of the embedded models goes on from a checkpoint as if it had never stopped."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    """Import scripts/train_tiny.py."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import embedded.tiny

        yield embedded.tiny
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def pictures(script, tmp_path_factory) -> Path:
    """Return a folder with a few training pictures."""
    work = tmp_path_factory.mktemp("pictures")
    script.main(["data", "--work", str(work), "--pictures", "64"])
    return work


def training(script, what: str, pictures: Path, out: Path):
    """Return the script's setup before its first step, small."""
    from embedded.losses import Data, PriorLoss, Settings

    torch.manual_seed(0)
    settings = Settings(what, 4, 4, 1e-3, pictures=64)
    tokenizer = script.make_tokenizer(out / "tokenizer", directions=what == "prior")
    model = script.Prior(tokenizer) if what == "prior" else script.make_clip(tokenizer)
    data = Data(pictures, torch.Generator().manual_seed(0))
    loss = (PriorLoss if what == "prior" else script.ClipLoss)(tokenizer, data, settings)
    return script.Training(out / what, model, script.Pace(4, 1e-3, 0.9, 2, 2, 300), data.rng, {}), loss


@pytest.mark.parametrize("what", ["prior", "clip"])
def test_a_stopped_training_goes_on_bit_for_bit(script, pictures, tmp_path, what):
    whole, loss = training(script, what, pictures, tmp_path / "whole")
    losses = [whole.take(loss) for _ in range(4)]
    whole.save()
    first, loss = training(script, what, pictures, tmp_path / "parts")
    before = [first.take(loss) for _ in range(2)]
    first.save()
    second, loss = training(script, what, pictures, tmp_path / "parts")
    assert second.step == 2
    assert before + [second.take(loss) for _ in range(2)] == losses
    second.save()
    a, b = (load_file(tmp_path / kind / what / "state.safetensors") for kind in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
