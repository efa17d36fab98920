"""Command lines for people to type, in messages and files."""

import os
import shlex
import subprocess
from pathlib import PurePath


def as_typed(*words: object) -> str:
    """Return the words as one line that the shell of this system takes apart into the same words: those with spaces, quotes or
    other letters that mean something to it are quoted. A path that begins with "-" is spelt "./-...", so that no command takes
    it for an option.
    """
    spelt = [os.path.join(os.curdir, word) if isinstance(word, PurePath) and str(word).startswith("-") else str(word) for word in words]
    return subprocess.list2cmdline(spelt) if os.name == "nt" else shlex.join(spelt)
