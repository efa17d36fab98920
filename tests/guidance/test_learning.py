"""Learning of a guidance: refusals lower the loss scale until updates are made again."""

import torch
from torch import nn

from splatdistill.guidance import learning
from splatdistill.guidance.learning import Learning
from splatdistill.priors import Adapter


class Half(Adapter):
    """Parameter, used in half precision inside, whose gradient there is 100 times the loss scale."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, -0.25]))

    def forward(self, x_t, t, condition):
        raise NotImplementedError

    def loss(self, x, t, eps, condition):
        raise NotImplementedError

    def value(self) -> torch.Tensor:
        return (self.w.half() * torch.tensor(100.0).half()).float().sum()


def loss_of(memory: Learning) -> torch.Tensor:
    return Half.value(memory.network)


def made() -> Learning:
    return Learning(Half(), 0.1, (0.9, 0.99), 1e-8, 0.0)


def test_a_scale_that_overflows_half_precision_is_halved_until_it_does_not():
    memory = made()
    before = memory.network.w.detach().clone()
    done = [memory.update(loss_of(memory), 0.1, factor=4096.0) for _ in range(6)]
    # 100 * 4096 is above 65504; a quarter and an eighth of it, 102400 and 51200, lie on both sides
    assert done == [False, False, False, True, True, True]
    assert int(memory.refused) == 3 and float(memory.scale) == 1 / 8
    torch.testing.assert_close(memory.network.w.detach(), before - 0.3)


def test_the_scale_grows_again_and_changes_no_update(monkeypatch):
    monkeypatch.setattr(learning, "GROWTH", 3)
    memory, plain = made(), made()
    plain.scale.fill_(1.0)
    for k in range(7):
        memory.update(loss_of(memory), 0.1, factor=2.0)
        monkeypatch.setattr(learning, "GROWTH", 1000)
        plain.update(loss_of(plain), 0.1, factor=2.0)
        monkeypatch.setattr(learning, "GROWTH", 3)
        assert float(memory.scale) == 2.0 ** ((k + 1) // 3)
    assert torch.equal(memory.network.w, plain.network.w)


def test_what_was_saved_without_a_scale_is_loaded():
    saved = {k: v for k, v in made().state_dict().items() if k not in ("scale", "since")}
    memory = made()
    memory.load_state_dict(saved)
    assert float(memory.scale) == 1.0
