"""Splats and what Adam knows of them move together."""

import torch
from scenes import moments, push, scene, used

from splatdistill.densify.ops import overwrite, resize, rows
from splatdistill.scene.optim import LearningRates
from splatdistill.scene.splats import PARAMETERS


def test_a_permuted_run_is_the_permuted_run() -> None:
    """Permuting rows between steps changes nothing but the order: moments follow their Gaussians, in every group."""
    plain, shuffled = scene(dtype=torch.float64), scene(dtype=torch.float64)
    plain_optimizer, optimizer = used(plain), used(shuffled)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    resize(shuffled, optimizer, order)
    for seed in range(10, 14):
        push(plain, plain_optimizer, seed)
        push(shuffled, optimizer, seed, order)
    for name in PARAMETERS:
        assert torch.equal(getattr(shuffled, name), getattr(plain, name)[order])


def test_removed_rows_leave_no_trace() -> None:
    whole, part = scene(dtype=torch.float64), scene(dtype=torch.float64)
    whole_optimizer, optimizer = used(whole), used(part)
    kept = torch.tensor([0, 3, 4, 11])
    surgery = resize(part, optimizer, kept)
    assert surgery.added == 0 and torch.equal(surgery.kept, kept) and len(part) == 4
    order = torch.cat([kept, torch.tensor([11])])[:4]
    for seed in range(10, 13):
        push(whole, whole_optimizer, seed)
        push(part, optimizer, seed, order)
    for name in PARAMETERS:
        assert torch.equal(getattr(part, name), getattr(whole, name)[kept])


def test_children_begin_without_moments_and_kept_ones_keep_theirs() -> None:
    s = scene()
    optimizer = used(s)
    before = {k: v.clone() for k, v in moments(s, optimizer).items()}
    steps = {n: float(optimizer.state[getattr(s, n)]["step"]) for n in PARAMETERS}
    values = {n: getattr(s, n).detach().clone() for n in PARAMETERS}
    parents = torch.tensor([2, 2, 7])
    surgery = resize(s, optimizer, torch.tensor([0, 1, 2, 5]), rows(s, parents))
    assert surgery.added == 3 and len(s) == 7
    for key, value in moments(s, optimizer).items():
        assert torch.equal(value[:4], before[key][[0, 1, 2, 5]]) and not value[4:].any()
    for name in PARAMETERS:
        p = getattr(s, name)
        assert torch.equal(p[4:], values[name][parents]) and p.requires_grad and p.is_leaf
        assert float(optimizer.state[p]["step"]) == steps[name]


def test_other_groups_are_left_alone() -> None:
    s = scene()
    other = torch.nn.Parameter(torch.ones(12))
    optimizer = LearningRates().optimizer(s)
    optimizer.add_param_group({"params": [other], "name": "background", "lr": 0.1})
    other.grad = torch.ones(12)
    push(s, optimizer, 0)
    before = optimizer.state[other]["exp_avg"].clone()
    resize(s, optimizer, torch.arange(5))
    assert optimizer.param_groups[-1]["params"][0] is other and torch.equal(optimizer.state[other]["exp_avg"], before)


def test_surgery_before_the_first_step() -> None:
    s = scene()
    optimizer = LearningRates().optimizer(s)
    resize(s, optimizer, torch.arange(5), rows(s, torch.tensor([8])))
    assert len(s) == 6 and not optimizer.state
    push(s, optimizer, 0)
    moments(s, optimizer)


def test_overwriting_forgets() -> None:
    s = scene()
    optimizer = used(s)
    before = {k: v.clone() for k, v in moments(s, optimizer).items()}
    places, others = torch.tensor([1, 4]), torch.tensor([0, 2, 3, *range(5, 12)])
    overwrite(s, optimizer, places, rows(s, torch.tensor([6, 6])))
    for name in PARAMETERS:
        assert torch.equal(getattr(s, name)[places], getattr(s, name)[[6, 6]])
    for key, value in moments(s, optimizer).items():
        assert not value[places].any() and torch.equal(value[others], before[key][others])
