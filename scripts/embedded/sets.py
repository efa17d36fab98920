"""Sets of pictures for scripts/train_models.py, rendered on the machine's cores while it trains.

A set is five pictures of one object, or of one room from inside: either four around it at one height and a fifth from anywhere,
or five from anywhere. Worker processes render them into a bounded queue; a pool keeps the newest thousands, each is drawn several
times over fresh backgrounds.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedded.contrast import COLOUR_FIELDS, form, leave_out, sentence
from embedded.multiview import Batch
from splatdistill.cameras import Cameras, orbit, with_view
from splatdistill.priors.multiview import NUMBERS, camera_numbers
from splatdistill.toybox import Caption, is_held_out, render, sample_caption
from splatdistill.toybox.pack import PackedWorld
from splatdistill.toybox.real import RealCaption, sample_object, shown_kinds
from splatdistill.toybox.rooms import ROOM_VIEWS, room_mesh, sample_room
from splatdistill.toybox.triangles import rasterise
from splatdistill.toybox.world import DIRECTED, VIEWS, WORDS, backgrounds

FRAMES = 5  # pictures of a set


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of sets, and of their captions."""

    procedural: float = 0.4  # share of sets that show the procedural toybox; the rest are real objects
    asked: float = 0.35  # share of real objects that are those that acceptance compares with, in colours that may be shown
    rooms: float = 0.05  # share of sets that show a room from inside
    scattered: float = 0.35  # share of sets whose five views have nothing to do with each other
    single: float = 0.35  # share of steps on single pictures; recipes ask for sets
    prompted: float = 0.15  # share of steps on four views and a fifth clean picture; the rest are four views
    fronts: float = 2.0  # how often a single picture's front or back is drawn, to other views' 1: what tells them apart is small
    no_caption: float = 0.1
    fewer_words: float = 0.15  # share of captions that lack the object or its colours, so that words are learnt apart from those they came with
    no_view_words: tuple[float, float] = (0.1, 0.2)  # of single pictures, of sets: recipes say them, and they are learnt before cameras are
    directions: float = 0.6  # share of view words with left and right
    no_camera: tuple[float, float] = (0.75, 0.1)  # of single pictures, of sets: guidance amplifies cameras by what it moves away from


@dataclass(frozen=True)
class Set:
    """Five pictures of one object, foreground premultiplied, with its caption and cameras."""

    rgba: np.ndarray  # (5, 4, size, size) uint8
    camera: np.ndarray  # (5, 16) float32
    caption: str
    fewer: str  # the caption without its object, or without its colours
    words: list[str]
    phrases: list[str]
    ring: bool  # the first four stand around it at one height


def fewer_words(caption: Caption | RealCaption, rng: np.random.Generator) -> str:
    """Return the caption without its object, or without its colours; whole where a real object has its own."""
    nameless = rng.random() < 0.5
    if isinstance(caption, Caption):
        return sentence(leave_out(caption, frozenset({"kind"}) if nameless else COLOUR_FIELDS), form(caption))
    if caption.colour is None:
        return str(caption)
    return f"a {caption.colour}" if nameless else str(RealCaption(caption.kind))


