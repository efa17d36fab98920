"""ClipScorer on a small random CLIP: its preprocessing, its gradients, its words, its errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from splatdistill.errors import WeightsError
from splatdistill.estimators import ClipScorer
from splatdistill.estimators.clip import Preprocessing

OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CLIP as transformers writes it, with random weights, for 32 x 32 pixels."""
    target = tmp_path_factory.mktemp("clip")
    tokenizer = write_tokenizer(target, length=16)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {k: getattr(tokenizer, k) for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, **ids, **size}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={"image_size": 32, "patch_size": 8, **size}, projection_dim=24)
    ).save_pretrained(target)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return ClipScorer(folder)


@pytest.mark.parametrize("shape", [(32, 32), (90, 90), (20, 20), (70, 100), (100, 45)])
def test_preprocessing_is_that_of_transformers(tmp_path, shape):
    theirs = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs.save_pretrained(tmp_path)
    ours = Preprocessing.read(tmp_path)
    assert ours.mean == pytest.approx(OPENAI_MEAN)
    assert ours.std == pytest.approx(OPENAI_STD)
    y, x = np.meshgrid(*(np.arange(n) / 10 for n in shape), indexing="ij")
    picture = np.stack([128 + 90 * np.sin(x + 2), 128 + 90 * np.cos(2 * y), 100 + 80 * np.sin(x * y)], -1).astype(
        np.uint8
    )
    expected = torch.as_tensor(np.array(theirs(picture, return_tensors="np")["pixel_values"]))
    got = ours(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    assert got.shape == (1, 3, 32, 32)
    assert (got - expected).abs().max() < 1.5 / 255 / 0.26  # theirs rounds to bytes after resizing


def test_old_and_new_files_say_the_same(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    rest = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD}
    file.write_text(json.dumps({"size": 224, "crop_size": 224, **rest}), encoding="utf-8")
    old = Preprocessing.read(tmp_path)
    file.write_text(json.dumps({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, **rest}), encoding="utf-8")
    assert old == Preprocessing.read(tmp_path)
    file.write_text(json.dumps({"size": {"height": 8, "width": 8}, **rest}), encoding="utf-8")
    assert Preprocessing.read(tmp_path)(torch.rand(1, 3, 30, 20)).shape == (1, 3, 8, 8)


def test_features_are_those_of_the_model(scorer, folder):
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    images, texts = torch.rand(3, 3, 32, 32), ["red ball", "a", "red ball"]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**tokens, pixel_values=scorer.preprocessing(images))
    cosines = scorer.similarities(images, texts)
    assert torch.allclose(cosines, out.logits_per_image / model.logit_scale.exp(), atol=1e-5)
    assert scorer.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-5)
    assert torch.equal(cosines[:, 0], cosines[:, 2])
    assert torch.allclose(scorer.image_features(images).norm(dim=1), torch.ones(3))


def test_gradients_reach_the_picture_and_not_the_network(scorer):
    image = torch.rand(1, 3, 48, 48, requires_grad=True)
    direction = torch.randn(1, 3, 48, 48)
    with torch.enable_grad():
        scorer.similarities(image, ["blue cube"]).sum().backward()
    ahead, behind = (scorer.similarities(image.detach() + e * direction, ["blue cube"]).item() for e in (1e-3, -1e-3))
    assert (image.grad * direction).sum().item() == pytest.approx((ahead - behind) / 2e-3, rel=0.05, abs=1e-3)
    assert all(p.grad is None for p in scorer.model.parameters())


def test_it_is_called_what_its_folder_says(scorer, folder, tmp_path):
    assert scorer.name == folder.name
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "training.json").write_text(json.dumps({"name": "tiny-clip"}), encoding="utf-8")
    assert ClipScorer(tmp_path).name == "tiny-clip"


def test_missing_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json, model\.safetensors or .*preprocessor_config\.json"):
        ClipScorer(tmp_path)
