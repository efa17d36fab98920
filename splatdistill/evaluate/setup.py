"""The evaluator that runs are measured with, as `evaluate` and `bench` set it up."""

from contextlib import suppress
from pathlib import Path

from splatdistill.errors import WeightsError
from splatdistill.estimators import imagenet
from splatdistill.estimators.weights import TINY_CLIP
from splatdistill.evaluate.clip_model import ClipModel, best_clip_model, clip_model
from splatdistill.evaluate.measure import Evaluator
from splatdistill.evaluate.options import Judge
from splatdistill.evaluate.protocol import Protocol


def evaluator(
    clip: str,
    protocol: Protocol,
    device: str,
    toybox: bool,
    image_reward: Path | None,
    prompts: tuple[str, ...],
    truth: bool = True,
    judge: Judge = "clip",
) -> Evaluator:
    """Find the networks that measure. toybox: whether tiny-clip will do where ViT-B/32 is not here."""
    if judge == "imagenet" and not imagenet.there():
        raise imagenet.missing()
    chosen, better = best_clip_model(clip, device, toybox)
    hard: ClipModel | None = chosen if chosen is not None and chosen.source == TINY_CLIP else None
    if hard is None and truth:
        with suppress(WeightsError):
            hard = clip_model(TINY_CLIP)
    return Evaluator(protocol, chosen, hard, device, better, image_reward, prompts, truth, judge == "imagenet")
