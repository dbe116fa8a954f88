"""Confirmation: the whole experiment on unseen worlds, each of them one independent replication.

    reports = {"world-101": {…metrics/report.json…}, "world-102": {…}, …}
    analyse(reports)["runs"]["kl"]["difference"]
        {"mean": 0.031, "low": 0.008, "high": 0.054, "p": 0.019, "verdict": "better", "worlds": [0.04, …], …}
    markdown(analyse(reports), commands)          docs/confirm.md

Differences are run minus baseline, as a share of questions: each world's is the one in its report, and Student's t is
taken over worlds. The primary run is tested alone; all other runs share one Bonferroni correction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from bitter_retrieval.params import Params
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.studies.experiments import ExperimentError, Result, Wanted

WORLDS = 5
LEVEL = 0.05
POWER = 0.8
DECIMALS = 12  # later digits depend on the order of summation
AGREED = ("baseline", "primary", "reader", "readers", "label_source", "human_source", "seeds", "equivalence", "judge")
Report = Mapping[str, Any]


class ConfirmError(ExperimentError):
    """A confirmation that cannot be queued or tabulated, and what to do about it."""


# -- which worlds ----------------------------------------------------------------------------------------------------


def worlds(params: Params) -> Wanted:
    """Settings of the experiments by name, from data.seed on: the seeds of a world and of its annotators.

    Raises ConfirmError unless data.seed is that of an unseen world.
    """
    data, annotators = params.data, [name for name, made in params.labels.items() if made.kind == "annotators"]
    remedy = "`python src/use_profile.py confirm` writes parameters for unseen worlds."
    if data.source != "synthetic":
        raise ConfirmError(f"data.source is {data.source}: only synthetic makes further worlds. {remedy}")
    if data.seed == 0:
        raise ConfirmError(f"data.seed is 0: that world was used for development. {remedy}")
    drawn = ["data.seed", *(f"labels.{name}.seed" for name in annotators)]
    seeds = range(data.seed, data.seed + WORLDS)
    return {f"world-{seed}": dict.fromkeys(drawn, str(seed)) for seed in seeds}


def check_frozen(found: Mapping[str, Result], wanted: Wanted) -> None:
    """Raises ConfirmError if two experiments differ in any parameter but those wanted."""
    drawn = {key for settings in wanted.values() for key in settings}
    flat = {name: _flat(result.data["params"]["params.yaml"]["data"]) for name, result in found.items()}
    (first, usual), *others = flat.items()
    for name, params in others:
        keys = (key for key in {**usual, **params} if usual.get(key) != params.get(key) and key not in drawn)
        if (key := next(keys, None)) is not None:
            raise ConfirmError(
                f"experiments {first} and {name} differ in {key}: {usual.get(key)} and {params.get(key)}. Only "
                "seeds may differ: `dvc exp remove` the wrong one, then queue it again."
            )


def _flat(tree: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not tree:
        return {at: tree}
    return {key: leaf for part, below in tree.items() for key, leaf in _flat(below, f"{at}.{part}".strip(".")).items()}


# -- analysis over worlds --------------------------------------------------------------------------------------------


def analyse(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Means and differences over worlds. Raises ConfirmError on fewer than two reports, or on different experiments.

    runs: exact match of the primary reader. beside: further measures of the primary run, which are true support,
    retrieval and the other readers' exact match.
    """
    _check_alike(reports)
    first = next(iter(reports.values()))
    about = {"worlds": list(reports)} | {key: first["about"].get(key) for key in AGREED}
    baseline, primary, reader, equivalence = (about[key] for key in ("baseline", "primary", "reader", "equivalence"))
    others = [run for run in _named(first, "run") if run not in (baseline, primary)]
    runs: dict[str, Any] = {baseline: {"difference": None}}
    for run in [primary, *others]:
        tests = 1 if run == primary else len(others)
        runs[run] = {"difference": replicated(_differences(reports, reader, "em", run), equivalence, tests)}
    for run, found in runs.items():
        found |= {"labels": first["systems"][run]["labels"], "em": _em(reports, run)}
    beside = [(metric, reader) for metric in ("success", "retrieval")]
    beside += [("em", other) for other in about["readers"] if other != reader]
    return {
        "about": about,
        "runs": runs,
        "beside": [
            {"metric": metric, "reader": by}
            | replicated(_differences(reports, by, metric, primary), equivalence, len(beside))
            for metric, by in beside
        ],
        "controls": {name: _em(reports, name) for name in _named(first, "control")},
    }


