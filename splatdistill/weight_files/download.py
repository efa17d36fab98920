"""The shell command that downloads a repository of the Hugging Face hub."""

from collections.abc import Sequence

from splatdistill.shell import as_typed

SMALL = ("*.json", "*.txt")
"""Configurations and vocabularies."""


def download_command(repo: str, include: Sequence[str] = (*SMALL, "*.safetensors"), exclude: Sequence[str] = ()) -> str:
    """Return `hf download` with every pattern behind an option of its own: of several behind one, only the first is a pattern."""
    patterns = [("--include", p) for p in include] + [("--exclude", p) for p in exclude]
    return as_typed("hf", "download", repo, *(word for pair in patterns for word in pair))