class Maker:
    """Renderer of sets without held-out objects."""

    def __init__(self, pack: Path | None, size: int, seed: int, mix: Mix = Mix()):
        self.rng, self.torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.size, self.mix = size, mix
        self.kinds, named = shown_kinds(PackedWorld.load(pack)) if pack is not None else ({}, {})
        self.asked = named or self.kinds  # one of seven couches: a name should mean one shape most of the time

    def __call__(self) -> Set:
        """Return one set."""
        if self.kinds and self.rng.random() < self.mix.rooms:
            return self._room()
        ring = self.rng.random() >= self.mix.scattered
        cameras = self._ring() if ring else VIEWS.sample(FRAMES, self.size, self.size, self.torch_rng)
        black = torch.zeros(FRAMES, 3)
        if not self.kinds or self.rng.random() < self.mix.procedural:
            caption = sample_caption(self.rng)
            while is_held_out(caption):
                caption = sample_caption(self.rng)
            truth = render([caption.parts()], cameras, black, samples=2, threads=1)
        else:
            caption, mesh = sample_object(self.asked if self.rng.random() < self.mix.asked else self.kinds, self.rng)
            truth = rasterise([mesh], cameras, black, samples=2, threads=1)
        rgba = (torch.cat([truth.rgb, truth.alpha], 1).clamp(0, 1) * 255 + 0.5).byte().numpy()
        return Set(rgba, camera_numbers(cameras).numpy(), str(caption), fewer_words(caption, self.rng), list(WORDS.words(cameras)), DIRECTED.phrases(cameras), ring)

    def _room(self) -> Set:
        """Return one room, half of them with an object: four directions at one height, and a fifth; its views have no words."""
        told, thing = sample_object(self.kinds, self.rng) if self.rng.random() < 0.5 else (None, None)
        caption = sample_room(self.rng, told)
        mesh = room_mesh(caption, thing, 360 * self.rng.random())
        one = ROOM_VIEWS.sample(2, self.size, self.size, self.torch_rng)
        azimuth = [*(one.azimuth[0] + 90.0 * torch.arange(4)).tolist(), float(one.azimuth[1])]
        same = [values[:1].expand(4).tolist() + values[1:].tolist() for values in (one.elevation, one.distance, one.vertical_fov)]
        cameras = orbit(azimuth, *same, self.size)
        truth = rasterise([mesh], cameras, torch.zeros(FRAMES, 3), samples=2, threads=1)
        rgba = (torch.cat([truth.rgb, truth.alpha], 1).clamp(0, 1) * 255 + 0.5).byte().numpy()
        return Set(rgba, camera_numbers(cameras).numpy(), str(caption), str(caption), [""] * FRAMES, [""] * FRAMES, True)

    def _ring(self) -> Cameras:
        """Return four cameras around the object at one height, and a fifth at the same or another."""
        u = self.rng.random(6)
        azimuth = 360 * u[0] + 90.0 * np.arange(4)
        elevation, other = 40 * u[1], VIEWS.elevation[0] + (VIEWS.elevation[1] - VIEWS.elevation[0]) * u[2]
        distance = VIEWS.distance[0] + (VIEWS.distance[1] - VIEWS.distance[0]) * u[3]
        fov = VIEWS.fov[0] + (VIEWS.fov[1] - VIEWS.fov[0]) * u[4]
        fifth = elevation if u[5] < 0.5 else other
        turn = 360 * self.rng.random()
        return orbit([*azimuth, turn], [elevation] * 4 + [fifth], [distance] * FRAMES, [fov] * FRAMES, self.size)


def work(pack: Path | None, size: int, seed: int, mix: Mix, out: "queue.Queue[list[Set]]", bunch: int) -> None:
    """Put sets into the queue without end, in a worker process."""
    torch.set_num_threads(1)
    make = Maker(pack, size, seed, mix)
    while True:
        out.put([make() for _ in range(bunch)])


