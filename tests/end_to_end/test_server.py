"""LeRobot's policy server in a process of its own, and a robot's side of it over the loopback interface.

``nox -s lerobot_e2e -- tests/end_to_end/test_server.py``; nothing is rendered. The client does what LeRobot's
``RobotClient`` does, by the same stub, messages and helpers, without its threads.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.workloads import WORKLOADS

from .commands import ENVIRONMENT, compiled_line, compiled_lines, python_path

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

ACTION = 1e-5  # of a joint's goal, whose standard deviation is 0.3; 1e-7 seen
STARTED = 180  # s, until the server listens: it imports all of LeRobot
COMPILED = 300  # s, for the client's instructions
ANSWERED = 60  # s, for an action chunk
N_OBSERVATIONS = 3  # as many as the server has threads beside the one that receives them
GRAPH, AGAIN = "TRACED GRAPH", "Recompiling function"  # what torch logs of each
SERVER = ("python", "-m", "lerobot.async_inference.policy_server")
COMMAND = (sys.executable, "-m", "lerobot_policy_act_compiled.command")


class Client:
    """A robot's side, in ``RobotClient``'s order: ready, instructions, observations, action chunks."""

    def __init__(self, port: int, log: Path) -> None:
        import grpc  # of lerobot[async], which other sessions that collect this file do not have
        from lerobot.transport.services_pb2_grpc import AsyncInferenceStub
        from lerobot.transport.utils import grpc_channel_options

        self._log = log
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", grpc_channel_options())
        self._stub = AsyncInferenceStub(self.channel)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def instruct(self, policy_type: str, checkpoint: Path) -> None:
        """A robot connects and says what policy it wants.

        Raises:
            grpc.RpcError: the server refuses.
        """
        from lerobot.async_inference.helpers import RemotePolicyConfig, map_robot_keys_to_lerobot_features
        from lerobot.transport import services_pb2

        from .lerobot_robot_simulated import SimulatedRobot, SimulatedRobotConfig

        here = self._log.parent
        self._robot = SimulatedRobot(SimulatedRobotConfig(record=here / "robot.json", calibration_dir=here))
        self._stub.Ready(services_pb2.Empty(), timeout=ANSWERED)
        features = map_robot_keys_to_lerobot_features(self._robot)
        instructions = RemotePolicyConfig(
            policy_type, str(checkpoint), features, WORKLOADS["tiny"].chunk, "cpu"
        )
        message = services_pb2.PolicySetup(data=pickle.dumps(instructions))
        self._stub.SendPolicyInstructions(message, timeout=COMPILED)

    def chunks(self) -> torch.Tensor:
        """The chunks ``(N_OBSERVATIONS, S, action)`` of the robot's first observations.

        All are asked for before there is an observation, so a thread of the server's pool waits for each.
        """
        from lerobot.transport import services_pb2

        waiting = {self._stub.GetActions.future(services_pb2.Empty()) for _ in range(N_OBSERVATIONS)}
        found: dict[int, torch.Tensor] = {}
        for timestep in range(N_OBSERVATIONS):
            self._send(timestep)
            done = next_done(waiting)
            waiting.remove(done)
            answer = done.result(timeout=ANSWERED).data
            assert answer, f"no actions: {self.log()[-3000:]}"  # the server has logged why
            timed = pickle.loads(answer)
            assert [each.get_timestep() for each in timed] == list(range(timestep, timestep + len(timed)))
            found[timestep] = torch.stack([each.get_action() for each in timed])
        return torch.stack(list(found.values()))

    def _send(self, timestep: int) -> None:
        from lerobot.async_inference.helpers import TimedObservation
        from lerobot.transport import services_pb2
        from lerobot.transport.utils import send_bytes_in_chunks

        seen = {**self._robot.get_observation(), "task": ""}
        timed = TimedObservation(time.time(), timestep, seen, must_go=True)
        chunks = send_bytes_in_chunks(pickle.dumps(timed), services_pb2.Observation)
        self._stub.SendObservations(chunks, timeout=ANSWERED)


def next_done(calls: set[Any]) -> Any:
    """The first of gRPC's calls that has ended."""
    until = time.monotonic() + ANSWERED
    while time.monotonic() < until:
        for call in calls:
            if call.done():
                return call
        time.sleep(0.01)
    raise AssertionError(f"no answer in {ANSWERED} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(command: Sequence[str], directory: Path) -> Iterator[Client]:
    """A client of the server that ``command`` starts; it is stopped when the block ends, however it does."""
    port, log = free_port(), directory / "server.txt"
    # The requests for actions wait for their observations, not the other way about.
    options = ("--host=127.0.0.1", f"--port={port}", f"--obs_queue_timeout={ANSWERED}")
    environment = {"PYTHONPATH": python_path(), "TORCH_LOGS": "recompiles,graph_code"}
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, *options],
            cwd=directory,  # it makes a directory of logs where it is started
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        client = Client(port, log)
        try:
            wait_for(server, client)
            yield client
        finally:
            client.channel.close()
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def wait_for(server: subprocess.Popen[bytes], client: Client) -> None:
    """Return when the server listens.

    Raises:
        AssertionError: it has ended, or does not listen; its last lines.
    """
    import grpc

    ready = grpc.channel_ready_future(client.channel)
    until = time.monotonic() + STARTED
    while time.monotonic() < until:
        assert server.poll() is None, f"exit code {server.returncode}: {client.log()[-3000:]}"
        try:
            ready.result(timeout=1)
        except grpc.FutureTimeoutError:
            continue
        return
    raise AssertionError(f"the server does not listen after {STARTED} s: {client.log()[-3000:]}")


