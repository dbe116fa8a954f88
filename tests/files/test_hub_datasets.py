"""Datasets of a hub: the real client against a loopback hub, its cache, and the messages of a hub that is down."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from hub_service import TOKEN, Hub, Repo
from source_files import MARCO, squad, write_marco, write_rows

from bitter_retrieval.data.question_splits import question_splits, split_files
from bitter_retrieval.data.settings import Limits, QuestionData
from bitter_retrieval.data.squad import squad_files, squad_splits
from bitter_retrieval.files import hub_datasets
from bitter_retrieval.files.settings import Hub as HubSettings
from bitter_retrieval.records import CORPUS, PREPARED, read_rows

REPOSITORY = Path(__file__).parents[2]
NAME = "microsoft/ms_marco"
TRAIN = "train-00000-of-00001.parquet"
CARD = """---
configs:
- config_name: v1.1
  data_files:
  - {split: train, path: v1.1/train-*}
  - {split: validation, path: v1.1/validation-*}
  - {split: test, path: v1.1/test-*}
- config_name: v2.1
  data_files:
  - {split: train, path: v2.1/train-*}
---
"""
READ = """
import json, sys
from bitter_retrieval.files.hub_datasets import DatasetError, hub_parts
from bitter_retrieval.files.settings import Hub
for asked in json.loads(sys.argv[1]):
    try:
        parts = hub_parts(Hub(**asked), "data.hub", "data.path")
        said = {split: [[str(place), row] for place, row in records] for split, records in parts.items()}
    except DatasetError as error:
        said = str(error)
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with MS MARCO in two configurations, and SQuAD."""
    folder = tmp_path_factory.mktemp("files")
    write_marco(folder / "v1.1", MARCO)
    write_marco(folder / "v2.1", {"train": MARCO["validation"]})
    write_rows(folder / "plain_text/train-00000-of-00001.parquet", squad())
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.parquet")}
    with Hub() as found:
        for name, card in {NAME: CARD, "rajpurkar/squad": None}.items():
            mine = {path: content for path, content in files.items() if path.startswith("v") == (name == NAME)}
            own = Repo("dataset", name, private=True)
            own.states.append(mine | ({"README.md": card.encode()} if card else {}))
            found.repos["dataset", name] = own
        yield found


def run(url: str, cache: Path, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    environment = os.environ | own | {"PYTHONPATH": str(REPOSITORY / "src"), "DVC_ROOT": str(cache)} | more
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


def read(url: str, cache: Path, *asked: dict[str, Any], **more: str) -> list[Any]:
    """Each dataset's rows with their places by split, or its error message."""
    done = run(url, cache, ["-c", READ, json.dumps(asked)], **more)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(hub: Hub, name: str = NAME, config: str | None = "v1.1") -> dict[str, Any]:
    return {"id": name, "config": config, "revision": hub.repos["dataset", name].head}


def test_rows_are_those_of_the_files_and_what_is_cached_needs_no_hub(hub: Hub, cache: Path) -> None:
    other = of(hub) | {"revision": "0" * 40}
    marco, squad_rows, unknown, absent, null = read(
        hub.url,
        cache,
        of(hub),
        of(hub, "rajpurkar/squad", None),
        of(hub, config="v3"),
        of(hub) | {"id": "microsoft/absent"},
        of(hub) | {"revision": None},
    )
    assert {split: [row for _, row in rows] for split, rows in marco.items()} == MARCO
    assert marco["train"][4][0] == "microsoft/ms_marco/v1.1/train, row 5"
    assert [row for _, row in squad_rows["train"]] == squad()
    assert squad_rows["train"][0][0] == "rajpurkar/squad/train, row 1"
    assert "data.hub: microsoft/ms_marco, v3" in unknown and "v2.1" in unknown and "data.path" in unknown
    assert "data.hub: microsoft/absent" in absent and "has no repository of that name for you" in absent
    assert f"git ls-remote {hub.url}/datasets/{NAME} main" in null and "data.hub.revision: null" in null
    closed = "http://127.0.0.1:9"
    again, refused = read(closed, cache, of(hub), other)
    assert again == marco, "the commit that is asked for is cached"
    assert "cannot be reached" in refused and NAME in refused and "data.path" in refused
    assert read(hub.url, cache, of(hub), HF_HUB_OFFLINE="1") == [marco]


def test_a_hub_that_refuses_is_told_apart_and_no_token_is_repeated(hub: Hub, tmp_path: Path) -> None:
    (said,) = read(hub.url, tmp_path, of(hub), HF_TOKEN="")
    assert "does not know the token" in said and "HF_TOKEN" in said
    (tmp_path / ".env").write_text(f"HF_TOKEN={TOKEN}\n")
    (marco,) = read(hub.url, tmp_path, of(hub), HF_TOKEN="")
    assert {split: [row for _, row in rows] for split, rows in marco.items()} == MARCO
    hub.fail = lambda method, path: 500
    (said,) = read(hub.url, tmp_path, of(hub) | {"revision": "0" * 40})
    assert "status 500" in said and "data.path" in said
    hub.fail = lambda method, path: None


