"""The configurations of a Stable Diffusion folder, before a network is built from them.

Each function returns faults in words; () or "" is none. Nothing of a library is loaded here.
"""

from collections.abc import Iterator
from typing import Any, TypeGuard

from splatdistill.priors.families import SD, SD3, XL, ZERO123, ModelFamily, family_of
from splatdistill.priors.zero123_configs import zero123_faults
from splatdistill.weight_files import configuration_fault, shown

OTHER_INPUTS = ("XL", "3", "ControlNet", "Img2Img", "Inpaint", "Depth2Img", "InstructPix2Pix", "Upscale", "UnCLIP", "Adapter", "GLIGEN", "ImageVariation")
"""Parts of the names of StableDiffusion pipelines whose networks are others, or want other inputs than a text."""
SCHEDULERS = (  # of noise that is told by betas
    "DDPM", "DDIM", "DDIMInverse", "DDIMParallel", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep", "DPMSolverMultistepInverse",
    "DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete", "IPNDM", "KDPM2AncestralDiscrete",
    "KDPM2Discrete", "LMSDiscrete", "PNDM", "SASolver", "UniPCMultistep",
)  # fmt: skip
DISTILLED = ("LCM", "TCD")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
MOST_STEPS = 100_000
LAYERS = {"layers_per_block": 8, "transformer_layers_per_block": 32, "reverse_transformer_layers_per_block": 32, "num_hidden_layers": 64, "num_layers": 64}
"""Most layers of each kind; SD has 2, 1 and 23, SDXL 10 transformer layers in a block, SD 3 24 to 38 in all."""
MOST_BLOCKS = 8
LONGEST_TEXT = 1024  # tokens
PIXELS = ("PatchAutoencoder", "WaveletAutoencoder")
"""Autoencoders without weights, see patches.py."""
CAMERA = 16  # numbers of a camera, see multiview.py
NO_GUIDANCE = "classifier-free guidance, on which every method here rests, means nothing to it. Expected the model that it was distilled from"


def other_pipeline(index: dict[str, Any]) -> str:
    """Return the class of a folder's pipeline where it is none of families.py that a text is enough for; else ""."""
    if family_of(index) is not SD:
        return ""
    name = shown(index.get("_class_name", ""))
    if "text_encoder_2" in index:
        return f"a {name or 'pipeline'} with two text encoders"
    if not name or name == "LatentConsistencyModelPipeline":
        return ""
    own = name.startswith("StableDiffusion") and not any(part in name for part in OTHER_INPUTS)
    return "" if own else f"a {name}"


def mismatches(configs: dict[str, dict[str, Any]], family: ModelFamily = SD) -> list[str]:
    """Return the components that are there but are not those of the family, or do not fit each other."""
    network, vae, scheduler = (configs[k] for k in (family.network, "vae", "scheduler"))
    texts = [configs[e] for e in family.encoders]
    for component, config in configs.items():
        if component != "scheduler" and (fault := configuration_fault(config) or layers_fault(config)):
            return [f"{component}/config.json {fault}"]
    for component, known in {family.network: family.classes, "vae": ("AutoencoderKL", *(PIXELS if family is SD else ()))}.items():
        if configs[component].get("_class_name") not in known:
            return [f"{component}/config.json says {shown(configs[component].get('_class_name'))}; expected {' or '.join(known)}"]
    faults = [*(size_faults(network, family.network) if family.flow else unet_faults(network, family)), *vae_faults(vae, family)]
    faults += [fault for encoder in family.encoders for fault in text_faults(configs[encoder], encoder)]
    faults += flow_faults(scheduler) if family.flow else scheduler_faults(scheduler)
    return faults or list(zero123_faults(configs) if family is ZERO123 else fits(network, vae, texts, family))


def layers_fault(config: dict[str, Any]) -> str:
    """Return the first number of layers or blocks that no such network has; "" where there is none."""
    for key, most in LAYERS.items():
        if any(type(n) is not int or not 0 <= n <= most for n in numbers(config.get(key, 1))):
            return f"says {key} {shown(config[key])}; expected at most {most}"
    for key in ("down_block_types", "up_block_types", "block_out_channels"):
        blocks = config.get(key) or []
        if not isinstance(blocks, list) or len(blocks) > MOST_BLOCKS:
            return f"says {key} {shown(blocks)}; expected a list of at most {MOST_BLOCKS}"
    return ""


def numbers(value: object) -> Iterator[object]:
    """Yield a number, or the numbers in a list of lists."""
    if isinstance(value, list):
        for v in value:
            yield from numbers(v)
    elif value is not None:
        yield value


