"""A trained generator: the network of a folder and the text encoder that it was trained with."""

from collections.abc import Sequence
from pathlib import Path

import torch

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.priors import DiffusionPrior, weights
from splatdistill.scene import Scene
from splatdistill.scene.generator import Network, Text
from splatdistill.train.amortised.folder import read_generator, read_prompts
from splatdistill.train.amortised.session import read


class Generator(Scene):
    """Prompts to Gaussians in one pass.

        generator = Generator.load("runs/192-prompts")
        splats = generator("a red mug")
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

    def text(self, prompt: str) -> Text:
        """Return a prompt as the network reads it."""
        return read(self.prior, [prompt])

    def forward(self, prompts: Sequence[str] | str = ()) -> Gaussians:
        """Return the Gaussians of one prompt, with history."""
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        if len(several) != 1 or not several[0].strip():
            raise UserError(f"a generator makes one object at a time; expected one prompt, got {several!r}")
        return self.network.gaussians(self.network(self.text(several[0]))[0])

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
            several = self.corpus[:5000]
            known = self.network.whitened(read(self.prior, several))
            best = torch.nn.functional.cosine_similarity(own, known).argmax()
        return several[int(best)]
