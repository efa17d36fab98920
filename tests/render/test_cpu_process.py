"""The compiled rasteriser among threads and processes, its cache on disk, and what happens where it cannot work."""

import os
import platform
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from splats import blobs, trainable

from splatdistill.cameras import orbit
from splatdistill.render import cpu
from splatdistill.render.cpu import cache, memory, pipeline, pool
from splatdistill.render.cpu.memory import empty
from splatdistill.render.cpu.rasterize import rasterize
from splatdistill.render.reference import ReferenceRasterizer
from splatdistill.toybox import tracer


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use three threads for every stage, however small the scene and the machine."""
    for name in [name for name in vars(pipeline) if name.startswith("SPLIT_")]:
        monkeypatch.setattr(pipeline, name, 0)
    monkeypatch.setattr(pool, "threads", lambda: 3)


def rendered(seed: int, degree: int = 1) -> list[torch.Tensor]:
    """Return images and gradients of a scene."""
    rng = torch.Generator().manual_seed(seed)
    gaussians = trainable(blobs(70, rng, degree).to(dtype=torch.float32))
    output = rasterize(gaussians, orbit([seed, 100.0 + seed], width=40))
    (output.rgb.sin().sum() + output.depth.sum()).backward()
    images = [output.rgb.detach(), output.alpha.detach(), output.depth.detach()]
    return [*images, gaussians.means.grad, gaussians.quats.grad, gaussians.sh.grad, output.screen.means.grad]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_threads_agree(request: pytest.FixtureRequest) -> None:
    """Images to the last bit; gradients, whose sums are cut differently, to rounding. Each count repeats itself."""
    alone = rendered(0)
    assert same(alone, rendered(0))
    request.getfixturevalue("divided")
    together = rendered(0)
    assert same(together, rendered(0))
    assert same(alone[:3], together[:3])
    for a, b in zip(alone[3:], together[3:]):
        assert (a - b).norm() < 1e-5 * a.norm()


def test_thread_count_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.threads() == 1  # the tests' own setting
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert pool.threads() == len(os.sched_getaffinity(0))


def test_python_threads_render_at_once(divided: None) -> None:
    expected = [rendered(seed) for seed in range(4)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(10):
            if not same(rendered(seed), expected[seed]):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_renders(divided: None) -> None:
    """After the parent's workers were started, and while they are in use: they do not exist in the child."""
    expected = rendered(1)
    with pool._pool._in_use:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if same(rendered(1), expected) and pool._pool._queues else 2
            finally:
                os._exit(status)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)
    assert same(rendered(1), expected)


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_a_workers_error_reaches_the_caller(guilty: int) -> None:
    """After every share has ended, and without harm to the next run."""
    done: list[int] = []

    def work(share: int) -> None:
        if share == guilty:
            raise ValueError(f"share {share}")
        time.sleep(0.05)
        done.append(share)

    with pytest.raises(ValueError, match=f"share {guilty}"):
        pool.run(work, 3)
    assert sorted(done) == [share for share in range(3) if share != guilty]
    done.clear()
    pool.run(done.append, 3)
    assert sorted(done) == [0, 1, 2]


def test_memory_is_reused_when_nothing_refers_to_it_and_not_before() -> None:
    size = 12_345 * 64  # that no other test asks for
    a, b = empty((size, 5), np.float32), empty(5 * size, np.float32)
    assert a.ctypes.data % 64 == 0 and b.ctypes.data % 64 == 0
    a[:], b[:] = 1, 2
    assert (a == 1).all() and (b == 2).all()
    places = {a.ctypes.data, b.ctypes.data}
    row, tensor = a[-1:].reshape(5)[1:], torch.from_numpy(b[3:]).view(-1, 1)[1:]  # small views hold the whole
    del a, b
    other = empty((5, size), np.float32)
    assert other.ctypes.data not in places
    assert (row == 1).all() and (tensor == 2).all()
    del row, tensor
    c, d = empty(5 * size, np.float32), empty(5 * size, np.float32)
    assert {c.ctypes.data, d.ctypes.data} == places
    del c, d


