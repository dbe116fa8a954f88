"""Studies whose unit is the world: what is drawn anew in each, what is kept of each, and how many are needed.

    seeds(params, 101)           {"data.seed": "101", "readers.reader_a.fit.seed": "101000", …}
    found = gather(Path("metrics/confirm.json"), wanted, "HEAD")
    found["world-101"]["scores"]["reader_a"]["em"]["infonce_a"]          0.713
    worlds_needed(0.04)          17

The kept file has the frozen parameters and a few figures of every experiment. It is committed, so that a study goes on
in another clone, and after other commits: what it has is not queued again.

    {"params": {"train.epochs": 3, …}, "experiments": {"world-101": {"code": "0a6091d", "scores": {…}, …}, …}}
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from scipy.special import ndtri, stdtrit

from bitter_retrieval.params import Params
from bitter_retrieval.records import write_text
from bitter_retrieval.statistics.statistics import LEVEL, POWER
from bitter_retrieval.statistics.worlds import detected
from bitter_retrieval.studies.experiments import ExperimentError, Result, Wanted, finished, git, read, shown

ABOUT = ("reader", "readers", "seeds", "questions", "groups", "equivalence", "judge")  # the same in all experiments
METRICS = ("em", "success", "retrieval")
TARGET = 0.03  # difference that a study should detect, as a share of questions
APART = 1000  # between the seeds of two worlds
Figures = Mapping[str, Any]


class ReplicationError(ExperimentError):
    """A study over worlds that cannot be queued or tabulated, and what to do about it."""


# -- settings --------------------------------------------------------------------------------------------------------


def first_world(params: Params, profile: str) -> int:
    """data.seed, from which the worlds are numbered. Raises ReplicationError unless it is that of an unseen world."""
    remedy = f"`python src/use_profile.py {profile}` writes parameters for unseen worlds."
    if params.data.source != "synthetic":
        raise ReplicationError(f"data.source is {params.data.source}: only synthetic makes further worlds. {remedy}")
    if params.data.seed == 0:
        raise ReplicationError(f"data.seed is 0: that world was used for development. {remedy}")
    return params.data.seed


def seeds(params: Params, world: int) -> dict[str, str]:
    """Settings that give a world seeds of its own for all that is drawn: fits, labels and training.

    Sources with the same seed share draws in a world (annotators at several levels of noise, say), never across worlds.
    """
    drawn = {f"readers.{name}.fit.seed": reader.fit.seed for name, reader in params.readers.items() if reader.fit}
    drawn |= {f"encoders.{name}.fit.seed": one.fit.seed for name, one in params.encoders.items() if one.fit}
    drawn |= {f"++labels.{name}.seed": one.seed for name, one in params.labels.items() if hasattr(one, "seed")}
    lists = {f"runs.{name}.seeds": run.seeds for name, run in params.runs.items() if run.seeds}
    lists["train.seeds"] = params.train.seeds
    return (
        {"data.seed": str(world)}
        | {key: str(APART * world + seed) for key, seed in drawn.items()}
        | {key: f"[{','.join(str(APART * world + seed) for seed in own)}]" for key, own in lists.items()}
    )


# -- what is kept ----------------------------------------------------------------------------------------------------


def unfinished(path: Path, wanted: Wanted, params: Mapping[str, Any]) -> Wanted:
    """What the kept file lacks. Raises ReplicationError if the tree `params` of params.yaml has other frozen values."""
    kept = _read(path)
    if kept["experiments"]:
        _check_frozen(path, kept["params"], "params.yaml", _frozen(params, wanted))
    return {name: settings for name, settings in wanted.items() if name not in kept["experiments"]}


def gather(path: Path, wanted: Wanted, rev: str) -> dict[str, Figures]:
    """Figures of the wanted experiments in the kept file, and of those finished on commit `rev`, which are added to it.

    Raises ReplicationError if two experiments differ in more than the wanted settings.
    """
    kept = _read(path)
    new = {name: result for name, result in finished(shown(rev), wanted).items() if name not in kept["experiments"]}
    for name, result in new.items():
        frozen = _frozen(result.data["params"]["params.yaml"]["data"], wanted)
        kept["params"] = kept["params"] or frozen
        _check_frozen(path, kept["params"], f"experiment {name}", frozen)
        kept["experiments"][name] = {"code": _code(result)} | figures(read(result))
    found = {name: kept["experiments"][name] for name in wanted if name in kept["experiments"]}
    _check_alike(found)
    if new:
        write_text(path, json.dumps(kept, indent=1) + "\n")
    return found


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of metrics/report.json.

    scores: means by reader, metric and system. errors: share of training questions about which a label source is wrong.
    se: standard error, over questions and seeds, of a run's exact match minus the baseline's, by reader and run: mde is
    half the interval and t(.8) standard errors, t being close to normal.
    """
    about, systems = report["about"], report["systems"]
    return {
        "about": {key: about.get(key) for key in ABOUT},
        "processor": about.get("processor"),
        "labels": {name: system["labels"] for name, system in systems.items() if system["kind"] == "run"},
        "errors": report["label_errors"]["train"],
        "scores": {
            reader: {
                metric: {
                    name: system["scores"][reader][metric]["mean"]
                    for name, system in systems.items()
                    if system["scores"].get(reader, {}).get(metric)
                }
                for metric in METRICS
            }
            for reader in about["readers"]
        },
        "se": {
            reader: {name: _standard_error(one) for name, one in report["differences"][reader]["em"].items()}
            for reader in about["readers"]
        },
    }


