"""Three independent viewers show an exported object upright, from the front, and as we render it ourselves, in every
format that they know; and so does our own page, opened from disk, and three.js the mesh.

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
from splatdistill.export.meshes import meshed
from splatdistill.gaussians import Gaussians
from splatdistill.io.html import Start, write_html
from splatdistill.io.mesh import write_glb
from splatdistill.io.ply import write_ply
from splatdistill.io.sog import write_sog
from splatdistill.io.splat import write_splat
from splatdistill.io.spz import write_spz
from splatdistill.render.cpu import cpu_rasterizer
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
const asked = new URLSearchParams(location.search);
const mesh = new SplatMesh({ url: asked.get("file") });
if (asked.has("turned")) mesh.quaternion.set(1, 0, 0, 0);
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


GLB = """<!doctype html><style>body{margin:0}</style>
<script type="importmap">{"imports":{"three":"/modules/three/build/three.module.js",
"three/addons/":"/modules/three/examples/jsm/"}}</script><script type="module">
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(60, innerWidth / innerHeight, 0.01, 1000);
scene.background = new THREE.Color(0x000000);
camera.position.set(0, 0, 3);
const renderer = new THREE.WebGLRenderer();
renderer.setSize(innerWidth, innerHeight);
document.body.appendChild(renderer.domElement);
new GLTFLoader().load("/cube.glb", (it) => { scene.add(it.scene); renderer.render(scene, camera); });
</script>"""


@dataclass(frozen=True)
class Shot:
    """Viewer as it opens a file, and where its camera then stands in our world."""

    page: str
    azimuth: float
    elevation: float
    distance: float
    fov: float
    near: float = 0.006  # how near its picture is to ours
    apart: float = 0.5  # of how far it is from pictures of other sides, at most
    white: bool = False  # the background


EDITOR = "supersplat/index.html?webgl&noui&noanim&content="
SHOTS = {
    # SuperSplat's settings for objects: at (2, 2, -2) in its world.
    "supersplat": Shot(EDITOR + "/cube.ply", -45, 35.264, 12**0.5, 85),
    "supersplat-sog": Shot(EDITOR + "/cube.sog", -45, 35.264, 12**0.5, 85),
    # Spark's README: the mesh turned by 180 degrees about x, 3 units before the camera. A .spz has y up by itself.
    "spark": Shot("spark.html?turned&file=/cube.ply", 0, 0, 3, 60),
    "spark-splat": Shot("spark.html?turned&file=/flat.splat", 0, 0, 3, 60),
    "spark-sog": Shot("spark.html?turned&file=/cube.sog", 0, 0, 3, 60),
    "spark-spz": Shot("spark.html?file=/cube.spz", 0, 0, 3, 60),
    # GaussianSplats3D's default camera at (0, 10, 15); the scene turned by 180 degrees about x, and 6 times as large.
    "gs3d": Shot("gs3d.html", 0, 33.690, 325**0.5 / 6, 50),
    "ours": Shot("file#azimuth=35&elevation=20&distance=3&fov=43&bare=1", 35, 20, 3, 43, white=True),
    "mesh": Shot("glb.html", 0, 0, 3, 60, near=0.01, apart=0.7),
}
HORIZONTAL = {n for n, shot in SHOTS.items() if shot.elevation == 0}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the picture of each viewer."""
    root, modules = tmp_path_factory.mktemp("www"), Path(str(FOLDER)).resolve() / "node_modules"
    (root / "modules").symlink_to(modules)
    shutil.copytree(modules / "@playcanvas/supersplat-viewer/public", root / "supersplat")
    (root / "spark.html").write_text(SPARK, encoding="utf-8")
    (root / "gs3d.html").write_text(GS3D, encoding="utf-8")
    (root / "glb.html").write_text(GLB, encoding="utf-8")
    write_ply(root / "cube.ply", cube(), ["prompt a cube\nend_header"])
    write_spz(root / "cube.spz", cube())
    write_sog(root / "cube.sog", cube())
    write_splat(root / "flat.splat", flat())
    write_html(root / "cube.html", cube(), start=Start(target=(0.0, 0.0, 0.0)))
    write_glb(root / "cube.glb", meshed(cube(), cpu_rasterizer(), 64, 1024))
    handler = functools.partial(Quiet, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        script, settings = Path(__file__).with_name("viewers.mjs"), root / "supersplat/settings.json"
        site = f"http://127.0.0.1:{server.server_port}"
        own = (root / "cube.html").as_uri()
        urls = {n: f"{site}/{s.page}" if n != "ours" else own + s.page.removeprefix("file") for n, s in SHOTS.items()}
        jobs = [a for name, url in urls.items() for a in (url, root / f"{name}.png")]
        subprocess.run(["node", script, modules, CHROMIUM, settings, str(SIZE), *jobs], check=True, timeout=600)
    finally:
        server.shutdown()
        server.server_close()
    opened = {n: np.array(Image.open(root / f"{n}.png").convert("RGB")) for n in SHOTS}
    yield {n: torch.from_numpy(image).permute(2, 0, 1) / 255 for n, image in opened.items()}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Server that does not report every request."""

    def log_message(self, *args: object) -> None:
        pass


def flat() -> Gaussians:
    """Return the part of the cube that .splat can hold: its ball is grey from all sides."""
    return cube().with_degree(0)


def ours(name: str, turn: float = 0.0) -> torch.Tensor:
    shot = SHOTS[name]
    camera = orbit([shot.azimuth + turn], shot.elevation, shot.distance, shot.fov, width=SIZE)
    background = torch.full((1, 3), float(shot.white))
    shown = flat() if name == "spark-splat" else cube()
    return reference_rasterizer()(shown, camera, background).rgb[0].clamp(0, 1)


@pytest.mark.parametrize("name", SHOTS)
def test_viewer_shows_the_front_upright(pictures: dict[str, torch.Tensor], name: str) -> None:
    image = pictures[name]
    r, g, b = image
    red, back = (r > 0.6) & (g < 0.3) & (b < 0.3), (b > 0.6) & (r < 0.3) & (g < 0.3)
    assert red.sum() > 100 and back.sum() < 10
    rows = torch.arange(SIZE)[:, None].expand(SIZE, SIZE)
    top = (r > 0.6) & (g < 0.3) & (b > 0.6)
    if name not in HORIZONTAL:
        assert top.sum() > 20 and rows[top].float().mean() < rows[red].float().mean()
    if not SHOTS[name].white:
        light = (image > (0.4 if name == "spark-splat" else 0.6)).all(0)  # the ball and the letter
        assert light.sum() > 20 and rows[light].min() < rows[red].min()


@pytest.mark.parametrize("name", SHOTS)
def test_viewer_shows_what_we_render(pictures: dict[str, torch.Tensor], name: str) -> None:
    """From the same camera, letter, shapes and colours that depend on the direction agree, and better than others'."""
    right = (pictures[name] - ours(name)).abs().mean()
    wrong = [(pictures[name] - ours(name, turn)).abs().mean() for turn in (90, 180, 270)]
    mirrored = (pictures[name].flip(2) - ours(name)).abs().mean()
    assert right < SHOTS[name].near
    assert right < SHOTS[name].apart * min(*wrong, mirrored)
