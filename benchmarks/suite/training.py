"""One step of training: forward, backward, optimizer; batch 8, with VAE and dropout."""

from __future__ import annotations

from typing import Any

from .asv_cases import Timing
from .counts import Counts, collect_fp32


class Training(Timing, phase="training"):
    """Seconds per training step, eager and compiled."""

    def time_training_step(self, *_: Any) -> None:
        self.run_step()


class TrainingCounts(Counts, phase="training"):
    """Exact counts of the same step, and the ratio of compiled to eager time."""

    def setup_cache(self) -> dict[str, Any]:
        return collect_fp32(self.phase)
