"""Settle the options of `bench`: what can be refused is refused here, before the first run."""

import dataclasses
import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from splatdistill import __version__
from splatdistill.bench.cost import Cost, cost
from splatdistill.bench.networks import networked
from splatdistill.bench.options import Bench
from splatdistill.bench.plan import Arm, Job
from splatdistill.bench.preset import Budget, Listed, Preset, presets, read
from splatdistill.errors import UserError, WeightsError
from splatdistill.estimators.weights import clip_for, find, geometry_for
from splatdistill.evaluate.clip_model import VIT_B32, embedded_for
from splatdistill.evaluate.measure import named
from splatdistill.evaluate.prompt_file import prompts_of
from splatdistill.guidance import SSD
from splatdistill.guidance.baselines import SHAPES
from splatdistill.priors.weights import EMBEDDED, KNOWS
from splatdistill.settings import recipes, yaml
from splatdistill.settings.commands import CHOICES, parse_train
from splatdistill.settings.methods import apart, listed, split, typed
from splatdistill.settings.resolve import Weights, device_of, refuse_prompt
from splatdistill.system import cores
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.config import Train
from splatdistill.weight_files import download_command

FIELDS = {f.name for f in dataclasses.fields(Train)} - {"guidance"}
OURS = ("prompt", "seed", "prior", "device", "steps", "checkpoint_every", "preview_every")  # what the bench itself sets


