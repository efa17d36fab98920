"""The line that says how far a run is, and the buttons that it obeys in that state."""

from collections.abc import Callable, Sequence
from typing import Any

import viser

from splatdistill.io.text import escape, printable
from splatdistill.train.commands import Command, Continue, Once, Pause, Save, Stop
from splatdistill.train.config import Train
from splatdistill_viewer.display import text

ASKS: dict[str, Command] = {"Pause": Pause(), "Continue": Continue(), "Step": Once(), "Stop": Stop()}
BUTTONS = {"running": ("Pause", "Stop"), "paused": ("Continue", "Step", "Stop")}
"""Buttons of a run by its state; one that has ended has none."""


def remaining(steps: float, speed: float) -> str:
    """Return the time left for `steps` steps at `speed` steps a second, as text; "" where the speed is unknown."""
    if speed <= 0 or steps <= 0:
        return ""
    seconds = steps / speed
    if seconds < 90:
        return f"{max(1, round(seconds))} s left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min left"


class Status:
    """Status line, progress bar, and panel title; a folded panel shows the title alone."""

    def __init__(self, gui: viser.GuiApi, prompt: str) -> None:
        self.gui, self.label = gui, ""
        self.text = gui.add_html(text(f"<b>{escape(prompt)}</b>"))
        self.bar = gui.add_progress_bar(0.0)

    def update(self, config: Train, step: int, splats: int, speed: float, state: str) -> None:
        """Show the progress of a run. speed: steps a second."""
        moves = f", {config.inner} updates a step" if config.inner > 1 else ""
        left = remaining(config.steps - step, speed) if state in BUTTONS else ""
        pace = f"{speed:.3g} steps/s{moves}" if state == "running" and speed else ""
        facts = " · ".join(filter(None, (f"step {step} of {config.steps}", left, f"{splats} splats", pace)))
        self.show(config.prompt, state, facts, step / max(config.steps, 1), left)

    def show(self, prompt: str, state: str, facts: str, done: float, left: str) -> None:
        """Show a prompt, a state and facts. done: share of the work, in [0, 1]."""
        now = text(f"<b>{escape(prompt)}</b><br>{escape(state)}, {escape(facts)}")
        if now != self.text.content:
            self.text.content = now
            self.bar.value = 100.0 * min(done, 1.0)
        label = printable(" · ".join(filter(None, (f"{state} {done:.0%}", left))))
        if label != self.label:
            self.label = label
            self.gui.set_panel_label(label)


class RunButtons:
    """Buttons and keys Pause, Continue, Step, Stop; only those that have an effect now are shown."""

    def __init__(self, gui: viser.GuiApi, put: Callable[[Command], None]) -> None:
        self.put, self.state = put, "running"
        self.group = gui.add_button_group("run", BUTTONS["running"])
        self.group.on_click(lambda event: self.press(event.target.value))
        keys = (("pause or continue", "space", ("Pause", "Continue")), ("one step", "N", ("Step",)))
        self.commands = [self.command(gui, *key) for key in keys]
        self.save = gui.add_command("save a checkpoint", hotkey="C")
        self.save.on_trigger(lambda _: put(Save()))

    def command(self, gui: viser.GuiApi, label: str, key: Any, asks: Sequence[str]) -> viser.CommandHandle:
        """Add a key that presses the first of some buttons that is shown."""
        command = gui.add_command(label, hotkey=key)

        def press(event: viser.CommandEvent) -> None:
            here = BUTTONS.get(self.state, ())
            self.press(next((ask for ask in asks if ask in here), ""))

        command.on_trigger(press)
        return command

    def press(self, button: str) -> None:
        """Put the command of a button, unless the run's state has changed meanwhile."""
        if button in BUTTONS.get(self.state, ()):
            self.put(ASKS[button])

    def follow(self, state: str) -> None:
        """Show the buttons of a state."""
        if state == self.state:
            return
        self.state = state
        over = state not in BUTTONS
        self.group.visible = not over
        if not over:
            self.group.options = BUTTONS[state]
        for command in (*self.commands, self.save):
            command.disabled = over
