"""A scene held fixed, and draws of gradients on it: what `variance` is calculated from."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.cameras import Cameras
from splatdistill.evaluate.variance.statistics import SPACES, Design, MethodDraws, Sample, Space, reduce
from splatdistill.guidance import Guidance, Times, View
from splatdistill.guidance.held import Held
from splatdistill.priors import Conditions, DiffusionPrior
from splatdistill.priors.prompts import Prompts
from splatdistill.render import Rasterizer, RenderOutput
from splatdistill.scene import Scene
from splatdistill.train.config import Train
from splatdistill.train.shown import shown
from splatdistill.train.sizes import to_prior_size
from splatdistill.train.step import backgrounds, resolution


@dataclass(frozen=True)
class CameraView:
    """View of one camera."""

    encode: Callable[[torch.Generator], Float[Tensor, "1 *d"]]  # latents, with history to the scene's parameters
    text: Conditions
    render: RenderOutput | None = None


@dataclass(frozen=True)
class Still:
    """Scene that is held fixed."""

    prior: DiffusionPrior
    parameters: tuple[Tensor, ...]
    shoot: Callable[[torch.Generator], CameraView]  # from a camera of its choice
    progress: float = 0.0  # of the run that it was taken from


def splats(
    scene: Scene, config: Train, prior: DiffusionPrior, prompts: Prompts, rasterizer: Rasterizer, progress: float, behind: Tensor
) -> Still:
    """Return splats as a run with this configuration sees them. behind: logits of a learned background."""
    size = resolution(config, prior, progress)

    def shoot(rng: torch.Generator) -> CameraView:
        cameras = config.cameras.sample(1, size, size, rng).to(prior.device)
        ground = backgrounds(config.background, behind, 1, rng)
        out = rasterizer(scene.gaussians(), cameras, ground, normals=True)
        rgb = to_prior_size(shown(out, ground, config.shows), prior)
        return CameraView(lambda sample: prior.encode(rgb, sample), prompts.conditions(prior, cameras), out)

    return Still(prior, tuple(scene.parameters()), shoot, progress)


@dataclass(frozen=True)
class Pinned(Times):
    """Times that were drawn before; bounds and schedule stay those of the guidance, which may depend on them."""

    at: float = 0.5

    def draw(self, batch: int, progress: float, rng: torch.Generator, views: int = 1) -> Float[Tensor, " b"]:
        """Return the same time for every view."""
        return torch.full((batch,), self.at, dtype=torch.float64)


def pinned(guidance: Guidance, t: float) -> Guidance:
    """Return the guidance at one noise level."""
    times = guidance.value("times")
    fields = {f.name: getattr(times, f.name) for f in dataclasses.fields(Times)}
    return replace(guidance, times=Pinned(**fields, at=t))


@dataclass(frozen=True)
class GradientEstimator:
    """Guidance to be measured, under a name; and its learned memory, None for none."""

    name: str
    guidance: Guidance
    learned: dict[str, Tensor] | None = None
    wrong_view: bool = False  # shown the render of another camera, to see what the right one is worth

    def memory(self, prior: DiffusionPrior) -> nn.Module:
        """Return the guidance's memory, as a copy of its own."""
        memory = self.guidance.init(prior)
        if self.learned is not None:
            memory.load_state_dict(self.learned)
        return memory


@dataclass(frozen=True)
class MeasuredDraws:
    """Draws of one estimator on one still."""

    spaces: dict[Space, MethodDraws]
    calls: float  # pictures that networks were asked about, per draw
    alone: bool  # its views act on each other, which one view at a time cannot show


