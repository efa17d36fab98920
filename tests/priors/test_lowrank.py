"""Low-rank adapters of random Stable Diffusion folders, against the same thing built from diffusers' own parts."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import Attention
from helpers import write_sd_folder
from safetensors.torch import load, save

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import VSD, View
from splatdistill.priors import Query
from splatdistill.priors.lowrank import LowRank
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import StableDiffusionPrior

KINDS = ("epsilon", "v_prediction")
STEPS = [20, 500]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_sd_folder(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def loaded(folder: Path, precision: str = "float64") -> StableDiffusionPrior:
    return StableDiffusionPrior.from_folder(folder, precision=precision)


def adapter_of(prior: StableDiffusionPrior, disturb: float = 0.0, exact_start: bool = True) -> LowRank:
    """Return a new adapter; with disturb, one whose weights have changed."""
    rng = torch.Generator().manual_seed(3)
    adapter = prior.adapter(4, rng, exact_start)
    with torch.no_grad():
        for p in adapter.parameters():
            p += disturb * torch.randn(p.shape, generator=rng, dtype=p.dtype)
    return adapter


def question(prior: StableDiffusionPrior, adapter: LowRank | None = None) -> Query:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=rng, dtype=prior.dtype)
    t = torch.tensor([s / 1000 for s in STEPS], dtype=prior.dtype)
    camera = None if adapter is None else orbit([10.0, 200.0]).camera_to_world
    return Query(x, t, replace(prior.embed(["a red ball", ""]), camera=camera), adapter)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_as_the_base_network_bit_by_bit(folders: dict[str, Path], kind: str, precision: str) -> None:
    prior = loaded(folders[kind], precision)
    adapter = adapter_of(prior)
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}
    base, adapted = prior.answer([question(prior), question(prior, adapter)])
    assert torch.equal(base, adapted)
    drawn = adapter_of(prior, exact_start=False)
    assert not torch.equal(prior.answer([question(prior, drawn)])[0], base)


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_network_is_untouched_by_whatever_an_adapter_does(folders: dict[str, Path], kind: str) -> None:
    prior = loaded(folders[kind], "float32")
    weights = copy.deepcopy(prior.unet.state_dict())
    (before,) = prior.answer([question(prior)])
    first, second = adapter_of(prior, 0.3), adapter_of(prior, 0.1)
    answers = prior.answer([question(prior, first), question(prior), question(prior, second), question(prior, first)])
    assert torch.equal(answers[1], before) and torch.equal(prior.answer([question(prior)])[0], before)
    assert torch.equal(answers[0], answers[3]) and not torch.allclose(answers[0], answers[2], atol=1e-3)
    q = question(prior, first)
    loss = first.loss(q.x_t, q.t, torch.randn_like(q.x_t), q.condition)
    loss.backward()
    assert all(p.grad is not None for p in first.parameters())
    assert all(p.grad is None for p in prior.unet.parameters())
    after = prior.unet.state_dict()
    assert weights.keys() == after.keys() and all(torch.equal(weights[k], after[k]) for k in weights)
    assert not any(m._forward_hooks for m in prior.unet.modules())
    with pytest.raises(RuntimeError):  # a question that fails leaves nothing behind either
        first(q.x_t[:, :1], q.t, replace(q.condition, camera=None))
    assert torch.equal(prior.answer([question(prior)])[0], before)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_w_plus_ba_and_a_class_embedding_of_the_camera(folders: dict[str, Path], kind: str) -> None:
    """The same network by other means: weights merged, the camera through diffusers' own class_embedding."""
    prior = loaded(folders[kind])
    adapter = adapter_of(prior, 0.2)
    merged = copy.deepcopy(prior.unet)
    count = 0
    for name, attention in merged.named_modules():
        if isinstance(attention, Attention):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                key = f"{name}.{part}".replace(".", "_")
                attention.get_submodule(part).weight.data += (adapter.up[key] @ adapter.down[key]).detach()
                count += 1
    assert count == len(adapter.up) == len(adapter.down) == 4 * 8
    merged.class_embedding = adapter.camera
    q = question(prior, adapter)
    with torch.no_grad():
        raw = merged(q.x_t, torch.tensor(STEPS), q.condition.tokens, class_labels=q.condition.camera.flatten(1).double()).sample
    table = DDPMScheduler.from_pretrained(folders[kind] / "scheduler").alphas_cumprod
    squared = table[STEPS].double().view(-1, 1, 1, 1)
    expected = raw if kind == "epsilon" else (1 - squared).sqrt() * q.x_t + squared.sqrt() * raw
    torch.testing.assert_close(prior.answer([q])[0], expected, rtol=0, atol=1e-9)
    prior.max_batch = 1
    torch.testing.assert_close(prior.answer([q])[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_the_network_predicts(folders: dict[str, Path], kind: str) -> None:
    """The loss against its definition, its gradient against finite differences."""
    prior = loaded(folders[kind])
    adapter = adapter_of(prior, 0.2)
    q, eps = question(prior, adapter), torch.randn(2, 4, 8, 8, dtype=torch.float64)
    before = prior.calls
    loss = adapter.loss(q.x_t, q.t, eps, q.condition)
    assert prior.calls - before == 2
    alpha, sigma = prior.schedule(q.t)
    (found,) = prior.answer([Query(alpha * q.x_t + sigma * eps, q.t, q.condition, adapter)])
    # an error of v is that of eps over alpha
    error = (found - eps) if kind == "epsilon" else (found - eps) / alpha
    torch.testing.assert_close(loss.detach(), error.square().mean(), rtol=1e-8, atol=0)
    loss.backward()
    rng = torch.Generator().manual_seed(1)
    for part in (adapter.up, adapter.down, adapter.camera):
        ways = [torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in part.parameters()]
        slope = sum(float((p.grad * w).sum()) for p, w in zip(part.parameters(), ways))
        ends = []
        for h in (1e-5, -1e-5):
            with torch.no_grad():
                for p, w in zip(part.parameters(), ways):
                    p += h * w
                ends.append(float(adapter.loss(q.x_t, q.t, eps, q.condition)))
                for p, w in zip(part.parameters(), ways):
                    p -= h * w
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-7) and slope != 0


def test_its_state_is_its_own_and_comes_from_its_generator(folders: dict[str, Path]) -> None:
    prior = loaded(folders["epsilon"], "float32")
    adapter = adapter_of(prior, 0.1)
    state = load(save(adapter.state_dict()))
    assert {k.split(".")[0] for k in state} == {"down", "up", "camera"}
    assert sum(v.numel() for v in state.values()) == sum(p.numel() for p in adapter.parameters())
    other = prior.adapter(4, torch.Generator().manual_seed(8))
    other.load_state_dict(state)
    assert torch.equal(*prior.answer([question(prior, adapter), question(prior, other)]))
    a, b, c = (prior.adapter(4, torch.Generator().manual_seed(s)).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["camera.0.weight"], c["camera.0.weight"])
    down = torch.cat([v.flatten() for k, v in a.items() if k.startswith("down")])
    assert down.std().item() == pytest.approx(1 / 4, rel=0.05) and down.mean().abs() < 0.02


def test_a_network_without_attention_cannot_be_adapted(folders: dict[str, Path]) -> None:
    prior = loaded(folders["epsilon"], "float32")
    prior.unet = prior.unet.time_embedding
    with pytest.raises(UserError, match="no attention"):
        prior.adapter(4, torch.Generator())


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("kind", KINDS)
def test_vsd_learns_renders_and_goes_on_from_its_memory(folders: dict[str, Path], kind: str, variant: str) -> None:
    """Steps of VSD on fixed latents bring the adapter's loss down, and a saved memory goes on bit by bit."""
    prior = loaded(folders[kind], "float32")
    guidance = VSD(adapter_rate=1e-3, variant=variant)
    text = Prompts("a red ball").conditions(prior, orbit([0.0, 90.0]))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)).requires_grad_()

    def view(seed: int) -> View:
        return View(x, text, prior, torch.Generator().manual_seed(seed), 0.1)

    def steps(memory: torch.nn.Module, seeds: range) -> dict[str, torch.Tensor]:
        for seed in seeds:
            guidance.learn(view(seed), memory)
        return memory.state_dict()

    def loss(memory: torch.nn.Module) -> float:
        rng, t = torch.Generator().manual_seed(9), torch.linspace(0.05, 0.95, 24)
        eps, twelve = torch.randn(24, 4, 8, 8, generator=rng), torch.arange(2).repeat(12)
        with torch.no_grad():
            value = memory.network.loss(x[twelve], t, eps, replace(text.plain[twelve], camera=text.cameras[twelve.tolist()].camera_to_world))
        return float(value)

    memory = guidance.init(prior)
    prior.calls = 0
    d = guidance(view(0), memory)
    assert prior.calls == 6 and d.grad.isfinite().all() and d.grad.abs().max() > 0
    before = loss(memory)
    half = load(save(steps(memory, range(20))))
    assert loss(memory) < before
    again = guidance.init(prior)
    again.load_state_dict(half)
    straight, resumed = steps(memory, range(20, 23)), steps(again, range(20, 23))
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)
    assert torch.equal(guidance(view(1), memory).grad, guidance(view(1), again).grad)


def test_the_embedded_prior_has_adapters() -> None:
    from splatdistill.priors.weights import find
    from splatdistill.priors.weights import load as load_prior

    prior = load_prior(find("tiny"), precision="float32")
    adapter = prior.adapter(4, torch.Generator().manual_seed(0))
    text = Prompts("a red mushroom").conditions(prior, orbit([0.0]))
    x, t = torch.randn(1, *prior.encode(torch.zeros(1, 3, 64, 64)).shape[1:]), torch.tensor([0.4])
    base, adapted = prior.answer([Query(x, t, text.plain), Query(x, t, text.plain, adapter)])
    assert torch.equal(base, adapted)
    adapter.loss(x, t, torch.randn_like(x), replace(text.plain, camera=text.cameras.camera_to_world)).backward()
    assert all(p.grad.abs().max() > 0 for p in adapter.up.values())
