"""The settings and files behind a result, and whether figures still belong to it: params.yaml, dvc.lock and the files.

    made_by("models/runs/kl", params, tree)    {"runs.kl": {…}, "labels.reader_a": {…}, "encoders.mini": {…}, …}
    doubts(["train@kl", "label@reader_a", "evaluate@kl", "compare"], read_lock(), tree)
    {"evaluate@kl": ["models/runs/kl is not what evaluate@kl read"]}

Code is ignored: an edited comment makes no figure old, and the commit names the code.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitter_retrieval.lineage import entries
from bitter_retrieval.models.checkpoints import weights_changed
from bitter_retrieval.params import Params
from bitter_retrieval.studies.experiments import ExperimentError, git
from bitter_retrieval.tracking import Lock, md5

VERBS = {"deps": "read", "outs": "wrote"}
Tree = Mapping[str, Any]  # of params.yaml


def made_by(path: str, params: Params, tree: Tree) -> dict[str, Any]:
    """The entries of params.yaml that decided the content of a path, by dotted key; the path's own comes first."""
    return {f"{section}.{name}": tree[section][name] for section, name in entries(path, params)}


def doubts(stages: Sequence[str], lock: Lock, tree: Tree) -> dict[str, list[str]]:
    """By stage, the data and settings that have changed since it ran; stages without any are left out.

    A path that is absent, as after a `git clone`, counts as what dvc.lock says was last made there.
    """
    now = {entry["path"]: entry["md5"] for stage in lock.values() for entry in _data(stage, "outs")}
    named = [lock[name] for name in stages if name in lock]
    paths = {entry["path"] for stage in named for part in VERBS for entry in _data(stage, part)}
    now |= {path: md5(Path(path)) for path in paths if Path(path).exists()}
    return {name: said for name in dict.fromkeys(stages) if (said := list(_doubts(name, lock, now, tree)))}


def _doubts(name: str, lock: Lock, now: Mapping[str, str], tree: Tree) -> Iterator[str]:
    if name not in lock:
        yield f"dvc.lock has no stage {name}"
        return
    for part, verb in VERBS.items():
        for entry in _data(lock[name], part):
            if entry["path"] not in now:
                yield f"{entry['path']} is absent and cannot be compared with what {name} {verb}"
            elif now[entry["path"]] != entry["md5"]:
                yield f"{entry['path']} is not what {name} {verb}"
    for entry in _data(lock[name], "outs"):
        if weights_changed(Path(entry["path"])):
            yield f"the files that {entry['path']} points to are not those that {name} found"
    for key, value in lock[name].get("params", {}).get("params.yaml", {}).items():
        if _at(tree, key) != value:
            yield f"{key} in params.yaml is not what {name} ran with"


def hashes(stages: Sequence[str], lock: Lock) -> dict[str, str]:
    """MD5 by path, as DVC computes it, of all that the stages read and wrote."""
    entries = [entry for name in stages for part in VERBS for entry in _data(lock.get(name, {}), part)]
    return {entry["path"]: entry["md5"] for entry in entries}


def commit() -> str:
    """The commit checked out, with -dirty appended if tracked files differ from it; "unknown" outside git."""
    try:
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except ExperimentError:
        return "unknown"


def _data(stage: Mapping[str, Any], part: str) -> list[Mapping[str, str]]:
    return [entry for entry in stage.get(part, []) if not entry["path"].endswith(".py")]


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree
