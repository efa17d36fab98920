"""Many questions as few network calls."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from splatdistill.priors import Condition, Query


def answer_grouped(queries: Sequence[Query], call: Callable[[nn.Module | None, Tensor, Tensor, Condition], Tensor]) -> tuple[Tensor, ...]:
    """Call each network once, `call(network, x_t, t, condition)`, on the queries that share it, joined along the batch; with those that
    have a picture and those that have none apart, as it sees one frame more of those.

    Answers come back in the order of the queries.
    """
    answers: dict[int, Tensor] = {}
    for network, shown in {(id(q.network), q.condition.image is None): (q.network, q.condition.image is None) for q in queries}.values():
        mine = [(i, q) for i, q in enumerate(queries) if q.network is network and (q.condition.image is None) == shown]
        x_t, t = (torch.cat(parts) for parts in zip(*((q.x_t, q.t) for _, q in mine)))
        eps = call(network, x_t, t, Condition.cat([q.condition for _, q in mine]))
        answers |= dict(zip((i for i, _ in mine), eps.split([len(q.t) for _, q in mine])))
    return tuple(answers[i] for i in range(len(queries)))
