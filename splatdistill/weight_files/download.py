"""The shell command that downloads a repository of the Hugging Face hub."""

import shlex
from collections.abc import Sequence

SMALL = ("*.json", "*.txt")
"""Configurations and vocabularies."""


def download_command(repo: str, include: Sequence[str] = (*SMALL, "*.safetensors"), exclude: Sequence[str] = ()) -> str:
    """`hf download` with every pattern behind an option of its own: of several behind one, only the first is a pattern."""
    words = ["hf", "download", shlex.quote(repo)]
    words += [f'--include "{p}"' for p in include]
    words += [f'--exclude "{p}"' for p in exclude]
    return " ".join(words)
