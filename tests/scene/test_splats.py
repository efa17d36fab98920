"""Splats hold what they are given, stay admissible under any step, and name their parameters."""

import pytest
import torch

from splatdistill.gaussians import Gaussians
from splatdistill.scene import Scene
from splatdistill.scene.initial import Blob
from splatdistill.scene.splats import OPACITY_MARGIN, PARAMETERS, Splats


def gaussians(n: int = 20, degree: int = 2, dtype: torch.dtype = torch.float64) -> Gaussians:
    rng = torch.Generator().manual_seed(3)
    return Gaussians(
        means=torch.randn(n, 3, generator=rng, dtype=dtype),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng, dtype=dtype), dim=1),
        scales=0.01 + torch.rand(n, 3, generator=rng, dtype=dtype),
        opacities=0.01 + 0.98 * torch.rand(n, generator=rng, dtype=dtype),
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=rng, dtype=dtype),
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gaussians_come_back(degree: int) -> None:
    given = gaussians(degree=degree)
    scene = Splats.from_gaussians(given)
    got = scene.gaussians()
    assert isinstance(scene, Scene) and scene.degree == degree == got.degree and len(scene) == len(given)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(got, name), getattr(given, name), rtol=1e-12, atol=1e-12)


def test_parameter_names_are_the_contract() -> None:
    scene = Splats.from_gaussians(gaussians())
    assert tuple(name for name, _ in scene.named_parameters()) == PARAMETERS
    assert PARAMETERS == ("means", "quats", "log_scales", "logits", "sh_dc", "sh_rest")
    assert scene.sh_dc.shape == (20, 1, 3) and scene.sh_rest.shape == (20, 8, 3)


def test_any_values_are_admissible() -> None:
    scene = Splats.from_gaussians(gaussians())
    with torch.no_grad():
        for p in scene.parameters():
            p.add_(5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0), dtype=p.dtype))
    got = scene.gaussians()
    assert (got.scales > 0).all() and (got.opacities > 0).all() and (got.opacities < 1).all()
    torch.testing.assert_close(got.quats.norm(dim=1), torch.ones(20, dtype=torch.float64))


def test_gradients_reach_every_parameter() -> None:
    scene = Splats.from_gaussians(gaussians())
    got = scene.gaussians()
    weights = torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (got.means.sum() + (weights * got.quats).sum() + got.scales.sum() + got.opacities.sum() + got.sh.sum()).backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in scene.parameters())


def test_opacities_zero_and_one_have_finite_logits() -> None:
    g = gaussians(2)
    g.opacities.copy_(torch.tensor([0.0, 1.0]))
    scene = Splats.from_gaussians(g)
    assert scene.logits.isfinite().all()
    assert (scene.gaussians().opacities - g.opacities).abs().max() <= 1.01 * OPACITY_MARGIN


def test_raw_values_are_copied_bit_by_bit_and_checked() -> None:
    scene = Splats.from_gaussians(Blob(count=10).make(torch.Generator().manual_seed(0)))
    raw = {name: p.detach() for name, p in scene.named_parameters()}
    other = Splats(raw)
    for a, b in zip(scene.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and (a.data_ptr() != b.data_ptr() or a.numel() == 0)
    with pytest.raises(ValueError, match="one row per Gaussian"):
        Splats({**raw, "logits": raw["logits"][:5]})
    with pytest.raises(ValueError, match="need exactly"):
        Splats({k: v for k, v in raw.items() if k != "quats"})
