"""Each view gets its own words; each text is embedded once."""

import pytest
import torch

from splatdistill.cameras import ViewWords, orbit
from splatdistill.errors import UserError
from splatdistill.priors import Condition
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts

CAMERAS = orbit([0.0, 90.0, 180.0, -90.0, 10.0], [10.0, 10.0, 10.0, 10.0, 70.0])


@pytest.fixture
def prior() -> GaussianMixturePrior:
    """Return a prior with weights of its own for every possible text."""
    texts = ["mug", *(f"mug, {w} view" for w in ("front", "side", "back", "overhead")), "fog"]
    table = {text: [float(i == j) for j in range(6)] for i, text in enumerate(texts)}
    return GaussianMixturePrior(torch.zeros(6, 2), torch.ones(6), table)


def components(embedding: Condition) -> list[int]:
    return embedding.tokens[:, 0].argmax(-1).tolist()


def test_conditions_hold_the_text_of_each_view(prior: GaussianMixturePrior) -> None:
    c = Prompts("mug", "fog").conditions(prior, CAMERAS)
    assert components(c.positive) == [1, 2, 3, 2, 4]
    assert components(c.plain) == [0] * 5
    assert components(c.negative) == [5] * 5
    torch.testing.assert_close(c.null.tokens[:, 0].exp(), torch.full((5, 6), 1 / 6))
    assert len(c) == 5 and c.cameras is CAMERAS


def test_without_a_negative_prompt_it_is_the_null_prompt(prior: GaussianMixturePrior) -> None:
    c = Prompts("mug").conditions(prior, CAMERAS)
    assert torch.equal(c.negative.tokens, c.null.tokens)


def test_words_can_be_moved_or_left_out() -> None:
    cameras = orbit([0.0, 40.0], 10.0)
    assert Prompts("mug", words=ViewWords(front_angle=30)).texts(cameras) == ["mug, front view", "mug, side view"]
    assert Prompts("mug", words=None).texts(cameras) == ["mug", "mug"]


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(UserError, match="empty"):
        Prompts(prompt)
