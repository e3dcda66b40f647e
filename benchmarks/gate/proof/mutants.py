"""Mistakes somebody would make in the subject, and edits that change nothing; the gate must know which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...repository import PACKAGE

MODEL, LAYERS = "modeling_act_compiled.py", "layers.py"


@dataclass(frozen=True)
class Edit:
    """One change of one file of the subject.

    Attributes:
        old, new: text that stands in the file exactly once, and what it becomes.
        cause: what a finding or the headline must name; "" in a harmless edit.
    """

    name: str
    old: str
    new: str
    cause: str
    file: str = MODEL

    def apply(self, root: Path) -> None:
        """Make the edit in a checkout.

        Raises:
            ValueError: the old text is not there exactly once; the subject has moved on.
        """
        path = root / PACKAGE / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(
                f"mutant {self.name!r}: its text stands {text.count(self.old)} times in {self.file}"
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


CAT = "return torch.cat([torch.stack(vectors), *tokens]), torch.cat(positions)"
RESULT = "return self.action_head(decoded.transpose(0, 1)), posterior"
TOKENS = "tokens, positions = _encoder_inputs(self, batch, latent)"

MUTANTS = (
    Edit(
        "tokens unrolled into a list",
        CAT,
        "rows = [row for part in (torch.stack(vectors), *tokens) for row in part]\n"
        "    return torch.stack(rows), torch.cat(positions)",
        "ops",
    ),
    Edit(
        ".item() in forward",
        TOKENS,
        "latent = latent * float(latent.isfinite().all().item())\n    " + TOKENS,
        "graph breaks",
    ),
    Edit("attention weights asked for", "need_weights=False", "need_weights=True", "ops dispatched", LAYERS),
    Edit(
        "cameras one by one in the graph",
        "if torch.compiler.is_compiling() and all(",
        "if False and all(",
        "ops captured",
    ),
    Edit(
        "a constant rebuilt per call",
        "constant_position_table if constant else fixed_position_table\n",
        "constant_position_table if constant else fixed_position_table.__wrapped__\n",
        "ops dispatched",
    ),
    Edit(
        "an accidental float64",
        "_position_table(model, features).to(dtype=features.dtype)",
        "_position_table(model, features).double().to(dtype=features.dtype)",
        "ops dispatched",
    ),
    Edit("a clone too many", RESULT, RESULT.replace("(0, 1)", "(0, 1).clone()"), "ops dispatched"),
    Edit(
        "a branch on the batch size that recompiles",
        "    posterior: Posterior = (None, None)\n",
        "    posterior: Posterior = (None, None)\n    if batch_size > 4:\n        batch = dict(batch)\n",
        "recompiles",
    ),
    Edit(
        "a function the graph cannot enter",
        "def _camera_tokens(",
        "@torch.compiler.disable\ndef _camera_tokens(",
        "graph breaks",
    ),
    Edit(
        "a detach that breaks gradients",
        'model.backbone(images.flatten(0, 1))["feature_map"]',
        'model.backbone(images.flatten(0, 1))["feature_map"].detach()',
        "loss and gradients",
    ),
    Edit(
        "dropout left on at inference",
        "return norm(x + dropout(drop, sublayer(x)))",
        "return norm(x + F.dropout(sublayer(x), drop.p))",
        "actions",
        LAYERS,
    ),
    Edit(
        "the latent's variance for its deviation", "log_sigma_x2.div(2)", "log_sigma_x2", "loss and gradients"
    ),
    Edit(
        "padding of actions forgotten",
        "torch.cat([never_pad, is_pad], dim=1)",
        "torch.cat([never_pad, torch.zeros_like(is_pad)], dim=1)",
        "loss and gradients",
    ),
    Edit(
        "the encoder run twice",
        "self.encoder(tokens, pos_embed=positions),",
        "self.encoder(tokens, pos_embed=positions) + 0 * self.encoder(tokens, pos_embed=positions),",
        "FLOPs",
    ),
    Edit(
        "copies held at the memory's peak",
        TOKENS,
        "held = [image * 1 for image in batch[OBS_IMAGES]]\n    " + TOKENS + "\n    del held",
        "memory",
    ),
    Edit(
        "a buffer that reaches the checkpoint",
        "        part.__class__ = _compile_friendly_class(cls)",
        "        part.__class__ = _compile_friendly_class(cls)\n"
        '    module.register_buffer("positions", torch.zeros(1))',
        "state_dict",
    ),
    Edit(
        "slow Python that no counter sees",
        TOKENS,
        TOKENS + "\n    if not torch.compiler.is_compiling():\n        sum(range(300_000))",
        "slower",
    ),
)

HARMLESS = (
    Edit("a comment", CAT, "# All at once.\n    " + CAT, ""),
    Edit(
        "a renamed variable",
        "    never_pad = is_pad.new_zeros((batch_size, len(prefix)), dtype=torch.bool)\n",
        "    real = is_pad.new_zeros((batch_size, len(prefix)), dtype=torch.bool)\n    never_pad = real\n",
        "",
    ),
    Edit(
        "a docstring",
        '"""Self-attention and feed-forward, ``(T, B, D) -> (T, B, D)``."""',
        '"""One layer of the encoder."""',
        "",
        LAYERS,
    ),
    Edit(
        "classes in another order",
        "class CompileFriendlyEncoderLayer(ACTEncoderLayer):\n    forward = encoder_layer_forward\n\n\n"
        "class CompileFriendlyDecoderLayer(ACTDecoderLayer):\n    forward = decoder_layer_forward\n",
        "class CompileFriendlyDecoderLayer(ACTDecoderLayer):\n    forward = decoder_layer_forward\n\n\n"
        "class CompileFriendlyEncoderLayer(ACTEncoderLayer):\n    forward = encoder_layer_forward\n",
        "",
        LAYERS,
    ),
    Edit(
        "a condition the other way round",
        "return x if position is None else x + position",
        "return x + position if position is not None else x",
        "",
        LAYERS,
    ),
    Edit(
        "a helper taken apart",
        "    return _residual(self, partial(_feed_forward, self), x, self.norm3, self.dropout3)",
        "    norm, drop = self.norm3, self.dropout3\n"
        "    return _residual(self, partial(_feed_forward, self), x, norm, drop)",
        "",
        LAYERS,
    ),
    Edit(
        "a longer message",
        "patch the policy first, then torch.compile it",
        "patch it first, compile it then",
        "",
        "patch.py",
    ),
)
