"""The optimisation as a film that anyone can open: one HTML file with a timeline, the splats in every frame of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splatdistill.io.atomic import replacing
from splatdistill.io.text import printable
from splatdistill.train.config import Train
from splatdistill.train.plain import named
from splatdistill_viewer.server import Server
from splatdistill_viewer.snapshot import Snapshot
from splatdistill_viewer.splats import show, update

FRAMES, SPLATS = 60, 10_000  # at most, per frame
LIMIT = 14_500_000  # bytes of a file
SECONDS = 12.0  # that the film lasts


@dataclass(frozen=True)
class Keyframe:
    """Keyframe of the film: the splats after a step, and the settings in force, as text."""

    splats: Snapshot
    settings: str

    @property
    def caption(self) -> str:
        """Return the caption above the object."""
        return f"{printable(self.settings)}: step {self.splats.step}"


def settings(config: Train) -> str:
    """Return the prompt and the guidance with its scale, both of which may be steered, as the film's title."""
    scale = f", scale {config.guidance.value('scale'):g}" if hasattr(config.guidance, "scale") else ""
    return f"{config.prompt} ({named(config, 'guidance')}{scale})"


class Recording:
    """Keyframes of a run, spread evenly over its steps however many there are: it may be stopped at any.

    steps: how many are planned. A run stopped after an eighth of them still gives a whole film, and a long one does not
    pay for keyframes that would be thrown away.
    """

    def __init__(self, steps: int = 0, most: int = FRAMES, splats: int = SPLATS) -> None:
        self.most, self.splats = most, splats
        self.every, self.next = max(1, steps // (8 * most)), 0
        self.frames: list[Keyframe] = []

    def due(self, step: int) -> bool:
        """Return whether a keyframe is due after this step."""
        return step >= self.next

    def add(self, s: Snapshot, settings: str) -> None:
        """Append a keyframe; where there are too many, remove every second one."""
        if self.frames and self.frames[-1].splats.step == s.step:
            return
        self.frames.append(Keyframe(s.thinned(self.splats), settings))
        if len(self.frames) > self.most:
            self.frames = self.frames[::-2][::-1]  # the newest stays
            self.every *= 2
        self.next = s.step + self.every


def write_html(path: Path, frames: Sequence[Keyframe], limit: int = LIMIT) -> Path:
    """Write the film as one self-contained file under `limit` bytes; frames are thinned until it is. ValueError without frames."""
    if not frames:
        raise ValueError("a film without frames")
    most = max(len(f.splats) for f in frames)
    while len(html := film([Keyframe(f.splats.thinned(most), f.settings) for f in frames]).encode()) > limit and most > 100:
        most = int(most * min(0.9, limit / len(html)))
    with replacing(path) as temporary:
        temporary.write_bytes(html)
    return path


def film(frames: Sequence[Keyframe]) -> str:
    """Return the HTML page that plays the frames."""
    server = Server(8400)
    try:
        splats = show(server.scene, "/splats", frames[0].splats)
        label = server.scene.add_label("/step", frames[0].caption, position=(0.0, 0.0, 1.05), anchor="bottom-center")
        serializer = server.get_scene_serializer()
        for frame in frames[1:]:
            serializer.insert_sleep(SECONDS / len(frames))
            update(splats, frame.splats)
            label.text = frame.caption
        serializer.insert_sleep(2.0)  # the result stays before the film begins again
        page = serializer.as_html()
    finally:
        server.end()
    return page
