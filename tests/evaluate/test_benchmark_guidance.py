"""The cost benchmark's bookkeeping: what it calls a step's network calls are those, and nothing else."""

import importlib.util

import pytest
import torch
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill.guidance import GUIDANCES
from splatdistill.priors.weights import find, load

spec = importlib.util.spec_from_file_location("benchmark_guidance", ROOT / "scripts" / "benchmark_guidance.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return load(find(str(write_sd_folder(tmp_path_factory.mktemp("sd")))), precision="float32")


@pytest.mark.parametrize("name", GUIDANCES)
def test_the_calls_alone_are_the_step_s_calls(prior, name):
    bench = benchmark.Bench(name, GUIDANCES[name](), prior, batch=2)
    bench.listen(0)
    assert bench.x.grad is not None and bench.x.grad.abs().max() > 0 and len(bench.images) == 1
    before = prior.calls
    bench.networks(0)
    assert (prior.calls - before) / 2 == bench.images[0] >= 1
    for k in range(2):
        bench.repeat(k)
    assert len(bench.whole) == len(bench.alone) == 2 and min(bench.whole + bench.alone) > 0
    assert "answer" not in vars(prior)  # the tape is taken out again


def test_the_random_unet_has_the_shape_of_stable_diffusion_1_5():
    prior = benchmark.sd_like(32, 8, "cpu")
    x = prior.encode(torch.rand(1, 3, 64, 64))
    assert x.shape == (1, 4, 8, 8) and prior.unet.config.block_out_channels == (32, 64, 128, 128)
    assert prior.unet.config.cross_attention_dim == 768 and prior.embed(["a red mushroom", ""]).tokens.shape == (2, 77, 768)
    bench = benchmark.Bench("sds", GUIDANCES["sds"](), prior, batch=1)
    bench.listen(0)
    assert bench.images == [2.0]


def test_quartiles():
    assert benchmark.quartiles([3.0, 1.0, 2.0, 5.0, 4.0]) == (2.0, 3.0, 4.0) and benchmark.quartiles([1.0]) == (1.0, 1.0, 1.0)
