"""Guidances that are added to a run's own: they are read from texts, their gradients add up through their own encoders, they are resumed."""

from dataclasses import replace

import pytest
import torch
from helpers import write_sd_folder

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import CSD, SDI, SDS, Times, View
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.weights import load
from splatdistill.render import rasterizer
from splatdistill.scene.initial import Ball
from splatdistill.settings.commands import parse_train
from splatdistill.train.commands import SetField
from splatdistill.train.mixed import Added, Mixed, added, mixed, somewhere
from splatdistill.train.session import Session
from splatdistill.train.sizes import to_prior_size
from train.small import config, red_and_blue


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("csd", Added(CSD())),
        ("sdi[scale=9]*0.5", Added(SDI(scale=9.0), "", 0.5)),
        ("sds[times.t_max=0.5, weight=one]@some/folder * 2e-1", Added(SDS(times=Times(t_max=0.5), weight="one"), "some/folder", 0.2)),
        ("sds@owner/name", Added(SDS(), "owner/name")),
    ],
)
def test_a_text_says_which(said, expected):
    assert added(said) == expected


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("sds[", "names no guidance"),
        ("smells", "there is no guidance 'smells'; there are sds"),
        ("sds[scale]", "'scale' sets no option"),
        ("sds[scales=3]", "has no field 'scales'"),
        ("sds[scale=red]", "is a number"),
        ("sds*0", "must be a number above 0"),
        ("sds*1e999", "must be a number above 0"),
    ],
)
def test_what_says_nothing_is_refused_with_the_reason(said, why):
    with pytest.raises(UserError, match=why.replace("[", r"\[")):
        Session(config(also=(said,)), red_and_blue())


def test_command_line_and_files_say_the_same_as_python(tmp_path):
    typed = parse_train(["--prompt", "x", "--also", "csd*0.5", "sds[scale=3]@tiny"], lambda source: None)
    assert typed.config.also == ("csd*0.5", "sds[scale=3]@tiny")
    (tmp_path / "mine.yaml").write_text('prompt: x\nalso: ["csd*0.5", "sds[scale=3]@tiny"]\n', encoding="utf-8")
    assert parse_train(["--config", str(tmp_path / "mine.yaml")], lambda source: None).config.also == typed.config.also
    (tmp_path / "prior").mkdir()
    assert somewhere("sds@nowhere/else*2") == "sds@nowhere/else*2" and somewhere(f"sds@{tmp_path}/./prior*2") == f"sds@{tmp_path / 'prior'}*2"
    with pytest.raises(UserError, match="--inner"):
        config(also=("csd",), inner=2)


def test_its_gradient_goes_through_its_own_encoder():
    """By hand for a prior of half the pixels: weight times the guidance's gradient, through its size and its latents."""
    first, other = red_and_blue(16), red_and_blue(8, purity=0.8)
    part = Mixed(Added(SDS(scale=2.0), "other", 0.3), other)
    splats, cameras = Ball(count=60, opacity=0.3).make(torch.Generator().manual_seed(0)), orbit([0.0, 90.0], width=16)
    out = rasterizer("cpu")(splats, cameras, torch.ones(2, 3))
    rgb = out.rgb.detach().requires_grad_()
    out = replace(out, rgb=rgb)
    settings = config()
    text = Prompts(settings.prompt, words=None)
    rng = torch.Generator().manual_seed(3)
    seen = part.view(View(first.encode(rgb), text.conditions(first, cameras), first, rng, 0.4, out), settings, text)
    assert seen.x.shape == (2, 3, 8, 8) and seen.prior is other
    (got,) = torch.autograd.grad(part.loss(seen), rgb)
    again = torch.Generator().manual_seed(3)
    x = other.encode(to_prior_size(rgb, other))
    d = SDS(scale=2.0)(View(x, text.conditions(other, cameras), other, again, 0.4), torch.nn.Module())
    (wanted,) = torch.autograd.grad(0.3 * (d.grad * x).sum() / 2, rgb)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_losses_add_up_in_a_step():
    """The gradient of the splats is that of the run's own guidance, plus the weight times another that does not depend on it."""

    def gradient(*also: str) -> torch.Tensor:
        session = Session(config(SDS(scale=1.0), also=also), red_and_blue())
        session.step()
        grad = session.state.scene.means.grad
        assert grad is not None
        return grad.clone()

    alone, one, three = gradient(), gradient("sds[scale=2]"), gradient("sds[scale=2]*3")
    assert (one - alone).norm() > 0.1 * alone.norm()
    torch.testing.assert_close(three - alone, 3 * (one - alone), rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_a_named_prior_is_loaded_once_and_asked(tmp_path):
    folder = write_sd_folder(tmp_path / "sd")
    main = load(str(folder))
    session = Session(config(SDS(scale=2.0), prompt="a red ball", also=(f"csd@{folder}*0.5", f"sds@{folder}"), batch=1), main)
    parts = list(mixed(session.state.memory))
    assert len(parts) == 2 and parts[0].prior is parts[1].prior is not main
    session.step()
    assert parts[0].prior.calls == 4 and main.calls == 2
    session.apply(SetField("guidance.scale", 3.0))
    with pytest.raises(UserError, match="also"):
        session.apply(SetField("also", "sds"))


def test_what_they_learn_is_resumed_to_the_byte(tmp_path):
    settings = config(SDS(scale=2.0), also=("vsd[scale=2]*0.5", "dsd[scale=2]"), steps=4)
    whole = Session(settings, red_and_blue(purity=0.9))
    for k in range(4):
        whole.step()
        if k == 1:
            whole.state.save(tmp_path / "step-000002", settings)
    rest = Session.resumed(settings, red_and_blue(purity=0.9), tmp_path / "step-000002")
    for _ in range(2):
        rest.step()
    one, two = (s.state.tensors() for s in (whole, rest))
    assert any(name.startswith("memory.also_0.") for name in one) and one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
