"""CFD: its noise on surfaces is white in each view and one thing seen from several; in 2D its moves are DDIM's."""

from dataclasses import replace

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.cameras import Cameras, orbit
from splatdistill.guidance import CFD, SDS, Times, View
from splatdistill.guidance.noising import ddim
from splatdistill.guidance.surface import Footprints, footprints, surface_points
from splatdistill.guidance.types import Noised
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts
from splatdistill.render import RenderOutput, rasterizer
from splatdistill.scene.initial import Ball

SIDE, SIZE = 16, 32  # of the latents, and of each face of the map


def seen(cameras: Cameras) -> RenderOutput:
    """Return a ball of opaque splats of radius 0.6 and a bit, from its cameras."""
    splats = Ball(count=3000, radius=0.6, scale=0.04, opacity=0.9).make(torch.Generator().manual_seed(0))
    return rasterizer("cpu")(splats, cameras)


def weights(prints: Footprints) -> torch.Tensor:
    """Return the linear map from the noise map's values to the pixels' noise, which determines their distribution."""
    identity = torch.eye(6 * SIZE**2)
    return prints.gather(identity, torch.zeros(6 * SIZE**2, SIDE, SIDE)).flatten(1).T


def pixels_of(azimuths: list[float], elevation: float = 20.0) -> list[torch.Tensor]:
    out = seen(orbit(azimuths, elevation, width=64))
    return [weights(footprints(out, k, SIDE, SIDE, SIZE, 0.1)) for k in range(len(azimuths))]


def test_the_noise_of_one_view_is_white_with_unit_variance():
    """Exactly, given which texels each pixel sees: covariance W W^T is one on the diagonal and zero beside it."""
    (w,) = pixels_of([30.0])
    there = w.abs().sum(1) > 0
    assert 40 < there.sum() < 120  # the ball covers about a third of the picture
    torch.testing.assert_close((w @ w.T)[there][:, there], torch.eye(int(there.sum())), rtol=0, atol=1e-5)
    assert (w[there] > 0).sum(1).float().median() >= 6  # enough texels for views to share some


def test_drawn_noise_is_white_too():
    """By the method itself, over the object and behind it: variance, and covariance of neighbours, over many channels."""
    torch.manual_seed(0)
    prior = GaussianMixturePrior(torch.zeros(1, 400, SIDE, SIDE), torch.ones(1), {"ball": [1.0]})
    out = seen(cameras := orbit([0.0, 90.0], width=64))
    v = View(torch.zeros(2, 400, SIDE, SIDE), Prompts("ball").conditions(prior, cameras), prior, torch.Generator().manual_seed(1), 0.3, out)
    n = CFD(map_size=SIZE).noise(v, torch.full((2,), 0.5), CFD().init(prior)).eps
    assert n.mean().abs() < 0.01 and (n.var() - 1).abs() < 0.02
    across, down = (n[..., 1:] * n[..., :-1]).mean((0, 1)), (n[..., 1:, :] * n[..., :-1, :]).mean((0, 1))
    assert across.abs().max() < 5 / 800**0.5 and down.abs().max() < 5 / 800**0.5  # of single pairs, in their standard errors
    assert (n.square().mean((0, 1)) - 1).abs().max() < 5 * (2 / 400) ** 0.5


def test_two_views_agree_where_they_see_the_same():
    """A pixel's noise is known from all of another view's: fully from the same camera, less as the camera turns, not at all from behind."""
    first, again, next_, near, far, behind = pixels_of([30.0, 30.0, 31.0, 36.0, 75.0, 210.0], 10.0)
    there = first.abs().sum(1) > 0
    known = [(first @ other.T)[there].square().sum(1).sqrt().mean() for other in (again, next_, near, far, behind)]
    assert torch.equal(first, again) and known[0] == pytest.approx(1, abs=1e-5)
    assert known[1] > 0.9 > known[2] > 0.6 > known[3] > 0.3 and known[4] == 0, known


