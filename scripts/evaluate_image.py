"""Measure splats from a picture of an object that the prior has never seen, from the sides that the picture does not show.

    python scripts/evaluate_image.py --pack world.pack
    python scripts/evaluate_image.py --prompts "a red duck" "a purple chair" -- --steps 80

With --pack (scripts/pack_world.py writes one) the objects are twelve instances that no training picture showed; without, objects that
the package brings in colours that it has not been shown. Each is drawn once, from three quarters in front and 15 degrees above, as a PNG with
opacity; `train --image.path` makes splats of it beside the words, and of the words alone. Both, and the nearest object that training
showed as seen from the picture's camera, are compared with the truth from cameras 60 degrees and more away: overlap of silhouettes
(IoU), PSNR on white. Options of `train` follow after --.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.evaluate.truth import psnr, silhouette_iou
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.settings.commands import parse_train
from splatdistill.settings.resolve import Weights, resolved
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, Truth, is_held_out
from splatdistill.toybox.pack import PackedWorld, RealObject
from splatdistill.toybox.real import RealCaption, shown, truth_pack
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import draw, understood
from splatdistill.toybox.triangles import rasterise
from splatdistill.train.begin import begin

AZIMUTH, ELEVATION, DISTANCE, FOV = 30.0, 15.0, 2.8, 42.0
FAR = tuple(AZIMUTH + turn for turn in range(60, 301, 30))  # azimuths of the cameras that judge
UNSEEN = (  # one instance of a kind, each with other instances that were shown
    "BlendSwap-CC-0-139", "BlendSwap-CC-0-143", "BlendSwap-CC-BY-127", "BlendSwap-CC-0-45", "BlendSwap-CC-0-140", "KatorLegaz-17",
    "BlendSwap-CC-0-27", "BlendSwap-CC-BY-31", "Scopia-65", "Scopia-250", "BlendSwap-CC-BY-122", "BlendSwap-CC-BY-132",
)  # fmt: skip
PROMPTS = (
    "a red mushroom", "a purple chair", "a green mug", "a red duck", "an orange car", "a blue robot",
    "a red coffee cup", "an orange armchair", "a red briefcase", "a blue fire extinguisher", "a pink toilet", "a red umbrella",
)  # fmt: skip
BARS = {"IoU": 0.80, "PSNR": 18.0}


@dataclass(frozen=True)
class Unseen:
    """Object to be made: its prompt, and its pictures by camera."""

    prompt: str
    instance: RealObject | None = None  # of a pack

    def drawn(self, cameras: Cameras, background: float = 1.0) -> Truth:
        """Draw it from every camera, over one gray."""
        behind = torch.full((len(cameras), 3), background)
        if self.instance is None:
            return draw(understood(self.prompt), cameras, behind, threads=1)
        return rasterise([self.instance.mesh()], cameras, behind, 3, 1)


def objects(pack: Path | None, prompts: list[str]) -> list[Unseen]:
    """Return what is to be made."""
    if pack is None:
        return [Unseen(prompt) for prompt in prompts or PROMPTS]
    known = {o.name: o for o in PackedWorld.load(pack).objects}
    all_ = [Unseen(str(RealCaption(known[name].kind)), known[name]) for name in UNSEEN]
    return [u for u in all_ if not prompts or u.prompt in prompts]


def training_pictures(pack: Path | None, cameras: Cameras, size: int) -> Iterator[tuple[str, Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]]:
    """Yield objects that training showed, by their words, as the cameras see them on white."""
    small = cameras.resized(size, size)
    white = torch.ones(len(small), 3)
    for kind, colour in product((*NAMED, *PRIMITIVES), COLOURS):
        if not is_held_out(caption := Caption(kind, colour)):
            truth = draw(caption, small, white, samples=2, threads=1)
            yield str(caption), truth.rgb, truth.alpha
    for thing in shown(truth_pack() if pack is None else PackedWorld.load(pack)):
        tints = [c for c in COLOURS if c not in SPLIT.colours_not_seen.get(thing.kind, ())] if thing.tinted else []
        for tint in (None, *tints):
            truth = rasterise([thing.mesh(tint)], small, white, 2, 1)
            yield f"{tint or 'its own'} {thing.name}", truth.rgb, truth.alpha


def from_far(rgb: Tensor, alpha: Tensor, truth: Truth) -> tuple[float, float]:
    """Return IoU and PSNR against the truth, means over the cameras that judge."""
    return float(silhouette_iou(alpha, truth.alpha).mean()), float(psnr(rgb, truth.rgb).mean())


def made(options: Iterable[str]) -> tuple[Tensor, Tensor]:
    """Return colours on white and opacity of what a run makes, from the judging cameras."""
    weights = Weights()
    parsed = parse_train(list(options), weights.family)
    found = weights.find(parsed.config.prior)
    session = begin(resolved(parsed.config, found), found)
    for _ in range(session.config.steps):
        session.step()
    cameras = orbit(FAR, ELEVATION, DISTANCE, FOV, session.prior.image_size)
    with torch.no_grad():
        out = session.rasterizer(session.gaussians(), cameras.to(session.prior.device), torch.ones(len(cameras), 3, device=session.prior.device))
    return out.rgb.clamp(0, 1).cpu(), out.alpha.cpu()


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, help="packed world, of which twelve instances were never shown")
    parser.add_argument("--prompts", nargs="+", default=[], help="only these")
    parser.add_argument("--ways", nargs="+", choices=("both", "picture", "text"), default=("both", "text"), help="picture and words, the picture alone, words alone")
    parser.add_argument("--no-nearest", action="store_true", help="leave the nearest training object out")
    parser.add_argument("--sheet", type=Path, help="write a sheet: the picture, the truth, and what was made, from five sides")
    argv = sys.argv[1:] if argv is None else argv
    own = argv[: argv.index("--")] if "--" in argv else argv
    args, options = parser.parse_args(own), argv[len(own) + 1 :]
    torch.set_num_threads(1)
    taken, judged = orbit([AZIMUTH], ELEVATION, DISTANCE, FOV, 512), orbit(FAR, ELEVATION, DISTANCE, FOV, 128)
    figures: dict[str, list[tuple[float, float]]] = {}
    rows: list[Tensor] = []
    unseen = objects(args.pack, args.prompts)
    pictures = [u.drawn(taken, 0.0) for u in unseen]
    truths = [u.drawn(judged) for u in unseen]
    if not args.no_nearest:
        figures["nearest training object"] = nearest(args.pack, unseen, pictures, truths, judged)
    for u, picture, truth in zip(unseen, pictures, truths):
        rgba = torch.cat([picture.rgb / picture.alpha.clamp(min=1e-3), picture.alpha], 1)[0].clamp(0, 1)
        rows += [torch.nn.functional.interpolate(picture.rgb + 1 - picture.alpha, size=(128, 128), mode="area"), truth.rgb[::2]]
        with tempfile.TemporaryDirectory() as folder:
            write_png(Path(folder) / "picture.png", rgba)
            image = ["--image.path", f"{folder}/picture.png", "--image.azimuth", f"{AZIMUTH}", "--image.elevation", f"{ELEVATION}", "--image.fill", "0"]
            words = ["--prompt", u.prompt]
            for way, said in {"both": [*words, *image], "picture": image, "text": words}.items():
                if way in args.ways:
                    rgb, alpha = made([*said, *options])
                    figures.setdefault(way, []).append(found := from_far(rgb, alpha, truth))
                    rows.append(rgb[::2])
                    print(f"{u.prompt}: {way}, IoU {found[0]:.2f}, PSNR {found[1]:.1f}", flush=True)
    for way, found in figures.items():
        iou, noise = (sum(f[k] for f in found) / len(found) for k in range(2))
        print(f"| {way} | {iou:.2f} | {noise:.1f} |")
    print(f"bars: IoU {BARS['IoU']:.2f}, PSNR {BARS['PSNR']:.1f}; {len(unseen)} objects, {len(FAR)} cameras 60 degrees and more from the picture's")
    if args.sheet:
        write_png(args.sheet, contact_sheet(torch.cat(rows), columns=1 + 5 * (1 + len(args.ways))))
    return 0


def nearest(pack: Path | None, unseen: list[Unseen], pictures: list[Truth], truths: list[Truth], judged: Cameras, size: int = 64) -> list[tuple[float, float]]:
    """Return IoU and PSNR of the training object that is nearest to each picture by mean squared error, seen from the judging cameras."""
    cameras = Cameras.cat([orbit([AZIMUTH], ELEVATION, DISTANCE, FOV, 128), judged])
    wanted = torch.nn.functional.interpolate(torch.cat([p.rgb + 1 - p.alpha for p in pictures]), size=(size, size), mode="area")
    best: list[tuple[float, tuple[float, float], str]] = [(float("inf"), (0.0, 0.0), "")] * len(unseen)
    small = [Truth(*(torch.nn.functional.interpolate(v, size=(size, size), mode="area") for v in (t.rgb, t.alpha, t.depth, t.normal))) for t in truths]
    for name, rgb, alpha in training_pictures(pack, cameras, size):
        errors = (rgb[:1] - wanted).square().mean((1, 2, 3)).tolist()
        for k, error in enumerate(errors):
            if error < best[k][0]:
                best[k] = (error, from_far(rgb[1:], alpha[1:], small[k]), name)
    for u, (_, found, name) in zip(unseen, best):
        print(f"{u.prompt}: nearest training object {name}, IoU {found[0]:.2f}, PSNR {found[1]:.1f}", flush=True)
    return [found for _, found, _ in best]


if __name__ == "__main__":
    sys.exit(main())
