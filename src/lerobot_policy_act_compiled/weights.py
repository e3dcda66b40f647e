"""Whether a policy's weights are still those that a graph was made of."""

from __future__ import annotations

from torch import nn


def weights_seen(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Where each parameter and buffer lies, and torch's count of writes to it: changes with any of them.

    Writing through ``.data`` leaves no trace in that count, here as in autograd.
    """
    tensors = [*module.parameters(), *module.buffers()]
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
