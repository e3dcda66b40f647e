"""The modes of ours: weights as constants that are never stale, the mode for a device, no compiler."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import compiling
from lerobot_policy_act_compiled.compiled_policy import action_chunk
from lerobot_policy_act_compiled.compiling import Compiled, mode_for
from lerobot_policy_act_compiled.inductor import freezing

from ..child_process import ENDS_AT_ONCE
from .compiled_policies import acts_by_engine, as_compiled, each_mode
from .weight_writes import WRITES

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

Make = Callable[..., Any]
Batch = dict[str, Any]


def other_state_dict(policy: Any, _: Batch | None = None) -> None:
    generator = torch.Generator().manual_seed(1)
    state = policy.state_dict()
    policy.load_state_dict({k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in state.items()})


def another_parameter(policy: Any, _: Batch | None = None) -> None:
    policy.model.action_head.bias = torch.nn.Parameter(torch.full((3,), 2.0))


def test_frozen_follows_every_change_of_weights(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    stock = copy.deepcopy(stock)
    policy = as_compiled(stock, "frozen")

    def check(graphs: int) -> None:
        with count_compilation() as compilation:
            actions = policy.predict_action_chunk(batch)
        assert compilation.graphs == graphs
        assert (actions - stock.predict_action_chunk(batch)).abs().max() < 1e-5

    check(1)
    check(0)
    for change in (WRITES["AdamW-fused"], other_state_dict, another_parameter):
        for each in (stock, policy):
            change(each, batch)
        check(1)
    check(0)


def test_frozen_is_stocks_with_cameras(tiny_policy: Make, tiny_batch: Make) -> None:
    stock, batch = tiny_policy(), tiny_batch(1)
    policy = as_compiled(stock, "frozen")
    with count_compilation() as compilation:
        actions = policy.predict_action_chunk(batch)
    assert compilation.graphs == 1
    assert (actions - stock.predict_action_chunk(batch)).abs().max() < 1e-5


def test_frozen_in_bf16_is_as_near_as_eager_bf16(tiny_policy: Make, tiny_batch: Make) -> None:
    stock, batch = tiny_policy(), tiny_batch(1)
    generator = torch.Generator().manual_seed(0)
    for name, value in stock.named_buffers():  # as trained: no batch norm does nothing
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif name.endswith("running_mean"):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    policy, expected = as_compiled(stock, "frozen"), stock.predict_action_chunk(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        eager, actions = stock.predict_action_chunk(batch), policy.predict_action_chunk(batch)
    assert actions.dtype == eager.dtype
    allowed = 2 * (eager - expected).abs().max()
    assert 0 < (actions - expected).abs().max() <= allowed


def captured(policy: Any, batch: Batch, *, frozen: bool, autocast: bool = False) -> list[Any]:
    """The nodes of the graph of an action chunk."""
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(action_chunk, fullgraph=True, backend=backend)
    context = freezing() if frozen else contextlib.nullcontext()
    with torch.no_grad(), context, torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        compiled(policy.eval(), batch)
    return [node for node in graphs[0].graph.nodes if node.op in ("call_function", "call_method")]


def test_a_frozen_graph_has_the_position_table_as_a_constant(tiny_policy: Make, tiny_batch: Make) -> None:
    policy, batch = as_compiled(tiny_policy(), "frozen"), tiny_batch(1)
    usual, frozen = (captured(policy, batch, frozen=frozen) for frozen in (False, True))
    for name in ("cumsum", "sin"):
        assert any(name in str(node.target) for node in usual)
        assert not any(name in str(node.target) for node in frozen)
    assert captured(policy, batch, frozen=False)[-1].target == usual[-1].target, "no trace of the frozen one"


def test_a_frozen_graph_keeps_bf16_between_convolutions(tiny_policy: Make, tiny_batch: Make) -> None:
    policy, batch = as_compiled(tiny_policy(), "frozen"), tiny_batch(1)

    def batch_norms(**how: bool) -> int:
        return sum("batch_norm" in str(node.target) for node in captured(policy, batch, **how))

    count = batch_norms(frozen=False)
    assert count > 10, "one for each convolution"
    assert batch_norms(frozen=True, autocast=True) == count
    assert batch_norms(frozen=False, autocast=True) == 0, "elsewhere LeRobot's own arithmetic"


@pytest.mark.usefixtures("without_inductor")
def test_old_weights_are_not_kept(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy, frozen = copy.deepcopy(stock), Compiled(action_chunk, "frozen", "frozen", constants=True)
    with torch.no_grad():
        frozen(policy, batch)
        assert frozen._made is not None
        old = weakref.ref(frozen._made.run)
        other_state_dict(policy)
        frozen(policy, batch)
    assert old() is None


def test_what_is_not_finite_is_eager_modes_to_do_where_constants_are_folded(
    without_cameras: tuple[Any, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's convolution with ReLU, which Inductor takes then, makes zeros of NaN."""
    stock, batch = without_cameras
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda *_: torch.zeros(4, 8, 3))
    policy = as_compiled(stock, "frozen")
    assert policy.predict_action_chunk(batch).isfinite().all()
    batch["observation.state"][0, 0] = float("nan")
    assert policy.predict_action_chunk(batch)[0].isnan().all()


