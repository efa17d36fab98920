"""Hostile settings: YAML files and command lines made from valid ones by a seed and a number, each of which must parse or be
refused with a message (UserError, exit status 2), within a second and without a traceback.

    python scripts/fuzz_settings.py --count 10000 --seed 0

What parses is written and read again, and must be the same. A number is made again alone with --only N.
"""

import argparse
import copy
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdistill.bench.options import Bench
from splatdistill.cli.export import Export
from splatdistill.cli.image import COMMAND as IMAGE
from splatdistill.cli.render import Render
from splatdistill.cli.toybox import Toybox
from splatdistill.cli.train import COMMAND as TRAIN
from splatdistill.cli.view import ViewOptions
from splatdistill.errors import UserError
from splatdistill.evaluate.options import Evaluate
from splatdistill.evaluate.variance.options import Variance
from splatdistill.guidance import GUIDANCES
from splatdistill.settings import recipes, yaml
from splatdistill.settings.command_line import command_line
from splatdistill.settings.layers import parse
from splatdistill.settings.options import options_of
from splatdistill.shell import as_typed

LIMIT = 1.0  # seconds of the processor: a busy machine makes nothing slow
PLAIN = {"export": Export, "render": Render, "toybox": Toybox, "view": ViewOptions, "bench": Bench, "evaluate": Evaluate, "variance": Variance}
CONFIGURED = {"train": TRAIN, "image": IMAGE}

WORDS = ["", " ", "x", "off", "on", "yes", "null", "None", "~", "true", "-", "--", "-1", "=", "--=", "a=b", "sds", "tiny", "nowhere.py:X", "ring", "~nobody/x.py:Y", "b" * 5000 + ".py:Z", "\x00.py:N", "."]
WORDS += ["\u202e", "\ud800", "é" * 50, "\x00", "\x1b[31m", "日本語", "a" * 5000, "'", '"', "{", "[", "%s", "{}", "\n", "\t", "../" * 50, "~nobody/x"]
NUMBERS = ["0", "-0", "1", "-3", "1e3", "1e400", "-1e400", "nan", "inf", "-inf", ".nan", ".inf", "1" * 5000, str(2**63), str(2**70), "0x10", "1_0", "1.5", "1e-400"]
VALUES: list[Any] = [None, True, False, 0, -1, 1, 3.5, float("nan"), float("inf"), 10**8, 2**70, 10**400, "", "off", "x", [], [1], [[1]], {}, {"name": "sds"}, {"x": 1}, [None], ["a", "b"]]
TEXTS = [
    "&a {{x: *a}}", "{{<<: {{steps: 3}}}}", "!!python/object/apply:os.system ['true']", "!!binary aGFsbG8=", "!!set {{a, b}}", "!!timestamp 2026-11-28",
    "2026-11-28", "12:30:45", "0o17", "0b1", "? [a, b]\n: c", "|\n  text\n  more", ">-\n  folded", "*nobody", "&x 3", "%YAML 1.1", "---\n---", "\t- x", "{{a: b: c}}",
    "[" * 3000, "{{a: " * 3000, "- " * 200 + "x", "!!int x", "!!float nan", "!!null ''", "'unfinished", '"\\xZZ"', '"\\ud800"', "@x", "`x`", "# only", "...",
]  # fmt: skip

COMMON = ["steps", "seed", "guidance", "guidance.scale", "guidance.variant", "init", "init.count", "prior", "device", "cameras.fov", "perp_neg", "out", "config"]


@dataclass(frozen=True)
class Case:
    """Hostile input: a subcommand, its command line, and the bytes of a file for --config, if it has one."""

    command: str
    argv: tuple[str, ...]
    file: bytes | None = None


