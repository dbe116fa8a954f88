"""Questions that bring their candidates along, MS MARCO's or one's own, as our splits.

    what there is                      ours
    train, validation, test            the same, and reader: limits.reader questions of train, or a part of that name
    train, validation                  test is cut from validation
    MS MARCO's test without a label    likewise (v2.1 keeps its labels to itself)
    one file, or one split             groups of questions, divided by the shares of data.articles

Questions of one group stay in one split, test before validation, train and reader; without a group_id, those with the
same query are one. The corpus holds all passages of what test comes from, and those of a file `corpus` if there is one.
question_files.py reads the layouts, and says what of them is left out.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bitter_retrieval.division import digest, divide
from bitter_retrieval.params import Data, Limits
from bitter_retrieval.question_files import (
    LEFT_OUT,
    PassageIds,
    QuestionsError,
    Record,
    data_files,
    file_records,
    of_split,
    prepared_rows,
    read_passages,
)
from bitter_retrieval.records import Row, passage_texts

SPLITS = ("reader", "train", "validation", "test")
FIRST = ("test", "validation", "train", "reader")  # a group that several have stays in the first
REASONS = (*LEFT_OUT, "group_elsewhere", "split_without_human_label", "not_drawn")  # the last: limits, or no share

Parts = Mapping[str, Callable[[Counter[str]], Iterable[Record]]]  # by name; counts what is left out as it is read


class _Drawn(NamedTuple):
    """A row and what orders it: by its group's hash, then by its place."""

    group: str
    number: int
    part: str
    file: str
    row: Row


def split_files(path: Path) -> tuple[Parts, Path | None]:
    """A file, or a folder's files by the split that their names say; and one of further passages."""
    files = data_files(path)
    corpus = next((file for file in files if path.is_dir() and of_split(file, "corpus")), None)
    files = [file for file in files if file != corpus]
    named = {split: [file for file in files if of_split(file, split)] for split in SPLITS}
    parts = {split: own for split, own in named.items() if own} if path.is_dir() else {}
    if not parts and len(files) != 1:
        names = [file.name for file in files]
        raise QuestionsError(f"{path}: files {names} found. Let their names begin with train, validation or test.")
    parts = parts or {files[0].stem: files}
    return {part: partial(file_records, own) for part, own in parts.items()}, corpus


def question_splits(
    parts: Parts, where: str, data: Data, corpus: Path | None = None
) -> tuple[dict[str, list[Row]], list[Row], dict[str, Any]]:
    """Rows by split (records.PREPARED), the corpus (records.CORPUS), and an account. Raises QuestionsError.

    The account has `from`, the questions by split and file, and `read`: by part, what was left out for which reason.
    where: what errors call the data; corpus: a file of further passages.
    """
    reading = _Reading(parts, data)
    if {"train", "validation"} <= set(parts):
        splits, searched = _as_named(reading, data.limits or Limits())
    elif len(parts) == 1:
        splits, searched = _by_shares(reading, where)
    else:
        raise QuestionsError(
            f"{where}: splits {sorted(parts)} found. Give train and validation, with or without test, or a single "
            "file, whose groups data.articles divides."
        )
    splits = reading.apart(splits)
    rows = {split: [one.row for one in splits[split]] for split in SPLITS}
    texts, empty = passage_texts([one.row for one in sorted(searched, key=_place)]), 0
    if corpus:
        texts, empty = read_passages(corpus, texts, Path(where))
    account = {
        "from": {split: dict(Counter(one.file for one in splits[split])) for split in SPLITS},
        "read": reading.account(splits),
        "empty_corpus_passages": empty,
    }
    return rows, [{"passage_id": passage_id, "text": text} for passage_id, text in texts.items()], account


