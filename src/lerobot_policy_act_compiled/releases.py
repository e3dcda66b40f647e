"""Which LeRobot and torch releases this package works over, checked before anything of them is imported.

What differs between them, and where:

- LeRobot 0.6.0: the loss became a masked mean. ``loss`` traces the installed method and rewrites none of it.
- torch 2.7: graphs hold subclasses of dict and writes to a module's ``__dict__``, see GRAPHS_HOLD_DICTS. They
  take dimensions of one element with any stride, see TAKES_ANY_STRIDE_OF_ONE, and a pass over graphs, see
  TAKES_A_PASS.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

OLDEST = {"lerobot": "0.4.4", "torch": "2.6"}
TRIED = "LeRobot 0.4.4, 0.5.1 and 0.6.1 with torch 2.6 to 2.15"  # docs/compatibility.md


def check_installed() -> None:
    """Raise ImportError, in one line with the remedy, where LeRobot or torch is missing or too old."""
    for name, oldest in OLDEST.items():
        remedy = f"pip install '{name}>={oldest}'"
        try:
            installed = version(name)
        except PackageNotFoundError:
            raise ImportError(f"lerobot_policy_act_compiled needs {name}: {remedy}") from None
        if Version(installed) < Version(oldest):
            raise ImportError(
                f"lerobot_policy_act_compiled supports {name} {oldest} and newer, not {installed}: {remedy}"
            )


def torch_is_at_least(release: str) -> bool:
    """Whether the installed torch is ``release`` or newer; a pre-release counts as the release."""
    return Version(Version(version("torch")).base_version) >= Version(release)


def moved(error: ImportError) -> ImportError:
    """The error to raise where the installed LeRobot or torch no longer has what is imported from it."""
    package = (error.name or "").partition(".")[0]
    if package not in OLDEST:
        return error
    return ImportError(
        f"{package} {version(package)} is not supported by this lerobot_policy_act_compiled ({error}); "
        f"it was tried with {TRIED}"
    )


# With torch 2.6 both would be a graph break. There a compiled ``policy.forward`` returns the loss's parts as
# 0-d tensors in a plain dict, and eval mode is set as LeRobot sets it, which takes longer to trace.
GRAPHS_HOLD_DICTS = torch_is_at_least("2.7")

# The stride of a dimension of one element means nothing, but torch 2.6 compiles anew where it differs, as it
# does through DLPack.
TAKES_ANY_STRIDE_OF_ONE = torch_is_at_least("2.7")

# torch 2.6 forgets, without a word, an option of ``torch.compile`` whose type is a union, as a pass is.
TAKES_A_PASS = torch_is_at_least("2.7")
