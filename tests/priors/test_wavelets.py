"""Haar's wavelets as an autoencoder, and a prior of several views made of them."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splatdistill import Train
from splatdistill.cameras import Orbit, orbit
from splatdistill.errors import UserError, WeightsError
from splatdistill.guidance import SDS, VSD, View
from splatdistill.priors import Query
from splatdistill.priors.layout import problems
from splatdistill.priors.patches import PatchAutoencoder, WaveletAutoencoder, read_patches
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.weights import load
from splatdistill.train.commands import SetField
from splatdistill.train.session import Session
from splatdistill.train.steer import steer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def picture() -> torch.Tensor:
    """Return two pictures in [-1, 1]."""
    return 2 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1


def test_it_is_undone_exactly_and_written(picture: torch.Tensor, tmp_path: Path) -> None:
    vae = WaveletAutoencoder(8, 4.0)
    x = vae.encode(picture)
    assert x.shape == (2, 192, 4, 4)
    torch.testing.assert_close(vae.decode(x), picture, atol=1e-6, rtol=0)
    vae.save_pretrained(tmp_path)
    again = read_patches(tmp_path)
    assert isinstance(again, WaveletAutoencoder) and torch.equal(again.metric, vae.metric) and torch.equal(again.encode(picture), x)
    PatchAutoencoder(4).save_pretrained(tmp_path)
    assert type(read_patches(tmp_path)) is PatchAutoencoder


def test_the_coarse_quarter_is_the_halved_picture(picture: torch.Tensor) -> None:
    x = WaveletAutoencoder(8, 4.0).encode(picture)
    torch.testing.assert_close(x[:, :48], PatchAutoencoder(4).encode(F.avg_pool2d(picture, 2)))
    (a, b), (c, d) = picture[1, 2, 2:4, 4:6]
    place = (1, 2 * 16 + 4 + 2, 0, 0)  # colour 2, row 1 and column 2 of the halved picture's patch
    for quarter, wanted in enumerate((a - b + c - d, a + b - c - d, a - b - c + d), 1):
        torch.testing.assert_close(x[place[0], 48 * quarter + place[1], 0, 0], wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small prior of several views, not trained, as scripts/world_export.py writes it."""
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    from embedded.multiview import Shape
    from embedded.multiview_export import export
    from embedded.multiview_training import Pace, Trainer

    out, made = (tmp_path_factory.mktemp(k) for k in ("out", "prior"))
    torch.manual_seed(0)
    trainer = Trainer(out, None, torch.device("cpu"), Pace(1, 8, 1e-3), Shape(32, (16, 32), 16, 1, 2, 8))
    for name, value in trainer.ema.items():  # what is zero at first speaks
        if "class_embedding" in name or "conv_out" in name:
            torch.nn.init.normal_(value, std=0.05)
    trainer.save()
    export(out, made)
    return made


def test_a_folder_is_loaded_for_one_view_and_for_four(folder: Path) -> None:
    assert problems(folder) == ()
    one, four = load(str(folder)), load(str(folder), views=4)
    assert one.image_size == 32 and (one.views, four.views) == (1, 4) and not one.perp_neg
    rng = torch.Generator().manual_seed(0)
    cameras = orbit([0.0, 90, 180, 270], 15.0)
    x, t = torch.randn(4, 192, 4, 4, generator=rng), torch.full((4,), 0.6)

    def asked(prior, x, cameras=cameras):
        return prior.answer([Query(x, t[: len(x)], Prompts("a red chair", words=None).conditions(prior, cameras).positive)])[0]

    together, changed = asked(four, x), x.clone()
    changed[3] += 1
    assert not torch.allclose(asked(four, changed)[0], together[0], atol=1e-4), "the views of a set see each other"
    torch.testing.assert_close(asked(one, changed)[0], asked(one, x)[0])
    turned = orbit([45.0, 135, 225, 315], 15.0)
    assert not torch.allclose(asked(four, x, turned), together, atol=1e-4), "four views are told their cameras"
    torch.testing.assert_close(asked(one, x, turned), asked(one, x), msg="and one is not")


