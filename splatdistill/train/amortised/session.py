"""Training of a generator, to be stepped, looked at and saved; the command `amortise` is made of it."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.guidance import Distilled, View
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.prompts import Prompts, switches
from splatdistill.render import Rasterizer
from splatdistill.render import rasterizer as default_rasterizer
from splatdistill.scene.generator import Network, Text
from splatdistill.scene.generator.saved import read
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.amortised.corpus import VisitOrder, sample
from splatdistill.train.amortised.workers import Workers
from splatdistill.train.checkpoint import Checkpoint, expect
from splatdistill.train.losses import finite
from splatdistill.train.notes import explained
from splatdistill.train.sizes import to_prior_size
from splatdistill.train.step import backgrounds, clipped, encoded_again

LEAST = 0.05  # of the learning rate, at the end
WHITENED, TOGETHER = 10_000, 64  # prompts, at most, whose texts tell mean and deviation of a corpus; and that are read at once


@dataclass(frozen=True)
class PromptViews:
    """Views of one prompt's splats in one step, and the prior's answer to them."""

    cameras: Cameras
    behind: Float[Tensor, "b 3"]
    encoding: Tensor  # state of the generator from which the encoder's noise was drawn
    view: View
    distilled: Distilled


@dataclass(frozen=True)
class Done:
    """Outcome of one step."""

    taken: bool  # False: refused, because a gradient was not finite
    prompts: tuple[str, ...]
    loss: float  # of the regularisers
    grad_norm: float  # of the network, before it was clipped
    t: float
    coverage: float


def pooled_texts(prior: DiffusionPrior, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
    """Return the pooled texts of prompts, some at a time: of a long corpus the tokens of all would fill the memory."""
    return torch.cat([read(prior, prompts[i : i + TOGETHER]).pooled for i in range(0, len(prompts), TOGETHER)])


class AmortisedSession:
    """Distillation of a prior into a generator, step by step.

        session = AmortisedSession(Amortise(steps=500), load("tiny"), ("a red ball", "a blue cube"))
        for _ in range(500):
            session.step()
        splats = session.generate("a red cube")
    """

    def __init__(self, config: Amortise, prior: DiffusionPrior, corpus: Sequence[str], rasterizer: Rasterizer | None = None, workers: Workers = Workers()) -> None:
        self.config, self.prior, self.corpus, self.workers = config, prior, tuple(corpus), workers
        if config.prompts * workers.world > len(self.corpus):
            raise UserError(f"--prompts {config.prompts} on {workers.world} process(es) is more than the {len(self.corpus)} of the corpus; take fewer a step")
        self.rasterizer = default_rasterizer(prior.device) if rasterizer is None else rasterizer
        pooled = pooled_texts(prior, sample(self.corpus, WHITENED))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network: Network = config.generator.network(pooled.shape[1])
        self.network.tell(pooled.cpu())
        self.network.to(prior.device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.rate, betas=(0.5, 0.99))
        self.memory: nn.Module = config.guidance.init(prior)
        self.order = VisitOrder(len(self.corpus), config.seed, workers.world, workers.rank)
        self.steps = self.refused = 0

    def __repr__(self) -> str:
        return f"AmortisedSession({len(self.corpus)} prompts, step {self.steps} of {self.config.steps})"

    @property
    def rate(self) -> float:
        """Return the learning rate of the next step."""
        c = self.config
        fallen = LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * self.steps / c.steps))
        return c.rate * fallen * min(1.0, (self.steps + 1) / max(c.warm_up, 1))

    def step(self) -> Done:
        """Run one step: render the splats of some prompts, ask the prior, update the network (`inner` times); or refuse it."""
        c = self.config
        prompts = tuple(self.corpus[k] for k in self.order.at(self.steps, c.prompts))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        rngs = [self._rng(k) for k in range(len(prompts))]
        z = torch.stack([torch.randn(c.generator.z, generator=rng) for rng in rngs]) if c.generator.z else None
        text = Text.of(torch.cat([read(self.prior, [p]).tokens for p in prompts]), z)
        looks: list[PromptViews] = []
        loss = norm = coverage = 0.0
        for k in range(c.inner):
            self.optimizer.zero_grad(set_to_none=True)
            raw = self.network(text)
            leaf = raw.detach().requires_grad_()  # one prompt's pictures at a time; the network's backward pass once, for all
            for i, prompt in enumerate(prompts):
                g = self.network.gaussians(leaf[i])
                guided, terms, covered = self._look(prompt, g, looks, rngs[i]) if k == 0 else self._again(g, looks[i])
                total = c.guidance_weight * guided + terms
                if not finite(total, *([looks[i].distilled.grad] if k == 0 else [])):
                    total = total * math.nan  # all processes learn of it by the mean of their gradients
                (total / len(prompts)).backward()
                if k == 0:
                    loss, coverage = loss + float(terms.detach()) / len(prompts), coverage + covered / len(prompts)
            raw.backward(leaf.grad)
            self.workers.average([p.grad for p in self.network.parameters() if p.grad is not None])
            norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), c.clip))
            if not math.isfinite(norm):
                return self._refuse(prompts) if k == 0 else self._taken(prompts, looks, loss, norm, coverage)
            self.optimizer.step()
        return self._taken(prompts, looks, loss, norm, coverage)

    def _rng(self, k: int) -> torch.Generator:
        """Return the random numbers of a step's k-th prompt: a visit draws the same whichever process makes it, after whatever pause."""
        visit = (self.steps * self.config.prompts + k) * self.workers.world + self.workers.rank
        seeds = np.random.SeedSequence([self.config.seed % 2**64, visit, self.refused])
        return torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))

    def _look(self, prompt: str, g: Gaussians, looks: list[PromptViews], rng: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """Render a prompt's splats from new cameras and ask the prior; return its loss, the regularisers, and the mean alpha."""
        c, prior = self.config, self.prior
        size = prior.image_size
        cameras: Cameras = c.cameras.at(self.steps / c.steps).sample(c.batch, size, size, rng, prior.views).to(prior.device)
        behind = backgrounds(c.background, g.means.new_zeros(3), len(cameras), rng, prior.views)
        out = clipped(self.rasterizer(g, cameras, behind, normals=c.guidance.renders_normals() or c.regularise.renders_normals()), c.clip_rgb)
        encoding = rng.get_state()
        x = prior.encode(to_prior_size(out.rgb, prior), rng)
        words = Prompts(prompt, c.negative, c.directions if c.view_dependent else None, *switches(prior, c.perp_neg, c.camera_guidance))
        view = View(x, words.conditions(prior, cameras), prior, rng, self.steps / c.steps, out)
        distilled = c.guidance(view, self.memory)
        looks.append(PromptViews(cameras, behind, encoding, view, distilled))
        return distilled.loss, c.regularise(out, g, view.progress), float(out.alpha.detach().mean())

    def _again(self, g: Gaussians, look: PromptViews) -> tuple[Tensor, Tensor, float]:
        """Return the same of another step towards the target of a look, see train.step.towards."""
        c, prior = self.config, self.prior
        out = clipped(self.rasterizer(g, look.cameras, look.behind, normals=c.regularise.renders_normals()), c.clip_rgb)
        x = encoded_again(out.rgb, prior, look.encoding)
        return look.distilled.loss_at(x), c.regularise(out, g, look.view.progress), 0.0

    def _taken(self, prompts: tuple[str, ...], looks: list[PromptViews], loss: float, norm: float, coverage: float) -> Done:
        """Update the guidance's memory and the moving average of the weights, and return the step's outcome."""
        for look in looks:
            self.config.guidance.learn(look.view, self.memory)
        self.workers.average([v for v in self.memory.state_dict().values() if v.is_floating_point()])
        self.steps, self.refused = self.steps + 1, 0
        keep = min(self.config.ema, self.steps / (self.steps + 10))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
            for mean, value in pairs:
                mean.lerp_(value, 1 - keep)
        t = sum(float(look.distilled.noised.t.mean()) for look in looks) / len(looks)
        return Done(True, prompts, loss, norm, t, coverage)

    def _refuse(self, prompts: tuple[str, ...]) -> Done:
        self.optimizer.zero_grad(set_to_none=True)
        self.refused += 1
        return Done(False, prompts, math.nan, math.nan, math.nan, math.nan)

    @torch.no_grad()
    def generate(self, prompt: str) -> Gaussians:
        """Return the splats of a prompt, by the average of the weights, at z = 0."""
        return self.average.gaussians(self.average(read(self.prior, [prompt]))[0])

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a step changes as named tensors."""
        named = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        named |= {f"average.{k}": v for k, v in self.average.named_parameters()}
        for name, p in self.network.named_parameters():
            named |= {f"adam.{name}.{k}": torch.as_tensor(v) for k, v in self.optimizer.state.get(p, {}).items()}
        named |= {f"memory.{k}": v for k, v in self.memory.state_dict().items()}
        return {k: v.detach().cpu().contiguous() for k, v in named.items()}

    def restore(self, saved: Checkpoint) -> None:
        """Restore a checkpoint; the training then continues bit for bit. UserError where it is damaged or of another network."""
        with explained(saved.path):
            fresh, tensors = self.tensors(), saved.tensors
            for name, value in fresh.items():
                expect(name, tensors[name], tuple(value.shape), value.dtype)
            under = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
            self.network.load_state_dict(under("network."))
            self.average.load_state_dict(self.average.state_dict() | under("average."))
            self.memory.load_state_dict(under("memory."))
            for name, p in self.network.named_parameters():
                if moments := under(f"adam.{name}."):
                    expect(f"adam.{name}.exp_avg", moments["exp_avg"], tuple(p.shape), p.dtype)
                    expect(f"adam.{name}.exp_avg_sq", moments["exp_avg_sq"], tuple(p.shape), p.dtype)
                    expect(f"adam.{name}.step", moments["step"], (), torch.float32)
                    self.optimizer.state[p] = {k: v.to(p.device) if k != "step" else v for k, v in moments.items()}
            self.steps, self.refused = saved.note.step, saved.note.refused

