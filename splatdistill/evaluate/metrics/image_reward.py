"""ImageReward (Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation",
arXiv:2304.05977), by its own package.

The package of 2023 does not run with the transformers that this project needs, so it is asked in an environment of its
own: an interpreter that has it, in a process that gets pictures and gives back numbers.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement
from splatdistill.io.images import write_png

MODEL = "ImageReward-v1.0"
GET = """\

  python -m venv reward && reward/bin/pip install image-reward "transformers<4.40"
then --image-reward reward/bin/python (its weights come from the hub, THUDM/ImageReward)"""
ASK = """\
import json, sys
import ImageReward
from importlib.metadata import version
said = json.load(sys.stdin)
scores = ImageReward.load(said["model"]).score(said["prompt"], said["pictures"])
print()
print(json.dumps({"scores": scores if isinstance(scores, list) else [scores], "version": version("image-reward")}))
"""


def image_reward(rgb: Float[Tensor, "v 3 h w"], prompt: str, python: Path | None) -> Measurement:
    """Return the mean over views; None as its value, and why, where the package is not to be had or fails."""
    if python is None:
        return Measurement("image_reward", None, note=f"not installed:{GET}")
    with tempfile.TemporaryDirectory() as folder:
        pictures = [str(Path(folder) / f"{k:04}.png") for k in range(len(rgb))]
        for path, image in zip(pictures, rgb):
            write_png(Path(path), image)
        asked = json.dumps({"model": MODEL, "prompt": prompt, "pictures": pictures})
        try:
            done = subprocess.run([str(python), "-c", ASK], input=asked, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ValueError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
            told = json.loads(done.stdout.strip().splitlines()[-1])
            scores = [float(s) for s in told["scores"]]
            return Measurement("image_reward", sum(scores) / len(scores), f"{MODEL} (package {told['version']})")
        except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError) as e:
            return Measurement("image_reward", None, note=f"{python} could not say: {str(e)[:300]}")
