"""Nearest known things by meaning: nouns by word vectors, colours by their hue.

The vectors are those that the package wordllama brings (MIT; 32,000 pieces of words, 256 numbers each): the optional extra
`words`. Only its two files of data are read; none of its code is run.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

LEAST = 0.35
"""Cosine below which nothing is called near: a couch is a sofa, a dragon is no milk carton."""
VECTORS = "weights/l2_supercat_256.safetensors"
PIECES = "tokenizers/l2_supercat_tokenizer_config.json"
_HUES = {
    "red": "crimson scarlet ruby cherry maroon burgundy vermilion cardinal carmine rust brick garnet",
    "green": "emerald lime olive jade mint moss forest fern sage khaki avocado chartreuse pistachio shamrock",
    "blue": "navy azure cobalt sapphire indigo royal sky denim cerulean ultramarine midnight steel cornflower",
    "yellow": "gold golden lemon mustard canary blond blonde saffron straw banana honey",
    "orange": "amber apricot tangerine pumpkin coral peach ginger carrot copper",
    "purple": "violet lavender lilac plum mauve magenta aubergine eggplant grape orchid amethyst mulberry",
    "white": "ivory cream snow snowy snow-white pearl alabaster chalk eggshell milky milk-white",
    "black": "ebony jet charcoal onyx coal ink inky pitch-black raven obsidian",
    "pink": "rose rosy fuchsia salmon blush bubblegum flamingo hot-pink",
    "cyan": "turquoise teal aqua aquamarine seafoam",
    "brown": "chocolate tan beige chestnut coffee bronze hazel mahogany caramel walnut cinnamon sepia sienna umber wooden",
    "gray": "grey silver silvery ash slate gunmetal pewter platinum metal metallic iron stone",
}
HUES: dict[str, str] = {name: colour for colour, names in _HUES.items() for name in names.split()}
"""Colours of the toybox by names that others give them."""


def there() -> bool:
    """Return True if the word vectors are installed."""
    return _folder() is not None


def nearest_things(phrase: str, known: Sequence[str], count: int = 3, least: float = LEAST) -> list[str]:
    """Return those of `known` whose vectors have the largest cosine with the phrase's, the nearest first; [] where none reaches
    `least`, or the vectors are not installed. A phrase's vector is the mean of its pieces'.
    """
    if not phrase.strip() or not there():
        return []
    cosine = np.array([_vector(k) for k in known]) @ _vector(phrase)
    order = np.argsort(-cosine, kind="stable")[:count]
    return [str(known[i]) for i in order if cosine[i] >= least]


def _folder() -> Path | None:
    spec = find_spec("wordllama")
    places = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return next((p for p in places if (p / VECTORS).is_file() and (p / PIECES).is_file()), None)


@cache
def _vector(phrase: str) -> Float[np.ndarray, "256"]:
    pieces, table = _table()
    mean = table[pieces.encode(phrase, add_special_tokens=False).ids].astype(np.float32).mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


@cache
def _table() -> tuple[Any, np.ndarray]:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = _folder()
    assert folder is not None
    return Tokenizer.from_file(str(folder / PIECES)), next(iter(load_file(folder / VECTORS).values()))
