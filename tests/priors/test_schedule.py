"""The schedule is the one that networks were trained with, and continuous between its steps."""

import pytest
import torch
from diffusers import DDPMScheduler

from splatdistill.priors import Condition, Query
from splatdistill.priors.batching import answer_grouped
from splatdistill.priors.schedule import TableSchedule

TRAINED = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


@pytest.fixture
def schedule() -> TableSchedule:
    return TableSchedule(TRAINED.alphas_cumprod)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_step_is_met_exactly(schedule: TableSchedule, dtype: torch.dtype) -> None:
    steps = torch.arange(1000)
    t = (steps.double() / 1000).to(dtype)
    assert torch.equal(schedule.timestep(t), steps)
    alpha, sigma = schedule.at(t)
    table = TRAINED.alphas_cumprod.double()
    torch.testing.assert_close(alpha, table.sqrt(), rtol=0, atol=1e-12)
    torch.testing.assert_close(sigma, (1 - table).sqrt(), rtol=0, atol=1e-12)
    x, eps = torch.randn(2, 1000, 3, dtype=torch.float64)
    expected = table.sqrt()[:, None] * x + (1 - table).sqrt()[:, None] * eps
    torch.testing.assert_close(alpha[:, None] * x + sigma[:, None] * eps, expected, rtol=0, atol=1e-9)


def test_log_snr_is_linear_between_steps_and_variance_is_kept(schedule: TableSchedule) -> None:
    t = torch.linspace(0, 1, 7001, dtype=torch.float64)
    alpha, sigma = schedule.at(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-14)
    log_snr = (alpha / sigma).log()
    assert (log_snr.diff() <= 0).all()
    place = torch.tensor([0.3, 412.25, 998.9], dtype=torch.float64)
    low, high = (torch.stack(schedule.at(p / 1000)) for p in (place.floor(), place.ceil()))
    between = torch.lerp((low[0] / low[1]).log(), (high[0] / high[1]).log(), place - place.floor())
    alpha, sigma = schedule.at(place / 1000)
    torch.testing.assert_close((alpha / sigma).log(), between)


def test_ends_are_the_first_and_the_last_step(schedule: TableSchedule) -> None:
    alpha, _ = schedule.at(torch.tensor([0.0, 0.999, 1.0]))
    torch.testing.assert_close(alpha**2, TRAINED.alphas_cumprod[[0, 999, 999]].double())
    assert schedule.timestep(torch.tensor([0.0, 1.0])).tolist() == [0, 999]


def test_zero_terminal_snr_can_be_divided_by() -> None:
    table = DDPMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True).alphas_cumprod.clone()
    table[-1] = 0
    alpha, sigma = TableSchedule(table).at(torch.tensor([0.998, 0.9985, 1.0]))
    torch.testing.assert_close(alpha[[0, 2]], torch.tensor([table[998].double().sqrt(), 2.0**-12], dtype=torch.float64))
    assert (sigma / alpha).isfinite().all() and abs(sigma[2] - 1) < 1e-7


def test_scaled_linear_is_stable_diffusions() -> None:
    torch.testing.assert_close(
        TableSchedule.scaled_linear().alphas_cumprod, TRAINED.alphas_cumprod.double(), rtol=1e-5, atol=0
    )


def test_each_network_is_asked_once_and_answers_keep_their_order() -> None:
    asked: list[tuple[object, int]] = []
    cameras: list[torch.Tensor | None] = []

    def call(network: object, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        asked.append((network, len(x_t)))
        cameras.append(condition.camera)
        return x_t + t[:, None] + 100 * (network is not None)

    adapter = torch.nn.Identity()
    sizes = ((1, None), (2, adapter), (3, None), (1, adapter))
    queries = [
        Query(torch.full((n, 2), 10.0 * i), torch.full((n,), 0.5), Condition(torch.zeros(n, 1, 1), camera=torch.ones(n, 4, 4) if i == 3 else None), w)
        for i, (n, w) in enumerate(sizes)
    ]
    answers = answer_grouped(queries, call)
    assert asked == [(None, 4), (adapter, 3)]
    assert cameras[0] is None and cameras[1].mean((1, 2)).tolist() == [0, 0, 1], "a camera that is not known is all zeros"
    for i, (answer, (n, network)) in enumerate(zip(answers, sizes)):
        torch.testing.assert_close(answer, torch.full((n, 2), 10.0 * i + 0.5 + 100 * (network is not None)))
