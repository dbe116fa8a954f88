"""Figures and findings in words, the same in the terminal, on the page and on model cards.

share({"mean": 0.596, "low": 0.561, "high": 0.631})     "59.6 ±3.5"
share({"mean": 0.98, "low": 0.93, "high": 1})           "98.0 [93.0, 100.0]"
points({"mean": 0.046, "low": 0.017, "high": 0.076})    "+4.6 [+1.7, +7.6]"
points({"mean": -0.31, "low": -1.02, "high": 0.39})     "−31.0 [−100.0, +39.0]"
probability(0.00004)                                    "<.001"
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bitter_retrieval.statistics.comparison import AGAIN
from bitter_retrieval.statistics.metrics import METRICS, PERCENT, Metric

Figures = Mapping[str, Any]

NOTHING = "-"  # undefined or unknown
DISAGREEMENT = {  # row of the table: its path in the report of a split
    "questions with both labels": "questions",
    "questions left out for a missing label": "left_out",
    "lowest-loss passage is not the annotators'": "disagreement",
    "the same by chance": "chance",
    "questions with a tie for the lowest loss": "ties",
    "annotators' passage does not truly support": "split.annotators_wrong",
    "lowest-loss passage does not truly support": "split.lowest_loss_wrong",
    "disagreement where the annotators are right": "split.where_annotators_right",
    "disagreement: both passages support": "split.kinds.both_support",
    "disagreement: the annotators alone are wrong": "split.kinds.annotators_alone_wrong",
    "disagreement: lowest loss alone is wrong": "split.kinds.lowest_loss_alone_wrong",
    "disagreement: neither supports": "split.kinds.neither_supports",
}


def share(estimate: Figures | None, scale: float = 100, digits: int = 1) -> str:
    """Mean and half the width of its 95% interval, or both ends if the range of the scores cuts one of them.

    The mean alone if there is no interval.
    """
    if estimate is None or estimate["mean"] is None:
        return NOTHING
    mean, ends = f"{scale * estimate['mean']:.{digits}f}", (estimate["low"], estimate["high"])
    if None in ends:
        return mean
    off = scale * abs(sum(ends) / 2 - estimate["mean"])
    if off > 0.25 / 10**digits:  # more than the rounding of report.json explains
        return f"{mean} {interval(estimate, scale, digits)}"
    return f"{mean} ±{scale * (ends[1] - ends[0]) / 2:.{digits}f}"


def figure(metric: Metric, estimate: Figures | None) -> str:
    """A metric's estimate in its unit, or metric.absent without one."""
    return share(estimate, metric.unit.scale, metric.unit.digits) if estimate else metric.absent


def distinct(report: Figures, metrics: Iterable[Metric]) -> list[Metric]:
    """These metrics, without answer accuracy where it repeats exact match, as it does if the rule judges."""
    scores = [found for system in report["systems"].values() for found in system["scores"].values()]
    primary = "accuracy" in report["about"]["primary_metrics"]
    repeated = not primary and all(found["accuracy"] == found["em"] for found in scores)
    return [metric for metric in metrics if not (repeated and metric.name == "accuracy")]


def units(metrics: Iterable[Metric]) -> str:
    """Units of these metrics, as in "% (NLL: nats a token)"."""
    others: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.unit != PERCENT:
            others.setdefault(metric.unit.name, []).append(metric.column)
    return PERCENT.name + "".join(f" ({', '.join(columns)}: {unit})" for unit, columns in others.items())


def interval(estimate: Figures | None, scale: float = 100, digits: int = 1) -> str:
    """Both ends of the interval as "[56.1, 63.1]"."""
    if estimate is None or estimate["low"] is None or estimate["high"] is None:
        return NOTHING
    return f"[{scale * estimate['low']:.{digits}f}, {scale * estimate['high']:.{digits}f}]"


