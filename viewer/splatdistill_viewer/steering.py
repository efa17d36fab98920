"""The tab that steers: every control puts a Command into the run's queue."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import viser

from splatdistill.densify import DENSIFIERS
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES
from splatdistill.train.commands import Choose, Command, Densify, Prune, SetField
from splatdistill.train.config import Train
from splatdistill.train.plain import named
from splatdistill_viewer.controls import Pending, add_fields, follow, shown
from splatdistill_viewer.display import RED, small

PARTS: tuple[Literal["guidance", "densify"], ...] = ("guidance", "densify")
"""Parts of a run that are chosen by name."""
Recipe = Callable[[str], Sequence[Command]]
"""The commands that go over to a guidance, by its name."""


Words = Callable[[str, str], None]
"""Raises UserError for a prompt and a negative one that the run's prior should not be asked."""


def as_published(name: str) -> Sequence[Command]:
    """Return the commands that choose a guidance with its published settings."""
    return [Choose("guidance", name)]


def any_words(prompt: str, negative: str) -> None:
    """Accept any prompts."""


class Steering:
    """Controls that change a run. A value that the run refuses is put back; a refused prompt stays, with the reason, to be edited."""

    def __init__(
        self,
        gui: viser.GuiApi,
        config: Train,
        put: Callable[[Command], None],
        recipe: Recipe = as_published,
        words: Words = any_words,
    ) -> None:
        self.gui, self.put, self.recipe, self.refuse = gui, put, recipe, words
        self.pending = Pending(put)
        self.handles: dict[str, Any] = {}
        self.parents: dict[str, Any] = {}
        self.folders: dict[str, Any] = {}
        self.buttons: list[Any] = []
        self.over = gui.add_html("", visible=False)
        self.words(config)
        for part, kinds in (("guidance", GUIDANCES), ("densify", DENSIFIERS)):
            self.choice(part, kinds, config)
        with gui.add_folder("learning rates", expand_by_default=False):
            self.handles |= add_fields(gui, config.rates, "rates", self.pending)
        with gui.add_folder("regularisation", expand_by_default=False):
            self.handles |= add_fields(gui, config.regularise, "regularise", self.pending)
            self.handles |= add_fields(gui, config, "", self.pending, only=("guidance_weight",))
        with gui.add_folder("training background", expand_by_default=False):
            self.handles |= add_fields(gui, config.background, "background", self.pending)

    def button(self, label: str, command: Callable[[], Command], **more: Any) -> Any:
        """Add a button that puts a command."""
        handle = self.gui.add_button(label, **more)
        self.buttons.append(handle)
        handle.on_click(lambda _: self.put(command()))
        return handle

    def words(self, config: Train) -> None:
        """Add the prompt and the negative prompt, and a button that sends both."""
        self.now = {"prompt": config.prompt, "negative": config.negative}
        with self.gui.add_folder("prompt"):
            for name in ("prompt", "negative"):
                label = "prompt" if name == "prompt" else "negative prompt"
                self.handles[name] = self.gui.add_text(label, getattr(config, name))
            self.reason = self.gui.add_html("", visible=False)
            button = self.gui.add_button("Apply prompt")
            self.buttons.append(button)

        @button.on_click
        def _(event: viser.GuiEvent) -> None:
            asked = {name: self.handles[name].value for name in self.now}
            try:
                self.refuse(asked["prompt"], asked["negative"])
            except UserError as e:
                self.say(str(e))
                return
            self.say("")
            for name, text in asked.items():
                if text != self.now[name]:
                    self.put(SetField(name, text))

    def say(self, reason: str) -> None:
        """Show under the prompt why it was refused; "" hides the line."""
        if reason:
            reason = f"Refused: {reason.rstrip('.')}. The run goes on with {self.now['prompt']!r}."
        self.reason.content, self.reason.visible = small(reason, RED), bool(reason)

    def choice(self, part: str, kinds: dict[str, type], config: Train) -> None:
        """Add the choice of a guidance or densifier, and the fields of the one in use."""
        now = next((n for n, k in kinds.items() if k is type(getattr(config, part))), None)
        self.parents[part] = self.gui.add_folder("densification" if part == "densify" else part, expand_by_default=part == "guidance")
        with self.parents[part]:
            names = list(kinds) if now else ["(own class)", *kinds]
            chosen = self.gui.add_dropdown("method" if part == "guidance" else "strategy", names, initial_value=now or names[0])
            self.handles[part] = chosen
            if part == "densify":
                self.button("Densify now", Densify)
                least = self.gui.add_number("prune below opacity", 0.01, min=0.0, max=1.0, step=0.001)
                self.button("Prune now", lambda: Prune(float(least.value)))
            self.folders[part] = self.settings_folder(part)
        self.settings(part, config)

        @chosen.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None and chosen.value in kinds:
                for command in self.recipe(chosen.value) if part == "guidance" else [Choose("densify", chosen.value)]:
                    self.put(command)

    def settings_folder(self, part: str) -> Any:
        """Add an empty folder for the fields of a part."""
        return self.gui.add_folder("settings", expand_by_default=part == "guidance")

    def settings(self, part: str, config: Train) -> None:
        """Add the fields of the chosen class, in its folder."""
        with self.folders[part]:
            chosen = getattr(config, part)
            if part == "guidance":  # the one that is wanted most stands first
                top = 20.0 if chosen.scale <= 20 else 200.0
                scale = self.gui.add_slider("scale", min=min(0.0, chosen.scale), max=max(top, chosen.scale), step=0.1, initial_value=float(chosen.scale))
                follow(scale, "guidance.scale", float, self.pending)
                self.handles["guidance.scale"] = scale
            self.handles |= add_fields(self.gui, chosen, part, self.pending, without=("scale",) if part == "guidance" else ())

    def applied(self, command: Command, config: Train) -> None:
        """Show a command that took effect; where a part was chosen anew, replace its controls."""
        match command:
            case SetField():
                self.show(command.path, config)
                self.now = {"prompt": config.prompt, "negative": config.negative}
            case Choose(part=part):
                for path in [p for p in self.handles if p.startswith(f"{part}.")]:
                    self.handles.pop(path)
                self.folders[part].remove()
                with self.parents[part]:
                    self.folders[part] = self.settings_folder(part)
                self.settings(part, config)
                self.handles[part].value = command.kind

    def phase_begun(self, config: Train) -> None:
        """Show the settings that a phase begins with; words that are being typed stay."""
        for part in PARTS:
            if self.handles[part].value != (kind := named(config, part)):
                self.applied(Choose(part, kind), config)
        same = {name for name, words in self.now.items() if words == getattr(config, name)}
        for path in self.handles.keys() - {*PARTS} - same:
            self.show(path, config)
        self.now = {"prompt": config.prompt, "negative": config.negative}

    def show(self, path: str, config: Train) -> None:
        """Show the value in force in a control."""
        if path not in self.handles or path in self.pending.changes:
            return
        value: Any = config
        for name in path.split("."):
            value = getattr(value, name)
        self.handles[path].value = shown(self.handles[path].value, value)

    def refused(self, command: Command, config: Train, message: str) -> None:
        """Show the value in force in the control of a refused command; a refused prompt stays, with the reason below."""
        match command:
            case SetField(path="prompt" | "negative"):
                self.say(message)
            case SetField():
                self.show(command.path, config)
            case Choose(part=part):
                kinds: dict[str, type] = GUIDANCES if part == "guidance" else DENSIFIERS
                self.handles[part].value = next((n for n, k in kinds.items() if k is type(getattr(config, part))), command.kind)

    def end(self, words: str) -> None:
        """Disable all controls of a run that has ended, and show why."""
        for handle in (*self.handles.values(), *self.buttons):
            handle.disabled = True
        self.over.content, self.over.visible = small(words), True
