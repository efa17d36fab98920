"""Record what every method in every form does, a few steps each, as numbers, and compare it after a change of the code.

    python scripts/record_runs.py runs.json                    # before
    python scripts/record_runs.py runs.json --against          # after: names what differs, and exits with 1

Recorded for each method and variant on the embedded prior with its own recipe: the settings that the recipe gives,
the loss of the regularisers, the size of the guidance's gradient and the mean time at each step, how many images the networks
were asked about, and a digest of the splats' rows after the last step. Numbers agree bit for bit on one machine with
one thread; on another they need not.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

import splatdistill
from splatdistill.guidance import GUIDANCES

PROMPT = "a red mushroom"


def variants(kind: type) -> list[str | None]:
    """Return the forms of a method: of its paper, of its authors' code; None for a method that has one form."""
    from typing import get_args, get_type_hints

    hint = get_type_hints(kind).get("variant")
    return list(get_args(hint)) if hint else [None]


def plain(value: Any) -> Any:
    """Return a settings value as JSON holds it."""
    if dataclasses.is_dataclass(value):
        return {"class": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def rows(g: Any) -> str:
    """Return a digest of splats, parameter by parameter."""
    digest = hashlib.sha256()
    for f in dataclasses.fields(g):
        value = getattr(g, f.name)
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def record(name: str, kind: type, variant: str | None, steps: int) -> dict[str, Any]:
    """Return a few steps of one method as numbers."""
    guidance = name if variant in (None, "paper") else kind(variant=variant)
    session = splatdistill.session(prompt=PROMPT, guidance=guidance, prior="tiny", device="cpu")
    before = session.prior.calls
    done = [session.step() for _ in range(steps)]
    return {
        "settings": plain(session.config),
        "loss": [d.loss for d in done],
        "grad_norm": [d.grad_norm for d in done],
        "t": [d.t for d in done],
        "calls": session.prior.calls - before,
        "rows": rows(session.gaussians()),
    }


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Return the path of every leaf that is not equal."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [d for k in before | after for d in differences(before.get(k, "nothing"), after.get(k, "nothing"), f"{where}.{k}")]
    return [] if before == after else [f"{where.removeprefix('.')}: {before} -> {after}"]


def main() -> int:
    """Record, or compare with what was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", action="store_true", help="compare with the file instead of writing it")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=[], help="methods; all if not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, kind in GUIDANCES.items():
        if options.only and name not in options.only:
            continue
        for variant in variants(kind):
            began, key = time.perf_counter(), name if variant is None else f"{name}/{variant}"
            found[key] = json.loads(json.dumps(record(name, kind, variant, options.steps)))
            print(f"{key:24} {time.perf_counter() - began:5.1f} s  {found[key]['calls']:5} images  {found[key]['rows'][:12]}", flush=True)
    if not options.against:
        options.file.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return 0
    before = json.loads(options.file.read_text(encoding="utf-8"))
    told = [d for k in found for d in differences(before.get(k, "nothing"), found[k], k)]
    print("\n".join(told) or "nothing differs")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