def replicated(values: Sequence[float], equivalence: float, tests: int = 1) -> dict[str, Any]:
    """Statistics of a difference over n independent worlds, d_1 … d_n; it is one of `tests` that hold together.

    SE = sd / sqrt(n), sd with n - 1 degrees of freedom. Interval: mean -+ t(1 - .05 / (2 tests), n - 1) SE (Student
    1908, Biometrika 6(1), 1-25); p: tests x the two-sided p of mean / SE, 1 at most. That is Bonferroni's inequality:
    all `tests` intervals hold at once with 95% (Dunn 1961, JASA 56(293), 52-64). p_equivalent: the larger p of two
    one-sided t tests against -+equivalence (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15(6), 657-680), for this
    difference alone. mde: what a two-sided test of it alone detects with 80% power, about (t(.975) + t(.8)) SE. Better
    and worse take precedence over equivalent.
    """
    d = np.asarray(values, dtype=np.float64)
    mean, free = round(float(d.mean()), DECIMALS), len(d) - 1
    error = round(float(d.std(ddof=1)) / len(d) ** 0.5, DECIMALS)
    reach = float(student.ppf(1 - LEVEL / (2 * tests), free)) * error
    p = min(1.0, tests * 2 * _above(abs(mean), error, free))
    p_equivalent = max(_above(mean + equivalence, error, free), _above(equivalence - mean, error, free))
    verdict = "equivalent" if p_equivalent <= LEVEL else "inconclusive"
    if p <= LEVEL:
        verdict = "better" if mean > 0 else "worse"
    return {
        "mean": mean,
        "low": mean - reach,
        "high": mean + reach,
        "se": error,
        "p": p,
        "p_equivalent": p_equivalent,
        "mde": float(student.ppf(1 - LEVEL / 2, free) + student.ppf(POWER, free)) * error,
        "verdict": verdict,
        "above": int((d > 0).sum()),
        "worlds": d.tolist(),
    }


def _above(distance: float, error: float, free: int) -> float:
    """One-sided p of a distance above 0. Without spread the sign decides (0 or 1), and a distance of 0 gives 0.5."""
    if error == 0:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(student.sf(distance / error, free))


def _check_alike(reports: Mapping[str, Report]) -> None:
    if len(reports) < 2:
        raise ConfirmError(f"{len(reports)} world: two are needed for an interval, as worlds are the unit.")
    said = {name: _said(report) for name, report in reports.items()}
    (first, wanted), *others = said.items()
    for name, found in others:
        for key, value in wanted.items():
            if found[key] != value:
                raise ConfirmError(
                    f"{first} and {name} differ in {key}: {value} and {found[key]}. "
                    "`dvc exp remove` both, then `python src/study.py confirm queue`."
                )


def _said(report: Report) -> dict[str, Any]:
    """What must be the same in all worlds."""
    labels = {name: system["labels"] for name, system in report["systems"].items()}
    return {key: report["about"].get(key) for key in AGREED} | {
        kind + "s": {name: labels[name] for name in _named(report, kind)} for kind in ("run", "control")
    }


def _named(report: Report, kind: str) -> list[str]:
    return [name for name, system in report["systems"].items() if system["kind"] == kind]


def _em(reports: Mapping[str, Report], system: str) -> float | None:
    """Mean over worlds of the primary reader's exact match; None if a world has none."""
    scores = [report["systems"][system]["scores"].get(report["about"]["reader"]) for report in reports.values()]
    means = [score["em"]["mean"] for score in scores if score and score["em"]]
    return float(np.mean(means)) if len(means) == len(scores) else None


