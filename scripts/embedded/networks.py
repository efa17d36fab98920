"""The networks that scripts/train_tiny.py trains, and their vocabulary."""

import json
from pathlib import Path

from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from splatdistill.priors.patches import PatchAutoencoder, WaveletAutoencoder
from splatdistill.priors.prediction import Prediction
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.world import SIZE
from splatdistill.weight_files import SharedWeights

LENGTH = 20  # tokens


def make_tokenizer(folder: Path, directions: bool = False) -> CLIPTokenizer:
    """Return a CLIP byte-pair vocabulary in which every word of the toybox is one token; with left and right, or without."""
    lexicon = [*NAMED, *PRIMITIVES, *COLOURS, *PATTERNS[1:], *["a", "an", "and", "on", "front", "side", "back", "overhead", "view", ","]]
    return word_tokenizer(folder, lexicon + (["left", "right"] if directions else []), LENGTH)


def word_tokenizer(folder: Path, lexicon: list[str], length: int) -> CLIPTokenizer:
    """Return a CLIP byte-pair vocabulary in which every word of the lexicon is one token, for texts of `length` tokens."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789,.!?'-")
    trainer = trainers.BpeTrainer(vocab_size=10_000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False)
    # unequal counts make the order of merges, and so the vocabulary, unique
    bpe.train_from_iterator([" ".join([w] * (2 + i)) for i, w in enumerate(sorted(lexicon))], trainer)
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = alphabet + [f"{c}</w>" for c in alphabet] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, indent=0), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return (b, LENGTH) ids."""
    return tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def rows_by_word(tokenizer: CLIPTokenizer, fresh: Tensor, vocabulary: dict[str, int], rows: Tensor) -> Tensor:
    """Return the embeddings of a vocabulary: a word that the older one has keeps its row, whatever its number is now; others are fresh."""
    words = fresh.detach().clone()
    for word, i in tokenizer.get_vocab().items():
        words[i] = rows[vocabulary[word]] if word in vocabulary else words[i]
    return words


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int, length: int = LENGTH) -> dict[str, int]:
    """Return fields shared by CLIPTextModel and CLIPModel's text tower."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def exported(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a component's folder, its own or bundled."""
    bundled = SharedWeights.of(folder)
    return bundled.tensors() if bundled else load_file(next(folder.glob("*.safetensors")))


class Prior(nn.Module):
    """UNet on 4x4 patches and its text encoder; v-prediction on Stable Diffusion's noise schedule."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.text = CLIPTextModel(CLIPTextConfig(**text_config(tokenizer, 128, 2)))
        self.unet = UNet2DConditionModel(
            sample_size=SIZE // 4,
            in_channels=48,
            out_channels=48,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(96, 128, 192),
            layers_per_block=1,
            cross_attention_dim=128,
            attention_head_dim=4,
            norm_num_groups=16,
            # words also reach every layer with the time: cross-attention alone, at 8x8 and 4x4, learns "front" and "back" late
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
        )
        for p in self.unet.add_embedding.norm2.parameters():  # silent at first, so that weights from before it go on as they were
            nn.init.zeros_(p)

    def load_exported(self, folder: Path) -> None:
        """Start from weights that train_tiny.py exported, of this network or of one without the words beside the time."""
        missing, extra = self.unet.load_state_dict(exported(folder / "unet"), strict=False)
        if extra or any(not k.startswith("add_embedding.") for k in missing):
            raise ValueError(f"{folder} holds another network: {extra or missing}")
        weights = exported(folder / "text_encoder")
        key = next(k for k in weights if k.endswith("token_embedding.weight"))
        vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
        words = rows_by_word(self.tokenizer, self.text.get_input_embeddings().weight, vocabulary, weights[key].float())
        text = CLIPTextModel.from_pretrained(None, config=self.text.config, state_dict=weights | {key: words})
        self.text.load_state_dict(text.state_dict())

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return self.unet(x_t, t, self.text(input_ids=ids).last_hidden_state).sample


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return a small CLIP: 8x8 patches of 64x64 images, 4 layers; 2-layer text tower."""
    vision = {"image_size": SIZE, "patch_size": 8, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
    return CLIPModel(CLIPConfig(text_config=text_config(tokenizer, 128, 2), vision_config=vision, projection_dim=128, logit_scale_init_value=2.6592))


CLIP_PREPROCESSING = {  # as transformers' CLIPImageProcessor writes it: 64 x 64, pixels in [-1, 1]
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "clip_sample": False}


def write_pipeline(folder: Path, codec: PatchAutoencoder | WaveletAutoencoder, prediction: Prediction = "v_prediction", **said: object) -> None:
    """Write the parts of a prior's folder that hold no network: autoencoder, noise schedule, and the index of Stable Diffusion's
    layout, with what else is said there.
    """
    codec.save_pretrained(folder / "vae")
    DDPMScheduler(**{**SCHEDULER, "prediction_type": prediction}).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "vae": ["splatdistill", type(codec).__name__],
        **said,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
