"""The confirmation: the whole experiment on worlds that nobody looked at, each world one independent replication.

    reports = {"world-101": {…metrics/report.json…}, "world-102": {…}, …}
    analyse(reports)["runs"]["kl"]["difference"]
        {"mean": 0.031, "low": 0.008, "high": 0.054, "p": 0.019, "verdict": "better", "worlds": [0.04, …], …}
    markdown(analyse(reports), commands)          docs/confirm.md

Differences are run minus baseline, in share of questions: first within a world, as its report has it, then Student's t
over worlds. The primary run's is tested alone; all other runs share one Bonferroni correction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from bitter_retrieval.params import Params
from bitter_retrieval.reporting import wording
from bitter_retrieval.studies.experiments import ExperimentError, Result, Wanted

WORLDS = 5
LEVEL = 0.05
POWER = 0.8
DECIMALS = 12  # beyond them only the order of summing shows
AGREED = ("baseline", "primary", "reader", "readers", "label_source", "human_source", "seeds", "equivalence", "judge")
Report = Mapping[str, Any]


class ConfirmError(ExperimentError):
    """A confirmation that cannot be queued or tabulated, and what to do about it."""


# -- which worlds ----------------------------------------------------------------------------------------------------


def worlds(params: Params) -> Wanted:
    """Settings of the experiments by name, from data.seed on: the world and what annotators draw of it.

    Raises ConfirmError if data.seed is no unseen world.
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
                f"experiments {first} and {name} differ in {key}: {usual.get(key)} and {params.get(key)}. Parameters "
                "are to be frozen: `dvc exp remove` the one that is wrong, then queue it again."
            )


def _flat(tree: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not tree:
        return {at: tree}
    return {key: leaf for part, below in tree.items() for key, leaf in _flat(below, f"{at}.{part}".strip(".")).items()}


# -- what they say together ------------------------------------------------------------------------------------------


def analyse(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Means and differences over worlds. Raises ConfirmError on fewer than two reports, or on unlike ones.

    runs: exact match of the primary reader. beside: of the primary run, true support, retrieval and the other readers.
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
    """What n independent worlds say of a difference, d_1 … d_n, that is one of `tests`.

    SE = sd / sqrt(n), sd with n - 1 degrees of freedom. Interval: mean -+ t(1 - .05 / (2 tests), n - 1) SE (Student
    1908, Biometrika 6(1), 1-25); p: tests x the two-sided p of mean / SE, 1 at most. That is Bonferroni's inequality:
    all `tests` intervals hold at once with 95% (Dunn 1961, JASA 56(293), 52-64). p_equivalent: the larger p of two
    one-sided t tests against -+equivalence (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15(6), 657-680), of this
    difference alone. mde: what a two-sided test of it alone finds with 80% power, about (t(.975) + t(.8)) SE. Better
    and worse go before equivalent.
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
    """One-sided p of a distance from 0; without spread it is certain, and at 0 nothing is shown."""
    if error == 0:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(student.sf(distance / error, free))


def _check_alike(reports: Mapping[str, Report]) -> None:
    if len(reports) < 2:
        raise ConfirmError(f"{len(reports)} world: worlds are the unit, so two are needed for any interval.")
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
    means = [score["em"]["mean"] if score and score["em"] else None for score in scores]
    return None if None in means else float(np.mean(means))


def _differences(reports: Mapping[str, Report], reader: str, metric: str, run: str) -> list[float]:
    """One a world: of pairs (seed, question), run minus baseline."""
    found = {name: report["differences"][reader][metric].get(run) for name, report in reports.items()}
    for name, difference in found.items():
        if difference is None or difference["mean"] is None:
            raise ConfirmError(
                f"{name}: its report has no difference of {run} in {metric} of {reader}. compare.primary must be "
                "another run than compare.baseline, with scores on the same questions."
            )
    return [difference["mean"] for difference in found.values()]


# -- the page --------------------------------------------------------------------------------------------------------


def markdown(found: Mapping[str, Any], commands: Sequence[str]) -> str:
    """A page with the primary difference in a sentence, the runs, the primary run's other measures, and each world."""
    about, runs = found["about"], found["runs"]
    count, primary, reader = len(about["worlds"]), about["primary"], about["reader"]
    difference = runs[primary]["difference"]
    return "\n".join(
        [
            f"# Confirmation on {count} unseen worlds",
            "",
            "Written by `python src/study.py confirm table` from DVC experiments. Again:",
            "",
            *["    " + command for command in commands],
            "",
            f"**Primary: exact match of {reader}, {primary} minus {about['baseline']}: {wording.points(difference)} "
            f"points, p {wording.probability(difference['p'])}, above 0 in {difference['above']} of {count} worlds: "
            f"{difference['verdict']}.**",
            f"{count} worlds that vary as these do show {wording.size(difference['mde'])} points with 80% power.",
            "",
            "A world is the whole experiment again under frozen parameters: the generator draws other entities, facts,",
            "passages and questions, readers and encoder are fitted on them, a reader and annotators label them, and",
            f"every run is trained {about['seeds']} times. Nobody looked at these worlds while developing. The unit is",
            "the world: one difference each, Student's t over them. So the intervals hold for further worlds of this",
            "generator under these parameters, and for no other text. Annotators err anew in each. All worlds share",
            "the seeds of initial weights and of batches: what others would change, the intervals do not cover.",
            "",
            *_table(
                ["run", "labels", "EM %", "difference, points [95%]", "p", "worlds above 0", "verdict"],
                [
                    [_marked(run, about), one["labels"], wording.size(one["em"]), *_cells(one["difference"], count)]
                    for run, one in runs.items()
                ],
            ),
            "",
            "EM is the mean over worlds. The primary interval stands alone. The other runs are secondary: their",
            "intervals hold all at once, p is adjusted to match (Bonferroni). Equivalent: shown to be within",
            f"±{100 * about['equivalence']:g} points by two one-sided t tests of that difference alone.",
            "",
            f"Other measures of {primary} minus {about['baseline']}, secondary too; their {len(found['beside'])} "
            "intervals hold at once:",
            "",
            *_table(
                ["measure", "difference, points [95%]", "p", "worlds above 0", "verdict"],
                [[_measure(one), *_cells(one, count)] for one in found["beside"]],
            ),
            "",
            "Success: the passage shown truly supports the answer. Retrieval: the annotators selected it.",
            "",
            f"Difference to {about['baseline']} in each world, points of exact match of {reader}:",
            "",
            *_table(
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
            *_table(list(found["controls"]), [[wording.size(em) for em in found["controls"].values()]]),
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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
