"""The same jobs on a real Ray cluster of two nodes, which this test starts on this machine."""

import threading
import time
from pathlib import Path

import pytest
from helpers import write_sd_folder

ray = pytest.importorskip("ray", reason='no Ray here: pip install "ray>=2.40,<3"')

from splatdistill.bench import cluster  # noqa: E402
from splatdistill.bench.plan import Job  # noqa: E402
from splatdistill.bench.record import JobRecord  # noqa: E402
from splatdistill.errors import UserError  # noqa: E402


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory):
    """Yield two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    found.add_node(num_cpus=1, include_dashboard=False)
    found.wait_for_nodes()
    yield found
    ray.shutdown()
    found.shutdown()


def test_jobs_run_on_a_cluster_of_two_nodes_and_a_failure_stops_nothing(nodes, tmp_path: Path):
    prior = write_sd_folder(tmp_path / "sd", patches=True, sample_size=4)
    argv = (
        "--prior",
        str(prior),
        "--device",
        "cpu",
        "--prompt=a red ball",
        "--steps",
        "2",
        "--init.count",
        "30",
        "--resolutions",
        "16",
    )
    arms = {"sds": "sds", "wrong": "there-is-none"}
    jobs = [Job("a red ball", name, 0, ("--guidance", guidance, *argv), (), 2, 8.0) for name, guidance in arms.items()]
    told: list[tuple[Job, JobRecord]] = []
    shares: list[float] = []
    root, until = tmp_path / "jobs", time.monotonic() + 900
    cluster.run(
        jobs, root, nodes.address, 1, 0.0, threading.Event(), until, lambda j, r: told.append((j, r)), shares.append
    )
    how = {job.arm: record.how for job, record in told}
    assert how == {"sds": "done", "wrong": "failed"} and shares[-1] == 1.0
    assert (root / jobs[0].folder / "run" / "splats.ply").stat().st_size > 0
    assert "there is no guidance 'there-is-none'" in next(r.error for j, r in told if j.arm == "wrong")
    assert not list(root.glob(".seen-*")) and not (root / "stopping").exists() and not ray.is_initialized()
    before = {p: p.stat().st_mtime_ns for p in (root / jobs[0].folder).rglob("*")}
    again: list[JobRecord] = []
    cluster.run(
        jobs[:1], root, nodes.address, 1, 0.0, threading.Event(), until, lambda j, r: again.append(r), shares.append
    )
    assert [r.how for r in again] == ["done"]
    assert {p: p.stat().st_mtime_ns for p in (root / jobs[0].folder).rglob("*")} == before, (
        "what is done is not done again"
    )


def test_a_cluster_that_is_to_stop_begins_nothing(nodes, tmp_path: Path):
    stop = threading.Event()
    stop.set()
    job = Job("a red ball", "sds", 0, ("--guidance", "sds"), (), 2, 8.0)
    (tmp_path / "late").touch()  # left behind by a bench that was killed
    told: list[JobRecord] = []
    begun = time.monotonic()
    cluster.run(
        [job], tmp_path, nodes.address, 1, 0.0, stop, begun - 1, lambda j, r: told.append(r), lambda share: None
    )
    assert not (tmp_path / job.folder / "run").exists() and all(r.how == "stopped" for r in told)


def test_no_cluster_is_said_plainly(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="no Ray cluster at 127.0.0.1:1"):
        cluster.run([], tmp_path, "127.0.0.1:1", 1, 0.0, threading.Event(), 0.0, lambda j, r: None, lambda share: None)
