"""From a resolved configuration to a session: the prior's networks are loaded here."""

from pathlib import Path

from splatdistill.priors import weights
from splatdistill.priors.weights import Found
from splatdistill.train.checkpoint import Checkpoint
from splatdistill.train.config import Train
from splatdistill.train.session import Session


def begin(config: Train, found: Found, checkpoint: Checkpoint | Path | None = None) -> Session:
    """Load the prior and set the scene, or take both up from a checkpoint."""
    prior = weights.load(found, views=config.prior_views, **config.loading())
    return Session(config, prior) if checkpoint is None else Session.resumed(config, prior, checkpoint)
