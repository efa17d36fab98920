"""Finished work in a page: side by side, looked at from one camera, cleaned up and written again."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import viser

from splatdistill.errors import UserError
from splatdistill.export.saved_splats import SavedSplats
from splatdistill.gaussians import Gaussians
from splatdistill.io.ply import write_ply
from splatdistill.io.text import escape, printable
from splatdistill.render import Rasterizer, rasterizer
from splatdistill.shell import as_typed
from splatdistill_viewer.browsers import Browser, Crop, ExactPicture
from splatdistill_viewer.clean import Cleaning
from splatdistill_viewer.curves import LAST
from splatdistill_viewer.display import Display, text
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import MOVING, TALL_WAITING, Kernels
from splatdistill_viewer.snapshot import adjusted, snapshot
from splatdistill_viewer.splats import show
from splatdistill_viewer.tiles import ObjectRow, places, reach, stand, tiled

NEVER = {"box": 4.0, "needles": 50.0, "floaters": 30.0}  # what the tools stand at while they take nothing


class Gallery(Page):
    """Page of several saved splats. In the browser's own view they stand side by side from every direction; exact pictures show
    each in its own tile, all from the same camera.
    """

    def __init__(
        self,
        works: Sequence[SavedSplats],
        port: int = 8080,
        out: Path | None = None,
        report: Callable[[str], None] = print,
        hosts: Sequence[str] = (),
    ) -> None:
        super().__init__("splatdistill view", port, report, hosts=hosts)
        self.works, self.out = list(works), out
        self.rasterizer: Rasterizer = rasterizer("cpu")
        self.kept: list[Gaussians] = [w.gaussians for w in self.works]
        self.cleaned: object = None
        self.reach = max(reach(w.gaussians) for w in self.works)
        apart = 2.4 * self.reach
        self.spots = places(len(self.works), apart)
        self.kernels = Kernels(self.rasterizer, self.guard)
        if len(self.works) > 1:
            self.server.initial_camera.position = stand(len(self.works), apart)
        self.build()
        self.open()

    def furnish(self, client: viser.ClientHandle) -> Browser:
        """Add the display controls of a page, and the splats with their names."""
        display = Display(client)
        row = ObjectRow([show(client.scene, f"/work-{i}", snapshot(g), at=at) for i, (g, at) in enumerate(zip(self.kept, self.spots))], self.spots)
        if len(self.works) > 1:
            for i, w in enumerate(self.works):
                client.scene.add_label(f"/work-{i}/name", printable(w.name), position=(0.0, 0.0, 1.1 * self.reach), anchor="bottom-center")
        browser = Browser(client, display, row)
        browser.draw_boxes(self.crops(self.cleaning))
        return browser

    def build(self) -> None:
        """Add the controls that all pages share."""
        gui = self.server.gui
        gui.add_html(text("<br>".join(f"<b>{escape(w.name)}</b>: {len(w.gaussians)} splats" for w in self.works)))
        with gui.add_folder("clean up", order=LAST):
            far = NEVER["box"]
            least, most = (-far, -far, -far), (far, far, far)
            self.low = gui.add_vector3("crop box, min.", least, min=least, max=most, step=0.05)
            self.high = gui.add_vector3("crop box, max.", most, min=least, max=most, step=0.05)
            self.opacity = gui.add_slider("opacity threshold", 0.0, 0.5, 0.005, 0.0, hint="Splats less opaque than this go")
            top, hint = NEVER["needles"], "Longest axis over the middle one: takes needles away; at the right end all stay"
            self.needles = gui.add_slider("max. anisotropy", 1.5, top, 0.5, top, hint=hint)
            top, hint = NEVER["floaters"], "Distance to the nearest others over the median: takes floaters away; at the right end all stay"
            self.floaters = gui.add_slider("max. isolation", 1.2, top, 0.1, top, hint=hint)
            self.left = gui.add_markdown("Nothing is taken away.")
            export = gui.add_button("Export cleaned")
            export.on_click(lambda event: self.ask_export(event.client_id))

    def ask_export(self, who: int | None) -> None:
        """Queue the export of the cleaned splats on the thread that renders."""
        self.asked.put(("export", who), lambda: self.export(who))

    @property
    def cleaning(self) -> Cleaning:
        """Return the rules that the controls are set to."""

        def unless(value: float, never: float) -> float | None:
            return None if value >= never else float(value)

        far = NEVER["box"]
        x, y, z = (-math.inf if v <= -far else float(v) for v in self.low.value)
        right, back, top = (math.inf if v >= far else float(v) for v in self.high.value)
        needle, floater = unless(self.needles.value, NEVER["needles"]), unless(self.floaters.value, NEVER["floaters"])
        return Cleaning((x, y, z), (right, back, top), float(self.opacity.value), needle, floater)

    def tick(self) -> None:
        """Export files, apply changed rules and render exact pictures, where any of that is due."""
        self.work()
        if not self.browsers.any:
            return
        if (cleaning := self.cleaning) != self.cleaned:
            self.clean(cleaning)
        self.browsers.move_on()
        for b in self.browsers.all():
            if b.display.exact is not None and self.kernels.there(self.works[0].gaussians, b.display.style):
                self.draw_exact(b)
            else:
                self.draw_splats(b)

    def clean(self, cleaning: Cleaning) -> None:
        """Apply the rules to all splats."""
        self.kept = [w.gaussians[cleaning.keep(w.gaussians)] for w in self.works]
        gone = [len(w.gaussians) - len(k) for w, k in zip(self.works, self.kept)]
        counts = ", ".join(f"{n} of {len(w.gaussians)}" for n, w in zip(gone, self.works))
        self.left.content = f"Taken away: {counts}" if any(gone) else "Nothing is taken away."
        for b in self.browsers.all():
            b.draw_boxes(self.crops(cleaning))
        self.cleaned = cleaning

    def crops(self, cleaning: Cleaning) -> list[Crop]:
        """Return the crop box of each object, where it removes anything; an open side ends with the splats."""
        if all(map(math.isinf, (*cleaning.low, *cleaning.high))):
            return []
        found = []
        for i, w in enumerate(self.works):
            means = w.gaussians.means
            low = torch.maximum(torch.tensor(cleaning.low), means.amin(0))
            high = torch.minimum(torch.tensor(cleaning.high), means.amax(0))
            wide, deep, tall = (high - low).clamp_min(1e-3).tolist()
            x, y, z = ((low + high) / 2).tolist()
            found.append(Crop(f"/work-{i}/box", (x, y, z), (wide, deep, tall)))
        return found

    def draw_splats(self, b: Browser) -> None:
        """Draw the splats in a browser's own view."""
        d = b.display
        b.row.face(b.azimuth())
        wanted = [(self.cleaned, d.key)] * len(self.works)
        if d.exact is None and (b.has is not None or b.behind != d.background or b.shown != wanted):
            b.draw_splats({k: snapshot(adjusted(g, d.size.value, d.cutoff.value)) for k, g in enumerate(self.kept)} if b.shown != wanted else {})
            b.shown = wanted

    def draw_exact(self, b: Browser) -> None:
        """Draw each object in its own tile, all from one camera."""
        d = b.display
        if (wanted := b.wants((self.cleaned, d.key, d.style), TALL_WAITING, MOVING)) is None:
            return
        names = (printable(w.name) if len(self.works) > 1 else "" for w in self.works)
        looked = [(name, adjusted(g, d.size.value, d.cutoff.value)) for name, g in zip(names, self.kept)]
        what = wanted[1]
        self.browsers.draw([ExactPicture(b.client.client_id, what, tiled(looked, what[1], what[2], self.rasterizer, d.style))])

    def export(self, who: int | None) -> None:
        """Write each cleaned object as a file beside its source, or in `out`; existing files are never overwritten."""
        cleaning = self.cleaning
        for w in self.works:
            kept = w.gaussians[cleaning.keep(w.gaussians)]
            if not len(kept):
                raise UserError(f"nothing of {w.name} would be left; take away less")
            written = write_ply(self.free(w), kept, [f"cleaned: {len(kept)} of {len(w.gaussians)} splats of {w.name}"])
            self.report(f"{written.path}: {written.count} of {len(w.gaussians)} splats; go on with it: {as_typed('splatdistill', 'train', '--init', written.path, '--prompt=' + (w.prompt or 'TEXT'))}")
            self.browsers.tell("Exported", str(written.path))
            self.browsers.send(who, written.path.name, written.path.read_bytes())

    def free(self, w: SavedSplats) -> Path:
        """Return a path that does not exist yet."""
        folder = self.out or (w.path.parent if w.path.is_file() else w.path)
        k, path = 1, folder / f"{w.name.replace(' ', '-')}-cleaned.ply"
        while path.exists():
            k += 1
            path = path.with_stem(f"{w.name.replace(' ', '-')}-cleaned-{k}")
        return path

    def hold(self) -> None:
        """Serve until Ctrl-C."""
        self.serve(self.tick)
