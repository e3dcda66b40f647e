"""Training on two processes: DistributedDataParallel and FSDP come to what stock comes to, or are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="LeRobot trains by accelerate, and it is not installed")

pytestmark = [
    pytest.mark.consistency,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without processes"),
    pytest.mark.skipif(sys.platform == "win32", reason="the two processes are forks"),
]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two processes came to, by how the policy is distributed and which it is."""
    file = tmp_path_factory.mktemp("two_processes") / "results.pt"
    child = subprocess.Popen(
        [sys.executable, str(HERE / "two_processes.py"), str(file)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=400)
    finally:
        if child.poll() is None:  # both of its processes too
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    assert child.returncode == 0, output[-3000:]
    return torch.load(file, weights_only=False)


fsdp2_on_a_cpu = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="this torch's FSDP2 needs a GPU (torch 2.6)"
)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("ddp", "auto"),
        ("ddp, small buckets", "default"),
        pytest.param("fsdp2 by layers", "patched", marks=fsdp2_on_a_cpu),
        pytest.param("fsdp2 as a whole", "auto", marks=fsdp2_on_a_cpu),
        ("fsdp1 by layers", "patched"),
        ("fsdp1 as a whole", "default"),
    ],
)
def test_two_processes_train_as_stocks(how: str, kind: str, results: Any) -> None:
    """The policies in FSDP are compared with stock in DDP too: both take the mean of two gradients."""
    expected, found = results["ddp", "stock"], results[how, kind]
    assert "error" not in found, found["error"]
    if "small buckets" in how:
        assert found["graphs"] > 1, "one for each bucket"
    else:
        assert found["graphs"] == (0 if kind == "patched" else 1)
    for ours, theirs in zip(found["losses"], expected["losses"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)
        assert theirs[0] != theirs[1], "each process has its own batch"
    assert list(found["weights"]) == list(expected["weights"])
    for name, weight in expected["weights"].items():
        assert (found["weights"][name] - weight).norm() <= 1e-9 * weight.norm() + 1e-12, name


@pytest.mark.parametrize(
    ("how", "kind"),
    [pytest.param("fsdp2 by layers", "default", marks=fsdp2_on_a_cpu), ("fsdp1 by layers", "auto")],
)
def test_fsdp_of_layers_in_a_graph_is_refused_in_one_line(how: str, kind: str, results: Any) -> None:
    found = results[how, kind]
    assert found["kind"] == "ValueError"
    assert "\n" not in found["error"]
    assert found["error"].startswith("compile_model=True needs a policy that FSDP shards as a whole")
