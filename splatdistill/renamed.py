"""Settings that once had other names, so that an older run's config.yaml and log.jsonl still say what they said."""

from typing import Any

RENAMED = {
    "guidance.times.low": "guidance.times.t_min",
    "guidance.times.high": "guidance.times.t_max",
    "guidance.times.low_end": "guidance.times.t_min_end",
    "guidance.times.high_end": "guidance.times.t_max_end",
    "guidance.around": "guidance.base_residual",
    "rates.steps": "rates.tuned_for_steps",
    "views": "directions",
    "views.front": "directions.front_angle",
    "views.back": "directions.back_angle",
    "views.overhead": "directions.overhead_angle",
    "views.directions": "directions.left_right",
}
"""Dotted path, as it was and as it is."""

GONE = {"guidance.rescale": ("csd", "nfsd")}
"""Dotted path of an option that some classes no longer have, and their names; it never meant anything to them."""


LISTS = ("lora", "lora_scale")
"""Options that now take several values; one that once had a single value, or none, has a list of it."""


def path_now(path: str) -> str:
    """Return a dotted path under today's names."""
    return RENAMED.get(path, path)


def tree_now(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options under today's names; one that is given under both keeps today's."""
    now: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if tree.get("name") in GONE.get(path, ()):
            continue
        name = key if path_now(path) == path else path_now(path).rpartition(".")[2]
        if name == key or name not in tree:
            if path in LISTS and not isinstance(value, list):
                value = [] if value is None else [value]
            now[name] = tree_now(value, f"{path}.") if isinstance(value, dict) else value
    return now
