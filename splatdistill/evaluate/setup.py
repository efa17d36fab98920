"""The evaluator that runs are measured with, as `evaluate` and `bench` set it up."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from splatdistill.errors import WeightsError
from splatdistill.estimators import imagenet
from splatdistill.evaluate.clip_model import ClipModel, best_clip_model, clip_model, embedded_for
from splatdistill.evaluate.measure import Evaluator
from splatdistill.evaluate.options import Judge
from splatdistill.evaluate.protocol import Protocol
from splatdistill.toybox.things import Thing


def evaluator(
    clip: str,
    protocol: Protocol,
    device: str,
    things: Sequence[Thing | None],
    image_reward: Path | None,
    prompts: tuple[str, ...],
    truth: bool = True,
    judge: Judge = "clip",
) -> Evaluator:
    """Find the networks that measure. things: what the prompts name, None of a prompt that names nothing of the toybox's."""
    if judge == "imagenet" and not imagenet.there():
        raise imagenet.missing()
    embedded = embedded_for(things)
    chosen, better = best_clip_model(clip, device, embedded)
    hard: ClipModel | None = chosen if chosen is not None and chosen.source == embedded else None
    if hard is None and truth and embedded:
        with suppress(WeightsError):
            hard = clip_model(embedded)
    return Evaluator(protocol, chosen, hard, device, better, image_reward, prompts, truth, judge == "imagenet")
