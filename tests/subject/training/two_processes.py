"""Two processes that train by gloo on a CPU, as LeRobot does under accelerate; run by test_distributed.py.

``python two_processes.py FILE`` writes what each of CASES came to: losses of both processes and weights, or
the error. The two are forks of one interpreter: importing LeRobot takes longer than all of this.
"""

from __future__ import annotations

import copy
import datetime
import os
import sys
import traceback
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from accelerate.utils.dataclasses import get_module_class_from_name
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.modeling_act import ACTPolicy
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from benchmarks.suite.workloads import WORKLOADS, make_batch, make_config
from lerobot_policy_act_compiled import ACTCompiledConfig, ACTCompiledPolicy, patch_policy

LAYERS = ("ACTEncoderLayer", "ACTDecoderLayer")  # LeRobot's names, as in accelerate's configuration
# How the policy is distributed, and which it is: stock, patched, or the compile mode of act_compiled.
CASES = (
    ("ddp", "stock"),
    ("ddp", "auto"),
    ("ddp, small buckets", "default"),
    ("fsdp2 by layers", "patched"),
    ("fsdp2 by layers", "default"),
    ("fsdp2 as a whole", "auto"),
    ("fsdp1 by layers", "patched"),
    ("fsdp1 by layers", "auto"),
    ("fsdp1 as a whole", "default"),
)


def make_policy(kind: str) -> Any:
    features = {
        "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (4,)),
    }
    torch.manual_seed(0)
    policy = ACTPolicy(make_config(WORKLOADS["tiny"], "training", dropout=0.0, input_features=features))
    if kind == "patched":
        patch_policy(policy)
    elif kind != "stock":
        config = ACTCompiledConfig.from_act(copy.deepcopy(policy.config))
        config.compile_model, config.compile_mode = True, kind
        ours = ACTCompiledPolicy(config)
        ours.load_state_dict(policy.state_dict())
        policy = ours
    return policy.double()


def batch_of(seed: int) -> dict[str, Any]:
    batch = make_batch(WORKLOADS["tiny"], 2, seed=seed)
    batch["observation.environment_state"] = batch["observation.state"].flip(0)
    return {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def optimizer_of(policy: Any) -> Any:
    return policy.config.get_optimizer_preset().build(policy.get_optim_params())


def by_ddp(policy: Any, bucket: float) -> tuple[Any, Any]:
    """By accelerate, with what lerobot-train asks of it; buckets of so many megabytes."""
    torchs: Any = dist
    torchs._DEFAULT_FIRST_BUCKET_BYTES = int(min(bucket, 1) * 2**20)
    AcceleratorState._reset_state(reset_partial_state=True)
    arguments = DistributedDataParallelKwargs(find_unused_parameters=True, bucket_cap_mb=bucket)
    accelerator = Accelerator(step_scheduler_with_optimizer=False, kwargs_handlers=[arguments], cpu=True)
    prepared, optimizer = accelerator.prepare(policy, optimizer_of(policy))
    assert isinstance(prepared, torch.nn.parallel.DistributedDataParallel)
    return prepared, optimizer


def by_fsdp(policy: Any, version: str, layers: tuple[str, ...]) -> tuple[Any, Any]:
    """As accelerate does on a GPU; on a CPU it shards nothing, so here torch is asked."""
    classes = [get_module_class_from_name(policy, name) for name in layers]
    if None in classes:
        raise LookupError(f"accelerate finds no {layers} in the policy")
    if version == "fsdp1":
        wrap = partial(transformer_auto_wrap_policy, transformer_layer_cls=set(classes))
        sharded = FullyShardedDataParallel(
            policy,
            auto_wrap_policy=wrap if layers else None,
            use_orig_params=True,
            device_id=torch.device("cpu"),
        )
        return sharded, optimizer_of(sharded)
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    modules: list[Any] = list(policy.modules())
    for module in reversed(modules):
        if type(module) in classes:
            fully_shard(module, mesh=mesh)
    return fully_shard(policy, mesh=mesh), optimizer_of(policy)


def full_weights(policy: Any, sharded: Any) -> dict[str, torch.Tensor]:
    if isinstance(sharded, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(sharded):
            named = [(name, value.detach().clone()) for name, value in policy.named_parameters()]
    else:
        named = [
            (name, (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone())
            for name, value in policy.named_parameters()
        ]
    return {name.replace("_fsdp_wrapped_module.", ""): value for name, value in named}


graphs: list[Any] = []  # of the case that runs; DDP's buckets cut one into several


def backend(graph: Any, _: Any, **__: Any) -> Any:
    """torch.compile's, which leaves a graph to torch's kernels."""
    graphs.append(graph)
    return graph.forward


def run(how: str, kind: str, rank: int) -> dict[str, Any]:
    torch.compiler.reset()
    graphs.clear()
    policy = make_policy(kind)
    if how.startswith("ddp"):
        prepared, optimizer = by_ddp(policy, 0.02 if "small" in how else 25)
    else:
        prepared, optimizer = by_fsdp(policy, how[:5], LAYERS if "layers" in how else ())
    losses = []
    for step in range(2):
        prepared.train()
        torch.manual_seed(step)
        call = prepared if how.startswith("fsdp2") else prepared.forward  # whose hooks are of the call
        loss, _ = call(batch_of(10 * step + rank))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        both = [torch.zeros(()).double() for _ in range(2)]
        dist.all_gather(both, loss.detach())
        losses.append([each.item() for each in both])
    return {
        "losses": losses,
        "weights": full_weights(policy, prepared),
        "graphs": len(graphs),
    }


def one_of_two(rank: int, results: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="1")  # accelerate asks for them; nobody listens
    meeting = f"file://{results}.meeting"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    found: dict[tuple[str, str], Any] = {}
    for how, kind in CASES:
        try:
            found[how, kind] = run(how, kind, rank)
        except Exception as error:
            found[how, kind] = {"error": str(error), "kind": type(error).__name__}
            traceback.print_exc()
        if rank == 0:
            torch.save(found, results)
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.compile = partial(torch.compile, backend=backend)
    fork = get_context("fork")
    ranks = [fork.Process(target=one_of_two, args=(rank, Path(sys.argv[1]))) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))
