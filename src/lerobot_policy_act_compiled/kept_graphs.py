"""Graphs that the next process need not export: files in the user's cache directory, or in one they name.

A file is one line of JSON and two ONNX files without weights, compressed: 0.1 MB for aloha. It holds neither
native code nor weights. Its name is a hash of what the graph depends on, so a graph of another architecture
or release is never found; one that is damaged has another SHA-256 and is made anew.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lerobot.policies.act.modeling_act import ACT, ACTPolicy
from torch import Tensor

from .onnx_graph import Graph

log = logging.getLogger(__name__)

FORMAT = 3
DIRECTORY = "ACT_COMPILED_CACHE"
KEPT = 64  # files in a directory; the least recently used go first
SUFFIX = ".act-graph"
PART, ABANDONED = f"{SUFFIX}.part", 3600  # s, after which nobody writes it any more
LARGEST = 1 << 28  # bytes of a graph once it is unpacked
OF_KNOWN_SOURCE = ("torch", "torchvision", "lerobot", __package__)
# What LeRobot's configuration says of training, of files and of the queue changes no action chunk.
NOT_OF_THE_CHUNK = (
    "n_action_steps",
    "temporal_ensemble_coeff",
    "dropout",
    "kl_weight",
    "optimizer_",
    "push_to",
    "repo_id",
    "private",
    "tags",
    "license",
    "pretrained_",
    "device",
    "use_amp",
    "use_peft",
    "compile_",
)


def configuration_of_the_chunk(policy: ACTPolicy) -> dict[str, Any]:
    """The fields of the policy's configuration that its action chunk depends on."""
    return {
        name: value for name, value in asdict(policy.config).items() if not name.startswith(NOT_OF_THE_CHUNK)
    }


def is_known(policy: ACTPolicy) -> bool:
    """Whether a graph may be kept: a class of somebody else's may compute something else tomorrow."""
    return all(type(module).__module__.partition(".")[0] in OF_KNOWN_SOURCE for module in policy.modules())


def architecture(policy: ACTPolicy, observations: dict[str, Tensor]) -> str:
    """A name for what the graph of these depends on: all but the values of weights and observations."""
    about = {
        "format": FORMAT,
        "releases": [
            version(name) for name in ("torch", "torchvision", "lerobot", "onnx", "onnx-ir", "onnxscript")
        ],
        "sources": sources(),
        "configuration": configuration_of_the_chunk(policy),
        "model": repr(policy.model),
        "weights": _described(policy.model.state_dict()),
        "observations": _described(observations),
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32] + SUFFIX


def _described(tensors: dict[str, Tensor]) -> list[tuple[str, str, list[int]]]:
    return [(name, str(value.dtype), list(value.shape)) for name, value in tensors.items()]


@cache
def sources() -> str:
    """SHA-256 of this package and of LeRobot's ACT: a version number stays while either is worked on."""
    found = hashlib.sha256()
    for file in (*sorted(Path(__file__).parent.glob("*.py")), Path(inspect.getfile(ACT))):
        found.update(file.read_bytes())
    return found.hexdigest()


def _digest(graph: Graph) -> str:
    """SHA-256 of all that the file says, its first line too."""
    about = json.dumps([len(graph.model), graph.weights]).encode()
    return hashlib.sha256(about + graph.model + graph.ahead).hexdigest()


def _users_directory() -> Path | None:
    from platformdirs import user_cache_path

    try:
        return user_cache_path("lerobot_policy_act_compiled", appauthor=False)
    except RuntimeError as error:  # a user without a home
        log.info("no graph is kept for the next start: %s", error)
        return None


class KeptGraphs:
    """The graphs in a directory.

    Args:
        directory: is made when something is kept; None: what the environment's ACT_COMPILED_CACHE names, else
            the user's cache directory.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        directory = directory or os.environ.get(DIRECTORY)
        self.directory = Path(directory) if directory else _users_directory()

    def read(self, name: str) -> Graph | None:
        """The graph of this name; None where there is none, or one that is damaged."""
        if self.directory is None:
            return None
        file = self.directory / name
        try:
            first, _, packed = file.read_bytes().partition(b"\n")
            about = json.loads(first)
            unpack = zlib.decompressobj()
            files = unpack.decompress(packed, LARGEST)
            size = int(about["model"])
            graph = Graph(files[:size], tuple(map(str, about["weights"])), files[size:])
            whole = _digest(graph) == about["sha256"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, zlib.error) as error:
            log.info("%s cannot be read (%s); it is made anew", file, error)
            return None
        if not whole:
            log.info("%s is damaged: it has another SHA-256; it is made anew", file)
            return None
        with suppress(OSError):
            file.touch()  # used: it goes last
        return graph

    def keep(self, name: str, graph: Graph) -> None:
        """Write it whole or not at all; a disk that is full is logged."""
        if self.directory is None:
            return
        files = graph.model + graph.ahead
        about = {
            "sha256": _digest(graph),
            "model": len(graph.model),
            "weights": graph.weights,
        }
        content = json.dumps(about).encode() + b"\n" + zlib.compress(files)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.directory, suffix=PART, delete=False) as part:
                try:
                    part.write(content)
                    part.close()
                    Path(part.name).replace(self.directory / name)
                except BaseException:
                    Path(part.name).unlink(missing_ok=True)
                    raise
            self._prune(self.directory)
        except OSError as error:
            why = error.strerror or error
            log.info(
                "the graph is not kept for the next start: %s (%s); name another directory by "
                "compile_artifact or %s",
                self.directory,
                why,
                DIRECTORY,
            )

    def _prune(self, directory: Path) -> None:
        files = []
        for file in directory.iterdir():
            with suppress(OSError):  # another process prunes, too
                files.append((file.stat().st_mtime, file))
        graphs = sorted(each for each in files if each[1].suffix == SUFFIX)
        # Of processes that were killed while they wrote.
        parts = [each for each in files if each[1].name.endswith(PART) and time.time() - each[0] > ABANDONED]
        for _, file in (*graphs[:-KEPT], *parts):
            with suppress(OSError):
                file.unlink()
