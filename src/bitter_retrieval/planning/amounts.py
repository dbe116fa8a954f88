"""Questions, passages and their lengths under a profile: counted in prepared data, else taken from its settings.

    amounts_of(params, Path("data/prepared"))      Amounts(questions={"train": 2000, …}, passages={…}, …)

`said` has a sentence for each number that is assumed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq

from bitter_retrieval.data.settings import AnyData, Articles, GeneratedData, QuestionData, SquadData
from bitter_retrieval.data.world import World
from bitter_retrieval.params import Params
from bitter_retrieval.records import PREPARED, Row, read_rows

SPLITS = ("reader", "train", "validation", "test")
PIECE = re.compile(r"\w+|[^\w\s]")
TOKENS_A_PIECE = 1.1  # of a pre-trained vocabulary, for English: 1.08 in 200 questions and passages of NQ-open, BERT's
SAMPLED = 200  # questions whose texts are measured
CLUSTER_QUESTIONS, CLUSTER_PASSAGES = 8, 14  # of the generated world
CLUSTERS_DRAWN = 10
MSMARCO = {"train": 82_326, "validation": 10_047, "test": 9_650}  # questions of v1.1
SQUAD_ARTICLES, SQUAD_QUESTIONS = 490, 98_169  # v1.1, training and development questions
UNKNOWN_QUESTIONS = 2000  # of a file that is not here yet


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a query, a passage and an answer, and reference answers of a question."""

    query: float
    passage: float
    answer: float
    references: float


MARCO_LENGTHS = Lengths(8, 80, 15, 1)  # about, of MS MARCO v1.1: those of benchmarks/gpu.py
SQUAD_LENGTHS = Lengths(13, 160, 4, 1)  # XQuAD's English part, 48 paragraphs of SQuAD
OWN_LENGTHS = Lengths(10, 104, 3, 1.7)  # NQ-open with its annotated passages


@dataclass(frozen=True)
class Amounts:
    """Numbers by split; `beyond` are the questions of another domain."""

    questions: dict[str, int]
    passages: dict[str, int]  # distinct within a group, as batches meet them; of corpus and beyond_corpus, at all
    candidates: float  # of a question
    lengths: Lengths
    pieces: bool  # lengths are words and punctuation, which a pre-trained vocabulary divides further
    said: list[str] = field(default_factory=list)

    def tokens(self, fitted: bool) -> Lengths:
        """Lengths by the vocabulary of a model that is fitted here, or of a pre-trained one."""
        factor = 1.0 if fitted or not self.pieces else TOKENS_A_PIECE
        own = self.lengths
        return Lengths(own.query * factor, own.passage * factor, own.answer * factor, own.references)

    def times(self, factor: int) -> "Amounts":
        """`factor` times the questions and passages, but for those that models are fitted on."""

        def more(counts: dict[str, int]) -> dict[str, int]:
            return {name: count * (1 if name == "reader" else factor) for name, count in counts.items()}

        return replace(self, questions=more(self.questions), passages=more(self.passages))


def amounts_of(params: Params, prepared: Path | None, questions: int | None = None) -> Amounts:
    """prepared: the folder of prepared data, if it is of this profile; questions: of a source that does not say."""
    if prepared is not None and (prepared / "train.parquet").is_file():
        return _counted(prepared, params)
    found = _stated(params.data, questions)
    if params.beyond is not None:
        other = _stated(params.beyond, questions)
        found.questions["beyond"] = other.questions["test"]
        found.passages.update(beyond=other.passages["test"], beyond_corpus=other.passages["corpus"])
        found.said.extend(one for one in other.said if one not in found.said)
    return replace(found, passages=found.passages | {"corpus": _searched(found.passages, params)})


def _searched(passages: dict[str, int], params: Params) -> int:
    """Passages of the corpus; those of questions of another split than test come on top."""
    more = 0 if params.evaluate.split == "test" else passages[params.evaluate.split]
    return params.evaluate.corpus_size or passages["corpus"] + more


def _counted(folder: Path, params: Params) -> Amounts:
    rows = {name: read_rows(folder / f"{name}.parquet", PREPARED) for name in (*SPLITS, "beyond")}
    sample = next(filter(None, (rows[name] for name in ("train", "test", "reader"))), [])[:SAMPLED]
    passages = {name: _distinct(own) for name, own in rows.items()}
    corpora = {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in ("corpus", "beyond_corpus")}
    corpora["corpus"] = _searched(passages | corpora, params)
    told = f"Counted in {folder}; lengths are those of {len(sample)} questions and their passages."
    candidates = sum(len(row["passages"]) for row in sample) / len(sample)
    questions = {name: len(own) for name, own in rows.items()}
    return Amounts(questions, passages | corpora, candidates, _lengths(sample), True, [told])


