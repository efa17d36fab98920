"""A method's two forms: the same object, and the same gradient, however it was asked for."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from methods import forms

from guidance.worlds import mixture, view
from splatdistill.guidance import CSD, GUIDANCES, ISM, SDI, Guidance, Times
from splatdistill.settings.commands import parse_train
from splatdistill.train.commands import SetField
from splatdistill.train.config import Train
from splatdistill.train.steer import configured

CODE = [name for name, cls in GUIDANCES.items() if "code" in forms(cls)]


def gradients(guidance: Guidance) -> list[torch.Tensor]:
    """Return the gradients of three views, early and late in a run."""
    prior = mixture()
    return [guidance(view(prior, 3, progress=p), guidance.init(prior)).grad for p in (0.1, 0.8)]


def same(one: Guidance, other: Guidance) -> bool:
    return one == other and all(torch.equal(a, b) for a, b in zip(gradients(one), gradients(other)))


@pytest.mark.parametrize("name, variant, other", [(name, *pair) for name, cls in GUIDANCES.items() if len(forms(cls)) > 1 for pair in (forms(cls), forms(cls)[::-1])])
def test_there_and_back_is_as_built(name, variant, other):
    """By replacing the field, by a parser, and by steering a run."""
    built, away = GUIDANCES[name](variant=variant), GUIDANCES[name](variant=other)
    assert not same(built, away) or name == "collaborative"  # its forms differ in a median, for even counts
    assert same(replace(away, variant=variant), built)
    assert same(replace(replace(built, variant=other), variant=variant), built)
    parsed = parse_train(["--guidance", name, "--guidance.variant", variant], lambda source: None).config.guidance
    assert same(parsed, built)
    steered = configured(Train(prompt="a ball", guidance=away), SetField("guidance.variant", variant)).guidance
    assert same(steered, built)


@pytest.mark.parametrize("name", CODE)
def test_what_was_chosen_stays_chosen_in_either_form(name):
    typed = ["--guidance", name, "--guidance.times.t_min", "0.3", "--guidance.times.t_max", "0.7"]
    g = parse_train([*typed, "--guidance.variant", "code"], lambda source: None).config.guidance
    times = g.value("times")
    assert times.begin() == (0.3, 0.7)
    assert all(0.3 <= t <= 0.7 for t in times.draw(5, 0.5, torch.Generator().manual_seed(0)).tolist())
    assert not replace(GUIDANCES[name](variant="code"), normalise=False).value("normalise")


def test_what_the_forms_stand_for():
    times = {"paper": (0.2, 1.0), "code": (0.25, 0.98)}
    for variant, eta, begin in (("paper", 0.0, 0.0), ("code", 0.3, 0.001)):
        sdi, ism = SDI(variant=variant), ISM(variant=variant)
        assert sdi.eta is sdi.times.t_min is sdi.times.t_max is ism.begin is None
        assert (sdi.value("eta"), sdi.value("times").begin(), ism.value("begin")) == (eta, times[variant], begin)
        assert CSD(variant=variant).value("normalise") is False
    assert SDI(variant="code", eta=0.0).value("eta") == 0.0
    half = SDI(variant="code", times=Times("linear", t_min=None, t_max=0.5)).value("times")
    assert half.begin() == (0.25, 0.5)


def test_a_class_derived_from_a_method_has_its_forms():
    @dataclasses.dataclass(frozen=True)
    class Mine(SDI):
        scale: float = 3.0

    assert Mine(variant="code").value("eta") == 0.3
    assert same(replace(Mine(variant="code"), scale=8.5, variant="paper"), Mine(scale=8.5))
