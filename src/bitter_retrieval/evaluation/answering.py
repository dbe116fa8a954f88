"""From passages shown to prediction rows: a reader answers, and its answers are scored.

    {"system": "kl", "query_id": "test-3-1", "shown_ids": ["test-3-p0"], "answer": "Calder", "answer_nll": 0.02, …}

One call is one (system, reader, number of passages shown) with all seeds: a question and its passages are answered
once, whichever seeds show them. References are scored first; where a reference is what the reader would generate, with
a margin that no rounding takes away, it is the answer, and only the other answers are generated. Batches depend on the
call's own questions alone: its rows are the same bytes whichever systems ran before, and a further reader or number
costs only itself. Each finished batch of answers and chunk of losses goes to the journal: a killed process loses the
last one. If a reader can score none of a question's references, answer_nll is None, and the answer counts in all other
figures. Likewise for a question, or passages, that it cannot be asked: the answer is then empty, which is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any

import torch

from bitter_retrieval.evaluation.retrieval import Ranking
from bitter_retrieval.journal import Journal, content_key
from bitter_retrieval.readers.answer_loss import CHUNK, Scorer, Triple
from bitter_retrieval.readers.generation import Answer, generate_answers
from bitter_retrieval.readers.language_model import BrokenReader, Reader, ReaderError
from bitter_retrieval.readers.prompts import Context
from bitter_retrieval.records import NO_PASSAGE, Row
from bitter_retrieval.scoring import exact_match, f1

METHOD = 2  # part of every key: raise it when a change of the code alters an answer or its loss
# Opens a progress bar by name, total and unit; gives the function that advances it.
Watch = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
NOT_ASKED = Answer("", truncated=0)  # of a question that the reader cannot be asked


@dataclass(frozen=True)
class Shown:
    """Passages that a reader sees with a question, and their ranking (None if nothing was retrieved)."""

    row: Row  # prepared question
    passage_ids: list[str]
    ranking: Ranking | None = None


def top(rows: Sequence[Row], rankings: Sequence[Ranking], count: int) -> list[Shown]:
    """The first `count` passages of each question's ranking."""
    return [Shown(row, ranking.ids[:count], ranking) for row, ranking in zip(rows, rankings, strict=True)]


def predict(
    system: str,
    reader: Reader,
    count: int,
    shown: Mapping[int, Sequence[Shown]],
    texts: dict[str, str],
    budget: int,
    journal: Journal,
    beyond: bool = False,
    watch: Watch = lambda *_: nullcontext(lambda count: None),
) -> list[Row]:
    """Rows of records.PREDICTIONS, in the order of `shown`.

    count: the entry of evaluate.shown; shown: by seed; texts: by passage id; budget: tokens a batch; beyond: whether
    the questions are from another domain; watch: shows the progress.
    """
    items = _distinct(shown)
    watched = partial(watch, f"{system}: {reader.name}")
    found = dict(zip(items, _answers(reader, list(items.values()), texts, budget, journal, watched), strict=True))
    return [
        _row(system, reader.name, seed, count, item, *found[_key(item)], beyond)
        for seed, of_seed in shown.items()
        for item in of_seed
    ]


def _key(item: Shown) -> tuple[str, ...]:
    return item.row["query_id"], *item.passage_ids


def _distinct(shown: Mapping[int, Sequence[Shown]]) -> dict[tuple[str, ...], Shown]:
    """Questions with the passages shown, once each: in the order of the questions, then of the seeds."""
    grouped: dict[str, dict[tuple[str, ...], Shown]] = {}
    for item in chain.from_iterable(shown.values()):
        grouped.setdefault(item.row["query_id"], {}).setdefault(_key(item), item)
    return {key: item for of_question in grouped.values() for key, item in of_question.items()}


