"""Mistakes somebody would make in the subject, and edits that change nothing; the gate must know which."""

from __future__ import annotations

from dataclasses import dataclass

from ...edits import (
    ATTENTION_WEIGHTS_ASKED_FOR,
    CAMERAS_ONE_BY_ONE,
    LAYERS,
    PRODUCTS_BY_MKL,
    TOKENS_CONCATENATED,
    TOKENS_UNROLLED,
    Edit,
)


@dataclass(frozen=True)
class Mutant:
    """The subject with one edit in it.

    Attributes:
        name: as it is recorded.
        cause: what a finding or the headline must name; "" where the edit is harmless.
    """

    name: str
    edit: Edit
    cause: str = ""


RESULT = "return self.action_head(decoded.transpose(0, 1)), posterior"
TOKENS = "tokens, positions = _encoder_inputs(self, batch, latent)"

MUTANTS = (
    Mutant("tokens unrolled into a list", TOKENS_UNROLLED, "ops"),
    Mutant(
        ".item() in forward",
        Edit(TOKENS, "latent = latent * float(latent.isfinite().all().item())\n    " + TOKENS),
        "graph breaks",
    ),
    Mutant("attention weights asked for", ATTENTION_WEIGHTS_ASKED_FOR, "ops dispatched"),
    Mutant("cameras one by one in the graph", CAMERAS_ONE_BY_ONE, "ops captured"),
    Mutant(
        "a constant rebuilt per call",
        Edit(
            "constant_position_table if constant else fixed_position_table\n",
            "constant_position_table if constant else fixed_position_table.__wrapped__\n",
        ),
        "ops dispatched",
    ),
    Mutant(
        "an accidental float64",
        Edit(
            "_position_table(model, features).to(dtype=features.dtype)",
            "_position_table(model, features).double().to(dtype=features.dtype)",
        ),
        "ops dispatched",
    ),
    Mutant("a clone too many", Edit(RESULT, RESULT.replace("(0, 1)", "(0, 1).clone()")), "ops dispatched"),
    Mutant(
        "a branch on the batch size that recompiles",
        Edit(
            "    posterior: Posterior = (None, None)\n",
            "    posterior: Posterior = (None, None)\n    if batch_size > 4:\n        batch = dict(batch)\n",
        ),
        "recompiles",
    ),
    Mutant(
        "a function the graph cannot enter",
        Edit("def _camera_tokens(", "@torch.compiler.disable\ndef _camera_tokens("),
        "graph breaks",
    ),
    Mutant(
        "a detach that breaks gradients",
        Edit(
            "features_of(model.backbone, images.flatten(0, 1))",
            "features_of(model.backbone, images.flatten(0, 1)).detach()",
        ),
        "loss and gradients",
    ),
    Mutant(
        "dropout left on at inference",
        Edit(
            "return norm(x + dropout(drop, sublayer(x)))",
            "return norm(x + F.dropout(sublayer(x), drop.p))",
            LAYERS,
        ),
        "actions",
    ),
    Mutant(
        "the latent's variance for its deviation",
        Edit("log_sigma_x2.div(2)", "log_sigma_x2"),
        "loss and gradients",
    ),
    Mutant(
        "padding of actions forgotten",
        Edit(
            "torch.cat([never_pad, is_pad], dim=1)", "torch.cat([never_pad, torch.zeros_like(is_pad)], dim=1)"
        ),
        "loss and gradients",
    ),
    Mutant(
        "the encoder run twice",
        Edit(
            "self.encoder(tokens, pos_embed=positions),",
            "self.encoder(tokens, pos_embed=positions) + 0 * self.encoder(tokens, pos_embed=positions),",
        ),
        "FLOPs",
    ),
    Mutant(
        "copies held at the memory's peak",
        Edit(TOKENS, "held = [image * 1 for image in batch[OBS_IMAGES]]\n    " + TOKENS + "\n    del held"),
        "memory",
    ),
    Mutant(
        "a buffer that reaches the checkpoint",
        Edit(
            "        part.__class__ = _compile_friendly_class(cls)",
            "        part.__class__ = _compile_friendly_class(cls)\n"
            '    module.register_buffer("positions", torch.zeros(1))',
        ),
        "state_dict",
    ),
    Mutant(
        "auto without its engine",
        Edit(
            "if missing(engine) is None:\n            return engine",
            'if missing(engine) is None:\n            return "frozen"',
            "compiling.py",
        ),
        "without an engine",
    ),
    Mutant(
        "auto that is the default mode",
        Edit(
            '    if mode == "auto":\n', '    if mode == "auto":\n        return "default"\n', "compiling.py"
        ),
        "without an engine",
    ),
    Mutant(
        "weights told apart by address alone",
        Edit(
            "_counts(tensors) == self._counts\n            and _places(tensors) == self._places\n"
            "            and self.are_modules_of(module)\n            and self._samples.unchanged_on_host()",
            "_places(tensors) == self._places",
            "weights.py",
        ),
        "actions of auto after",
    ),
    Mutant(
        "the fused optimizer lost",
        Edit('[{**group, "fused": True} for group in groups]', "groups", "compiled_policy.py"),
        "fused optimizer",
    ),
    Mutant(
        "short random numbers lost",
        Edit('masks_of_16_bits=self._asked == "auto"', "masks_of_16_bits=False", "compiling.py"),
        "masks",
    ),
    Mutant("products by MKL where it is slow", PRODUCTS_BY_MKL, "torch's own products"),
    Mutant(
        "a warm start that exports again",
        Edit("self._kept.read(name) if keeps else None", "None", "engine.py"),
        "where the architecture is known",
    ),
    Mutant(
        "an engine that is made at every step",
        Edit("self._made[kind], self.by = made, self._name", "self.by = self._name", "engine.py"),
        "ops dispatched in a tick",
    ),
    Mutant(
        "a sleep at each prediction",
        Edit(
            "            actions = made(batch, look)",
            "            time.sleep(0.02)\n            actions = made(batch, look)",
            "engine.py",
        ),
        "waits in a tick",
    ),
    Mutant(
        "sessions that are never let go",
        Edit(
            "self._made[kind], self.by = made, self._name",
            "self._made[kind], self.by = made, self._name\n        self._made[kind, id(made)] = made",
            "engine.py",
        ),
        "sessions of auto",
    ),
    Mutant(
        "a pass more over each frame",
        Edit(".div_(255).unsqueeze(0)", ".div_(255).clone().unsqueeze(0)", "frames.py"),
        "ops dispatched in a tick",
    ),
    Mutant(
        "slow Python that no counter sees",
        Edit(TOKENS, TOKENS + "\n    if not torch.compiler.is_compiling():\n        sum(range(300_000))"),
        "slower",
    ),
)

