"""Questions with candidate passages that a user brings, in one of four layouts, as prepared rows.

SQuAD v1.1 and v2 (squad.py), where a question's one candidate is the paragraph that it was asked about; MS MARCO v1.1
and v2.1 (https://huggingface.co/datasets/microsoft/ms_marco), where the lists in `passages` are parallel, and as it
comes from Microsoft, a list of {passage_text, is_selected}; the simple layout, which needs query, answers (or one
answer) and passages alone; and prepared rows (records.py), which are a case of the simple layout and come out as they
went in. One question in MS MARCO's layout, and in the simple one:

    {"query_id": 1185, "query": "which river is in warsaw", "query_type": "entity", "wellFormedAnswers": [],
     "answers": ["the Vistula"],
     "passages": {"is_selected": [0, 1], "passage_text": ["Warsaw is …", "Warsaw lies on …"], "url": ["…", "…"]}}

    {"query": "which river is in warsaw", "answers": "the Vistula",
     "passages": ["Warsaw is …", {"text": "Warsaw lies on …", "passage_id": "w2", "is_selected": 1}]}

Files are parquet, JSON Lines, a JSON array or an object of columns ({"query": {"0": "…", …}, …}, as MS MARCO v2.1 and
pandas have it), SQuAD's its one JSON object or parquet in the Hugging Face layout. Blanks around texts go; a text is
one passage with one id in all rows. Further passages to search are rows of passage_id, text.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bitter_retrieval.data import squad
from bitter_retrieval.records import Row

SUFFIXES = (".parquet", ".jsonl", ".json")
SQUAD = re.compile(rb'\{[^][{}]*"data"\s*:\s*\[\s*[{\]]')  # how a file in SQuAD's JSON layout begins
COLUMNS = re.compile(rb'\{\s*"\w+"\s*:\s*\{\s*"\d+"\s*:')  # how an object of columns begins
NO_ANSWER = "No Answer Present."  # MS MARCO's mark of a question that its passages do not answer
LEFT_OUT = (
    "empty_query",  # this and the next three: whole rows, counted for the first that holds
    "unanswerable",
    "no_passages",
    "duplicate_id",  # of SQuAD, and where prepared_rows is told so; else it is an error
    "empty_answers",  # from here on: parts of rows that are kept
    "duplicate_answers",
    "empty_passages",
    "duplicate_passages",
    "replaced_passage_ids",  # the text had an id already, which stays
)
HEAD = 4096  # bytes by which layouts of JSON are told apart
BATCH = 1024  # rows of parquet that are turned into Python objects at a time


class QuestionsError(ValueError):
    """A file or row that cannot be used: names where, the value and the remedy."""


@dataclass(frozen=True)
class Questions:
    rows: list[Row]  # records.PREPARED, in file order
    left_out: dict[str, int]  # counts by LEFT_OUT


@dataclass(frozen=True)
class _Layout:
    needed: tuple[str, ...]
    further: tuple[str, ...]
    told: str  # to who gave a file of another one


QUESTION = _Layout(
    ("query", "answers", "passages"),
    ("query_id", "group_id"),
    "query, answers and passages, which are a list of texts or of {text, passage_id, is_selected}, or MS MARCO's "
    "{passage_text: […], is_selected: […]}; or SQuAD's, {data: [{title, paragraphs: […]}]} or columns "
    f"{', '.join(squad.COLUMNS)}",
)
PASSAGE = _Layout(("passage_id", "text"), (), "passage_id and text")


class Place(NamedTuple):
    file: Path  # or a dataset's split, microsoft/ms_marco/v1.1/train
    unit: str  # line, row, key or question
    number: int | str  # from 1; a key as it stands

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


Record = tuple[Place, Any]  # as it stands in the file


def read_questions(path: Path, split: str | None = None, first: int = 0, last: int | None = None) -> Questions:
    """The questions of a file, or of a folder's files whose names hold `split`, in the order of the names.

    Rows `first` to `last` (from 0, `last` excluded) are counted over all files before anything is left out. A row
    without query_id gets its place, such as train-17, so that a label leads back to its line; one without group_id its
    query_id; a passage without passage_id a hash of its text. Of a SQuAD file, `first` and `last` count the questions
    that have an answer, what is left out counts for the whole file, and an article is a group. Raises QuestionsError,
    also where no question is left, or SquadError.
    """
    if first < 0 or (last is not None and last <= first):
        raise QuestionsError(f"{path}: rows {first} to {last} hold nothing. Ask for 0 <= first < last.")
    left_out = Counter(dict.fromkeys(LEFT_OUT, 0))
    records = islice(file_records(_files(path, split), left_out), first, last)
    found = (row for _, row in prepared_rows(records, PassageIds(), left_out))
    rows = [row | {"group_id": row["group_id"] or row["query_id"]} for row in found]
    if not rows:
        asked_for = f"rows {first} to {'the end' if last is None else last}"
        raise QuestionsError(f"{path}: no question is left of {asked_for} ({dict(left_out)}). Give other rows.")
    return Questions(rows, dict(left_out))


def file_records(files: Iterable[Path], left_out: Counter[str]) -> Iterator[Record]:
    """Questions of files one after another; counts in `left_out` what of SQuAD's files is none."""
    return chain.from_iterable(_records(file, QUESTION, left_out) for file in files)


