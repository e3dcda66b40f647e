"""A policy that acts by an artifact: ``load_artifact``."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .artifact import opened, why_none
from .loss import Batch, are_finite, are_of_kind
from .weights import Weights, a_weight_of

log = logging.getLogger(__name__)

Policy = TypeVar("Policy", bound=ACTPolicy)


def load_artifact(policy: Policy, directory: str | Path) -> Policy:
    """Let ``policy.predict_action_chunk`` run what ``save_artifact`` wrote; the same object is returned.

    Raises:
        ValueError: there is no artifact in ``directory``, or it is of another torch, device,
            configuration, code or other weights, its actions differ from eager mode's, or ``why_none`` says
            more; the message says what.
    """
    policy.predict_action_chunk = LoadedArtifact(policy, Path(directory))
    return policy


class LoadedArtifact:
    """``predict_action_chunk`` by an artifact, for observations of the shapes it was made for."""

    def __init__(self, policy: ACTPolicy, directory: Path) -> None:
        self._policy, self._directory, self._told = policy, directory, False
        self._open()

    def _open(self) -> None:
        if (why := why_none(self._policy)) is not None:
            raise ValueError(f"the artifact in {self._directory} is not loaded: {why}")
        weights = Weights(self._policy)
        self._run, self._shapes = opened(self._policy, self._directory)
        self._weights = weights

    def __getstate__(self) -> dict[str, Any]:  # a copy opens the artifact itself, for weights of its own
        return {"_policy": self._policy, "_directory": self._directory, "_told": self._told}

    def _holds_the_policys_weights(self) -> bool:
        if not hasattr(self, "_weights"):
            with suppress(ValueError):
                self._open()
        weights = getattr(self, "_weights", None)
        if weights is not None and weights.are_those_of(self._policy):
            return True
        if not self._told:
            log.warning("the weights are no longer those in %s: the policy runs without it", self._directory)
            self._told = True
        return False

    def _takes(self, batch: Batch) -> bool:
        """Whether the artifact can run on these, or on what is right in all but the shape."""
        values = [batch.get(name) for name in self._shapes]
        return are_of_kind(values, a_weight_of(self._policy)) and are_finite(values)

    @torch.no_grad()
    def __call__(self, batch: Batch, **kwargs: Any) -> Tensor:
        self._policy.eval()
        if not (self._holds_the_policys_weights() and self._takes(batch)):
            return type(self._policy).predict_action_chunk(self._policy, batch, **kwargs)  # type: ignore[no-any-return,unused-ignore]
        observations = []
        for name, shape in self._shapes.items():
            value = batch[name]
            if list(value.shape) != shape:
                raise ValueError(
                    f"{name} is {list(value.shape)} and the artifact was made for {shape}; "
                    "make one of that size by save_artifact, or compile with compile_model=True"
                )
            observations.append(value)
        return self._run(*observations)  # type: ignore[no-any-return,unused-ignore]
