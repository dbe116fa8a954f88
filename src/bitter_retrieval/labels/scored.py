"""A reader's answer losses as labels: of every candidate and of no passage, for every reference answer.

    {"query_id": "q7", "passage_id": "p1", "answer_index": 0, "nll_sum": 2.1, "n_tokens": 3, …}

Scores are journalled, so a pair that several label sources list is computed once; they also lie beside the labels, from
where they enter the journal of whoever pulls these.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.labels.account import account
from bitter_retrieval.labels.settings import Label
from bitter_retrieval.records import NO_PASSAGE, SCORES, Row, read_rows, write_rows
from bitter_retrieval.tracking import open_tracker

if TYPE_CHECKING:
    from bitter_retrieval.readers.answer_loss import Score, Scorer, Triple, Work
    from bitter_retrieval.readers.language_model import Reader

YES, NO = "YES", "NO"
NOTHING = {"passage_id": NO_PASSAGE, "text": ""}
# Opens a progress bar by name, total and unit; gives the function that advances it.
Watch = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
Say = Callable[[str], object]  # prints a line
JOURNAL = "answer_loss.sqlite"


def remember(scores: Path) -> None:
    """Journal the scores in a file of records.SCORES, if it is there. A key says whose they are."""
    if scores.exists():
        with Journal(journal_folder() / JOURNAL) as journal:
            journal.put({row.pop("key"): [*row.values()] for row in read_rows(scores, SCORES)})


def score_splits(
    reader: "Reader",
    splits: dict[str, list[Row]],
    settings: Label,
    watch: Watch,
    say: Say,
    by: str = "answers",
    tracked: bool = False,
    scores: Path | None = None,
) -> dict[str, list[Row]]:
    """By split, the loss of each candidate and of no passage: by answers, one for every reference; by utility, one.

    watch: shows the progress of a split. say: prints the work and speed of a split. tracked: logs them to MLflow.
    scores: file to write what the journal holds of these labels to.
    """
    from bitter_retrieval.readers.answer_loss import Scorer

    labels: dict[str, list[Row]] = {}
    journalled: dict[str, Score] = {}
    with (
        Journal(journal_folder() / JOURNAL) as journal,
        open_tracker(tracked, f"label-{reader.name}", asdict(settings), {"reader": reader.identity}, {}) as tracker,
    ):
        for step, (split, rows) in enumerate(splits.items()):
            scorer = Scorer(reader, settings.batch_tokens, journal)
            score = {"answers": score_rows, "utility": utility_rows}[by]
            labels[split] = score(scorer, rows, f"label {reader.name} {split}", settings.unscorable, watch, say)
            tracker.log(step, {f"{split}/{name}": value for name, value in rates(scorer.work).items()})
            say(told(f"label {reader.name} {split}", scorer.work))
            journalled |= scorer.journalled
    if scores:
        rows = [dict(zip(SCORES.names, (key, *journalled[key]), strict=False)) for key in sorted(journalled)]
        write_rows(scores, rows, SCORES)
    return labels


def score_rows(scorer: "Scorer", rows: list[Row], name: str, unscorable: str, watch: Watch, say: Say) -> list[Row]:
    """Soft labels of prepared rows, with `exact` and `truncated` for the account; null ones without an answer."""
    from bitter_retrieval.readers.answer_loss import Triple

    asked = [
        (row["query_id"], passage["passage_id"], index, Triple(row["query"], passage["text"], answer))
        for row in rows
        for passage in [*row["passages"], NOTHING]
        for index, answer in enumerate(row["answers"] or [None])
    ]
    answered = [triple for *_, triple in asked if triple.answer is not None]
    scores = dict(zip(answered, _scores(scorer, answered, name, unscorable, watch, say), strict=True))
    return [_label(query_id, passage_id, index, scores.get(triple)) for query_id, passage_id, index, triple in asked]


def utility_rows(scorer: "Scorer", rows: list[Row], name: str, unscorable: str, watch: Watch, say: Say) -> list[Row]:
    """Soft labels of prepared rows: -log p(YES) / (p(YES) + p(NO)) that a passage helps, in nats.

    The log-odds of YES are those of "Utility-Focused LLM Annotation for Retrieval and RAG" (Zhang et al., EMNLP 2025).
    The reader's prompt asks whether the passage helps, and no answer is needed.
    """
    from bitter_retrieval.readers.answer_loss import Triple

    pairs = [(row, passage) for row in rows for passage in [*row["passages"], NOTHING]]
    triples = [Triple(row["query"], passage["text"], word) for row, passage in pairs for word in (YES, NO)]
    scores = _scores(scorer, triples, name, unscorable, watch, say)
    labels = []
    for (row, passage), yes, no in zip(pairs, scores[::2], scores[1::2], strict=True):
        label = _label(row["query_id"], passage["passage_id"], 0, yes if no else None) | {"exact": None}
        if yes and no:
            label |= {"nll_sum": float(np.logaddexp(0.0, yes.nll_sum - no.nll_sum)), "n_tokens": 1}
        labels.append(label)
    return labels


def _scores(
    scorer: "Scorer", triples: "Sequence[Triple]", name: str, unscorable: str, watch: Watch, say: Say
) -> "list[Score | None]":
    from bitter_retrieval.readers.answer_loss import refuse

    def skip(error: Exception) -> None:
        say(f"{name}: left without a label: {error}")

    with watch(name, len(set(triples)), "triple") as advance:
        return scorer.score(triples, advance, refuse if unscorable == "error" else skip)


def _label(query_id: str, passage_id: str, index: int, score: "Score | None") -> Row:
    return {
        "query_id": query_id,
        "passage_id": passage_id,
        "answer_index": index,
        "nll_sum": score and score.nll_sum,
        "n_tokens": score and score.n_tokens,
        "exact": score and score.exact,
        "truncated": score and score.truncated,
    }


def soft_account(rows: list[Row], labels: list[Row]) -> dict:
    """The account of the rows with a loss, and the number of rows without."""
    scored = [label for label in labels if label["nll_sum"] is not None]
    return {**account(rows, scored), "unscorable": len(labels) - len(scored)}


def rates(work: "Work") -> dict[str, float]:
    seconds = work.seconds or 1.0
    computed = work.triples - work.known
    return {**asdict(work), "tokens_per_second": work.tokens / seconds, "triples_per_second": computed / seconds}


def told(name: str, work: "Work") -> str:
    """The work and speed of a split in one line."""
    saved = 1 - work.computed / work.tokens if work.tokens else 0.0
    rate = rates(work)
    return (
        f"{name}: {work.triples:,} triples, {work.known:,} of them from the journal; {work.tokens:,} tokens, "
        f"{saved:.0%} of them shared, in {work.seconds:.1f} s: {rate['tokens_per_second']:,.0f} tokens/s, "
        f"{rate['triples_per_second']:,.0f} triples/s"
        + (f"; memory ran out {work.halvings} times, lower batch_tokens" if work.halvings else "")
    )
