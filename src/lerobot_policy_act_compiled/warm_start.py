"""An action chunk that the next process need not compile: ``compile_artifact`` of the configuration.

torch's own cache keeps no graph whose weights are constants laid out for the processor (torch 2.11 cannot
write such tensors down), so a second process with ``compile_mode="auto"`` compiles for 10 s on two cores. An
artifact is loaded in half a second, and proved by one step of eager mode.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .artifact import being_made, opened, save_artifact, why_none
from .compiling import FirstCompiler, log_ready
from .inductor import lacks_compiler, settings
from .loss import Batch, are_finite
from .weights import Weights, a_weight_of

log = logging.getLogger(__name__)


class WarmStart:
    """The action chunk of a policy, from the artifact in a directory; made there where it is missing.

    Args:
        directory: holds one artifact; one of other weights, or another machine's, is replaced.
        otherwise: the function compiled in this process. It is called for observations that are not as the
            configuration says or whose number differs from the first call's, under another autocast, as soon
            as the weights have changed, where one is not finite, and where ``why_none`` says why.
    """

    def __init__(self, directory: str, otherwise: FirstCompiler) -> None:
        self._directory, self._otherwise = Path(directory), otherwise
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._refused = False
        self.by = "eager"  # what runs a call like the last one

    def __call__(self, policy: ACTPolicy, batch: Batch) -> Tensor:
        """Actions ``(B, S, action_dim)``.

        Raises:
            ValueError: the artifact is missing and the directory cannot be written.
            RuntimeError: it is missing and the machine has no compiler.
        """
        observations: Batch = {name: batch.get(name) for name in policy.config.input_features}
        kind = (settings(_device(policy)), _shapes(observations))
        with self._lock:  # two threads that come at once open one
            if self._opened is None and not self._refused and _as_configured(policy, observations):
                self._opened = self._open(policy, observations, kind)
        opened = self._opened
        if (
            opened is not None
            and opened.kind == kind
            and are_finite(observations.values())
            and opened.weights.are_those_of(policy)
        ):
            actions: Tensor = opened.run(*observations.values())
            self.by = "artifact"
            return actions
        actions = self._otherwise(policy, batch)
        self.by = self._otherwise.by
        return actions

    def _open(self, policy: ACTPolicy, observations: Batch, kind: Any) -> _Opened | None:
        if (why := why_none(policy)) is not None:
            log.info("no artifact is used: %s", why)
            self._refused = True
            return None
        start = time.perf_counter()
        weights = Weights(policy)
        (first, *_) = observations.values()
        try:
            found = self._loaded_or_made(policy, len(first))
        except RuntimeError as error:
            if not lacks_compiler(error):
                raise
            self._otherwise.found_none(error)
            found = None
        if found is None:
            self._refused = True
            return None
        run, how = found
        log_ready("action_chunk", "ahead of time", policy, f"artifact {self._directory} {how}", start=start)
        return _Opened(run, kind, weights)

    def _loaded_or_made(self, policy: ACTPolicy, batch_size: int) -> tuple[Callable[..., Any], str] | None:
        """What runs, and how it came about; None where it is known that there is no compiler."""
        try:
            return self._load(policy, batch_size), "loaded"
        except ValueError:
            pass  # said below, if nobody else is making it
        if self._otherwise.no_compiler is not None:
            return None
        try:
            with being_made(self._directory):
                try:
                    return self._load(policy, batch_size), "loaded"
                except ValueError as error:
                    log.info("compiling the action chunk ahead of time, for the next start too: %s", error)
                save_artifact(policy, self._directory, batch_size=batch_size)
                return self._load(policy, batch_size), "made"
        except OSError as error:
            why = error.strerror or error
            raise ValueError(
                f"compile_artifact: {self._directory} cannot be written ({why}); choose another directory"
            ) from error

    def _load(self, policy: ACTPolicy, batch_size: int) -> Callable[..., Any]:
        run, shapes = opened(policy, self._directory)
        if any(shape[0] != batch_size for shape in shapes.values()):
            raise ValueError(f"the artifact in {self._directory} is of another batch size than {batch_size}")
        return run


@dataclass(frozen=True)
class _Opened:
    run: Callable[..., Any]
    kind: Any  # of the calls that it is for
    weights: Weights


def _device(policy: ACTPolicy) -> str:
    return a_weight_of(policy).device.type


def _shapes(observations: Batch) -> tuple[Any, ...]:
    return tuple(
        (value.shape, value.dtype, value.device) for value in observations.values() if value is not None
    )


def _as_configured(policy: ACTPolicy, observations: Batch) -> bool:
    """Whether an artifact can be made for these: every observation is there, as the configuration says."""
    weight = a_weight_of(policy)
    return all(
        value is not None
        and tuple(value.shape[1:]) == tuple(policy.config.input_features[name].shape)
        and (value.dtype, value.device) == (weight.dtype, weight.device)
        for name, value in observations.items()
    )
