"""scripts/train_models.py rehearsed: it trains at a toy width, is killed, and goes on."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from packs import SCRIPTS, script, small_pack
from safetensors.torch import load_file

from splatdistill.priors import weights
from splatdistill.toybox import Caption
from splatdistill.toybox.real import RealCaption

SHAPE = json.dumps({"size": 32, "channels": [16, 32], "text": 16, "layers": 1, "heads": 2, "groups": 8})


def arguments(out: Path, pack: Path, minutes: float, *more: str) -> list[str]:
    """Return the arguments of a run at a toy width."""
    told = ["--minutes", str(minutes), "--out", str(out), "--pack", str(pack), "--batch", "10", "--fill", "8", "--pool", "16", "--sheet-steps", "1"]
    return [*told, "--shape", SHAPE, "--device", "cpu", *more]


def step(out: Path) -> int:
    """Return the step that a run's folder has reached."""
    return json.loads((out / "training.json").read_text(encoding="utf-8"))["progress"]["step"]


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_it_is_killed_and_goes_on(tmp_path: Path, workers: str) -> None:
    pack, out = small_pack(tmp_path / "small.pack"), tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS.parent), str(SCRIPTS)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / "train_models.py"), *arguments(out, pack, 60, "--saved", "0.5", "--workers", workers)]
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    end = time.monotonic() + 120
    while not (out / "training.json").exists() and run.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
    reached = step(out) if (out / "training.json").exists() else 0
    os.killpg(run.pid, signal.SIGKILL)
    told = run.communicate()[1].decode()
    assert reached > 0, told
    reached = step(out)
    training = script("embedded.multiview_training")
    assert training.main(arguments(out, pack, 0.02)) == 0
    assert not hasattr(ctypes.CDLL(None), "malloc_trim") or "give-back-memory" in {t.name for t in threading.enumerate()}
    after = json.loads((out / "training.json").read_text(encoding="utf-8"))["progress"]
    assert after["step"] > reached and len(after["parts"]) == 2 and after["pictures"] > after["step"]
    assert (out / "state" / "full.safetensors").exists() and (out / "samples.png").exists()
    files = [p for p in out.iterdir() if p.is_file()]
    assert len(files) <= 8 and not [p for p in files if p.name.startswith("new-")]


def test_the_average_alone_is_enough_to_go_on(tmp_path: Path) -> None:
    training = script("embedded.multiview_training")
    pack, first, second = small_pack(tmp_path / "small.pack"), tmp_path / "first", tmp_path / "second"
    assert training.main(arguments(first, pack, 0.02, "--state", "none")) == 0
    assert not (first / "state").exists() and not (first / "tokenizer").exists()
    second.mkdir()
    for name in ("training.json", *(p.name for p in first.glob("average-*.safetensors"))):
        (second / name).write_bytes((first / name).read_bytes())
    shape = training.Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(SHAPE).items()})
    trainer = training.Trainer(second, None, torch.device("cpu"), training.Pace(1, 8, 1e-3), shape)
    kept = {k: v.float() for p in first.glob("average-*.safetensors") for k, v in load_file(p).items()}
    assert trainer.progress.step == step(first) > 0 and trainer.warmed == 0
    assert all(torch.equal(p, kept[k]) for k, p in trainer.parameters.items())
    assert trainer.rate() <= 1e-3 / trainer.pace.warm * 1.01  # warmed up again
    with pytest.raises(SystemExit, match="another network"):
        training.Trainer(second, None, torch.device("cpu"), training.Pace(1, 8, 1e-3), training.Shape(32, (16, 32, 32), 16, 1, 2, 8))


