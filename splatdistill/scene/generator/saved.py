"""A trained generator: read from the folder that `splatdistill amortise` has left, with the text encoder that it was trained with.

    runs/192-prompts/  generator.safetensors  generator.json  corpus.txt
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from splatdistill.errors import UserError, reason
from splatdistill.gaussians import Gaussians
from splatdistill.priors import DiffusionPrior, weights
from splatdistill.scene import Scene
from splatdistill.scene.generator import TRUNKS, Network, Text
from splatdistill.weight_files import Unreadable, read_object

WEIGHTS, NOTE, CORPUS = "generator.safetensors", "generator.json", "corpus.txt"
COMPARED = 5000  # prompts of a corpus, at most, among which the nearest is looked for


def read(prior: DiffusionPrior, prompts: Sequence[str]) -> Text:
    """Return prompts as the prior's text encoder reads them; UserError for a prior that reads no tokens."""
    tokens = prior.embed(list(prompts)).tokens
    if tokens is None:
        raise UserError(f"the prior {prior.name} has no tokens for a generator to read; take another --prior")
    return Text.of(tokens)


def read_prompts(folder: Path) -> list[str]:
    """Return the prompts that a generator was trained on; UserError where they are not there."""
    try:
        return (folder / CORPUS).read_bytes().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{folder / CORPUS} cannot be read: {reason(e)}; expected a folder that `splatdistill amortise` has made") from e


def read_generator(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Return a trained network on the CPU, and its note. UserError for a folder that holds none, or a damaged one."""
    if not (folder / NOTE).is_file():
        raise UserError(f"{folder} holds no generator: there is no {NOTE}; expected a folder that `splatdistill amortise` has made")
    try:
        note = read_object(folder / NOTE)
        kind, options = TRUNKS[str(note["generator"])], note["options"]
        known = {f.name for f in fields(kind)}
        if not isinstance(options, dict) or options.keys() - known:
            raise ValueError(f"{NOTE} has options that {kind.__name__} does not")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        trunk = kind(**given)
        width = note["width"]
        if type(width) is not int or not 1 <= width <= 65536 or not isinstance(note.get("prior"), str):
            raise ValueError(f"{NOTE} says width {width!r} and prior {note.get('prior')!r}")
        network = trunk.network(width)
        weights = load_file(folder / WEIGHTS)
        for name, value in network.state_dict().items():
            if name not in weights or weights[name].shape != value.shape or not bool(weights[name].isfinite().all()):
                raise ValueError(f"{WEIGHTS} does not hold {name} as {kind.__name__} has it")
        network.load_state_dict(weights)
    except UserError:
        raise
    except KeyError as e:
        raise UserError(f"{folder / NOTE} names no generator that is known: {e}; expected one of {', '.join(TRUNKS)}") from e
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, Unreadable) as e:
        raise UserError(f"{folder} holds no whole generator: {reason(e)[:300]}") from e
    return network.eval().requires_grad_(False), note


class Generator(Scene):
    """Generator of Gaussians from prompts in one pass.

        generator = Generator.load("runs/192-prompts")
        splats = generator("a red mug")
        another = generator("a red mug", seed=1)   # where it was trained with --generator.z
    """

    def __init__(self, network: Network, prior: DiffusionPrior, corpus: Sequence[str] = ()) -> None:
        super().__init__()
        self.network, self.prior, self.corpus = network, prior, tuple(corpus)

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> "Generator":
        """Return the generator that `splatdistill amortise` has left in a folder; UserError where there is none, or where its prior,
        whose text encoder it reads with, is not here.
        """
        folder = Path(folder).expanduser()
        network, note = read_generator(folder)
        prior = weights.load(weights.find(note["prior"]), device)
        generator = cls(network.to(prior.device), prior, read_prompts(folder))
        width = generator.text("a").pooled.shape[1]
        if width != network.width:
            raise UserError(f"{folder} reads texts of {network.width} numbers a token, and the text encoder of {prior.name} gives {width}; it was trained with {note.get('prior_name')}")
        return generator

    def text(self, prompt: str, seed: int | None = None) -> Text:
        """Return a prompt as the network reads it: at z = 0, or at the z that a seed draws. UserError where there is no z."""
        text = read(self.prior, [prompt])
        if seed is None:
            return text
        if not self.network.trunk.z:
            raise UserError("this generator makes one object of a prompt, whatever the seed; train one with `amortise --generator.z 16` for several")
        return replace(text, z=torch.randn(1, self.network.trunk.z, generator=torch.Generator().manual_seed(seed)))

    def forward(self, prompts: Sequence[str] | str = (), seed: int | None = None) -> Gaussians:
        """Return the Gaussians of one prompt, with history; seed chooses among the objects of a network that has a z."""
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        if len(several) != 1 or not several[0].strip():
            raise UserError(f"a generator makes one object at a time; expected one prompt, got {several!r}")
        return self.network.gaussians(self.network(self.text(several[0], seed))[0])

    @torch.no_grad()
    def between(self, first: str, second: str, share: float) -> Gaussians:
        """Return the Gaussians of a mixture of two texts: share 0 is the first, 1 the second, both to the bit."""
        a, b = self.text(first), self.text(second)
        mixed = Text((1 - share) * a.tokens + share * b.tokens, (1 - share) * a.pooled + share * b.pooled)
        return self.network.gaussians(self.network(mixed)[0])

    def nearest(self, prompt: str) -> str | None:
        """Return the prompt of the corpus whose text is most like another one's; None where it is the corpus' own, or there is none."""
        if prompt in self.corpus or not self.corpus:
            return None
        with torch.no_grad():
            own = self.network.whitened(self.text(prompt))
            several = self.corpus[:COMPARED]
            known = self.network.whitened(read(self.prior, several))
            best = torch.nn.functional.cosine_similarity(own, known).argmax()
        return several[int(best)]
