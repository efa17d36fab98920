"""The optimisation as a film that anyone can open: one HTML file with a timeline, the splats in every frame of it."""

from collections.abc import Sequence
from pathlib import Path

from splatdistill.io.atomic import replacing
from splatdistill.io.text import printable
from splatdistill_viewer.server import Server
from splatdistill_viewer.snapshot import Snapshot
from splatdistill_viewer.splats import show, update

FRAMES, SPLATS = 60, 10_000  # at most, per frame
LIMIT = 14_500_000  # bytes of a file
SECONDS = 12.0  # that the film lasts


class Recording:
    """Keyframes of a run, spread evenly over its steps however many it turns out to have: it may be stopped at any.

    steps: how many are planned. A run stopped after an eighth of them still gives a whole film, and a long one does not
    pay for keyframes that would be thrown away.
    """

    def __init__(self, steps: int = 0, most: int = FRAMES, splats: int = SPLATS) -> None:
        self.most, self.splats = most, splats
        self.every, self.next = max(1, steps // (8 * most)), 0
        self.frames: list[Snapshot] = []

    def due(self, step: int) -> bool:
        """Return whether the splats after this step are wanted."""
        return step >= self.next

    def add(self, s: Snapshot) -> None:
        """Add one more keyframe; where there would be too many, every second one goes."""
        if self.frames and self.frames[-1].step == s.step:
            return
        self.frames.append(s.thinned(self.splats))
        if len(self.frames) > self.most:
            self.frames = self.frames[::-2][::-1]  # the newest stays
            self.every *= 2
        self.next = s.step + self.every


def write_html(path: Path, frames: Sequence[Snapshot], title: str, limit: int = LIMIT) -> Path:
    """Write the film as one self-contained file under `limit` bytes; frames are thinned until it is. ValueError without frames."""
    if not frames:
        raise ValueError("a film without frames")
    most = max(len(f) for f in frames)
    while len(html := film([f.thinned(most) for f in frames], title).encode()) > limit and most > 100:
        most = int(most * min(0.9, limit / len(html)))
    with replacing(path) as temporary:
        temporary.write_bytes(html)
    return path


def film(frames: Sequence[Snapshot], title: str) -> str:
    """Return a page that plays the frames."""
    server = Server(8400)
    try:
        splats = show(server, "/splats", frames[0])
        label = server.scene.add_label("/step", caption(title, frames[0]), position=(0.0, 0.0, 1.1))
        serializer = server.get_scene_serializer()
        for frame in frames[1:]:
            serializer.insert_sleep(SECONDS / len(frames))
            update(splats, frame)
            label.text = caption(title, frame)
        serializer.insert_sleep(2.0)  # the result stays before the film begins again
        page = serializer.as_html()
    finally:
        server.end()
    return page


def caption(title: str, frame: Snapshot) -> str:
    """Return what stands above the object."""
    return f"{printable(title)}: step {frame.step}"