def test_an_average_that_was_kept_is_gone_on_from(tmp_path: Path) -> None:
    """In 8 bits, to half a step of each row's scale, with the steps that led to it; the answer is all but the same."""
    training, export = script("embedded.multiview_training"), script("embedded.multiview_export")
    pack, out, made = small_pack(tmp_path / "small.pack"), tmp_path / "out", tmp_path / "made"
    assert training.main(arguments(out, pack, 0.02, "--state", "none")) == 0
    assert export.main([str(out), str(made)]) == 0
    kept = made / export.WEIGHTS
    shape = training.Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(SHAPE).items()})
    trainer = training.Trainer(tmp_path / "second", None, torch.device("cpu"), training.Pace(1, 8, 1e-3), shape, kept)
    assert trainer.progress.step == step(out) > 0
    exact = {k: v.float() for p in out.glob("average-*.safetensors") for k, v in load_file(p).items()}
    for name, value in trainer.parameters.items():
        scale = exact[name].flatten(1).abs().amax(1) / 127 if value.ndim > 1 else torch.zeros(())
        error = (value.detach() - exact[name]).abs()
        assert (error <= 0.501 * scale.view(-1, *[1] * (value.ndim - 1)) + 1e-7).all(), name
    assert kept.stat().st_size < 0.75 * sum(p.stat().st_size for p in out.glob("average-*.safetensors"))


def test_pieces_are_small_and_whole() -> None:
    training = script("embedded.multiview_training")
    tensors = {f"w{i}": torch.full((1000, 300 + i), float(i), dtype=torch.float16) for i in range(40)}
    pieces = training.average.in_pieces(tensors, 2_000_000)
    assert len(pieces) > 5 and {k for p in pieces for k in p} == set(tensors)
    assert all(sum(v.numel() * 2 for v in p.values()) <= 2_000_000 for p in pieces)


def test_batches_are_what_they_say(tmp_path: Path) -> None:
    """Sets share a caption and a background, all of a set have cameras or none; the prompt of a set has none; single pictures have
    words of their view.
    """
    sets = script("embedded.sets")
    pool = sets.Pool(40, 32, torch.device("cpu"))
    supply = sets.Supply(pool, small_pack(tmp_path / "small.pack"), 32, 0, 0)
    supply.take(10, wait=True)
    assert pool.filled == 40 and 10 < len(pool.rings) < 40
    prompted = pool.sets(4, [4, 0, 1, 2, 3], True)
    camera = prompted.camera.view(4, 5, 16)
    told = camera[:, 1:, 15]
    assert (camera[:, 0] == 0).all() and ((told == 1).all(1) | (camera[:, 1:] == 0).all((1, 2))).all() and prompted.prompted and prompted.views == 5
    assert 0.8 < pool.sets(200, [0, 1, 2, 3], False).camera.view(200, 4, 16)[:, 0, 15].mean() < 0.97
    height = camera[:, 1:, 11]  # of the camera's place: the four stand at one height
    assert torch.allclose(height, height[:, :1].expand(4, 4), atol=1e-5)
    assert (prompted.picture[:, :, 0, 0].view(4, 5, 3).std(1) < 0.05).sum() >= 9  # corners: one background, but for rooms
    single = pool.singles(200)
    assert single.picture.shape == (200, 3, 32, 32) and sum(t.endswith(" view") for t in single.texts) > 120
    kept = (single.camera[:, 15] == 1).float().mean()
    assert 0.1 < kept < 0.4 and 5 < sum(t == "" for t in single.texts) < 45
    assert {t for t in single.texts if "armchair" in t and "armchair in" not in t}, single.texts


def test_the_loss_leaves_prompts_out(tmp_path: Path) -> None:
    """With one clean picture before four, only the four are asked for."""
    multiview = script("embedded.multiview")

    class Perfect(torch.nn.Module):
        """Answers the clean latents that it was given to know, those of the prompts wrongly."""

        def __init__(self, clean: torch.Tensor):
            super().__init__()
            self.clean, self.steps = clean, torch.zeros(0)

        def ids(self, texts: list[str]) -> torch.Tensor:
            return torch.zeros(len(texts), 1, dtype=torch.long)

        def forward(self, x_t: torch.Tensor, step: torch.Tensor, *_: object) -> torch.Tensor:
            self.steps = step
            first = torch.arange(len(step)) % 5 == 0
            assert torch.equal(x_t[first], self.clean[first])
            return self.clean + 9.0 * first.view(-1, 1, 1, 1)

    picture = torch.rand(10, 3, 16, 16)
    model = Perfect(multiview.CODEC.encode(2 * picture - 1))
    batch = multiview.Batch(picture, [""] * 10, torch.zeros(10, 16), 5, True)
    value = multiview.loss(model, batch, torch.Generator().manual_seed(0))
    assert value < 1e-3
    steps = model.steps.view(2, 5)
    assert (steps[:, 0] == 0).all() and (steps[:, 1:] == steps[:, 1:2]).all() and steps[0, 1] != steps[1, 1]


