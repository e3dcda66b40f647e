"""TF32 is off where results are compared, and on where lerobot-train has it on; by either interface of torch.

The flags are there in builds without CUDA too; what they do to a device's results is asked of one in
tests/policies and tests/gate.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from benchmarks.repository import ROOT
from benchmarks.suite import precision
from benchmarks.suite.precision import (
    AS_LEROBOT_TRAIN,
    STRICT,
    in_force,
    lerobot_train_flags,
    set_lerobot_train_flags,
    strict_fp32,
)

B: Any = torch.backends
NEWER = hasattr(B, "fp32_precision")  # torch 2.9 and later
needs_newer = pytest.mark.skipif(not NEWER, reason="this torch has the older interface only")


def asked(read: Callable[[], Any]) -> Any:
    """What is read, or that torch will not say."""
    try:
        return read()
    except RuntimeError as error:
        if "mix of the legacy and new APIs" not in str(error):
            raise
        return "a mix"


def everything() -> dict[str, Any]:
    """What both interfaces say."""
    found = {
        "products, older": asked(torch.get_float32_matmul_precision),
        "cuBLAS, older": asked(lambda: B.cuda.matmul.allow_tf32),
        "cuDNN, older": asked(lambda: B.cudnn.allow_tf32),
        "benchmark": B.cudnn.benchmark,
    }
    if NEWER:
        places = [B, B.cudnn, B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn]
        places += [B.mkldnn.matmul, B.mkldnn.conv, B.mkldnn.rnn]
        found |= {f"newer {at}": place.fp32_precision for at, place in enumerate(places)}
    return found


def write(**values: str) -> Callable[[], None]:
    """By the newer interface: of all, of CUDA (``cudnn``) and its operators, of oneDNN's products."""

    def do() -> None:
        places = {"all": B, "cudnn": B.cudnn, "matmul": B.cuda.matmul, "conv": B.cudnn.conv}
        places["cpu"] = B.mkldnn.matmul
        for name, value in values.items():
            places[name].fp32_precision = value

    return do


def _older(products: str, convolutions: bool) -> None:
    torch.set_float32_matmul_precision(products)
    B.cudnn.allow_tf32 = convolutions


def _newer_over_older() -> None:
    _older("high", False)
    write(matmul="ieee", all="tf32")()


USERS: dict[str, Callable[[], None]] = {
    "torch's own": lambda: None,
    "older: high": lambda: _older("high", True),
    "older: medium, no TF32 in cuDNN": lambda: _older("medium", False),
    "as lerobot-train": lambda: set_lerobot_train_flags("cuda"),
}
USERS_OF_THE_NEWER: dict[str, Callable[[], None]] = {
    "newer: products": write(matmul="tf32"),
    "newer: convolutions": write(conv="ieee"),
    "newer: TF32 for all": write(all="tf32"),
    "newer: fp32 for all": write(all="ieee"),
    "newer: all of CUDA's": write(cudnn="tf32", conv="none"),
    "newer: oneDNN": write(cpu="bf16"),
    "newer over older": _newer_over_older,
}
USERS |= USERS_OF_THE_NEWER if NEWER else {}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process's flags, which these tests write, by the code under test: a later test needs them sane."""
    before = everything()
    parent = B.fp32_precision if NEWER else None
    with precision._put_back(B):
        yield
        if NEWER:
            B.fp32_precision = parent
    assert everything() == before


@pytest.fixture(params=list(USERS))
def user(request: pytest.FixtureRequest) -> str:
    """What somebody has set before, by either interface."""
    USERS[request.param]()
    return str(request.param)


def assert_strict() -> None:
    assert in_force("cuda") == STRICT
    found = everything()
    assert found["products, older"] == "highest"
    assert found["cuBLAS, older"] is False
    assert found["cuDNN, older"] is False
    assert found["benchmark"] is False
    assert {value for name, value in found.items() if name.startswith("newer") and name != "newer 0"} <= {
        "ieee"
    }


