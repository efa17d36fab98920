"""Colours that leave [0, 1]: what the prior is shown, and where a splat's own may go."""

import pytest
import torch

from splatdistill.scene.initial import Ball
from splatdistill.train.session import Session
from train.small import config, red_and_blue


def shown(**changes) -> tuple[Session, torch.Tensor]:
    """Return a session whose splats are far too bright, after a step, and the picture that the prior was shown."""
    prior = red_and_blue()
    session = Session(config(init=Ball(count=60, radius=0.7, opacity=0.9), **changes), prior)
    with torch.no_grad():
        session.state.scene.sh_dc[:] = 3.0  # rgb 1.35
    session.step()
    assert session.last is not None
    return session, prior.decode(session.last.view.x.detach())


def test_the_prior_is_shown_colours_in_range_if_asked():
    wild, tame = shown()[1], shown(clip_rgb=True)[1]
    assert wild.max() > 1.1 and tame.max() <= 1.0 + 1e-6
    torch.testing.assert_close(tame, wild.clamp(0, 1), rtol=0, atol=1e-5)


def test_what_is_clipped_gets_no_gradient():
    """clamp's, as in threestudio-3dgs, not a straight-through one."""
    clipped, free = (shown(**changes)[0].state.scene.sh_dc.grad for changes in ({"clip_rgb": True}, {}))
    assert clipped is not None and free is not None and clipped.norm() < 0.5 * free.norm()


@pytest.mark.parametrize("inner", [1, 3])
def test_splats_colours_stay_within_their_bounds_and_come_back(inner):
    session, _ = shown(clip_dc=2.0, inner=inner)
    dc = session.state.scene.sh_dc
    assert 1.9 < dc.max() <= 2.0 and dc.min() >= -2.0
    for _ in range(15):
        session.step()
    assert session.state.scene.sh_dc.max() <= 2.0 and (session.state.scene.sh_dc < 1.9).any()
    assert shown()[0].state.scene.sh_dc.max() > 2.5
