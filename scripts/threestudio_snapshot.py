"""threestudio's guidances out of a snapshot of its repository, on networks that are there already.

Its package imports renderers, meshes and trainers at once, which want CUDA. Here only a guidance's own module and the utilities that it
imports are loaded, from the snapshot as they stand; libraries that these import and that are not installed are stood in for by the names
asked of them, none of which a step of guidance calls, but for omegaconf's, which hand a configuration on.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

PACKAGES = ("threestudio", "threestudio.models", "threestudio.models.guidance", "threestudio.models.prompt_processors")
"""Packages whose own __init__ imports everything: entered without it."""


def unasked(*_: Any, **__: Any) -> None:
    """Return nothing, in the place of a function that no step of guidance calls for a result."""


def handed_on(given: Any, *_: Any, **__: Any) -> Any:
    """Return the first argument."""
    return given


class OmegaConf:
    """Stand-in for omegaconf's class: configurations stay what they are."""

    register_new_resolver = staticmethod(unasked)
    structured = to_container = staticmethod(handed_on)


STAND_INS: dict[str, dict[str, Any]] = {
    "omegaconf": {"OmegaConf": OmegaConf, "DictConfig": dict},
    "typeguard": {"typechecked": handed_on},
    "pytorch_lightning.utilities.rank_zero": {"rank_zero_debug": unasked, "rank_zero_info": unasked, "rank_zero_only": handed_on},
    "tinycudann": {"free_temporary_memory": unasked},
    "igl": {"fast_winding_number_for_meshes": unasked, "point_mesh_squared_distance": unasked, "read_obj": unasked},
    "extern.ldm_zero123": {"guidance": None},  # imported by the guidance of SDI, and not used
}


def installed(name: str) -> bool:
    """Return whether a module can be imported, its parents included."""
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


@contextmanager
def stand_ins() -> Iterator[None]:
    """Replace what is not installed while threestudio's modules are loaded, and no longer."""
    made: list[str] = []
    for name, names in STAND_INS.items():
        if installed(name):
            continue
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            if path not in sys.modules:
                sys.modules[path] = ModuleType(path)
                sys.modules[path].__path__ = []  # type: ignore[attr-defined]
                made.append(path)
        vars(sys.modules[name]).update(names)
    try:
        yield
    finally:
        for path in made:
            del sys.modules[path]


class Snapshot:
    """threestudio's modules in a folder that holds a copy of its repository."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Set up the packages without running their __init__; FileNotFoundError where the folder holds no threestudio."""
        guidance = folder / "threestudio" / "models" / "guidance" / "stable_diffusion_guidance.py"
        if not guidance.is_file():
            raise FileNotFoundError(f"{folder} is no copy of threestudio's repository: it has no {guidance.relative_to(folder)}")
        registered: dict[str, type] = {}

        def register(name: str) -> Callable[[type], type]:
            return lambda kind: registered.setdefault(name, kind)

        self.registered, self.device = registered, device
        for name in [m for m in sys.modules if m.split(".")[0] == "threestudio"]:
            del sys.modules[name]  # of another snapshot
        for name in PACKAGES:
            module = ModuleType(name)
            module.__path__ = [str(folder.joinpath(*name.split(".")))]  # type: ignore[attr-defined]
            module.__spec__ = ModuleSpec(name, None, is_package=True)
            sys.modules[name] = module
        vars(sys.modules["threestudio"]).update(register=register, info=unasked, warn=unasked, debug=unasked)

    def module(self, name: str) -> ModuleType:
        """Return one of its modules."""
        with stand_ins(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # autocast of torch.cuda.amp is deprecated
            found = importlib.import_module(f"threestudio.{name}")
        sys.modules["threestudio.utils.base"].get_device = lambda: self.device  # type: ignore[attr-defined]  # there always CUDA's
        return found

    def guidance(self, name: str, pipeline: Any, schedulers: Path, **config: Any) -> Any:
        """Return a guidance by its module's name, on a pipeline in memory in place of one that it would load; schedulers: folder of
        their configuration.
        """
        module = self.module(f"models.guidance.{name}")

        class Ready:
            from_pretrained = staticmethod(lambda *_, **__: pipeline)

        module.StableDiffusionPipeline = Ready  # type: ignore[attr-defined]
        kind = self.registered[name.replace("_", "-")]
        return kind({"pretrained_model_name_or_path": str(schedulers), **config})