class Draws:
    """Nested draws on one still, from one seed: every estimator meets the same cameras, encodings, times and noise."""

    def __init__(self, still: Still, design: Design, seed: int, stream: str = "") -> None:
        self.still, self.design, self.seed, self.stream = still, design, seed, stream

    def rng(self, *place: Any, shared: bool = False) -> torch.Generator:
        """Return the generator of a place in the design; the cameras' are shared by all streams."""
        key = repr((self.seed, "" if shared else self.stream, place)).encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:7]))

    def measure(self, estimator: GradientEstimator, tick: Callable[[int], None] = lambda count: None) -> MeasuredDraws:
        """Return every draw of the design; tick is told how many were made since it was last told."""
        memory, prior = Held(estimator.memory(self.still.prior)), self.still.prior
        samples: dict[Space, list[Sample]] = {space: [] for space in SPACES}
        alone, calls = self.mixes(estimator.guidance, memory), 0
        for i in range(self.design.cameras):
            shot = self.still.shoot(self.rng("camera", i, shared=True))
            if estimator.wrong_view:
                other = self.still.shoot(self.rng("camera", (i + 1) % self.design.cameras, shared=True))
                shot = replace(shot, render=other.render)
            kept: dict[Space, list[list[Tensor]]] = {space: [] for space in SPACES}
            for e in range(self.design.encodings):
                x = shot.encode(self.rng("encoding", i, e))
                for space in SPACES:
                    kept[space].append([])
                for k in range(self.design.times):
                    before = prior.calls
                    t = float(estimator.guidance.value("times").draw(1, self.still.progress, self.rng("time", i, e, k))[0])
                    g = self.gradients(pinned(estimator.guidance, t), x, shot, memory, self.rng("noise", i, e, k), alone)
                    calls += prior.calls - before
                    kept["latents"][-1].append(g.flatten(1))
                    kept["parameters"][-1].append(self.pull(x, g))
                    tick(len(g))
            for space in SPACES:
                samples[space].append(reduce(kept[space]))
        drawn: dict[Space, MethodDraws] = {space: MethodDraws.of(self.design, samples[space]) for space in SPACES}
        return MeasuredDraws(drawn, calls / self.design.cameras / self.design.below, alone)

    def gradients(
        self, guidance: Guidance, x: Tensor, shot: CameraView, memory: "Held", rng: torch.Generator, alone: bool
    ) -> Float[Tensor, "n *d"]:
        """Return the gradients of n noises at one place, in one batch where views do not act on each other."""
        sizes = [1] * self.design.noises if alone else [self.design.noises]
        parts = []
        for n in sizes:
            at = x.repeat(n, *[1] * (x.ndim - 1))  # with history, which SSD may follow to the parameters
            view = View(at, copies(shot.text, n), self.still.prior, rng, self.still.progress, copies(shot.render, n))
            with memory as module:
                parts.append(guidance(view, module).grad)
        return torch.cat(parts)

    def pull(self, x: Tensor, g: Float[Tensor, "n *d"]) -> Float[Tensor, "n p"]:
        """Return J^T g for every gradient: from the latents to the scene's parameters."""
        rows = []
        for one in g:
            pulled = torch.autograd.grad(x, self.still.parameters, one[None], retain_graph=True, allow_unused=True)
            rows.append(
                torch.cat([torch.zeros(p.numel()).to(p) if v is None else v.flatten() for p, v in zip(self.still.parameters, pulled)])
            )
        return torch.stack(rows)

    def mixes(self, guidance: Guidance, memory: "Held") -> bool:
        """Return True if one view's gradient depends on the other views of its batch."""
        shot = self.still.shoot(self.rng("camera", 0, shared=True))
        x = shot.encode(self.rng("encoding", 0, 0)).detach()
        grads = []
        for far in (0.0, 3.0):
            pair = torch.cat([x, x + far])
            view = View(pair, copies(shot.text, 2), self.still.prior, self.rng("probe"), self.still.progress, copies(shot.render, 2))
            with memory as module:
                grads.append(pinned(guidance, 0.5)(view, module).grad[0])
        # batched networks of low precision differ a little from batch to batch
        return bool((grads[0] - grads[1]).norm() > 0.02 * grads[0].norm())


def copies(value: Any, n: int) -> Any:
    """Return a batch of one as a batch of n: tensors, texts, cameras, and whatever holds them; without history."""
    if isinstance(value, Tensor):
        return value.detach().repeat(n, *[1] * (value.ndim - 1))
    if isinstance(value, tuple):
        return value * n
    if isinstance(value, Cameras):
        return Cameras.cat([value] * n)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: copies(getattr(value, f.name), n) for f in dataclasses.fields(value)})
    return value


def learn(estimator: GradientEstimator, still: Still, batch: int, steps: int, rng: torch.Generator) -> GradientEstimator:
    """Return the estimator after its guidance has learned on this still for some steps, as in a run that does not move; at once the
    same estimator where it learns nothing.
    """
    memory = estimator.memory(still.prior)
    if not memory.state_dict() or not steps:
        return estimator
    for _ in range(steps):
        shots = [still.shoot(rng) for _ in range(batch)]
        x = torch.cat([s.encode(rng) for s in shots])
        renders = [s.render for s in shots]
        shown = joined(renders[1:] + renders[:1] if estimator.wrong_view else renders)
        view = View(x, joined([s.text for s in shots]), still.prior, rng, still.progress, shown)
        estimator.guidance(view, memory)
        estimator.guidance.learn(view, memory)
    return replace(estimator, learned={k: v.clone() for k, v in memory.state_dict().items()})


def joined(values: Sequence[Any]) -> Any:
    """Return batches of one as one batch."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat([v.detach() for v in values])
    if isinstance(first, tuple):
        return tuple(v for value in values for v in value)
    if isinstance(first, Cameras):
        return Cameras.cat(values)
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        return replace(first, **{f.name: joined([getattr(v, f.name) for v in values]) for f in dataclasses.fields(first)})
    return first


def noise_errors(
    estimators: Sequence[GradientEstimator], still: Still, levels: Sequence[float], views: int, rng: torch.Generator
) -> Iterator[tuple[str, float, Float[Tensor, " v"]]]:
    """Measure how well noise in renders is told, mean |eps_hat - eps|^2 per latent, at every noise level for every view.

    ("prompt" or "null", t, errors) of the prior itself, and (an estimator's name, t, errors) of each adapter that the estimator
    asks; ScaleDreamer's measurement of what a network knows of renders (arXiv:2407.02040).
    """
    from splatdistill.guidance.learning import Learning
    from splatdistill.guidance.noising import diffuse
    from splatdistill.priors import Query

    shots = [still.shoot(rng) for _ in range(views)]
    x = torch.cat([s.encode(rng).detach() for s in shots])
    view = View(x, joined([s.text for s in shots]), still.prior, rng, still.progress, joined([s.render for s in shots]))
    memories = [estimator.memory(still.prior) for estimator in estimators]
    for t in levels:
        n = diffuse(view, torch.full((views,), t, dtype=torch.float64).to(x))
        asked = [("prompt", Query(n.x_t, n.t, view.text.positive)), ("null", Query(n.x_t, n.t, view.text.null))]
        for estimator, memory in zip(estimators, memories):
            if isinstance(memory, Learning):  # the others ask the prior alone
                asked += [(estimator.name, q) for q in estimator.guidance.ask(view, n, memory) if q.network is not None]
        for (name, _), eps_hat in zip(asked, still.prior.answer([q for _, q in asked])):
            yield name, t, (eps_hat - n.eps).square().flatten(1).mean(1).double().cpu()
