"""Pack real objects for the embedded models into one file, from which all their pictures are rendered.

    apt-get install sweethome3d-furniture
    pip install fast-simplification pyfqmr scipy trimesh
    python scripts/pack_world.py --out world.pack                 # everything; 3 minutes
    python scripts/pack_world.py --out truth.pack --truth         # the CC0 objects that the acceptance prompts name
    python scripts/pack_world.py --credits CREDITS.md             # who made what, under which licence

The models are those of furniture_table.py, out of Debian's package sweethome3d-furniture (CC0 and CC-BY 3.0). Each is turned so that
its front looks along +x, brought to at most 3,000 faces and textures of 128 pixels, and given its openness to ambient light.
The same models and libraries give the same bytes. Without the Debian package the script says so and does nothing.
"""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from splatdistill.toybox.pack import VERSION, PackedWorld

FACES, PIXELS = 3000, 128
PLAIN = 10.0  # of 255: a texture that varies less is one colour


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the pack to write")
    parser.add_argument("--truth", action="store_true", help="only what the acceptance prompts of real objects name")
    parser.add_argument("--credits", type=Path, help="write the credits of all models here")
    args = parser.parse_args(argv)
    from embedded.furniture import FOLDER, catalogue
    from embedded.furniture_table import instances

    if not FOLDER.is_dir():
        print(f"skipped: {FOLDER} is not there; apt-get install sweethome3d-furniture (Debian, Ubuntu) brings it")
        return 0
    entries = {(e.library, e.index): e for e in catalogue()}
    chosen = [(kind, entries[library, number], tint, turn) for kind, library, number, tint, turn in instances()]
    if args.truth:
        from splatdistill.toybox.real_split import SPLIT

        wanted = set(SPLIT.truth.values())
        chosen = [c for c in chosen if f"{c[1].library}-{c[1].index}" in wanted]
    if args.credits:
        args.credits.write_text(credits([(kind, entry) for kind, entry, _, _ in chosen]), encoding="utf-8")
        print(f"wrote {args.credits}")
    if args.out:
        objects = []
        for k, (kind, entry, tint, turn) in enumerate(chosen):
            objects.append(packed(kind, entry, tint, turn))
            if k % 25 == 24:
                print(f"{k + 1} of {len(chosen)} objects", flush=True)
        write(args.out, objects)
        world = PackedWorld.load(args.out)
        print(f"wrote {args.out}: {len(world.objects)} objects of {len(world.kinds)} kinds, {args.out.stat().st_size} bytes, digest {world.digest}")
    return 0


def packed(kind: str, entry: Any, tint: bool, turn: float) -> dict[str, Any]:
    """Return one object: its line of the index, and its arrays under "arrays"."""
    from embedded.decimation import cleaned, decimated, openness, welded
    from embedded.furniture import LIBRARIES, load

    model = decimated(cleaned(load(entry, turn)), FACES)
    area = 0.5 * np.linalg.norm(np.cross(model.corners[:, 1] - model.corners[:, 0], model.corners[:, 2] - model.corners[:, 0]), axis=1)
    share = np.bincount(model.material, area, len(model.paints)) / area.sum()
    materials, textures = [], []
    for m, paint in enumerate(model.paints):
        texture = None if paint.texture is None else small(paint.texture, model.uv[model.material == m], share[m])
        plain = texture is None or np.asarray(texture).reshape(-1, 3).std(0).max() < PLAIN or share[m] < 0.01
        mean = paint.colour if texture is None else np.asarray(texture).reshape(-1, 3).mean(0) / 255
        materials.append([*(round(float(c), 4) for c in (mean if plain else (1, 1, 1))), -1 if plain else len(textures)])
        if texture is not None and not plain:
            file = io.BytesIO()
            texture.save(file, "JPEG", quality=88, subsampling=0)
            textures.append(np.frombuffer(file.getvalue(), np.uint8))
    places, faces = welded(model.corners)
    free = openness(places, places[faces])
    seen = np.bincount(model.material, area * free[faces].mean(1) ** 2, len(model.paints))  # what is inside counts little
    textured = np.array([row[3] >= 0 for row in materials])[model.material]
    uv = model.uv - np.floor(model.uv.min(1, keepdims=True)) if textures else model.uv  # a texture repeats: any whole number may go
    uv[~textured] = 0
    low, size = uv.reshape(-1, 2).min(0), np.maximum(np.ptp(uv.reshape(-1, 2), axis=0), 1e-6)
    return {
        "name": f"{entry.library}-{entry.index}",
        "kind": kind,
        "title": entry.name,
        "creator": entry.creator,
        "licence": LIBRARIES[entry.library],
        "tinted": main_materials(np.array(materials), seen) if tint else [],
        "materials": materials,
        "uv_low": [round(float(v), 6) for v in low],
        "uv_size": [round(float(v), 6) for v in size],
        "arrays": {
            "places": np.round(places * 32767).astype(np.int16),
            "openness": np.round(free * 255).astype(np.uint8),
            "faces": faces.astype(np.uint16),
            "materials": model.material.astype(np.uint8),
            "uv": np.round((uv - low) / size * 65535).astype(np.uint16) if textures else np.zeros((0, 3, 2), np.uint16),
            "textures": textures,
        },
    }


