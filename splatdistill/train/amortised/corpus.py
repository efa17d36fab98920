"""Corpora of prompts: read from files, and the order in which a training visits them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from splatdistill.errors import UserError, reason
from splatdistill.toybox import Caption, split

TOYBOX = "toybox"
SHOWN = 3  # prompts that an error names
LONGEST = 4000  # characters of a prompt
MOST = 2**26  # bytes of a file: a million prompts of 60 characters


def read_corpus(source: str) -> tuple[str, ...]:
    """Return the prompts of `toybox`, of `toybox[48]`, the first 48 of its longer corpus, or of a file: one a line, or a JSON list, or
    ScaleDreamer's libraries, which are mappings whose "train" is a list. Empty lines and doubled prompts are left out. UserError for a
    file that holds none.
    """
    if source == TOYBOX:
        return tuple(map(str, split.corpus()))
    if some := re.fullmatch(rf"{TOYBOX}\[(\d{{1,9}})\]", source, re.ASCII):
        return tuple(map(str, _first(int(some[1]), source)))
    path = Path(source).expanduser()
    try:
        if path.stat().st_size > MOST:
            raise UserError(f"--corpus {source} has more than {MOST} bytes; expected a list of prompts")
        text = path.read_bytes().decode("utf-8")
        prompts = _listed(json.loads(text)) if path.suffix == ".json" else text.splitlines()
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise UserError(f"--corpus {source} cannot be read: {reason(e)[:200]}; expected `{TOYBOX}`, or a file with one prompt a line") from e
    except ValueError as e:
        raise UserError(f"--corpus {source}: {e}") from e
    found = tuple(dict.fromkeys(words for p in prompts if (words := " ".join(p.split()))))
    if not found:
        raise UserError(f"--corpus {source} holds no prompts; expected one a line")
    if long := [p for p in found if len(p) > LONGEST]:
        raise UserError(f"--corpus {source} holds a prompt of {len(long[0])} characters, {long[0][:40]!r} ...; expected at most {LONGEST}")
    return found


def _first(count: int, source: str) -> list[Caption]:
    """Return so many captions of the toybox; UserError where it has fewer."""
    every = split.long_corpus()
    if not 1 <= count <= len(every):
        raise UserError(f"--corpus {source}: the toybox has 1 to {len(every)} captions that are neither held out nor new")
    return every[:count]


def _listed(data: object) -> list[str]:
    """Return the prompts of parsed JSON; ValueError where it is of another shape."""
    prompts = data.get("train") if isinstance(data, dict) else data
    if not isinstance(prompts, list) or not all(isinstance(p, str) for p in prompts):
        raise ValueError('expected a JSON list of prompts, or a mapping whose "train" is one')
    return prompts


class VisitOrder:
    """Order of visits: one permutation of the corpus after the other, each drawn from the seed and its number, so that every prompt has
    been seen as often as any other, or once less. The place in it is the step alone, which is all that a checkpoint needs.

    world and rank: of processes that share the training; each takes every world-th visit.
    """

    def __init__(self, count: int, seed: int, world: int = 1, rank: int = 0) -> None:
        self.count, self.seed, self.world, self.rank = count, seed, world, rank
        self._number, self._order = -1, torch.empty(0, dtype=torch.long)

    def visit(self, k: int) -> int:
        """Return the prompt of the k-th visit of all."""
        number, place = divmod(k, self.count)
        if number != self._number:
            rng = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
            self._number, self._order = number, torch.randperm(self.count, generator=rng)
        return int(self._order[place])

    def at(self, step: int, prompts: int) -> list[int]:
        """Return the prompts of one step, of which there are no more than the corpus has."""
        return [self.visit((step * prompts + k) * self.world + self.rank) for k in range(prompts)]


def sample(prompts: Sequence[str], count: int) -> list[str]:
    """Return so many prompts, spread over a corpus."""
    chosen = [round(k * (len(prompts) - 1) / max(count - 1, 1)) for k in range(min(count, len(prompts)))]
    return [prompts[k] for k in dict.fromkeys(chosen)]