def test_of_several_commits_in_the_cache_the_one_asked_for_is_read(hub: Hub, tmp_path: Path) -> None:
    """A dataset to which access was lost is read from the cache too; for a third commit, the refusal is reported."""
    states = hub.repos["dataset", NAME].states
    first, newest = [of(hub), of(hub, config="v2.1")], states[-1]
    rows = read(hub.url, tmp_path, *first)
    states.append(newest | {f"v1.1/{TRAIN}": newest[f"v2.1/{TRAIN}"]})
    second = of(hub)
    hub.fail = lambda method, path: 404 if path.endswith("/auth-check") else None  # as of a hub that does not know it
    (others,) = read(hub.url, tmp_path, second)
    assert others["train"] != rows[0]["train"]
    states.append(newest)
    hub.fail = lambda method, path: 403 if path.endswith("/auth-check") else None
    *found, said = read(hub.url, tmp_path, *first, second, of(hub))
    assert found == [*rows, others] and f"{hub.url} answers with status 403" in said
    hub.fail = lambda method, path: None
    del states[-2:]


def test_a_large_split_is_cached_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` does not document the names it gives them, by which they are found."""
    import datasets

    rows = [{"number": number, "text": "x" * 100} for number in range(3000)]
    write_rows(tmp_path / "rows.parquet", rows)
    files = {"train": str(tmp_path / "rows.parquet"), "test": str(tmp_path / "rows.parquet")}
    cache = tmp_path / "cache"
    builder = datasets.load_dataset_builder("parquet", data_files=files, cache_dir=str(cache), batch_size=500)
    builder.download_and_prepare(max_shard_size="100KB")
    (folder,) = {file.parent for file in cache.rglob("*.arrow")}
    assert len(list(folder.glob("*.arrow"))) > 4
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    parts = hub_datasets._cached(HubSettings("Parquet", folder.name, None))
    assert {split: table.to_list() for split, table in parts.items()} == {"train": rows, "test": rows}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_params(hub: dict[str, Any], **sections: Any) -> None:
    """The default profile with MS MARCO from a hub instead of its world."""
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text())) | sections
    tree["data"] |= {"source": "msmarco", "hub": hub, "limits": {"reader": 5}}
    tree["labels"]["human"] = {"kind": "selected", "needs": "data/prepared/train.parquet"}
    del tree["labels"]["truth"]
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def test_prepare_reads_a_hub_as_it_reads_files(hub: Hub, cache: Path, project: Path) -> None:
    squad_hub = {"id": "rajpurkar/squad", "revision": hub.repos["dataset", "rajpurkar/squad"].head}
    shares = {"reader": 0, "train": 0, "validation": 0, "test": 1}
    beyond = {"source": "squad", "path": "data/raw", "hub": squad_hub, "seed": 0, "candidates": 3, "articles": shares}
    set_params(of(hub), beyond=beyond)
    for url in (hub.url, "http://127.0.0.1:9"):  # what is cached needs no hub
        done = run(url, cache, [str(REPOSITORY / "src/prepare.py")])
        assert done.returncode == 0, done.stderr
    account = json.loads(Path("data/figures/prepare.json").read_text())
    assert account["source"]["name"] == f"microsoft/ms_marco, v1.1, commit {of(hub)['revision']}"
    assert account["splits"]["train"]["from"] == {"train": 22} and account["beyond"]["source"]["unanswerable"] == 1
    data = QuestionData(source="msmarco", path="raw", seed=0, candidates=10, limits=Limits(reader=5))
    parts, _ = split_files(write_marco(Path("raw"), MARCO))
    splits, corpus, _ = question_splits(parts, "raw", data)
    assert {split: read_rows(f"data/prepared/{split}.parquet", PREPARED) for split in splits} == splits
    assert read_rows("data/prepared/corpus.parquet", CORPUS) == corpus
    others = squad_files(write_rows(Path("squad/train.parquet"), squad()))
    splits, corpus, _ = squad_splits(others, "squad", 0, 3, shares)
    assert read_rows("data/prepared/beyond.parquet", PREPARED) == splits["test"] and len(splits["test"]) == 47
    assert read_rows("data/prepared/beyond_corpus.parquet", CORPUS) == corpus


def test_without_a_network_the_stage_ends_within_ten_seconds_and_says_what_to_do(project: Path, tmp_path: Path) -> None:
    absent = {"id": NAME, "config": "v1.1", "revision": "a" * 40}
    set_params(absent, beyond={"source": "msmarco", "path": "data/raw", "hub": absent, "seed": 1, "candidates": 10})
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        done = run(url, tmp_path / "cache", [str(REPOSITORY / "src/prepare.py")])
        assert time.monotonic() - began < 10
    assert done.returncode == 1 and not (project / "data/prepared").exists()
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: data.hub: {NAME}, v1.1, at {'a' * 40}: {url} cannot be reached")
    assert "hf download" in said and "data.path" in said
