"""A robot acts: ``policy.select_action``, from its queue of actions or with temporal ensembling."""

from __future__ import annotations

from typing import Any

from .asv_cases import Timing


class Rollout(Timing, phase="rollout"):
    """Seconds per chunk: one prediction, and every action of it taken from the queue."""

    def time_chunk_of_actions(self, *_: Any) -> None:
        self.run_step()


class TemporalEnsembling(Timing, phase="rollout_ensemble"):
    """Seconds per tick: one prediction and the ensemble's update."""

    def time_tick(self, *_: Any) -> None:
        self.run_step()
