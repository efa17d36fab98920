"""Arms whose splats come from a network of many prompts, trained once for each seed: `amortise` and then `train --init generator`."""

import dataclasses
from pathlib import Path

from splatdistill.bench.plan import Arm, Network
from splatdistill.bench.preset import Listed
from splatdistill.errors import UserError
from splatdistill.settings.commands import AMORTISE
from splatdistill.settings.layers import parse
from splatdistill.settings.methods import apart, typed
from splatdistill.settings.resolve import Weights, refuse_prompt
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.amortised.corpus import read_corpus
from splatdistill.train.amortised.polish import polishing

FIELDS = {f.name for f in dataclasses.fields(Amortise)} - {"guidance"}
OURS = ("corpus", "seed", "prior", "device", "steps", "checkpoint_every", "preview_every")  # what the bench itself sets


def networked(one: Listed, base: tuple[str, ...], weights: Weights) -> tuple[Arm, Amortise]:
    """Return an arm of a preset with a `corpus`, and the configuration of its network's training. base: options of prior and device.

    Options in the brackets that are fields of a training are its own, such as generator, prompts and rate; others the guidance's.
    """
    kind, options, wrong_view = apart(one.method)
    if wrong_view:
        raise UserError(f"{one.method}: @wrong-view is for `variance`; a network's prompts have their own renders")
    choice, trunk = AMORTISE.choices
    argv = ["--guidance", choice.spell(choice.find(kind))]
    for key, value in options:
        head = key.split(".")[0].replace("-", "_")
        if head in OURS:
            raise UserError(f"{one.method}: {key} is the bench's own to set, or the preset's `corpus`")
        if key == trunk.field:
            trunk.find(value)
        argv += typed(key if head in FIELDS else f"guidance.{key}", value)
    source = one.corpus if not Path(one.corpus).expanduser().is_file() else str(Path(one.corpus).expanduser().absolute())
    argv += ["--corpus", source, *base]
    config: Amortise = parse(argv, weights.family, AMORTISE).config
    corpus = read_corpus(source)
    for prompt in corpus:
        refuse_prompt(prompt, config.negative, weights.family(config.prior))
    network = Network(one.method, tuple(argv), corpus, "")
    return Arm(one.name or one.method, one.method, tuple(polishing(one.polish)), one.share, one.about, network=network, polish=one.polish, line=one.line), config