@pytest.fixture(scope="module")
def stock(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """Chunks of LeRobot's server as it is."""
    with served((sys.executable, *SERVER[1:]), tmp_path_factory.mktemp("stock")) as client:
        client.instruct("act", checkpoint)
        chunks = client.chunks()
        assert compiled_lines(client.log()) == []
        assert GRAPH not in client.log()
    return chunks


def test_stocks_chunks_follow_from_the_observations(stock: torch.Tensor) -> None:
    workload = WORKLOADS["tiny"]
    assert stock.shape == (N_OBSERVATIONS, workload.chunk, workload.action)
    for another in stock[1:]:
        assert (another - stock[0]).abs().max() > 10 * ACTION


@pytest.mark.parametrize("policy_type", ["act", "act_compiled"])
def test_act_compiled_in_front_compiles_before_the_first_observation(
    stock: torch.Tensor, checkpoint: Path, compiled_checkpoint: Path, tmp_path: Path, policy_type: str
) -> None:
    directory = checkpoint if policy_type == "act" else compiled_checkpoint
    with served((*COMMAND, *SERVER), tmp_path) as client:
        client.instruct(policy_type, directory)
        instructed = client.log()
        chunks = client.chunks()
        log = client.log()
    assert (chunks - stock).abs().max() < ACTION
    line = compiled_line(instructed)
    assert "mode auto (onnxruntime), cpu" in line
    assert instructed.index("Receiving policy instructions") < instructed.index(line)
    # Each chunk was computed in another thread of the pool: none of them compiles anew.
    assert compiled_lines(log) == [line]
    assert log.count(GRAPH) == instructed.count(GRAPH) == 0
    assert AGAIN not in log
    assert log.count("Running inference for observation") == N_OBSERVATIONS


def test_a_robot_that_connects_again_waits_for_no_compiler_either(
    stock: torch.Tensor, checkpoint: Path, tmp_path: Path
) -> None:
    """LeRobot's server loads the policy anew for it; the artifact of the first is there."""
    artifact = tmp_path / "artifact"
    options = ("--compile_mode=frozen", f"--compile_artifact={artifact}")
    with served((*COMMAND, *options, *SERVER), tmp_path) as client:
        made = []
        for connected in (1, 2):
            client.instruct("act", checkpoint)
            instructed = client.log()
            assert len(compiled_lines(instructed)) == connected
            assert (client.chunks() - stock).abs().max() < ACTION
            assert client.log().count(GRAPH) == instructed.count(GRAPH)
            made.append({file: file.stat().st_mtime_ns for file in artifact.glob("*.pt2")})
    assert len(made[0]) == 1
    assert made[1] == made[0]
