"""What belongs beside every figure: versions, threads, processor."""

from __future__ import annotations

from typing import Any


def environment() -> dict[str, Any]:
    """Versions, threads, processor; what ``described`` puts into words."""
    import platform
    from importlib.metadata import version

    import torch

    return {
        "torch": torch.__version__,
        "lerobot": version("lerobot"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu": processor(),
    }


def processor() -> str:
    """What matrix products run on: AVX2, AVX512, or AVX512 with AMX, whose bf16 is many times as fast."""
    import torch

    capability = str(torch.backends.cpu.get_cpu_capability())
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch does not say
        return capability
    return f"{capability} with AMX" if torch.cpu.get_capabilities().get("amx_bf16") else capability
