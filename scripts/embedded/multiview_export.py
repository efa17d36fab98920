"""Make a prior that the package loads of what scripts/train_models.py wrote.

    python scripts/world_export.py OUT DIR                  # then give --prior DIR
    python scripts/world_export.py OUT FILE.safetensors     # the average alone, which train_models.py --start goes on from

DIR gets Stable Diffusion's diffusers layout, the averaged weights in float16.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from embedded import average
from embedded.multiview import CODEC, Shape, WorldModel
from embedded.networks import write_pipeline

FILES = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}


def export(out: Path, folder: Path) -> None:
    """Write the folder of a prior."""
    told = json.loads((out / "training.json").read_text(encoding="utf-8"))
    shape = Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in told["shape"].items()})
    tensors = {k: v for p in sorted(out.glob("average-*.safetensors")) for k, v in load_file(p).items()}
    model = WorldModel(folder, shape)  # which writes the tokenizer
    missing, extra = model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    if extra or any("position_ids" not in k for k in missing):
        raise SystemExit(f"{out} holds another network: {(extra + missing)[0]}")
    for name, part in {"unet": model.unet.half(), "text_encoder": model.text.half()}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in part.state_dict().items()}, folder / name / FILES[name])
    model.unet.save_config(folder / "unet")
    model.text.config.save_pretrained(folder / "text_encoder")
    write_pipeline(folder, CODEC, "sample")
    progress = told["progress"]
    record = {"step": progress["step"], "pictures": progress["pictures"], "parts": progress["parts"], "losses": progress["log"][::10] + progress["log"][-1:]}
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def keep(out: Path, file: Path) -> None:
    """Write the average alone, see average.py."""
    progress = json.loads((out / "training.json").read_text(encoding="utf-8"))["progress"]
    told = {"progress": {**progress, "log": progress["log"][::20] + progress["log"][-1:]}}
    average.write(file, {k: v.float() for p in sorted(out.glob("average-*.safetensors")) for k, v in load_file(p).items()}, told)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a training")
    parser.add_argument("folder", type=Path, help="folder to make; a name that ends in .safetensors: the average alone, to go on from")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.folder.suffix == ".safetensors":
        keep(args.out, args.folder)
    else:
        export(args.out, args.folder)
    return 0