def made(seed: int, number: int) -> Case:
    """Return the case of a number; the same seed and number give the same case on every machine."""
    rng = random.Random(f"{seed}-{number}")
    kind = rng.random()
    if kind < 0.15:
        name = rng.choice(sorted(PLAIN))
        return Case(name, tuple(hostile_line(rng, {o.path: None for o in options_of(PLAIN[name])}, [])))
    command = rng.choice(["train", "train", "train", "image"])
    tree = valid(rng, command)
    if kind < 0.5:
        return Case(command, ("--prompt", "a red ball", *hostile_line(rng, dict(yaml.leaves(tree)), COMMON)))
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        mutate(rng, tree)
    text = dumped(tree).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        text = spoilt(rng, text)
    more = hostile_line(rng, {}, COMMON) if rng.random() < 0.2 else []
    return Case(command, ("--prompt", "a red ball", *more), text)


def valid(rng: random.Random, command: str) -> yaml.Tree:
    """Return the options of a recipe, some of them left out, or all of a configuration."""
    paths = recipes.recipe(rng.choice(("tiny", "sd")), [rng.choice(sorted(GUIDANCES))])
    tree = copy.deepcopy(CONFIGURED[command].of(recipes.merged(paths)))
    for key in [k for k in tree if rng.random() < 0.3]:
        del tree[key]
    return tree


def mutate(rng: random.Random, tree: Any) -> None:
    """Change one place of a tree: a value, a key, what is around it."""
    where = tree
    while rng.random() < 0.7 and (inner := [v for v in where.values() if isinstance(v, dict) and v]):
        where = rng.choice(inner)
    key = rng.choice([*where]) if where else "steps"
    match rng.randrange(7):
        case 0:
            where[key] = a_value(rng)
        case 1:
            where[key] = rng.choice([*WORDS, *NUMBERS])
        case 2:
            where[misspelt(rng, key)] = where.pop(key, 1)
        case 3:
            where[key] = {key: where.get(key)}
        case 4:
            where[rng.choice([*WORDS, "name", "times", "guidance", "prior", "device"])] = a_value(rng)
        case 5:
            where[key] = [where.get(key)] * rng.choice([0, 1, 2, 3, 50])
        case _:
            where["name"] = rng.choice([*WORDS, *GUIDANCES, "ball", "file", "gradient"])


def a_value(rng: random.Random) -> Any:
    """Return one of the values, a copy: it may be changed itself, and every number must make its case alone."""
    return copy.deepcopy(rng.choice(VALUES))


def misspelt(rng: random.Random, word: str) -> str:
    """Return a word with a letter gone, doubled, swapped, or of another alphabet."""
    k = rng.randrange(max(len(word), 1))
    return rng.choice([word[:k] + word[k + 1 :], word[:k] + word[k : k + 1] * 2 + word[k + 1 :], word[::-1], word[:k] + "é" + word[k + 1 :], word.upper(), f"{word}.{word}"])


