"""scripts/train_world_clip.py: pictures, captions that nearly fit, a stopped training, and the exported network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from packs import script, small_pack
from safetensors.torch import load_file

from splatdistill.estimators import ClipScorer
from splatdistill.estimators.weights import FOLDERS, TINY_CLIP
from splatdistill.evaluate.embedded_models import true_real_pictures
from splatdistill.evaluate.retrieval import is_true
from splatdistill.toybox import Caption, is_held_out, parse
from splatdistill.toybox import real as real_objects
from splatdistill.toybox.pack import PackedWorld
from splatdistill.toybox.real import RealCaption, real_captions
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import understood

PACK = Path(real_objects.__file__).with_name("real_truth.npz")
needs_models = pytest.mark.skipif(not (FOLDERS[TINY_CLIP] / "config.json").is_file(), reason="the embedded weights are not in this checkout")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a few pictures."""
    folder = tmp_path_factory.mktemp("clip")
    script("embedded.world_clip").main(["data", "--work", str(folder), "--pack", str(PACK), "--pictures", "50"])
    return folder


def test_pictures_show_toys_and_real_objects_and_nothing_held_out(work: Path) -> None:
    captions = [understood(c) for c in json.loads((work / "captions.json").read_text(encoding="utf-8"))["captions"]]
    rgba = np.load(work / "rgba.npy")
    assert len(captions) == len(rgba) == 50 and {type(c) for c in captions} == {Caption, RealCaption}
    assert not any(c.held_out if isinstance(c, RealCaption) else is_held_out(c) for c in captions)
    assert (rgba[..., 3].reshape(50, -1).max(1) == 255).all(), "every picture shows something"


def test_pictures_of_unseen_objects_show_those_alone(tmp_path: Path) -> None:
    _, captions = true_real_pictures(PackedWorld.load(small_pack(tmp_path / "small.pack")), 5, 0, "unseen objects")
    assert {c.kind for c in captions} == {"armchair"} and not any(c.held_out for c in captions)


@pytest.mark.parametrize("caption", [*real_captions()[::40], *map(parse, ("a red chair", "a striped red and blue ball", "a red cone on a blue cube"))], ids=str)
def test_a_hard_negative_differs_in_one_word_and_is_neither_true_nor_held_out(caption: RealCaption | Caption) -> None:
    contrast = script("embedded.contrast")
    rng = np.random.default_rng(0)
    whole = contrast.leave_out(caption)
    assert contrast.sentence(whole, contrast.form(caption)) == str(caption)
    for _ in range(40):
        other = contrast.hard_negative(caption, whole, rng)
        assert sum(other[k] != whole[k] for k in contrast.FIELDS) == 1
        told = understood(contrast.sentence(other, contrast.form(caption)))
        assert not (told.held_out if isinstance(told, RealCaption) else is_held_out(told))
        assert not (isinstance(caption, RealCaption) and is_true(told, caption))


def test_captions_that_may_be_true_of_a_picture_do_not_count_against_it() -> None:
    contrast = script("embedded.contrast")
    shown = [understood(t) for t in ("a purple couch", "a horse", "a red dining chair")]
    told = [contrast.leave_out(understood(t)) for t in ("a purple sofa", "a horse", "a red chair", "a red ball")] + [{**contrast.leave_out(parse("a red ball")), "kind": None}]
    assert contrast.may_be(shown, told).tolist() == [[True, False, False, False, True], [False, True, False, False, True], [False, False, True, False, True]]
    assert contrast.with_article("orange", "cat") == "an orange cat" and contrast.sentence({**told[-1], "colour": "red"}, "real") == "a red"


@needs_models
def test_a_stopped_training_goes_on_and_what_it_exports_is_a_clip(work: Path, tmp_path: Path) -> None:
    trained = script("embedded.world_clip")
    torch.manual_seed(3)
    fresh = trained.started(trained.word_tokenizer(tmp_path / "words", trained.lexicon(), trained.LENGTH))
    old = load_rows(FOLDERS[TINY_CLIP])
    vocabulary = json.loads((tmp_path / "words" / "vocab.json").read_text(encoding="utf-8"))
    rows = fresh.text_model.embeddings.token_embedding.weight
    assert all(torch.equal(rows[vocabulary[w]], old[w]) for w in ("mushroom</w>", "red</w>"))
    options = ["clip", "--work", str(work), "--steps", "3", "--batch", "12"]
    trained.main([*options, "--minutes", "0"])
    assert json.loads((work / "clip" / "state.json").read_text(encoding="utf-8"))["step"] == 0
    trained.main(options)
    assert json.loads((work / "clip" / "state.json").read_text(encoding="utf-8"))["step"] == 3
    out = tmp_path / "clip"
    trained.main(["export", "--work", str(work), "--target", str(out)])
    scorer = ClipScorer(out)
    assert scorer.name == "world-clip"
    near = scorer.similarities(torch.rand(2, 3, 128, 128), [*SPLIT.truth])
    assert near.shape == (2, 24) and near.isfinite().all() and len({round(float(v), 6) for v in near[0]}) == 24


def load_rows(folder: Path) -> dict[str, torch.Tensor]:
    """Return each word's row of an exported CLIP."""
    pointer = json.loads((folder / "weights.json").read_text(encoding="utf-8"))
    weights = load_file(folder.parent / "weights.safetensors")
    key = next(k for k in weights if k.startswith("clip.") and k.endswith("token_embedding.weight"))
    assert pointer
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return {word: weights[key][i].float() for word, i in vocabulary.items()}