def bracketed(estimate: Figures | None) -> str:
    """A share in hundredths with its interval, as "65.3 [61.2, 69.4]"."""
    if estimate is None or estimate["mean"] is None:
        return NOTHING
    ends = interval(estimate)
    return f"{100 * estimate['mean']:.1f}" + ("" if ends == NOTHING else f" {ends}")


def points(difference: Figures | None) -> str:
    """A difference of shares with its interval, in hundredths; the interval is cut at what shares can differ by."""
    if difference is None or difference["mean"] is None:
        return NOTHING
    ends = [signed(None if (end := difference[at]) is None else min(1.0, max(-1.0, end))) for at in ("low", "high")]
    return signed(difference["mean"]) + ("" if NOTHING in ends else f" [{ends[0]}, {ends[1]}]")


def signed(value: float | None) -> str:
    """Hundredths with a sign, "-" for None."""
    return NOTHING if value is None else f"{100 * value:+.1f}".replace("-0.0", "+0.0").replace("-", "−")


def percent(value: float | None) -> str:
    """A share as "12.6%", "-" for None."""
    return NOTHING if value is None else f"{100 * value:.1f}%"


def size(value: float | None) -> str:
    """A width in hundredths, without a sign; shares differ by 100 at most."""
    return NOTHING if value is None else ">100" if value > 1 else f"{100 * value:.1f}"


def probability(value: float | None) -> str:
    """A p value with three decimals, or "<.001"."""
    if value is None:
        return NOTHING
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def sentence(run: str, baseline: str, difference: Figures | None) -> str:
    """The verdict on a run's exact match in one sentence."""
    if difference is None or difference["mean"] is None:
        return f"{run} and {baseline} cannot be compared: no question has an answer of both."
    measured = f"{points(difference)} points, p {probability(difference['p'])}{_mde(difference)}"
    said = {
        "better": f"{run} answers more questions exactly than {baseline}",
        "worse": f"{run} answers fewer questions exactly than {baseline}",
        "equivalent": f"{run} and {baseline} are equivalent in exact match",
        "inconclusive": f"it is open whether {run} or {baseline} answers more questions exactly",
    }[difference["verdict"]]
    return f"{said}: {measured}."


def _mde(difference: Figures) -> str:
    return "" if difference["mde"] is None else f", MDE {size(difference['mde'])}"


def primary(report: Figures) -> dict[str, Figures]:
    """The primary difference by metric; empty where no question has answers of both runs."""
    about, found = report["about"], report["differences"][report["about"]["reader"]]
    differences = {metric: found[metric].get(about["primary"]) for metric in about["primary_metrics"]}
    return {metric: one for metric, one in differences.items() if one}


def contrasts(report: Figures, metric: str) -> dict[str, Figures]:
    """Differences of the primary reader as in "loss: kl_a − infonce_a"; those that can't be computed are left out."""
    about = report["about"]
    found = report["contrasts"][about["reader"]][metric]
    return {f"{name}: {' − '.join(about['contrasts'][name])}": one for name, one in found.items()}


def beyond(report: Figures) -> str:
    """Title of the columns on questions from another domain; "" without any."""
    found = report["beyond"]
    if not found:
        return ""
    return (
        f"Beyond the training domain: {found['questions']} questions ({found['source']}), {found['corpus']} passages, "
        f"answers of {report['about']['reader']}, %, with the difference to the run's encoder before training, points"
    )


def beyond_metrics(report: Figures) -> list[Metric]:
    """Metrics reported on questions from another domain; empty without any."""
    return [metric for metric in METRICS.values() if metric.beyond] if report["beyond"] else []


def beyond_cells(report: Figures, name: str, metrics: Iterable[Metric]) -> list[tuple[str, str]]:
    """A system's figures in another domain, each with the difference to the encoder before training."""
    found, reader = report["beyond"], report["about"]["reader"]
    scores = found["systems"][name]["scores"].get(reader, {}) if found else {}
    return [
        (figure(metric, scores.get(metric.name)), points(found["differences"][reader][metric.name].get(name)))
        for metric in metrics
    ]


