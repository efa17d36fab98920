"""What runs are measured with, as `evaluate` and `bench` set it up."""

from contextlib import suppress
from pathlib import Path

from splatdistill.errors import WeightsError
from splatdistill.estimators.weights import TINY_CLIP
from splatdistill.evaluate.measure import Laboratory
from splatdistill.evaluate.protocol import Protocol, Ruler, best_ruler, ruler
from splatdistill.render import rasterizer


def laboratory(
    clip: str,
    protocol: Protocol,
    device: str,
    toybox: bool,
    image_reward: Path | None,
    prompts: tuple[str, ...],
    truth: bool = True,
) -> Laboratory:
    """Networks and rasteriser on a device. toybox: whether tiny-clip will do where ViT-B/32 is not here."""
    chosen, better = best_ruler(clip, device, toybox)
    hard: Ruler | None = chosen if chosen is not None and chosen.source == TINY_CLIP else None
    if hard is None and truth:
        with suppress(WeightsError):
            hard = ruler(TINY_CLIP)
    return Laboratory(protocol, chosen, hard, rasterizer(device), device, better, image_reward, prompts, truth)