def _distinct(rows: Sequence[Row]) -> int:
    groups = groupby(rows, key=lambda row: row["group_id"])
    return sum(len({p["passage_id"] for row in own for p in row["passages"]}) for _, own in groups)


def _lengths(rows: Sequence[Row]) -> Lengths:
    def pieces(texts: Sequence[str]) -> float:
        return mean(len(PIECE.findall(text)) for text in texts)

    answers = [answer for row in rows for answer in row["answers"]]
    passages = [passage["text"] for row in rows for passage in row["passages"]]
    return Lengths(pieces([row["query"] for row in rows]), pieces(passages), pieces(answers), len(answers) / len(rows))


# -- from settings --------------------------------------------------------------------------------------------------


def _stated(data: AnyData, given: int | None) -> Amounts:
    if isinstance(data, GeneratedData):
        return _world(data)
    if isinstance(data, SquadData):
        return _squad(data, given)
    return _questions(data, given)


def _world(data: GeneratedData) -> Amounts:
    clusters = {split: getattr(data.world, f"{split}_clusters") for split in SPLITS}
    world = World(data.seed, data.world)
    drawn = min(CLUSTERS_DRAWN, max(clusters.values()))
    sample = [row for serial in range(drawn) for row in world.cluster("train", serial, serial)]
    passages = {split: CLUSTER_PASSAGES * count for split, count in clusters.items()}
    corpus = CLUSTER_PASSAGES * (clusters["test"] + data.world.distractor_clusters)
    questions = {split: CLUSTER_QUESTIONS * count for split, count in clusters.items()}
    told = f"Lengths are those of {drawn} clusters of the generated world."
    return Amounts(questions, passages | {"corpus": corpus}, data.candidates, _lengths(sample), True, [told])


def _squad(data: SquadData, given: int | None) -> Amounts:
    titles = data.num_titles or SQUAD_ARTICLES
    each = SQUAD_QUESTIONS / SQUAD_ARTICLES if given is None else given / SQUAD_ARTICLES
    each = min(each, data.questions_per_title or each)
    said = [f"Assumed: SQuAD v1.1's {SQUAD_QUESTIONS:,} questions on {SQUAD_ARTICLES} titles"] if given is None else []
    return _shared(data, round(titles * each), data.articles, SQUAD_LENGTHS, "XQuAD's", said)


def _questions(data: QuestionData, given: int | None) -> Amounts:
    if data.source == "jsonl":
        total = UNKNOWN_QUESTIONS if given is None else given
        said = [f"Assumed: {total:,} questions, as {data.path} is not prepared; --questions says otherwise"]
        return _shared(data, total, data.articles, OWN_LENGTHS, "NQ-open's", said if given is None else [])
    limits = data.limits
    counts = {split: min(MSMARCO[split], getattr(limits, split, None) or MSMARCO[split]) for split in MSMARCO}
    counts["reader"] = limits.reader if limits else 0
    return _amounts(data, counts, MARCO_LENGTHS, ["Assumed: MS MARCO v1.1's questions", _lengths_said("MS MARCO's")])


def _shared(
    data: AnyData, total: int, articles: Articles | None, lengths: Lengths, whose: str, said: list[str]
) -> Amounts:
    shares = articles or Articles(0, 1, 0, 0)
    counts = {split: round(total * getattr(shares, split)) for split in SPLITS}
    return _amounts(data, counts, lengths, [*said, _lengths_said(whose, lengths)])


def _lengths_said(whose: str, lengths: Lengths = MARCO_LENGTHS) -> str:
    return (
        f"Assumed: {whose} lengths, {lengths.query:g} tokens a query, {lengths.passage:g} a passage, "
        f"{lengths.answer:g} an answer"
    )


def _amounts(data: AnyData, counts: dict[str, int], lengths: Lengths, said: list[str]) -> Amounts:
    passages = {split: count * data.candidates for split, count in counts.items()}
    return Amounts(counts, passages | {"corpus": passages["test"]}, data.candidates, lengths, False, said)
