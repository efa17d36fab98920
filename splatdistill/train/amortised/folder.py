"""Folder of an amortised training, as it is written; scene.generator.saved reads it.

    runs/corpus/  config.yaml  corpus.txt  log.jsonl  checkpoints/step-000500/  previews/  generator.safetensors  generator.json  sheet.png
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from splatdistill import __version__
from splatdistill.errors import UserError
from splatdistill.io.atomic import write_bytes, write_text
from splatdistill.io.images import contact_sheet
from splatdistill.scene.generator import TRUNKS, Trunk
from splatdistill.scene.generator.saved import CORPUS, NOTE, WEIGHTS
from splatdistill.train.amortised.corpus import sample
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.notes import explained, read_note, read_tensors
from splatdistill.train.run import RunDir
from splatdistill.weight_files import Unreadable, read_object

SHEET = "sheet.png"
PREVIEWED = 8  # prompts on a sheet
ANGLES = [30.0, 120.0, 210.0, 300.0]


def name_of(trunk: Trunk) -> str | None:
    """Return the name that a kind of network is asked for by; None for one of one's own."""
    return next((name for name, kind in TRUNKS.items() if kind is type(trunk)), None)


def write_corpus(folder: RunDir, corpus: Sequence[str]) -> None:
    """Write the prompts, one a line."""
    write_text(folder.path / CORPUS, "".join(f"{p}\n" for p in corpus))


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


def finished(folder: RunDir) -> int | None:
    """Return the step of the newest checkpoint, if it is whole and the generator and the sheet were written after it; else None."""
    try:
        note = read_note(newest := folder.checkpoints()[-1])
        with explained(newest):
            read_tensors(newest, note)
        written = read_object(folder.path / NOTE).get("steps")
    except (IndexError, UserError, Unreadable):
        return None
    return note.step if written == note.step and all((folder.path / name).is_file() for name in (WEIGHTS, SHEET)) else None


def sheet(session: AmortisedSession) -> Float[Tensor, "3 sheet_h sheet_w"]:
    """Return pictures of prompts spread over the corpus, from four sides."""
    around = session.config.cameras.around(ANGLES, 15.0, 96)
    chosen, rows, labels = sample(session.corpus, PREVIEWED), [], []
    for prompt in chosen:
        white = around.world_to_camera.new_ones(len(around), 3).to(session.prior.device)
        out = session.rasterizer(session.generate(prompt), around.to(session.prior.device), white)
        rows.append(out.rgb.detach().clamp(0, 1).cpu())
        labels += [prompt, "", "", ""]
    return contact_sheet(torch.cat(rows), 8, labels)
