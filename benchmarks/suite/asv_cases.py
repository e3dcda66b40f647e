"""Which cases the asv suite measures on which device, and what its modules share.

Nothing here imports torch before it is needed: asv starts a process for every figure, and
those that only look a count up in a cache take 0.4 s instead of 5.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .fresh_process import TRUST_THE_PROCESSOR
from .precision import set_lerobot_train_flags
from .timer import warmed_up
from .workloads import DEVICES, MODES, SUITE_VERSION, Case, Step, available_devices

NOT_APPLICABLE = math.nan  # asv's own sign; it takes None for a benchmark that failed
TIMEOUT = 900  # s; a cold compile of a training step takes 160-220 on two cores

# What a device measures, by phase and precision. On two cores a training step of aloha takes
# 10 s and one of libero 5, and three figures of each would double the suite: the CPU's training
# history is pusht's, which has the same layers. `nox -s bench` measures any case anywhere.
SUITE: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {
    "cpu": {
        ("inference", "fp32"): ("aloha", "aloha_3cam", "pusht", "libero"),
        ("inference", "bf16"): ("aloha",),
        ("training", "fp32"): ("pusht",),
        ("rollout", "fp32"): ("aloha",),
        ("rollout_ensemble", "fp32"): ("aloha",),
        ("tick", "fp32"): ("aloha",),
    },
    "cuda": {
        ("inference", "fp32"): ("aloha", "aloha_3cam", "pusht", "libero"),
        ("inference", "bf16"): ("aloha", "aloha_3cam", "pusht", "libero"),
        ("training", "fp32"): ("aloha", "aloha_3cam", "pusht", "libero"),
        ("training", "bf16"): ("aloha", "aloha_3cam", "pusht", "libero"),
        ("rollout", "fp32"): ("aloha",),
        ("rollout_ensemble", "fp32"): ("aloha",),
        ("tick", "fp32"): ("aloha",),
        ("tick_ensemble", "fp32"): ("aloha",),
    },
}


QUICK = "ACT_COMPILED_QUICK"  # when this variable is set, QUICKLY's cases alone are counted
QUICKLY = {"inference": ("aloha", "pusht"), "training": ("pusht",)}


@dataclass(frozen=True)
class Machine:
    """What the process that measures can do; found out once per commit."""

    devices: tuple[str, ...]
    cpu_bf16: bool  # without AVX-512 one bf16 step of aloha takes 15 s, 40 times as long as fp32


def this_machine() -> Machine:
    """What can be measured here; asked once per commit, in a ``setup_cache``."""
    import torch

    use_inductor_cache()
    return Machine(available_devices(), torch.backends.cpu.get_cpu_capability() == "AVX512")


def workloads_of(phase: str) -> list[str]:
    """Every workload that some device measures in ``phase``, in the order of the presets."""
    found = [names for device in SUITE.values() for key, names in device.items() if key[0] == phase]
    return list(dict.fromkeys(name for names in found for name in names))


def precisions_of(phase: str) -> list[str]:
    """Every precision that some device measures in ``phase``."""
    return list(dict.fromkeys(key[1] for device in SUITE.values() for key in device if key[0] == phase))


def measured_cases(machine: Machine, phase: str, variant: str = "compiled") -> list[Case]:
    """The cases of ``phase`` that this machine measures."""
    return [
        Case(workload, phase, variant, precision, device)
        for device in machine.devices
        for (case_phase, precision), workloads in SUITE[device].items()
        if case_phase == phase and _runs(machine, device, precision)
        for workload in workloads
        if QUICK not in os.environ or workload in QUICKLY.get(phase, ())
    ]


def _runs(machine: Machine, device: str, precision: str) -> bool:
    return device != "cpu" or precision != "bf16" or machine.cpu_bf16


def skip_unless_measured(machine: Machine, case: Case) -> None:
    """Raise NotImplementedError, which is asv's way to say n/a, with the reason."""
    if case.device not in machine.devices:
        raise NotImplementedError(f"this machine has no {case.device} device")
    if case.workload not in SUITE[case.device].get((case.phase, case.precision), ()):
        raise NotImplementedError(f"{case} is not part of the suite; see SUITE in asv_cases.py")
    if case.variant in MODES and not has_mode(MODES[case.variant]):
        raise NotImplementedError(f"this commit has no compile_mode {MODES[case.variant]}")
    if not _runs(machine, case.device, case.precision):
        raise NotImplementedError("this processor has no AVX-512: bf16 would take 40 times as long as fp32")


def has_mode(name: str) -> bool:
    """Whether the commit under test knows this ``compile_mode``."""
    try:
        from lerobot_policy_act_compiled import ACTCompiledConfig

        ACTCompiledConfig(compile_mode=name)
    except (ImportError, TypeError, ValueError):
        return False
    return True


_ready: dict[Case, Step] = {}  # asv calls setup before every sample; a step is prepared once a process


def ready(machine: Machine, case: Case) -> Step:
    """The case's step, compiled where it is to be and warm; on CUDA with lerobot-train's flags.

    For the rest of the process: asv times the step after this has returned.
    """
    skip_unless_measured(machine, case)
    set_lerobot_train_flags(case.device)
    if case not in _ready:
        use_inductor_cache()
        _ready[case] = warmed_up(case)
    return _ready[case]


class Timing:
    """Seconds of one step of a phase: each workload, precision, device and variant.

    A subclass adds the ``time_`` method that asv's results are named after. This class has none, so asv does
    not take it for a benchmark in the modules that import it.
    """

    version = SUITE_VERSION
    timeout = TIMEOUT
    param_names = ("workload", "precision", "device", "variant")
    number, repeat, warmup_time = 1, (3, 10, 4.0), 0  # ready() has warmed it up
    phase: str
    params: tuple[list[str], ...]

    def __init_subclass__(cls, *, phase: str, variants: tuple[str, ...] = ("eager", "compiled")) -> None:
        cls.phase = phase
        cls.params = (workloads_of(phase), precisions_of(phase), list(DEVICES), list(variants))

    def setup_cache(self) -> Machine:
        return this_machine()

    def setup(self, machine: Machine, workload: str, precision: str, device: str, variant: str) -> None:
        self.step = ready(machine, Case(workload, self.phase, variant, precision, device))

    def run_step(self) -> None:
        self.step()
        self.step.wait()


def use_inductor_cache() -> None:
    """Keep compiled code between the processes that measure one version of the subject.

    The cache lies in the environment, so it goes with it; that of another version is removed,
    so a history of a hundred commits does not fill the disk (about 50 MB each).
    """
    spec = importlib.util.find_spec("lerobot_policy_act_compiled")
    if spec is None or spec.origin is None:
        raise RuntimeError("lerobot_policy_act_compiled is not installed here; does this commit have src/?")
    sources = sorted(Path(spec.origin).parent.glob("*.py"))
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    root = Path(sys.prefix) / "inductor-cache"
    for other in root.glob("*"):
        if other.name != version:
            shutil.rmtree(other, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(root / version)
    os.environ["ACT_COMPILED_CACHE"] = str(root / version / "graphs")
    os.environ.update(TRUST_THE_PROCESSOR)
