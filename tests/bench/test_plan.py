"""Plans of a bench: jobs that cannot be mistaken for each other, presets that are read whole, costs that are counted."""

from dataclasses import replace

import pytest
import torch
from conftest import ROOT

from splatdistill.bench import preset, settle
from splatdistill.bench.cost import cost
from splatdistill.bench.networks import networked
from splatdistill.bench.plan import Arm, Job, jobs
from splatdistill.bench.preset import Listed
from splatdistill.bench.settle import armed, configured, presets, settings
from splatdistill.errors import UserError
from splatdistill.evaluate import prompt_file
from splatdistill.guidance import GUIDANCES, SDS, Times
from splatdistill.priors.weights import EMBEDDED
from splatdistill.settings.commands import parse_train
from splatdistill.settings.resolve import Weights
from splatdistill.train.config import Train

HOSTILE = [
    "../../etc/passwd",
    "a/b\\c",
    "-rf .",
    "x" * 5000,
    "ein Drache\nmit Zeilen",
    "🐉",
    "<script>alert(1)</script>",
]


def test_every_prompt_arm_and_seed_is_a_job_of_its_own():
    arms = [Arm("sds", "sds", ("--guidance", "sds")), Arm("sdi", "sdi", ("--guidance", "sdi"))]
    made = jobs(
        ["a", "b", "c"], arms, [0, 1], ["--device", "cpu"], {"sds": 10, "sdi": 5}, {"sds": 40.0, "sdi": 50.0}, 4
    )
    assert len(made) == 12 == len({j.folder for j in made})
    assert [j.prompt for j in made] == sorted(j.prompt for j in made), "one prompt after the other"
    assert {(j.arm, j.steps, j.calls) for j in made} == {("sds", 10, 40.0), ("sdi", 5, 50.0)}


def test_other_options_are_another_job_and_how_often_it_is_saved_is_not():
    job = Job("a", "sds", 0, ("--guidance", "sds", "--steps", "10"), ("--checkpoint-every", "5"))
    assert Job("a", "sds", 0, ("--guidance", "sds", "--steps", "11")).folder != job.folder
    assert Job("a", "sds", 0, job.argv, ("--checkpoint-every", "2")).folder == job.folder


def test_a_recipe_that_has_changed_makes_other_jobs():
    before = configured(armed(Listed("sds")), ("--prior", "tiny"), "a red ball", Weights())
    other = {settings(replace(before, **change)) for change in ({"batch": 3}, {"guidance": replace(before.guidance, scale=9)})}
    assert len(other | {settings(before)}) == 3
    assert settings(replace(before, prompt="a blue cube", seed=5, steps=7)) == settings(before), "what jobs say themselves"
    arms = [Arm("sds", "sds", (), settings=each) for each in (settings(before), *other)]
    assert len({jobs(["a"], [arm], [0], (), {"sds": 1}, {"sds": 1.0}, 0)[0].folder for arm in arms}) == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_a_folder_is_two_plain_words_whatever_the_prompt(text):
    for folder in (Job(text, "arm", 0, ()).folder, Job("prompt", text, 0, ()).folder):
        parts = folder.split("/")
        assert len(parts) == 2 and all(
            p and len(p) < 100 and p.replace("-", "").isalnum() and p.isascii() for p in parts
        )


def test_a_prompt_that_looks_like_an_option_stays_a_prompt():
    (job,) = jobs(
        ["--steps 9"], [Arm("sds", "sds", ("--guidance", "sds"))], [0], ["--prior", "tiny"], {"sds": 3}, {"sds": 1.0}, 0
    )
    config = parse_train([*job.argv, *job.saving], lambda source: None).config
    assert (config.prompt, config.steps, config.checkpoint_every) == ("--steps 9", 3, 0)


QUICK = ("smoke", "densify", "stein-22", "corpus-lines")  # one of each kind; reading the options of all takes half a minute


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(p.stem for p in (ROOT / "configs/bench").glob("*.yaml"))])
def test_shipped_presets_are_whole_and_their_arms_are_methods(name):
    bench = presets()[name]
    assert bench.about and bench.prompts and bench.seeds and (bench.budget == "recipe" or bench.amount > 0)
    for family, listed in (("tiny", bench.arms), ("sd", bench.arms_sd or bench.arms)):
        base = ("--prior", family, "--device", "cpu")
        arms = [networked(one, base, Weights())[0] if one.corpus else armed(one) for one in listed if not one.corpus or family == "tiny"]
        assert len({a.name for a in arms}) == len(arms) and len(listed) > 1
        for arm in arms if family == "sd" or bench.needs != "real" else []:
            parse_train([*arm.argv, "--prompt", "x"], lambda source, family=family: family)
    text = (ROOT / "configs/bench" / f"{name}.yaml").read_text(encoding="utf-8")
    assert "Source" in text.split("about:")[0]


