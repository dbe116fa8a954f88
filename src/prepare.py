"""Stage prepare: the data's source, split and in one layout.

    python src/prepare.py

Writes data/prepared/{reader,train,validation,test,corpus}.parquet (records.py), the questions from another domain and
their corpus as beyond.parquet and beyond_corpus.parquet (without rows if params name none), and
data/figures/prepare.json: where every split comes from, its counts, and what was left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bitter_retrieval import lineage
from bitter_retrieval.command_line import Parser, run_stage, warn
from bitter_retrieval.data.negatives import WITHOUT_WORD
from bitter_retrieval.data.question_splits import Parts, question_splits, split_files
from bitter_retrieval.data.settings import AnyData, GeneratedData, QuestionData, SquadData
from bitter_retrieval.data.squad import Paragraph, from_rows, squad_files, squad_splits
from bitter_retrieval.data.world import World
from bitter_retrieval.encoders.settings import EncoderParams
from bitter_retrieval.files.hub_datasets import hub_parts, refuse_unavailable, refuse_unstated
from bitter_retrieval.files.settings import Hub
from bitter_retrieval.judging.settings import LlmParams
from bitter_retrieval.labels.settings import PublishedLabels
from bitter_retrieval.models.checkpoints import is_gguf, repo_and_file
from bitter_retrieval.models.hub import fetch, fetch_weights
from bitter_retrieval.models.settings import is_hub_id
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.readers.settings import ReaderParams
from bitter_retrieval.records import CORPUS, PREPARED, Row, passage_texts, write_json, write_rows
from bitter_retrieval.typed_yaml import ParamsError

PREPARED_FOLDER = Path("data/prepared")
FIGURES = Path("data/figures/prepare.json")
SPLITS = ("reader", "train", "validation", "test")

Prepared = tuple[dict[str, list[Row]], list[Row], dict[str, Any]]  # splits, corpus, an account of their source


def main(arguments: Sequence[str] | None = None) -> str:
    Parser(description=__doc__).parse_args(arguments)
    params = load_params()
    refuse_absent(params)
    splits, corpus, account = read_source("data", params.data)
    tell_ranking("data", account)
    refuse_empty(splits, account, params)
    refuse_unlabelled(splits, params)
    for split in SPLITS:
        write_rows(PREPARED_FOLDER / f"{split}.parquet", splits[split], PREPARED)
    write_rows(PREPARED_FOLDER / "corpus.parquet", corpus, CORPUS)
    counted = summary(splits, corpus, account)
    beyond, corpus, account = another_domain(params.beyond)
    tell_ranking("beyond", account)
    write_rows(PREPARED_FOLDER / "beyond.parquet", beyond, PREPARED)
    write_rows(PREPARED_FOLDER / "beyond_corpus.parquet", corpus, CORPUS)
    if params.beyond:
        counted["beyond"] = summary({"test": beyond}, corpus, account)
    write_json(FIGURES, counted)
    found = ", ".join(f"{len(rows):,} {split}" for split, rows in {**splits, "beyond": beyond}.items() if rows)
    return f"prepare: questions: {found}; {counted['corpus_passages']:,} passages"


def tell_ranking(at: str, account: dict[str, Any]) -> None:
    """Say which candidates are no better than the order of the files."""
    if count := account.get(WITHOUT_WORD):
        warn(
            f"{at}: no passage has a word of {count} questions: BM25 gives them the first passages of the files as "
            "candidates"
        )


def refuse_absent(params: Params) -> None:
    """Refuse, now rather than hours later, what a hub will not give: commits must be stated, and cached or available.

    This does not affect what is written: DVC need not rerun this stage for other models, whose own stages then refuse.
    """
    hubs = list(_hubs(params))
    for hub in hubs:
        refuse_unstated(*hub)
    for model, revision in _models(params):
        if is_hub_id(model):
            if is_gguf(model):
                fetch_weights(*repo_and_file(model), revision, only_ask=True)
            else:
                fetch(model, "config.json", revision)
    for hub in hubs:
        refuse_unavailable(*hub)


def _hubs(params: Params) -> Iterator[tuple[Hub, str, str]]:
    """Each dataset of a hub, with the place of params that names it, and the place that would name local files."""
    for at, data in {"data": params.data, "beyond": params.beyond}.items():
        if data and not isinstance(data, GeneratedData) and data.hub:
            yield data.hub, f"{at}.hub", f"{at}.path"
    for name, labels in params.labels.items():
        if isinstance(labels, PublishedLabels) and labels.hub:
            yield labels.hub, f"labels.{name}.hub", f"labels.{name}.needs"


def _readers_and_encoders(params: Params) -> list[ReaderParams | EncoderParams]:
    return [*params.readers.values(), *params.encoders.values()]


def _models(params: Params) -> Iterator[tuple[str, str | None]]:
    """Every model, and its commit if it is from a hub."""
    for model in _readers_and_encoders(params):
        yield model.model, model.revision
    judge = params.judge
    if isinstance(judge, LlmParams) and judge.model not in params.readers:
        yield judge.model, judge.scoring.revision


def another_domain(data: AnyData | None) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """The test split of other data, its corpus and its account; empty without such data."""
    if data is None:
        return [], [], {}
    splits, corpus, account = read_source("beyond", data)
    if not splits["test"]:
        raise ParamsError(
            f"params.yaml: beyond: {account['name']} has no question for test ({account.get('read')}). Give other "
            "files, or raise its entry in beyond.limits or beyond.articles."
        )
    return splits["test"], corpus, account


def read_source(at: str, data: AnyData) -> Prepared:
    """Splits, corpus and account of a source; `at` is where params describe it."""
    return SOURCES[data.source](at, data)


def from_world(at: str, data: GeneratedData) -> Prepared:
    """The generated world. Training clusters are drawn last: more of them leave all other splits as they are."""
    sizes = {
        split: getattr(data.world, f"{split}_clusters") for split in ("reader", "validation", "test", "distractor")
    }
    undrawn, train = data.world.train_draw * data.world.train_clusters, data.world.train_clusters
    splits = World(data.seed, data.world).splits({**sizes, "undrawn": undrawn, "train": train})
    del splits["undrawn"]
    texts = passage_texts(splits["test"] + splits.pop("distractor"))
    corpus = [{"passage_id": key, "text": text} for key, text in texts.items()]
    return splits, corpus, {"name": f"the generated world, seed {data.seed}"}


def from_squad(at: str, data: SquadData) -> Prepared:
    parts: Mapping[str, Iterable[Paragraph]]
    if data.hub:
        parts = {split: from_rows(rows) for split, rows in hub_parts(data.hub, f"{at}.hub", f"{at}.path").items()}
    else:
        parts = squad_files(Path(data.path), at)
    sampled = data.num_titles, data.questions_per_title
    splits, corpus, account = squad_splits(
        parts, name_of(data), data.seed, data.candidates, vars(data.articles), *sampled, at
    )
    return splits, corpus, {"name": name_of(data), **account, **left_alone(data)}


def from_questions(at: str, data: QuestionData) -> Prepared:
    """MS MARCO, and your own questions."""
    parts: Parts
    further: list[Path] = []
    if data.hub:
        found = hub_parts(data.hub, f"{at}.hub", f"{at}.path")
        parts = {split: partial(lambda rows, left_out: rows, rows) for split, rows in found.items()}
    else:
        parts, further = split_files(Path(data.path))
    splits, corpus, account = question_splits(parts, name_of(data), data, further, at)
    return splits, corpus, {"name": name_of(data), **account, **left_alone(data)}


def left_alone(data: SquadData | QuestionData) -> dict[str, list[str]]:
    """Folders inside the data's folder, which nobody reads; those of BEIR's layout are read."""
    path = Path(data.path)
    if data.hub or not path.is_dir():
        return {}
    inside = [one.name for one in sorted(path.iterdir()) if one.is_dir() and not one.name.startswith(".")]
    found = [name for name in inside if name != "qrels"]
    return {"folders_left_alone": found} if found else {}


SOURCES: dict[str, Callable[..., Prepared]]
SOURCES = {"synthetic": from_world, "squad": from_squad, "msmarco": from_questions, "jsonl": from_questions}


def name_of(data: SquadData | QuestionData) -> str:
    if data.hub is None:
        return data.path
    return ", ".join(filter(None, (data.hub.id, data.hub.config, f"commit {data.hub.revision}")))


def refuse_empty(splits: dict[str, list[Row]], account: dict[str, Any], params: Params) -> None:
    """Refuse a split without questions. Only models that are fitted here need the reader split."""
    fitted = any(model.fit for model in _readers_and_encoders(params))
    for split in SPLITS if fitted else SPLITS[1:]:
        if not splits[split]:
            what = f"{split}, on which readers and encoders are fitted" if split == "reader" else split
            read = f" ({account['read']})" if "read" in account else ""
            remedy = "raise its entry in data.limits or data.articles"
            if split == "train" and splits["reader"] and _reader_takes_from_train(account):
                remedy = "lower data.limits.reader, which took all of train"
            raise ParamsError(
                f"params.yaml: data: {account['name']} has no question for {what}{read}. Give other files, or {remedy}."
            )


def _reader_takes_from_train(account: dict[str, Any]) -> bool:
    """Whether the reader split is cut from train: not a part of its own, nor a share of the only part."""
    read = account.get("read", {})
    return len(read) > 1 and "reader" not in read


def refuse_unlabelled(splits: dict[str, list[Row]], params: Params) -> None:
    """Refuse runs on people's labels if people labelled nothing; every other run works without."""
    wanting = [name for name, run in params.runs.items() if lineage.people(run.labels, params).kind == "selected"]
    for split in ("train", "validation"):
        if wanting and not any(passage["is_selected"] for row in splits[split] for passage in row["passages"]):
            raise ParamsError(
                f"params.yaml: runs: {', '.join(wanting)} would learn from the passages that people selected, but none "
                f"of {split}'s {len(splits[split])} questions has one. Remove the runs, or take their labels "
                "from has_answer or a reader; everything else works without."
            )


def summary(splits: dict[str, list[Row]], corpus: list[Row], account: dict[str, Any]) -> dict[str, object]:
    """Counts of questions, groups and candidates by split, where they come from, and what was left out."""
    files = {split: {"from": of_split} for split, of_split in account.get("from", {}).items()}
    return {
        "splits": {split: _split_summary(rows) | files.get(split, {}) for split, rows in splits.items()},
        "corpus_passages": len(corpus),
        "source": {name: value for name, value in account.items() if name != "from"},
    }


def _split_summary(rows: list[Row]) -> dict[str, object]:
    passages = [passage for row in rows for passage in row["passages"]]
    roles = Counter(passage["role"] for passage in passages if passage["role"])
    return {
        "questions": len(rows),
        "groups": len({row["group_id"] for row in rows}),
        "passages": len(passage_texts(rows)),
        "candidates": len(passages),
        "selected": sum(passage["is_selected"] == 1 for passage in passages),
        "candidates_by_role": dict(sorted(roles.items())),
    }


if __name__ == "__main__":
    run_stage(main)
