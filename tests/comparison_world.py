"""A made-up experiment small enough to work out by hand: four questions, two groups, three passages each, two seeds.

question  group  annotators  lowest loss  truly supports
q0        g0     a           a            a
q1        g0     b           a            a
q2        g1     a           a and b      a
q3        g1     -           b            a

Losses are those of reader_a, which gives the labels; reader_b's are a quarter of a nat higher. Without a passage
readers answer only q3. Systems that retrieve are also read with five passages shown, of which there are two.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bitter_retrieval.judging.judges import Case, RuleJudge, judgements
from bitter_retrieval.labels.binary import selected_labels
from bitter_retrieval.labels.soft import passage_losses
from bitter_retrieval.records import (
    BINARY_LABELS,
    CORPUS,
    JUDGEMENTS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    Row,
    write_rows,
)
from bitter_retrieval.statistics.outcomes import EvaluatedQuestions, JudgedAnswers, evaluated_questions
from bitter_retrieval.statistics.utility import Known

REPOSITORY = Path(__file__).parents[1]
ROLES = {"a": "plain", "b": "mention", "c": "other"}
GROUPS = ["g0", "g0", "g1", "g1"]
ANNOTATED = {"q0": "a", "q1": "b", "q2": "a"}
LOSSES = {"q0": [0.1, 2, 3], "q1": [0.2, 1, 3], "q2": [0.5, 0.5, 3], "q3": [2, 0.5, 3]}
# By system: the first passage for q0 to q3 and which answers are right ("+"), one text a seed.
RUNS = {
    "infonce_human": ["aabb++--", "aabc+---"],
    "infonce_a": ["aaab+++-", "aaaa++++"],
    "kl_flat": ["cccc----", "cbcc----"],
}
CONTROLS = {
    "no_passage": ["    ---+"],
    "random": ["abca+---", "cabb----"],
    "annotated": ["aba +-+ "],
    "oracle": ["aaab+++-"],
    "bm25": ["abcc+---"],
    "untrained": ["cccc----"],
}
WITH_FIVE = {
    "infonce_human": ["aabb+++-", "aabc++-+"],
    "infonce_a": ["aaab++-+", "aaaa++++"],
    "kl_flat": ["cccc----"] * 2,
}
WITH_FIVE |= {"bm25": ["abcc++--"], "untrained": ["cccc+---"]}
READERS = ("reader_a", "reader_b")


def prepared(roles: bool = True) -> list[Row]:
    return [
        {
            "query_id": f"q{number}",
            "group_id": group,
            "query": f"Where was person {number} born?",
            "answers": ["Calder"],
            "passages": [
                {
                    "passage_id": f"q{number}{name}",
                    "text": f"Text {name} of {number}.",
                    "is_selected": None,
                    "role": role,
                }
                for name, role in (ROLES if roles else dict.fromkeys(ROLES)).items()
            ],
        }
        for number, group in enumerate(GROUPS)
    ]


def human() -> list[Row]:
    return [
        {"query_id": query, "passage_id": query + name, "relevant": int(ANNOTATED.get(query) == name)}
        for query in LOSSES
        for name in ROLES
    ]


def soft(more: float = 0.0) -> list[Row]:
    """Two references: the first one's loss is higher and never counts. The empty passage has the lowest of all."""
    found = []
    for query, losses in LOSSES.items():
        passages = {query + name: loss for name, loss in zip(ROLES, losses, strict=True)} | {"": 0.0}
        for passage, loss in passages.items():
            for answer, extra in enumerate((5.0, 0.0)):
                row = {"query_id": query, "passage_id": passage, "answer_index": answer}
                found.append(row | {"nll_sum": 2 * (loss + more + extra), "n_tokens": 2})
    return found


def predictions(system: str, outcomes: Sequence[str], readers: Sequence[str] = READERS, shown: int = 1) -> list[Row]:
    """Rows from strings such as "aabb++--"; a blank answer is no row, a blank passage none shown. Readers agree."""
    return [
        _prediction(system, reader, seed, shown, number, told[number], told[number + len(GROUPS)])
        for reader in readers
        for seed, told in enumerate(outcomes)
        for number in range(len(GROUPS))
        if told[number + len(GROUPS)] != " "
    ]


def _prediction(system: str, reader: str, seed: int, shown: int, number: int, passage: str, right: str) -> Row:
    first = [] if passage == " " else [f"q{number}{passage}"]
    ranked = [*first, "q9a"] if system in WITH_FIVE else []
    return {
        "system": system,
        "reader": reader,
        "seed": seed,
        "shown": shown,
        "query_id": f"q{number}",
        "group_id": GROUPS[number],
        "beyond": False,
        "ranked_ids": ranked,
        "ranked_scores": [1.0, 0.5][: len(ranked)],
        "shown_ids": ranked[:shown] or first,
        "answer": "the Calder" if right == "+" else "<b>Oskal</b>",
        "answer_nll": 0.5 if right == "+" else 2.0,
        "em": float(right == "+"),
        "f1": float(right == "+"),
        "candidate_ids": [],
        "candidate_ranks": [],
        "truncated": int(system == "infonce_a" and number == 0),
    }


