"""Whether a policy's weights are still those that a graph or an artifact was made of: asked here only.

What counts as a change, whoever made it:

- other memory, or the same in another shape or order; the memory is held while it is watched, so that its
  address cannot come back for other weights;
- a write that torch counts (``Tensor._version``): under no_grad, by an optimizer, ``load_state_dict``;
- a step of any ``torch.optim.Optimizer``, by torch's own hook: a fused step is not counted (torch 2.11);
- another module, or another attribute of one (a hook, an activation, an epsilon): by identity; of the policy
  itself and of its own attributes nothing, as a robot's loop writes there at each step;
- other values: of up to WHOLE elements all, of a larger tensor SAMPLES, evenly spread. So writing through
  ``.data``, NumPy or a pointer is seen, unless it leaves these samples of a large tensor as they were.

A check takes 1.0 ms (0.8 to 1.5) between steps for aloha's 234 tensors (two cores with AVX2).
"""

from __future__ import annotations

import operator
import threading
import weakref
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

WHOLE = 1024  # elements: every bias, norm and statistic of ACT
SAMPLES = 32  # of a larger tensor

PLAIN = (Tensor, nn.Parameter, nn.Buffer)

VALUES = (bool, int, float, str, bytes)
OWN = len(nn.Module().__dict__)  # attributes that torch keeps in every module; its class's come after them

_watched: weakref.WeakSet[Weights] = weakref.WeakSet()
_watching = threading.Lock()  # one thread may begin to watch while another trains


class Weights:
    """The parameters and buffers of a module as they are now."""

    def __init__(self, module: nn.Module) -> None:
        _watch_optimizers()
        tensors = tensors_of(module)
        self._places, self._counts, self._parts = _places(tensors), _counts(tensors), _parts(module)
        self._addresses = frozenset(address for address, _, _ in self._places)
        self._samples = _Samples(tensors)
        self._written = False
        with _watching:
            _watched.add(self)

    def are_those_of(self, module: nn.Module) -> bool:
        """Whether ``module`` has exactly these still; once not, never again."""
        same = self.seem_those_of(module)
        if self.samples:  # of a policy on a CPU there are none, and to ask would be two operators a step
            same = same and bool(self.samples_unchanged())
        self._written = self._written or not same
        return same

    def seem_those_of(self, module: nn.Module) -> bool:
        """The same, but for values on a device, which ``samples_unchanged`` looks at."""
        if self._written:
            return False
        tensors = tensors_of(module)
        same = (
            _counts(tensors) == self._counts
            and _places(tensors) == self._places
            and self.are_modules_of(module)
            and self._samples.unchanged_on_host()
        )
        self._written = not same
        return same

    def are_modules_of(self, module: nn.Module) -> bool:
        """Whether the modules below ``module`` are the same, with the same attributes."""
        parts, before = _parts(module), self._parts
        if len(parts) != len(before):
            return False
        if all(map(operator.is_, parts, before)):
            return True
        self._parts = parts  # torch.export leaves equal tuples and dictionaries in place of some
        return all(map(_equal, parts, before))

    def samples_unchanged(self) -> Tensor:
        """Whether values on the device are as they were, 0-d boolean there: nobody waits for it."""
        return self._samples.unchanged_on_device()

    @property
    def samples(self) -> list[tuple[list[Tensor], Tensor]]:
        """Of each type on the device: views of the weights, and the bits that were there."""
        return self._samples.on_device

    def renew(self, module: nn.Module) -> bool:
        """Take the weights as they are now; False, and nothing is taken, where they lie elsewhere."""
        tensors = tensors_of(module)
        if _places(tensors) != self._places or not self.are_modules_of(module):
            return False
        self._written, self._counts = False, _counts(tensors)
        self._samples.renew()
        return True

    def optimizer_stepped(self, addresses: set[int]) -> None:
        self._written = self._written or not self._addresses.isdisjoint(addresses)


def _places(tensors: list[Tensor]) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Where each lies, and how: its address, sizes and strides."""
    return [(t.data_ptr(), t.size(), t.stride()) for t in tensors]


def _parts(module: nn.Module) -> list[Any]:
    """Classes and attributes of the modules below ``module``, hooks one by one, and no tensors."""
    found: list[Any] = []
    modules = [each for each in module.__dict__["_modules"].values() if each is not None]
    for each in modules:  # grows meanwhile
        held = each.__dict__
        found.append(type(each))
        found += islice(held.values(), OWN, None)
        if held["_forward_hooks"] or held["_forward_pre_hooks"]:
            found += [*held["_forward_hooks"].values(), *held["_forward_pre_hooks"].values()]
        if held["_modules"]:
            modules += [child for child in held["_modules"].values() if child is not None]
    return found


def _equal(one: Any, other: Any) -> bool:
    """Whether one may stand for the other: the same, or equal values, in containers too."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, VALUES) and bool(one == other)


