"""Revisions side by side: the workspace, commits and DVC experiments, with what differs in their parameters.

    found = listed("HEAD")
    [(one.name, one.state) for one in found]
        [("d3531fe main", "done"), ("workspace", "not run"), ("more", "done"), ("odd", "failed"), ("next", "queued")]
    changes(found[2], found[0])        ["train.epochs=2"]
    primary(found[2])["difference"]    {"mean": 0.014, "low": 0.004, "high": 0.025, …}

Only a revision that is done has a report. DVC gives a failed experiment the metrics of its commit; and the workspace,
or a commit, may have parameters that are newer than its figures.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bitter_retrieval.studies.experiments import REPORT, ExperimentError, Result, all_results, git, shown
from bitter_retrieval.typed_yaml import parse_yaml, read_yaml

WORKSPACE, DONE, NOT_RUN = "workspace", "done", "not run"
PARAMS, LOCK = "params.yaml", "dvc.lock"
PROFILE = re.compile(r"^# Written by `python src/use_profile\.py (\S+)`")  # by which use_profile.py begins the file
ABSENT = object()
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Revision:
    name: str
    rev: str | None  # commit; None: the workspace
    state: str  # DONE, NOT_RUN, or failed, queued, running
    params: Tree
    profile: str
    report: Tree | None  # metrics/report.json if done

    @property
    def figures(self) -> Tree:
        """The report. Raises ExperimentError without one."""
        if self.report is None:
            raise ExperimentError(
                f"{self.name}: {self.state}, so it has no figures. {REMEDIES.get(self.state, '')}".rstrip()
            )
        return self.report


REMEDIES = {
    NOT_RUN: "`dvc repro` runs what is in the workspace, `dvc exp run` what is to be kept.",
    "failed": "`dvc queue logs <name>` says why; queue it again.",
    "queued": "`dvc exp run --run-all` runs it.",
    "running": "Wait for it: `dvc queue status`.",
}


def listed(rev: str) -> list[Revision]:
    """Commit `rev`, the workspace, and every experiment that began from the commit."""
    read_yaml(PARAMS)  # refuses a folder that is none of the project
    told = shown(rev)
    commits = {entry["rev"]: entry["name"] or "" for entry in told if entry["rev"] != WORKSPACE}
    found = [_own(f"{commit[:7]} {name}".strip(), commit) for commit, name in commits.items()]
    return [*found, _own(WORKSPACE, None), *(_experiment(result) for result in all_results(told))]


def named(names: Sequence[str], rev: str) -> list[Revision]:
    """Revisions by name: workspace, a branch, a tag, a commit, or an experiment; what did not succeed is on `rev`."""
    read_yaml(PARAMS)
    commits = {name: None if name == WORKSPACE else _commit(name) for name in names}
    unknown = [name for name, commit in commits.items() if commit is None and name != WORKSPACE]
    on = {result.name: result for result in all_results(shown(rev))} if unknown else {}
    for name in unknown:
        if name not in on:
            known = f"experiments: {', '.join(on) or 'none'}"
            remedy = "`dvc exp pull <remote> <name>` fetches one; --rev names the commit of queued and failed ones."
            raise ExperimentError(f"{name}: no commit and no experiment here ({known}). {remedy}")
    return [_experiment(on[name]) if name in on else _own(name, commit) for name, commit in commits.items()]


def _commit(name: str) -> str | None:
    """The commit of a name, also of an experiment that succeeded on any commit."""
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev

    try:
        with Repo() as repo:
            return resolve_rev(repo.scm, name)
    except RevError:
        return None


def _own(name: str, rev: str | None) -> Revision:
    """The workspace or a commit: done if its parameters are those of the last run."""
    params, lock, report = (_text(rev, path) for path in (PARAMS, LOCK, REPORT))
    if params is None:
        raise ExperimentError(f"{name}: has no {PARAMS}, so it is no revision of this project.")
    done = report is not None and lock is not None and not _newer(params, lock)
    return _revision(name, rev, DONE if done else NOT_RUN, params, report)


def _experiment(result: Result) -> Revision:
    params = git("show", f"{result.rev}:{PARAMS}")
    if result.state != "success":
        return _revision(result.name, result.rev, result.state, params, None)
    return _revision(result.name, result.rev, DONE, params, git("show", f"{result.rev}:{REPORT}"))


def _revision(name: str, rev: str | None, state: str, params: str, report: str | None) -> Revision:
    written = PROFILE.match(params)
    tree, profile = parse_yaml(params, f"{PARAMS} of {name}"), written[1] if written else "default"
    found = json.loads(report) if report and state == DONE else None
    if found and not {"shown", "split", "reader", "baseline", "primary"} <= found.get("about", {}).keys():
        raise ExperimentError(f"{name}: its {REPORT} is of another version of the code, which has other figures.")
    return Revision(name, rev, state, tree, profile, found)


def _text(rev: str | None, path: str) -> str | None:
    """A file that git keeps, or that of the workspace; None if it is absent."""
    if rev is None:
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
    return git("show", f"{rev}:{path}") if git("ls-tree", "--name-only", rev, "--", path) else None


@cache  # the workspace and its commit often have the same
def _newer(params: str, lock: str) -> bool:
    """Whether a parameter has another value than at the last run.

    DVC keeps stages such as train@old in the lock after the run `old` has left the parameters: they count for nothing.
    """
    tree = parse_yaml(params, PARAMS)
    names = {name for section in tree.values() if isinstance(section, Mapping) for name in section}
    for stage, made in parse_yaml(lock, LOCK)["stages"].items():
        _, each, name = stage.partition("@")
        ran = {} if each and name not in names else made.get("params", {}).get(PARAMS, {})
        if any(at(tree, path) != value for path, value in ran.items()):
            return True
    return False


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path, None without one."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def paths(tree: Tree, above: str = "") -> Iterator[str]:
    """Dotted paths of all values of the parameters."""
    for key, value in tree.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from paths(value, path)
        else:
            yield path


# -- what differs ----------------------------------------------------------------------------------------------------


def changes(revision: Revision, base: Revision) -> list[str]:
    """What differs in the parameters, as "train.epochs=2"; what only one of the two has as "+runs.x" or "−runs.x"."""
    profile = [f"profile {revision.profile}"] if revision.profile != base.profile else []
    return profile + list(_changes(revision.params, base.params, ""))


def _changes(new: Any, old: Any, at: str) -> Iterator[str]:
    if not isinstance(new, Mapping) or not isinstance(old, Mapping):
        if new != old:
            yield f"{at}={json.dumps(new, ensure_ascii=False) if not isinstance(new, str) else new}"
        return
    for key in dict.fromkeys([*new, *old]):
        path = f"{at}.{key}" if at else str(key)
        if key not in new:
            yield f"−{path}"
        elif key not in old and isinstance(new[key], Mapping):
            yield f"+{path}"
        else:
            yield from _changes(new[key], old.get(key, ABSENT), path)


# -- figures ---------------------------------------------------------------------------------------------------------


def primary(revision: Revision) -> dict[str, Tree | None]:
    """Exact match of the baseline and of the primary run, and their difference, with the primary reader."""
    about = revision.figures["about"]
    found = {which: estimate(revision, about[which], "em") for which in ("baseline", "primary")}
    differences = revision.figures["differences"][about["reader"]]["em"]
    return found | {"difference": differences.get(about["primary"])}


def estimate(revision: Revision, system: str, metric: str) -> Tree | None:
    """A run's or control's mean with the primary reader, None if it was not measured."""
    report = revision.figures
    scores = report["systems"].get(system, {}).get("scores", {})
    return scores.get(report["about"]["reader"], {}).get(metric)


def measured(revision: Revision) -> str:
    """What the primary figures are of."""
    about = revision.figures["about"]
    pair = f"{about['primary']} − {about['baseline']}"
    return f"{pair}, {about['reader']}'s answers to {about['split']} questions, {about['shown'][0]} shown"