def unet_faults(config: dict[str, Any], family: ModelFamily) -> Iterator[str]:
    """Yield inputs of the UNet that the toolkit does not provide, and a size that is missing."""
    if config.get("time_cond_proj_dim") is not None:
        yield f"the UNet wants the guidance scale as an input (time_cond_proj_dim): a latent consistency model; {NO_GUIDANCE}"
    cameras = config.get("class_embed_type") == "projection" and config.get("projection_class_embeddings_input_dim") == CAMERA
    if (not cameras and config.get("class_embed_type") is not None) or config.get("num_class_embeds") is not None:
        kind = config.get("class_embed_type") or f"one of {config.get('num_class_embeds')}"
        noise = "noised image embeddings, as unCLIP" if kind == "projection" else "class labels"
        yield f"the UNet wants {noise} (class_embed_type {shown(kind)}); expected one that a text is enough for"
    added, hidden = config.get("addition_embed_type"), config.get("encoder_hid_dim_type")
    if family is XL and added != "text_time":
        yield f"the UNet says addition_embed_type {shown(added)}; expected text_time, pooled text and picture sizes, in {family.name}"
    elif family is SD and added not in (None, "text"):
        yield f"the UNet wants {'pooled text and picture sizes, as SDXL' if added == 'text_time' else 'a picture'} (addition_embed_type {shown(added)})"
    if hidden not in (None, "text_proj"):
        yield f"the UNet wants a picture (encoder_hid_dim_type {shown(hidden)})"
    yield from size_faults(config, "unet")


def size_faults(config: dict[str, Any], component: str) -> Iterator[str]:
    """Yield a size of the latents that is missing."""
    size = config.get("sample_size")
    if type(size) is not int or not 1 <= size <= 1024:
        yield f"{component}/config.json says sample_size {shown(size)}; expected the latents' side, 64 for models of 512 pixels, 96 for 768 and 128 for 1024"


def vae_faults(config: dict[str, Any], family: ModelFamily) -> Iterator[str]:
    """Yield scales and patches that are no usable numbers."""
    scale, shift = config.get("scaling_factor", 0.18215), config.get("shift_factor")
    if not above_zero(scale):
        yield f"vae/config.json says scaling_factor {shown(scale)}; expected a number above 0, 0.18215 in Stable Diffusion"
    if family.flow and not isinstance(0.0 if shift is None else shift, (int, float)):
        yield f"vae/config.json says shift_factor {shown(shift)}; expected a number, 0.0609 in {SD3.name}"
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        yield "vae/config.json says latents_mean or latents_std: latents that are shifted channel by channel, which is not done here"
    if shift is not None and not family.flow:
        yield f"vae/config.json says shift_factor {shown(shift)}: the autoencoder of SD 3 or Flux"
    if config.get("_class_name") in PIXELS and (type(config.get("patch")) is not int or not 1 <= config["patch"] <= 16):
        yield f"vae/config.json says patch {shown(config.get('patch'))}; expected 1 to 16 pixels"
    elif config.get("_class_name") == "WaveletAutoencoder":
        gain = config.get("gain")
        if config["patch"] % 2:
            yield f"vae/config.json says patch {config['patch']}; expected an even number of pixels"
        if not above_zero(gain):
            yield f"vae/config.json says gain {shown(gain)}; expected a number above 0"


def text_faults(config: dict[str, Any], component: str) -> Iterator[str]:
    """Yield the fault of a text encoder that is not CLIP's, or that reads no tokens."""
    kind = config.get("model_type", "clip_text_model")
    if kind != "clip_text_model":
        yield f"{component}/config.json says {shown(kind)}; expected CLIP's (clip_text_model)"
    length = config.get("max_position_embeddings", 77)
    if type(length) is not int or not 4 <= length <= LONGEST_TEXT:
        yield f"{component}/config.json says max_position_embeddings {shown(length)}; expected 4 to {LONGEST_TEXT}"
    for key in ("hidden_size", "projection_dim", "num_attention_heads", "vocab_size", "intermediate_size"):
        if type(config.get(key, 1)) is not int or config.get(key, 1) < 1:
            yield f"{component}/config.json says {key} {shown(config[key])}; expected a number above 0"


def flow_faults(config: dict[str, Any]) -> Iterator[str]:
    """Yield the fault of a scheduler that is not that of a rectified flow."""
    name = str(config.get("_class_name", "")).removesuffix("Scheduler")
    if "FlowMatch" not in name:
        yield f"scheduler/scheduler_config.json says {shown(name)}; expected FlowMatchEulerDiscrete, of a rectified flow"
    elif config.get("num_train_timesteps", 1000) != 1000:
        yield f"scheduler/scheduler_config.json says num_train_timesteps {shown(config.get('num_train_timesteps'))}; expected 1000"