def test_they_agree_at_the_same_place_of_the_surface():
    """The pixel of another view that shares most with one in the middle is where the surface there is seen."""
    out = seen(cameras := orbit([30.0, 55.0], 10.0, width=64))
    one, other = (weights(footprints(out, k, SIDE, SIDE, SIZE, 0.1)) for k in range(2))
    points, _ = surface_points(out, 0, SIDE, SIDE, 0.1)
    for row, column in ((8, 8), (7, 9), (6, 8), (9, 7)):
        pixel = row * SIDE + column
        centre = points.view(SIDE * SIDE, -1, 3)[pixel].mean(0)
        at = cameras.world_to_camera[1, :3, :3] @ centre + cameras.world_to_camera[1, :3, 3]
        expected = (cameras.intrinsics[1] @ at)[:2] / at[2] / 4  # in latent pixels
        best = int((one[pixel] @ other.T).argmax())
        found = torch.tensor([best % SIDE + 0.5, best // SIDE + 0.5])
        assert (found - expected).norm() < 1.0


def test_surface_points_lie_on_the_surface():
    out = seen(orbit([0.0, 120.0], [0.0, 50.0], width=64))
    for k in range(2):
        points, there = surface_points(out, k, SIDE, SIDE, 0.1)
        middle = points.view(SIDE, SIDE, -1, 3)[7:9, 7:9].reshape(-1, 3)
        assert (middle.norm(dim=1) - 0.6).abs().max() < 0.08 and there.view(SIDE, SIDE)[8, 8] and not there[0]
        towards = out.cameras.position[k]
        assert (middle @ towards > 0).all()  # the near side


def scene(prior: GaussianMixturePrior, azimuths: list[float], memory_seed: int = 0) -> View:
    """Return views of the ball in front of a prior of 2 channels."""
    out = seen(cameras := orbit(azimuths, width=64))
    x = torch.zeros(len(azimuths), 2, SIDE, SIDE, dtype=torch.float64).requires_grad_()
    return View(x, Prompts("ball").conditions(prior, cameras), prior, torch.Generator().manual_seed(memory_seed), 0.3, out)


@pytest.fixture(scope="module")
def plain() -> GaussianMixturePrior:
    return GaussianMixturePrior(torch.zeros(1, 2, SIDE, SIDE, dtype=torch.float64), torch.ones(1, dtype=torch.float64), {"ball": [1.0]})


@pytest.mark.parametrize("behind", ["fixed", "fresh"])
def test_noise_behind_the_object_is_one_for_all_views_or_new(plain, behind):
    g = CFD(behind=behind, gamma=0.0)
    memory = g.init(plain)
    one, two = (g.noise(scene(plain, [0.0, 90.0], k), torch.full((2,), 0.5, dtype=torch.float64), memory).eps for k in range(2))
    corner = (..., slice(0, 2), slice(0, 2))
    same = torch.equal(one[corner], two[corner]) and torch.equal(one[0][corner], one[1][corner])
    assert same == (behind == "fixed")
    assert torch.equal(one[..., 7:9, 7:9], two[..., 7:9, 7:9])  # on the object, whatever is behind
    assert not torch.equal(one[0], one[1])


def test_a_share_gamma_of_the_noise_is_new_at_each_step(plain):
    big = GaussianMixturePrior(torch.zeros(1, 64, SIDE, SIDE), torch.ones(1), {"ball": [1.0]})
    for gamma in (0.0, 0.3, 1.0):
        g = CFD(gamma=gamma)
        memory, rng = g.init(big), torch.Generator().manual_seed(0)
        v = View(torch.zeros(4, 64, SIDE, SIDE), Prompts("ball").conditions(big, orbit([0.0] * 4)), big, rng)
        one, two = (g.noise(v, torch.full((4,), 0.5), memory).eps for _ in range(2))
        assert two.var() == pytest.approx(1, abs=0.02)
        assert (one * two).mean() == pytest.approx((1 - gamma) ** 0.5, abs=0.02)


def test_formula():
    """sigma / alpha (eps_cfg - n) at x_t = alpha x + sigma n, n the kept noise; with fresh noise it would be SDS."""
    prior, g = mixture(), CFD(scale=9.0, gamma=0.0)
    memory = g.init(prior)
    one, two = (g(view(prior, 2, seed=s), memory) for s in (0, 1))
    assert torch.equal(one.noised.eps, two.noised.eps)
    alpha, sigma = prior.schedule(two.noised.t)
    v = view(prior, 2, seed=1)
    pos, neg = (prior.eps(alpha * v.x + sigma * two.noised.eps, two.noised.t, e) for e in (v.text.positive, v.text.negative))
    torch.testing.assert_close(two.grad, (sigma / alpha * (neg + 9.0 * (pos - neg) - two.noised.eps)).detach(), rtol=1e-9, atol=1e-11)


def test_in_2d_its_moves_are_those_of_ddim():
    """x <- x - (s - s') residual, s = sigma / alpha, is the move of DDIM from t to t', all the way down."""
    prior, g = mixture(), CFD(scale=4.0, gamma=0.0, times=Times("linear", t_min=0.05, t_max=0.95))
    memory, v, steps = g.init(prior), view(prior, 2), 12
    path: Noised | None = None
    for k in range(steps):
        here, there = (torch.full((2,), 0.95 - 0.9 * p / steps, dtype=torch.float64) for p in (k, k + 1))
        d = g(replace(v, progress=k / steps), memory)
        torch.testing.assert_close(d.noised.t, here)
        if path is not None:
            torch.testing.assert_close(d.noised.x_t, path.x_t, rtol=1e-9, atol=1e-10)
        (a, s), (a1, s1) = prior.schedule(here), prior.schedule(there)
        path = ddim(v, d.noised, there, d.eps_hat)
        v = replace(v, x=(v.x - (s / a - s1 / a1) * d.residual).detach())


def test_sds_with_its_noise_is_the_same_but_for_the_weight():
    prior = mixture()
    times = Times(t_min=0.5, t_max=0.5)
    d = CFD(scale=7.5, times=times, weight="sigma2", gamma=0.0)(view(prior, 3), CFD().init(prior))
    sds = SDS(scale=7.5, times=times)
    v = view(prior, 3)
    answers = prior.answer(sds.ask(v, d.noised, torch.nn.Module()))
    torch.testing.assert_close(d.residual, sds.residual(v, d.noised, answers, torch.nn.Module()), rtol=0, atol=0)
