"""The weights that the package carries: there, small, recorded, and able to draw what they were never shown."""

import json

import torch

from splatdistill.priors.sampling import sample
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import TINY, find, load
from splatdistill.toybox import HELD_OUT, parse


def test_they_are_found_and_loaded_like_any_other_folder():
    prior = load("tiny", "cpu", "float32")
    assert find("tiny").embedded == "tiny" and isinstance(prior, StableDiffusionPrior)
    assert (prior.name, prior.image_size, prior.prediction) == ("tiny", 64, "v_prediction")


def test_all_embedded_files_stay_under_60_megabytes():
    assert sum(f.stat().st_size for f in TINY.parent.rglob("*") if f.is_file()) < 60e6


def test_their_training_is_on_record():
    for folder, name in ((TINY, "tiny"), (TINY.parent / "clip", "tiny-clip")):
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        losses = [row["loss"] for row in record["losses"]]
        assert record["name"] == name and record["step"] >= 3000 and record["settings"]["seed"] == 0
        went_on = record["settings"]["start"]  # from weights that were trained before, so that it began low
        assert losses[-1] < (0.9 if went_on else 0.5) * losses[0]


def test_held_out_pairs_are_drawn_in_their_colours():
    """The strongest hue of a sample's middle is the one that was asked for, for pairs that no picture showed."""
    prompts = ["a red mushroom", "a green mug", "a blue robot", "a red sofa"]
    assert all(pair in HELD_OUT for p in prompts for pair in parse(p).pairs)
    prior = load("tiny", "cpu", "float32")
    rng = torch.Generator().manual_seed(0)
    images = sample(prior, [f"{p}, front view" for p in prompts], 5.0, 20, rng=rng).clamp(0, 1)
    for image, prompt in zip(images, prompts, strict=True):
        middle = image[:, 16:48, 16:48].flatten(1)
        vivid = middle[:, (middle.amax(0) - middle.amin(0)).topk(200).indices].mean(1)
        assert ("red", "green", "blue")[int(vivid.argmax())] in prompt, (prompt, vivid)