def _answers(
    reader: Reader,
    items: Sequence[Shown],
    texts: dict[str, str],
    budget: int,
    journal: Journal,
    watch: Callable[[int, str], AbstractContextManager[Callable[[int], None]]],
) -> list[tuple[Answer, float | None]]:
    """Each item's answer, and the lowest answer loss of its references; both are what `watch` counts."""
    contexts = [_context([texts[one] for one in item.passage_ids if one != NO_PASSAGE]) for item in items]
    asked = [(item.row["query"], context) for item, context in zip(items, contexts, strict=True)]
    triples = [
        [Triple(*own, reference) for reference in item.row["answers"]] for item, own in zip(items, asked, strict=True)
    ]
    distinct = list(dict.fromkeys(chain.from_iterable(triples)))
    with watch(len(distinct) + len(items), "text") as advance:

        def once(batch: Sequence[Any], work: Callable[[], list]) -> list:
            found = _once(journal, reader, "answers", batch, work)
            advance(len(found))
            return found

        scores = _scores(reader, distinct, budget, journal, advance)
        scored = [[score for triple in own if (score := scores[triple])] for own in triples]
        known = [next((said for _, said in own if said is not None), None) for own in scored]
        advance(len(known) - known.count(None))
        answers = generate_answers(reader, asked, budget, once, _leave_out, known)
    best = [min((loss for loss, _ in own), default=None) for own in scored]
    return [(NOT_ASKED, None) if answer is None else (answer, loss) for answer, loss in zip(answers, best, strict=True)]


def _context(texts: Sequence[str]) -> Context:
    return tuple(texts) if len(texts) > 1 else "".join(texts)


def without_loss(rows: Sequence[Row]) -> str:
    """The number of answers without a loss, in a line for the terminal; "" if there are none."""
    bad = [row for row in rows if row["answer_nll"] is None]
    if not bad:
        return ""
    empty = sum(not row["answer"] for row in bad)
    unasked = (
        f" {empty:,} of them are empty, and wrong: for instance, question or passages hold the reader's special "
        "tokens, or the question alone exceeds its max_length."
    )
    return (
        f"{len(bad):,} of {len(rows):,} answers have no answer loss, the first by {bad[0]['reader']} to query "
        f"{bad[0]['query_id']!r}: their references have no tokens in the reader's vocabulary or, with the question, "
        "exceed its max_length. They count in all other figures." + (unasked if empty else "")
    )


Scored = tuple[float, list[int] | None]  # nats a token, and Score.said


def _scores(
    reader: Reader, distinct: Sequence[Triple], budget: int, journal: Journal, advance: Callable[[int], None]
) -> dict[Triple, Scored | None]:
    """Of each triple, None if the reader cannot score it. Chunks are as the Scorer would make them."""
    scorer = Scorer(reader, budget, saying=True)
    scores: dict[Triple, Scored | None] = {}
    for start in range(0, len(distinct), CHUNK):
        chunk = distinct[start : start + CHUNK]
        found = _once(journal, reader, "answer losses", [budget, *chunk], partial(_score, scorer, chunk))
        scores |= zip(chunk, found, strict=True)
        advance(len(chunk))
    return scores


def _score(scorer: Scorer, chunk: Sequence[Triple]) -> list[Scored | None]:
    return [score and (score.nll_sum / score.n_tokens, score.said) for score in scorer.score(chunk, on_bad=_leave_out)]


def _leave_out(error: ReaderError) -> None:
    """Accept errors of one item; raise those of the reader itself."""
    if isinstance(error, BrokenReader):
        raise error


def _once(journal: Journal, reader: Reader, kind: str, batch: Sequence[Any], work: Callable[[], list]) -> list:
    """Results of a batch: from the journal, or else by `work`, and then journalled."""
    versions = [torch.__version__, version("transformers")]
    key = content_key(kind=kind, method=METHOD, versions=versions, reader=reader.identity, batch=batch)
    if not (known := journal.get([key])):
        journal.put({key: work()})
        known = journal.get([key])  # if another process was first, its results count
    return known[key]


def _row(
    system: str, reader: str, seed: int, count: int, item: Shown, answer: Answer, nll: float | None, beyond: bool
) -> Row:
    ranking = item.ranking
    return {
        "system": system,
        "reader": reader,
        "seed": seed,
        "shown": count,
        "query_id": item.row["query_id"],
        "group_id": item.row["group_id"],
        "beyond": beyond,
        "ranked_ids": ranking.ids if ranking else [],
        "ranked_scores": ranking.scores if ranking else [],
        "shown_ids": item.passage_ids,
        "answer": answer.text,
        "answer_nll": nll,
        "em": exact_match(answer.text, item.row["answers"]),
        "f1": f1(answer.text, item.row["answers"]),
        "candidate_ids": [passage["passage_id"] for passage in item.row["passages"]] if ranking else [],
        "candidate_ranks": ranking.candidate_ranks if ranking else [],
        "truncated": answer.truncated,
    }
