"""SQuAD as prepared rows: articles are divided over the splits, and every question gets candidates.

Reads v1.1 and v2 in SQuAD's JSON layout (https://rajpurkar.github.io/SQuAD-explorer), and parquet, JSON or a dataset of
the hub in the Hugging Face layout, a question a row. One question in the JSON layout (records.py shows the prepared row
it becomes):

    {"data": [{"title": "Warsaw", "paragraphs": [{"context": "Warsaw lies on the Vistula …", "qas": [
        {"id": "57338", "question": "Which river?", "answers": [{"text": "the Vistula", "answer_start": 15}]}]}]}]}

A text belongs to the article in which it occurs first, so a paragraph that two articles share is never in two splits.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from bitter_retrieval.bm25 import scores_of
from bitter_retrieval.data.division import digest, divide, drawn
from bitter_retrieval.data.negatives import WITHOUT_WORD, with_answer
from bitter_retrieval.files import values
from bitter_retrieval.files.tables import (
    Layout,
    beginning,
    column_names,
    data_files,
    records,
    refuse_misspelt,
    suffix,
    unread,
    unzipped,
)
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import Row

COLUMNS = ("id", "title", "context", "question", "answers")  # of the Hugging Face layout
ROW = Layout(COLUMNS, ("is_impossible",), ", ".join(COLUMNS))
QA = Layout((), ("id", "question", "answers", "is_impossible"), "", ("title", "context"))
ARTICLES = re.compile(rb'\{[^][{}]*"data"\s*:\s*\[\s*[{\]]')  # start of a file in SQuAD's JSON layout
LEFT_OUT = ("empty_context", "empty_question", "unanswerable", "duplicate_id")  # the first that holds is counted

Paragraph = tuple[str, str, str, list[Row]]  # place in the file, title, context and questions
Parts = Mapping[str, Iterable[Paragraph]]  # by name of a file, or of a dataset's split


@dataclass(frozen=True)
class SquadQuestion:
    """A question that has an answer; `article` is the title under which its context occurs first."""

    id: str
    article: str
    context: str
    question: str
    answers: tuple[str, ...]
    part: str = field(compare=False)  # the file or split it comes from


def read_squad(path: Path) -> tuple[list[SquadQuestion], dict[str, Any]]:
    """The questions that have an answer, in file order, and counts by name. Raises DataFileError.

    Counted besides `questions` kept and LEFT_OUT: `duplicate_answers`, equal references removed; `misplaced_answers`,
    kept though they are not at answer_start of the context; `shared_paragraphs`, texts under several titles; if there
    are any, `left_out_fields`, questions by each field that is not read.
    """
    questions, _, counts = _load(squad_files(path), str(path))
    return questions, counts


def squad_splits(
    parts: Parts,
    where: str,
    seed: int,
    candidates: int,
    shares: dict[str, float],
    num_titles: int | None = None,
    questions_per_title: int | None = None,
    at: str = "data",
) -> tuple[dict[str, list[Row]], list[Row], dict[str, Any]]:
    """Rows by split (records.PREPARED), the evaluation corpus (records.CORPUS) and an account. Raises DataFileError.

    seed: draws titles, questions, the division and the order of the candidates.
    candidates: passages of a question: its own paragraph, then others of its split, those of its article first, each by
    falling BM25 score. Others that contain a reference answer stay (`candidates_with_answer` counts them).
    shares: of the articles that have a question, by split. Further articles are in no split and only add paragraphs to
    the corpus, which also holds every paragraph of the test articles.
    num_titles, questions_per_title: so many are drawn (None: all); other titles are ignored.
    where: the data's name in errors; at: where params describe the data.
    The account has read_squad's counts, those of the division, and `from`, the questions by split and part.
    """
    questions, home, counts = _load(parts, where)
    questions, home, left_out = _sampled(questions, home, seed, num_titles, questions_per_title)
    counts |= left_out
    split_of = divide([question.article for question in questions], seed, shares, where, at)
    splits, counts["from"], counts[WITHOUT_WORD] = {}, {}, 0
    for split in shares:
        pool = {text: title for text, title in home.items() if split_of.get(title) == split}
        mine = [question for question in questions if split_of.get(question.article) == split]
        counts["from"][split] = dict(Counter(question.part for question in mine))
        others, found = _others(mine, pool, candidates - 1) if mine else ([], [])
        counts[WITHOUT_WORD] += found.count(False)
        splits[split] = [_row(*pair, seed) for pair in zip(mine, others, strict=True)]
    rows = [row for split in splits.values() for row in split]
    corpus = [text for text, title in home.items() if split_of.get(title, "test") == "test"]
    counts["questions_in_no_split"] = len(questions) - len(rows)
    counts["questions_with_fewer_candidates"] = sum(len(row["passages"]) < candidates for row in rows)
    counts["candidates_with_answer"] = sum(
        with_answer(row["answers"], [one for one in row["passages"] if not one["is_selected"]]) for row in rows
    )
    counts |= {"articles": len(set(home.values())), "paragraphs": len(home), "corpus_paragraphs": len(corpus)}
    return splits, [{"passage_id": _passage_id(text), "text": text} for text in corpus], counts


def _sampled(
    questions: list[SquadQuestion], home: dict[str, str], seed: int, titles: int | None, per_title: int | None
) -> tuple[list[SquadQuestion], dict[str, str], dict[str, int]]:
    """Questions and paragraphs of the titles drawn, and counts of the others; None draws all."""
    if titles is not None:
        chosen = set(drawn((question.article for question in questions), seed)[:titles])
        home = {text: title for text, title in home.items() if title in chosen}
    of_titles = [question for question in questions if question.context in home]
    ids: dict[str, list[str]] = defaultdict(list)
    for question in of_titles:
        ids[question.article].append(question.id)
    kept = {name for own in ids.values() for name in drawn(own, seed)[:per_title]}
    counts = {"other_titles": len(questions) - len(of_titles), "beyond_questions_per_title": len(of_titles) - len(kept)}
    return [question for question in of_titles if question.id in kept], home, counts


def _load(parts: Parts, where: str) -> tuple[list[SquadQuestion], dict[str, str], dict[str, Any]]:
    """Questions, the article of every paragraph text in order of first occurrence, and counts."""
    counts: dict[str, Any]
    counts = dict.fromkeys(("questions", *LEFT_OUT, "duplicate_answers", "misplaced_answers", "shared_paragraphs"), 0)
    home: dict[str, str] = {}
    shared: set[str] = set()
    found: dict[str, SquadQuestion] = {}
    fields: Counter[str] = Counter()
    paragraphs = ((part, *paragraph) for part, of_part in parts.items() for paragraph in of_part)
    for part, place, title, context, qas in paragraphs:
        text = context.strip()
        if text and home.setdefault(text, title) != title:
            shared.add(text)
        for number, qa in enumerate(qas, 1):
            refuse_misspelt(qa, f"{place}, question {number}", QA)
            fields.update(unread(qa, QA.names))
            name, question, answers = _asked(qa, f"{place}, question {number}")
            references = tuple(dict.fromkeys(answer.strip() for answer, _ in answers))
            reasons = (not text, not question, not references, name in found)
            if any(reasons):
                counts[LEFT_OUT[reasons.index(True)]] += 1
                continue
            found[name] = SquadQuestion(name, home[text], text, question, references, part)
            counts["duplicate_answers"] += len(answers) - len(references)
            in_place = sum(isinstance(start, int) and context.startswith(answer, start) for answer, start in answers)
            counts["misplaced_answers"] += len(answers) - in_place
    counts |= {"questions": len(found), "shared_paragraphs": len(shared)}
    counts |= {"left_out_fields": dict(fields)} if fields else {}
    if not found:
        raise DataFileError(f"{where}: no question is left ({counts}). Give files that have questions with answers.")
    return list(found.values()), home, counts


def _asked(qa: Row, place: str) -> tuple[str, str, list[tuple[str, Any]]]:
    """Id, question, and the answers that are not blank, each with its answer_start."""
    name, question = _take(qa, "id", str, place), _take(qa, "question", str, place).strip()
    impossible = values.flag(qa.get("is_impossible"), "is_impossible", place)
    answers = [] if impossible else _take(qa, "answers", list, place)
    pairs = [(_take(answer, "text", str, place), answer.get("answer_start")) for answer in answers]
    for _, start in pairs:
        if not isinstance(start, int | None):
            raise values.refusal("answer_start", "a whole number or null", start, place)
    return name, question, [(text, start) for text, start in pairs if text.strip()]


def squad_files(path: Path, at: str = "data") -> Parts:
    """Paragraphs by file, of a folder or of one file, read when needed. at: where params name it, for errors."""
    if not path.exists():
        raise DataFileError(f"{path}: no such file or folder. Put SQuAD's files in data/raw/ or set {at}.path to them.")
    try:
        return {file.name: _paragraphs(file) for file in data_files(path)}
    except DataFileError as error:
        raise DataFileError(f"{error} Or set {at}.path to SQuAD's files.") from error


def _paragraphs(file: Path) -> Iterator[Paragraph]:
    """The paragraphs of a file in SQuAD's JSON layout; of rows one each, with its single question."""
    if suffix(file) == ".parquet":
        columns = column_names(file)
        if missing := [name for name in COLUMNS if name not in columns]:
            raise DataFileError(f"{file}: lacks the columns {missing}, has {columns}. Rename or add them.")
        yield from from_rows(records(file, replace(ROW, needed=(), further=tuple(columns))))
        return
    if _has_rows(file):
        yield from from_rows(records(file, ROW))
        return
    try:
        with unzipped(file) as opened:
            content = json.loads(opened.read())
    except (ValueError, RecursionError, OSError) as error:  # of JSON with line and column
        raise DataFileError(f"{file}: cut off or broken ({error}). Fetch the file again.") from error
    yield from _from_json(content, file)


