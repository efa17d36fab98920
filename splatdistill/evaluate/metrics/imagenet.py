"""Recognition by an ImageNet classifier: the class that a prompt's noun names, from views of the object."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement

if TYPE_CHECKING:
    from splatdistill.estimators.imagenet import ImageNetClassifier

NAMES = ("imagenet", "imagenet_named")


@dataclass(frozen=True)
class ClassNames:
    """Names of ImageNet's classes, and the classes that plain nouns name."""

    classes: tuple[str, ...]
    nouns: dict[str, tuple[int, ...]]

    def noun(self, prompt: str) -> str | None:
        """Return the longest noun of the table that a prompt holds, the last one of several as long; None where it holds none."""
        text = " ".join(prompt.lower().split())
        found = [(len(noun), m.start(), noun) for noun in self.nouns for m in re.finditer(rf"\b{re.escape(noun)}\b", text)]
        return max(found)[2] if found else None


@cache
def table() -> ClassNames:
    """Return the table, from imagenet.json."""
    said = json.loads(Path(__file__).with_name("imagenet.json").read_text(encoding="utf-8"))
    return ClassNames(tuple(said["classes"]), {noun: tuple(classes) for noun, classes in said["nouns"].items()})


def named(probabilities: Float[Tensor, "v 1000"], noun: str) -> tuple[float, str, bool]:
    """Return the noun's probability (the sum over its classes, mean over views), the most probable class, and if it is the noun's."""
    mean, classes = probabilities.mean(0), table().nouns[noun]
    top = int(mean.argmax())
    return float(mean[list(classes)].sum()), table().classes[top], top in classes


def imagenet(rgb: Float[Tensor, "v 3 h w"], prompt: str, classifier: "ImageNetClassifier | None", get: str) -> list[Measurement]:
    """Return the probability in percent, and 100 where the class named first is the prompt's, else 0. get: why there is no classifier, and
    what to do.
    """
    noun = table().noun(prompt)
    if classifier is None or noun is None:
        why = get if classifier is None else "the prompt names none of ImageNet's classes"
        return [Measurement(name, None, note=why) for name in NAMES]
    share, top, right = named(classifier.probabilities(rgb), noun)
    return [
        Measurement(name, value, classifier.name, note="no CLIP: classes of photographs, without colours", detail=f"it sees {top}")
        for name, value in zip(NAMES, (100 * share, 100.0 * right), strict=True)
    ]
