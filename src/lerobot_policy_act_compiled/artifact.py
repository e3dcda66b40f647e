"""A policy's action chunk compiled ahead of time: a robot loads it in a second, and needs no compiler.

``save_artifact`` exports the chunk with the weights as constants and compiles it by AOTInductor;
``loaded_artifact`` puts it into a policy that has those weights. An artifact is a directory: ``about.json``
says what it was made of and names the file of torch's package, and nothing that differs is run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .inductor import compile_ahead, lacks_compiler, load_ahead, settings
from .kept_graphs import configuration_of_the_chunk, is_known, sources
from .onnx_graph import Chunk, random_observations
from .refused import needs_guards
from .weights import a_weight_of

log = logging.getLogger(__name__)

FORMAT = 4
ABOUT = "about.json"
# Torch 2.11 on an H100: its loader ends the process by a segmentation fault.
NOT_ON_CUDA = "torch cannot load what it has compiled ahead of time for CUDA; call warm_up() there"
PACKAGE = re.compile(r"[0-9a-f]{16}\.pt2")
# Sets of instructions, as Linux names them, that a compiler uses where the processor has them.
INSTRUCTIONS = re.compile(r"s?sse|avx|amx|fma|f16c|bmi|vaes|gfni|sve|sme|asimd|bf16|i8mm|fphp")
Policy = TypeVar("Policy", bound=ACTPolicy)


def weights_hash(policy: ACTPolicy) -> str:
    """SHA-256 of the state dict: names, dtypes, shapes and bytes; 0.12 s for aloha's."""
    found = hashlib.sha256()
    for name, value in sorted(policy.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(memoryview(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()))
    return found.hexdigest()


def _observations(policy: ACTPolicy, batch_size: int) -> dict[str, Tensor]:
    """Zeros of the shapes that the policy's configuration names, on its device."""
    device = a_weight_of(policy).device
    return {
        name: torch.zeros(batch_size, *feature.shape, device=device)
        for name, feature in policy.config.input_features.items()
    }


def _instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What this processor can do: code for more than that ends the process (illegal instruction)."""
    if not cpuinfo.exists():  # what torch says of the processor has to do
        return {}
    lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
    flags = next((value for name, _, value in lines if name.strip() in ("flags", "Features")), "")
    return dict.fromkeys(filter(INSTRUCTIONS.match, sorted(flags.split())), "yes")


def _about(policy: ACTPolicy, observations: dict[str, Tensor]) -> dict[str, Any]:
    """What decides whether an artifact may be run."""
    device = a_weight_of(policy).device
    kind = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return json.loads(  # as it is read back: tuples are lists, enumerations their values
        json.dumps(
            {
                "format": FORMAT,
                "torch": torch.__version__,
                "device": f"{device.type} ({kind})",
                "instructions": _instructions(),
                **settings(device.type),
                "sources": sources(),
                "configuration": configuration_of_the_chunk(policy),
                "model": hashlib.sha256(repr(policy.model).encode()).hexdigest(),
                "inputs": {name: list(value.shape) for name, value in observations.items()},
                "weights": weights_hash(policy),
            },
            default=str,
        )
    )


def save_artifact(policy: ACTPolicy, directory: str | Path, *, batch_size: int = 1) -> Path:
    """Compile the policy's action chunk ahead of time; minutes, once, on a machine with a compiler.

    Args:
        policy: made compile-friendly, on the device it will run on; it is set to eval mode.
        directory: is made; what it holds of an earlier artifact is replaced.
        batch_size: of the observations that the artifact will take, and no other.

    Raises:
        ValueError: ``batch_size`` is no positive number, the policy is on CUDA, or ``why_none`` says more.
        RuntimeError: the machine has no compiler.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    if a_weight_of(policy).device.type == "cuda":
        raise ValueError(f"save_artifact: {NOT_ON_CUDA}")
    if (why := why_none(policy)) is not None:
        raise ValueError(f"save_artifact: {why}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    policy.eval()
    observations = _observations(policy, batch_size)
    about = _about(policy, observations)
    with tempfile.TemporaryDirectory(dir=directory) as place:
        made = Path(place, "made.pt2")
        try:
            compile_ahead(Chunk(policy, list(observations)), tuple(observations.values()), made)
        except Exception as error:
            if lacks_compiler(error):
                raise RuntimeError("save_artifact needs a C++ compiler (g++) and torch finds none") from error
            raise
        digest = _sha256(made)
        package = f"{digest[:16]}.pt2"
        description = Path(place, ABOUT)
        description.write_text(json.dumps({**about, "package": package, "sha256": digest}, indent=1))
        # Moved to their places when they are whole, the package first: whoever reads meanwhile finds the
        # earlier artifact, this one, or none, and never one's description with the other's package.
        with FileLock(directory / "publishing.lock"):
            made.replace(directory / package)
            description.replace(directory / ABOUT)
            for file in directory.iterdir():
                if PACKAGE.fullmatch(file.name) and file.name != package:
                    file.unlink(missing_ok=True)
    return directory


def why_none(policy: ACTPolicy) -> str | None:
    """Why no artifact can stand for ``policy``; None: one can."""
    why = needs_guards(policy)
    if why is None and not is_known(policy):  # its code is in no description, and may be another tomorrow
        why = "the policy or a module is of a class that is neither torch's, LeRobot's nor this package's"
    return why


def being_made(directory: Path) -> FileLock:
    """A lock for whoever finds no artifact and makes one: the others wait and load it.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return FileLock(directory / "making.lock")


def opened(policy: ACTPolicy, directory: str | Path) -> tuple[Callable[..., Any], dict[str, list[int]]]:
    """The function that ``directory`` holds for this policy, and the shapes of its observations by name.

    Raises:
        ValueError: as ``load_artifact``.
    """
    if a_weight_of(policy).device.type == "cuda":
        raise ValueError(f"the artifact in {directory} is not loaded: {NOT_ON_CUDA}")
    directory = Path(directory)
    for _ in range(3):  # another process may replace it between two reads; then there is a whole one again
        with suppress(FileNotFoundError):
            return _opened(policy, directory)
    raise ValueError(_incomplete(directory))


def _incomplete(directory: Path) -> str:
    return f"{directory} holds no complete artifact; make one by save_artifact"


def _opened(policy: ACTPolicy, directory: Path) -> tuple[Callable[..., Any], dict[str, list[int]]]:
    try:
        about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
        (batch_size,) = {value[0] for value in about["inputs"].values()}
        package = str(about.get("package"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise ValueError(_incomplete(directory)) from None
    expected = _about(policy, _observations(policy, batch_size))
    for name, value in expected.items():
        if about.get(name) != value:
            theirs, ours = _difference(about.get(name), value)
            raise ValueError(
                f"the artifact in {directory} is of other {name} ({theirs}, here {ours}); "
                "make it anew by save_artifact"
            )
    if not PACKAGE.fullmatch(package):  # the whole name: a path would lead out of the directory
        raise ValueError(_incomplete(directory))
    if _sha256(directory / package) != about.get("sha256"):
        raise ValueError(
            f"{directory / package} is damaged: it has another SHA-256; make it anew by save_artifact"
        )
    run = load_ahead(directory / package)
    _compare(run, policy, batch_size, directory)
    return run, about["inputs"]


@torch.no_grad()
def _compare(run: Callable[..., Any], policy: ACTPolicy, batch_size: int, directory: Path) -> None:
    """Raise ValueError where the artifact's actions are not eager mode's: something undescribed differs."""
    modes = [(module, module.training) for module in policy.modules()]
    policy.eval()
    observations = {
        name: value.to(a_weight_of(policy)) for name, value in random_observations(policy, batch_size).items()
    }
    expected = Chunk(policy, list(observations))(*observations.values()).float()
    for module, training in modes:
        module.training = training
    difference = float((run(*observations.values()).float() - expected).abs().max())
    strict = settings(expected.device.type)["precision"] == "highest, autocast off"
    tolerance = 1e-4 if strict else 5e-2
    if not difference <= tolerance * max(1.0, float(expected.abs().max())):
        raise ValueError(
            f"the artifact in {directory} acts otherwise than the policy ({difference:.1e} off): something "
            "else of it has changed; make it anew by save_artifact"
        )


def _sha256(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as read:
        while block := read.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _difference(theirs: Any, ours: Any) -> tuple[str, str]:
    """What differs, short enough for one line."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        name = next(name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name))
        return f"{name}: {theirs.get(name)}", str(ours.get(name))
    return str(theirs)[:40], str(ours)[:40]
