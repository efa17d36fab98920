"""Hostile folders of weights, made from one that is whole by changes that know its structure, and tried.

    python scripts/fuzz_weights.py --count 10000 --loads 200 --seed 0

Each folder must be refused in words (WeightsError, printable, two lines) or be read and answer; never another error, a
hang or an abort. Every case is told by seed and number alone: --first N --count 1 repeats one.
"""

import argparse
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from splatdistill.errors import WeightsError
from splatdistill.priors import Query, networks
from splatdistill.priors.layout import half_variant, problems
from splatdistill.priors.weights import TINY, find, load

CONFIGS = (
    "model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json",
    "vae/config.json", "text_encoder/config.json",
)  # fmt: skip
TENSORS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 64, 10**6, 10**12, -(10**30), 0.5, 1e308, float("nan"), float("inf"), "", "x", "é", "\x1b[2J", "a\nb",
    "x" * 5000, [], {}, [1], [[1, 2], [3]], [[[[[[1]]]]]], list(range(100)), {"a": 1}, [None], ["x"], "../../etc/passwd", "NaN",
)  # fmt: skip
WANTS = (
    "class_embed_type", "num_class_embeds", "time_cond_proj_dim", "addition_embed_type", "encoder_hid_dim_type", "encoder_hid_dim", "auto_map",
    "quantization_config", "_attn_implementation", "shift_factor", "trained_betas", "use_flow_sigmas", "transformer_layers_per_block",
    "reverse_transformer_layers_per_block", "layers_per_block", "num_hidden_layers", "text_encoder_2", "timestep_spacing", "_class_name",
)  # fmt: skip
SECONDS = {"check": 20, "load": 60}


class Hung(BaseException):
    """Error for a folder that takes too long."""


def whole_folder(path: Path) -> None:
    """Write a random Stable Diffusion of 0.3 MB, with the embedded prior's words."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    shutil.copytree(TINY / "tokenizer", path / "tokenizer")
    shutil.copytree(TINY / "scheduler", path / "scheduler")
    words = len(json.loads((path / "tokenizer/vocab.json").read_text(encoding="utf-8")))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 20}
    ends = {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    CLIPTextModel(CLIPTextConfig(vocab_size=words, **sizes, **ends)).save_pretrained(path / "text_encoder")
    UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=4,
        attention_head_dim=4,
    ).save_pretrained(path / "unet")
    AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4).save_pretrained(path / "vae")
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), encoding="utf-8")


def held(path: Path) -> bytes:
    """Return the bytes of a file; OSError for anything that an earlier change has put in its place."""
    if not path.is_file() or path.stat().st_size > 2**24:
        raise OSError(f"{path} is no small file any more")
    return path.read_bytes()


def change_json(rng: random.Random, folder: Path) -> str:
    """Change one value of a configuration, remove it, or add a key."""
    file = rng.choice(CONFIGS)
    config = json.loads(held(folder / file))
    place, key = config, rng.choice([*config, *WANTS])
    while isinstance(place.get(key), dict) and place[key] and rng.random() < 0.5:
        place = place[key]
        key = rng.choice([*place])
    if rng.random() < 0.2:
        place.pop(key, None)
        done = "without"
    else:
        place[key] = rng.choice(NASTY)
        done = f"{place[key]!r:.40} in"
    (folder / file).write_text(json.dumps(config), encoding="utf-8")
    return f"{done} {file} {key}"


def change_bytes(rng: random.Random, folder: Path) -> str:
    """Damage a file: cut, overwrite a byte, empty, another encoding, no JSON, a pointer of git-lfs."""
    file = rng.choice([*CONFIGS, *TENSORS.values(), "tokenizer/merges.txt", "tokenizer/tokenizer.json"])
    data = held(folder / file)
    at = rng.randrange(len(data))
    ways: dict[str, bytes] = {
        "cut": data[:at],
        "flipped": data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
        "emptied": b"",
        "with a byte order mark": b"\xef\xbb\xbf" + data,
        "nested": b"[" * rng.choice([100, 200_000]),
        "not UTF-8": data[:at] + b"\xff\xfe" + data[at:],
        "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "a long number": b'{"a": ' + b"9" * 6000 + b"}",
        "longer": data + b"\0" * rng.randrange(1, 5000),
    }
    how = rng.choice([*ways])
    (folder / file).write_bytes(ways[how])
    return f"{file} {how}"


def change_header(rng: random.Random, folder: Path) -> str:
    """Change the header of a file of weights: a name, a type, a shape, offsets, its length."""
    file = folder / TENSORS[rng.choice([*TENSORS])]
    data = held(file)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    name = rng.choice([k for k in header if k != "__metadata__"])
    entry = header[name]
    how = rng.choice(["rename", "drop", "dtype", "shape", "offsets", "entry", "length", "twice"])
    match how:
        case "rename":
            header[rng.choice(["evil", "\x1b[2J", f"{name}.x", ""])] = header.pop(name)
        case "drop":
            del header[name]
        case "dtype":
            entry["dtype"] = rng.choice(["F16", "F8_E4M3", "I32", "BOOL", "Q4", 5, None])
        case "shape":
            entry["shape"] = rng.choice([[], [0], [-1], [2**62, 2], entry["shape"][::-1], [*entry["shape"], 1], "x", None, [1.5], [True]])
        case "offsets":
            entry["data_offsets"] = rng.choice([[0, 0], [0, 2**63], [-4, 4], [8, 4], [0], None, "x", [0.0, 4.0]])
        case "entry":
            header[name] = rng.choice(NASTY)
        case "twice":
            header[f"{name}.again"] = dict(entry)
    packed = json.dumps(header).encode()
    told = rng.choice([0, 1, 2**63, 2**40, length + 10**6]) if how == "length" else len(packed)
    file.write_bytes(struct.pack("<Q", told) + packed + data[8 + length :])
    return f"{file.name} {how} {name}"


def change_files(rng: random.Random, folder: Path) -> str:
    """Replace a file by something else, or add a file that points elsewhere."""
    file = rng.choice([*CONFIGS, *TENSORS.values(), "tokenizer/tokenizer.json", "tokenizer/merges.txt"])
    path, how = folder / file, rng.choice(["gone", "folder", "pipe", "loop", "dangling", "device", "index", "pointer", "pickle", "sparse"])
    part = folder / rng.choice([*TENSORS])
    if how == "index":
        names = rng.choice([{"a": rng.choice(NASTY)}, {"a": "../x.safetensors"}, {}, [], {"conv_in.weight": "gone.safetensors"}])
        (part / f"{Path(TENSORS[part.name]).name}.index.json").write_text(json.dumps({"weight_map": names}), encoding="utf-8")
        return f"{part.name} index {names!r:.40}"
    if how == "pointer":
        said = {"file": rng.choice(["/dev/zero", "..", "", 5, "a\0b", "x" * 5000]), "prefix": rng.choice(["", "a.", None])}
        (folder / TENSORS[part.name]).unlink(missing_ok=True)
        (part / "weights.json").write_text(json.dumps(said), encoding="utf-8")
        return f"{part.name} pointer {said!r:.60}"
    if how == "sparse":
        with path.open("r+b") as opened:
            opened.truncate(2**36)
        return f"{file} sparse"
    path.unlink()
    match how:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("../blobs/0123")
        case "device":
            path.symlink_to("/dev/zero")
        case "pickle":
            path.with_suffix(".bin").write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    return f"{file} {how}"


CHANGES: tuple[Callable[[random.Random, Path], str], ...] = (change_json, change_json, change_bytes, change_header, change_files)


def damage(folder: Path, seed: int, number: int) -> str:
    """Make one case of a copy of the whole folder; return what was done. Changes that no longer find their file are left out."""
    rng, done = random.Random(f"{seed}/{number}"), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        try:
            done.append(rng.choice(CHANGES)(rng, folder))
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, struct.error):
            continue  # what a change before has left there
    return "; ".join(done) or "nothing"


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise Hung after so many seconds."""

    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def checked(folder: Path) -> str:
    """Check the files and the headers of a folder: "refused" or "whole"."""
    faults = problems(folder)
    if not faults:
        dtypes = [k for k in TENSORS if k != "vae" or (folder / TENSORS["vae"]).exists()]
        faults = tuple(networks.faults(folder, {k: half_variant(folder, k, False) for k in dtypes}))
    if any(not f.isprintable() or len(f) > 700 for f in faults):
        raise ValueError(f"a fault that cannot be printed: {faults!r}")
    return "refused" if faults else "whole"


