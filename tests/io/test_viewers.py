"""Three independent viewers show an exported object upright, from the front, and as we render it ourselves.

Needs Chromium, node, and a folder (environment variable SPLATDISTILL_VIEWERS) in which was run
`npm install @playcanvas/supersplat-viewer @sparkjsdev/spark @mkkellogg/gaussian-splats-3d three playwright-core`.
"""

import functools
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_cube import cube
from PIL import Image

from splatdistill.cameras import orbit
from splatdistill.io.ply import write_ply
from splatdistill.render.reference import reference_rasterizer

FOLDER = os.environ.get("SPLATDISTILL_VIEWERS")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="SPLATDISTILL_VIEWERS does not name a folder with the viewers' node_modules"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here"),
    pytest.mark.skipif(not shutil.which("node"), reason="no node here"),
]

SIZE = 128  # pixels per side of a picture

SPARK = """<!doctype html><style>body{margin:0}</style>
<script type="importmap">{"imports":{"three":"/modules/three/build/three.module.js",
"three/addons/":"/modules/three/examples/jsm/",
"@sparkjsdev/spark":"/modules/@sparkjsdev/spark/dist/spark.module.js"}}</script><script type="module">
import * as THREE from "three";
import { SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(60, innerWidth / innerHeight, 0.01, 1000);
scene.background = new THREE.Color(0x000000);
const renderer = new THREE.WebGLRenderer();
renderer.setSize(innerWidth, innerHeight);
document.body.appendChild(renderer.domElement);
scene.add(new SparkRenderer({ renderer }));
const mesh = new SplatMesh({ url: "/cube.ply" });
mesh.quaternion.set(1, 0, 0, 0);
mesh.position.set(0, 0, -3);
scene.add(mesh);
renderer.setAnimationLoop(() => renderer.render(scene, camera));
</script>"""

GS3D = """<!doctype html><style>body{margin:0;height:100vh;background:black}</style>
<script type="importmap">{"imports":{"three":"/modules/three/build/three.module.js",
"gs3d":"/modules/@mkkellogg/gaussian-splats-3d/build/gaussian-splats-3d.module.js"}}</script><script type="module">
import { SceneRevealMode, Viewer } from "gs3d";
const viewer = new Viewer({
  sharedMemoryForWorkers: false, sphericalHarmonicsDegree: 1, sceneRevealMode: SceneRevealMode.Instant,
});
const how = { rotation: [1, 0, 0, 0], scale: [6, 6, 6], showLoadingUI: false, progressiveLoad: false };
viewer.addSplatScene("/cube.ply", how).then(() => viewer.start());
</script>"""


@dataclass(frozen=True)
class Shot:
    """A viewer as it opens a file, and where its camera then stands in our world."""

    page: str
    azimuth: float
    elevation: float
    distance: float
    fov: float


SHOTS = {
    # SuperSplat's settings for objects: at (2, 2, -2) in its world.
    "supersplat": Shot("supersplat/index.html?content=/cube.ply&webgl&noui&noanim", -45, 35.264, 12**0.5, 85),
    # Spark's README: the mesh turned by 180 degrees about x, 3 units before the camera.
    "spark": Shot("spark.html", 0, 0, 3, 60),
    # GaussianSplats3D's default camera at (0, 10, 15); the scene turned by 180 degrees about x, and 6 times as large.
    "gs3d": Shot("gs3d.html", 0, 33.690, 325**0.5 / 6, 50),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, torch.Tensor]]:
    """What each viewer shows."""
    root, modules = tmp_path_factory.mktemp("www"), Path(str(FOLDER)).resolve() / "node_modules"
    (root / "modules").symlink_to(modules)
    shutil.copytree(modules / "@playcanvas/supersplat-viewer/public", root / "supersplat")
    (root / "spark.html").write_text(SPARK)
    (root / "gs3d.html").write_text(GS3D)
    write_ply(root / "cube.ply", cube(), ["prompt a cube\nend_header"])
    handler = functools.partial(Quiet, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        script, settings = Path(__file__).with_name("viewers.mjs"), root / "supersplat/settings.json"
        site = f"http://127.0.0.1:{server.server_port}"
        jobs = [a for name, shot in SHOTS.items() for a in (f"{site}/{shot.page}", root / f"{name}.png")]
        subprocess.run(["node", script, modules, CHROMIUM, settings, str(SIZE), *jobs], check=True, timeout=600)
    finally:
        server.shutdown()
        server.server_close()
    opened = {n: np.array(Image.open(root / f"{n}.png").convert("RGB")) for n in SHOTS}
    yield {n: torch.from_numpy(image).permute(2, 0, 1) / 255 for n, image in opened.items()}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not report every request."""

    def log_message(self, *args: object) -> None:
        pass


def ours(shot: Shot, azimuth: float) -> torch.Tensor:
    camera = orbit([azimuth], shot.elevation, shot.distance, shot.fov, width=SIZE)
    return reference_rasterizer()(cube(), camera).rgb[0].clamp(0, 1)


@pytest.mark.parametrize("name", SHOTS)
def test_viewer_shows_the_front_upright(pictures: dict[str, torch.Tensor], name: str) -> None:
    image = pictures[name]
    r, g, b = image
    red, back = (r > 0.6) & (g < 0.3) & (b < 0.3), (b > 0.6) & (r < 0.3) & (g < 0.3)
    assert red.sum() > 100 and back.sum() < 10
    rows = torch.arange(SIZE)[:, None].expand(SIZE, SIZE)
    top = (r > 0.6) & (g < 0.3) & (b > 0.6)
    white = (image > 0.6).all(0)  # the ball and the letter
    if name != "spark":  # which looks horizontally
        assert top.sum() > 20 and rows[top].float().mean() < rows[red].float().mean()
    assert white.sum() > 20 and rows[white].min() < rows[red].min()


@pytest.mark.parametrize("name", SHOTS)
def test_viewer_shows_what_we_render(pictures: dict[str, torch.Tensor], name: str) -> None:
    """From the same camera, letter, shapes and colours that depend on the direction agree, and better than others'."""
    shot = SHOTS[name]
    right = (pictures[name] - ours(shot, shot.azimuth)).abs().mean()
    wrong = [(pictures[name] - ours(shot, shot.azimuth + turn)).abs().mean() for turn in (90, 180, 270)]
    mirrored = (pictures[name].flip(2) - ours(shot, shot.azimuth)).abs().mean()
    assert right < 0.006
    assert right < 0.5 * min(*wrong, mirrored)