def scheduler_faults(config: dict[str, Any]) -> Iterator[str]:
    """Yield the fault of a schedule that has no betas, or whose prediction type is unknown."""
    name, said = str(config.get("_class_name", "")).removesuffix("Scheduler"), "scheduler/scheduler_config.json says"
    if name in DISTILLED:
        yield f"its scheduler is {shown(name)}'s: a guidance-distilled network; {NO_GUIDANCE}"
    elif "Flow" in name or config.get("use_flow_sigmas"):
        yield f"{said} {shown(name)}: flow matching, whose networks are no UNets of SD 1.x/2.x; expected a schedule of betas"
    elif name and name not in SCHEDULERS:
        yield f"{said} {shown(name)}; expected a schedule of betas, such as DDIM or PNDM"
    elif turbo(name, config):
        yield f"it looks distilled to a few steps, as SD-Turbo (Euler at trailing times); {NO_GUIDANCE}. If it is not, say timestep_spacing leading there"
    prediction, steps = config.get("prediction_type", "epsilon"), config.get("num_train_timesteps", 1000)
    if prediction not in PREDICTIONS:
        yield f"it predicts {shown(prediction)}; expected {', '.join(PREDICTIONS)}"
    if type(steps) is not int or not 2 <= steps <= MOST_STEPS:
        yield f"{said} num_train_timesteps {shown(steps)}; expected 1000"
        return
    trained = config.get("trained_betas")
    if trained is not None:
        if not (isinstance(trained, list) and len(trained) == steps and all(share(b) for b in trained)):
            yield f"{said} trained_betas that are not {steps} numbers between 0 and 1"
        return
    if config.get("beta_schedule") not in BETA_SCHEDULES:
        yield f"{said} beta_schedule {shown(config.get('beta_schedule'))}; expected {', '.join(BETA_SCHEDULES)}"
    first, last = config.get("beta_start"), config.get("beta_end")
    if not (share(first) and share(last) and first <= last):
        yield f"{said} beta_start {shown(first)} and beta_end {shown(last)}; expected 0.00085 and 0.012, or others between 0 and 1"


def above_zero(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1e-6 < value < 1e6


def share(value: object) -> TypeGuard[float]:
    """Return whether a value is a number between 0 and 1, both excluded."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1


def turbo(name: str, config: dict[str, Any]) -> bool:
    """Return whether this is the scheduler that SD-Turbo (Sauer et al., arXiv:2311.17042) is published with."""
    trailing = config.get("timestep_spacing") == "trailing" and config.get("prediction_type", "epsilon") == "epsilon"
    return name in ("EulerDiscrete", "EulerAncestralDiscrete") and trailing and not config.get("rescale_betas_zero_snr")


def fits(network: dict[str, Any], vae: dict[str, Any], texts: list[dict[str, Any]], family: ModelFamily = SD) -> Iterator[str]:
    """Yield the faults of components that do not fit each other."""
    channels = 3 * vae["patch"] ** 2 if vae["_class_name"] in PIXELS else vae.get("latent_channels", 4)
    kind = "transformer" if family.flow else "UNet"
    reads = network.get("in_channels", 16 if family.flow else 4)
    if reads != channels:
        yield (
            f"the {kind} reads {shown(reads)} channels and the VAE makes {shown(channels)}: "
            "an inpainting, depth or upscaling model? Expected a plain text-to-image model"
        )
    elif (makes := network.get("out_channels") or (channels if family.flow else 4)) != channels:
        yield f"the {kind} makes {shown(makes)} channels and the VAE {shown(channels)}: one that learns its variance?"
    writes = sum(text.get("hidden_size", 512) for text in texts)
    pooled = sum(text.get("projection_dim", 512) for text in texts[-len(family.projected) :]) if family.projected else 0
    if family.flow:
        if not isinstance(width := network.get("joint_attention_dim", 4096), int) or width < writes:
            yield f"the transformer reads text of width {shown(width)} and the text encoders make {writes}"
        if (wants := network.get("pooled_projection_dim", 2048)) != pooled:
            yield f"the transformer reads a pooled text of width {shown(wants)} and the text encoders make {pooled}"
        return
    width = network.get("encoder_hid_dim") if network.get("encoder_hid_dim_type") else network.get("cross_attention_dim", 1280)
    if any(w != writes for w in numbers(width)) or width is None:
        yield f"the UNet reads text of width {shown(width)} and the text encoder{'s make' if texts[1:] else ' makes'} {shown(writes)}"
    if family is XL and network.get("projection_class_embeddings_input_dim") != (wants := pooled + 6 * (network.get("addition_time_embed_dim") or 0)):
        yield f"the UNet's projection_class_embeddings_input_dim is {shown(network.get('projection_class_embeddings_input_dim'))}; expected {wants}, the pooled text and six sizes"


def tokenizer_fault(name: str, value: dict[str, Any]) -> str:
    """Return the reason why a tokenizer's file cannot be one of CLIP's, as text that follows its name; "" where it can."""
    if name == "tokenizer_config.json":
        length = value.get("model_max_length", 77)
        if not isinstance(length, (int, float)) or isinstance(length, bool) or not length >= 4:
            return f"says model_max_length {shown(length)}; expected 77"
        return "asks for code of its own, which is not run (auto_map)" if value.get("auto_map") else ""
    if name == "vocab.json":
        ids = value.values()
        if not ids or not all(type(i) is int and 0 <= i < 10**7 for i in ids):
            return "is no vocabulary; expected an object of tokens and their numbers"
    if name == "tokenizer.json":
        model = value.get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
            return "holds no byte-pair vocabulary (model.vocab)"
        return tokenizer_fault("vocab.json", model["vocab"])
    return ""

