"""Generators: what every trunk must be, whatever its insides."""

from dataclasses import replace

import pytest
import torch

from splatdistill.errors import UserError
from splatdistill.scene.generator import TRUNKS, Conv, Hyper, Network, Text, Triplane

SMALL = {
    "hyper": Hyper(count=50, grids=(4, 8), features=3, hidden=8, bottleneck=8),
    "conv": Conv(channels=(8, 6), style=8),
    "triplane": Triplane(count=50, side=3, width=16, layers=2, heads=2, features=4),
}
EACH = [pytest.param(name, id=name) for name in TRUNKS]


def texts(count: int, width: int = 12) -> Text:
    return Text.of(torch.randn(count, 5, width, generator=torch.Generator().manual_seed(3)))


def made(name: str, width: int = 12) -> Network:
    torch.manual_seed(1)
    network = SMALL[name].network(width)
    network.tell(texts(20, width).pooled)
    return network


@pytest.mark.parametrize("name", EACH)
def test_it_begins_as_the_ball(name):
    network, trunk = made(name), SMALL[name]
    g = network.gaussians(network(texts(1))[0])
    inside = network.anchors.norm(dim=1) <= trunk.radius
    torch.testing.assert_close(g.means, network.anchors, atol=0.02 * trunk.radius, rtol=0)
    torch.testing.assert_close(g.scales, torch.full_like(g.scales, trunk.scale), rtol=0.1, atol=0)
    torch.testing.assert_close(g.opacities[inside], torch.full((int(inside.sum()),), trunk.opacity), rtol=0.15, atol=0)
    assert (g.opacities[~inside] < 0.1 * trunk.opacity).all()
    torch.testing.assert_close(g.rgb, torch.full_like(g.rgb, 0.5), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", EACH)
def test_a_prompt_is_the_same_alone_and_among_others(name):
    network, several = made(name), texts(4)
    together = network(several)
    for i in range(4):
        alone = network(Text(several.tokens[i : i + 1], several.pooled[i : i + 1]))[0]
        torch.testing.assert_close(alone, together[i], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", EACH)
def test_all_parameters_learn_and_texts_come_apart(name):
    """Two texts, a red object and a blue one: 60 steps tell them apart, and every parameter has had a gradient."""
    network, two = made(name), texts(2)
    wanted = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(60):
        raw = network(two)
        error = sum((network.gaussians(raw[i]).rgb - wanted[i]).square().mean() for i in range(2))
        total = error + sum(network.gaussians(raw[i]).means.square().mean() for i in range(2))
        optimizer.zero_grad()
        total.backward()
        if step == 1:
            silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
            assert not silent, silent
        optimizer.step()
    red, blue = (network.gaussians(r).rgb.mean(0) for r in network(two))
    assert red[0] > 0.7 and red[2] < 0.3 and blue[2] > 0.7 and blue[0] < 0.3


@pytest.mark.parametrize("name", EACH)
def test_splats_stay_within_their_bounds(name):
    network, trunk = made(name), SMALL[name]
    g = network.gaussians(100 * torch.randn(len(network.anchors), 14, generator=torch.Generator().manual_seed(0)))
    assert ((g.means - network.anchors).abs() <= network.free * 1.0001).all()
    assert (g.scales <= trunk.scale * 2.7183**2 * 1.001).all() and (g.scales >= trunk.scale / 2.7183**2 * 0.999).all()
    assert (g.rgb >= -1e-6).all() and (g.rgb <= 1 + 1e-6).all() and bool(g.finite().all())
    torch.testing.assert_close(g.quats.norm(dim=1), torch.ones(len(g)))


@pytest.mark.parametrize("name", EACH)
def test_z_chooses_among_the_objects_of_a_prompt(name):
    """Without z all is as before; with it, other numbers make another object, and none is z = 0."""
    torch.manual_seed(1)
    network = replace(SMALL[name], z=3).network(12)
    network.tell(texts(20).pooled)
    for p in network.parameters():  # a network that begins as the ball is deaf
        torch.nn.init.normal_(p, std=0.3)
    text = texts(2)
    plain, zero, other = (network(Text(text.tokens, text.pooled, z)) for z in (None, torch.zeros(2, 3), torch.ones(2, 3)))
    assert torch.equal(plain, zero) and (other - zero).abs().amax((1, 2)).min() > 1e-3
    mixed = network(Text(text.tokens, text.pooled, torch.tensor([[0.0] * 3, [1.0] * 3])))
    torch.testing.assert_close(mixed, torch.stack([zero[0], other[1]]), atol=1e-6, rtol=1e-5)
    with pytest.raises(UserError, match="--z"):
        replace(SMALL[name], z=-1)


def test_one_splat_a_voxel():
    assert len(Conv(channels=(8, 6)).anchors()) == 8**3 and len(Conv().anchors()) == 16**3
    anchors = Conv(channels=(8,)).anchors()
    assert len(anchors.unique(dim=0)) == 64 and torch.allclose(anchors.mean(0), torch.zeros(3), atol=1e-6)


def test_texts_are_whitened():
    network, text = made("hyper"), texts(20)
    white = network.whitened(text)
    torch.testing.assert_close(white.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(white.std(0, correction=0), torch.ones(12), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (Hyper, {"count": 0}, "--count"), (Hyper, {"grids": ()}, "--grids"), (Hyper, {"grids": (1,)}, "--grids"), (Conv, {"channels": ()}, "--channels"),
        (Triplane, {"width": 30}, "multiple of the 4 heads"), (Hyper, {"opacity": 1.0}, "--opacity"), (Triplane, {"radius": 0.0}, "--radius"),
    ],
)  # fmt: skip
def test_sizes_that_make_no_sense_are_refused(kind, options, word):
    with pytest.raises(UserError, match=word):
        kind(**options)
