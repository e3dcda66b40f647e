"""How fp32 work is done on a CUDA device; the only file that knows torch's two interfaces to that.

Results are compared in strict fp32; steps are timed with the flags that ``lerobot-train`` sets, as its users
have them. Neither changes a CPU's work unless somebody asked for a lower precision there.

torch's older interface is ``cuda.matmul.allow_tf32``, ``cudnn.allow_tf32`` and
``set_float32_matmul_precision``. Release 2.9 added ``fp32_precision``: one for all, one for each backend, one
for each operator, and "none" inherits. The older interface writes the newer's values too, but not the other
way round, and once they disagree, reading the older one raises. So the older is written first here and the
newer after it, both to the same effect, and both are put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WITH_TF32 = ("cuda",)  # devices; a test adds the CPU
STRICT = "strict fp32: TF32 off, cudnn.benchmark off"
AS_LEROBOT_TRAIN = "as lerobot-train: TF32 products and convolutions, cudnn.benchmark on"
LOWER = ("tf32", "bf16")


def has_tf32(device: str) -> bool:
    """Whether there is a choice on such a device."""
    return device in WITH_TF32


@contextmanager
def strict_fp32(device: str | None = None) -> Iterator[None]:
    """Products and convolutions in full fp32, and no race between cuDNN's algorithms.

    A step that was compiled outside is compiled again inside, or worse, replays what it recorded: Dynamo
    guards on TF32 for products, and neither it nor a CUDA graph on TF32 for convolutions. Have a step for
    each.

    Args:
        device: where the work is done; default: CUDA where there is a device.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    backends: Any = torch.backends
    with _put_back(backends):
        if has_tf32(device):
            torch.set_float32_matmul_precision("highest")
            backends.cudnn.allow_tf32 = False
            backends.cudnn.benchmark = False
            for place in _places(backends):  # "none" would inherit TF32 from torch.backends.fp32_precision
                place.fp32_precision = "ieee"
        else:
            _raise_a_cpus_precision(backends)
        yield


@contextmanager
def lerobot_train_flags(device: str, *, benchmark: bool = True) -> Iterator[None]:
    """The flags that ``lerobot-train`` sets, in this block; on a CPU, whose work they do not touch, none.

    Args:
        benchmark: False where counts are to be exact: which algorithm wins cuDNN's race is chance.
    """
    import torch

    if not has_tf32(device):
        yield
        return
    with _put_back(torch.backends):
        set_lerobot_train_flags(device)
        torch.backends.cudnn.benchmark = benchmark
        yield


def set_lerobot_train_flags(device: str) -> None:
    """For the whole process what ``lerobot-train`` sets (0.4.4 to 0.6.1, unless ``cudnn_deterministic``).

    It leaves convolutions as torch has them: in TF32.
    """
    import torch

    if has_tf32(device):
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True


def in_force(device: str) -> str:
    """What is in force on ``device`` now, in words for a report; "fp32" where there is no choice."""
    import torch

    if not has_tf32(device):
        return "fp32"
    backends: Any = torch.backends
    if _has_newer(backends):
        lower = [place.fp32_precision in LOWER for place in (backends.cuda.matmul, backends.cudnn.conv)]
    else:
        lower = [backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32]
    race = "on" if backends.cudnn.benchmark else "off"
    names = " and ".join(
        name for name, is_lower in zip(("products", "convolutions"), lower, strict=True) if is_lower
    )
    words = f"TF32 {names or 'off'}, cudnn.benchmark {race}"
    return next((known for known in (STRICT, AS_LEROBOT_TRAIN) if known.endswith(f": {words}")), words)


def _has_newer(backends: Any) -> bool:
    return hasattr(backends, "fp32_precision")


def _places(backends: Any) -> list[Any]:
    """What has an ``fp32_precision`` of its own, but for the parent of all; none before torch 2.9.

    oneDNN as a whole is not among them: its setter writes the parent of all (torch 2.10, 2.11).
    """
    if not _has_newer(backends):
        return []
    cuda = [backends.cudnn, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    return [*cuda, *_places_of_a_cpu(backends)]


def _places_of_a_cpu(backends: Any) -> list[Any]:
    return [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]


def _raise_a_cpus_precision(backends: Any) -> None:
    """Writes only where a lower one is in force: what Dynamo guards on stays as it is."""
    import torch

    if _has_newer(backends):
        for place in _places_of_a_cpu(backends):
            if place.fp32_precision in LOWER:
                place.fp32_precision = "ieee"
    elif torch.get_float32_matmul_precision() != "highest":
        torch.set_float32_matmul_precision("highest")


@contextmanager
def _put_back(backends: Any) -> Iterator[None]:
    """Every flag of either interface as it was, however it was written, when the block ends."""
    import torch

    places = _places(backends)
    values, benchmark = _values(backends, places), backends.cudnn.benchmark
    try:
        products, convolutions = _older(backends, places)
    finally:
        _write(places, values)
    try:
        yield
    finally:
        backends.cudnn.benchmark = benchmark
        torch.set_float32_matmul_precision(products)
        backends.cudnn.allow_tf32 = convolutions
        _write(places, values)


def _values(backends: Any, places: list[Any]) -> list[tuple[str, str]]:
    """Of each place what it has itself, which its parents hide while they have a value, and what it reads."""
    read = [place.fp32_precision for place in places]
    parents = [backends, backends.cudnn] if places else []
    of_parents = []
    for parent in parents:
        of_parents.append(parent.fp32_precision)  # the second one's own: the first has none by then
        parent.fp32_precision = "none"
    own = [of_parents[1] if place is backends.cudnn else place.fp32_precision for place in places]
    for parent, value in zip(parents, of_parents, strict=True):
        parent.fp32_precision = value
    return list(zip(own, read, strict=True))


def _write(places: list[Any], values: list[tuple[str, str]]) -> None:
    """Put ``_values`` back; the parent of all is as it was then."""
    for place, (own, read) in zip(places, values, strict=True):
        place.fp32_precision = own
        # torch 2.15's convolutions are TF32 as long as nobody, their parents included, wrote anything: what
        # they have themselves reads as TF32 then, and written it would hide what the parent says.
        if place.fp32_precision != read:
            place.fp32_precision = read


def _older(backends: Any, places: list[Any]) -> tuple[str, bool]:
    """The older interface's values; ``places`` are "ieee" afterwards.

    Beside "ieee" everywhere torch tells the one for products whatever it is, and refuses to tell the one for
    convolutions only if it is True.
    """
    import torch

    for place in places:
        place.fp32_precision = "ieee"
    try:
        convolutions = bool(backends.cudnn.allow_tf32)
    except RuntimeError:
        convolutions = True
    return torch.get_float32_matmul_precision(), convolutions
