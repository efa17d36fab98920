"""Variance of a gradient estimate by its sources: nested draws, the law of total variance, and the jackknife.

A gradient g depends on a camera c, on the encoder's sample e, on the noise level t, and on the noise n. Drawn in this
order, each several times below the one before,

    tr Cov g = E tr Cov[g | c,e,t] + E tr Cov[E[g | c,e,t] | c,e] + E tr Cov[E[g | c,e] | c] + tr Cov E[g | c]
               noise                 time                           encoder                    camera

is estimated without bias from sums of squares (the analysis of variance of a balanced nested design: Searle, Casella &
McCulloch, "Variance Components", 1992, ch. 3). |E g|^2 is taken from products of different draws only, because
|mean of K draws|^2 exceeds it by tr Cov / K. All figures are ratios, in which the gradient's scale cancels.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Source = Literal["noise", "time", "encoder", "camera"]
SOURCES: tuple[Source, ...] = get_args(Source)
Space = Literal["latents", "parameters"]
SPACES: tuple[Space, ...] = get_args(Space)


@dataclass(frozen=True)
class Design:
    """Numbers of draws, each nested in the one before: cameras, then of each encodings, times, noises."""

    cameras: int
    encodings: int = 1  # 1: the encoder has no spread
    times: int = 4
    noises: int = 4

    @property
    def below(self) -> int:
        """Return draws per camera."""
        return self.encodings * self.times * self.noises


@dataclass(frozen=True)
class Sample:
    """Sums of the draws of one camera."""

    mean: Float[Tensor, " d"]  # float64
    noise: float  # sum of |g - mean of its time|^2
    time: float  # noises times the sum of |mean of a time - mean of its encoding|^2
    encoder: float  # times x noises times the sum of |mean of an encoding - mean of the camera|^2


def reduce(encodings: Iterable[Iterable[Float[Tensor, "n d"]]]) -> Sample:
    """Return the sample of one camera, from batches of gradients: one of n noises for each time of each encoding."""
    noise = time = 0.0
    count, means = 0, []
    for times in encodings:
        cells = []
        for g in times:
            g = g.double()
            count = len(g)
            cells.append(g.mean(0))
            noise += float((g - cells[-1]).square().sum())
        means.append(torch.stack(cells).mean(0))
        time += count * sum(float((m - means[-1]).square().sum()) for m in cells)
        below = count * len(cells)
    mean = torch.stack(means).mean(0)
    return Sample(mean, noise, time, below * sum(float((m - mean).square().sum()) for m in means))


@dataclass(frozen=True)
class MethodDraws:
    """Draws of one method on one scene in one space, ready for any subset of cameras."""

    design: Design
    samples: tuple[Sample, ...]
    gram: Float[Tensor, "c c"]  # products of the cameras' means
    squares: Float[Tensor, "c 3"]  # the cameras' sums of squares: noise, time, encoder

    @staticmethod
    def of(design: Design, samples: Sequence[Sample]) -> "MethodDraws":
        """Combine samples into MethodDraws; there must be as many as the design has cameras."""
        if len(samples) != design.cameras:
            raise ValueError(f"{len(samples)} samples for {design.cameras} cameras")
        means = torch.stack([s.mean for s in samples])
        squares = torch.tensor([(s.noise, s.time, s.encoder) for s in samples], dtype=torch.float64)
        return MethodDraws(design, tuple(samples), (means @ means.T).cpu(), squares)

    def against(self, other: "MethodDraws") -> Float[Tensor, "c c"]:
        """Return products of these cameras' means with another method's."""
        mine, others = (torch.stack([s.mean for s in d.samples]) for d in (self, other))
        return (mine @ others.T).cpu()


@dataclass(frozen=True)
class Moments:
    """tr Cov by source and |E g|^2, both unbiased (so that either may come out negative by chance)."""

    parts: tuple[float, float, float, float]  # of SOURCES
    signal: float

    @property
    def total(self) -> float:
        """Return tr Cov."""
        return sum(self.parts)


def moments(drawn: MethodDraws, space: Space, cameras: Sequence[int]) -> Moments:
    """Return the moments from some of the cameras.

    In the latents every camera has a space of its own: tr Cov and |E g|^2 are those at one camera, averaged over
    cameras, and no variance is between them.
    """
    d, a = drawn.design, len(cameras)
    sums = drawn.squares[cameras].sum(0).tolist()
    noise = sums[0] / (a * d.encodings * d.times * (d.noises - 1))
    time = sums[1] / (a * d.encodings * (d.times - 1))
    encoder = sums[2] / (a * (d.encodings - 1)) if d.encodings > 1 else time
    parts = [noise, (time - noise) / d.noises, (encoder - time) / (d.times * d.noises)]
    gram = drawn.gram[cameras][:, cameras]
    squares = float(gram.diagonal().sum())
    if space == "latents":
        return Moments((parts[0], parts[1], parts[2], 0.0), squares / a - encoder / d.below)
    everything = float(gram.sum())
    camera = d.below * (squares - everything / a) / (a - 1)
    signal = (everything - squares) / (a * (a - 1))  # of pairs of different cameras
    return Moments((parts[0], parts[1], parts[2], (camera - encoder) / d.below), signal)


def product(cross: Float[Tensor, "c c"], space: Space, cameras: Sequence[int]) -> float:
    """Return <E g, E h> from two methods that share cameras and nothing else."""
    kept, a = cross[cameras][:, cameras], len(cameras)
    same = float(kept.diagonal().sum())
    return same / a if space == "latents" else (float(kept.sum()) - same) / (a * (a - 1))


@dataclass(frozen=True)
class ConfidenceInterval:
    """Estimate and its 95 % interval; None where the draws do not resolve it."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "?"
        if self.low is None or self.high is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def jackknife(estimate: Callable[[list[int]], float], cameras: int, log: bool = False) -> ConfidenceInterval:
    """Return an estimate from all cameras, with the interval that leaving out one after the other gives.

    log: the interval is made of its logarithm, for what is positive. (Efron & Stein, "The jackknife estimate of
    variance", 1981.)
    """
    everyone = list(range(cameras))
    transform = (lambda v: math.log(v) if v > 0 else math.nan) if log else (lambda v: v)
    value = estimate(everyone)
    if not math.isfinite(transform(value)):
        return ConfidenceInterval(None, None, None)
    if cameras < 3:
        return ConfidenceInterval(value, None, None)
    left = [transform(estimate(everyone[:i] + everyone[i + 1 :])) for i in everyone]
    if not all(map(math.isfinite, left)):
        return ConfidenceInterval(value, None, None)
    from scipy.stats import t as student  # half a second, which only this needs

    mean = sum(left) / cameras
    error = float(student.ppf(0.975, cameras - 1)) * math.sqrt((cameras - 1) / cameras * sum((v - mean) ** 2 for v in left))
    low, high = transform(value) - error, transform(value) + error
    return ConfidenceInterval(value, math.exp(low), math.exp(min(high, 700.0))) if log else ConfidenceInterval(value, low, high)