def _counts(tensors: list[Tensor]) -> list[int]:
    """torch's counts of writes."""
    return [t._version for t in tensors]


def a_weight_of(module: nn.Module) -> Tensor:
    """The first parameter, without torch's generator over all modules.

    Raises:
        ValueError: there is none.
    """
    modules = [module]
    for each in modules:
        held = each.__dict__
        for parameter in held["_parameters"].values():
            if parameter is not None:
                return parameter  # type: ignore[no-any-return,unused-ignore]
        modules += [child for child in held["_modules"].values() if child is not None]
    raise ValueError("the policy has no parameters")


def can_be_watched(module: nn.Module) -> bool:
    """Whether every change can be seen.

    The tensors must be plain: of a subclass, as FSDP's shards, the values may lie elsewhere. They must be
    dense to be sampled, and not be made in inference mode, as torch counts no writes to those.
    """
    return all(
        type(tensor) in PLAIN and not tensor.is_inference() and _in_order_of_memory(tensor).is_contiguous()
        for tensor in tensors_of(module)
    )


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, module by module, in a tenth of the time that torch's generators take."""
    found: list[Tensor | None] = []
    modules = [module]
    for each in modules:  # grows meanwhile
        held = each.__dict__  # skips the lookup in its class that each name would cost
        found += held["_parameters"].values()
        found += held["_buffers"].values()
        if held["_modules"]:
            modules += [child for child in held["_modules"].values() if child is not None]
    return [tensor for tensor in found if tensor is not None]


class _Samples:
    """Some values of each tensor, as bits: NaN is itself, and -0.0 is not 0.0."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._views: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            view = _bits(_spread(tensor.detach()))
            self._views.setdefault((view.device, view.dtype), []).append(view)
        # NumPy gathers small strided pieces in a third of torch's time.
        self._arrays = [[view.numpy() for view in views] for views in self._of_cpu(True)]
        self._array_values = [np.concatenate(arrays) for arrays in self._arrays]
        self.on_device = [(views, torch.cat(views)) for views in self._of_cpu(False)]

    def _of_cpu(self, on_cpu: bool) -> list[list[Tensor]]:
        return [views for (device, _), views in self._views.items() if (device.type == "cpu") is on_cpu]

    def unchanged_on_host(self) -> bool:
        return all(
            np.array_equal(np.concatenate(arrays), values)
            for arrays, values in zip(self._arrays, self._array_values, strict=True)
        )

    def unchanged_on_device(self) -> Tensor:
        same = [(torch.cat(views) == values).all() for views, values in self.on_device]
        return torch.stack(same).all() if same else torch.ones((), dtype=torch.bool)

    def renew(self) -> None:
        """In the same memory on a device, where a graph reads them."""
        self._array_values = [np.concatenate(arrays) for arrays in self._arrays]
        for views, values in self.on_device:
            values.copy_(torch.cat(views))


def _spread(tensor: Tensor) -> Tensor:
    """A one-dimensional view of up to WHOLE, or about SAMPLES, of the elements of a dense tensor."""
    flat = _in_order_of_memory(tensor).view(-1)
    if len(flat) <= WHOLE:
        return flat
    return flat[:: len(flat) // SAMPLES | 1]  # odd: not the same column of every row


def _in_order_of_memory(tensor: Tensor) -> Tensor:
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))


def _bits(view: Tensor) -> Tensor:
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    if view.is_complex():
        view = torch.view_as_real(view).reshape(-1)
    return view.view(kinds[view.element_size()])


@cache
def _watch_optimizers() -> None:
    """From now on every step of an optimizer is told to whom it may concern."""
    register_optimizer_step_post_hook(_tell)


def _tell(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
    with _watching:
        watched = list(_watched)
    if not watched:
        return
    parameters = (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
    stepped = {p.data_ptr() for p in parameters if type(p) in PLAIN}
    for weights in watched:
        weights.optimizer_stepped(stepped)