class _Reading:
    """Rows of the parts, as they are read, and the account of it."""

    def __init__(self, parts: Parts, data: Data) -> None:
        self.parts, self.data = parts, data
        self.ids = PassageIds()
        self.left_out: dict[str, Counter[str]] = {}
        self.kept: Counter[str] = Counter()

    def rows(self, part: str) -> Iterator[_Drawn]:
        """The rows of a part; nothing of one that is not there."""
        if part not in self.parts:
            return
        left_out = self.left_out[part] = Counter(dict.fromkeys(REASONS, 0))
        again, first = self.data.source == "msmarco", {}
        records = self.parts[part](left_out)
        for number, (place, row) in enumerate(prepared_rows(records, self.ids, left_out, again)):
            self.kept[part] += 1
            given = row["group_id"] != row["query_id"]
            group = f"group {row['group_id']}" if given else f"query {' '.join(row['query'].casefold().split())}"
            row["group_id"] = first.setdefault(group, row["group_id"])
            yield _Drawn(digest(self.data.seed, group), number, part, place.file.name, row)

    def apart(self, splits: dict[str, list[_Drawn]]) -> dict[str, list[_Drawn]]:
        """Each group in one split, and rows in the order of their places."""
        home: dict[str, str] = {}
        found = {}
        for split in FIRST:
            rows = sorted(splits[split], key=_place)
            found[split] = [one for one in rows if home.setdefault(one.group, split) == split]
            for one in rows:
                self.left_out[one.part]["group_elsewhere"] += home[one.group] != split
        return found

    def account(self, splits: dict[str, list[_Drawn]]) -> dict[str, dict[str, int]]:
        """By part: questions with an answer and a passage, how many of them are used, and what is left out and why."""
        used = Counter(one.part for rows in splits.values() for one in rows)
        for part, left_out in self.left_out.items():
            elsewhere = left_out["group_elsewhere"] + left_out["split_without_human_label"]
            left_out["not_drawn"] = self.kept[part] - used[part] - elsewhere
        return {
            part: {"questions": self.kept[part], "used": used[part], "left_out": dict(left_out)}
            for part, left_out in self.left_out.items()
        }


def _place(one: _Drawn) -> tuple[str, int]:
    return one.part, one.number


def _as_named(reading: _Reading, limits: Limits) -> tuple[dict[str, list[_Drawn]], list[_Drawn]]:
    """Splits by the names of the parts, and what the corpus is made of."""
    searched = sorted(reading.rows("test"))
    if searched and reading.data.source == "msmarco" and not any(map(_is_labelled, searched)):
        reading.left_out["test"]["split_without_human_label"] = len(searched)
        searched = []
    if searched:
        test, validation = searched, _lowest(limits.validation, reading.rows("validation"))
    else:
        searched = sorted(reading.rows("validation"))
        half = len(searched) // 2
        validation, test = _cut(searched, min(limits.validation or half, half))
    reader, train = list(reading.rows("reader")), reading.rows("train")
    if not reader:
        reader, train = _cut(_lowest(limits.train and limits.train + limits.reader, train), limits.reader)
    return {
        "reader": reader,
        "train": _lowest(limits.train, train),
        "validation": validation,
        "test": _lowest(limits.test, test),
    }, searched


def _by_shares(reading: _Reading, where: str) -> tuple[dict[str, list[_Drawn]], list[_Drawn]]:
    """Splits of the only part, and what the corpus is made of: test, and groups in no split."""
    data, (part,) = reading.data, reading.parts
    if data.articles is None:
        raise QuestionsError(f"{where}: data.articles is missing, the shares by which a single file is divided.")
    rows = sorted(reading.rows(part))
    split_of = divide((one.group for one in rows), data.seed, vars(data.articles), where)
    own = {split: [one for one in rows if split_of.get(one.group) == split] for split in SPLITS}
    limits = vars(data.limits or Limits()) | {"reader": None}
    searched = [one for one in rows if split_of.get(one.group, "test") == "test"]
    return {split: _lowest(limits[split], own[split]) for split in SPLITS}, searched


def _lowest(limit: int | None, rows: Iterable[_Drawn]) -> list[_Drawn]:
    """So many of the rows, drawn by group; without a limit all."""
    return sorted(rows) if limit is None else heapq.nsmallest(limit, rows)


def _cut(rows: list[_Drawn], size: int) -> tuple[list[_Drawn], list[_Drawn]]:
    """At most the first `size` rows, so that no group is in both parts, and the others."""
    while 0 < size < len(rows) and rows[size - 1].group == rows[size].group:
        size -= 1
    return rows[:size], rows[size:]


def _is_labelled(one: _Drawn) -> bool:
    return any(passage["is_selected"] for passage in one.row["passages"])