def prepared_rows(
    records: Iterable[Record], ids: "PassageIds", left_out: Counter[str], repeated: bool = False
) -> Iterator[tuple[Place, Row]]:
    """Prepared rows one by one, each with its place; counts in `left_out` what they are without.

    A row without group_id has None there. ids: shared by what shares passages. repeated: a query_id may come again, and
    the first row stays. Raises QuestionsError.
    """
    asked: dict[str, Place] = {}
    for place, record in records:
        row, counts = _prepared(record, place, ids)
        if row is not None and (other := asked.setdefault(row["query_id"], place)) != place:
            if not repeated:
                same = f"the same query_id {_short(row['query_id'])}"
                raise QuestionsError(f"{other}, and {place}: {same}. Give each its own.")
            row, counts = None, Counter(["duplicate_id"])
        left_out.update(counts)
        if row is not None:
            yield place, row


def passage_values(record: Any, place: Place, column: str) -> tuple[str, str | None, list[tuple[str, Any]]]:
    """Of a record in MS MARCO's layout: query, first reference, and each passage's text with its value in `column`.

    Texts may be empty; the reference is None of a question without an answer. Raises QuestionsError.
    """
    _check_layout(record, place, QUESTION)
    passages = record["passages"]
    values = passages.get(column) if isinstance(passages, dict) else None
    if not isinstance(values, list):
        raise _refusal(f"{column} in passages", "a list parallel to passage_text", values, place)
    texts = [_text(item["text"], f"passage {n}", place) for n, item in enumerate(_candidates(passages, place), 1)]
    if len(texts) != len(values):
        lengths = f"{len(texts)} passage_text and {len(values)} {column}"
        raise QuestionsError(f"{place}: {lengths} are not parallel. Give one {column} for each text.")
    first = next(iter(_given(_answers(record["answers"], place))), None)
    return _text(record["query"], "query", place), first, list(zip(texts, values, strict=True))


def read_passages(path: Path, known: Mapping[str, str], source: Path) -> tuple[dict[str, str], int]:
    """further_passages of a file, or of a folder's only one; the second value counts empty texts alone."""
    texts, counts = further_passages(_files(path, None), known, source)
    return texts, counts["empty"]


def further_passages(
    files: Iterable[Path], known: Mapping[str, str], source: Path
) -> tuple[dict[str, str], dict[str, int]]:
    """Texts by passage_id: those that are `known`, from the file `source`, and the further ones of the files.

    A text keeps the id that it has first. Counted are `empty` texts, which are left out, and `repeated` ones, which are
    there already. Raises QuestionsError.
    """
    ids, texts, counts = PassageIds(), dict(known), {"empty": 0, "repeated": 0}
    for passage_id, text in known.items():
        ids.claim(text, passage_id, source)
    for file in files:
        for place, record in _records(file, PASSAGE, Counter()):
            _check_layout(record, place, PASSAGE)
            name, text = _name(record["passage_id"], "passage_id", place), _text(record["text"], "text", place)
            if name is None:
                raise _refusal("passage_id", "text or a whole number", name, place)
            if not text:
                counts["empty"] += 1
                continue
            passage_id = ids.claim(text, name, place)
            counts["repeated"] += passage_id in texts
            texts[passage_id] = text
    return texts, counts