def disagreement_rows(splits: Mapping[str, Figures]) -> list[tuple[str, list[str]]]:
    """Rows on disagreement with one cell per split; those about true support only if it is known."""
    known = any(split["split"] for split in splits.values())
    said = {words: path for words, path in DISAGREEMENT.items() if known or not path.startswith("split.")}
    return [(words, [_nested(split, path) for split in splits.values()]) for words, path in said.items()]


def _nested(split: Figures, path: str) -> str:
    value: Any = split
    for key in path.split("."):
        value = None if value is None else value[key]
    return str(value) if isinstance(value, int) else percent(value)


def notes(report: Figures) -> list[str]:
    """Sentences on what was counted, what is missing and who judged."""
    about, missing = report["about"], report["missing"]
    return [
        f"Judge: {about['judge']}.",
        f"Compared on this processor: {about['processor']}.",
        *[
            f"Reader {name} has quantised weights ({file}) and is another reader than the full model."
            for name, file in about.get("quantised", {}).items()
        ],
        f"{about['questions']} questions in {about['groups']} groups, {about['seeds']} seeds.",
        f"The {about['split']} questions are from {about['origin']}.",
        f"Passages searched: {about['corpus']}.",
        f"Missing judgements: {missing['missing']} of {missing['answers']} answers{_listed(missing['reasons'])}, "
        f"coverage {percent(missing['coverage'])}.",
        *_unanswered(report),
        *[_bounds(name, bounds) for name, bounds in _incomplete(report).items()],
        _truncated(f"Passages cut to fit, {about['shown'][0]} shown", report["systems"]),
        *[_truncated(f"The same, {shown} shown", one["systems"]) for shown, one in report["further"].items()],
        *_unscorable(report),
        f"Questions without a human label: {about['without_human_label']}.",
        *_beyond_counts(report["beyond"]),
    ]


def _beyond_counts(found: Figures) -> list[str]:
    if not found:
        return []
    counted = f"{found['questions']} questions in {found['groups']} groups"
    unlabelled = f"without a human label: {found['without_human_label']}"
    cut = _truncated("Passages cut to fit there", found["systems"])
    return [f"Beyond the training domain: {counted}, from {found['origin']}, {unlabelled}. {cut}"]


def readings(report: Figures) -> dict[str | int, Figures]:
    """The parts of the report with scores and differences, by the number of passages shown."""
    return {report["about"]["shown"][0]: report} | report["further"]


def warnings(report: Figures) -> list[str]:
    """Sentences to read before the tables, as they limit what the tables show."""
    unexpected = [f"Not as expected: {said}." for said, expected in _checks(report) if not expected]
    return _silent(report) + _without_words(report) + unexpected


def checks(report: Figures) -> list[str]:
    """A sentence for every negative control and A/A run that is as expected; `warnings` has the others."""
    return [f"As expected: {said}." for said, expected in _checks(report) if expected]


def _checks(report: Figures) -> Iterator[tuple[str, bool]]:
    about, parts = report["about"], readings(report)
    for shown, found in parts.items():
        here = f", {shown} shown" if len(parts) > 1 else ""
        for name, system in report["systems"].items():
            difference = found["differences"][about["reader"]]["em"].get(name)
            if system["role"] == AGAIN and difference:
                again = f"A/A run {name} (same labels and loss as {about['baseline']}, other seeds){here}: it is"
                said = f"{again} {_beside(difference, about['baseline'])}"
                yield said, difference["verdict"] not in ("better", "worse")
        for name, one in found["negative_controls"].items():
            if one["primary"]:
                negative = f"negative control {name} (its labels do not say which passage helps){here}"
                yield f"{negative}: {_negative(about['primary'], name, one)}", one["primary"]["verdict"] == "better"


