"""Passages of a corpus that is searched beside the candidates, and the ids by which passages are known.

    {"passage_id": "w2", "title": "Warsaw", "text": "Warsaw lies on the Vistula."}

Rows of passage_id (or _id, docid) and text, with a title or without. A text is one passage with one id.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bitter_retrieval.data import layouts
from bitter_retrieval.data.settings import TITLED
from bitter_retrieval.files import values
from bitter_retrieval.files.tables import Place, check_layout, files_of_split, records, unread, unread_columns
from bitter_retrieval.files.values import DataFileError, short

PASSAGE = replace(layouts.PASSAGE, description="passage_id (or _id, docid) and text, with a title or without")


class PassageIds:
    """One id per text and one text per id. Texts are kept as hashes: MS MARCO v2.1 has gigabytes of them."""

    def __init__(self) -> None:
        self._id_of: dict[str, str] = {}
        self._hash_of: dict[str, str] = {}
        self._given: dict[str, str] = {}  # by id: its place and the start of its text

    def is_free(self, passage_id: str | None, text: str) -> bool:
        """Whether an id is no other text's so far."""
        return passage_id is None or self._hash_of.get(passage_id, _hash(text)) == _hash(text)

    def claim(self, text: str, given: str | None, place: Place | Path) -> str:
        """The text's id: the first one given, or a hash. Raises DataFileError if `given` is another text's."""
        own = _hash(text)
        passage_id = given or own
        if self._hash_of.setdefault(passage_id, own) != own:
            texts = f"{short(text)} and, {self._given.get(passage_id, 'without an id, another')}"
            raise DataFileError(f"{place}: passage_id {passage_id!r} has two texts, {texts}. Give each its own.")
        if given:
            self._given.setdefault(given, f"in {place}, {short(text)}")
        return self._id_of.setdefault(own, passage_id)


def _hash(text: str) -> str:
    return f"p{hashlib.sha1(text.encode()).hexdigest()[:16]}"  # 64 bits: MS MARCO v2.1 has millions of texts


def read_passages(
    path: Path, known: Mapping[str, str], source: Path, fields: Counter[str] | None = None
) -> tuple[dict[str, str], int]:
    """further_passages of a file, or of a folder's only file, and the number of empty texts."""
    texts, counts = further_passages(files_of_split(path, None), known, source, fields=fields)
    return texts, counts["empty"]


def further_passages(
    files: Iterable[Path],
    known: Mapping[str, str],
    source: Path,
    template: str = TITLED,
    fields: Counter[str] | None = None,
) -> tuple[dict[str, str], dict[str, int]]:
    """Texts by passage_id: the `known` ones, which come from the file `source`, then the further ones of the files.

    A text keeps its first id; a known one that the files have stands at their place, since equal scores rank by place.
    Counts `empty` texts, which are left out, and `repeated` ones, which are already there; in `fields`, passages by
    each field that is not read. Raises DataFileError.
    """
    fields = Counter() if fields is None else fields
    ids, counts = PassageIds(), {"empty": 0, "repeated": 0}
    texts: dict[str, str] = {}
    for passage_id, text in known.items():
        ids.claim(text, passage_id, source)
    for file in files:
        fields.update(unread_columns(file, PASSAGE))
        for place, record in records(file, PASSAGE):
            passage = layouts.plain_passage(record, place, PASSAGE)
            fields.update(unread(record, PASSAGE.names))
            if not {*layouts.IDS} & record.keys():
                check_layout(record, place, replace(PASSAGE, needed=("passage_id", "text")))
            name = values.identifier(passage["passage_id"], "passage_id", place)
            title = None if passage["title"] is None else values.text(passage["title"], "title", place)
            text = layouts.titled(values.text(passage["text"], "text", place), title, template)
            if name is None:
                raise values.refusal("passage_id", "text or a whole number", name, place)
            if not text:
                counts["empty"] += 1
                continue
            passage_id = ids.claim(text, name, place)
            counts["repeated"] += passage_id in known or passage_id in texts
            texts[passage_id] = text
    return {passage_id: text for passage_id, text in known.items() if passage_id not in texts} | texts, counts