def _files(path: Path, split: str | None) -> list[Path]:
    files = data_files(path)
    found = sorted({re.split(r"-\d+-of-", file.stem)[0] for file in files})
    chosen = [file for file in files if split is None or of_split(file, split)]
    if split is not None and path.is_file() and not chosen:
        raise QuestionsError(f"{path}: by its name not of split {split!r}. Ask for no split, or rename it.")
    if not chosen:
        wanted = f"no data file of split {split!r} here ({', '.join(SUFFIXES)})"
        raise QuestionsError(f"{path}: {wanted}. Splits found: {found}.")
    if split is None and len(files) > 1:
        raise QuestionsError(f"{path}: {len(files)} data files. Ask for one of the splits {found}, or give a file.")
    return chosen


def data_files(path: Path) -> list[Path]:
    """A file, or a folder's files in the order of their names. Raises QuestionsError where there is none to be read."""
    if not path.exists():
        raise QuestionsError(f"{path}: no such file or folder. Give a file of questions ({', '.join(SUFFIXES)}).")
    if path.is_file() and path.suffix not in SUFFIXES:
        raise QuestionsError(f"{path}: {path.suffix!r} is not read. Unpack or convert it ({', '.join(SUFFIXES)}).")
    if path.is_file():
        return [path]
    files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES and not file.name.startswith(".")]
    if not files:
        raise QuestionsError(f"{path}: no data file here ({', '.join(SUFFIXES)}). Put files of questions there.")
    return files


def of_split(file: Path, split: str) -> bool:
    return file.name.startswith(split) or split in re.split(r"[^A-Za-z0-9]+", file.stem)


def _records(file: Path, layout: _Layout, left_out: Counter[str]) -> Iterator[Record]:
    return (_from_parquet if file.suffix == ".parquet" else _from_json)(file, layout, left_out)


def _from_parquet(file: Path, layout: _Layout, left_out: Counter[str]) -> Iterator[Record]:
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if layout is QUESTION and set(squad.COLUMNS) <= set(names):
                yield from _from_squad(file, left_out)
                return
            _check_layout(dict.fromkeys(names), file, layout)
            columns = [name for name in (*layout.needed, *layout.further) if name in names]
            batches = table.iter_batches(BATCH, columns=columns)
            for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                yield Place(file, "row", number), row
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise QuestionsError(f"{file}: cut off or broken ({error}). Fetch the file again.") from error


def _from_json(file: Path, layout: _Layout, left_out: Counter[str]) -> Iterator[Record]:
    """Lines, an array or columns, told apart by how they begin: many tools write lines under the name .json."""
    with file.open("rb") as lines:
        head = lines.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
        lines.seek(0)
        if layout is QUESTION and SQUAD.match(head):
            yield from _from_squad(file, left_out)
            return
        if head.startswith(b"[") or COLUMNS.match(head):
            try:
                records = json.loads(lines.read())
            except ValueError as error:  # with line and column
                raise QuestionsError(f"{file}: not JSON ({error}). Fetch or write the file again.") from error
            if isinstance(records, dict):
                yield from _from_columns(records, file)
                return
            yield from ((Place(file, "row", number), record) for number, record in enumerate(records, 1))
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = Place(file, "line", number)
                try:
                    record = json.loads(line)
                except ValueError as error:
                    why, text = getattr(error, "msg", error), _short(line.decode(errors="replace"))
                    raise QuestionsError(f"{place}: not JSON ({why}): {text}. Write one object a line.") from error
                yield place, record