@dataclass(frozen=True)
class GradientStatistics:
    """Statistics of one method on one scene in one space; every number is the same for any multiple of the gradient."""

    ratio: ConfidenceInterval
    """tr Cov g / |E g|^2 of one draw: how many steps must be averaged for an error as large as the gradient itself."""
    shares: dict[Source, ConfidenceInterval]
    """Parts of tr Cov by source; they add up to 1."""
    per_call: ConfidenceInterval
    """`ratio` times the pictures that networks are asked about for one draw: the price of the noise."""
    against_first: ConfidenceInterval
    """`ratio` divided by that of the first method in the list, on the same cameras, times and noise."""
    cosine: ConfidenceInterval
    """Between E g and the gradient of the KL divergence at the same guidance scale (the mean of SDS)."""
    bias: ConfidenceInterval
    """sqrt(1 - cosine^2): what no rescaling of E g can mend, relative to the KL gradient."""


def within(cosine: ConfidenceInterval) -> ConfidenceInterval:
    """Return a cosine cut to [-1, 1]; not resolved where its interval is longer than 1."""
    if cosine.value is None or cosine.low is None or cosine.high is None or cosine.high - cosine.low > 1:
        return ConfidenceInterval(None, None, None)
    return ConfidenceInterval(*(min(max(v, -1.0), 1.0) for v in (cosine.value, cosine.low, cosine.high)))


def gradient_statistics(drawn: MethodDraws, first: MethodDraws, reference: MethodDraws, space: Space, calls: float) -> GradientStatistics:
    """Return all figures with their intervals. calls: pictures that networks are asked about for one draw."""
    count, cross = drawn.design.cameras, drawn.against(reference)

    def ratio(of: MethodDraws, cameras: list[int]) -> float:
        m = moments(of, space, cameras)
        return m.total / m.signal if m.signal > 0 else math.nan

    def share(k: int, cameras: list[int]) -> float:
        m = moments(drawn, space, cameras)
        return m.parts[k] / m.total if m.total > 0 else math.nan

    def cosine(cameras: list[int]) -> float:
        signals = moments(drawn, space, cameras).signal, moments(reference, space, cameras).signal
        return product(cross, space, cameras) / math.sqrt(signals[0] * signals[1]) if min(signals) > 0 else math.nan

    plain, cos = jackknife(lambda i: ratio(drawn, i), count, log=True), within(jackknife(cosine, count))
    scaled = ConfidenceInterval(*(None if v is None else calls * v for v in (plain.value, plain.low, plain.high)))
    return GradientStatistics(
        ratio=plain,
        shares={s: jackknife(lambda i, k=k: share(k, i), count) for k, s in enumerate(SOURCES)},
        per_call=scaled,
        against_first=jackknife(lambda i: ratio(drawn, i) / ratio(first, i), count, log=True),
        cosine=cos,
        bias=ConfidenceInterval(*(None if v is None else math.sqrt(max(0.0, 1 - v * v)) for v in (cos.value, cos.high, cos.low))),
    )