def is_squad(file: Path) -> bool:
    """Whether a file has one of SQuAD's layouts. Raises DataFileError."""
    if suffix(file) == ".parquet":
        return set(COLUMNS) <= set(column_names(file))
    return ARTICLES.match(beginning(file)) is not None or _has_rows(file)


def _has_rows(file: Path) -> bool:
    """Whether the first record of a JSON file has the Hugging Face layout."""
    head = beginning(file)
    if ARTICLES.match(head) or b'"context"' not in head:  # a look at the first record can take the whole file
        return False
    try:
        _, first = next(records(file, ROW), (None, None))
    except DataFileError:
        return False
    return isinstance(first, dict) and set(COLUMNS) <= first.keys()


def _from_json(content: Any, file: Path) -> Iterator[Paragraph]:
    for a, article in enumerate(_take(content, "data", list, str(file)), 1):
        title = _take(article, "title", str, f"{file}, article {a}")
        for p, paragraph in enumerate(_take(article, "paragraphs", list, f"{file}, article {a} ({title})"), 1):
            place = f"{file}, article {a} ({title}), paragraph {p}"
            others = _others_of(article, "title", "paragraphs") | _others_of(paragraph, "context", "qas")
            qas = [others | qa for qa in _take(paragraph, "qas", list, place)]
            yield place, title, _take(paragraph, "context", str, place), qas


