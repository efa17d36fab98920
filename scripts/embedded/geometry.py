"""Train the embedded estimators of geometry: a picture to its inverse depth, normals and foreground.

Without --pack that is `tiny-geometry`: toys, 64 pixels a side. With it `world-geometry`: toys and real objects, 128 pixels, begun with
the weights of tiny-geometry.

    python scripts/train_geometry.py data   --work DIR --pictures 12000   # render pictures and their truth once
    python scripts/train_geometry.py train  --work DIR --minutes 20       # resumes where it stopped
    python scripts/train_geometry.py measure --work DIR                   # errors on held-out pairs, per noise level
    python scripts/train_geometry.py export --work DIR                    # float16 safetensors into DIR/export
    python scripts/train_geometry.py data   --work DIR --pack world.pack  # and so on, each with --pack

Stein score distillation asks the network about pictures decoded from noisy latents, so that is what most of its
training pictures are: decode(alpha_t encode(rgb) + sigma_t eps), t ~ U[0, 1), with the autoencoder of the embedded prior.
What is learned at high noise is the conditional mean.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedded.multiview import CODEC
from embedded.training import Pace, Training, averaged, read_state
from splatdistill.cameras import Cameras
from splatdistill.estimators.geometry import Geometry, angle, correlation, geometry_of, overlap
from splatdistill.estimators.network import GeometryNet
from splatdistill.estimators.weights import FOLDERS, TINY_GEOMETRY, WORLD_GEOMETRY
from splatdistill.priors.patches import PatchAutoencoder
from splatdistill.priors.schedule import TableSchedule
from splatdistill.toybox import COLOURS, is_held_out, render, sample_caption
from splatdistill.toybox.drawing import Truth
from splatdistill.toybox.pack import PackedWorld
from splatdistill.toybox.real import shown
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.tracer import REACH
from splatdistill.toybox.triangles import CornerMesh, rasterise
from splatdistill.toybox.world import SIZE, VIEWS, backgrounds

NEAR, FAR = VIEWS.distance[0] - REACH, VIEWS.distance[1] + REACH  # nothing is nearer or farther
LEVELS = (0.0, 0.2, 0.5, 0.8)  # of noise, where errors are measured; 0 is the clean picture


@dataclass(frozen=True)
class Settings:
    """Settings of a training run; recorded beside its weights."""

    steps: int = 4000
    batch: int = 32
    lr: float = 2e-3
    seed: int = 0
    pictures: int = 12_000
    clean: float = 0.25  # share of pictures without noise
    ema: float = 0.998
    weights: tuple[float, float, float] = (4.0, 1.0, 0.5)  # of the errors of inverse depth, normals, foreground
    size: int = SIZE
    start: str = ""


# -- data ---------------------------------------------------------------------------------------------


def truths(count: int, seed: int, held_out: bool = False, threads: int = 1, size: int = SIZE, world: PackedWorld | None = None) -> np.ndarray:
    """Return (count, size, size, 8) bytes: premultiplied rgb, alpha, premultiplied inverse depth, normals in camera axes. world: real
    objects, which then are three in five.
    """
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    captions, toys = [], count if world is None else 2 * count // 5
    while len(captions) < toys:
        caption = sample_caption(rng)
        if is_held_out(caption) == held_out:
            captions.append(caption)
    cameras = VIEWS.sample(count, size, size, torch_rng)
    cameras = cameras[torch.randperm(count, generator=torch_rng)]
    of_toys = maps(render([c.parts() for c in captions], cameras[:toys], torch.zeros(toys, 3), samples=2, threads=threads), cameras[:toys])
    if world is None:
        return of_toys
    meshes = real_meshes(world, count - toys, held_out, rng)
    return np.concatenate([of_toys, maps(rasterise(meshes, cameras[toys:], torch.zeros(count - toys, 3), samples=2, threads=threads), cameras[toys:])])


def real_meshes(world: PackedWorld, count: int, held_out: bool, rng: np.random.Generator) -> list[CornerMesh]:
    """Return random real objects: shown ones in shown colours, or in colours that no training picture shows."""
    things = [o for o in shown(world) if o.tinted or not held_out]
    made = []
    while len(made) < count:
        thing = things[rng.integers(len(things))]
        colours = [c for c in COLOURS if (c in SPLIT.colours_not_seen.get(thing.kind, ())) == held_out] if thing.tinted else [None]
        made += [thing.mesh(colours[rng.integers(len(colours))])] if colours else []
    return made


def maps(truth: Truth, cameras: Cameras) -> np.ndarray:
    """Return the bytes of pictures and their truth."""
    inverse = (1 / truth.depth.clamp(min=NEAR) - 1 / FAR) / (1 / NEAR - 1 / FAR) * truth.alpha
    rotation = cameras.world_to_camera[:, :3, :3].float()
    normal = torch.einsum("bij,bjhw->bihw", rotation, truth.normal) / 2 + 0.5
    told = torch.cat([truth.rgb, truth.alpha, inverse, normal], 1).permute(0, 2, 3, 1)
    return (told * 255 + 0.5).clamp(0, 255).byte().numpy()


def render_data(work: Path, count: int, threads: int, size: int, world: PackedWorld | None, chunk: int = 500) -> None:
    """Write `count` pictures with their truth, none of a held-out pair."""
    work.mkdir(parents=True, exist_ok=True)
    told = np.lib.format.open_memmap(work / "truth.npy", "w+", np.uint8, (count, size, size, 8))
    for start in range(0, count, chunk):
        told[start : start + chunk] = truths(min(chunk, count - start), 7000 + start // chunk, False, threads, size, world)
        print(f"{min(start + chunk, count)} of {count} pictures", flush=True)


@dataclass(frozen=True)
class Batch:
    """Pictures with their true maps."""

    rgb: Tensor  # (b,3,h,w)
    alpha: Tensor  # (b,1,h,w)
    inverse: Tensor  # (b,1,h,w), times alpha
    normal: Tensor  # (b,3,h,w), times alpha, camera axes

    @classmethod
    def of(cls, told: Tensor, rng: torch.Generator) -> "Batch":
        """Make pictures of bytes, over random backgrounds."""
        m = told.permute(0, 3, 1, 2).float() / 255
        alpha = m[:, 3:4]
        rgb = m[:, :3] + (1 - alpha) * backgrounds(len(m), rng)[:, :, None, None]
        normal = F.normalize(2 * m[:, 5:] - 1, dim=1) * alpha
        return cls(rgb, alpha, m[:, 4:5], normal)

    def flipped(self, which: Tensor) -> "Batch":
        """Return the batch with some pictures mirrored left to right: camera x changes sign."""
        mirror = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]

        def some(v: Tensor, other: Tensor) -> Tensor:
            return torch.where(which[:, None, None, None], other, v)

        rgb, alpha, inverse = (some(v, v.flip(-1)) for v in (self.rgb, self.alpha, self.inverse))
        return Batch(rgb, alpha, inverse, some(self.normal, self.normal.flip(-1) * mirror))


def noisy(rgb: Tensor, t: Tensor, rng: torch.Generator) -> Tensor:
    """Return decode(x_t) of pictures at t, with the autoencoder of the embedded prior of their size; t = 0 leaves a picture as it is."""
    vae = PatchAutoencoder() if rgb.shape[-1] == SIZE else CODEC
    x = vae.encode(2 * rgb - 1)
    alpha, sigma = TableSchedule.scaled_linear().broadcast(t, 3, x.dtype)
    eps = torch.randn(x.shape, generator=rng)
    return torch.where((t > 0)[:, None, None, None], (vae.decode(alpha * x + sigma * eps) + 1) / 2, rgb)


def loss_of(out: Tensor, b: Batch, s: Settings) -> Tensor:
    """Return the squared errors of the premultiplied maps, and the cross-entropy of the foreground."""
    depth, normal, foreground = s.weights
    return (
        depth * F.mse_loss(out[:, :1], b.inverse)
        + normal * F.mse_loss(out[:, 1:4], b.normal)
        + foreground * F.binary_cross_entropy_with_logits(out[:, 4:], b.alpha)
    )


# -- training -----------------------------------------------------------------------------------------


def train(work: Path, s: Settings, minutes: float) -> None:
    """Train the network, see Training; resumes from its own checkpoint."""
    torch.manual_seed(s.seed)
    network, rng = GeometryNet(size=s.size), torch.Generator().manual_seed(s.seed)
    if s.start:
        network.load_state_dict(GeometryNet.from_pretrained(FOLDERS[s.start]).state_dict())
    network.to(memory_format=torch.channels_last)
    truth = torch.from_numpy(np.load(work / "truth.npy", mmap_mode="r+"))
    s = replace(s, pictures=len(truth))
    print(f"{sum(p.numel() for p in network.parameters())} parameters, {len(truth)} pictures", flush=True)

    def loss(network: nn.Module) -> Tensor:
        index = torch.randint(0, len(truth), (s.batch,), generator=rng)
        b = Batch.of(truth[index], rng).flipped(torch.rand(s.batch, generator=rng) < 0.5)
        u = torch.rand(2, s.batch, generator=rng)
        rgb = noisy(b.rgb, torch.where(u[0] < s.clean, 0.0, u[1]), rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu.get_capabilities().get("avx512_bf16", False)):
            out = network(rgb.contiguous(memory_format=torch.channels_last))
        return loss_of(out.float(), b, s)

    pace = Pace(s.steps, s.lr, s.ema, warm=100, told=50, saved=120)
    Training(work, network, pace, rng, asdict(s)).run(loss, minutes)


# -- what came out ------------------------------------------------------------------------------------


def trained(work: Path) -> tuple[GeometryNet, dict]:
    """Return the network with its averaged weights, and the record of its training."""
    tensors, meta = read_state(work)
    network = GeometryNet(size=meta["settings"].get("size", SIZE))
    network.load_state_dict(averaged(tensors))
    return network, meta


@torch.no_grad()
def errors(network: GeometryNet, count: int, world: PackedWorld | None, seed: int = 99) -> dict[str, dict[str, float]]:
    """Return on held-out pairs, per noise level, the correlation of inverse depth and the angle of normals over the true foreground,
    and intersection over union of the foreground.
    """
    told, rng = torch.from_numpy(truths(count, seed, True, 1, network.size, world)), torch.Generator().manual_seed(seed)
    b = Batch.of(told, rng)
    found = {}
    for t in LEVELS:
        got: Geometry = geometry_of(torch.cat([network(v) for v in noisy(b.rgb, torch.full((count,), t), rng).split(64)]))
        assert got.inverse_depth is not None and got.normal is not None and got.foreground is not None
        inside = (b.alpha > 0.5).float()
        found[f"t={t}"] = {
            "depth correlation": float(correlation(got.inverse_depth, b.inverse / b.alpha.clamp(min=1e-3), inside).mean()),
            "normal angle": float(angle(got.normal, b.normal, inside).mean()),
            "foreground overlap": float(overlap(got.foreground, b.alpha).mean()),
        }
    return {t: {k: round(v, 4) for k, v in row.items()} for t, row in found.items()}


def export(work: Path, target: Path, count: int, world: PackedWorld | None) -> None:
    """Write the averaged weights in float16, with their measured errors."""
    network, meta = trained(work)
    network.half().save_pretrained(target)
    log = meta["log"]
    record = {
        "name": TINY_GEOMETRY if network.size == SIZE else WORLD_GEOMETRY,
        "step": meta["step"],
        "settings": meta["settings"],
        "losses": log[::10] + log[-1:],
        "errors on held-out pairs": errors(GeometryNet.from_pretrained(target), count, world),
    }
    (target / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["errors on held-out pairs"], indent=1), f"\nwrote {target}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "train", "measure", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and checkpoints")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop (resumably) after this long")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="length of the learning-rate schedule")
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--pictures", type=int, default=Settings.pictures)
    parser.add_argument("--measured", type=int, default=256, help="held-out pictures that errors are measured on")
    parser.add_argument("--pack", type=Path, help="what scripts/pack_world.py wrote: real objects too, for world-geometry")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, help="folder of the export; by default export/ in the work folder")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    world = PackedWorld.load(args.pack) if args.pack else None
    settings = Settings(args.steps, args.batch, pictures=args.pictures)
    if world is not None:
        settings = replace(settings, size=2 * SIZE, start=TINY_GEOMETRY)
    if args.what == "data":
        render_data(args.work, args.pictures, args.threads, settings.size, world)
    elif args.what == "train":
        train(args.work, settings, args.minutes)
    elif args.what == "measure":
        print(json.dumps(errors(trained(args.work)[0], args.measured, world), indent=1))
    else:
        export(args.work, args.target or args.work / "export", args.measured, world)
