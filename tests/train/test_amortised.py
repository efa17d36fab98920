"""Amortised training: visits, every guidance, resuming to the bit, and what a folder gives back."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from splatdistill.cameras import Orbit
from splatdistill.errors import RunEnded, UserError
from splatdistill.guidance import GUIDANCES, SDS, Times
from splatdistill.priors.kept_texts import KeptTexts
from splatdistill.priors.weights import load
from splatdistill.scene.generator import TRUNKS, Conv, Hyper, Triplane
from splatdistill.scene.generator.saved import Generator, read_generator
from splatdistill.toybox import HELD_OUT
from splatdistill.toybox.split import ACCEPTANCE, NEW, corpus
from splatdistill.train.amortised import session as module
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.amortised.corpus import VisitOrder, read_corpus, sample
from splatdistill.train.amortised.folder import write_generator
from splatdistill.train.amortised.loop import resume, run
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.commands import Commands, Stop
from splatdistill.train.config import Background
from splatdistill.train.run import RunDir
from train.small import red_and_blue

DISCS = ("a red disc", "a blue disc")
TRUNK = {
    "hyper": Hyper(count=60, grids=(4, 8), features=3, hidden=8, bottleneck=8, radius=0.7, opacity=0.3, scale=0.15),
    "conv": Conv(channels=(8, 6), style=8, radius=0.7, opacity=0.3, scale=0.15),
    "triplane": Triplane(count=60, side=3, width=16, layers=1, heads=2, features=4, radius=0.7, opacity=0.3, scale=0.15),
}


def config(**changes) -> Amortise:
    settings = {
        "steps": 6, "prompts": 2, "generator": TRUNK["hyper"], "cameras": Orbit(), "background": Background("white"), "warm_up": 1,
        "guidance": SDS(scale=1.0, times=Times(t_min=0.02, t_max=0.7)), "view_dependent": False, "checkpoint_every": 3, "preview_every": 4,
    }  # fmt: skip
    return Amortise(**{**settings, **changes})


def session(**changes) -> AmortisedSession:
    return AmortisedSession(config(**changes), red_and_blue(purity=0.99), DISCS)


def test_every_prompt_is_visited_equally_often():
    for world in (1, 2, 3):
        orders = [VisitOrder(10, 5, world, rank) for rank in range(world)]
        seen = [k for step in range(10) for order in orders for k in order.at(step, 2)]
        assert sorted(seen) == sorted(list(range(10)) * 2 * world), "20 visits of each process are so many rounds"
    first, again = VisitOrder(10, 5), VisitOrder(10, 5)
    assert [first.at(s, 3) for s in range(9)] == [again.at(s, 3) for s in range(9)]
    assert again.at(4, 3) == first.at(4, 3), "from the step alone"
    assert VisitOrder(10, 6).at(0, 10) != first.at(0, 10) and first.at(0, 10) != first.at(1, 10)


def test_two_prompts_become_two_colours():
    s = session(steps=40, rate=2e-2, batch=2, guidance_weight=0.05)
    for _ in range(40):
        assert s.step().taken
    red, blue = (s.generate(p) for p in DISCS)
    tint = lambda g: float((g.rgb[:, 0] - g.rgb[:, 2]).mean())  # noqa: E731
    assert tint(red) - tint(blue) > 0.15, (tint(red), tint(blue))


def test_a_long_corpus_is_whitened_by_a_sample_of_it(monkeypatch):
    """Mean and deviation come from prompts spread over the corpus, read some at a time."""
    read_at_once = []
    monkeypatch.setattr(module, "WHITENED", 5)
    monkeypatch.setattr(module, "TOGETHER", 2)
    prior = load("tiny")
    inner = prior.read
    monkeypatch.setattr(prior, "_texts", KeptTexts(lambda prompts: (read_at_once.append(len(prompts)), inner(prompts))[1]))
    words = tuple(f"a {c} {k}" for c in ("red", "blue", "green") for k in ("ball", "cube", "cone"))
    s = AmortisedSession(config(prompts=1), prior, words)
    assert sum(read_at_once) == 5 and max(read_at_once) == 2
    own = torch.stack([prior.embed([p]).tokens[0].mean(0) for p in (words[0], words[2], words[4], words[6], words[8])])
    torch.testing.assert_close(s.network.mean, own.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(s.network.deviation, own.std(0, correction=0).clamp(min=1e-3), atol=1e-5, rtol=1e-4)


def test_z_is_the_visit_s_own_and_kept_by_the_folder(tmp_path):
    """The same z at a visit whenever it is made; the generator that is left makes another object of each seed, always the same."""
    changes = {"generator": replace(TRUNK["hyper"], z=4), "steps": 8}
    s, again = session(**changes), session(**changes)
    for _ in range(3):
        s.step(), again.step()
    assert all(torch.equal(a, b) for a, b in zip(s.network.parameters(), again.network.parameters(), strict=True))
    write_generator(s, folder := RunDir.create("z", tmp_path / "z"))
    network, _ = read_generator(folder.path)
    generator = Generator(network, s.prior, DISCS)
    first, second = (generator(DISCS[0], seed=k).means for k in (1, 2))
    assert torch.equal(generator(DISCS[0], seed=1).means, first) and not torch.equal(first, second)
    assert torch.equal(generator(DISCS[0]).means, s.generate(DISCS[0]).means)
    plain = session()
    write_generator(plain, other := RunDir.create("plain", tmp_path / "plain"))
    with pytest.raises(UserError, match="one object of a prompt"):
        Generator(read_generator(other.path)[0], plain.prior, DISCS)(DISCS[0], seed=1)


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_every_guidance_trains_a_generator(guidance, prior):
    own = GUIDANCES[guidance]()
    if guidance == "sdi":
        own = replace(own, inversion_steps=2)
    s = AmortisedSession(config(guidance=own, prompts=1, batch=2, steps=2), load(str(prior)), ("a ball", "a cube"))
    before = {k: v.clone() for k, v in s.network.state_dict().items()}
    for _ in range(2):
        assert s.step().taken
    assert any(not torch.equal(v, before[k]) for k, v in s.network.state_dict().items())


WORKER = """
import sys
from pathlib import Path
import torch
from train.test_amortised import DISCS, config
from train.small import red_and_blue
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.amortised.workers import Workers
from safetensors.torch import save_file
with Workers.here() as workers:
    session = AmortisedSession(config(prompts=1), red_and_blue(purity=0.99), DISCS, workers=workers)
    for _ in range(4):
        assert session.step().taken
    assert workers.world == 2 and workers.any(workers.rank == 1) and not workers.any(False)
    save_file(session.tensors(), sys.argv[1] + str(workers.rank))
