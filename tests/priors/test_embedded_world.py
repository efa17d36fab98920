"""The embedded prior `world`: what it says of itself, and that sets of four are of what was asked for."""

import pytest
import torch

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.random import normal
from splatdistill.priors.sampling import ddim
from splatdistill.priors.weights import DEFAULT, EMBEDDED, WORLD, find, load
from splatdistill.settings import recipes
from splatdistill.settings.commands import parse_train
from splatdistill.settings.resolve import Weights, refuse_prompt
from splatdistill.toybox import COLOURS

pytestmark = pytest.mark.skipif(not (WORLD / "model_index.json").is_file(), reason="the embedded weights are not in this checkout")
CAMERAS = orbit([20.0, 110, 200, 290], 15.0, 2.8, 42.0)


@pytest.fixture(scope="module")
def four():
    return load("world", views=4)


def test_it_is_found_and_loaded_for_one_view_and_four(four) -> None:
    assert find("world").embedded == "world" and find("auto", cuda=False).embedded == DEFAULT == recipes.DEFAULT
    assert (four.name, four.image_size, four.views, four.prediction, four.perp_neg) == ("world", 128, 4, "sample", False)
    assert four.camera_guidance and not load("world").camera_guidance  # the first sees single pictures, of unknown cameras
    assert load("world").views == 1 and 0 < four.begins < 0.2


def test_the_names_of_families_are_those_of_the_embedded_priors() -> None:
    assert {recipes.family_of(name) for name in (*EMBEDDED, "some/weights")} == {*EMBEDDED, "sd"}
    assert Weights().family("world") == "world"
    assert parse_train(["--prompt", "a hamburger"], Weights().family).config.prior_views == 4  # auto's recipe


@torch.no_grad()
@pytest.mark.parametrize(("prompt", "colour"), [("a red mushroom", "red"), ("a green plastic chair", "green")])
def test_a_set_of_four_has_the_colour_that_was_asked_for(four, prompt: str, colour: str) -> None:
    text = Prompts(prompt, words=None).conditions(four, CAMERAS)
    blank = four.encode(torch.full((1, 3, 128, 128), 0.5))
    x = normal((4, *blank.shape[1:]), torch.Generator().manual_seed(0), blank)
    pictures = four.decode(ddim(four, x, text.positive, text.null, 5.0, 8)).clamp(0, 1)
    saturated = (pictures.amax(1) - pictures.amin(1)).flatten(1).topk(1000).indices
    shown = pictures.flatten(2).gather(2, saturated[:, None].expand(-1, 3, -1)).mean(2)
    nearest = {c: (shown - torch.tensor(COLOURS[c])).square().sum(1) for c in ("red", "green", "blue", "yellow")}
    assert all(min(nearest, key=lambda c, i=i: nearest[c][i].item()) == colour for i in range(4)), shown


def test_it_takes_prompts_of_real_objects_which_tiny_sends_there() -> None:
    for prompt in ("a hamburger", "an orange armchair", "a red mushroom", "a red ball on a blue cube", "red boots, front view"):
        refuse_prompt(prompt, "a blue chair", "world")
    with pytest.raises(UserError, match="--prior world"):
        refuse_prompt("a hamburger", "", "tiny")
    with pytest.raises(UserError, match="a pink bench"):
        refuse_prompt("a pink garden bench", "", "world")
    with pytest.raises(UserError, match="'dragon'"):
        refuse_prompt("a hamburger", "a dragon", "world")