HARMLESS = (
    Mutant("a comment", Edit(TOKENS_CONCATENATED, f"# All at once.\n    {TOKENS_CONCATENATED}")),
    Mutant(
        "a renamed variable",
        Edit(
            "    never_pad = is_pad.new_zeros((batch_size, len(prefix)), dtype=torch.bool)\n",
            "    real = is_pad.new_zeros((batch_size, len(prefix)), dtype=torch.bool)\n"
            "    never_pad = real\n",
        ),
    ),
    Mutant(
        "a docstring",
        Edit(
            '"""Self-attention and feed-forward, ``(T, B, D) -> (T, B, D)``."""',
            '"""One layer of the encoder."""',
            LAYERS,
        ),
    ),
    Mutant(
        "classes in another order",
        Edit(
            "class CompileFriendlyEncoderLayer(ACTEncoderLayer):\n    forward = encoder_layer_forward\n\n\n"
            "class CompileFriendlyDecoderLayer(ACTDecoderLayer):\n    forward = decoder_layer_forward\n",
            "class CompileFriendlyDecoderLayer(ACTDecoderLayer):\n    forward = decoder_layer_forward\n\n\n"
            "class CompileFriendlyEncoderLayer(ACTEncoderLayer):\n    forward = encoder_layer_forward\n",
            LAYERS,
        ),
    ),
    Mutant(
        "a condition the other way round",
        Edit(
            "return x if position is None else x + position",
            "return x + position if position is not None else x",
            LAYERS,
        ),
    ),
    Mutant(
        "a helper taken apart",
        Edit(
            "    return _residual(self, partial(_feed_forward, self), x, self.norm3, self.dropout3)",
            "    norm, drop = self.norm3, self.dropout3\n"
            "    return _residual(self, partial(_feed_forward, self), x, norm, drop)",
            LAYERS,
        ),
    ),
    Mutant(
        "a longer message",
        Edit("patch the policy first, then torch.compile it", "patch it first, compile it then", "patch.py"),
    ),
    Mutant(
        "a frame's floats with a name",
        Edit(
            "return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255).unsqueeze(0)",
            "floats = pixels.to(torch.float32, memory_format=torch.contiguous_format)\n"
            "    return floats.div_(255).unsqueeze(0)",
            "frames.py",
        ),
    ),
    Mutant(
        "weights compared in another order",
        Edit(
            "_counts(tensors) == self._counts\n            and _places(tensors) == self._places",
            "_places(tensors) == self._places\n            and _counts(tensors) == self._counts",
            "weights.py",
        ),
    ),
    Mutant(
        "a constant of dropout with a name",
        Edit(
            "    dropped = round(p * (1 << 16))",
            "    numbers = 1 << 16\n    dropped = round(p * numbers)",
            "dropout.py",
        ),
    ),
    Mutant(
        "an assignment inside a condition",
        Edit(
            "        made = self._made.get(kind)\n        if made is not None and (actions",
            "        if (made := self._made.get(kind)) is not None and (actions",
            "engine.py",
        ),
    ),
    Mutant(
        "a dictionary made in a loop",
        Edit(
            "    observed = {name: batch[name] for name in self.config.input_features if name in batch}",
            "    observed = {}\n"
            "    for name in self.config.input_features:\n"
            "        if name in batch:\n"
            "            observed[name] = batch[name]",
            "compiled_policy.py",
        ),
    ),
)