def test_toybox_presets_ask_for_what_the_toybox_has():
    from splatdistill.toybox import parse
    from splatdistill.toybox.things import understood

    for bench in presets().values():
        if bench.needs == "toybox":
            caption = understood if bench.prior == "world" else parse
            assert all(str(caption(p)) == p for p in bench.prompts) and bench.prior in EMBEDDED
    assert len(presets()["stein-22"].prompts) == 22 == len(set(presets()["stein-22"].prompts))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("promts: [a]", "did you mean 'prompts'"),
        ("budget: hours", "budget is one of"),
        ("prompts: a red ball", "prompts is a list"),
        ("arms: [{name: x}]", "with `method`"),
        ("arms: [{of: sds, shares: 2}]", "with `method`"),
        ("seeds: [one]", "seeds is a list"),
        ("amount: many", "amount is a number"),
        ("- a\n- b", "no keys"),
        ("a: [", "not YAML"),
    ],
)
def test_a_preset_that_says_nonsense_is_refused(tmp_path, text, complaint):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        preset.read(path)


def test_prompt_files(tmp_path):
    lines, lists, tree = (tmp_path / n for n in ("p.txt", "p.json", "q.json"))
    lines.write_text("# mine\n a red ball \n\na blue cube\na red ball\n", encoding="utf-8")
    lists.write_text('["a", "b", "a"]', encoding="utf-8")
    tree.write_text('{"train": ["a"], "test": ["c"], "note": "x"}', encoding="utf-8")
    assert prompt_file.prompts_of(lines) == ("a red ball", "a blue cube")
    assert (prompt_file.prompts_of(lists), prompt_file.prompts_of(tree)) == (("a", "b"), ("a", "c"))
    for text in ("[1, 2]", "{", "[]", '"x"', "3"):
        lists.write_text(text, encoding="utf-8")
        with pytest.raises(UserError):
            prompt_file.prompts_of(lists)


@pytest.mark.parametrize(
    "text", ["sds[seed=3]", "sds[prompt=x]", "sds[steps=5]", "sds@wrong-view", "sds[scale]", "nothing"]
)
def test_an_arm_sets_nothing_that_is_the_benchs(text):
    with pytest.raises(UserError):
        armed(preset.Listed(text))


def test_brackets_hold_options_of_the_run_and_of_the_guidance():
    arm = armed(
        preset.Listed("sds[scale=3,particles=2,resolutions=32 64,milestones=0.5,times.t_min=0.1,view_dependent=False]")
    )
    config = parse_train([*arm.argv, "--prompt", "x"], lambda source: "tiny").config
    assert (config.guidance.scale, config.guidance.times.t_min, config.particles) == (3.0, 0.1, 2)
    assert config.resolutions == (32, 64) and not config.view_dependent


COSTS = {"sds": 2, "sjc": 2, "csd": 2, "nfsd": 3, "asd": 3, "vsd": 4, "ssd": 2, "collaborative": 2, "cfd": 2}
"""Images per view and step, as tests/guidance pins them; VSD's with one step of its adapter."""


@pytest.mark.parametrize("name", COSTS)
def test_costs_are_those_that_are_pinned(name):
    guidance = GUIDANCES[name]()
    assert cost(Train(guidance=guidance, batch=3), False).mean == 3 * COSTS[name]


def test_costs_follow_options_time_and_perp_neg():
    one = cost(Train(guidance=SDS(scale=1.0), batch=2, accumulate=2), False)
    assert one.mean == 4 and cost(Train(guidance=SDS(), batch=2), True).mean == 8
    assert cost(Train(guidance=SDS(), batch=2, prior_views=4), False).mean == 4 * cost(Train(guidance=SDS(), batch=2), False).mean
    falling = cost(Train(guidance=GUIDANCES["sdi"](times=Times("linear", t_min=0.2, t_max=0.9)), batch=1), False)
    assert falling.images[0] == 2 * 8 + 2 and falling.images[-1] == 2 * 2 + 2, (
        "int(10 t) moves of a pair, and the last pair"
    )
    parts = [falling.until(p) for p in torch.linspace(0, 1, 21).tolist()]
    assert parts[0] == 0 and parts[-1] == pytest.approx(1) and all(a < b for a, b in zip(parts, parts[1:]))
    assert falling.until(0.5) > 0.5 and falling.steps(1000) == round(1000 / falling.mean) and falling.steps(1e-9) == 1


def test_arms_that_differ_in_their_shares_alone_are_counted_once(monkeypatch):
    seen, whole = [], settle.counted
    monkeypatch.setattr(settle, "counted", lambda config, family: seen.append(config) or whole(config, family))
    arms = tuple(replace(armed(Listed(method)), name=name, share=share) for name, method, share in (("a", "sds", 1.0), ("b", "sds", 0.5), ("c", "csd", 1.0)))
    configs = {arm.name: configured(arm, ("--prior", "tiny"), "a red ball", Weights()) for arm in arms}
    images, steps, _ = settle.costed(arms, configs, "tiny", "calls", 1200)
    assert [type(c.guidance).__name__ for c in seen] == ["SDS", "CSD"]
    assert images["a"] == images["b"] and steps["a"] == 2 * steps["b"]