def test_it_begins_as_the_prior_of_half_as_large_pictures(tmp_path: Path) -> None:
    """On the coarse channels the answer is minus the shipped prior's v of the halved picture; on the details it is nothing."""
    multiview, tiny = script("embedded.multiview"), weights.load("tiny", precision="float32")
    model = multiview.WorldModel(tmp_path, multiview.Shape()).eval()
    model.begin_as(weights.TINY)
    texts = ["a red mushroom, front view", "a blue robot"]
    x = multiview.CODEC.encode(2 * torch.rand(2, 3, 128, 128) - 1)
    alpha, sigma = multiview.SCHEDULE.broadcast(torch.tensor([0.4, 0.8]), 3, torch.float32)
    x_t = alpha * x + sigma * torch.randn(x.shape)
    with torch.no_grad():
        tokens = model.text(input_ids=model.ids(texts)).last_hidden_state
        theirs = tiny.embed(texts).tokens
        assert theirs is not None
        torch.testing.assert_close(tokens[:, : theirs.shape[1]], theirs, atol=2e-3, rtol=1e-3)
        answer = model.unet(x_t, torch.tensor([400, 800]), theirs, class_labels=torch.zeros(2, 16), cross_attention_kwargs={"views": 1}).sample
        wanted = tiny.unet(x_t[:, :48], torch.tensor([400, 800]), theirs).sample
    torch.testing.assert_close(answer[:, :48], -wanted, atol=2e-3, rtol=1e-3)
    assert not answer[:, 48:].any()


def test_an_error_weighs_as_one_of_v_but_in_the_least_noise() -> None:
    multiview = script("embedded.multiview")

    class Off(torch.nn.Module):
        """Answers the clean latents but for the same error in every channel."""

        def ids(self, texts: list[str]) -> torch.Tensor:
            return torch.zeros(len(texts), 1, dtype=torch.long)

        def forward(self, x_t: torch.Tensor, step: torch.Tensor, *_: object) -> torch.Tensor:
            self.step = step
            return clean + 0.01

    picture = torch.rand(40, 3, 16, 16)
    clean, model = multiview.CODEC.encode(2 * picture - 1), Off()
    value = multiview.loss(model, multiview.Batch(picture, [""] * 40, torch.zeros(40, 16)), torch.Generator().manual_seed(0))
    variance = multiview.SCHEDULE.broadcast(model.step.double() / 1000, 1, torch.float64)[1].square().clamp(min=multiview.LEAST)
    torch.testing.assert_close(value, (1e-4 * 5 / 4 / variance).mean().float(), rtol=1e-3, atol=0)


def test_fewer_words_are_the_captions_own(tmp_path: Path) -> None:
    """Without the object or without the colours, never others; and fronts and backs come twice as often as other views."""
    sets = script("embedded.sets")
    rng = np.random.default_rng(0)
    for caption in (Caption("mushroom", "red"), Caption("cube", "red", "striped", "blue"), RealCaption("armchair", "red")):
        words = set(str(caption).replace("an ", "a ").split())
        said = {sets.fewer_words(caption, rng) for _ in range(20)}
        assert len(said) == 2 and all(set(s.replace("an ", "a ").split()) < words for s in said), said
    assert sets.fewer_words(RealCaption("horse"), rng) == "a horse"
    pool = sets.Pool(40, 32, torch.device("cpu"), sets.Mix(no_view_words=(0.0, 0.0), no_caption=0.0, directions=0.0))
    supply = sets.Supply(pool, small_pack(tmp_path / "small.pack"), 32, 0, 0)
    supply.take(10, wait=True)
    texts = pool.singles(4000).texts
    told = [w for s in pool.told for w in s.words]
    share = sum(w in ("front", "back") for w in told) / len(told)
    drawn = sum(t.endswith(("front view", "back view")) for t in texts) / len(texts)
    assert abs(drawn - 2 * share / (1 + share)) < 0.04
