"""Ways to harm a run's folder, for fuzz_runs.py: one file is damaged, cut, forged or gone."""

import copy
import hashlib
import json
import random
import struct
from typing import Any

import torch
from safetensors.torch import load, save

from splatdistill.train.notes import NOTE, TENSORS, digest

STEPS = (2, 4)  # of the checkpoints
ODD: tuple[Any, ...] = (None, [], {}, [[]], -1, True, 1.5, float("nan"), float("inf"), 10**400, "", "x", "\ud800", {"name": []}, [1, 2, 3])
Files = dict[str, bytes]  # of a run, by their paths in it


def flip(data: bytes, rng: random.Random) -> bytes:
    """Return the data with one bit flipped."""
    changed = bytearray(data)
    at = rng.randrange(8 * len(data))
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Return the data with its end missing, or with something appended."""
    return data[: rng.randrange(len(data))] if rng.random() < 0.8 else data + rng.randbytes(rng.randrange(1, 40))


def overwritten(data: bytes, rng: random.Random) -> bytes:
    """Return the data with a stretch of zeros or noise."""
    start, size = rng.randrange(len(data)), rng.randrange(1, 200)
    filling = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
    return (data[:start] + filling + data[start + size :])[: len(data)]


def mutated(plain: Any, rng: random.Random) -> Any:
    """Return plain data with one value changed, removed, or added."""
    plain = copy.deepcopy(plain)
    part: Any = plain
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        if not keys:
            return plain
        key = rng.choice(keys)
        if isinstance(part[key], dict | list) and part[key] and rng.random() < 0.8:
            part = part[key]
            continue
        match rng.randrange(4):
            case 0 if isinstance(part, dict):
                del part[key]
            case 1 if isinstance(part, dict):
                part[rng.choice(["x", "digest", "name", "step", "\x00", "é" * 50])] = rng.choice(ODD)
            case _:
                part[key] = rng.choice(ODD)
        return plain


def note(data: bytes, rng: random.Random, agree: bool) -> bytes:
    """Return a changed note; agree: with its own digest made to match."""
    said = mutated(json.loads(data), rng)
    if agree and isinstance(said, dict):
        said.pop("digest", None)
        said["digest"] = digest(said)
    return json.dumps(said).encode()


def header(data: bytes, rng: random.Random) -> bytes:
    """Return a tensors' file with another header, or another length of it."""
    size = struct.unpack("<Q", data[:8])[0]
    if rng.random() < 0.2:
        return struct.pack("<Q", rng.choice([0, 1, size - 1, size + 1, 2**31, 2**63, len(data)])) + data[8:]
    said = json.loads(data[8 : 8 + size])
    text = json.dumps(mutated(said, rng)).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def tensors(data: bytes, rng: random.Random) -> bytes:
    """Return tensors missing, renamed, too many, of other shapes or types, or not finite."""
    held = load(data)
    name = rng.choice(sorted(held))
    value = held[name]
    match rng.randrange(7):
        case 0:
            del held[name]
        case 1:
            held[rng.choice(["x", name + "x", "particle-2." + name, "memory.x", ""])] = held.pop(name)
        case 2:
            held[rng.choice(["x", "scene.x", "particle-9.x", "adam.means.x", "background.adam.step", "rng.x"])] = torch.zeros(rng.randrange(3))
        case 3:
            held[name] = value.flatten()[: rng.randrange(value.numel())] if value.numel() else torch.zeros(2)
        case 4:
            held[name] = value[None] if rng.random() < 0.5 else torch.cat([value.reshape(-1), value.reshape(-1)[:1], torch.zeros(1).to(value)])
        case 5:
            held[name] = value.to(rng.choice([t for t in (torch.float64, torch.float16, torch.int64, torch.bool, torch.int8) if t != value.dtype]))
        case _:
            name = rng.choice([n for n in sorted(held) if n.startswith("scene.") and held[n].numel()])
            held[name] = held[name].clone()
            held[name].view(-1)[rng.randrange(held[name].numel())] = rng.choice([float("nan"), float("inf"), float("-inf")])
    return save({k: v.contiguous() for k, v in held.items()})


