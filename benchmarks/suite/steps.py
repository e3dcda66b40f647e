"""``prepare(case) -> Step``: one unit of what a user does with a policy and a batch, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .peers import PEERS, acting
from .ticks import frame_of, ticking
from .workloads import MODES, TRAINING_BATCH, WORKLOADS, Case, Step, check_device, make_batch, make_config

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]
Precision = Callable[[], AbstractContextManager[Any]]


def prepare(
    case: Case, *, batch_size: int | None = None, backend: str = "inductor", seed: int = 0, **act: Any
) -> Step:
    """Build the policy, its batch and its step; compiling happens in the step's first call.

    Args:
        case: what to prepare.
        batch_size: 1 in every phase but training, where it is TRAINING_BATCH, unless given.
        backend: torch.compile's backend, for the compiled variants.
        seed: of weights, batch, dropout and latent.
        act: fields of ACTConfig that differ from the workload's.

    Raises:
        ValueError: the case's device is not there.
    """
    import torch
    from lerobot.policies.act.modeling_act import ACTPolicy

    check_device(case.device)
    workload = WORKLOADS[case.workload]
    training = case.phase == "training"
    torch.manual_seed(seed)
    policy = ACTPolicy(make_config(workload, case.phase, **act)).to(case.device)
    batch = make_batch(
        workload, batch_size or (TRAINING_BATCH if training else 1), device=case.device, seed=seed
    )
    return step_of(case, policy, batch, backend=backend)


def step_of(
    case: Case,
    policy: Any,
    batch: dict[str, Any],
    *,
    backend: str = "inductor",
    mode: str = "auto",
    ticks: int | None = None,
) -> Step:
    """The step of a stock policy and a batch, both on the case's device; it may patch and compile the policy.

    Args:
        backend: torch.compile's backend, for every compiled variant but ``auto``.
        mode: ``compile_mode`` of the variant ``auto``.
        ticks: calls of ``select_action`` in a step, or ticks; default: as many as empty its queue.
    """
    import torch

    from lerobot_policy_act_compiled import patch_policy

    if case.variant in MODES:
        policy = _act_compiled(policy, mode if case.variant == "auto" else MODES[case.variant])
    elif case.variant in ("eager", "compiled"):
        patch_policy(policy)
    policy.train(case.phase == "training")

    def compile_graph(function: Callable[..., Any]) -> Callable[..., Any]:
        if case.variant in MODES or not case.compiles:  # the policy itself compiles what it is asked for
            return function
        return torch.compile(function, fullgraph=True, backend=backend)

    def precision() -> AbstractContextManager[Any]:
        if case.precision == "fp32":
            return nullcontext()
        return torch.autocast(case.device, dtype=torch.bfloat16)

    if case.phase == "training":
        forward, work = policy.forward, _training_work(case, policy, batch, compile_graph, precision)
        return Step(case, policy, batch, forward, work)
    forward = policy.predict_action_chunk
    if case.variant in PEERS:
        return Step(case, policy, batch, forward, acting(case.variant, policy, batch, case.precision))
    act: Callable[[Any], Any] = compile_graph(forward)
    calls, observed = 1, batch
    if case.phase != "inference":
        # With a queue one chunk is predicted and all its actions taken; with ensembling it is one action.
        if case.compiles:
            policy.predict_action_chunk = act
        act, calls = policy.select_action, ticks or policy.config.n_action_steps
    if case.phase.startswith("tick"):
        observed = frame_of(policy, batch)
        act = ticking(case, policy)

    def act_in_turn() -> Any:
        with precision():
            for _ in range(calls):
                result = act(observed)
        return result

    return Step(case, policy, batch, forward, act_in_turn)


def _act_compiled(policy: Any, mode: str) -> Any:
    """A stock policy's weights as the policy type ``act_compiled``."""
    from lerobot_policy_act_compiled import ACTCompiledConfig, ACTCompiledPolicy

    config = ACTCompiledConfig.from_act(policy.config)
    config.compile_model, config.compile_mode = True, mode
    compiled = ACTCompiledPolicy(config).to(next(policy.parameters()).device)
    compiled.load_state_dict(policy.state_dict())
    return compiled


def _training_work(
    case: Case, policy: Any, batch: Any, compile_graph: Compile, precision: Precision
) -> Callable[[], float]:
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    if case.variant == "stock-compiled":
        # Stock's forward reads its losses back, which no single graph can hold; its model can be one.
        policy.model = compile_graph(policy.model)
        loss_of = policy.forward
    else:
        loss_of = compile_graph(policy.forward)

    def work() -> float:
        with precision():
            loss, parts = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(parts["l1_loss"])

    return work
