"""Many videos on a Ray cluster of this machine, of whose nodes one is killed."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qsam2_deploy.batch.jobs import jobs_from_manifest
from qsam2_deploy.batch.options import FINISHED
from qsam2_deploy.batch.run import run_batch
from qsam2_deploy.errors import InputError
from tests.batch.conftest import write_manifest
from tests.batch.test_run import ROOT, finished
from tests.support.media_samples import write_video

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and files to the end of the process.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FRAMES, VIDEOS = 60, 24


@pytest.fixture
def cluster(monkeypatch):
    """Start two nodes with room for two workers each; nothing runs where the driver is."""
    ray = pytest.importorskip("ray", reason="ray is needed: pip install 'qsam2-deploy[ray]'")
    from ray.cluster_utils import Cluster

    # The workers are to import the package and these tests.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def test_every_video_is_finished_once_though_a_node_is_killed(
    cluster, options, tmp_path, monkeypatch
):
    """Paths are relative to where the driver runs."""
    cluster, nodes = cluster
    monkeypatch.chdir(tmp_path)
    options = replace(options, out="out", model=Path(options.model).name)
    write_video(tmp_path / "a.mp4", FRAMES)
    names = [f"v{number:02d}" for number in range(VIDEOS)]
    entries = [{"video": "a.mp4", "name": name} for name in names]
    write_manifest(tmp_path, *entries, {"video": "none.mp4"})
    jobs = jobs_from_manifest("videos.jsonl")
    out = tmp_path / "out"
    killed = []

    def kill_a_node():
        while len(finished(out)) < 3:
            time.sleep(0.02)
        killed.append(len(finished(out)))
        cluster.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=kill_a_node)
    thread.start()
    summary = run_batch(jobs, options, address=cluster.address)
    thread.join()
    assert summary.workers == 4
    assert killed[0] < VIDEOS - 4
    assert [outcome.state for outcome in summary.outcomes] == ["done"] * VIDEOS + ["failed"]
    assert "there is no file" in summary.outcomes[-1].reason
    assert finished(out) == names
    records = [json.loads((out / name / FINISHED).read_text()) for name in names]
    assert {record["frames"] for record in records} == {FRAMES}
    assert all(len(os.listdir(out / name / "masks")) == FRAMES for name in names)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:x"])
def test_an_address_without_a_cluster(address, options, tmp_path):
    pytest.importorskip("ray", reason="ray is needed: pip install 'qsam2-deploy[ray]'")
    jobs = jobs_from_manifest(write_manifest(tmp_path, {"video": "a.mp4"}))
    with pytest.raises(InputError, match=f"cannot connect to a Ray cluster at {address}"):
        run_batch(jobs, options, address=address)