def agreeing(files: Files, place: str) -> None:
    """Make a note's digests match the tensors beside it."""
    said = json.loads(files[f"{place}/{NOTE}"])
    if "digest" in said:
        del said["digest"]
        said["tensors"] = hashlib.sha256(files[f"{place}/{TENSORS}"]).hexdigest()
        files[f"{place}/{NOTE}"] = json.dumps(said | {"digest": digest(said)}).encode()


def harm(files: Files, rng: random.Random, old: bool) -> tuple[str, bool]:
    """Damage one checkpoint; return a description, and whether digests were made to match."""
    place = f"checkpoints/step-{STEPS[-1]:06d}"
    one, other = f"{place}/{TENSORS}", f"{place}/{NOTE}"
    kinds = ["tensors", "header", "note forged", "cut", "note cut", "gone", "leftovers"]
    # what an older version wrote has nothing that could tell these
    kinds += [] if old else ["flip", "note flip", "overwritten", "note", "swapped", "note overwritten"]
    kind, forged = rng.choice(kinds), False
    match kind:
        case "flip":
            files[one] = flip(files[one], rng)
        case "overwritten":
            files[one] = overwritten(files[one], rng)
        case "cut":
            files[one] = cut(files[one], rng)
        case "note flip":
            files[other] = flip(files[other], rng)
        case "note overwritten":
            files[other] = overwritten(files[other], rng)
        case "note cut":
            files[other] = cut(files[other], rng)
        case "note":
            files[other] = note(files[other], rng, agree=False)
        case "note forged":
            files[other], forged = note(files[other], rng, agree=not old), True
        case "tensors":
            files[one] = tensors(files[one], rng)
            agreeing(files, place)
        case "header":
            files[one] = header(files[one], rng)
            if rng.random() < 0.5:
                agreeing(files, place)
        case "swapped":
            files[one] = files[f"checkpoints/step-{STEPS[0]:06d}/{TENSORS}"]
        case "gone":
            del files[rng.choice([one, other])]
        case "leftovers":
            name = rng.choice([".new", ".old", "x", "-", ".new.old", "٣"])
            files[f"{place}{name}/{NOTE}"] = rng.choice([b"", b"{}", files[other]])
            files[f"checkpoints/step-x/{NOTE}"] = files[other]
    return kind, forged


def harm_log(files: Files, rng: random.Random) -> str:
    """Damage the log; return a description."""
    lines = files["log.jsonl"].split(b"\n")
    at, kind = rng.randrange(len(lines) - 1), rng.choice(["flip", "cut", "joined", "gone", "twice", "value", "inserted", "swapped", "noise"])
    match kind:
        case "flip":
            files["log.jsonl"] = flip(files["log.jsonl"], rng)
            return kind
        case "cut":
            files["log.jsonl"] = cut(files["log.jsonl"], rng)
            return kind
        case "noise":
            files["log.jsonl"] = overwritten(files["log.jsonl"], rng)
            return kind
        case "joined":
            lines[at : at + 2] = [lines[at][: rng.randrange(len(lines[at]) + 1)] + lines[at + 1]]
        case "gone":
            del lines[at]
        case "twice":
            lines.insert(at, lines[rng.randrange(len(lines))])
        case "swapped":
            lines[at], lines[0] = lines[0], lines[at]
        case "value":
            lines[at] = json.dumps(mutated(json.loads(lines[at]), rng)).encode()
        case "inserted":
            odd = [b"{}", b"[]", b"null", b"7", b"\xff\xfe", b"\0", b"[" * 5000, b'{"event":"Applied","step":1,"command":{"name":"Erase"}}', b'{"event":"Danced"}', b"\r", b'{"event":"Resumed","step":1e400}']
            lines.insert(at, rng.choice(odd))
    files["log.jsonl"] = b"\n".join(lines)
    return kind
