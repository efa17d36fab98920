"""The machine, the build of gsplat's kernels, and whether the rasterisers agree."""

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from check_gpu import Case, Drawn, differences, draw

from gpu.part import Where
from splatdistill.cameras import orbit
from splatdistill.gaussians import Gaussians
from splatdistill.render import rasterizer
from splatdistill.render.cpu import cpu_rasterizer
from splatdistill.render.reference import reference_rasterizer

LINES = 40  # of the compiler's, that are kept


def machine(where: Where) -> dict[str, Any]:
    """Return versions, card and attention kernels."""
    import diffusers
    import gsplat
    import transformers

    found: dict[str, Any] = {
        "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda, "diffusers": diffusers.__version__,
        "transformers": transformers.__version__, "gsplat": gsplat.__version__, "cores": os.cpu_count(), "nvcc": shutil.which("nvcc"),
    }  # fmt: skip
    if where.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() if shutil.which("nvidia-smi") else ""
        backends = torch.backends.cuda
        found |= {
            "card": card.name, "capability": f"{card.major}.{card.minor}", "GiB": total / 2**30, "GiB free": free / 2**30, "driver": driver,
            "bf16": torch.cuda.is_bf16_supported(False),
            "attention": [n for n in ("flash", "mem_efficient", "math", "cudnn") if getattr(backends, f"{n}_sdp_enabled", lambda: False)()],
        }  # fmt: skip
    return found


def build(where: Where) -> dict[str, Any]:
    """Return the seconds until a first image: gsplat's kernels compiled for this card alone, or the CPU's kernels in a rehearsal."""
    if where.device == "cpu":
        began = time.perf_counter()
        gaussians, cameras, background = Case(10, 0, 16).scene("cpu")
        cpu_rasterizer()(gaussians, cameras, background)
        return {"build": time.perf_counter() - began}
    major, minor = torch.cuda.get_device_capability()
    told = {"MAX_JOBS": str(os.cpu_count() or 4), "TORCH_CUDA_ARCH_LIST": f"{major}.{minor}", "VERBOSE": "1"}
    code = "import gsplat, torch; one = torch.ones(1, 3, device='cuda'); gsplat.spherical_harmonics(0, one, one[:, None]); torch.cuda.synchronize()"
    began = time.perf_counter()
    with (where.out / "build.log").open("w", encoding="utf-8") as log:
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **told}, stdout=log, stderr=subprocess.STDOUT, check=False)
    found: dict[str, Any] = {"build": time.perf_counter() - began, **told}
    if done.returncode:
        lines = (where.out / "build.log").read_text(encoding="utf-8", errors="replace").splitlines()
        found |= {"failed": "gsplat's kernels do not build", "log": lines[-LINES:]}
    return found


def parity(where: Where) -> dict[str, Any]:
    """Return the differences from the reference for small scenes, from the CPU's kernels for large ones, and for empty scenes."""
    render = rasterizer(where.device)
    found: dict[str, Any] = {"rasterizer": getattr(render, "__name__", type(render).__name__), "rows": {}}
    small = [Case(1, 0, 33), Case(60, 3, 24)] if where.small else [Case(1, 0, 33), Case(500, 3, 64), Case(5_000, 0, 128)]
    large = [Case(200, 3, 32)] if where.small else [Case(20_000, 3, 256), Case(100_000, 0, 512)]
    wrong = []
    for case in [*small, *large]:
        truth = draw(reference_rasterizer(), case, where.device) if case in small else draw(cpu_rasterizer(), case, "cpu")
        rows = differences(on_cpu(draw(render, case, where.device)), on_cpu(truth))
        found["rows"][f"{case.count} at {case.size}"] = {name: error for name, (error, _) in rows.items()}
        wrong += [f"{name} of {case}" for name, (error, tolerable) in rows.items() if not error <= tolerable]
    wrong += corner_cases(where)
    return found | ({"failed": f"differs: {', '.join(wrong[:4])}"} if wrong else {})


def on_cpu(drawn: Drawn) -> Drawn:
    """Return the images and gradients on the CPU."""
    return Drawn({k: v.cpu() for k, v in drawn.images.items()}, {k: v.cpu() for k, v in drawn.gradients.items()})


def corner_cases(where: Where) -> list[str]:
    """Return what is wrong with an empty scene, with Gaussians behind the camera, and with the gradient that densification reads."""
    render, wrong = rasterizer(where.device), []
    gaussians, _, _ = Case(50, 0, 32).scene(where.device)
    cameras = orbit([0.0, 90.0], [0.0, 20.0], 2.5, 45.0, 32).to(where.device)
    white = torch.ones(2, 3, device=where.device)
    nothing = Gaussians(**{k: v[:0] for k, v in vars(gaussians).items()})
    if not torch.equal(render(nothing, cameras, white).rgb, torch.ones(2, 3, 32, 32, device=where.device)):
        wrong.append("an empty scene")
    means = (100 * gaussians.means.sign() + gaussians.means).requires_grad_()
    out = render(replace(gaussians, means=means), cameras, white)
    out.rgb.sum().backward()
    if not out.screen.means.isfinite().all() or means.grad is None or not means.grad.isfinite().all():
        wrong.append("rows that no camera sees")
    seen = replace(gaussians, means=gaussians.means.clone().requires_grad_())
    out = render(seen, cameras, white)
    (out.rgb * torch.linspace(0, 1, 32, device=where.device)).sum().backward()
    if out.screen.means.grad is None or not out.screen.means.grad.abs().sum() > 0:
        wrong.append("the gradient of the projected means")
    return wrong
