"""The two sides of a comparison: the subject of each commit, checked out apart, and the proof of what ran.

Nothing is left in the repository: a side is an export of ``src`` and ``pyproject.toml`` into a
temporary directory, not a git worktree, so an interrupted gate leaves no entry behind.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement

from ..repository import PACKAGE, MeasurementError, git, git_files
from .syntax import meanings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WORKING_TREE = "working tree"
EXPORTED = ("src", "pyproject.toml")
MAIN = ("origin/main", "main")
NOTHING_BEFORE = re.compile("0{40}|0{64}")  # a push event's `before` where the branch is new
# What a pyproject.toml of another shape raises.
NO_PROJECT = (AttributeError, ValueError, TypeError, RecursionError)
CASE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")  # as in report.schema.json
OF_THE_ENGINE = "cpu"  # the extra that has it
LONGEST_SUBJECT = 200  # characters


@dataclass(frozen=True)
class Source:
    """What a side is made of, before it is checked out.

    Attributes:
        side: "base" or "head".
        ref: as it was asked for.
        commit: full hash; of HEAD for the working tree.
        dirty: it is the working tree and differs from ``commit`` in what is measured.
        described: ``git describe``, or the short hash.
        subject: first line of the commit's message.
    """

    side: str
    ref: str
    commit: str
    dirty: bool
    described: str
    subject: str

    @property
    def name(self) -> str:
        return f"{self.commit[:10]} and uncommitted changes" if self.dirty else self.commit[:10]

    def as_shown(self) -> dict[str, str]:
        """What a report says of it."""
        shown = ("name", "ref", "commit", "described", "subject")
        return {attribute: getattr(self, attribute) for attribute in shown}


@dataclass(frozen=True)
class Side:
    """A side that can be run.

    Attributes:
        source: what it is.
        path: directory that holds its ``src``.
        blobs: git's hash of each file of the package, by its path in the package.
        dependencies: as its pyproject.toml declares them, sorted.
        python: the interpreter that has them.
    """

    source: Source
    path: Path
    blobs: Mapping[str, str]
    dependencies: tuple[str, ...]
    python: str = sys.executable

    @property
    def name(self) -> str:
        return self.source.side

    def same_as(self, other: Side) -> bool:
        """Whether both are one subject: the same code, whatever its comments say, and dependencies."""
        if self.dependencies != other.dependencies:
            return False
        return self.blobs == other.blobs or self._meanings() == other._meanings()

    def _meanings(self) -> dict[str, str]:
        return meanings(self.path / PACKAGE, self.blobs)

    def check(self, imported: str, blobs: Mapping[str, str]) -> None:
        """Compare what a worker imported with what this side is.

        Raises:
            MeasurementError: the worker ran another file, or other contents.
        """
        if not Path(imported).resolve().is_relative_to(self.path.resolve()):
            raise MeasurementError(
                f"{self.name} imported {imported}, not its own checkout; unset PYTHONPATH and retry"
            )
        wrong = sorted(name for name, blob in blobs.items() if self.blobs.get(name) != blob)
        if wrong or not blobs:
            raise MeasurementError(
                f"{self.name} ran other code than {self.source.name}: {', '.join(wrong) or 'no module'}"
            )


def resolve(base: str | None, head: str | None, root: Path) -> tuple[Source, Source]:
    """The two sources: head is the working tree unless named; base the merge-base with main.

    On main itself base is the parent commit, or, with uncommitted changes, HEAD. A base of zeros alone is a
    new branch in a push event, and taken as none.

    Raises:
        MeasurementError: a ref that git does not know or that has no subject, or nothing says what to compare
            with.
    """
    head_source = _working_tree(root) if head is None else _commit("head", head, root)
    if base is None or NOTHING_BEFORE.fullmatch(base):
        base = _default_base(head_source, root, new_branch=base is not None)
    base_source = _commit("base", base, root)
    for source in (base_source, head_source):
        if git("ls-tree", "--name-only", source.commit, PACKAGE, root=root) == "" and not source.dirty:
            raise MeasurementError(f"{source.side} {source.name} has no {PACKAGE}; choose a later commit")
    return base_source, head_source


def _commit(side: str, ref: str, root: Path) -> Source:
    try:
        commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", root=root)
    except MeasurementError:
        raise MeasurementError(
            f"{side} {ref!r} is no commit that git knows here; fetch it (git fetch origin COMMIT finds one "
            "that a force-push removed, too), or see `git log --oneline`"
        ) from None
    return Source(side, ref, commit, False, *_described(commit, root))


def _described(commit: str, root: Path) -> tuple[str, str]:
    described = git("describe", "--tags", "--always", commit, root=root)
    return described, git("log", "-1", "--format=%s", commit, root=root)[:LONGEST_SUBJECT]


def _working_tree(root: Path) -> Source:
    commit = git("rev-parse", "HEAD", root=root)
    dirty = git("status", "--porcelain", "--", *EXPORTED, root=root) != ""
    return Source("head", WORKING_TREE, commit, dirty, *_described(commit, root))


def _default_base(head: Source, root: Path, *, new_branch: bool) -> str:
    """The commit to compare ``head`` with where none is named.

    Raises:
        MeasurementError: none is known. The parent is no substitute: it would pass a branch of ten commits
            whose first nine made it slower.
    """
    main = next((name for name in MAIN if _is_known(name, root)), None)
    if main is None:
        raise MeasurementError(
            "base: neither origin/main nor main is known here; fetch it (git fetch origin main), or name a "
            "commit by --base"
        )
    try:
        merge_base = git("merge-base", head.commit, main, root=root)
    except MeasurementError:
        raise MeasurementError(
            f"base: {head.name} and {main} have no commit in common here; in a shallow clone fetch the rest "
            "(git fetch --unshallow), or name a commit by --base"
        ) from None
    if merge_base != head.commit:
        return merge_base
    if head.dirty:
        return head.commit
    if new_branch:
        raise MeasurementError("base: nothing was before this push; name a commit by --base")
    try:
        return git("rev-parse", "--verify", "--quiet", f"{head.commit}^", root=root)
    except MeasurementError:
        raise MeasurementError(
            f"base: {head.name} has no parent commit here; in a shallow clone fetch it "
            "(git fetch --unshallow), or name one by --base"
        ) from None


def _is_known(ref: str, root: Path) -> bool:
    try:
        return git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", root=root) != ""
    except MeasurementError:
        return False


def check_out(source: Source, into: Path, root: Path) -> Side:
    """Put the source's ``src`` and ``pyproject.toml`` into ``into``.

    Raises:
        MeasurementError: it cannot be read, or the disk is full.
    """
    into.mkdir(parents=True)
    try:
        if source.ref == WORKING_TREE:
            _copy_working_tree(into, root)
        else:
            _export(source.commit, into, root)
        blobs = _blobs(into)
        dependencies = declared_dependencies(into)
    except (MeasurementError, OSError, zipfile.BadZipFile, KeyError, *NO_PROJECT) as error:
        raise MeasurementError(f"{source.side} {source.name} cannot be checked out: {error}") from None
    if not blobs:
        raise MeasurementError(f"{source.side} {source.name} has no {PACKAGE}; choose a later commit")
    return Side(source, into, blobs, dependencies)


def declared_dependencies(root: Path) -> tuple[str, ...]:
    """What the pyproject.toml in ``root`` declares, auto's engine with it; sorted and in one spelling."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project.get("optional-dependencies", {}).get(OF_THE_ENGINE, ())]
    return tuple(sorted(str(Requirement(line)) for line in lines))


