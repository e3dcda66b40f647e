"""Python's garbage collector, held back while a graph is made: most objects of that time stay.

The collector looks through them again and again. Without it a first action of aloha by ONNX Runtime takes
2.9 s and not 3.6, a first training step of pusht in ``auto`` 34.7 s and not 36.5 (two cores, torch 2.10,
medians of fresh processes). Meanwhile garbage takes up to 130 MB of memory more.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()  # what is collected inside may have finalizers, and they may make a graph
_holders = 0  # blocks that run now, in all threads
_was_enabled = False
_frozen = False  # whether gc.freeze() has been found in use


@contextmanager
def collector_held_back(generation: int = 0) -> Iterator[None]:
    """No garbage is collected by itself in the block, in the whole process; ``gc.collect()`` still does.

    The last of several blocks that overlap, in any threads, enables the collector again, if it was enabled.

    Args:
        generation: of garbage that is collected at the end. 0: what the block has left, 0.1 s after an
            export. 2: all, which Python soon does by itself where so much is new, as after importing torch.
    """
    global _holders, _was_enabled
    with _lock:
        if not _holders:
            _was_enabled = gc.isenabled()
            gc.disable()
            _let_grow_old()
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            if _holders == 1:
                gc.collect(generation)
                _let_grow_old()
            _holders -= 1
            if not _holders and _was_enabled:
                gc.enable()


def _let_grow_old() -> None:
    """Move every object into the oldest generation without looking at any."""
    global _frozen
    # Else those that somebody has frozen would thaw. To count 400,000 takes 40 ms: once is enough.
    _frozen = _frozen or gc.get_freeze_count() > 0
    if not _frozen:
        gc.freeze()
        gc.unfreeze()


def _in_a_fork() -> None:
    """In a child process, as a data loader's, none of the parent's blocks ever ends."""
    global _lock, _holders
    _lock = threading.RLock()  # another thread of the parent may hold the one that was copied
    if _holders and _was_enabled:
        gc.enable()
    _holders = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)