def _standard_error(difference: Mapping[str, float | None]) -> float | None:
    mean, high, mde = (difference[key] for key in ("mean", "high", "mde"))
    return None if mean is None or high is None or mde is None else (mde - (high - mean)) / float(ndtri(POWER))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"params": {}, "experiments": {}}


def _code(result: Result) -> str:
    """The commit that an experiment started from."""
    return git("rev-parse", "--short", f"{result.rev}^").strip()


def _frozen(tree: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Parameters by dotted path, without those that the study sets."""
    drawn = {key.lstrip("+") for settings in wanted.values() for key in settings}
    return {key: leaf for key, leaf in _leaves(tree) if key not in drawn}


def _leaves(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """An empty section is no parameter: one that a later version adds leaves a study as it is."""
    if isinstance(tree, Mapping):
        for part, below in tree.items():
            yield from _leaves(below, f"{at}.{part}".strip("."))
    else:
        yield at, tree


def _check_frozen(path: Path, usual: Mapping[str, Any], name: str, params: Mapping[str, Any]) -> None:
    key = next((key for key in {**usual, **params} if usual.get(key) != params.get(key)), None)
    if key is not None:
        raise ReplicationError(
            f"{name} has {key} = {params.get(key)}, and the experiments in {path} have {usual.get(key)}: parameters of "
            f"a study are frozen. Restore the value, or delete {path} and `dvc exp remove` its experiments."
        )


def _check_alike(found: Mapping[str, Figures]) -> None:
    (first, usual), *others = found.items() if found else (("", {}),)
    for name, one in others:
        for key, value in usual["about"].items():
            if one["about"][key] != value:
                raise ReplicationError(
                    f"{first} and {name} differ in {key}: {value} and {one['about'][key]}. `dvc exp remove` the wrong "
                    "one, delete it in the kept file, and queue it again."
                )


def contrast(found: Mapping[str, Figures], run: str, baseline: str, reader: str, metric: str = "em") -> list[float]:
    """A score of `run` minus that of `baseline` in each experiment, as a share. Raises ReplicationError without one."""
    values = []
    for name, one in found.items():
        scores = one["scores"].get(reader, {}).get(metric, {})
        if absent := {run, baseline} - scores.keys():
            raise ReplicationError(f"{name}: its report has no {metric} of {', '.join(sorted(absent))} with {reader}.")
        values.append(scores[run] - scores[baseline])
    return values


# -- power -----------------------------------------------------------------------------------------------------------


def detectable(sd: float, worlds: int) -> float:
    """Difference that a two-sided t test of one contrast over `worlds` worlds finds with 80% power.

    sd: standard deviation of the contrast over worlds.
    """
    free = worlds - 1
    return detected(sd / sqrt(worlds), free, float(stdtrit(free, 1 - LEVEL / 2)))


def worlds_needed(sd: float, target: float = TARGET) -> int:
    """The fewest worlds, at least 2, that detect `target` where a contrast has this standard deviation over worlds."""
    worlds = 2
    while detectable(sd, worlds) > target:
        worlds += 1
    return worlds


# -- words -----------------------------------------------------------------------------------------------------------


def paragraph(*sentences: str) -> str:
    """Sentences as lines of a Markdown page."""
    return textwrap.fill(" ".join(sentences), 116, break_long_words=False, break_on_hyphens=False)


def made_by(found: Mapping[str, Figures]) -> str:
    """Commits and processors of the experiments."""
    codes, processors = ({one[key] for one in found.values() if one[key]} for key in ("code", "processor"))
    return f"Code: {', '.join(sorted(codes))}. Processors: {', '.join(sorted(processors)) or 'unknown'}."


def unfinished_words(worlds: int, asked: int) -> list[str]:
    """Lines that say so if worlds are missing."""
    if worlds >= asked:
        return []
    return [f"**Not finished: {worlds} of {asked} worlds have results.** All figures below are of these.", ""]
