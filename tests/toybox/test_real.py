"""The split of the real objects holds, and packs say what they are."""

from pathlib import Path

import numpy as np
import pytest
from packs import small_pack

from splatdistill.errors import UserError
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES
from splatdistill.toybox.pack import PackedWorld
from splatdistill.toybox.real import RealCaption, sample_object, shown, truth
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.rooms import Paint, RoomCaption, sample_room


def words(prompt: str) -> tuple[str, str]:
    """Return colour and kind of an acceptance prompt."""
    colour, kind = prompt.removeprefix("a ").removeprefix("an ").split(" ", 1)
    return colour, kind


def test_the_split_is_whole() -> None:
    assert len(SPLIT.truth) == 24 and len(SPLIT.rooms) == 12 and len(set(SPLIT.truth.values())) == 24
    for prompt, thing in SPLIT.truth.items():
        colour, kind = words(prompt)
        assert colour in SPLIT.colours_not_seen[kind], f"{prompt} is shown in training"
        assert str(RealCaption(kind, colour)) == prompt
        assert thing.startswith("BlendSwap-CC-0-") and thing not in SPLIT.instances_not_seen
    assert set(SPLIT.colours_not_seen) == {kind for kind, takes in SPLIT.kinds.items() if takes}
    for kind, colours in SPLIT.colours_not_seen.items():
        assert len(colours) == 2 and set(colours) < set(COLOURS), kind
    assert len(SPLIT.instances_not_seen) >= 20 and len(SPLIT.kinds) >= 150


def test_real_and_procedural_captions_are_never_the_same() -> None:
    """ "a red chair" is procedural: a real object of such a kind keeps its own colour, and is told without one."""
    assert not any(takes for kind, takes in SPLIT.kinds.items() if kind in NAMED or kind in PRIMITIVES)


def test_training_never_sees_what_is_held_out(tmp_path: Path) -> None:
    world = PackedWorld.load(small_pack(tmp_path / "small.pack"))
    seen = shown(world)
    assert [o.name for o in seen] == ["BlendSwap-CC-0-86", "BlendSwap-CC-0-97"]
    kinds = {o.kind: [o] for o in seen}
    rng = np.random.default_rng(0)
    captions = [sample_object(kinds, rng)[0] for _ in range(1500)]
    colours = {c.colour for c in captions if c.kind == "armchair"}
    assert colours == {None, *COLOURS} - set(SPLIT.colours_not_seen["armchair"])
    assert {c.colour for c in captions if c.kind == "horse"} == {None} and not any(c.held_out for c in captions)
    orange = truth(RealCaption("armchair", "orange"), world)
    assert RealCaption("armchair", "orange").held_out
    assert orange.materials[0, :3] == pytest.approx(COLOURS["orange"]) and orange.materials[1, :3] == pytest.approx(0)


def test_a_file_that_is_no_pack_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no packed world at"):
        PackedWorld.load(tmp_path / "none.pack")
    (tmp_path / "text.pack").write_text("a teapot", encoding="utf-8")
    whole = small_pack(tmp_path / "whole.pack").read_bytes()
    (tmp_path / "half.pack").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("text.pack", "half.pack", "other.npz"):
        with pytest.raises(UserError, match="is no packed world"):
            PackedWorld.load(tmp_path / name)


def test_a_pack_is_the_same_again(tmp_path: Path) -> None:
    first, second = (small_pack(tmp_path / f"{i}.pack").read_bytes() for i in range(2))
    assert first == second


def test_rooms_kept_for_acceptance_are_never_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {str(sample_room(rng, None)) for _ in range(2000)}
    assert not drawn & {p[p.index("a room") :] for p in SPLIT.rooms}
    assert RoomCaption(Paint("blue"), Paint("red")).held_out and str(RoomCaption(Paint("blue"), Paint("red"))) in SPLIT.rooms