def test_its_answer_is_the_clean_picture(folder: Path) -> None:
    """A network that answers 0 means that all of x_t is noise."""
    prior = load(str(folder))
    for p in prior.unet.conv_out.parameters():
        torch.nn.init.zeros_(p)
    x_t, t = torch.randn(2, 192, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0.3, 0.8])
    sigma = prior.schedule(t)[1].view(-1, 1, 1, 1)
    torch.testing.assert_close(prior.answer([Query(x_t, t, prior.embed(["a chair"] * 2))])[0], x_t / sigma)


def test_latents_count_as_their_pixels_do(picture: torch.Tensor) -> None:
    """The sum of squares weighted by the metric is a quarter of that of the pixels; a guidance's gradient is weighted so."""
    vae = WaveletAutoencoder(8, 4.0)
    torch.testing.assert_close((vae.encode(picture).square() * vae.metric).sum(), picture.square().sum() / 4)


def test_a_gradient_counts_latents_by_the_metric(folder: Path) -> None:
    prior = load(str(folder))
    text = Prompts("a red chair", words=None).conditions(prior, orbit([0.0]))
    x = torch.randn(1, 192, 4, 4, generator=torch.Generator().manual_seed(0))
    ask = lambda: SDS()(View(x, text, prior, torch.Generator().manual_seed(1)), nn.Module())  # noqa: E731
    weighted = ask()
    metric, prior.metric = prior.metric, None
    plain = ask()
    torch.testing.assert_close(weighted.grad, plain.grad * metric)
    torch.testing.assert_close(weighted.target, plain.target)
    torch.testing.assert_close(weighted.gain * (x - weighted.target), weighted.grad)


@pytest.mark.parametrize("guidance", [SDS(), VSD()])
def test_a_run_sees_sets(folder: Path, guidance) -> None:
    """Two sets of four: eight views, and the splats move."""
    config = Train(prompt="a red chair", guidance=guidance, prior_views=4, batch=2, steps=2, view_dependent=False)
    session = Session(config, load(str(folder), views=4))
    before = session.state.scene.gaussians().means.detach().clone()
    step = session.step()
    assert session.last is not None and len(session.last.view.x) == 8 and step.step == 1
    cameras = session.last.view.text.cameras
    assert cameras is not None and torch.allclose(cameras.elevation[:4], cameras.elevation[:1], atol=1e-3)
    assert (cameras.elevation[0] - cameras.elevation[4]).abs() > 0.1
    assert not torch.equal(session.state.scene.gaussians().means, before)


def test_sets_stand_around_evenly() -> None:
    where = Orbit(distance=(2.0, 3.0), fov=(40.0, 50.0))
    cameras = where.sample(3, 16, 16, torch.Generator().manual_seed(0), 4)
    turns = cameras.azimuth.view(3, 4)
    torch.testing.assert_close((turns - turns[:, :1]) % 360, torch.tensor([0.0, 90, 180, 270]).expand(3, 4), atol=1e-3, rtol=0)
    for name in ("elevation", "distance", "vertical_fov"):
        values = getattr(cameras, name).view(3, 4)
        torch.testing.assert_close(values, values[:, :1].expand(3, 4))
        assert values[:, 0].sort().values.diff().min() > 1e-3
    first = (turns[:, 0] % 90).sort().values  # jittered within a third of the quarter each
    assert (first.diff() > 0.1).all() and (first.diff() < 60).all()
    single = where.sample(3, 16, 16, torch.Generator().manual_seed(0), 1)
    torch.testing.assert_close(single.elevation, cameras.elevation[::4])


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sees one picture at a time; take --prior-views 1"):
        load("tiny", views=4)
    with pytest.raises(UserError, match="--prior-views"):
        Train(prompt="a", prior_views=0)
    for name, value, word in (("gain", 0, "gain 0"), ("gain", "4", "gain"), ("patch", 5, "even")):
        config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        kept = dict(config)
        config[name] = value
        (folder / "vae" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        try:
            with pytest.raises(WeightsError, match=word):
                load(str(folder))
        finally:
            (folder / "vae" / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def test_a_batch_of_sets_is_steered_and_the_views_of_a_set_are_not(folder: Path) -> None:
    session = Session(Train(prompt="a red chair", guidance=SDS(), prior_views=4, batch=2, steps=3, view_dependent=False), load(str(folder), views=4))
    steer(session, SetField("batch", 1))
    session.step()
    assert session.last is not None and len(session.last.view.x) == 4
    with pytest.raises(UserError, match="prior_views|prior-views"):
        steer(session, SetField("prior_views", 1))
