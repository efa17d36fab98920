"""A start from a shape: Shap-E (Jun and Nichol, arXiv:2305.02463) makes a mesh of the prompt, by diffusers' ShapEPipeline."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill import checks
from splatdistill.errors import UserError, WeightsError
from splatdistill.gaussians import Gaussians
from splatdistill.io import frames
from splatdistill.priors import hub
from splatdistill.priors.networks import attempt
from splatdistill.scene.initial import MOST, Initial, cloud, fitted
from splatdistill.weight_files import Unreadable, download_command, file_fault, read_object, weight_files
from splatdistill.weight_files.download import SMALL

REPO = "openai/shap-e"
NETWORKS = {"prior": "diffusion_pytorch_model", "text_encoder": "model", "shap_e_renderer": "diffusion_pytorch_model"}


@dataclass(frozen=True)
class FromShape(Initial):
    """Round Gaussians at the vertices of a mesh that Shap-E makes of the run's prompt: what GaussianDreamer (arXiv:2310.08529) starts
    from, against second fronts and slow beginnings. Its front is taken to look along -y, as in Blender.
    """

    weights: str = REPO
    """Weights of Shap-E: a folder in the diffusers layout, or a hub id in the cache."""
    prompt: str = ""
    """Prompt to make the shape of; by default the run's own."""
    count: int = 4096
    """Number of Gaussians, drawn from the vertices."""
    radius: float = 0.7
    """Radius that the shape is scaled to, about its middle."""
    opacity: float = 0.1
    """Opacity of every Gaussian, in (0, 1)."""
    steps: int = 64
    """Denoising steps."""
    scale: float = 15.0
    """Classifier-free guidance."""
    grid: int = 128
    """Points a side of the grid in which the surface is looked for."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.count(self, 4, MOST, "count")
        checks.count(self, 1, 1000, "steps")
        checks.within(self, 8, 512, "grid")
        checks.positive(self, "radius", "scale")
        checks.between(self, 0, 1, "opacity")

    def of(self, prompt: str) -> "FromShape":
        return self if self.prompt else replace(self, prompt=prompt)

    def preflight(self) -> None:
        """Raise WeightsError where the weights are not to be had."""
        folder_of(self.weights)

    def make(self, rng: torch.Generator) -> Gaussians:
        vertices, rgb = shaped(self, rng)
        chosen = torch.randperm(len(vertices), generator=rng)[: self.count]
        while len(chosen) < self.count:  # as GaussianDreamer grows its points: beside others, a little apart
            chosen = torch.cat([chosen, chosen])[: self.count]
        places = fitted(vertices[chosen], self.radius)
        if len(vertices) < self.count:
            places = places + 0.01 * self.radius * torch.randn(places.shape, generator=rng)
        return cloud(places, rgb[chosen], None, self.opacity)


def shaped(options: FromShape, rng: torch.Generator) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3"]]:
    """Return vertices, in our world, and their colours in [0, 1]. UserError where no surface comes out."""
    folder = folder_of(options.weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipe = attempt("Shap-E pipeline", options.weights, lambda: loaded(folder, device))
    drawn = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(options.prompt, num_inference_steps=options.steps, guidance_scale=options.scale, generator=drawn, output_type="latent").images
    with torch.no_grad():  # what output_type="mesh" does, with a grid of one's own
        mesh = pipe.shap_e_renderer.decode_to_mesh(latents[:1], device, grid_size=options.grid)
    if len(mesh.verts) < 4:
        raise UserError(f"Shap-E made no surface of {options.prompt!r}; try another --seed or words, or start from --init ball")
    linear = torch.stack([mesh.vertex_channels[c] for c in "RGB"], 1).float().cpu().clamp(0, 1)
    rgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
    return mesh.verts.float().cpu() @ frames.into("blender").float(), rgb  # v M = M^T v: from there into ours


def loaded(folder: Path, device: torch.device) -> Any:
    """Load the pipeline; in half precision on a card."""
    from diffusers.pipelines.shap_e.pipeline_shap_e import ShapEPipeline

    half = device.type == "cuda"
    variant = "fp16" if half and all(weight_files(folder / n, stem, "fp16") for n, stem in NETWORKS.items()) else None
    pipe: Any = ShapEPipeline.from_pretrained(
        folder, torch_dtype=torch.float16 if half else torch.float32, variant=variant, local_files_only=True, use_safetensors=True
    )
    return pipe.to(device)


def folder_of(weights: str) -> Path:
    """Return the folder of Shap-E's weights, complete by its files' headers. WeightsError where there is none."""
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        cached = hub.cached(weights) if weights.count("/") == 1 else None
        if cached is None:
            raise refusal(weights, "neither a folder nor in the hub's cache")
        folder = cached
    try:
        if (said := read_object(folder / "model_index.json").get("_class_name")) != "ShapEPipeline":
            raise refusal(weights, f"a {said}, where a ShapEPipeline is expected")
        for name, stem in NETWORKS.items():
            files = weight_files(folder / name, stem) or weight_files(folder / name, stem, "fp16")
            fault = next((f for file in files if (f := file_fault(folder / name, file))), "") if files else f"{stem}.safetensors is missing"
            if fault:
                raise refusal(weights, f"incomplete: {name}/{fault}")
    except Unreadable as error:
        raise refusal(weights, f"model_index.json {error}") from error
    return folder


def refusal(weights: str, why: str) -> WeightsError:
    """Return an error of two lines: why the weights cannot be used, and the alternatives."""
    command = download_command(REPO, (*SMALL, "*/*.safetensors"))
    return WeightsError(f"--init shape: the weights {weights} are {why}.\n`{command}` gets Shap-E; or --init.weights DIR, or --init ball.")
