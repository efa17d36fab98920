"""Joint attention and cameras of multi-view networks."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from splatdistill.cameras import orbit
from splatdistill.priors.multiview import camera_numbers, joint, no_camera


def network() -> UNet2DConditionModel:
    """Return a UNet with 16 camera numbers and random non-zero weights."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=3,
        out_channels=3,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=16,
    )
    return unet.double().eval()


@pytest.fixture(scope="module")
def question() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return five pictures at five times, texts and cameras."""
    g = torch.Generator().manual_seed(1)
    x, text = torch.randn(5, 3, 4, 4, generator=g).double(), torch.randn(5, 3, 8, generator=g).double()
    camera = camera_numbers(orbit([0.0, 90.0, 180.0, 270.0, 10.0], 15.0)).double()
    camera[4] = no_camera(1)[0]
    return x, torch.tensor([500.0, 500, 500, 500, 0]).double(), text, camera


def test_one_view_is_the_network_as_diffusers_runs_it(question: tuple[torch.Tensor, ...]) -> None:
    x, t, text, camera = question
    plain = network()
    with torch.no_grad():
        wanted = plain(x, t, text, class_labels=camera).sample
        got = joint(plain)(x, t, text, class_labels=camera, cross_attention_kwargs={"views": 1}).sample
        silent = plain(x, t, text, class_labels=camera).sample
    assert torch.allclose(got, wanted, atol=1e-12) and torch.allclose(silent, wanted, atol=1e-12)


@pytest.mark.parametrize("views", [4, 5])
def test_views_see_their_own_set_and_no_other(views: int, question: tuple[torch.Tensor, ...]) -> None:
    x, t, text, camera = (q[:views].repeat(2, *[1] * (q.dim() - 1)) for q in question)
    unet = joint(network())
    other = x.clone()
    other[0] += 1.0
    with torch.no_grad():
        first = unet(x, t, text, class_labels=camera, cross_attention_kwargs={"views": views}).sample
        changed = unet(other, t, text, class_labels=camera, cross_attention_kwargs={"views": views}).sample
        alone = unet(x[:views], t[:views], text[:views], class_labels=camera[:views], cross_attention_kwargs={"views": views}).sample
    moved = (changed - first).abs().amax((1, 2, 3))
    assert (moved[1:views] > 1e-6).all(), "the other views of the set do not see the one that changed"
    assert (moved[views:] < 1e-12).all(), "another set saw it"
    assert torch.allclose(first[:views], alone, atol=1e-12) and torch.allclose(first[:views], first[views:], atol=1e-12)


def test_an_order_of_views_is_no_matter(question: tuple[torch.Tensor, ...]) -> None:
    """Views are told apart by their cameras alone: exchanged with them, the pictures are exchanged."""
    x, t, text, camera = (q[:4] for q in question)
    unet, order = joint(network()), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        first = unet(x, t, text, class_labels=camera, cross_attention_kwargs={"views": 4}).sample
        second = unet(x[order], t, text[order], class_labels=camera[order], cross_attention_kwargs={"views": 4}).sample
    assert torch.allclose(first[order], second, atol=1e-12)


def test_a_batch_that_is_not_of_sets_is_refused(question: tuple[torch.Tensor, ...]) -> None:
    x, t, text, camera = question
    with pytest.raises(ValueError, match="batch of 5 is not made of sets of 4"):
        joint(network())(x, t, text, class_labels=camera, cross_attention_kwargs={"views": 4})


def test_cameras_are_told_as_mvdream_tells_them() -> None:
    """`create_camera_to_world_matrix` and `normalize_camera` of MVDream's camera_utils.py, written out for this world."""
    for azimuth, elevation in ((0.0, 0.0), (90.0, 15.0), (-130.0, 40.0)):
        a, e = torch.deg2rad(torch.tensor(azimuth)).double(), torch.deg2rad(torch.tensor(elevation)).double()
        place = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()])  # at length 1, whatever the distance
        backward = place
        right = torch.linalg.cross(torch.tensor([0.0, 0, 1]).double(), backward)
        right /= right.norm()
        up = torch.linalg.cross(backward, right)
        wanted = torch.eye(4).double()
        wanted[:3] = torch.stack([right, up, backward, place], 1)
        for distance in (1.5, 4.0):
            got = camera_numbers(orbit([azimuth], elevation, distance)).double()
            assert torch.allclose(got[0], wanted.flatten(), atol=1e-5)