class Pool:
    """Newest sets, on the training device, and random batches of them."""

    def __init__(self, capacity: int, size: int, device: torch.device, mix: Mix = Mix(), seed: int = 0):
        self.rgba = torch.zeros(capacity, FRAMES, 4, size, size, dtype=torch.uint8, device=device)
        self.camera = torch.zeros(capacity, FRAMES, NUMBERS, device=device)
        self.told: list[Set | None] = [None] * capacity
        self.weight = torch.zeros(capacity, FRAMES)  # of each picture, drawn by itself
        self.mix, self.device, self.filled, self.next = mix, device, 0, 0
        self.rng = torch.Generator().manual_seed(seed)
        self.rings: set[int] = set()

    def add(self, sets: list[Set]) -> None:
        """Add sets; the oldest are removed."""
        for s in sets:
            i = self.next
            self.rgba[i].copy_(torch.from_numpy(s.rgba), non_blocking=True)
            self.camera[i].copy_(torch.from_numpy(s.camera))
            self.told[i] = replace(s, rgba=np.empty(0), camera=np.empty(0))
            self.weight[i] = torch.tensor([self.mix.fronts if w in ("front", "back") else 1.0 for w in s.words])
            (self.rings.add if s.ring else self.rings.discard)(i)
            self.next, self.filled = (i + 1) % len(self.told), max(self.filled, i + 1)

    def batch(self, count: int) -> Batch:
        """Return about `count` pictures: single ones, sets of four, or sets of four after a clean fifth."""
        u = torch.rand((), generator=self.rng).item()
        if u < self.mix.single or not self.rings:
            return self.singles(count)
        prompted = u >= 1 - self.mix.prompted
        frames = [4, 0, 1, 2, 3] if prompted else [0, 1, 2, 3]
        return self.sets(max(1, count // len(frames)), frames, prompted)

    def singles(self, count: int) -> Batch:
        """Return single pictures with view words, at times with their camera."""
        drawn = torch.multinomial(self.weight[: self.filled].flatten(), count, True, generator=self.rng)
        where, frame = drawn // FRAMES, drawn % FRAMES
        texts = [self._text(self._told(i), f, self.mix.no_view_words[0]) for i, f in zip(where.tolist(), frame.tolist())]
        known = (torch.rand(count, 1, generator=self.rng) >= self.mix.no_camera[0]).to(self.device)
        index = where.to(self.device), frame.to(self.device)
        return Batch(self._over(self.rgba[index], backgrounds(count, self.rng)), texts, self.camera[index] * known)

    def sets(self, count: int, frames: list[int], prompted: bool) -> Batch:
        """Return sets with cameras, one background for each set."""
        rings = torch.tensor(sorted(self.rings))
        where = rings[torch.randint(len(rings), (count,), generator=self.rng)]
        texts: list[str] = []
        for i in where.tolist():
            told, silent, wordless = self._told(i), self._chance(0.35 if prompted else self.mix.no_caption), self._chance(self.mix.no_view_words[1])
            own = [self._text(told, f, float(wordless), 0.0) for f in frames]
            texts += [""] * len(frames) if silent else own
        if prompted:  # the prompt's own view is not told
            texts[:: len(frames)] = texts[1 :: len(frames)]
        at = where.to(self.device)
        picture = self.rgba[at][:, frames].flatten(0, 1)
        known = (torch.rand(count, 1, 1, generator=self.rng) >= self.mix.no_camera[1]).to(self.device)
        camera = self.camera[at][:, frames] * known
        if prompted:
            camera[:, 0] = 0
        back = backgrounds(count, self.rng).repeat_interleave(len(frames), 0)
        return Batch(self._over(picture, back), texts, camera.flatten(0, 1), len(frames), prompted)

    def _told(self, i: int) -> Set:
        told = self.told[i]
        assert told is not None
        return told

    def _chance(self, share: float) -> bool:
        return torch.rand((), generator=self.rng).item() < share

    def _text(self, told: Set, frame: int, no_view: float, no_caption: float | None = None) -> str:
        if self._chance(self.mix.no_caption if no_caption is None else no_caption):
            return ""
        phrase = told.phrases[frame] if self._chance(self.mix.directions) else told.words[frame]
        return with_view(told.fewer if self._chance(self.mix.fewer_words) else told.caption, None if self._chance(no_view) else phrase or None)

    def _over(self, rgba: Tensor, back: Tensor) -> Tensor:
        """Return pictures in [0, 1] over plain backgrounds."""
        values = rgba.float() / 255
        return values[:, :3] + (1 - values[:, 3:]) * back.to(self.device)[:, :, None, None]


class Supply:
    """Worker processes, and a thread that moves their sets into the pool; without workers the pool is filled in this process."""

    def __init__(self, pool: Pool, pack: Path | None, size: int, workers: int, seed: int, bunch: int = 4):
        self.pool, self.bunch, self.lock = pool, bunch, threading.Lock()
        self.processes: list[BaseProcess] = []
        self.make: Callable[[], Set] | None = Maker(pack, size, seed, pool.mix) if workers == 0 else None
        if workers:
            context = get_context("spawn")
            self.queue: queue.Queue[list[Set]] = context.Queue(maxsize=4 * workers)  # type: ignore[assignment]
            for k in range(workers):
                arguments = (pack, size, seed + 1000 * (k + 1), pool.mix, self.queue, bunch)
                self.processes.append(context.Process(target=work, args=arguments, daemon=True))
                self.processes[-1].start()

    def take(self, bunches: int, wait: bool) -> int:
        """Move up to `bunches` bunches into the pool, those that are ready or, with `wait`, all; return their number."""
        for k in range(bunches):
            if self.make is not None:
                self.pool.add([self.make() for _ in range(self.bunch)])
                continue
            try:
                self.pool.add(self.queue.get(timeout=300) if wait else self.queue.get_nowait())
            except queue.Empty:
                if wait:
                    raise RuntimeError("the workers that render pictures have stopped") from None
                return k
        return bunches

    def close(self) -> None:
        """Stop the workers."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(5)