@dataclass(frozen=True)
class Planned:
    """Bench whose settings are all resolved."""

    name: str
    about: str
    prompts: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    prior: str
    device: str
    common: tuple[str, ...]  # options of all runs
    budget: Budget
    amount: float
    steps: dict[str, int]  # by arm; empty where they are to be measured
    images: dict[str, float]  # that networks are asked about per step, by arm
    costs: dict[str, Cost | None]  # the same along the run; None for what cannot be counted
    polish: dict[str, float]  # images of the steps after a network's, of each prompt, by arm
    clip: str  # that measures
    against: str
    points: int
    workers: int
    threads: int
    gpus: float
    notes: tuple[str, ...]

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the prompts among which a CLIP retrieves: those of the bench, and of all corpora."""
        return tuple(dict.fromkeys([*self.prompts, *(p for a in self.arms if a.network for p in a.network.corpus)]))

    @property
    def budget_told(self) -> str:
        """Return the budget in words."""
        amount, each = f"{self.amount:,.0f}", " of a prompt" if any(a.network for a in self.arms) else ""
        told = {
            "recipe": "each as long as its recipe says",
            "steps": f"{amount} steps each",
            "calls": f"{amount} network images{each} each",
            "seconds": f"about {amount} seconds each",
        }[self.budget]
        more = [f"{a.share:g} times that for {a.name!r}" for a in self.arms if a.share != 1]
        return f"{told} ({', '.join(more)})" if more else told

    def as_record(self, jobs: list[Job], argv: list[str]) -> dict[str, Any]:
        """Return the content of bench.json."""
        return {
            "version": __version__,
            "machine": {"system": platform.platform(), "processors": os.cpu_count(), "torch": torch.__version__},
            "argv": argv,
            **{
                f.name: getattr(self, f.name)
                for f in dataclasses.fields(self)
                if f.name not in ("arms", "notes", "costs")
            },
            "arms": [dataclasses.asdict(a) for a in self.arms],
            "jobs": [{"folder": f"jobs/{j.folder}", **dataclasses.asdict(j)} for j in jobs],
        }


def settle(o: Bench) -> Planned:
    """Resolve a bench's options into jobs; UserError or WeightsError for what is impossible, or would measure nothing."""
    name, preset = chosen(o)
    prompts = tuple(o.prompt) + (prompts_of(o.prompts) if o.prompts else ())
    needs = "any" if prompts else preset.needs  # what a preset asks for its own prompts
    prompts = tuple(dict.fromkeys(prompts or preset.prompts))[: o.count]
    if not prompts:
        raise UserError("bench needs prompts: --preset NAME (--list shows them), --prompts FILE, or --prompt TEXT ...")
    weights = Weights()
    source, family = suited(o.prior or preset.prior, needs, prompts, weights)
    device = device_of(o.device)
    asked = [Listed(text, called) for called, text in split(listed(o.guidances)).items()] if o.guidances else None
    asked = asked or list(preset.arms_sd if family == "sd" and preset.arms_sd else preset.arms)
    if not asked:
        raise UserError(
            'bench needs methods: --guidances NAME ..., such as sds "sdi[eta=0]", or a preset that has some'
        )
    base = ("--prior", source, "--device", device)
    common = (*base, *(yaml.to_argv(yaml.read(o.config)) if o.config else ()))
    made = [networked(one, base, weights) if one.corpus else (armed(one), None) for one in asked]
    arms = tuple(arm for arm, _ in made)
    if doubled := [a.name for a in arms if [b.name for b in arms].count(a.name) > 1]:
        raise UserError(f"two methods are called {doubled[0]!r}; give each a name of its own")
    configs = {a.name: configured(a, common, prompts[0], weights) for a in arms}
    arms = tuple(dataclasses.replace(a, settings=settings(configs[a.name])) for a in arms)
    trained = {arm.name: config for arm, config in made if config is not None}
    arms = tuple(dataclasses.replace(a, network=a.network and dataclasses.replace(a.network, settings=settings(trained[a.name]))) for a in arms)
    corpora = [p for a in arms if a.network for p in a.network.corpus]
    clip = judge(o.clip, None if family == "sd" else embedded_for(map(named, dict.fromkeys([*prompts, *corpora]))))
    budget = o.budget or preset.budget
    amount = o.amount if o.amount is not None else (preset.amount_sd if family == "sd" else 0.0) or preset.amount
    if budget != "recipe" and not amount > 0:
        raise UserError(f"--budget {budget} needs an --amount above 0, got {amount:g}")
    seeds = tuple(dict.fromkeys(o.seeds if o.seeds is not None else preset.seeds))
    against = o.against or arms[0].name
    if against not in configs:
        raise UserError(f"--against {against}: there is no such method here; expected one of {', '.join(configs)}")
    points = preset.points if o.points is None else o.points
    for option, value in (("seeds", len(seeds)), ("workers", o.workers), ("threads", o.threads), ("count", o.count)):
        if value is not None and value < 1:
            raise UserError(f"--{option} must be at least 1, got {value}")
    if trained and budget == "seconds":
        raise UserError("--budget seconds is for methods of one prompt; of networks say calls, images of each prompt of a corpus")
    images, steps, costs = costed(arms, configs | trained, family, budget, amount)
    after = {a.name: counted(configs[a.name], family) for a in arms if a.polish}
    polish = {a.name: a.polish * after[a.name].mean for a in arms if a.polish}
    costs |= after  # which curves go by
    threads = o.threads or (1 if device == "cpu" else max(1, (os.cpu_count() or 1) // (o.workers or 1)))
    workers = o.workers or (max(1, cores() // threads) if device == "cpu" else 1)
    gpus = 0.0 if device == "cpu" else 1.0 / workers
    told = (weights.find(source).notice,) if family == "sd" else ()
    return Planned(
        name, preset.about, prompts, arms, seeds, source, device, common, budget, amount, steps, images,
        costs, polish, clip, against, points, workers, threads, gpus, tuple(filter(None, told)),
    )  # fmt: skip


def chosen(o: Bench) -> tuple[str, Preset]:
    """Return the preset that was asked for; one without anything where none was."""
    if o.preset is None:
        return ("own", Preset(prompts=(), seeds=(0,)))
    known = presets()
    if o.preset in known:
        return o.preset, known[o.preset]
    path = Path(o.preset).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return path.stem, read(path)
    raise UserError(f"there is no preset {o.preset!r}; expected {', '.join(known)}, or a YAML file like those")


def suited(asked: str, needs: str, prompts: tuple[str, ...], weights: Weights) -> tuple[str, recipes.Family]:
    """Return the prior by the name that means the same everywhere, and its family; refused where it does not know the prompts."""
    found = weights.find(asked)
    if found.embedded and needs == "real":
        raise WeightsError(
            f"These prompts need Stable Diffusion weights, and the embedded prior `{found.embedded}` knows {KNOWS[found.embedded]}.\n"
            "Give weights, --prior DIR or --prior HUB_ID (`splatdistill doctor` says how to get them), or other prompts: "
            "--preset toybox."
        )
    if found.embedded and asked == "auto":
        raise WeightsError(
            f"A bench does not fall back to the embedded prior by itself. {found.notice}\n"
            f"Say --prior {' or --prior '.join(EMBEDDED)} to bench one, with prompts of the toybox."
        )
    if needs == "toybox" and not found.embedded:
        raise UserError(
            f"This preset compares with the toybox's own objects, which only the embedded priors were taught, and the prior "
            f"is {found.name}.\nSay --prior tiny; or give prompts of your own with --prompts FILE, which are then measured "
            "without a truth."
        )
    family = recipes.family_of(found.embedded)
    for prompt in prompts:
        refuse_prompt(prompt, "", family)
    local = Path(found.name).expanduser().exists()
    return found.embedded or (str(found.path) if local else found.name), family


def armed(one: Listed) -> Arm:
    """Return an arm as the options of `train`: those in the brackets that are fields of a run are a run's, others the guidance's."""
    kind, options, wrong_view = apart(one.method)
    if wrong_view:
        raise UserError(f"{one.method}: @wrong-view is for `variance`; a run has its own render")
    argv = ["--guidance", CHOICES[0].spell(CHOICES[0].find(kind))]
    for key, value in options:
        head = key.split(".")[0].replace("-", "_")
        if head in OURS:
            raise UserError(f"{one.method}: {key} is the bench's own to set, and the same for all methods")
        argv += typed(key if head in FIELDS else f"guidance.{key}", value)
    if not one.share > 0:
        raise UserError(f"{one.method}: its share of the budget is {one.share:g}; expected a number above 0")
    return Arm(one.name or one.method, one.method, tuple(argv), one.share, one.about)


def configured(arm: Arm, common: tuple[str, ...], prompt: str, weights: Weights) -> Train:
    """Return the configuration that an arm's runs will have; refused where its numbers make no sense or its networks are missing."""
    config: Train = parse_train([*arm.argv, *common, f"--prompt={prompt}"], weights.family).config
    guidance = config.guidance
    if isinstance(guidance, SSD) and guidance.baselines:
        if set(guidance.baselines) & set(SHAPES):
            find(geometry_for(config.prior) if guidance.geometry == "auto" else guidance.geometry)
        if "clip" in guidance.baselines:
            find(clip_for(config.prior) if guidance.clip == "auto" else guidance.clip, "clip")
        if guidance.zero123:
            weights.find(guidance.zero123)
    return config


def settings(config: Train | Amortise) -> str:
    """Return a digest of all values of a run but those that tell its jobs apart."""
    alike = [(f.name, getattr(config, f.name)) for f in dataclasses.fields(config) if f.name not in OURS]
    return hashlib.sha256(repr(alike).encode()).hexdigest()[:10]


def judge(asked: str, embedded: str | None) -> str:
    """Return the CLIP that will measure: the one asked for, else ViT-B/32 where it is here, else the embedded one; WeightsError where there is none, since a bench without one measures nothing."""
    for source in [asked] if asked != "auto" else [VIT_B32, *([embedded] if embedded else [])]:
        try:
            find(source, "clip")
            return source
        except WeightsError as e:
            missing = e
    raise WeightsError(
        f"The bench would have nothing to measure with. {str(missing).splitlines()[0]}\nWhat to do, one of:\n"
        f"  {download_command(VIT_B32)}\n  --clip DIR, a folder of a CLIP in transformers' layout"
    )


def counted(config: Train | Amortise, family: recipes.Family) -> Cost:
    """Return the images of a configuration's steps; UserError for a method whose cannot be counted."""
    return cost(config, family == "sd" if config.perp_neg == "auto" else config.perp_neg == "on")


def costed(
    arms: tuple[Arm, ...], configs: dict[str, Train | Amortise], family: recipes.Family, budget: Budget, amount: float
) -> tuple[dict[str, float], dict[str, int], dict[str, Cost | None]]:
    """Return images per step, steps, and images along the run, of each arm; of its network's training where it has one, whose budget
    of images is each prompt's of the corpus.
    """
    images, steps, costs = {}, {}, {}
    known: dict[str, Cost] = {}  # by settings: arms often differ in their shares alone
    for arm in arms:
        config = configs[arm.name]
        try:
            found = known[settings(config)] = known.get(settings(config)) or counted(config, family)
            images[arm.name] = found.mean
        except UserError:
            if budget == "calls":
                raise
            found = None
            batches = config.accumulate if isinstance(config, Train) else config.prompts
            images[arm.name] = float(config.batch * config.prior_views * batches)  # a weight for the progress bar, no more
        costs[arm.name] = found
        prompts = len(arm.network.corpus) if arm.network else 1
        match budget:
            case "calls":
                steps[arm.name] = max(1, round(amount * arm.share * prompts / images[arm.name]))
            case "steps":
                steps[arm.name] = max(1, round(amount * arm.share))
            case "recipe":
                steps[arm.name] = max(1, round(config.steps * arm.share))
    return images, steps, costs
