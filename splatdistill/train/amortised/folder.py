"""Folder of an amortised training: what it leaves, and a trained generator read from it.

    runs/corpus/  config.yaml  corpus.txt  log.jsonl  checkpoints/step-000500/  previews/  generator.safetensors  generator.json  sheet.png
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from splatdistill import __version__
from splatdistill.errors import UserError
from splatdistill.io.atomic import reason, write_bytes, write_text
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.scene.generator import TRUNKS, Network, Trunk
from splatdistill.train.amortised.corpus import sample
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.run import RunDir
from splatdistill.weight_files import Unreadable, read_object

WEIGHTS, NOTE, CORPUS, SHEET = "generator.safetensors", "generator.json", "corpus.txt", "sheet.png"
PREVIEWED = 8  # prompts on a sheet
ANGLES = [30.0, 120.0, 210.0, 300.0]


def name_of(trunk: Trunk) -> str | None:
    """Return the name that a kind of network is asked for by; None for one of one's own."""
    return next((name for name, kind in TRUNKS.items() if kind is type(trunk)), None)


def write_corpus(folder: RunDir, corpus: Sequence[str]) -> None:
    """Write the prompts, one a line."""
    write_text(folder.path / CORPUS, "".join(f"{p}\n" for p in corpus))


def read_prompts(folder: Path) -> list[str]:
    """Return the prompts that a generator was trained on; UserError where they are not there."""
    try:
        return (folder / CORPUS).read_bytes().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{folder / CORPUS} cannot be read: {reason(e)}; expected a folder that `splatdistill amortise` has made") from e


def write_generator(session: AmortisedSession, folder: RunDir) -> Path:
    """Write the average of the weights, and what it takes to load them; return the path of the weights."""
    config, prior = session.config, session.prior
    weights = {k: v.detach().cpu().contiguous() for k, v in session.average.state_dict().items()}
    write_bytes(folder.path / WEIGHTS, save(weights))
    note = {
        "version": __version__,
        "generator": name_of(config.generator),
        "options": asdict(config.generator),
        "width": session.average.width,
        "prior": config.prior,
        "prior_name": prior.name,
        "licence": prior.licence,
        "guidance": type(config.guidance).__name__,
        "prompts": len(session.corpus),
        "steps": session.steps,
    }
    write_text(folder.path / NOTE, json.dumps(note, indent=1) + "\n")
    return folder.path / WEIGHTS


def read_generator(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Return a trained network on the CPU, and its note. UserError for a folder that holds none, or a damaged one."""
    if not (folder / NOTE).is_file():
        raise UserError(f"{folder} holds no generator: there is no {NOTE}; expected a folder that `splatdistill amortise` has made")
    try:
        note = read_object(folder / NOTE)
        kind, options = TRUNKS[str(note["generator"])], note["options"]
        known = {f.name for f in fields(kind)}
        if not isinstance(options, dict) or options.keys() - known:
            raise ValueError(f"{NOTE} has options that {kind.__name__} does not")
        trunk = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
        width = note["width"]
        if type(width) is not int or not 1 <= width <= 65536 or not isinstance(note.get("prior"), str):
            raise ValueError(f"{NOTE} says width {width!r} and prior {note.get('prior')!r}")
        network = trunk.network(width)
        weights = load_file(folder / WEIGHTS)
        for name, value in network.state_dict().items():
            if name not in weights or weights[name].shape != value.shape or not bool(weights[name].isfinite().all()):
                raise ValueError(f"{WEIGHTS} does not hold {name} as {kind.__name__} has it")
        network.load_state_dict(weights)
    except UserError:
        raise
    except KeyError as e:
        raise UserError(f"{folder / NOTE} names no generator that is known: {e}; expected one of {', '.join(TRUNKS)}") from e
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, Unreadable) as e:
        raise UserError(f"{folder} holds no whole generator: {reason(e)[:300]}") from e
    return network.eval().requires_grad_(False), note


def sheet(session: AmortisedSession, path: Path) -> None:
    """Write pictures of prompts spread over the corpus, from four sides."""
    around = session.config.cameras.around(ANGLES, 15.0, 96)
    chosen, rows, labels = sample(session.corpus, PREVIEWED), [], []
    for prompt in chosen:
        white = around.world_to_camera.new_ones(len(around), 3).to(session.prior.device)
        out = session.rasterizer(session.generate(prompt), around.to(session.prior.device), white)
        rows.append(out.rgb.detach().clamp(0, 1).cpu())
        labels += [prompt, "", "", ""]
    write_png(path, contact_sheet(torch.cat(rows), 8, labels))
