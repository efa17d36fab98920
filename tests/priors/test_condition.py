"""Conditions join, split and repeat with all their parts; a prior is given those that it wants and no others."""

from dataclasses import replace

import pytest
import torch
from guidance.worlds import mixture
from train.small import config, red_and_blue

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.priors import Condition, Query
from splatdistill.priors.prompts import Prompts
from splatdistill.train.session import Session


def full(count: int, seed: int = 0) -> Condition:
    rng = torch.Generator().manual_seed(seed)
    return Condition(
        tokens=torch.randn(count, 5, 3, generator=rng),
        pooled=torch.randn(count, 4, generator=rng),
        mask=torch.rand(count, 5, generator=rng) > 0.5,
        image=torch.rand(count, 3, 8, 8, generator=rng),
        camera=torch.randn(count, 4, 4, generator=rng),
    )


def same(a: Condition, b: Condition) -> bool:
    return a.parts == b.parts and all(torch.equal(getattr(a, p), getattr(b, p)) for p in a.parts)


def test_pieces_join_to_the_whole():
    c = full(7)
    assert len(c) == 7 and len(c.parts) == 5
    assert [len(piece) for piece in c.split(3)] == [3, 3, 1]
    assert same(Condition.cat(c.split(3)), c) and same(Condition.cat([c[:2], c[2:]]), c)
    assert same(c[torch.tensor([4, 0])], Condition.cat([c[4:5], c[0:1]]))
    assert same(c[3:4].expand(4), Condition.cat([c[3:4]] * 4))


def test_a_camera_that_only_some_have_is_zeros_for_the_others_and_nothing_else_is_guessed():
    c = full(2)
    joined = Condition.cat([c, replace(c, camera=None)])
    assert torch.equal(joined.camera[:2], c.camera) and (joined.camera[2:] == 0).all()
    for part in ("tokens", "pooled", "mask", "image"):
        with pytest.raises(ValueError, match=part):
            Condition.cat([c, replace(c, **{part: None})])


def test_parts_have_one_length_and_there_is_at_least_one():
    with pytest.raises((ValueError, TypeError)):  # the latter from the checks of shapes in tests
        Condition(tokens=torch.zeros(2, 1, 1), pooled=torch.zeros(3, 1))
    with pytest.raises(ValueError):
        Condition()


def test_blending_mixes_the_vectors_and_keeps_every_token_that_counts():
    near, far = full(2), full(2, 1)
    c = Condition.blend(torch.tensor([1.0, 0.25]), near, far)
    assert torch.equal(c.tokens[0], near.tokens[0])
    torch.testing.assert_close(c.pooled[1], 0.25 * near.pooled[1] + 0.75 * far.pooled[1])
    assert torch.equal(c.mask, near.mask | far.mask)


def test_a_prior_is_given_the_cameras_that_it_wants_with_every_prompt():
    prior, cameras = mixture(), orbit([0.0, 90.0])
    assert Prompts("ball", perp_neg=True).conditions(prior, cameras).positive.parts == {"tokens"}
    prior.wants = frozenset({"tokens", "camera"})
    c = Prompts("ball", perp_neg=True).conditions(prior, cameras)
    for condition in (c.positive, c.negative, c.null, c.plain, *c.perp.others):
        torch.testing.assert_close(condition.camera, cameras.camera_to_world.double())
    x = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    answers = prior.answer([Query(x, torch.full((2,), 0.5), c.positive), Query(x, torch.full((2,), 0.5), c.null)])
    assert len(answers) == 2
    prior.wants = frozenset({"tokens", "image"})
    with pytest.raises(UserError, match="also wants image"):
        Prompts("ball").conditions(prior, cameras)


def test_guidance_amplifies_cameras_that_what_it_moves_away_from_is_not_told():
    """The words' own branch knows them; the negative, empty and plain prompts have zeros, an unknown camera."""
    prior, cameras = mixture(), orbit([0.0, 90.0])
    prior.wants = frozenset({"tokens", "camera"})
    c = Prompts("ball", camera_guidance=True, perp_neg=True).conditions(prior, cameras)
    for condition in (c.positive, *c.perp.others):
        torch.testing.assert_close(condition.camera, cameras.camera_to_world.double())
    for condition in (c.negative, c.null, c.plain):
        assert condition.camera.shape == (2, 4, 4) and not condition.camera.any()
    prior.wants = frozenset({"tokens"})
    assert Prompts("ball", camera_guidance=True).conditions(prior, cameras).negative.camera is None


@pytest.mark.parametrize("taught, asked, amplified", [(True, "auto", True), (False, "auto", False), (True, "off", False), (False, "on", True)])
def test_the_prior_says_whether_cameras_are_amplified_unless_the_person_does(taught, asked, amplified):
    prior = red_and_blue()
    prior.camera_guidance, prior.wants = taught, frozenset({"tokens", "camera"})
    session = Session(config(camera_guidance=asked, steps=2), prior)
    told = session.prompts.conditions(prior, orbit([0.0, 90.0]))
    assert told.positive.camera.any() and bool(told.negative.camera.any()) == (not amplified)
    session.step()
