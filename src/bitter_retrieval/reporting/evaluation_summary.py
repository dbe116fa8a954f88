"""Results of one encoder and one reader on one file of questions: means with intervals, and what is left out.

    summary = summarise(rows, predictions)
    summary["answers"]["5"]["em"]           {"mean": 0.41, "low": 0.36, "high": 0.46, "questions": 500}
    summary["retrieval"]["ndcg_10"]         {"mean": 0.62, "low": 0.58, "high": 0.66, "questions": 488}
    summary["counts"]                       {"questions": 500, "groups": 500, "without_human_label": 12, …}

Intervals hold for these trained weights on other questions of the kind, not for training again. null means undefined: a
mean without a labelled question, an interval with fewer than two groups, or of losses that do not vary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite, nan
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bitter_retrieval.records import Row
from bitter_retrieval.statistics.metrics import METRICS, PREDICTED, Metric, of_family
from bitter_retrieval.statistics.ranking_metrics import ranking_metrics
from bitter_retrieval.statistics.statistics import Design

Summary = Mapping[str, Any]


def summarise(rows: Sequence[Row], predictions: Sequence[Row]) -> dict[str, Any]:
    """rows: prepared questions; predictions: records.PREDICTIONS of one system, reader and seed, the rows' order kept.

    A question counts for retrieval if one of its passages is selected. is_selected may be a grade.
    """
    design = Design(
        [row["group_id"] for row in rows], seeds=1, draws=20, seed=0
    )  # draws do not matter: estimates use none

    def estimate(metric: str, values: Sequence[float]) -> dict[str, float | None]:
        found = asdict(design.estimate([values], METRICS[metric].unit.bounds))
        told = {name: found[name] if isfinite(found[name]) else None for name in ("mean", "low", "high")}
        return {**told, "questions": found["n_questions"]}

    by_shown: dict[int, list[Row]] = {}
    for row in predictions:
        by_shown.setdefault(row["shown"], []).append(row)
    ranked = _ranking_scores(rows, next(iter(by_shown.values())))
    return {
        "answers": {
            str(shown): {metric: estimate(metric, [_number(row[metric]) for row in found]) for metric in PREDICTED}
            for shown, found in by_shown.items()
        },
        "retrieval": {
            metric.name: estimate(metric.name, [scores.get(metric.name, nan) for scores in ranked])
            for metric in _of_rankings()
        },
        "counts": {
            "questions": len(rows),
            "groups": len({row["group_id"] for row in rows}),
            "without_human_label": sum(not scores for scores in ranked),
            "truncated": {str(shown): sum(row["truncated"] for row in found) for shown, found in by_shown.items()},
            "unscorable": {  # answers without a loss
                str(shown): sum(row["answer_nll"] is None for row in found) for shown, found in by_shown.items()
            },
        },
    }


def _number(value: float | None) -> float:
    return nan if value is None else value


def _of_rankings() -> list[Metric]:
    """Metrics of the rankings; `retrieval` is whether the first passage is selected."""
    return [*of_family("ranking"), METRICS["retrieval"]]


def _ranking_scores(rows: Sequence[Row], predictions: Sequence[Row]) -> list[dict[str, float]]:
    """Scores of each question by metric; none for a question without a selected passage."""
    selected = {
        row["query_id"]: {p["passage_id"]: p["is_selected"] for p in row["passages"] if p["is_selected"]}
        for row in rows
    }
    rankings = {row["query_id"]: row["ranked_ids"] for row in predictions}
    found = ranking_metrics(rankings, selected)
    for query_id, scores in found.items():
        scores["retrieval"] = float(rankings[query_id][0] in selected[query_id])
    return [found.get(row["query_id"], {}) for row in rows]


def tables(summary: Summary) -> Iterator[RenderableType]:
    """The summary for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("", "mean", "95% interval", "questions"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for shown, found in summary["answers"].items():
        passages = "passage" if shown == "1" else "passages"
        table.add_row(Text(f"Answers from {shown} {passages}", style="bold"))
        for name in PREDICTED:
            table.add_row(f"  {METRICS[name].title}", *_cells(found[name]), end_section=name == PREDICTED[-1])
    table.add_row(Text("Retrieval", style="bold"))
    for metric in _of_rankings():
        table.add_row(f"  {metric.title}", *_cells(summary["retrieval"][metric.name]))
    yield table
    yield from map(Text, notes(summary))


def _cells(estimate: Mapping[str, float | None]) -> list[str]:
    mean, low, high = (estimate[name] for name in ("mean", "low", "high"))
    interval = "-" if low is None else f"{low:.3f} to {high:.3f}"
    return ["-" if mean is None else f"{mean:.3f}", interval, f"{estimate['questions']:,}"]


def notes(summary: Summary) -> Iterator[str]:
    """Sentences on what was evaluated and what was left out."""
    counts = summary["counts"]
    asked = f"The first {counts['questions']:,} of {counts['readable']:,} questions"
    yield f"{asked}, groups: {counts['groups']:,}, passages searched: {counts['passages']:,}."
    left_out = [f"{name.replace('_', ' ')} {count:,}" for name, count in counts["left_out"].items() if count]
    yield f"Left out of the input: {', '.join(left_out) or 'nothing'}."
    named = counts.get("left_out_fields", {})
    if fields := [f"{name if name.isprintable() else ascii(name)} {count:,}" for name, count in named.items()]:
        yield f"Fields that are not read: {', '.join(fields)}."
    yield f"Passages cut to fit: {_by_shown(counts['truncated']) or 'none'}."
    if unscorable := _by_shown(counts["unscorable"]):
        why = "the reader cannot score any of their references or cannot be asked (then they are empty, and wrong)"
        yield f"Answers without an NLL, as {why}: {unscorable}."
    if lacking := counts.get("without_matching_word"):
        yield f"No passage has a word of {lacking:,} questions: BM25 ranks the order of the file for them."
    if unlabelled := counts["without_human_label"]:
        yield f"No passage is selected for {unlabelled:,} questions: they do not count for retrieval."
    if counts["groups"] < 2:
        yield "All questions are of one group, so there are no intervals. Evaluate more questions."


def _by_shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} with {shown} shown" for shown, count in counts.items() if count)
