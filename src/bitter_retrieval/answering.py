"""From passages shown to prediction rows: a reader answers, and its answers are scored.

One call is one (system, reader, seed, number of passages shown): its batches depend on its own questions alone, so what
it writes is the same bytes whichever systems ran before, and a further reader, seed or number costs only itself.
Finished calls go to the journal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bitter_retrieval.answer_loss import Scorer, Triple
from bitter_retrieval.generation import generate_answers
from bitter_retrieval.journal import Journal, content_key
from bitter_retrieval.language_model import Reader
from bitter_retrieval.prompts import join_passages
from bitter_retrieval.records import NO_PASSAGE, Row
from bitter_retrieval.retrieval import Ranking
from bitter_retrieval.scoring import exact_match, f1


@dataclass(frozen=True)
class Shown:
    """What a question's reader sees, and the ranking that it came from (None where nothing was retrieved)."""

    row: Row  # prepared question
    passage_ids: list[str]
    ranking: Ranking | None = None


def top(rows: Sequence[Row], rankings: Sequence[Ranking], count: int) -> list[Shown]:
    """The first `count` passages of each question's ranking."""
    return [Shown(row, ranking.ids[:count], ranking) for row, ranking in zip(rows, rankings, strict=True)]


def predict(
    system: str,
    reader: Reader,
    seed: int,
    count: int,
    shown: Sequence[Shown],
    texts: dict[str, str],
    budget: int,
    journal: Journal,
) -> list[Row]:
    """Rows of records.PREDICTIONS. count: the entry of evaluate.shown; texts: by passage id; budget: tokens a batch."""
    contexts = [join_passages([texts[one] for one in item.passage_ids if one != NO_PASSAGE]) for item in shown]
    asked = [[item.row["query"], context, item.row["answers"]] for item, context in zip(shown, contexts, strict=True)]
    key = content_key(kind="answers", reader=reader.identity, budget=budget, asked=asked)
    answered = journal.get([key]).get(key)
    if answered is None:
        answered = _answer(reader, asked, budget)
        journal.put({key: answered})
    return [_row(system, reader.name, seed, count, item, *told) for item, told in zip(shown, answered, strict=True)]


def _answer(reader: Reader, asked: Sequence[tuple[str, str, list[str]]], budget: int) -> list[tuple[str, float, bool]]:
    """(answer, NLL of the best reference in nats a token, whether the context was cut) of each."""
    answers = generate_answers(reader, [(query, context) for query, context, _ in asked], budget)
    triples = [Triple(query, context, answer) for query, context, references in asked for answer in references]
    scores = iter(Scorer(reader, budget).score(triples))
    told = []
    for (_, _, references), answer in zip(asked, answers, strict=True):
        own = [next(scores) for _ in references]
        best = min(score.nll_sum / score.n_tokens for score in own)
        told.append((answer.text, best, answer.truncated))
    return told


def _row(system: str, reader: str, seed: int, count: int, item: Shown, answer: str, nll: float, cut: bool) -> Row:
    ranking = item.ranking
    return {
        "system": system,
        "reader": reader,
        "seed": seed,
        "shown": count,
        "query_id": item.row["query_id"],
        "group_id": item.row["group_id"],
        "ranked_ids": ranking.ids if ranking else [],
        "ranked_scores": ranking.scores if ranking else [],
        "shown_ids": item.passage_ids,
        "answer": answer,
        "answer_nll": nll,
        "em": exact_match(answer, item.row["answers"]),
        "f1": f1(answer, item.row["answers"]),
        "candidate_ids": [passage["passage_id"] for passage in item.row["passages"]] if ranking else [],
        "candidate_ranks": ranking.candidate_ranks if ranking else [],
        "truncated": int(cut),
    }