def test_memory_that_waits_is_bounded() -> None:
    size = 2**25
    held = [empty(size, np.uint8) for _ in range(2 * memory.KEPT // size)]
    del held
    assert sum(size * len(blocks) for size, blocks in memory._free.items()) <= memory.KEPT + size


def test_images_and_gradients_outlive_the_renders_after_them() -> None:
    first = rendered(3)
    kept = [x.clone() for x in first]
    for seed in (4, 5, 6):
        rendered(seed)
    assert same(first, kept)


def test_cache_folder_is_the_users_choice_or_the_next_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, user = tmp_path / "chosen", tmp_path / "user"
    monkeypatch.setenv(cache.ENVIRONMENT, str(chosen))
    monkeypatch.setenv("XDG_CACHE_HOME", str(user))
    assert cache.directory.__wrapped__().parent == chosen
    monkeypatch.delenv(cache.ENVIRONMENT)
    assert cache.directory.__wrapped__().parent == user / "splatdistill"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.directory.__wrapped__().parent == tmp_path / ".cache" / "splatdistill"
    blocked = tmp_path / "file"
    blocked.write_text("no folder can be made in here", encoding="utf-8")
    monkeypatch.setenv(cache.ENVIRONMENT, str(blocked))
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    private = tmp_path / f"splatdistill-{os.getuid()}"
    assert cache.directory.__wrapped__().parent == private
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o777)  # others could put code there
    with pytest.raises(OSError, match=cache.ENVIRONMENT):
        cache.directory.__wrapped__()


def test_cache_knows_sources_versions_and_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache.fingerprint()
    assert before == cache.fingerprint()
    with monkeypatch.context() as m:
        m.setattr(cache.numba, "__version__", "0")
        assert cache.fingerprint() != before
    with monkeypatch.context() as m:
        m.setattr(cache.llvmlite.binding, "get_host_cpu_name", lambda: "another")
        assert cache.fingerprint() != before
    copied = tmp_path / "cpu"
    (copied / "kernels").mkdir(parents=True)
    for path in Path(cache.__file__).parent.rglob("*.py"):
        (copied / path.relative_to(Path(cache.__file__).parent)).write_bytes(path.read_bytes())
    monkeypatch.setattr(cache, "__file__", str(copied / "cache.py"))
    assert cache.fingerprint() == before
    with (copied / "kernels" / "blocks.py").open("a") as source:
        source.write("# an edit\n")
    assert cache.fingerprint() != before


def double(x):
    return 2 * x


def test_compiles_once_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)
    monkeypatch.setattr(cache._Cache, "_last_compiled", -float("inf"))
    cold = cache.compiled(double)
    assert cold(3) == 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "compiling" in said and str(tmp_path) in said
    assert cold(1.5) == 3.0  # another type, in the same burst
    assert capsys.readouterr().err == ""
    warm = cache.compiled(double)
    assert warm(4) == 8
    assert capsys.readouterr().err == ""
    assert sum(warm.stats.cache_hits.values()) == 1 and not warm.stats.cache_misses
    for index in tmp_path.glob("*.nbi"):
        index.write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert cache.compiled(double)(5) == 10


def test_other_numba_code_keeps_its_cache() -> None:
    assert str(cache.directory()) not in str(numba.config.CACHE_DIR)
    assert str(cache.directory()) != tracer._trace._cache.cache_path


def test_falls_back_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    find = cpu.cpu_rasterizer.__wrapped__
    assert find() is rasterize
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "numba.core.errors", None)
        with pytest.warns(UserWarning, match="(?s)numba.core.errors.*reference"):
            assert isinstance(find(), ReferenceRasterizer)
    with monkeypatch.context() as m:
        m.setattr(platform, "machine", lambda: "s390x")
        with pytest.warns(UserWarning, match="s390x"):
            assert isinstance(find(), ReferenceRasterizer)

    def unsupported(*_: object, **__: object) -> None:
        raise RuntimeError("LLVM cannot select an instruction")

    with monkeypatch.context() as m:
        m.setattr("splatdistill.render.cpu.pipeline.composite", unsupported)
        with pytest.warns(UserWarning, match="LLVM cannot select"):
            assert isinstance(find(), ReferenceRasterizer)


def test_a_wrong_result_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(*args: object, **options: object) -> object:
        output = ReferenceRasterizer()(*args, **options)
        output.alpha.data.mul_(1.01)
        return output

    assert cpu._mistake(ReferenceRasterizer()) is None
    assert "instead of" in cpu._mistake(off)