def _export(commit: str, into: Path, root: Path) -> None:
    # A zip and no tar: zipfile follows no link out of ``into``; tarfile can only since Python 3.11.4.
    archive = into.resolve() / "export.zip"
    git("archive", f"--output={archive}", commit, *EXPORTED, root=root)
    with zipfile.ZipFile(archive) as files:
        files.extractall(into)
    archive.unlink()


def _copy_working_tree(into: Path, root: Path) -> None:
    """A copy, so that edits made while the gate runs change nothing."""
    listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *EXPORTED)
    for name in git_files(*listed, root=root):
        source = root / name
        if not source.is_file():
            continue  # deleted, not yet committed
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def edited(side: Side, into: Path, edit: Callable[[Path], None]) -> Side:
    """A copy of ``side``, as head, in which ``edit`` has changed files of the package."""
    shutil.copytree(side.path, into, ignore=shutil.ignore_patterns("__pycache__"))  # base may have run
    edit(into)
    source = replace(side.source, side="head", dirty=True)
    return replace(side, source=source, path=into, blobs=_blobs(into))


def _blobs(root: Path) -> dict[str, str]:
    """Git's hash of each file of the package in ``root``, by its path in the package."""
    package = root / PACKAGE
    files = (path for path in package.rglob("*") if path.is_file())
    return {path.relative_to(package).as_posix(): blob_hash(path.read_bytes()) for path in files}


def blob_hash(content: bytes) -> str:
    """Git's name for a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def accepted(base: Source, head: Source, root: Path) -> dict[str, str]:
    """Reasons by case, from ``Perf-Accept: <case> <reason>`` trailers of the commits in between.

    Raises:
        MeasurementError: a trailer without a reason.
    """
    wanted = "--format=%(trailers:key=Perf-Accept,valueonly,unfold)"
    trailers = git("log", wanted, f"{base.commit}..{head.commit}", root=root)
    reasons = {}
    for line in filter(None, map(str.strip, trailers.splitlines())):
        case, _, reason = line.partition(" ")
        if not reason.strip():
            raise MeasurementError(
                f"head: 'Perf-Accept: {line}' gives no reason; write Perf-Accept: <case> <reason>"
            )
        if CASE_NAME.fullmatch(case):  # no case's name begins with anything else
            reasons[case] = reason.strip()
    return reasons


def distance(base: Source, head: Source, root: Path) -> int:
    """Commits that head has and base has not."""
    return int(git("rev-list", "--count", f"{base.commit}..{head.commit}", root=root))
