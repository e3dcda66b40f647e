"""A robot asks for a chunk of actions: ``policy.predict_action_chunk``, batch 1."""

from __future__ import annotations

from typing import Any

from .asv_cases import Timing
from .counts import Counts, collect_fp32


class Inference(Timing, phase="inference"):
    """Seconds per action chunk, eager and compiled."""

    def time_predict_action_chunk(self, *_: Any) -> None:
        self.run_step()


class InferenceCounts(Counts, phase="inference"):
    """Exact counts of the same step, and the ratio of compiled to eager time."""

    def setup_cache(self) -> dict[str, Any]:
        return collect_fp32(self.phase)
