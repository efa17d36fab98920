"""CLIP score, CLIP-IQA and the Fréchet distance are those of torchmetrics, on a random CLIP and random features."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from splatdistill.estimators import ClipScorer
from splatdistill.estimators.clip import Preprocessing
from splatdistill.evaluate.metrics.clip_iqa import PAIRS, clip_iqa
from splatdistill.evaluate.metrics.clip_score import clip_scores
from splatdistill.evaluate.metrics.fid import frechet

multimodal = pytest.importorskip("torchmetrics.multimodal", reason="needs torchmetrics, of the extra test")
fid = pytest.importorskip("torchmetrics.image.fid", reason="needs torchmetrics, of the extra test")
SIZE = 32
PROMPTS = ["a red mushroom", "a blue snowman", "a red cube"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a CLIP of random weights in transformers' layout, of a size that these pictures have."""
    path = tmp_path_factory.mktemp("clip")
    tokenizer = write_tokenizer(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 77, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": SIZE, "patch_size": 8}, projection_dim=16)
    model = CLIPModel(config).eval()
    with torch.no_grad():  # texts lie too far apart at random for a softmax of anything between 0 and 100 %
        model.text_model.final_layer_norm.bias += 30 * torch.randn(32)
    model.save_pretrained(path)
    side = {"height": SIZE, "width": SIZE}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=side), tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Return pictures of whole eighths of bits, which a library may keep as bytes."""
    return torch.randint(0, 256, (3, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


class AsBefore(torch.nn.Module):
    """CLIP whose features are tensors, as transformers gave them until its fifth version, and as torchmetrics reads them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.clip = CLIPModel.from_pretrained(folder)
        self.config = self.clip.config

    def get_image_features(self, *args: torch.Tensor) -> torch.Tensor:
        return tensor(self.clip.get_image_features(*args))

    def get_text_features(self, *args: torch.Tensor) -> torch.Tensor:
        return tensor(self.clip.get_text_features(*args))


def tensor(found: Any) -> torch.Tensor:
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def test_the_clip_score(folder: Path, pictures: torch.Tensor) -> None:
    scorer = ClipScorer(folder)
    ours = clip_scores(scorer.image_features(pictures / 255), scorer.text_features(PROMPTS))[0].value
    assert ours is not None and abs(ours) > 1
    metric = multimodal.CLIPScore(lambda: (AsBefore(folder), CLIPProcessor.from_pretrained(folder)))
    metric.update(pictures, PROMPTS)
    assert max(ours, 0.0) == pytest.approx(float(metric.compute()), abs=2e-3)


def test_clip_iqa(folder: Path, pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = ClipScorer(folder)
    ours = {m.metric: m.value for m in clip_iqa(scorer, scorer.image_features(pictures / 255))}
    once = CLIPProcessor.from_pretrained(folder)
    once.image_processor.do_rescale = False  # torchmetrics has divided by 255 before, and would have it done twice
    monkeypatch.setattr("torchmetrics.functional.multimodal.clip_iqa._get_clip_model_and_processor", lambda name: (AsBefore(folder), once))
    metric = multimodal.CLIPImageQualityAssessment("openai/clip-vit-base-patch16", data_range=255, prompts=tuple(PAIRS.values()))
    theirs = metric(pictures.float())
    assert all(0.1 < value < 99.9 for value in ours.values() if value is not None)
    assert [ours[name] for name in PAIRS] == pytest.approx([100 * float(theirs[f"user_defined_{i}"].mean()) for i in range(3)], abs=2e-3)


def test_the_frechet_distance() -> None:
    """Of features of their own: the mean colours, and their squares, of pictures of two distributions."""

    class Features(torch.nn.Module):
        num_features = 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.mean((2, 3))
            return torch.cat([mean, mean.square()], 1)

    rng = torch.Generator().manual_seed(2)
    a, b = torch.rand(64, 3, 4, 4, generator=rng), torch.rand(48, 3, 4, 4, generator=rng).square()
    metric = fid.FrechetInceptionDistance(Features(), normalize=True, input_img_size=(3, 4, 4))
    metric.set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert frechet(Features()(a.double()), Features()(b.double())) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_a_folder_as_transformers_writes_it_now_and_as_it_did_is_read_alike(folder: Path, tmp_path: Path) -> None:
    """CLIPProcessor.save_pretrained has written one file for pictures and texts since its fifth version."""
    assert (folder / "processor_config.json").is_file() and not (folder / "preprocessor_config.json").is_file()
    CLIPProcessor.from_pretrained(folder).image_processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    assert Preprocessing.read(folder) == Preprocessing.read(tmp_path)
