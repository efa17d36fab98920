"""splatdistill doctor: what a run would use here, and how to get the fast path. A probe that fails is a line of it."""

import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from splatdistill import __version__
from splatdistill.errors import UserError
from splatdistill.system import cores

LIBRARIES = ("torch", "numba", "llvmlite", "gsplat", "diffusers", "transformers", "viser", "numpy")
VECTORS = ("avx512f", "avx2", "avx", "sse4.2", "sve", "neon")  # best first
TAB = 11

USAGE = """\
usage: splatdistill doctor

Prints backend, device, versions, weights, and how to get the fast path. It takes no options."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status is 0 whatever is found."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    if argv:
        raise UserError(f"splatdistill doctor takes no options, got {' '.join(argv)}")
    for name, probe in PROBES:
        for i, line in enumerate(attempt(probe)):
            print(f"{name if i == 0 else '':{TAB}}{line}", flush=True)
    return 0


def attempt(probe: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Yield the lines of a probe; if it fails, why, in a line: whatever is broken here, the other probes are still wanted."""
    try:
        yield from probe()
    except Exception as error:
        yield from f"could not be found out: {type(error).__name__}: {error}".splitlines()


def system() -> Iterator[str]:
    """Yield program and machine."""
    yield f"splatdistill {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"in {Path(__file__).parents[1]}"


def libraries() -> Iterator[str]:
    """Yield versions, from the installed packages' metadata alone."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
    yield ", ".join(found[:4])
    yield ", ".join(found[4:])


def device() -> Iterator[str]:
    """Yield the device that a run would compute on, in lines for a person."""
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            yield f"cuda:{i} {p.name}, {p.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        yield "cpu" + (
            f" (this torch is built for CUDA {torch.version.cuda}, but sees no device)" if torch.version.cuda else ""
        )
    set_by = ", set by OMP_NUM_THREADS" if "OMP_NUM_THREADS" in os.environ else ""
    yield f"{counted(cores(), 'core')}, {counted(torch.get_num_threads(), 'thread')}{set_by}"


def backend() -> Iterator[str]:
    """Yield the rasteriser, tried on one splat."""
    import torch

    from splatdistill.cameras import orbit
    from splatdistill.gaussians import Gaussians
    from splatdistill.render import rasterizer

    where = "cuda" if torch.cuda.is_available() else "cpu"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        began = time.perf_counter()
        render = rasterizer(where)
        one = torch.ones(1, 3)
        splat = Gaussians(0 * one, torch.tensor([[1.0, 0, 0, 0]]), 0.2 * one, torch.tensor([0.9]), one[:, None])
        alpha = render(splat.to(where), orbit([0.0], width=32).to(where)).alpha
        took = time.perf_counter() - began
    home = getattr(render, "__module__", "") or type(render).__module__
    right = 0.5 < float(alpha.max()) < 1
    yield f"{backend_name(home)}; a first picture took {took:.1f} s and is {'right' if right else 'WRONG'}"
    for warning in said:
        yield f"warning: {warning.message}"


def backend_name(module: str) -> str:
    """Return the name that people know the rasteriser of this module by."""
    if module.endswith("render.cuda"):
        return "gsplat on CUDA"
    if module.endswith("render.copies"):
        return "the CPU's kernels, with copies to the device and back"
    if ".render.cpu" in module:
        import llvmlite.binding

        from splatdistill.render.cpu.cache import directory

        features = llvmlite.binding.get_host_cpu_features()
        vectors = next((name for name in VECTORS if features.get(name)), "no known vector unit")
        return f"compiled CPU kernels ({llvmlite.binding.get_host_cpu_name()}, {vectors}), kept in {directory()}"
    return "the plain PyTorch reference, which is slow"


def weights() -> Iterator[str]:
    """Yield the weights that --prior auto would take, and the places that it looked in, in lines for a person."""
    from splatdistill.priors.weights import find

    try:
        found = find("auto")
    except UserError as error:
        yield from str(error).splitlines()
        return
    yield f"--prior auto takes {found.name}, in {found.path} (licence: {found.licence})"
    for tried in found.tried:
        yield f"  looked in {tried.where}: {tried.outcome}"


def embedded() -> Iterator[str]:
    """Yield the models inside the package, and how they were trained."""
    from splatdistill.priors.weights import EMBEDDED, TINY, WORLD, place_of

    records = sorted([*TINY.parent.glob("*/training.json"), *WORLD.rglob("training.json")])
    if not records:
        yield f"none in {TINY.parents[1]}"
    typed = {place_of(name): name for name in EMBEDDED}  # what --prior takes; a record has the name that its training was given
    for path in records:
        record = json.loads(path.read_text(encoding="utf-8"))
        yield f"{typed.get(path.parent, record['name'])}: {weight_bytes(path.parent) / 1e6:.1f} MB, {record['step']} training steps; record in {path}"


def weight_bytes(folder: Path) -> int:
    """Return bytes of all weights of a model's folder, its own and its part of a shared file; not of other models inside it."""
    from splatdistill.weight_files import POINTER, SharedWeights

    others = {f.parent for f in folder.glob("*/training.json")}
    own = sum(f.stat().st_size for f in folder.rglob("*.safetensors") if f.parent not in others)
    shared = (SharedWeights.of(f.parent) for f in folder.rglob(POINTER))
    return own + sum(s.size() for s in shared if s is not None and not s.file.resolve().is_relative_to(folder))


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def fast_path() -> Iterator[str]:
    """Yield the one line that gets it."""
    import shutil

    import torch

    from splatdistill.priors import hub
    from splatdistill.priors.weights import find

    if torch.cuda.is_available():
        real = not find("auto").embedded
        yield "you are on it" if real else f"real weights for this GPU: {hub.command(hub.CANDIDATES[0])}"
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        yield "there is a GPU, but torch is a CPU build; PyPI's has CUDA: pip install --force-reinstall torch"
    elif torch.version.cuda is not None and shutil.which("nvidia-smi"):
        yield "torch sees no device: look at `nvidia-smi` (is its driver too old?) and CUDA_VISIBLE_DEVICES"
    else:
        fetch = hub.command(hub.CANDIDATES[0])
        yield f"on a machine with an NVIDIA GPU: install splatdistill and nvcc there, then {fetch}"


PROBES: tuple[tuple[str, Callable[[], Iterator[str]]], ...] = (
    ("system", system),
    ("libraries", libraries),
    ("device", device),
    ("backend", backend),
    ("weights", weights),
    ("embedded", embedded),
    ("fast path", fast_path),
)