@pytest.mark.usefixtures("user")
def test_strict_is_strict_by_both_interfaces_and_everything_is_put_back() -> None:
    before = everything()
    with strict_fp32("cuda"):
        assert_strict()
        with strict_fp32("cuda"):
            assert_strict()
        assert_strict()
        with lerobot_train_flags("cuda"):
            assert B.cudnn.benchmark
        assert_strict()
    assert everything() == before
    with pytest.raises(ZeroDivisionError), strict_fp32("cuda"):
        raise ZeroDivisionError
    assert everything() == before


@needs_newer
def test_what_inherited_inherits_again() -> None:
    B.cudnn.conv.fp32_precision = "none"
    B.fp32_precision = "tf32"
    with strict_fp32("cuda"):
        assert_strict()
    B.fp32_precision = "ieee"
    for place in (B.cudnn, B.cuda.matmul, B.cudnn.conv, B.mkldnn.matmul, B.mkldnn.conv):
        assert place.fp32_precision == "ieee"


def test_lerobot_trains_flags_are_what_lerobot_train_sets() -> None:
    before = everything()
    with lerobot_train_flags("cuda"):
        ours = everything()
        assert in_force("cuda") == AS_LEROBOT_TRAIN
    assert everything() == before
    torch.backends.cudnn.benchmark = True  # these two lines are LeRobot's
    torch.backends.cuda.matmul.allow_tf32 = True
    assert ours == everything()
    with lerobot_train_flags("cuda", benchmark=False):
        assert in_force("cuda") == "TF32 products and convolutions, cudnn.benchmark off"


@pytest.mark.usefixtures("user")
def test_on_a_cpu_only_what_lowers_a_cpus_precision_is_written() -> None:
    before = everything()
    with lerobot_train_flags("cpu"):
        assert everything() == before
    set_lerobot_train_flags("cpu")
    assert everything() == before
    with strict_fp32("cpu"):
        inside = everything()
        if NEWER:
            cpu = [f"newer {at}" for at in (5, 6, 7)]
            assert all(inside[name] not in precision.LOWER for name in cpu)
            assert all(inside[name] == before[name] for name in cpu if before[name] not in precision.LOWER)
            cuda = [name for name in before if name.startswith("newer") and name not in cpu]
            assert all(inside[name] == before[name] for name in cuda)
        else:
            assert inside["products, older"] == "highest"
    assert everything() == before
    assert in_force("cpu") == "fp32"


def test_the_device_is_the_one_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with strict_fp32():
        assert in_force("cuda") == STRICT
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = everything()
    with strict_fp32():
        assert everything() == before


@pytest.mark.usefixtures("user")
def test_torch_compile_works_inside_and_afterwards() -> None:
    """It reads the flags by both interfaces, and a mix of them raises."""
    compiles_and_is_right("eager")


def test_inductor_works_inside_and_afterwards() -> None:
    USERS["newer over older" if NEWER else "as lerobot-train"]()
    compiles_and_is_right("inductor")


def compiles_and_is_right(backend: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda x: x @ x + 1, backend=backend)
    x = torch.ones(4, 4)
    for context in (nullcontext(), strict_fp32("cuda"), lerobot_train_flags("cuda"), nullcontext()):
        with context:
            assert torch.equal(compiled(x), x @ x + 1)
    torch.compiler.reset()


def test_a_cpus_compiled_step_is_not_compiled_again_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.suite.compile_counters import count_compilation

    torch.compiler.reset()
    compiled = torch.compile(lambda x: x @ x + 1, backend="eager")
    x = torch.ones(4, 4)
    compiled(x)
    with count_compilation() as again:
        for context in (strict_fp32("cpu"), lerobot_train_flags("cpu")):
            with context:
                compiled(x)
    assert again.graphs == 0
    monkeypatch.setattr(precision, "WITH_TF32", ("cuda", "cpu"))
    with count_compilation() as again, lerobot_train_flags("cpu"):
        compiled(x)
    assert again.graphs == 1, "Dynamo guards on TF32, which is why a CPU's flags are left alone"
    torch.compiler.reset()


def test_importing_it_needs_no_torch() -> None:
    command = "import benchmarks.suite.precision, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0
