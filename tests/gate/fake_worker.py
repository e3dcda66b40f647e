"""Speaks a worker's protocol without torch; what it does is written in the subject of its side.

The fake subject's ``__init__.py`` holds ``BEHAVIOUR``: seconds of a step, counters, and on which
request to fail and how, or to say what in place of an answer.

The tests start a thousand of them: what few of these need is imported where it is used, and pathlib, a
fifth of the time of a start, nowhere.
"""
# ruff: noqa: PTH109, PTH118, PTH119, PTH123

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import sys
import time
from typing import Any

UNIT = 1e-5  # s, of extra work by itself
IN_PLACE = 1.3  # times as long between a step's own work
COUNTS = {
    "graph_breaks": [],
    "graphs": 1,
    "ops": 270,
    "kernels": 90,
    "flops": 1000,
    "dispatched_ops": 500,
    "waits": 0,
    "peak_memory_eager": 10**6,
    "peak_memory_compiled": 10**6,
}
GRAPH = (
    "graph_breaks",
    "graphs",
    "ops",
    "flops",
    "dispatched_ops",
    "waits",
    "peak_memory_eager",
)


def misbehave(how: str) -> dict[str, Any]:
    if how == "hang":
        time.sleep(3600)
    if how == "exit":
        print("Illegal instruction", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "daemon":  # a grandchild in a session of its own holds the pipe, and says nothing
        if os.fork() == 0:
            os.setsid()
        time.sleep(3600)
    if how == "cut":
        os.write(1, b'{"seconds": [0.')
        os._exit(0)
    if how == "memory":
        return {"error": "MemoryError: [enforce fail at alloc_cpu.cpp:117]", "machine": True}
    return {"error": f"RuntimeError: {how}"}


def source() -> str:
    directory = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    return os.path.join(directory, "lerobot_policy_act_compiled", "__init__.py")


def content() -> bytes:
    with open(source(), "rb") as file:
        return file.read()


def extra_units(extra: dict[str, int], case: dict[str, Any]) -> int:
    if not extra:
        return 0
    from benchmarks.gate.proof.slowdown import key
    from benchmarks.suite.workloads import Case

    return extra.get(key(Case(**case)), 0)


def of_auto(behaviour: dict[str, Any]) -> dict[str, int]:
    from benchmarks.gate.answer_shapes import ONLY_OF_AN_ENGINE
    from benchmarks.gate.comparison import OF_AUTO

    counts = {**dict.fromkeys(OF_AUTO, 1), "auto_by_torch": 0, **behaviour.get("auto", {})}
    if counts["auto_by_torch"]:
        return {name: count for name, count in counts.items() if name not in ONLY_OF_AN_ENGINE}
    return counts


def answer(request: dict[str, Any], behaviour: dict[str, Any], noise: random.Random) -> dict[str, Any]:
    do = request["do"]
    if do in behaviour.get("fails", {}):
        return misbehave(behaviour["fails"][do])
    seconds = behaviour.get("seconds", 0.1)
    if do == "hello":
        whole = content()
        blob = hashlib.sha1(b"blob %d\0" % len(whole) + whole, usedforsecurity=False).hexdigest()
        environment = {"torch": "2.11.0", "lerobot": "0.6.1", "python": "3.12.1", "threads": 2, "cpu": "AVX2"}
        imported = behaviour.get("imported", source())
        return {
            "imported": imported,
            "blobs": {"__init__.py": blob},
            "environment": environment,
            "devices": [],
            "installed": "nothing",
            "packages": {"onnxruntime": "1.23.2", **behaviour.get("packages", {})},
        }
    if do == "compile":
        drawn = behaviour.get("compile", 5.0) * math.exp(noise.gauss(0, 0.01))
        return {"seconds": drawn, "kernels": {**COUNTS, **behaviour.get("counts", {})}["kernels"]}
    if do == "ballast":
        behaviour.setdefault("extra", {}).update(request.get("units", {}))
        return {"seconds": UNIT}
    if do == "warm":
        return {}
    if do == "sample":
        seconds += IN_PLACE * UNIT * extra_units(behaviour.get("extra", {}), request["case"])
        drawn = seconds * math.exp(noise.gauss(0, behaviour.get("noise", 0.01)))
        return {"seconds": [behaviour.get("time", drawn)]}
    if do == "operators":
        return {"takes": seconds, "operators": {"aten::mm": [seconds / 2, 3], "aten::add": [0.001, 7]}}
    if do == "counts":
        return {**COUNTS, **behaviour.get("counts", {})}
    if do == "graph":  # of tiny, which has more cameras
        return {**{name: COUNTS[name] for name in GRAPH}, **behaviour.get("graph", {})}
    if do == "recompiles":
        return {"graph_breaks": [], "recompiles": 1, **behaviour.get("recompiles", {})}
    if do == "auto":
        actions = {"eager": [0.5, 0.25], "auto": behaviour.get("auto_actions", [0.5, 0.25])}
        return {"counts": of_auto(behaviour), "values": {"a write": actions}}
    variants = ("eager", "compiled") if request.get("compiled", True) else ("eager",)
    if do == "outputs":
        actions = {variant: behaviour.get(f"{variant}_actions", [0.5, 0.25]) for variant in variants}
        return {"values": actions, "state_dict": behaviour.get("state_dict", {"weight": [2, 2]})}
    return {"values": {variant: {"loss": behaviour.get("loss", 1.0)} for variant in variants}}


def noise_of_this_launch() -> random.Random:
    """Another for each launch of each side, and the same whenever the test runs: no verdict is by chance."""
    launch = 1
    try:
        while not started_as(launch):  # in the side's directory, which base and head may share
            launch += 1
    except OSError:  # a full disk is a test's
        pass
    return random.Random(f"{os.path.basename(os.getcwd())} {launch}")  # noqa: S311  # noise, not a secret


def started_as(launch: int) -> bool:
    """Whether this launch has that number: no other made its file, not even one at once."""
    try:
        with open(f"launch-{launch}", "x"):
            return True
    except FileExistsError:
        return False


def main() -> None:
    subject: dict[str, Any] = {}
    exec(content(), subject)  # noqa: S102  # a test has written it
    behaviour = subject["BEHAVIOUR"]
    noise = noise_of_this_launch()
    for line in sys.stdin:
        request = json.loads(line)
        instead = behaviour.get("says", {}).get(request["do"])
        print(instead or json.dumps(answer(request, behaviour, noise)), flush=True)


if __name__ == "__main__":
    main()
