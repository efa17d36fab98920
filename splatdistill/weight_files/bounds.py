"""Bounds that every configuration of a network must keep, before a network is built from it."""

import math
from typing import Any

from splatdistill.weight_files.bounded_json import shown

LARGEST_NUMBER = 10**7
LONGEST_LIST, DEEPEST, LONGEST_TEXT = 64, 4, 2000
FORBIDDEN = {
    "auto_map": "code of its own, which is not run",
    "custom_pipelines": "code of its own, which is not run",
    "quantization_config": "quantised weights; expected float16, bfloat16 or float32",
}


def configuration_fault(config: dict[str, Any]) -> str:
    """Return the first thing in a configuration that no network has, in words that follow the file's name; or "".

    Attention may not be chosen by a configuration: libraries take the names of downloadable kernels there.
    """
    for key, why in FORBIDDEN.items():
        if config.get(key):
            return f"asks for {why} ({key})"
    for key, value in config.items():
        if "attn_implementation" in key and value not in (None, "sdpa", "eager"):
            return f"says {shown(key)} {shown(value)}; expected sdpa, eager or nothing"
        if fault := value_fault(value):
            return f"says {shown(key)} {fault}"
    return ""


def value_fault(value: object, depth: int = 0) -> str:
    """Return why no configuration would hold a value, or ""."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        return f"{shown(value, 24)}; expected a number of at most {LARGEST_NUMBER:,}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}; expected a finite number"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"a text of {len(value):,} characters"
    if isinstance(value, (list, dict)):
        if depth == DEEPEST:
            return "a list or object nested too deeply"
        if isinstance(value, list) and len(value) > LONGEST_LIST:
            return f"a list of {len(value):,}; expected at most {LONGEST_LIST}"
        inside = value.values() if isinstance(value, dict) else value
        return next((fault for v in inside if (fault := value_fault(v, depth + 1))), "")
    return ""
