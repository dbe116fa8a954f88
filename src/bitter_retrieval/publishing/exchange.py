"""Label sources in the layouts that other frameworks train on as they are.

flagembedding            <split>.jsonl: query, pos, neg, pos_scores, neg_scores
sentence-transformers    <split>.parquet: query, positive, negative_1, …, and for soft labels label, the list of scores
pylate                   <split>.parquet: query_id, document_ids, scores; queries.parquet, documents.parquet: texts
tevatron                 <split>.jsonl: query_id, query, positive_passages, negative_passages
beir                     corpus.jsonl, queries.jsonl (answers among the metadata), qrels/<split>.tsv

A score is a passage's loss in nats a token, of the best reference, with the sign turned: softmax(scores / temperature)
is what `kl` learns from at that teacher temperature. The positive is the passage of lowest loss (of ties the first), or
each one that people found relevant. Scores of binary labels are 1 and 0.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bitter_retrieval.labels.soft import LabelError, passage_losses
from bitter_retrieval.labels.targets import with_labelled
from bitter_retrieval.records import NO_PASSAGE, Row, passage_texts, replacing, write_text


@dataclass(frozen=True)
class Scored:
    """A question with its labelled passages."""

    row: Row  # prepared
    texts: dict[str, str]  # by passage_id, candidates in their order
    scores: dict[str, float]  # by passage_id: of all texts
    positives: list[str]  # at least one
    soft: bool

    @property
    def negatives(self) -> list[str]:
        return [passage_id for passage_id in self.texts if passage_id not in self.positives]


def scored(rows: Sequence[Row], labels: Sequence[Row], soft: bool, source: str) -> tuple[list[Scored], dict[str, int]]:
    """Questions with a positive and another passage, and counts of the passages and questions left out.

    rows: prepared; labels: of one split. A passage without a label is left out. Raises LabelError for labels of other
    data.
    """
    known: dict[str, dict[str, float]] = {}
    if soft:
        found = passage_losses(labels, source=source)
        known = {query: {one: -loss for one, loss in own.items() if one != NO_PASSAGE} for query, own in found.items()}
    else:
        for label in labels:
            known.setdefault(label["query_id"], {})[label["passage_id"]] = float(label["relevant"])
    if known and not any(row["query_id"] in known for row in rows):
        raise LabelError(f"labels {source}: of other questions than the prepared ones. Run `dvc repro label@{source}`.")
    kept, left_out = [], dict.fromkeys(("questions", "passages"), 0)
    for row in with_labelled(list(rows), list(labels)):
        scores = known.get(row["query_id"], {})
        texts = {p["passage_id"]: p["text"] for p in row["passages"] if p["passage_id"] in scores}
        scores = {passage_id: scores[passage_id] for passage_id in texts}
        best = max(texts, key=scores.__getitem__, default=None)
        positives = ([best] if best is not None else []) if soft else [one for one in texts if scores[one]]
        if not positives or len(positives) == len(texts):
            left_out["questions"] += 1
            continue
        left_out["passages"] += len(row["passages"]) - len(texts)
        kept.append(Scored(row, texts, scores, positives, soft))
    return kept, left_out


def write_flag_embedding(folder: Path, split: str, questions: Sequence[Scored]) -> dict[str, int]:
    def record(one: Scored) -> Row:
        parts = {"pos": one.positives, "neg": one.negatives}
        texts = {part: [one.texts[name] for name in names] for part, names in parts.items()}
        scores = {f"{part}_scores": [one.scores[name] for name in names] for part, names in parts.items()}
        return {"query": one.row["query"], **texts, **scores, "answers": one.row["answers"]}

    _write_lines(folder / f"{split}.jsonl", map(record, questions))
    return {}


def write_sentence_transformers(folder: Path, split: str, questions: Sequence[Scored]) -> dict[str, int]:
    """A row for each positive. All rows have as many columns: others in number of negatives are left out."""
    counts = Counter(len(one.negatives) for one in questions)
    negatives = max(counts, key=lambda number: (counts[number], number), default=1)
    rows = []
    for one in questions:
        for positive in one.positives if len(one.negatives) == negatives else ():
            names = [positive, *one.negatives]
            columns = ["positive", *(f"negative_{number}" for number in range(1, negatives + 1))]
            texts = dict(zip(columns, (one.texts[name] for name in names), strict=True))
            label = {"label": [one.scores[name] for name in names]} if one.soft else {}
            rows.append({"query": one.row["query"], **texts, **label})
    _write_table(folder / f"{split}.parquet", rows)
    return {"questions_with_another_number_of_negatives": len(questions) - counts[negatives]}


def write_pylate(folder: Path, split: str, questions: Sequence[Scored]) -> dict[str, int]:
    """Texts of earlier splits stay in queries.parquet and documents.parquet."""
    rows = [
        {"query_id": one.row["query_id"], "document_ids": list(one.texts), "scores": list(one.scores.values())}
        for one in questions
    ]
    _write_table(folder / f"{split}.parquet", rows)
    texts = {
        "queries": ("query_id", {one.row["query_id"]: one.row["query"] for one in questions}),
        "documents": ("document_id", {key: text for one in questions for key, text in one.texts.items()}),
    }
    for name, (key, new) in texts.items():
        file = folder / f"{name}.parquet"
        old = {row[key]: row["text"] for row in pq.read_table(file).to_pylist()} if file.exists() else {}
        _write_table(file, [{key: one, "text": text} for one, text in (old | new).items()])
    return {}


def write_tevatron(folder: Path, split: str, questions: Sequence[Scored]) -> dict[str, int]:
    def passages(one: Scored, names: Iterable[str]) -> list[Row]:
        return [{"docid": name, "title": "", "text": one.texts[name]} for name in names]

    _write_lines(
        folder / f"{split}.jsonl",
        (
            {
                "query_id": one.row["query_id"],
                "query": one.row["query"],
                "positive_passages": passages(one, one.positives),
                "negative_passages": passages(one, one.negatives),
                "answers": one.row["answers"],
            }
            for one in questions
        ),
    )
    return {}


def write_beir(folder: Path, split: str, questions: Sequence[Scored]) -> dict[str, int]:
    """Passages and questions of earlier splits stay in corpus.jsonl and queries.jsonl."""
    passages = passage_texts([one.row for one in questions])
    for one in questions:
        passages |= one.texts
    documents = ({"_id": key, "title": "", "text": text} for key, text in passages.items())
    _add_lines(folder / "corpus.jsonl", documents)
    queries = (
        {"_id": one.row["query_id"], "text": one.row["query"], "metadata": {"answers": one.row["answers"]}}
        for one in questions
    )
    _add_lines(folder / "queries.jsonl", queries)
    lines = ["query-id\tcorpus-id\tscore"]
    for one in questions:
        query_id = one.row["query_id"]
        for name in one.texts:
            if re.search("[\t\r\n]", query_id + name):
                told = f"query {query_id!r}, passage {name!r}: qrels hold no tab and no line break in ids."
                raise LabelError(f"{told} Give it another id.")
            lines.append(f"{query_id}\t{name}\t{int(name in one.positives)}")
    write_text(folder / "qrels" / f"{split}.tsv", "".join(f"{line}\n" for line in lines))
    return {}


Write = Callable[[Path, str, Sequence[Scored]], Mapping[str, int]]  # returns counts of what the layout cannot hold
LAYOUTS: dict[str, Write] = {
    "flagembedding": write_flag_embedding,
    "sentence-transformers": write_sentence_transformers,
    "pylate": write_pylate,
    "tevatron": write_tevatron,
    "beir": write_beir,
}


def _write_lines(file: Path, rows: Iterable[Row]) -> None:
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _add_lines(file: Path, rows: Iterable[Row]) -> None:
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
    known = {json.loads(line)["_id"] for line in lines}
    lines += [json.dumps(row, ensure_ascii=False) for row in rows if row["_id"] not in known]
    write_text(file, "".join(f"{line}\n" for line in lines))


def _write_table(file: Path, rows: Sequence[Row]) -> None:
    with replacing(file) as partial:
        pq.write_table(pa.Table.from_pylist(list(rows)), partial)
