"""Questions that have candidates already, MS MARCO's or your own, as this project's splits.

    parts found                        splits made
    train, validation, test            the same; reader is a part of that name, or limits.reader questions of train
    train, validation                  test is cut from validation (val and dev mean validation, eval means test)
    MS MARCO's test without a label    likewise (v2.1 does not publish the labels of test)
    one file, or one split             groups of questions, divided by the shares of data.articles

A group stays in one split, the first of test, validation, train and reader that has it; without a group_id, questions
with the same query are a group. The corpus holds all passages of the part that test comes from, and those of files
named corpus next to it. question_files.py reads the layouts and defines what is left out.
"""

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bitter_retrieval.data.division import digest, divide
from bitter_retrieval.data.layouts import beir_file, beir_questions, beir_splits, is_beir
from bitter_retrieval.data.negatives import add_negatives
from bitter_retrieval.data.passage_files import PassageIds, further_passages
from bitter_retrieval.data.question_files import LEFT_OUT, LeftOut, file_records, nothing_left_out, prepared_rows
from bitter_retrieval.data.settings import Limits, QuestionData
from bitter_retrieval.files.tables import Record, data_files, of_split, stem
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import Row, passage_texts

SPLITS = ("reader", "train", "validation", "test")
ALIASES = {"val": "validation", "dev": "validation", "eval": "test"}  # other names of splits; eval is MS MARCO's
FIRST = ("test", "validation", "train", "reader")  # a group in several splits stays in the first of these
REASONS = (*LEFT_OUT, "group_elsewhere", "split_without_human_label", "not_drawn")  # not_drawn: by limits or shares

Parts = Mapping[str, Callable[[LeftOut], Iterable[Record]]]  # by name; reading one counts what is left out


class _Drawn(NamedTuple):
    """A row with its sort key: its group's hash, then its place, which no other row has."""

    group: str
    number: int
    part: str
    file: str
    row: Row


def split_files(path: Path) -> tuple[Parts, list[Path]]:
    """The parts, from one file or from a folder's files by the split in their names, and files of further passages."""
    if is_beir(path):
        qrels = beir_splits(path).items()
        return {split: partial(_beir, path, file) for split, file in qrels}, [beir_file(path, "corpus")]
    files = data_files(path)
    corpus = [file for file in files if path.is_dir() and of_split(file, "corpus")]
    files = [file for file in files if file not in corpus]
    if len(files) == 1:
        return {stem(files[0]): partial(file_records, files)}, corpus
    if unclear := [file.name for file in files if len(_splits_of(file)) != 1]:
        raise DataFileError(
            f"{path}: the names of files {unclear} say no split, or several. Start each name with train, validation or "
            "test (corpus for passages alone), or move them elsewhere. A single file is divided."
        )
    named = {split: [file for file in files if split in _splits_of(file)] for split in SPLITS}
    return {split: partial(file_records, own) for split, own in named.items() if own}, corpus


def _beir(path: Path, qrels: Path, left_out: LeftOut) -> Iterable[Record]:
    return beir_questions(path, qrels)


def _splits_of(file: Path) -> set[str]:
    """All splits that a file's name may say; an alias counts only as a whole word."""
    words = re.split(r"[^a-z0-9]+", stem(file).lower())
    return {split for split in SPLITS if of_split(file, split)} | {ALIASES[word] for word in words if word in ALIASES}


def question_splits(
    parts: Parts, where: str, data: QuestionData, corpus: Sequence[Path] = (), at: str = "data"
) -> tuple[dict[str, list[Row]], list[Row], dict[str, Any]]:
    """Rows by split (records.PREPARED), the corpus (records.CORPUS), and an account. Raises DataFileError.

    The account has `from`, questions by split and file, and `read`, by part the number left out for each reason.
    where: the data's name in errors; at: where params describe the data; corpus: files of further passages.
    """
    names = [ALIASES.get(part, part) for part in parts]
    parts = dict(zip(names, parts.values(), strict=True)) if len({*names}) == len(names) else parts
    reading = _Reading(parts, data)
    if {"train", "validation"} <= set(parts) <= set(SPLITS):
        splits, searched = _as_named(reading, data.limits or Limits())
    elif len(parts) == 1:
        splits, searched = _by_shares(reading, where, at)
    elif others := sorted(set(parts) - set(SPLITS)):
        raise DataFileError(
            f"{where}: splits {sorted(parts)} found, and {others} would be left out. Put the files of train, "
            f"validation and test into a folder, set {at}.path to it and remove {at}.hub."
        )
    else:
        raise DataFileError(
            f"{where}: splits {sorted(parts)} found. Give train and validation, with or without test, or a single "
            f"file, whose groups {at}.articles divides."
        )
    splits = reading.apart(splits)
    rows = {split: [one.row for one in splits[split]] for split in SPLITS}
    texts = passage_texts([one.row for one in sorted(searched, key=_place)])
    fields: Counter[str] = Counter()
    texts, further = further_passages(corpus, texts, Path(where), data.passage, fields)
    account: dict[str, Any] = {
        "from": {split: dict(Counter(one.file for one in splits[split])) for split in SPLITS},
        "read": reading.account(splits),
    }
    account |= {f"{what}_corpus_passages": count for what, count in further.items()}
    account |= {"left_out_corpus_fields": dict(fields)} if fields else {}
    if data.negatives == "bm25":
        pool = passage_texts([row for split in SPLITS for row in rows[split]]) | texts
        account |= add_negatives([row for split in SPLITS for row in rows[split]], pool, data.candidates, data.seed)
    return rows, [{"passage_id": passage_id, "text": text} for passage_id, text in texts.items()], account


