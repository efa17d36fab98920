"""The twelve colours of the toybox."""

from splatdistill.toybox.parts import Colour

COLOURS: dict[str, Colour] = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.12, 0.25, 0.86),
    "yellow": (0.96, 0.84, 0.10),
    "orange": (0.98, 0.50, 0.08),
    "purple": (0.52, 0.14, 0.72),
    "white": (0.95, 0.95, 0.95),
    "black": (0.10, 0.10, 0.11),
    "pink": (0.98, 0.50, 0.70),
    "cyan": (0.12, 0.78, 0.82),
    "brown": (0.45, 0.26, 0.12),
    "gray": (0.50, 0.50, 0.52),
}
WHITE, BLACK, RED, CYAN = (COLOURS[k] for k in ("white", "black", "red", "cyan"))
ORANGE, YELLOW, BROWN, GRAY = (COLOURS[k] for k in ("orange", "yellow", "brown", "gray"))


def besides(name: str, wanted: str, otherwise: str) -> Colour:
    """Return a detail's colour that contrasts with the body's."""
    return COLOURS[otherwise if name == wanted else wanted]