def _negative(primary: str, name: str, found: Figures) -> str:
    """How the primary run differs from a negative control, and that from the encoder before training.

    The control's labels do not say which of a question's passages helps, yet it may beat the untrained encoder: like
    every run, it learns that a question's candidates rank before other passages.
    """
    untrained = found["untrained"]
    learnt = f", which is {_beside(untrained, 'the encoder before training')}" if untrained else ""
    return f"{primary} is {_beside(found['primary'], name)}{learnt}"


def _without_words(report: Figures) -> list[str]:
    """A warning if BM25, as a baseline, could not rank some questions."""
    lacking = report["about"].get("without_matching_word")
    ranked = "BM25 ranks the order of the corpus for them, and its scores show that much less"
    return [f"No passage has a word of {lacking} questions: {ranked}."] if lacking else []


def _silent(report: Figures) -> list[str]:
    """A warning if passages do not help a reader: then equal scores show nothing."""
    silent = [
        f"{reader} with {shown} shown"
        for shown, found in readings(report).items()
        for reader in report["about"]["readers"]
        if _reads_nothing(report, found, reader)
    ]
    margin = f"{100 * report['about']['equivalence']:g} points more questions than without a passage"
    about = f"no run and no control answers over {margin}: equal scores and the verdict equivalent show"
    return [f"With {', '.join(silent)}, {about} nothing about retrieval."] if silent else []


def _reads_nothing(report: Figures, found: Figures, reader: str) -> bool:
    def answered(systems: Mapping[str, Figures]) -> dict[str, float]:
        estimates = {name: system["scores"].get(reader, {}).get("em") for name, system in systems.items()}
        return {name: one["mean"] for name, one in estimates.items() if one}

    floor = answered(report["systems"]).get("no_passage", 0.0) + report["about"]["equivalence"]
    means = answered(found["systems"])
    return bool(means) and max(means.values()) <= floor


def _unanswered(report: Figures) -> list[str]:
    """Controls without answers of some reader; for a run this is an error."""
    absent = {
        name: [reader for reader in report["about"]["readers"] if reader not in system["scores"]]
        for name, system in report["systems"].items()
    }
    return [f"Control {name}: no answers of {', '.join(readers)}." for name, readers in absent.items() if readers]


def _unscorable(report: Figures) -> list[str]:
    """Answers with an exact match but no loss."""
    lost = {
        f"{name} × {reader} with {shown} shown": nll["n_missing"] - own["em"]["n_missing"] if nll else "all"
        for shown, found in readings(report).items()
        for name, system in found["systems"].items()
        for reader, own in system["scores"].items()
        for nll in [own["answer_nll"]]
        if own["em"]
    }
    told = ", ".join(f"{name} {count}" for name, count in lost.items() if count)
    why = "the reader cannot score any of their references or cannot be asked (then they are empty, and wrong)"
    return [f"Answers without an NLL, as {why}: {told}."] if told else []


def _truncated(what: str, systems: Mapping[str, Figures]) -> str:
    cut = {name: system["truncated"] for name, system in systems.items() if system["truncated"]}
    return f"{what}: {sum(cut.values())}{_listed(cut)}."


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in counts.items())})" if counts else ""


def _incomplete(report: Figures) -> dict[str, Figures]:
    compared = report["differences"][report["about"]["reader"]]["accuracy"]
    return {name: difference for name, difference in compared.items() if difference["n_missing"]}


def _bounds(name: str, difference: Figures) -> str:
    low, high = signed(difference["worst_low"]), signed(difference["worst_high"])
    return (
        f"{name}: {difference['n_missing']} pairs without a judgement are left out of its difference in answer "
        f"accuracy, {signed(difference['mean'])} points; if all went against it or all for it: {low} or {high}."
    )


def _beside(difference: Figures, other: str) -> str:
    verdicts = {"better": "better than", "worse": "worse than", "equivalent": "equivalent to"}
    said = verdicts.get(difference["verdict"], "not shown to differ from")
    return f"{said} {other} ({points(difference)} points{_mde(difference)})"
