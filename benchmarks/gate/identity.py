"""What a worker runs, said by itself: the proof that it is its side, and what its answers depend on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..suite.environment import environment
from . import cores
from .sides import blob_hash


def hello() -> dict[str, Any]:
    """What this process runs: the subject's file, git's hash of every module of it, versions, threads.

    ``installed`` is a hash of every package there is (``packages``) and of the processor's abilities.
    """
    import torch

    import lerobot_policy_act_compiled as subject

    assert subject.__file__ is not None
    package = Path(subject.__file__).parent
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == subject.__name__]
    files = {Path(module.__file__) for module in modules if module.__file__ is not None}
    blobs = {os.path.relpath(file, package): blob_hash(file.read_bytes()) for file in files}
    cores.find_pool()
    packages = _packages()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "imported": subject.__file__,
        "blobs": blobs,
        "environment": environment(),
        "devices": devices,
        "installed": _installed(packages),
        "packages": packages,
    }


def machine(hello: Mapping[str, Any]) -> str:
    found = hello["environment"]
    return f"{os.cpu_count()} cores, {found['cpu']}, {found['threads']} threads"


def versions(hello: Mapping[str, Any]) -> str:
    found = hello["environment"]
    engine = hello["packages"].get("onnxruntime", "none")
    named = f"torch {found['torch']}, LeRobot {found['lerobot']}, Python {found['python']}"
    return f"{named}, onnxruntime {engine}"


def _packages() -> dict[str, str]:
    found = importlib.metadata.distributions()
    return {str(each.name).lower().replace("-", "_"): str(each.version) for each in found}


def _installed(packages: Mapping[str, str]) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    processor = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    abilities = sorted({line for line in processor.splitlines() if line.startswith(("model name", "flags"))})
    versions = sorted(f"{name}=={version}" for name, version in packages.items())
    known = "\n".join([platform.platform(), *versions, *(abilities or [processor])])
    return hashlib.sha256(known.encode()).hexdigest()
