"""The doctor: every probe answers, and one that breaks is a line."""

import json

import pytest
from helpers import write_sd_folder

from splatdistill.cli import doctor, main
from splatdistill.estimators.weights import FOLDERS
from splatdistill.priors import hub, weights


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Disable the network and the hub cache."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)


def lines(capsys) -> dict[str, str]:
    """Return the printed lines, by subject."""
    found: dict[str, str] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines():
        name = line[: doctor.TAB].strip() or name
        found[name] = found.get(name, "") + line[doctor.TAB :] + "\n"
    return found


def test_it_tells_what_there_is(tmp_path, monkeypatch, capsys):
    folder = write_sd_folder(tmp_path / "models" / "prior", patches=True)
    (folder / "training.json").write_text(json.dumps({"name": "tiny", "step": 1234}), encoding="utf-8")
    monkeypatch.setattr(weights, "TINY", folder)
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    assert main(["doctor"]) == 0
    said = lines(capsys)
    assert list(said) == [name for name, _ in doctor.PROBES]
    assert "torch 2" in said["libraries"] and "is right" in said["backend"] and "thread" in said["device"] and "1 threads" not in said["device"]
    assert "--prior auto takes tiny" in said["weights"] and all(repo in said["weights"] for repo in hub.CANDIDATES)
    assert "tiny: " in said["embedded"] and "1234 training steps" in said["embedded"]
    assert len(said["fast path"].splitlines()) == 1


def test_the_embedded_models_have_their_true_size(capsys, monkeypatch):
    if not (weights.TINY / "model_index.json").is_file():
        pytest.skip("the embedded weights are not in this checkout")
    file = weights.TINY.parent / "weights.safetensors"
    said = list(doctor.embedded())
    assert {line.split(": ")[0] for line in said} == {*FOLDERS, *weights.EMBEDDED}  # as they are typed
    sizes = [float(line.split(": ")[1].split(" MB")[0]) for line in said]
    assert len(sizes) == 6 and min(sizes) > 0.5
    all_files = sum(f.stat().st_size for f in (file, *weights.WORLD.rglob("*.safetensors")))
    assert sum(sizes) == pytest.approx(all_files / 1e6, rel=0.02)
    assert all_files <= 34e6  # what a user downloads for them


def test_numbers_of_things_are_words():
    assert [doctor.counted(n, "thread") for n in (0, 1, 2)] == ["0 threads", "1 thread", "2 threads"]


def test_missing_weights_are_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "TINY", tmp_path / "nothing" / "prior")
    monkeypatch.setattr(weights, "WORLD", tmp_path / "nothing" / "world")
    monkeypatch.setattr(doctor, "PROBES", tuple(p for p in doctor.PROBES if p[0] in ("weights", "embedded")))
    assert main(["doctor"]) == 0
    said = lines(capsys)
    assert "No usable weights" in said["weights"] and "none in" in said["embedded"]


@pytest.mark.parametrize("error", [ImportError("no such library"), RuntimeError("a\nb"), OSError(28, "full")])
def test_a_probe_that_breaks_is_a_line_and_the_others_go_on(monkeypatch, capsys, error):
    def broken():
        yield "half an answer"
        raise error

    monkeypatch.setattr(doctor, "PROBES", (("broken", broken), ("system", doctor.system)))
    assert main(["doctor"]) == 0
    said = lines(capsys)
    assert (
        "half an answer" in said["broken"]
        and type(error).__name__ in said["broken"]
        and "splatdistill" in said["system"]
    )


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-package-here"))
    assert "no-such-package-here is not installed" in " ".join(doctor.libraries())


def test_it_takes_no_options(capsys):
    assert main(["doctor", "--all"]) == 2 and "takes no options" in capsys.readouterr().err
    assert main(["doctor", "--help"]) == 0 and "usage" in capsys.readouterr().out