def _differences(reports: Mapping[str, Report], reader: str, metric: str, run: str) -> list[float]:
    """One a world: run minus baseline, averaged over pairs (seed, question)."""
    found = {name: report["differences"][reader][metric].get(run) for name, report in reports.items()}
    for name, difference in found.items():
        if difference is None or difference["mean"] is None:
            raise ConfirmError(
                f"{name}: its report has no difference of {run} in {metric} of {reader}. compare.primary must be "
                "a run other than compare.baseline, scored on the same questions."
            )
    return [difference["mean"] for difference in found.values()]


# -- the page --------------------------------------------------------------------------------------------------------


def markdown(found: Mapping[str, Any], commands: Sequence[str]) -> str:
    """The page: a sentence on the primary difference, all runs, further measures of the primary run, and each world."""
    about, runs = found["about"], found["runs"]
    count, primary, reader = len(about["worlds"]), about["primary"], about["reader"]
    difference = runs[primary]["difference"]
    return "\n".join(
        [
            f"# Confirmation on {count} unseen worlds",
            "",
            "Written by `python src/study.py confirm table` from DVC experiments. To make it again:",
            "",
            *["    " + command for command in commands],
            "",
            f"**Primary: exact match of {reader}, {primary} minus {about['baseline']}: {wording.points(difference)} "
            f"points, p {wording.probability(difference['p'])}, above 0 in {difference['above']} of {count} worlds: "
            f"{difference['verdict']}.**",
            f"{count} worlds that vary as these do detect {wording.size(difference['mde'])} points with 80% power.",
            "",
            "Each world repeats the whole experiment with frozen parameters: the generator draws other entities,",
            "facts, passages and questions, readers and encoder are fitted on them, a reader and annotators label",
            f"them, and every run is trained {about['seeds']} times. These worlds were not looked at in development.",
            "The unit is the world: one difference each, and Student's t over them. The intervals therefore hold for",
            "further worlds of this generator with these parameters, and for no other text. Annotators' errors are",
            "drawn anew in each world. All worlds share the seeds of initial weights and batches; the intervals do",
            "not cover other seeds.",
            "",
            markdown_table(
                ["run", "labels", "EM %", "difference, points [95%]", "p", "worlds above 0", "verdict"],
                [
                    [_marked(run, about), one["labels"], wording.size(one["em"]), *_cells(one["difference"], count)]
                    for run, one in runs.items()
                ],
            ),
            "",
            "EM is the mean over worlds. The primary run is tested alone. The other runs are secondary: their",
            "intervals hold simultaneously, and p is adjusted to match (Bonferroni). Equivalent: shown to be within",
            f"±{100 * about['equivalence']:g} points by two one-sided t tests of that difference alone.",
            "",
            f"Other measures of {primary} minus {about['baseline']}, also secondary; their {len(found['beside'])} "
            "intervals hold simultaneously:",
            "",
            markdown_table(
                ["measure", "difference, points [95%]", "p", "worlds above 0", "verdict"],
                [[_measure(one), *_cells(one, count)] for one in found["beside"]],
            ),
            "",
            "Success: the passage shown truly supports the answer. Retrieval: the annotators selected it.",
            "",
            f"Difference to {about['baseline']} in each world, in points of exact match of {reader}:",
            "",
            markdown_table(
                ["run", *about["worlds"]],
                [
                    [run, *(wording.signed(value) for value in one["difference"]["worlds"])]
                    for run, one in runs.items()
                    if one["difference"]
                ],
            ),
            "",
            f"Controls, EM % of {reader}, mean over worlds:",
            "",
            markdown_table(list(found["controls"]), [[wording.size(em) for em in found["controls"].values()]]),
            "",
        ]
    )


def _marked(run: str, about: Mapping[str, Any]) -> str:
    roles = {about["baseline"]: "baseline", about["primary"]: "primary"}
    return f"{run} ({roles[run]})" if run in roles else run


def _measure(one: Mapping[str, Any]) -> str:
    return f"EM of {one['reader']}" if one["metric"] == "em" else one["metric"]


def _cells(difference: Mapping[str, Any] | None, count: int) -> list[str]:
    if difference is None:
        return [wording.NOTHING] * 4
    above = f"{difference['above']} of {count}"
    return [wording.points(difference), wording.probability(difference["p"]), above, difference["verdict"]]