@each_mode
@pytest.mark.usefixtures("with_constants")
def test_a_policy_made_in_inference_mode_acts_with_its_own_weights(
    mode: str, without_cameras: tuple[Any, dict[str, Any]]
) -> None:
    """torch counts no writes to what was made there."""
    stock, batch = without_cameras
    with torch.inference_mode():
        policy = as_compiled(stock, mode)
        for _ in range(2):
            actions, expected = (each.predict_action_chunk(batch) for each in (policy, stock))
            assert (actions - expected).abs().max() < 1e-5
            for each in (policy, stock):
                each.model.action_head.bias.view(-1)[1] += 1.0


@pytest.mark.parametrize(
    ("mode", "device", "expected"),
    [
        ("auto", "cuda", "captured"),
        ("auto", "mps", "default"),
        ("captured", "mps", "default"),
        ("max-autotune", "cpu", "max-autotune"),
    ],
)
def test_auto_is_the_devices_mode(mode: str, device: str, expected: str) -> None:
    assert mode_for(mode, device) == expected


def test_who_captures_actions_trains_with_torchs_cuda_graphs() -> None:
    for mode in ("auto", "captured"):
        assert mode_for(mode, "cuda", acts=False) == "reduce-overhead"
    assert mode_for("captured", "mps", acts=False) == "default"


@pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this torch has one interface to TF32 only"
)
@pytest.mark.usefixtures("without_inductor")
def test_tf32_may_be_asked_for_by_torchs_newer_interface(without_cameras: tuple[Any, Batch]) -> None:
    """Reading the older one then raises in torch."""
    stock, batch = without_cameras
    products: Any = torch.backends.cuda.matmul
    before = products.fp32_precision
    try:
        products.fp32_precision = "tf32"
        with pytest.raises(RuntimeError, match="mix of the legacy and new"):
            torch.get_float32_matmul_precision()
        actions = as_compiled(stock, "frozen").predict_action_chunk(batch)
    finally:
        products.fp32_precision = before
    assert (actions - stock.predict_action_chunk(batch)).abs().max() < 1e-5


