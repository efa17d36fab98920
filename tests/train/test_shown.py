"""Pictures that a prior is shown of the splats: their colours, or their normals, which move shapes alone."""

import pytest
import torch

import splatdistill
from splatdistill.cameras import orbit
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput, rasterizer
from splatdistill.train.losses import Regularisers
from splatdistill.train.shown import shown


def sides() -> tuple[Gaussians, RenderOutput]:
    """Return the marked cube from its front, its left and below, with normals."""
    from marked_cube import cube

    return cube(), rasterizer("cpu")(cube(), orbit([0.0, 90.0, 0.0], [0.0, 0.0, -90.0], 3.0, 40.0, 48), torch.ones(3, 3), normals=True)


def test_normals_are_colours_of_their_own_before_the_same_background() -> None:
    """Red is x, green is y, blue is z; the cube's sides face along the axes."""
    _, out = sides()
    picture = shown(out, torch.tensor([[0.2, 0.4, 0.6]]).expand(3, 3), "normals")
    centre = picture[:, :, 24, 24]
    torch.testing.assert_close(centre, torch.tensor([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 0.0]]), atol=0.06, rtol=0)
    torch.testing.assert_close(picture[:, :, 0, 0], torch.tensor([[0.2, 0.4, 0.6]]).expand(3, 3), atol=1e-4, rtol=0)
    assert shown(out, torch.ones(3, 3), "colours") is out.rgb


@pytest.mark.parametrize("inner", [1, 3])
def test_a_run_that_shows_normals_moves_shapes_and_no_colours(inner: int) -> None:
    session = splatdistill.session("a red duck", "sds", prior="tiny", shows="normals", inner=inner)
    before = {name: p.detach().clone() for name, p in session.state.scene.named_parameters()}
    session.step()
    moved = {name: not torch.equal(p, before[name]) for name, p in session.state.scene.named_parameters() if p.numel()}
    assert moved["means"] and moved["quats"] and not moved["sh_dc"]
    assert session.last.out.normal is not None


@pytest.mark.parametrize("inner", [1, 2])
def test_normals_are_rendered_where_a_term_reads_them_and_nowhere_else(inner: int) -> None:
    for weight in (0.0, 0.5):
        session = splatdistill.session("a red duck", "sds", prior="tiny", inner=inner, regularise=Regularisers(normal_consistency=weight))
        done = session.step()
        assert (session.last.out.normal is not None) == (weight > 0) and done.refused == 0