assert not torch.distributed.is_initialized()
for threads in Path("/proc/self").glob("task"):  # nothing of the group is left that C++ would find at the exit
    assert len(list(threads.iterdir())) == 1
"""


def test_two_processes_are_one_with_twice_the_prompts(tmp_path):
    """The same weights in both, and those of one process to float error; what each draws depends on the visit alone."""
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(map(str, (root, root / "tests", root / "viewer")))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    shared = {**os.environ, "PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = [sys.executable, str(tmp_path / "worker.py"), str(tmp_path / "rank")]
    both = [subprocess.Popen(command, env={**shared, "RANK": r, "LOCAL_RANK": r}, stderr=subprocess.PIPE) for r in "01"]
    for process in both:
        said = process.communicate(timeout=240)[1].decode()
        assert process.returncode == 0, said
    alone = session(prompts=2)
    for _ in range(4):
        alone.step()
    first, second = (load_file(tmp_path / f"rank{r}") for r in "01")
    for name, value in alone.tensors().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=2e-5, msg=name)


def test_inner_steps_ask_the_prior_once():
    one, three = session(), session(inner=3)
    for s in (one, three):
        s.step()
    assert three.prior.calls == one.prior.calls
    assert float(next(iter(three.optimizer.state.values()))["step"]) == 3
    with pytest.raises(UserError, match="needs a guidance with a target"):
        config(inner=2, guidance=GUIDANCES["csd"]())


@pytest.mark.parametrize("name", TRUNKS)
def test_a_resumed_training_is_the_same_to_the_bit(name, tmp_path):
    whole = session(generator=TRUNK[name])
    run(whole, RunDir.create("whole", tmp_path / "whole"))
    commands, parted = Commands(), session(generator=TRUNK[name])
    folder = RunDir.create("parted", tmp_path / "parted")

    def stop(step: int) -> None:
        if step == 4:
            commands.put(Stop())

    assert run(parted, folder, stop, commands) == "stopped" and parted.steps == 4
    again = session(generator=TRUNK[name])
    assert resume(again, folder) == 4
    assert run(again, folder) == "done"
    assert {k: v.tolist() for k, v in again.tensors().items()} == {k: v.tolist() for k, v in whole.tensors().items()}
    files = [f"{p}/generator.safetensors" for p in ("whole", "parted")]
    assert (tmp_path / files[0]).read_bytes() == (tmp_path / files[1]).read_bytes()
    log = [json.loads(line) for line in (tmp_path / "parted" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(e["step"], e.get("how")) for e in log] == [(4, "stopped"), (6, None), (6, "done")] and (tmp_path / "whole" / "previews" / "step-000004.png").is_file()


def test_a_trained_network_is_read_back_to_the_bit(tmp_path):
    s = session()
    run(s, folder := RunDir.create("x", tmp_path / "x"))
    network, note = read_generator(folder.path)
    generator = Generator(network, s.prior, DISCS)
    for prompt in DISCS:
        mine, theirs = generator(prompt), s.generate(prompt)
        assert torch.equal(mine.means, theirs.means) and torch.equal(mine.sh, theirs.sh) and torch.equal(mine.opacities, theirs.opacities)
    assert note["steps"] == 6 and note["prompts"] == 2 and note["guidance"] == "SDS"
    ends = generator.between(*DISCS, 0.0), generator.between(*DISCS, 1.0)
    assert torch.equal(ends[0].sh, generator(DISCS[0]).sh) and torch.equal(ends[1].sh, generator(DISCS[1]).sh)
    assert generator.nearest("a red disc") is None
    with pytest.raises(UserError, match="one prompt"):
        generator(DISCS)
    with pytest.raises(UserError, match="one prompt"):
        generator(" ")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"generator": "unknown"}, "names no generator"), ({"width": -1}, "width -1"), ({"width": "x"}, "width 'x'"), ({"width": 13}, "does not hold"),
        ({"options": {"nonsense": 1}}, "options that"), ({"options": {"count": -5}}, "--count"), ({"options": []}, "options"), ({"prior": 3}, "prior 3"),
    ],
)  # fmt: skip
def test_a_folder_that_says_nonsense_is_refused(change, word, tmp_path):
    s = session()
    write_generator(s, folder := RunDir.create("x", tmp_path / "x"))
    note = json.loads((folder.path / "generator.json").read_text(encoding="utf-8"))
    (folder.path / "generator.json").write_text(json.dumps(note | change), encoding="utf-8")
    with pytest.raises(UserError, match=word):
        read_generator(folder.path)


def test_damaged_weights_are_refused(tmp_path):
    write_generator(session(), folder := RunDir.create("x", tmp_path / "x"))
    weights, data = folder.path / "generator.safetensors", (folder.path / "generator.safetensors").read_bytes()
    for damaged in (b"", data[:100], data[:-4], b"\x80\x04" + data):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match="no whole generator"):
            read_generator(folder.path)
    weights.write_bytes(data[:-4] + torch.tensor([float("nan")]).numpy().tobytes())
    with pytest.raises(UserError, match="does not hold"):
        read_generator(folder.path)
    with pytest.raises(UserError, match="holds no generator"):
        read_generator(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(session(steps=3), folder := RunDir.create("x", tmp_path / "x"))
    with pytest.raises(UserError, match="no whole checkpoint"):
        resume(session(generator=TRUNK["conv"]), folder)


def test_gradients_that_are_not_finite_end_the_run(tmp_path):
    s = session()
    s.prior.offset = float("nan")
    before = {k: v.clone() for k, v in s.network.state_dict().items()}
    with pytest.raises(RunEnded, match="nan"):
        run(s, RunDir.create("x", tmp_path / "x"))
    assert all(torch.equal(v, before[k]) for k, v in s.network.state_dict().items())


def test_the_toybox_corpus_leaves_out_what_is_held_out_and_new():
    prompts = corpus()
    pairs = {pair for c in prompts for pair in c.pairs}
    assert len(prompts) == 192 and not pairs & (HELD_OUT | NEW) and len(NEW) == 48 and not NEW & HELD_OUT
    assert read_corpus("toybox") == tuple(map(str, prompts)) and not set(map(str, prompts)) & set(ACCEPTANCE)
    kinds = {c.kind for c in prompts}
    assert len(kinds) == 24 and all(sum(c.kind == k for c in prompts) == 8 for k in kinds)


def test_corpora_are_read(tmp_path: Path):
    lines = tmp_path / "a.txt"
    lines.write_text("a red  ball\n\n a blue cube \na red ball\n", encoding="utf-8")
    assert read_corpus(str(lines)) == ("a red ball", "a blue cube")
    library = tmp_path / "a.json"
    library.write_text(json.dumps({"train": ["a cat", "a dog"], "val": ["a cow"]}), encoding="utf-8")
    assert read_corpus(str(library)) == ("a cat", "a dog")
    library.write_text(json.dumps(["a cat"]), encoding="utf-8")
    assert read_corpus(str(library)) == ("a cat",)
    for text, word in (('{"val": []}', "JSON list"), ("[1]", "JSON list"), ("[", "cannot be read"), ("[]", "no prompts"), ('["' + 5000 * "a" + '"]', "5000 characters")):
        library.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=word):
            read_corpus(str(library))
    lines.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_corpus(str(lines))
    with pytest.raises(UserError, match="cannot be read"):
        read_corpus(str(tmp_path))
    assert sample(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"] and sample(["a"], 8) == ["a"]


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="shared by all prompts"):
        config(background=Background("learned"))
    with pytest.raises(UserError, match="more than the 2 of the corpus"):
        session(prompts=3)
    with pytest.raises(UserError, match="--ema"):
        config(ema=1.0)
    with pytest.raises(UserError, match="--clip"):
        config(clip=0.0)


def test_colours_beyond_white_are_clipped_where_that_is_asked_for():
    """A prior is shown the clipped picture, in the steps towards the same target too."""
    for clip in (False, True):
        s, seen = session(inner=2, clip_rgb=clip, prompts=1), []
        bright = s.rasterizer
        s.rasterizer = lambda *a, bright=bright, **more: (out := bright(*a, **more), replace(out, rgb=3 * out.rgb))[1]
        encode = s.prior.encode
        s.prior.encode = lambda rgb, rng=None, encode=encode, seen=seen: (seen.append(float(rgb.detach().max())), encode(rgb, rng))[1]
        assert s.step().taken
        assert len(seen) == 2 and all((m <= 1) == clip for m in seen), seen