def loaded(folder: Path) -> str:
    """Load a folder and ask it: "refused" or "answered"."""
    try:
        prior = load(find(str(folder)), precision="float32")
    except WeightsError as error:
        if len(lines := str(error).splitlines()) != 2 or not all(line.isprintable() for line in lines):
            raise ValueError(f"a refusal of {len(lines)} lines: {error!r}") from error
        return "refused"
    x = torch.zeros(1, prior.unet.config.in_channels, 8, 8)  # type: ignore[attr-defined]
    prior.answer([Query(x, torch.tensor([0.5]), prior.embed(["a red ball"]))])
    return "answered"


def trial(kind: str, work: Path, whole: Path, seed: int, number: int) -> tuple[str, str]:
    """Run one case; return its outcome and the changes of the folder."""
    folder = work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    done = damage(folder, seed, number)
    try:
        with within(SECONDS[kind]):
            return {"check": checked, "load": loaded}[kind](folder), done
    except Hung:
        return "HUNG", done
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160], done


def main() -> int:
    """Try all cases; status 1 where one did not end as it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="folders whose files and headers are checked")
    parser.add_argument("--loads", type=int, default=200, help="folders that are loaded and asked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    args = parser.parse_args()
    failed, began = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        whole_folder(work / "whole")
        if checked(work / "whole") != "whole" or loaded(work / "whole") != "answered":
            print("the folder that all are made from is not whole")
            return 1
        for kind, count in (("check", args.count), ("load", args.loads)):
            ended: Counter[str] = Counter()
            for number in range(args.first, args.first + count):
                outcome, done = trial(kind, work, work / "whole", args.seed, number)
                ended[outcome if outcome in ("refused", "whole", "answered") else "FAILED"] += 1
                if outcome not in ("refused", "whole", "answered"):
                    failed += 1
                    print(f"{kind} seed {args.seed} number {number}: {outcome}   [{done}]", flush=True)
            print(f"{kind}: {count} folders, " + ", ".join(f"{n} {k}" for k, n in sorted(ended.items())), flush=True)
    print(f"{failed} failed, {time.perf_counter() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
