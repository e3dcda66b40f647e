"""Which cases the gate decides on, by device; what a case is called in reports and trailers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..suite.workloads import DEVICES, PHASES, WORKLOADS, Case

BOTH = ("eager", "compiled")
# What is decided on without being asked. Training and the robot's tick in the cheapest workload that has
# every part of ACT at its real size; a tick with temporal ensembling predicts a whole chunk, so pusht's
# inference is in it, and its step is short enough to show what Python adds. Ten minutes is all a pull request
# gets, so compiled rollouts are left out on a CPU (18 s of a launch).
DEFAULT: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "cpu": (
        ("aloha", "inference", BOTH),
        ("pusht", "training", BOTH),
        ("pusht", "rollout_ensemble", ("eager",)),
        ("pusht", "tick_ensemble", ("auto",)),
    ),
    "cuda": (
        ("aloha", "inference", BOTH),
        ("aloha_3cam", "inference", BOTH),
        ("aloha", "training", BOTH),
        ("aloha", "rollout_ensemble", BOTH),
        ("aloha", "tick_ensemble", ("auto",)),
    ),
}
# What is counted and compared on a CPU where no workload is named: aloha's prediction at its real size, and
# tiny, which has every part of ACT and two cameras and compiles in seconds. Tiny names every mutant that
# counts of pusht's training named, which took 60 s of a side. On CUDA nobody has tried to do without them.
COUNTED = (("aloha", "inference", BOTH), ("tiny", "training", BOTH), ("tiny", "inference", BOTH))
SECONDS = {"training": 10.0, "rollout_ensemble": 6.0, "tick_ensemble": 5.0}  # in a launch, where not 4


@dataclass(frozen=True)
class StepTime:
    """Time of a case's step, s.

    Attributes:
        least: the smallest change that is worth a verdict, whatever ``--min-effect`` says.
        seconds: of steps in a launch, both sides together. A launch takes 42 s beside them (starting
            4, compiling anew 18, warming up 20; with AVX-512); at these its ratio varies by 0.5 to 2%.
    """

    case: Case
    least = 0.0

    @property
    def seconds(self) -> float:
        return SECONDS.get(self.case.phase, 4.0)

    def __str__(self) -> str:
        return str(self.case)

    @property
    def variant(self) -> str:
        return self.case.variant

    @property
    def request(self) -> dict[str, Any]:
        """What a worker is told of it."""
        return {"case": asdict(self.case)}


@dataclass(frozen=True)
class CompileTime(StepTime):
    """Time to compile a case's step with no graph in the cache, s: what torch does in Python.

    The compiler of C++ is left out: it is most of a cold compile on a CPU, its work is what the
    kernels' count says, and no launch could wait for it.
    """

    least = 0.10  # a launch gives one sample of it, and nobody waits for 3% of a compile

    @property
    def seconds(self) -> float:
        return 0.0  # it has no steps

    def __str__(self) -> str:
        return str(self.case).replace("-compiled-", "-compile-")

    @property
    def variant(self) -> str:
        return "compile"


def named(name: str) -> StepTime:
    """What is timed under a name, as ``str`` gives it.

    Raises:
        ValueError: it is no such name.
    """
    workload, phase, variant, precision, device = name.split("-")
    if variant == "compile":
        return CompileTime(Case(workload, phase, "compiled", precision, device))
    return StepTime(Case(workload, phase, variant, precision, device))


def step_times(cases: Sequence[Case]) -> list[StepTime]:
    """What is timed of ``cases``: each step, and how long the first compiled one takes to compile.

    One graph is enough: the others have the same layers.
    """
    compiled = [CompileTime(case) for case in cases if case.variant == "compiled"]
    return [*(StepTime(case) for case in cases), *compiled[:1]]


def choose(names: Sequence[str] | None, device: str) -> list[Case]:
    """Cases to decide on: the default set, or what ``--workloads`` names.

    Args:
        names: workloads (``pusht``) or workloads with a phase (``pusht-training``).
        device: one of DEVICES.

    Raises:
        ValueError: an unknown name, or none at all.
    """
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")
    chosen = DEFAULT[device] if names is None else [step for name in names for step in _steps(name, device)]
    if not chosen:
        raise ValueError(f"no case selected; name workloads such as {', '.join(WORKLOADS)}")
    return _cases(chosen, device)


def counted(names: Sequence[str] | None, device: str) -> list[Case]:
    """Cases whose counters and actions are compared; the arguments, and what is raised, as of ``choose``."""
    return _cases(COUNTED, device) if names is None and device == "cpu" else choose(names, device)


def _cases(steps: Iterable[tuple[str, str, tuple[str, ...]]], device: str) -> list[Case]:
    cases = [
        Case(workload, phase, variant, device=device)
        for workload, phase, variants in steps
        for variant in variants
    ]
    return list(dict.fromkeys(cases))


def _steps(name: str, device: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Workload, phase and variants; of a tick ``auto``, which robots run."""
    workload, _, phase = name.partition("-")
    phases = [phase] if phase else list(dict.fromkeys(phase for _, phase, _ in DEFAULT[device]))
    if workload not in WORKLOADS:
        raise ValueError(
            f"unknown workload {workload!r}; choose one of {', '.join(WORKLOADS)}, or WORKLOAD-PHASE"
        )
    if phase and phase not in PHASES:
        raise ValueError(f"unknown phase {phase!r} in {name!r}; choose one of {', '.join(PHASES)}")
    return [(workload, phase, ("auto",) if phase.startswith("tick") else BOTH) for phase in phases]
