"""Edits of the subject's source: what mutants put into it and what takes an optimisation back. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .repository import PACKAGE

MODEL, LAYERS = "modeling_act_compiled.py", "layers.py"


@dataclass(frozen=True)
class Edit:
    """One change of one file of the subject.

    Attributes:
        old, new: text that stands in the file exactly once, and what it becomes.
    """

    old: str
    new: str
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
                f"edit of {self.old!r}: its text stands {text.count(self.old)} times in {self.file}"
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


# Each is a mistake that the gate must name, and takes back an optimisation whose worth has a row of its own.
TOKENS_CONCATENATED = "return torch.cat([torch.stack(vectors), *tokens]), torch.cat(positions)"
TOKENS_UNROLLED = Edit(
    TOKENS_CONCATENATED,
    "rows = [row for part in (torch.stack(vectors), *tokens) for row in part]\n"
    "    return torch.stack(rows), torch.cat(positions)",
)
ATTENTION_WEIGHTS_ASKED_FOR = Edit("need_weights=False", "need_weights=True", LAYERS)
CAMERAS_ONE_BY_ONE = Edit("if torch.compiler.is_compiling() and all(", "if False and all(")
PRODUCTS_BY_MKL = Edit(
    'options_for_products() if self._asked == "auto" and trains_on_cpu else {}', "{}", "compiling.py"
)
