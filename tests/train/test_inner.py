"""Several steps of the splats towards one target: `--inner`."""

import pytest
import torch

from splatdistill.densify.gradient import Gradient
from splatdistill.densify.relocate import Relocate
from splatdistill.errors import UserError
from splatdistill.guidance import CSD, SDI, SDS, SJC, Times
from splatdistill.scene.optim import LearningRates
from splatdistill.train.config import Background
from splatdistill.train.events import StepDone, line_of
from splatdistill.train.losses import Regularisers
from splatdistill.train.session import Session
from train.small import config, red_and_blue

PARTS = {
    "plain": {},
    "learned background": {"background": Background("learned", rate=1e-9)},
    "accumulated": {"accumulate": 2, "regularise": Regularisers(sparsity=0.3)},
    "densified": {"densify": Gradient(every=2, since=0.0, threshold=1e-9)},
    "relocated": {"densify": Relocate(every=2, since=0.0)},
}


def run(steps: int, **changes) -> Session:
    session = Session(config(**changes), red_and_blue())
    for _ in range(steps):
        session.step()
    return session


def rows(session: Session) -> list[torch.Tensor]:
    return [p.detach() for p in session.state.scene.parameters()]


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_a_second_move_from_where_the_first_began_has_its_gradient(parts):
    """Rates of next to nothing: the scene stays where it was, and so must the gradient, encoder's noise and all."""
    still = LearningRates(**{n: 1e-12 for n in ("means", "means_end", "quats", "scales", "opacities", "colours", "sh_rest")})
    parts = {k: v for k, v in parts.items() if k != "densify"}
    one, two = (run(1, inner=k, rates=still, **parts) for k in (1, 2))
    assert (one.last.inner, two.last.inner) == (1, 2)
    pairs = [(p, q) for p, q in zip(one.state.scene.parameters(), two.state.scene.parameters(), strict=True) if p.numel()]
    largest = max(float(p.grad.abs().max()) for p, _ in pairs)
    for p, q in pairs:
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("guidance", [SDS(scale=1.0, times=Times(t_min=0.02, t_max=0.7)), SDI(scale=1.0, inversion_scale=1.0)])
def test_more_moves_ask_nothing_more_and_get_nearer(guidance):
    """The prior is asked as often; the splats come nearer to the disc in as many steps."""
    made = {k: run(8, guidance=guidance, inner=k) for k in (1, 4)}
    assert made[1].prior.calls == made[4].prior.calls > 0
    assert made[4].state.step == made[1].state.step == 8

    def redness(session):
        rgb = session.render(session.last.view.text.cameras)
        return float((rgb[:, 0] - rgb[:, 2]).clamp(min=0).mean())

    assert redness(made[4]) > redness(made[1])


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_it_goes_on_from_a_checkpoint_bit_for_bit(parts, tmp_path):
    c = config(inner=3, **parts)
    whole, first = Session(c, red_and_blue()), Session(c, red_and_blue())
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    first.state.save(tmp_path / "step-3", c)
    again = Session.resumed(c, red_and_blue(), tmp_path / "step-3")
    for _ in range(3):
        again.step()
    assert all(torch.equal(a, b) for a, b in zip(rows(whole), rows(again), strict=True))


def test_everything_that_follows_progress_counts_outer_steps():
    """Rates made for 60 moves hold in 20 steps of 3, and positions' rates fall with the outer steps."""
    rates = LearningRates(means=1e-3, means_end=1e-4, tuned_for_steps=60)
    session = run(10, inner=3, rates=rates)
    lr = {g["name"]: g["lr"] for g in session.state.optimizer.param_groups}
    assert lr["means"] == pytest.approx(1e-3**0.55 * 1e-4**0.45)  # as step 9 of 20 has it


def test_statistics_of_the_densifier_are_those_of_the_outer_steps():
    """Each splat seen at most once in each of two views of four steps, and most of them that often."""
    views = run(4, inner=3, densify=Gradient(every=1000)).state.particles[0].densify.tensors()["views"]
    assert views.max() == 4 * 2 and views.mean() > 0.8 * 4 * 2


def test_a_move_that_is_not_finite_is_not_made(monkeypatch):
    """The step that was asked for stands; what the targets would have made of it does not."""
    from splatdistill.guidance import Distilled

    monkeypatch.setattr(Distilled, "loss_at", lambda self, x: x.sum() * float("nan"))
    broken, plain = run(3, inner=3), run(3)
    assert broken.last.taken and broken.last.inner == 1 and broken.state.refused == 0
    assert all(torch.equal(a, b) for a, b in zip(rows(broken), rows(plain), strict=True))


@pytest.mark.parametrize("guidance", [CSD(), SJC(variance_reduction=False)])
def test_methods_without_a_target_are_refused_with_the_reason(guidance):
    with pytest.raises(UserError, match=f"--inner 2 needs a guidance with a target, and {type(guidance).__name__} has none: "):
        Session(config(guidance, inner=2), red_and_blue())
    with pytest.raises(UserError, match="--inner must be at least 1"):
        Session(config(inner=0), red_and_blue())


def test_the_log_says_how_many_moves_a_step_was_made_of():
    session = Session(config(inner=3), red_and_blue())
    done = session.step()
    assert isinstance(done, StepDone) and done.inner == 3 and '"inner": 3' in line_of(done)
    assert '"inner"' not in line_of(Session(config(), red_and_blue()).step())