def _from_columns(table: dict[str, Any], file: Path) -> Iterator[Record]:
    """Rows of an object of columns, which is emptied on the way: MS MARCO v2.1 takes gigabytes."""
    first = next(iter(table.values()))
    odd = [name for name, column in table.items() if not isinstance(column, dict) or column.keys() != first.keys()]
    if odd:
        name = next(iter(table))
        raise QuestionsError(f"{file}: columns {odd} have other rows than {name!r}. Fetch or write the file again.")
    for key in list(first):
        yield Place(file, "key", key), {name: column.pop(key) for name, column in table.items()}


def _from_squad(file: Path, left_out: Counter[str]) -> Iterator[Record]:
    questions, counts = squad.read_squad(file)
    left_out.update(
        empty_query=counts["empty_question"],
        unanswerable=counts["unanswerable"],
        no_passages=counts["empty_context"],
        duplicate_id=counts["duplicate_id"],
        duplicate_answers=counts["duplicate_answers"],
    )
    for number, asked in enumerate(questions, 1):
        fields = {"query_id": asked.id, "group_id": asked.article, "query": asked.question}
        passages = [{"text": asked.context, "is_selected": 1}]
        yield Place(file, "question", number), fields | {"answers": list(asked.answers), "passages": passages}


def _prepared(record: Any, place: Place, ids: "PassageIds") -> tuple[Row | None, Counter[str]]:
    """The prepared row, or None where the row is left out, and what is left out by reason."""
    if isinstance(record, dict) and "query_type" in record:  # MS MARCO's, whose evaluation files have no answers
        record = {"answers": None} | record
    _check_layout(record, place, QUESTION)
    query = _text(record["query"], "query", place)
    answers = _answers(record["answers"], place)
    candidates = [_candidate(item, n, place) for n, item in enumerate(_candidates(record["passages"], place), 1)]
    query_id = _name(record.get("query_id"), "query_id", place) or f"{place.file.stem}-{place.number}"
    group_id = _name(record.get("group_id"), "group_id", place)
    given = _given(answers)
    shown = [candidate for candidate in candidates if candidate["text"]]
    if not (query and given and shown):
        return None, Counter(["empty_query" if not query else "unanswerable" if not given else "no_passages"])
    references = list(dict.fromkeys(given))
    passages, replaced = _passages(shown, place, ids)
    fields = {"query_id": query_id, "group_id": group_id, "query": query, "answers": references, "passages": passages}
    return fields, Counter(
        empty_answers=len(answers) - len(given),
        duplicate_answers=len(given) - len(references),
        empty_passages=len(candidates) - len(shown),
        duplicate_passages=len(shown) - len(passages),
        replaced_passage_ids=replaced,
    )


def _passages(candidates: list[Row], place: Place, ids: "PassageIds") -> tuple[list[Row], int]:
    """Each text once, selected if any of its copies is; and how many ids gave way to the text's own."""
    passages: dict[str, Row] = {}
    replaced = 0
    for candidate in candidates:
        passage_id = ids.claim(candidate["text"], candidate["passage_id"], place)
        replaced += candidate["passage_id"] not in (None, passage_id)
        passage = passages.setdefault(passage_id, candidate | {"passage_id": passage_id})
        marks = [mark for mark in (passage["is_selected"], candidate["is_selected"]) if mark is not None]
        passage["is_selected"] = max(marks, default=None)
    return list(passages.values()), replaced


class PassageIds:
    """One id for a text and one text for an id. Texts are kept as hashes: MS MARCO v2.1 has gigabytes of them."""

    def __init__(self) -> None:
        self._id_of: dict[str, str] = {}
        self._hash_of: dict[str, str] = {}
        self._given: dict[str, str] = {}  # where, and how its text begins

    def claim(self, text: str, given: str | None, place: Place | Path) -> str:
        """The id of the text: the first that it was given, or a hash. Raises where `given` is another text's."""
        own = _hash(text)
        passage_id = given or own
        if self._hash_of.setdefault(passage_id, own) != own:
            texts = f"{_short(text)} and, {self._given.get(passage_id, 'without an id, another')}"
            raise QuestionsError(f"{place}: passage_id {passage_id!r} is of two texts, {texts}. Give each its own.")
        if given:
            self._given.setdefault(given, f"in {place}, {_short(text)}")
        return self._id_of.setdefault(own, passage_id)


