"""Learning rates for a run that is longer than its recipe.

Adam carries a parameter about a learning rate a step, whatever the gradient's size, so how far splats go is rates times
steps. The recipes of the embedded prior have rates for their own length; with the same ones in a longer run SDI's
objects hardened and went to pieces (a green duck and a blue house with `--steps 960` in place of 240: PSNR 18.5 and 14.4 dB fell
to 15.3 and 11.1, with a quarter of its rates they stayed at 18.8 and 14.2; scripts/acceptance.py). In shorter runs faster rates
gained nothing reliable (configs/bench/tiny-sweep.yaml and tiny-rates.yaml).
"""

import dataclasses

from splatdistill.scene.optim import LearningRates
from splatdistill.train.config import Train


def paced(config: Train, meant: int) -> Train:
    """The configuration with its learning rates times `meant` / steps, if it has more steps for each of its particles than
    the `meant` ones of its recipe.
    """
    factor = meant * config.particles / config.steps
    if factor >= 1:
        return config
    slower = {f.name: float(f"{factor * getattr(config.rates, f.name):.3g}") for f in dataclasses.fields(LearningRates)}
    return dataclasses.replace(config, rates=LearningRates(**slower))
