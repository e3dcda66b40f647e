"""An action chunk that the next process need not compile: ``compile_artifact`` of the configuration.

torch's own cache keeps no graph whose weights are constants laid out for the processor (torch 2.11 cannot
write such tensors down), so a second process with ``compile_mode="auto"`` compiles for 10 s on two cores. An
artifact is loaded in half a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .artifact import opened, save_artifact
from .inductor import settings
from .loss import Batch
from .weights import weights_seen

log = logging.getLogger(__name__)


class WarmStart:
    """The action chunk of a policy, from the artifact in a directory; made there where it is missing.

    Args:
        directory: holds one artifact; one of other weights, or another machine's, is replaced.
        otherwise: the function compiled in this process. It is called for observations that are not as the
            configuration says or whose number differs from the first call's, under another autocast,
            and as soon as the weights have changed.
    """

    def __init__(self, directory: str, otherwise: Callable[..., Any]) -> None:
        self._directory, self._otherwise = Path(directory), otherwise
        self._run: Callable[..., Any] | None = None
        self._made_for: Any = None

    def __call__(self, policy: ACTPolicy, batch: Batch) -> Tensor:
        """Actions ``(B, S, action_dim)``.

        Raises:
            ValueError: the artifact is missing and the directory cannot be written.
            RuntimeError: it is missing and the machine has no compiler.
        """
        observations: Batch = {name: batch.get(name) for name in policy.config.input_features}
        asked_for = (weights_seen(policy), settings(_device(policy)), _shapes(observations))
        if self._run is None and _as_configured(policy, observations):
            (first, *_) = observations.values()
            self._run, self._made_for = self._open(policy, len(first)), asked_for
        run = self._run if asked_for == self._made_for else None
        actions: Tensor = run(*observations.values()) if run else self._otherwise(policy, batch)
        return actions

    def _open(self, policy: ACTPolicy, batch_size: int) -> Callable[..., Any]:
        try:
            run, shapes = opened(policy, self._directory)
            if all(shape[0] == batch_size for shape in shapes.values()):
                return run
        except ValueError as error:
            log.info("compiling the action chunk ahead of time, for the next start too: %s", error)
        try:
            save_artifact(policy, self._directory, batch_size=batch_size)
        except OSError as error:
            why = error.strerror or error
            raise ValueError(
                f"compile_artifact: {self._directory} cannot be written ({why}); choose another directory"
            ) from error
        return opened(policy, self._directory)[0]


def _device(policy: ACTPolicy) -> str:
    return next(policy.parameters()).device.type


def _shapes(observations: Batch) -> tuple[Any, ...]:
    return tuple(
        (value.shape, value.dtype, value.device) for value in observations.values() if value is not None
    )


def _as_configured(policy: ACTPolicy, observations: Batch) -> bool:
    """Whether an artifact can be made for these: every observation is there, as the configuration says."""
    weight = next(policy.parameters())
    return all(
        value is not None
        and tuple(value.shape[1:]) == tuple(policy.config.input_features[name].shape)
        and (value.dtype, value.device) == (weight.dtype, weight.device)
        for name, value in observations.items()
    )
