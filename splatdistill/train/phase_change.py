"""Begin of a phase: the settings that it changes, and what of the prior, the guidance and the densifier begins anew with them."""

from splatdistill.errors import UserError
from splatdistill.priors import DiffusionPrior, weights
from splatdistill.train.config import Train
from splatdistill.train.mixed import remembered
from splatdistill.train.phases import ASKED, CHOICES, FORM, Phase, read
from splatdistill.train.plain import KINDS, from_plain
from splatdistill.train.state import State


def within(config: Train, phase: Phase) -> Train:
    """Return the settings of a phase that begins with `config` in force. UserError where it sets what there is not."""
    if phase.changes is None:
        raise UserError(f"the phase {phase.name!r} says nothing that it sets; expected {FORM}, looked up by `splatdistill.distil` and the command line")
    tree = phase.tree()
    for part in CHOICES:
        name = tree.get(part, {}).get("name") if isinstance(tree.get(part), dict) else None
        if name is not None and name not in KINDS[part]:
            raise UserError(f"the phase {phase.name!r}: there is no {part} {name!r}; expected {', '.join(KINDS[part])}")
    return from_plain(config, tree, f"the options of the phase {phase.name!r}")


def refuse_impossible(config: Train) -> None:
    """Raise UserError for a phase that could not begin; priors are looked for and not loaded."""
    for said in config.phases:
        before, config = config, within(config, read(said))
        if config.prior != before.prior:
            weights.find(config.prior)


def enter(state: State, config: Train, prior: DiffusionPrior, number: int) -> tuple[Train, DiffusionPrior]:
    """Begin a phase: return its settings and its prior. The guidance's memory stays where neither its class nor the prior changes,
    the densifier's statistics where its class does not; the splats and the moments of their optimizer stay always.
    """
    after = within(config, read(config.phases[number]))
    other = any(getattr(after, name) != getattr(config, name) for name in ASKED)
    if other:
        calls, found = prior.calls, weights.find(after.prior)
        prior = weights.load(found, views=after.prior_views, **after.loading())
        prior.calls = calls  # of the run
    if other or type(after.guidance) is not type(config.guidance):
        state.memory = remembered(after, prior, state.memory if after.also else None)
    if type(after.densify) is not type(config.densify):
        for particle in state.particles:
            particle.densify = after.densify.init(len(particle.scene))
    state.phase = number
    return after, prior