@pytest.mark.usefixtures("without_inductor")
def test_auto_trains_with_the_fused_optimizer_as_stock_with_its_own(
    tiny_policy: Make, tiny_batch: Make
) -> None:
    # Float64: where a gradient is nothing but rounding, AdamW's first steps take its sign for the whole.
    stock, batch = tiny_policy(dropout=0.0).double(), tiny_batch(dtype=torch.float64)
    policy = as_compiled(stock, "auto").double()
    policy.load_state_dict(stock.state_dict())
    assert all("fused" not in group for group in as_compiled(stock, "default").get_optim_params())
    for each in (stock, policy):
        optimizer = each.config.get_optimizer_preset().build(each.get_optim_params())
        assert all(bool(group["fused"]) == (each is policy) for group in optimizer.param_groups)
        each.train()
        for seed in range(2):
            torch.manual_seed(seed)
            each.forward(batch)[0].backward()
            optimizer.step()
            optimizer.zero_grad()
    for (name, ours), theirs in zip(policy.named_parameters(), stock.parameters(), strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm() + 1e-12, name


def test_auto_by_inductor_learns_and_acts_as_stock(
    without_cameras: tuple[Any, Batch], tiny_policy: Make
) -> None:
    """As lerobot-train does: compiled steps of the preset's optimizer, which is fused, and an evaluation."""
    (like, batch), nothing_drawn = without_cameras, {"dropout": 0.0, "use_vae": False}
    stock = tiny_policy(input_features=like.config.input_features, **nothing_drawn)
    policy = as_compiled(stock, "auto")
    optimizers = [
        each.config.get_optimizer_preset().build(each.get_optim_params()) for each in (stock, policy)
    ]
    for step in range(3):
        losses = []
        for each, optimizer in zip((stock, policy), optimizers, strict=True):
            loss, _ = each.train().forward(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        assert policy.compiled_by()["forward"] == "torch"
        assert abs(losses[1] - losses[0]) < 1e-5 * losses[0], step
        expected = stock.eval().predict_action_chunk(batch)
        assert (policy.eval().predict_action_chunk(batch) - expected).abs().max() < 1e-4, step


@pytest.mark.gpu
@pytest.mark.usefixtures("without_inductor")
def test_loss_parts_are_read_when_asked_for(tiny_policy: Make, tiny_batch: Make) -> None:
    policy = as_compiled(tiny_policy(), "default").to("cuda").train()
    _, parts = policy.forward({name: value.to("cuda") for name, value in tiny_batch().items()})
    assert all(isinstance(dict.__getitem__(parts, name), torch.Tensor) for name in parts), "no read-back"
    logged: dict[str, Any] = {}
    logged.update(parts)  # as lerobot-train does
    assert {name: type(value) for name, value in logged.items()} == {"l1_loss": float, "kld_loss": float}


WITHOUT_COMPILER = """
import copy
from pickle import load
from lerobot_policy_act_compiled import compiling
compile_, tried = compiling.Compiled.__call__, []
compiling.Compiled.__call__ = lambda *args: tried.append(1) or compile_(*args)
def act(policy, batch):
    return list(policy.eval().predict_action_chunk(batch).shape)
def learn(policy, batch):
    return policy.train().forward(batch)[0].ndim
policy, batch = load(open("policy and batch", "rb"))
for mode in ("auto", "frozen"):
    for fallback in (True, False):
        policy.config.compile_mode, policy.config.compile_fallback = mode, fallback
        for each in (policy, copy.deepcopy(policy)):
            for call in (learn, learn, act):
                try:
                    print(mode, fallback, call.__name__, call(each, batch))
                except RuntimeError as error:
                    print(mode, fallback, call.__name__, error)
print("tried", len(tried))
"""


def test_a_policy_without_a_compiler_is_not_kept(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process remembers that there is none, and not where it has found out."""

    def compile_(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compiling, "_found_none", {})
    monkeypatch.setattr(torch, "compile", compile_)
    stock, batch = without_cameras
    policy = as_compiled(stock, "default", compile_fallback=True)
    assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert set(compiling._found_none) == {"cpu"}
    gone = weakref.ref(policy)
    del policy
    gc.collect()
    assert gone() is None


def test_no_compiler_is_one_line_and_eager_only_where_asked(
    without_cameras: tuple[Any, Batch], tmp_path: Path
) -> None:
    """What takes half a minute to fail is not tried again: not to act, for a copy, or in another mode."""
    environment = {**os.environ, "CXX": str(tmp_path / "nonesuch"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", ENDS_AT_ONCE + WITHOUT_COMPILER]
    stock, batch = without_cameras
    (tmp_path / "policy and batch").write_bytes(pickle.dumps((as_compiled(stock, "auto"), batch)))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, tried = done.stdout.splitlines()
    for mode in ("auto", "frozen"):
        acts = dict.fromkeys((True, False), "act [4, 8, 3]")
        if not acts_by_engine(mode):
            acts[False] = "act compile_model=True needs a compiler"
        for fallback, learns in ((True, "learn 0"), (False, "learn compile_model=True needs a compiler")):
            prefix = f"{mode} {fallback} "
            calls = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
            expected = [learns, learns, acts[fallback]] * 2
            assert all(map(str.startswith, calls, expected)), calls
            assert len(calls) == len(expected)
    assert done.stderr.count("no compiler on this machine: policy_loss runs eager") == 4, "once a policy"
    assert tried == "tried 1"
