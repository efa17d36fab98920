"""Commands applied to a run between two steps. One that cannot be applied is a UserError and changes nothing."""

from dataclasses import replace
from typing import Any

import torch

from splatdistill import checks
from splatdistill.densify import DENSIFIERS, Densifier
from splatdistill.densify.ops import resize
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES
from splatdistill.train.checkpoint import Checkpoint
from splatdistill.train.commands import Choose, Command, Densify, Prune, SetField
from splatdistill.train.config import Train, check_prompt
from splatdistill.train.fields import with_field, with_fields
from splatdistill.train.log import Given
from splatdistill.train.mixed import remembered
from splatdistill.train.phases import prior_asked
from splatdistill.train.plain import UNCHANGING, from_plain
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session


def steer(session: Session, command: Command) -> None:
    """Apply one command. Those that concern the loop (stop, save, pause) do nothing here."""
    match command:
        case SetField() | Choose():
            before = session.config
            after = configured(before, command)
            begin_parts(session, after, command)
            session.config = after
        case Densify():
            densify(session)
        case Prune():
            prune(session, command.min_opacity)


def configured(config: Train, command: SetField | Choose) -> Train:
    """Return the configuration as a command leaves it."""
    if isinstance(command, SetField):
        path = command.path.split(".")
        if path[0] in UNCHANGING:
            raise UserError(f"--{path[0]} cannot be changed while a run goes on; start another one")
        changed = with_field(config, path, command.value)
    else:
        kinds: dict[str, type] = {"guidance": GUIDANCES, "densify": DENSIFIERS}[command.part]
        if command.kind not in kinds:
            raise UserError(f"there is no {command.part} {command.kind!r}; expected {', '.join(kinds)}")
        with checks.part(command.part):
            part = with_fields(kinds[command.kind](), [(name.split("."), value) for name, value in command.fields])
        changed = replace(config, **{command.part: part})
    check_prompt(changed)
    return changed


def as_steered(config: Train, given: list[Given]) -> Train:
    """Return the configuration after commands."""
    for g in given:
        if isinstance(g.command, SetField | Choose):
            config = configured(config, g.command)
    return config


def in_force(begun: Train, run: RunDir, checkpoint: Checkpoint) -> Train:
    """Return the configuration in force at a checkpoint of a run that began with `begun`. What cannot be steered is as `begun` has it,
    so that config.yaml may say where the weights are now, and which device is to be used.
    """
    settings = checkpoint.note.settings
    if settings is None:  # of an earlier version: the log has to say
        return as_steered(begun, run.commands(checkpoint.note.step) if run.log.is_file() else [])
    return from_plain(replace(begun, **prior_asked(begun.phases, checkpoint.note.phase)), {k: v for k, v in settings.items() if k not in UNCHANGING})


def begin_parts(session: Session, config: Train, command: SetField | Choose) -> None:
    """Initialise the memory of a newly chosen part, and embed changed prompts: what the prior cannot take is refused here."""
    match command:
        case SetField(path="prompt" | "negative", value=str(words)):
            session.prior.embed([words])  # what the prior cannot take is refused here, and does not end the run at its next step
        case Choose(part="guidance"):
            session.state.memory = remembered(config, session.prior, session.state.memory)
        case Choose(part="densify"):
            begun = [config.densify.init(len(particle.scene)) for particle in session.state.particles]
            for particle, state in zip(session.state.particles, begun):
                particle.densify = state


def due_now(densifier: Any) -> Densifier:
    """Return the same densifier with an update at every step of the run and no resets."""
    now: dict[str, Any] = {"every": 1, "since": 0.0, "until": 1.0, "reset_every": None}
    changes = {k: v for k, v in now.items() if k in getattr(densifier, "__dataclass_fields__", {})}
    return replace(densifier, **changes) if changes else densifier


def densify(session: Session) -> None:
    """Make the densifier's update on every particle, as if it were due."""
    c, state = session.config, session.state
    at_once = due_now(c.densify)
    for p in state.particles:
        step, progress = max(p.step, 1), min(c.progress(state.step, state.phase), 1.0)
        at_once.update(p.densify, p.scene, p.optimizer, step, progress, state.rng, c.max_gaussians)


def prune(session: Session, min_opacity: float) -> None:
    """Remove transparent splats from every particle; one that nothing would be left of is a UserError."""
    kept = []
    for p in session.state.particles:
        stays = p.scene.logits.detach().sigmoid() >= min_opacity
        if not bool(stays.any()):
            raise UserError(f"no splat is as opaque as {min_opacity}: nothing would be left")
        kept.append(stays)
    for p, stays in zip(session.state.particles, kept):
        if not bool(stays.all()):
            p.densify.follow(resize(p.scene, p.optimizer, torch.nonzero(stays)[:, 0]))