def dumped(tree: Any) -> str:
    """Return a tree as YAML in the flow style, even where PyYAML would not: with raw scalars."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{quoted(k)}: {dumped(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(dumped, tree)) + "]"
    if tree is None or isinstance(tree, bool):
        return {None: "null", True: "true", False: "false"}[tree]
    return hex(tree) if isinstance(tree, int) and abs(tree) > 10**300 else quoted(tree) if isinstance(tree, str) else str(tree)


def quoted(word: str) -> str:
    """Return a word in YAML, in quotes unless it is plain."""
    return word if word.replace("_", "").isalnum() and word.isascii() else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def spoilt(rng: random.Random, text: bytes) -> bytes:
    """Return the text of a file with something in it that YAML has and options do not, cut, or with other bytes."""
    k = rng.randrange(len(text) + 1)
    match rng.randrange(6):
        case 0:
            return text[:k]
        case 1:
            return text[:k] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 8))) + text[k:]
        case 2:
            return text[:k] + rng.choice(TEXTS).replace("{{", "{").replace("}}", "}").encode() + text[k:]
        case 3:
            return rng.choice(["steps: ", "guidance: ", "prompt: ", "cameras: {fov: ", "- "]).encode() + rng.choice(TEXTS).encode() + b"\n" + text
        case 4:
            return (text * rng.choice([2, 3, 2000]))[:2_000_000] if len(text) < 10_000 else text
        case _:
            return rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\x00"]) + text


def hostile_line(rng: random.Random, leaves: dict[str, Any], more: list[str]) -> list[str]:
    """Return a command line: some of these options, their values or others, misspelt, given twice, without a value."""
    argv = [rng.choice(WORDS)] if rng.random() < 0.1 else []
    for _ in range(rng.randint(1, 4)):
        path = rng.choice([*leaves, *more])
        path = misspelt(rng, path) if rng.random() < 0.08 else path
        option = f"--{path}" if rng.random() < 0.1 else f"--{path.replace('_', '-')}"
        before, _, last = option.rpartition(".")
        option = option if rng.random() > 0.05 else f"{before}.no-{last}" if before else f"--no-{last.removeprefix('--')}"
        kept = leaves.get(path)
        values = [str(v) for v in kept] if isinstance(kept, list) else [] if kept is None else [str(kept)]
        if kept is None or rng.random() < 0.3:
            values = [rng.choice([*WORDS, *NUMBERS]) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
        argv += [f"{option}={values[0]}", *values[1:]] if values and rng.random() < 0.3 else [option, *values]
    return [w for w in argv if w not in ("-h", "--help") and not w.startswith("--tyro-")]


def tried(case: Case, folder: Path) -> str:
    """Parse a case; return "parsed" or "refused". Whatever else happens is raised: it is a fault."""
    argv = list(case.argv)
    if case.file is not None:
        (folder / "mine.yaml").write_bytes(case.file)
        argv += ["--config", str(folder / "mine.yaml")]
    try:
        if case.command in PLAIN:
            command_line(PLAIN[case.command], argv, f"splatdistill {case.command}")
            return "parsed"
        parsed = parse(argv, lambda source: "tiny", CONFIGURED[case.command])
    except UserError as e:
        said = str(e)
        if e.code not in (2, 3) or not said.strip() or len(said) > 1500 or len(said.splitlines()) > 3:
            raise AssertionError(f"the message is none: {e.code}, {len(said)} characters, {said[:300]!r}") from None
        said.encode("utf-8", "replace")
        return "refused"
    again = folder / "again.yaml"
    again.write_text(parsed.yaml(["again"]), encoding="utf-8", errors="surrogatepass")
    if any("\ud800" <= c <= "\udfff" for c in parsed.yaml([])):  # refused later, as no text
        return "parsed"
    read = parse(["--config", str(again)], lambda source: None, CONFIGURED[case.command])
    if read.config != parsed.config:
        raise AssertionError(f"written and read again it is another configuration:\n{parsed.config}\n{read.config}")
    return "parsed"


def run(seed: int, numbers: range, tell: Callable[[str], None]) -> tuple[Counter[str], float]:
    """Try the cases of some numbers; return how many ended how, "fault" among them, and the longest time in seconds."""
    ends: Counter[str] = Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            case = made(seed, number)
            began = time.process_time()
            try:
                end = tried(case, Path(folder))
            except (Exception, SystemExit):
                end = "fault"
                tell(f"number {number}: {as_typed('splatdistill', case.command, *case.argv)!r:.2000}\nfile: {case.file!r:.2000}\n{traceback.format_exc()}")
            took = time.process_time() - began
            if end != "fault" and took > LIMIT:
                end = "slow"
                tell(f"number {number}: {took:.1f} s: {case.command} {list(case.argv)!r:.500}\nfile: {case.file!r:.500}")
            ends[end] += 1
            longest = max(longest, took)
    return ends, longest


def main() -> int:
    """Run from a shell; 1 where a case was neither parsed nor refused in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="cases (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds make other cases (default: 0)")
    parser.add_argument("--only", type=int, help="this number alone")
    o = parser.parse_args()
    numbers = range(o.count) if o.only is None else range(o.only, o.only + 1)
    began = time.process_time()
    ends, longest = run(o.seed, numbers, lambda text: print(text, flush=True))
    print(f"{sum(ends.values())} cases of seed {o.seed} in {time.process_time() - began:.0f} s, the longest {longest:.2f} s: {', '.join(f'{n} {end}' for end, n in sorted(ends.items()))}")
    return 1 if ends["fault"] or ends["slow"] else 0


if __name__ == "__main__":
    sys.exit(main())
