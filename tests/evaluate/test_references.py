import dataclasses

import pytest
import torch

from splatdistill.api import settle
from splatdistill.cameras import orbit
from splatdistill.evaluate.acceptance import look
from splatdistill.evaluate.references import background_of, fitted, sampled
from splatdistill.evaluate.truth import likeness
from splatdistill.priors.weights import load
from splatdistill.render import rasterizer
from splatdistill.toybox.things import draw, understood
from splatdistill.toybox.world import VIEWS


def test_the_background_is_what_lies_along_the_edges() -> None:
    behind = torch.tensor([0.2, 0.7, 0.4])
    pictures = draw(understood("a red ball"), orbit([0.0, 90.0], 15.0, *VIEWS.middle, 32), behind.expand(2, 3)).rgb
    torch.testing.assert_close(background_of(pictures), behind, atol=1e-3, rtol=0)


def test_sets_are_compared_on_their_own_background_after_their_best_turn() -> None:
    found = sampled(load("world", views=4), understood("a pink toilet"), torch.Generator().manual_seed(0), sets=1, steps=6)
    assert found.images.shape == (1, 4, 3, 128, 128)
    assert found.psnr >= found.psnr_unturned
    assert found.psnr > 14  # noise has 7, a plain picture of the background 12


@pytest.mark.parametrize("prompt", ["a pink toilet"])
def test_splats_that_are_shown_the_truth_come_near_to_it(prompt: str) -> None:
    config = dataclasses.replace(settle(prompt, "sdi", {"prior": "world"})[0].config, steps=30)
    thing, here = understood(prompt), rasterizer("cpu")
    near = likeness(look(fitted(config, thing, 64, here), here).seen, thing)
    assert near.iou.mean() > 0.85 and near.psnr.mean() > 20