def _hash(text: str) -> str:
    return f"p{hashlib.sha1(text.encode()).hexdigest()[:16]}"  # 64 bits: MS MARCO v2.1 has millions of texts


def _check_layout(found: Any, place: Place | Path, layout: _Layout) -> None:
    if not isinstance(found, dict) or any(key not in found for key in layout.needed):
        keys = f"keys {list(found)}"[:200] if isinstance(found, dict) else f"no keys but {_short(found)}"
        raise QuestionsError(f"{place}: unknown layout, found {keys}. Known: {layout.told}. Rename or add keys.")


def _candidates(passages: Any, place: Place) -> list[Any]:
    """The passages as a list, MS MARCO's parallel lists too."""
    if isinstance(passages, dict) and "passage_text" in passages:
        texts, marks = passages["passage_text"], passages.get("is_selected")
        if not isinstance(texts, list) or not isinstance(marks, list | None):
            raise _refusal("passage_text and is_selected", "lists", passages, place)
        marks = [None] * len(texts) if marks is None else marks
        if len(texts) != len(marks):
            lengths = f"{len(texts)} passage_text and {len(marks)} is_selected"
            raise QuestionsError(f"{place}: {lengths} are not parallel. Give one is_selected for each text, or none.")
        return [{"text": text, "is_selected": mark} for text, mark in zip(texts, marks, strict=True)]
    if not isinstance(passages, list | None):
        raise _refusal("passages", "a list, or {passage_text: […], is_selected: […]}", passages, place)
    return passages or []


def _candidate(item: Any, number: int, place: Place) -> Row:
    """A prepared row's passage; its passage_id may be None yet."""
    name = f"passage {number}"
    item = {"text": item} if isinstance(item, str) else item
    if isinstance(item, dict) and "passage_text" in item:
        item = {"text": item["passage_text"]} | item
    if not isinstance(item, dict) or "text" not in item:
        raise _refusal(name, "a text or {text, passage_id, is_selected}", item, place)
    mark = item.get("is_selected")
    if mark not in (None, -1, 0, 1):
        raise _refusal(f"is_selected of {name}", "0, 1 or null", mark, place)
    return {
        "passage_id": _name(item.get("passage_id"), f"passage_id of {name}", place),
        "text": _text(item["text"], f"text of {name}", place),
        "is_selected": None if mark in (None, -1) else int(mark),  # -1: the test split of MS MARCO v2.1, not annotated
        "role": _name(item.get("role"), f"role of {name}", place),
    }


def _answers(answers: Any, place: Place) -> list[str]:
    if not isinstance(answers, str | list | None):
        raise _refusal("answers", "a list of texts or one text", answers, place)
    answers = [answers] if isinstance(answers, str) else answers or []
    return [_text(answer, f"answer {number}", place) for number, answer in enumerate(answers, 1)]


def _given(answers: list[str]) -> list[str]:
    return [answer for answer in answers if answer not in ("", NO_ANSWER)]


def _text(value: Any, name: str, place: Place) -> str:
    try:
        value.encode()  # lone surrogates, which JSON can spell, would only fail in the tokenizer
        return value.strip()
    except (AttributeError, UnicodeError):
        raise _refusal(name, "text", value, place) from None


def _name(value: Any, name: str, place: Place) -> str | None:
    """An id as a string; None where there is none."""
    if value is None or (isinstance(value, str) and _text(value, name, place)):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _refusal(name, "text or a whole number", value, place)


def _refusal(name: str, wanted: str, value: Any, place: Place) -> QuestionsError:
    return QuestionsError(f"{place}: {name} should be {wanted}, is {_short(value)}. Correct the row.")


def _short(value: Any) -> str:
    return repr(value)[:80]