def beyond(rows: Sequence[Row] = ()) -> EvaluatedQuestions:
    """Questions from another domain: none, or these with the passages that their data select."""
    return evaluated_questions(rows, selected_labels(list(rows)), replace(known(), losses={}, unaided={}))


def far() -> list[Row]:
    """The same questions, under the same ids, as from another domain: a is selected in all of them but q3."""
    return [
        row
        | {
            "passages": [
                one | {"is_selected": int(one["passage_id"].endswith("a") and row["query_id"] != "q3"), "role": None}
                for one in row["passages"]
            ],
        }
        for row in prepared()
    ]


def far_predictions(system: str, outcomes: Sequence[str]) -> list[Row]:
    return [row | {"beyond": True} for row in predictions(system, outcomes)]


def known(**changes: Any) -> Known:
    losses = {"reader_a": passage_losses(soft()), "reader_b": passage_losses(soft(more=0.25))}
    unaided = dict.fromkeys(READERS, {f"q{number}": float(number == 3) for number in range(len(GROUPS))})
    return Known(**{"losses": losses, "labeller": "reader_a", "unaided": unaided} | changes)


def asked(roles: bool = True, **changes: Any) -> EvaluatedQuestions:
    return evaluated_questions(prepared(roles), human(), known(**changes))


def judged(answers: Sequence[str] = ("the Calder", "<b>Oskal</b>")) -> JudgedAnswers:
    """Verdicts on these answers; a key is simply the content."""
    said = {answer: ("correct" if "Calder" in answer else "incorrect", None) for answer in answers}
    found = {f"{row['query']} {answer}": verdict for row in prepared() for answer, verdict in said.items()}
    return JudgedAnswers(found, lambda query, references, answer: f"{query} {answer}")


def params() -> dict[str, Any]:
    """The default profile with three of its runs, two seeds and two numbers of passages shown; without contrasts."""
    tree = yaml.safe_load((REPOSITORY / "profiles/default.yaml").read_text(encoding="utf-8"))
    tree["runs"] = {name: tree["runs"][name] for name in RUNS}
    tree["train"]["seeds"], tree["control"]["random_draws"] = [0, 1], 2
    tree["evaluate"]["shown"] = [1, 5]
    tree["compare"] |= {"draws": 200, "contrasts": None}
    tree["tracking"]["mlflow"] = False
    return tree


def write_beyond(folder: Path, rows: Sequence[Row]) -> None:
    corpus = [{"passage_id": one["passage_id"], "text": one["text"]} for row in rows for one in row["passages"]]
    write_rows(folder / "data/prepared/beyond.parquet", rows, PREPARED)
    write_rows(folder / "data/prepared/beyond_corpus.parquet", corpus, CORPUS)


def write_workspace(folder: Path, roles: bool = True, judge: bool = True) -> None:
    """Write everything that the stage compare reads."""
    write_beyond(folder, [])
    (folder / "params.yaml").write_text(yaml.safe_dump(params(), sort_keys=False), encoding="utf-8")
    rows = prepared(roles)
    passages = [{"passage_id": one["passage_id"], "text": one["text"]} for row in rows for one in row["passages"]]
    write_rows(folder / "data/prepared/corpus.parquet", passages, CORPUS)
    account = {"splits": {"test": {"from": {"test.jsonl": len(rows)}}}, "source": {"name": "data/raw"}}
    (folder / "metrics").mkdir()
    (folder / "data/figures").mkdir(parents=True)
    (folder / "data/figures/prepare.json").write_text(json.dumps(account | {"beyond": account}), encoding="utf-8")
    for split in ("train", "test"):
        write_rows(folder / f"data/prepared/{split}.parquet", rows, PREPARED)
        for source in ("human", "truth"):
            write_rows(folder / f"data/labels/{source}/{split}.parquet", human(), BINARY_LABELS)
        for source in ("reader_a", "flat"):
            write_rows(folder / f"data/labels/{source}/{split}.parquet", soft(), SOFT_LABELS)
        write_rows(folder / f"data/labels/reader_b/{split}.parquet", soft(more=0.25), SOFT_LABELS)
    for kind, systems in {"runs": RUNS, "controls": CONTROLS}.items():
        for name, outcomes in systems.items():
            path = folder / f"data/predictions/{kind}/{name}.parquet"
            five = predictions(name, WITH_FIVE.get(name, []), shown=5)
            write_rows(path, predictions(name, outcomes) + five, PREDICTIONS)
    cases = [Case(row["query"], ("Calder",), answer) for row in rows for answer in ("the Calder", "<b>Oskal</b>")]
    write_rows(folder / "data/judgements.parquet", judgements(RuleJudge(), cases if judge else []), JUDGEMENTS)
    for run in RUNS:
        path = folder / f"plots/curves/{run}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "seed,step,loss,validation_loss\n0,0,2.0,\n0,1,1.0,1.5\n1,0,2.1,\n1,1,0.9,1.4\n", encoding="utf-8"
        )
