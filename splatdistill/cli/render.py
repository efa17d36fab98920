"""splatdistill render: films and pictures of finished splats."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.export import paths
from splatdistill.export.film import Kind, Look, shots
from splatdistill.export.paths import Place
from splatdistill.export.saved_splats import SavedSplats, chosen
from splatdistill.io.extent import centred, fitting
from splatdistill.io.images import check_png, write_png
from splatdistill.io.video import check_mp4, write_mp4
from splatdistill.render import rasterizer
from splatdistill.settings.command_line import command_line
from splatdistill.settings.resolve import device_of
from splatdistill.train.progress import Work as Progress

COLOURS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5), "transparent": None}
LARGEST = 8192  # pixels per side


@dataclass(frozen=True)
class Render:
    """Render films and pictures of finished splats: a camera path as .mp4 or as numbered .png, or single views.

      splatdistill render runs/a-red-mushroom                                once around, as .mp4
      splatdistill render runs/a-red-mushroom --size 1920 1080 --show rgb depth normal
      splatdistill render runs/a-red-mushroom --azimuth 0 90 --background transparent --out views.png
      splatdistill render splats.ply --path keys.json --frames 240 --out flight.mp4

    keys.json holds key frames, between which the camera moves smoothly:
      [{"azimuth": 0, "elevation": 10, "distance": 3}, {"azimuth": 180, "elevation": 40, "distance": 2}]
    """

    what: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")] = None
    """A run, a checkpoint, or a file of splats (.ply, .splat, .spz, .sog)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A .mp4, or a .png; with several pictures name-001.png and so on. By default render.mp4 (.png for --azimuth)
    beside the splats."""
    show: tuple[Kind, ...] = ("rgb",)
    """rgb, depth (near is white, far is black), normal (x right, y up, z towards the camera), alpha. Each but the first
    goes into a file of its own, with its name in it."""
    path: Annotated[str, tyro.conf.arg(metavar="turntable|spiral|FILE.json")] = "turntable"
    """Path of the camera."""
    azimuth: tuple[float, ...] = ()
    """Azimuths of single views instead of a film, in degrees: 0 sees the front, 90 the object's left side."""
    elevation: float = 15.0
    """Elevation, degrees above the horizon."""
    distance: float | None = None
    """Distance from the middle of the object, world units; by default far enough to see all of it."""
    fov: float = 42.0
    """Vertical field of view, degrees."""
    frames: int = 96
    """Number of frames of a film."""
    fps: float = 24.0
    """Frames a second of a .mp4."""
    size: tuple[int, ...] = (512,)
    """Width and height in pixels; one number is both."""
    background: str = "white"
    """white, black, grey, transparent (.png only), or a colour such as #1e90ff."""
    depth_range: tuple[float, float] | None = None
    """Depths that are white and black, distances from the camera's plane; by default the object's."""
    particle: int = 1
    """Number of the result, for a run with several particles."""
    device: str = "auto"
    """Device to compute on: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    asked = command_line(Render, argv, "splatdistill render")
    if asked.what is None:
        raise UserError("what to render? Give a run or a file of splats: splatdistill render runs/a-red-mushroom")
    colour(asked)
    saved = chosen(asked.what, asked.particle)
    suffix = ".png" if asked.azimuth else ".mp4"
    folder = saved.path if saved.path.is_dir() else saved.path.parent
    out = asked.out.expanduser() if asked.out else folder / f"render{suffix}"
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for line in saved.notes:
        console.print(line)
    film(asked, saved, out, console)
    return 0


def film(asked: Render, saved: SavedSplats, out: Path, console: Console) -> None:
    """Render all frames and write the files, each read back; tell what became of them."""
    width, height = size_of(asked)
    background = colour(asked)
    moving = out.suffix.lower() == ".mp4"
    if not moving and out.suffix.lower() != ".png":
        raise UserError(f"--out {out} ends in {out.suffix or 'nothing'}; expected .mp4 or .png")
    if moving and background is None:
        raise UserError(
            "an .mp4 cannot be transparent; use --background white, or --out FILE.png for numbered pictures"
        )
    g, radius = centred(saved.gaussians)
    distance = asked.distance or fitting(radius, min(max(asked.fov, 1), 179))
    places = way(asked, distance)
    near, far = asked.depth_range or (max(distance - radius, 0.0), distance + radius)
    if not -math.inf < near < far < math.inf:
        raise UserError(f"--depth-range is the near and the far depth; got {near} and {far}")
    if not 0 < asked.fps <= 1000:
        raise UserError(f"--fps is frames a second, up to 1000; got {asked.fps}")
    looks = [Look(kind, background, near, far) for kind in dict.fromkeys(asked.show)]
    files = [out if k == 0 else out.with_stem(f"{out.stem}-{look.kind}") for k, look in enumerate(looks)]
    if any(saved.file.resolve() == f.resolve() for f in files):
        raise UserError(f"--out {out} is what would be rendered; choose another name")
    device = device_of(asked.device)
    render = rasterizer(device)
    for look, file in zip(looks, files):
        with Progress(console, f"rendering {look.kind}", len(places)) as progress:
            images = (i[0] for i in shots(g.to(device), places, width, height, [look], render))
            if moving:
                count = write_mp4(file, counted(images, progress), asked.fps, note(saved))
                check_mp4(file, count, width, height)
            else:
                numbered = [file.with_stem(f"{file.stem}-{k + 1:03}") for k in range(len(places))]
                for target, image in zip([file] if len(places) == 1 else numbered, counted(images, progress)):
                    write_png(target, image, note(saved))
                    check_png(target, width, height, 3 if background is not None else 4)
        several = "" if moving or len(places) == 1 else f" to {numbered[-1].name}"
        shown = file if moving or len(places) == 1 else numbered[0]
        pictures = "1 picture" if len(places) == 1 else f"{len(places)} pictures"
        console.print(f"wrote {shown}{several}: {look.kind}, {pictures} of {width}x{height}")
        if look.kind == "depth":
            console.print(
                f"  depth = {far:.6g} - {far - near:.6g} x brightness / 255, world units along the camera's axis"
            )


def counted(images: Iterator[Tensor], progress: Progress) -> Iterator[Tensor]:
    """Yield the images, while a person sees how far it is."""
    for k, image in enumerate(images):
        yield image
        progress.done(k + 1)


def way(asked: Render, distance: float) -> list[Place]:
    """Return where the camera stands in every frame."""
    if not 1 <= asked.frames <= paths.MOST:
        raise UserError(f"--frames is a number of pictures, 1 to {paths.MOST}; got {asked.frames}")
    rest = (asked.elevation, distance, asked.fov)
    if asked.azimuth:
        places = [Place(a, *rest) for a in asked.azimuth]
    elif asked.path in ("turntable", "spiral"):
        places = (paths.turntable if asked.path == "turntable" else paths.spiral)(asked.frames, *rest)
    elif asked.path.lower().endswith(".json"):
        places = paths.key_frames(Path(asked.path).expanduser(), asked.frames, Place(0.0, *rest))
    else:
        raise UserError(f"--path is turntable, spiral or a .json file of key frames; got {asked.path!r}")
    paths.check(places)
    return places


def size_of(asked: Render) -> tuple[int, int]:
    """Return width and height; UserError if they make no sense."""
    if len(asked.size) not in (1, 2) or not all(1 <= s <= LARGEST for s in asked.size):
        raise UserError(
            f"--size is a width and a height of 1 to {LARGEST} pixels, or one number for both; got {asked.size}"
        )
    return asked.size[0], asked.size[-1]


def colour(asked: Render) -> tuple[float, float, float] | None:
    """Return the background; None is transparent."""
    if asked.background in COLOURS:
        return COLOURS[asked.background]
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", asked.background):
        raise UserError(f"--background is {', '.join(COLOURS)} or a colour such as #1e90ff; got {asked.background!r}")
    r, g, b = (int(asked.background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b


def note(saved: SavedSplats) -> str:
    """Describe the source of the splats, for the file's metadata."""
    return "\n".join(saved.comments)
