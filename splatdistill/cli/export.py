"""splatdistill export: finished splats as files for other programs, each read back and checked before it counts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from rich.console import Console

from splatdistill.cli import refine_texture, render
from splatdistill.errors import UserError
from splatdistill.export import meshes
from splatdistill.export.prepare import TARGETS, For, Pivot, Preparation, description, sides, thinned
from splatdistill.export.read_back import odd
from splatdistill.export.saved_splats import SavedSplats, chosen
from splatdistill.export.write import FORMATS, Asked, export
from splatdistill.gaussians import Gaussians
from splatdistill.io.frames import Up
from splatdistill.io.mesh import Material, Mesh
from splatdistill.render import rasterizer
from splatdistill.settings.command_line import command_line
from splatdistill.train.progress import Work as Progress

Format = Literal["ply", "splat", "spz", "sog", "html", "glb", "obj", "mp4", "png"]
MESHES: tuple[Literal["glb"], Literal["obj"]] = ("glb", "obj")
FILMS: tuple[Literal["mp4"], Literal["png"]] = ("mp4", "png")


@dataclass(frozen=True)
class Export:
    """Write finished splats for another program.

    What to write (--format, or the suffix of --out):

      ply    splats as every viewer and importer reads them: full precision, 248 bytes each
      splat  32 bytes each, one colour from everywhere; for web viewers
      spz    packed, about 15 bytes each; Spark, Niantic's tools (version 3, y up)
      sog    packed as pictures; SuperSplat and PlayCanvas
      html   one page with a viewer in it, which opens from disk and needs no network
      glb    a textured triangle mesh, for everything that knows no splats (extra mesh)
      obj    the same as .obj with .mtl and .png beside it
      mp4    once around it (`splatdistill render` does more)
      png    a picture of it, on transparent background

    For which program (--for): the axes and units of ply and splat, and where the origin is in all of them:

      web, supersplat  y down in the file, as splat viewers expect, which turn it upright; the origin stays
      blender          z up, front to -y, metres; stands on the origin
      unity            y up, front to +z, left-handed, metres; stands on the origin
      unreal           z up, front to +x, left-handed, centimetres (obj too); stands on the origin

    These are right where a splat plug-in takes the numbers as they are. If the object lies on its side or hangs upside
    down there, the plug-in converts by itself from what splat viewers expect: export with --for web --pivot ground.
    Without a plug-in take glb. spz, sog, html, glb and obj prescribe their axes, which importers know.

      splatdistill export runs/a-red-mushroom --format spz
      splatdistill export runs/a-red-mushroom --out mushroom.glb --height 0.3
      splatdistill export runs/a-red-mushroom --format glb --for unity --triangles 5000
      splatdistill export splats.ply --for unity --budget 20000 5000 --out out/mushroom.ply
    """

    path: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")] = None
    """A run, a checkpoint, or a file of splats (.ply, .splat, .spz, .sog, or a folder with a .sog's meta.json)."""
    format: Format | None = None
    """Format to write; by default that of the suffix of --out."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write; by default beside what it comes from."""
    target: Annotated[For, tyro.conf.arg(name="for")] = "web"
    """Program that the file is for: sets the axes and units of .ply and .splat, and the origin; see above."""
    pivot: Pivot | None = None
    """Place of the new origin: keep leaves it, centre is the middle of the object, ground is the middle of where it
    stands. By default keep for the web, ground for blender, unity and unreal."""
    height: float | None = None
    """Height to scale the object to: world units, or metres where the program's unit has a length."""
    scale: float = 1.0
    """Factor on the object's size, after --height."""
    facing: float = 0.0
    """Side that becomes the front: the azimuth, in degrees, from which it is seen now. 180 for viewers that look from
    behind, as SuperSplat's editor does at first."""
    degree: int | None = None
    """Highest degree of spherical harmonics to keep; 0 is one colour from everywhere. By default all."""
    pad: bool = True
    """Fill .ply rows up to degree 3 with zeros, as older importers demand; --no-pad makes small files."""
    min_opacity: float = 0.0
    """Leave out splats less opaque than this."""
    strays: bool = True
    """Keep splats that lie more than 20 radii from the others or are larger than that; --no-strays leaves them out."""
    budget: tuple[int, ...] = ()
    """Most splats to keep, the most important ones; several budgets make several files (levels of detail), from the
    second on with -lod1, -lod2, ... in their names."""
    particle: int = 1
    """Number of the result, for a run with several particles."""
    triangles: int | None = None
    """glb, obj: most triangles; by default 30000, a few MB. 5000 for what is seen from afar, 100000 for close-ups."""
    resolution: int | None = None
    """glb, obj: in place of --triangles, cells of the grid along the longest side, 8 to 512."""
    texture: int | None = None
    """glb, obj: pixels per side of the texture; by default 1024, or more where the triangles need it."""
    refine_texture: Annotated[int, tyro.conf.arg(metavar="K")] = 0
    """glb, obj: steps in which the prior of the run refines the texture, the surface standing still; some 50 do. 0: colours as the splats have them."""
    refine_guidance: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """With --refine-texture: the guidance, such as vsd or "sdi[times.t_max=0.5]"; by default that of the phase picture, which
    denoises views from weak noise."""
    material: Material = "unlit"
    """glb, obj: unlit shows the colours as they are, since the light that they were trained in is in them; lit leaves the
    light to the program."""
    size: int = 512
    """mp4, png: pixels per side."""

    def preparation(self) -> Preparation:
        """Return the changes to the splats that come first."""
        return Preparation(
            pivot=self.pivot or TARGETS[self.target].pivot,
            height=self.height,
            scale=self.scale * self.unit()[0],
            facing=self.facing,
            degree=self.degree,
            min_opacity=self.min_opacity,
            strays=self.strays,
        )

    def unit(self) -> tuple[float, str]:
        """Return how many units of the file are one of ours, and their name."""
        target, kind = TARGETS[self.target], self.kind()
        if kind in ("ply", "splat", "obj"):
            return target.unit, target.length
        return 1.0, "m" if kind == "glb" else "units"

    def lies(self, sides: Sequence[float]) -> str:
        """Describe the size and axes of an object in the file."""
        target, kind = TARGETS[self.target], self.kind()
        up: Up = "gltf" if kind in MESHES or kind in FILMS else FORMATS[kind].up or target.up
        return f"  {description(sides, up, self.unit()[1], self.pivot or target.pivot)}"

    def kind(self) -> Format:
        """Return the format; UserError if nothing says it."""
        if self.format is not None:
            return self.format
        said = self.out.suffix.lower().removeprefix(".") if self.out else ""
        found: list[Format] = [kind for kind in get_args(Format) if kind == said]
        if not found:
            raise UserError(
                f"which format? Give --format, or --out with a suffix, one of {', '.join(get_args(Format))}; "
                "`splatdistill export --help` says what each is for"
            )
        return found[0]


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    asked = command_line(Export, argv, "splatdistill export")
    if asked.path is None:
        raise UserError(
            "what to export? Give a run or a file of splats: splatdistill export runs/a-red-mushroom --format spz"
        )
    preparation = asked.preparation()
    preparation.check()
    if asked.refine_texture < 0:
        raise UserError(f"--refine-texture is a number of steps, 0 or more; got {asked.refine_texture}")
    if asked.refine_guidance and not asked.refine_texture:
        raise UserError("--refine-guidance goes with --refine-texture K, its number of steps, such as 50")
    if asked.refine_texture and asked.kind() not in MESHES:
        raise UserError(f"--refine-texture is for meshes, --format glb or obj; got {asked.kind()}")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    saved = chosen(asked.path, asked.particle)
    out = place(asked, saved)
    for line in saved.notes:
        console.print(line)
    ready = preparation.of(saved.gaussians)
    for line in odd(ready):
        console.print(f"{line}; --no-strays leaves them out")
    if asked.refine_texture:  # from the views of training, which know where the splats were
        session, kept = refine_texture.sessions(asked.path, asked.refine_guidance, console), preparation.kept(saved.gaussians)
        for path, splats in levels(asked, out, kept):
            mesh = refine_texture.textured(mesh_of(asked, splats, console), session, asked.refine_texture, console)
            written(asked, path, refine_texture.moved(mesh, kept, preparation), saved, console)
        return 0
    for path, splats in levels(asked, out, ready):
        one(asked, path, splats, saved, console)
    return 0


def place(asked: Export, saved: SavedSplats) -> Path:
    """Return where the file goes; UserError if that is what it comes from."""
    kind = asked.kind()
    beside = (
        saved.path / saved.file.with_suffix(f".{kind}").name if saved.path.is_dir() else saved.file.with_suffix(f".{kind}")
    )
    if asked.out is None and beside.resolve() == saved.file.resolve():
        beside = beside.with_stem(f"{beside.stem}-export")
    out = beside if asked.out is None else asked.out.expanduser()
    if out.suffix.lower() != f".{kind}":
        raise UserError(f"--out {out} does not end in .{kind}; name it so, or leave --format out")
    if out.resolve() == saved.file.resolve():
        raise UserError(f"--out {out} is what would be exported; choose another name")
    return out


def levels(asked: Export, out: Path, ready: Gaussians) -> Iterator[tuple[Path, Gaussians]]:
    """Yield a file and its splats for each budget."""
    for k, budget in enumerate(asked.budget or (len(ready),)):
        yield out.with_stem(f"{out.stem}-lod{k}") if k else out, thinned(ready, budget)


def one(asked: Export, path: Path, splats: Gaussians, saved: SavedSplats, console: Console) -> None:
    """Write one file and tell what became of it."""
    kind = asked.kind()
    if kind in FILMS:
        still = {"azimuth": (30.0,), "background": "transparent"} if kind == "png" else {}
        render.film(render.Render(size=(asked.size,), **still), replace(saved, gaussians=splats), path, console)
        return
    if kind in MESHES:
        written(asked, path, mesh_of(asked, splats, console), saved, console)
        return
    form = FORMATS[kind]
    done = export(path, kind, splats, Asked(TARGETS[asked.target].up, saved.comments, asked.pad, saved.model))
    console.print(f"wrote {path}: {done.count} splats, {sized(done.bytes)}")
    console.print(
        f"  read back: positions within {places(done.place, done.radius)}, shapes {done.shape:.1%}, colours {done.colour:.1%}"
    )
    if kind != "html":
        console.print(asked.lies(sides(splats)))
    if done.dropped:
        console.print(f"  {done.dropped} splats had values that no Gaussian can have and were left out")
    if kind in ("splat", "spz") and (said := [c for c in saved.comments if c.startswith(("prior ", "licence "))]):
        console.print(f"  .{kind} has no room for where it comes from; keep with it: {', '.join(said)}")
    if form.degree < splats.degree:
        console.print(f"  .{kind} holds one colour from everywhere: what changes with the direction was left out")


def mesh_of(asked: Export, splats: Gaussians, console: Console) -> Mesh:
    """Return the textured surface of splats, where they lie."""
    with Progress(console, "meshing", meshes.STEPS) as progress:
        return meshes.meshed(splats, rasterizer("cpu"), asked.resolution, asked.texture, asked.triangles, progress.done)


def written(asked: Export, path: Path, shape: Mesh, saved: SavedSplats, console: Console) -> None:
    """Write a mesh and tell what became of it."""
    sought, kind = asked.preparation(), asked.kind()
    assert kind == "glb" or kind == "obj"
    shape = meshes.seated(shape, None if sought.height is None else sought.height * sought.scale, sought.pivot)
    made = meshes.write(path, kind, shape, saved.comments, asked.material)
    console.print(f"wrote {path}: {meshes.description(made)}; {sized(made.bytes)}, {asked.material}")
    console.print(asked.lies(meshes.sides(shape)))


def places(error: float, radius: float) -> str:
    """Describe an error of positions, beside the object's radius."""
    return "rounding" if error <= 1e-6 * radius else f"{error:.1g} (radius {radius:.3g})"


def sized(count: int) -> str:
    """Return a number of bytes as a person reads it: 1234567 is 1.2 MB."""
    power = min(int(math.log(max(count, 1), 1000)), 3)
    return f"{count / 1000**power:.{1 if power else 0}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