def small(texture: Image.Image, uv: np.ndarray, share: float) -> Image.Image:
    """Return the texture at the resolution that a picture of 128 pixels can show; transparent parts take the mean of the rest."""
    if texture.mode in ("RGBA", "LA", "PA") or "transparency" in texture.info:
        pixels = np.asarray(texture.convert("RGBA")).astype(float)
        seen = pixels[..., 3] > 128
        pixels[~seen, :3] = pixels[seen, :3].mean(0) if seen.any() else 128
        texture = Image.fromarray(pixels[..., :3].astype(np.uint8))
    repeats = max(float(np.percentile(np.ptp(uv.reshape(-1, 2), axis=0), 100)), 1.0) if len(uv) else 1.0
    side = int(np.clip(PIXELS / repeats * min(1.0, 2 * share**0.5 + 0.25), 16, PIXELS))
    width, height = texture.size
    scale = min(1.0, side / max(width, height))
    return texture.convert("RGB").resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)


def main_materials(materials: np.ndarray, seen: np.ndarray) -> list[int]:
    """Return the material with the largest visible area, and those that look like it."""
    main = int(seen.argmax())
    if materials[main, 3] >= 0:
        return [main]
    like = (np.abs(materials[:, :3] - materials[main, :3]).max(1) < 0.06) & (materials[:, 3] < 0)
    return [int(m) for m in np.flatnonzero(like)]


def write(path: Path, objects: list[dict[str, Any]]) -> None:
    """Write the pack, replaced whole."""
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("places", "openness", "faces", "materials", "uv", "textures")}
    length = dict.fromkeys(arrays, 0)
    index = []

    def put(name: str, values: np.ndarray) -> list[int]:
        arrays[name].append(values)
        length[name] += len(values)
        return [length[name] - len(values), length[name]]

    for o in objects:
        own = o["arrays"]
        entry = {k: v for k, v in o.items() if k != "arrays"}
        entry |= {"places": put("places", own["places"]), "faces": put("faces", own["faces"]), "uv": put("uv", own["uv"]) if len(own["uv"]) else []}
        put("openness", own["openness"])
        put("materials", own["materials"])
        index.append(entry | {"textures": [put("textures", t) for t in own["textures"]]})
    text = json.dumps({"version": VERSION, "objects": index}, sort_keys=True).encode()
    whole = {name: np.concatenate(parts) if parts else np.zeros(0, np.uint8) for name, parts in arrays.items()}
    new = path.with_name(path.name + ".new.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(new, index=np.frombuffer(text, np.uint8), **whole)
    new.replace(path)


def credits(chosen: list[tuple[str, Any]]) -> str:
    """Return a line for each model."""
    from embedded.furniture import LIBRARIES

    lines = [
        "# Credits of the real objects",
        "",
        "The embedded models were trained on pictures of these models, out of Debian's package sweethome3d-furniture 1.8 (Sweet Home 3D's",
        "furniture libraries). They were turned, simplified, given smaller textures and at times other colours. CC-BY-3.0:",
        "https://creativecommons.org/licenses/by/3.0/; CC0-1.0: https://creativecommons.org/publicdomain/zero/1.0/.",
        "",
        "| model | shown as | creator | library | licence |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, e in sorted(chosen, key=lambda c: (c[1].library, c[1].index)):
        lines.append(f"| {e.name} (number {e.index}) | {kind} | {e.creator} | {e.library} | {LIBRARIES[e.library]} |")
    return "\n".join(lines) + "\n"
