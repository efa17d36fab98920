"""The clock of a step's stages; with --device cuda, by the card's own events."""

import time

import pytest
import torch

from splatdistill.train.clock import Clock


def test_each_stage_has_its_own_time(device: torch.device) -> None:
    clock = Clock(device)
    for stage, seconds in (("render", 0.01), ("guidance", 0.03), ("backward", 0.01), ("render", 0.02)):
        if device.type == "cuda":
            torch.cuda._sleep(int(seconds * 1e9))  # cycles, of the card alone
        else:
            time.sleep(seconds)
        clock.lap(stage)  # type: ignore[arg-type]
    timing = clock.timing()
    assert timing.render >= 0.015 and timing.guidance >= 0.015 and timing.backward >= 0.005 and 0 <= timing.rest < 0.03
    assert timing.total == pytest.approx(timing.render + timing.guidance + timing.backward + timing.rest)


def test_a_step_without_laps_is_all_rest(device: torch.device) -> None:
    timing = Clock(device).timing()
    assert timing.render == timing.guidance == timing.backward == 0 and timing.rest >= 0
