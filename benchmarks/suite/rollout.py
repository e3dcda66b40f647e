"""A robot acts: ``policy.select_action``, from its queue or with temporal ensembling, and whole ticks."""

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


class Tick(Timing, phase="tick", variants=("stock", "auto")):
    """Seconds per chunk: from cameras' bytes to numbers for the motors, as often as it has actions."""

    def time_ticks_of_a_chunk(self, *_: Any) -> None:
        self.run_step()


class EnsembledTick(Timing, phase="tick_ensemble", variants=("stock", "auto")):
    """Seconds per tick, from cameras' bytes to numbers for the motors; each predicts a chunk."""

    def time_tick(self, *_: Any) -> None:
        self.run_step()