def _others_of(found: Row, *read: str) -> Row:
    """Fields of an article or a paragraph that are not read, for its questions' account."""
    return {key: found[key] for key in unread(found, (*read, *QA.names))}


def from_rows(rows: Iterable[tuple[object, Row]]) -> Iterator[Paragraph]:
    """Rows of the Hugging Face layout, each with its place, as paragraphs with one question."""
    for where, row in rows:
        place = str(where)
        answers = {} if row.get("answers", "absent") is None else _take(row, "answers", dict, place)
        texts, starts = ([] if answers.get(key) is None else answers[key] for key in ("text", "answer_start"))
        for value in (texts, starts):
            if not isinstance(value, list):
                raise values.refusal("answers", "{text: […], answer_start: […]}", answers, place)
        qa = row | {"answers": [{"text": text, "answer_start": start} for text, start in zip_longest(texts, starts)]}
        yield place, _take(row, "title", str, place), _take(row, "context", str, place), [qa]


def _take(record: Any, key: str, kind: type, place: str) -> Any:
    """record[key]. Raises DataFileError if it is absent or not of `kind`; a list must hold objects."""
    value = record.get(key) if isinstance(record, dict) else None
    of_objects = not isinstance(value, list) or all(isinstance(item, dict) for item in value)
    if isinstance(value, kind) and of_objects:
        return value
    found = str(record if value is None else value)[:80]
    raise DataFileError(f"{place}: {key!r} ({kind.__name__}) of SQuAD's layout expected, found {found!r}. Convert it.")


def _others(questions: list[SquadQuestion], home: dict[str, str], count: int) -> tuple[list[list[str]], list[bool]]:
    """Per question, `count` texts of `home` besides its own, and whether any text has one of its words.

    Its article's texts come first, then those of higher BM25 score, then in order.
    """
    texts, titles = list(home), np.array(list(home.values()), dtype=object)
    others, found = [], []
    every = scores_of(texts, [question.question for question in questions])
    for question, scores in zip(questions, every, strict=True):
        order = np.lexsort((-scores, titles != question.article))[: count + 1]
        others.append([texts[i] for i in order if texts[i] != question.context][:count])
        found.append(bool(scores.any()))
    return others, found


def _row(question: SquadQuestion, others: list[str], seed: int) -> Row:
    passages = [
        {"passage_id": _passage_id(text), "text": text, "is_selected": int(text == question.context), "role": None}
        for text in sorted([question.context, *others], key=lambda text: digest(seed, question.id, text))
    ]
    fields = {"query_id": question.id, "group_id": question.article, "query": question.question}
    return fields | {"answers": list(question.answers), "passages": passages}


def _passage_id(text: str) -> str:
    return f"p{digest(text)[:12]}"
