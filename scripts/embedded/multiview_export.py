"""Make a prior that the package loads of what scripts/train_models.py wrote.

    python scripts/world_export.py OUT FOLDER

FOLDER gets Stable Diffusion's diffusers layout, for --prior FOLDER, with the averaged weights in eight bits in one file,
weights.safetensors, which train_models.py --start goes on from too.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from embedded import average
from embedded.multiview import CODEC, Shape, WorldModel
from embedded.networks import write_pipeline
from splatdistill.weight_files import SharedWeights

WEIGHTS = "weights.safetensors"
PREFIXES = {"unet": "unet.", "text_encoder": "text."}


def export(out: Path, folder: Path) -> None:
    """Write the folder of a prior."""
    told = json.loads((out / "training.json").read_text(encoding="utf-8"))
    shape = Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in told["shape"].items()})
    tensors = {k: v.float() for p in sorted(out.glob("average-*.safetensors")) for k, v in load_file(p).items()}
    model = WorldModel(folder, shape)  # which writes the tokenizer
    missing, extra = model.load_state_dict(tensors, strict=False)
    if extra or any("position_ids" not in k for k in missing):
        raise SystemExit(f"{out} holds another network: {(extra + missing)[0]}")
    progress = told["progress"]
    average.write(folder / WEIGHTS, tensors, {"progress": {**progress, "log": progress["log"][::20] + progress["log"][-1:]}})
    for name, prefix in PREFIXES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        SharedWeights.write(folder / name, folder / WEIGHTS, prefix)
    model.unet.save_config(folder / "unet")
    model.text.config.save_pretrained(folder / "text_encoder")
    write_pipeline(folder, CODEC, "sample", picture_prompt=True, camera_guidance=True)
    record = {"name": folder.name, "step": progress["step"], "pictures": progress["pictures"], "parts": progress["parts"], "losses": progress["log"][::10] + progress["log"][-1:]}
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a training")
    parser.add_argument("folder", type=Path, help="folder to make")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    export(args.out, args.folder)
    return 0