class _Reading:
    """Reads the rows of the parts and keeps account of them."""

    def __init__(self, parts: Parts, data: QuestionData) -> None:
        self.parts, self.data = parts, data
        self.ids = PassageIds()
        self.left_out: dict[str, Counter[str]] = {}
        self.fields: dict[str, Counter[str]] = {}
        self.kept: Counter[str] = Counter()

    def rows(self, part: str) -> Iterator[_Drawn]:
        """The rows of a part; none if it is absent."""
        if part not in self.parts:
            return
        left_out = nothing_left_out(REASONS)
        self.left_out[part], self.fields[part] = left_out.counts, left_out.fields
        again = self.data.source == "msmarco"  # whose files may repeat a query_id
        first: dict[str, str] = {}  # group_id of each group's first row
        dials = self.data.passage, self.data.unanswered == "train"
        prepared = prepared_rows(self.parts[part](left_out), self.ids, left_out, again, *dials)
        for number, (place, row) in enumerate(prepared):
            self.kept[part] += 1
            given = row["group_id"]
            group = f"group {given}" if given else f"query {' '.join(row['query'].casefold().split())}"
            row["group_id"] = first.setdefault(group, given or row["query_id"])
            yield _Drawn(digest(self.data.seed, group), number, part, place.file.name, row)

    def apart(self, splits: dict[str, list[_Drawn]]) -> dict[str, list[_Drawn]]:
        """Each group in one split alone, and rows in the order of the files."""
        home: dict[str, str] = {}
        found = {}
        for split in FIRST:
            rows = sorted(splits[split], key=_place)
            found[split] = [one for one in rows if home.setdefault(one.group, split) == split]
            for one in rows:
                self.left_out[one.part]["group_elsewhere"] += home[one.group] != split
        return found

    def answered(self, rows: Iterable[_Drawn]) -> Iterator[_Drawn]:
        """Rows with an answer, which every split but train needs; the others are counted."""
        for one in rows:
            if one.row["answers"]:
                yield one
            else:
                self.left_out[one.part]["unanswerable"] += 1
                self.kept[one.part] -= 1

    def account(self, splits: dict[str, list[_Drawn]]) -> dict[str, dict[str, Any]]:
        """By part: questions with an answer and a passage, how many are used, and how many are left out by reason."""
        used = Counter(one.part for rows in splits.values() for one in rows)
        for part, left_out in self.left_out.items():
            elsewhere = left_out["group_elsewhere"] + left_out["split_without_human_label"]
            left_out["not_drawn"] = self.kept[part] - used[part] - elsewhere
        return {
            part: {"questions": self.kept[part], "used": used[part], "left_out": dict(left_out)}
            | ({"left_out_fields": dict(self.fields[part])} if self.fields[part] else {})
            for part, left_out in self.left_out.items()
        }


def _place(one: _Drawn) -> tuple[str, int]:
    return one.part, one.number


def _as_named(reading: _Reading, limits: Limits) -> tuple[dict[str, list[_Drawn]], list[_Drawn]]:
    """Splits named like the parts, and the rows whose passages are the corpus."""
    searched = sorted(reading.answered(reading.rows("test")))
    if searched and reading.data.source == "msmarco" and not any(map(_is_labelled, searched)):
        reading.left_out["test"]["split_without_human_label"] = len(searched)
        searched = []
    if searched:
        test, validation = searched, _lowest(limits.validation, reading.answered(reading.rows("validation")))
    else:
        searched = sorted(reading.answered(reading.rows("validation")))
        half = len(searched) // 2
        validation, test = _cut(searched, min(limits.validation or half, half))
    reader = list(reading.answered(reading.rows("reader")))
    train: Iterable[_Drawn] = reading.rows("train")
    if not reader:
        drawn = _lowest(limits.train and limits.train + limits.reader, train)
        reader, _ = _cut([one for one in drawn if one.row["answers"]], limits.reader)
        taken = {one.group for one in reader}
        train = [one for one in drawn if one.group not in taken]
    return {
        "reader": reader,
        "train": _lowest(limits.train, train),
        "validation": validation,
        "test": _lowest(limits.test, test),
    }, searched


def _by_shares(reading: _Reading, where: str, at: str) -> tuple[dict[str, list[_Drawn]], list[_Drawn]]:
    """Splits of the only part, and the rows whose passages are the corpus: test, and groups in no split."""
    data, (part,) = reading.data, reading.parts
    if data.articles is None:
        raise DataFileError(f"{where}: {at}.articles is missing, the shares by which a single file is divided.")
    rows = sorted(reading.rows(part))
    split_of = divide((one.group for one in rows), data.seed, vars(data.articles), where, at)
    own = {split: [one for one in rows if split_of.get(one.group) == split] for split in SPLITS}
    own = {split: of if split == "train" else list(reading.answered(of)) for split, of in own.items()}
    limits = vars(data.limits or Limits()) | {"reader": None}
    searched = [one for one in rows if split_of.get(one.group, "test") == "test"]
    return {split: _lowest(limits[split], own[split]) for split in SPLITS}, searched


def _lowest(limit: int | None, rows: Iterable[_Drawn]) -> list[_Drawn]:
    """The first `limit` rows in drawn order; all without a limit. At most `limit` rows are in memory at once."""
    return sorted(rows) if limit is None else heapq.nsmallest(limit, rows)


def _cut(rows: list[_Drawn], size: int) -> tuple[list[_Drawn], list[_Drawn]]:
    """The first `size` rows, fewer if that would divide a group, and the others."""
    while 0 < size < len(rows) and rows[size - 1].group == rows[size].group:
        size -= 1
    return rows[:size], rows[size:]


def _is_labelled(one: _Drawn) -> bool:
    return any(passage["is_selected"] for passage in one.row["passages"])
