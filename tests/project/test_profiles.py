"""Profiles of real data: the files themselves, with local files and small checkpoints instead of a hub's.

laptop and first run through every stage in this process; of msmarco_qwen3 the graph is listed, and what it says without
a network.
"""

import importlib
import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import source_files
import tiny
import yaml
from workspace import REPOSITORY, Workspace

import compare
import use_profile
from bitter_retrieval.params import load_params
from bitter_retrieval.records import PREDICTIONS, PREPARED, SOFT_LABELS, read_rows
from bitter_retrieval.typed_yaml import parse_yaml

STAGES = ("prepare", "reader", "encoder", "label", "derive", "mix", "train", "evaluate", "control", "judge", "compare")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models under the hub's two ids: a Qwen3 that reads bytes, and an encoder with a WordPiece tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoints")
    reader = tiny.tiny_reader(tokenizer="bpe")
    reader.model.save_pretrained(folder / "qwen3")
    reader.tokenizer.save_pretrained(folder / "qwen3")
    tiny.tiny_encoder(max_length=256).save(folder / "minilm")
    return folder


@pytest.fixture
def laptop(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with profile laptop, unchanged except the ids, which are files and folders."""
    monkeypatch.chdir(REPOSITORY)
    tree = parse_yaml(use_profile.render("laptop"), "a profile")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for section in ("data", "beyond"):
        del tree[section]["hub"]
    for section, name in {"readers": "qwen3", "encoders": "minilm"}.items():
        tree[section][name] |= {"model": str(checkpoints / name), "revision": None}
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    source_files.write_marco(Path(tree["data"]["path"]), source_files.MARCO)
    source_files.write_rows(Path(tree["beyond"]["path"]) / "train.parquet", source_files.squad())
    return tmp_path


def repro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every stage in the order of the graph, for every name that DVC would run it for."""
    params = load_params()
    names = {"reader": params.readers, "encoder": params.encoders, "label": params.labels, "train": params.runs}
    names |= {"derive": params.derived_labels, "mix": params.mixed_labels, "evaluate": params.runs}
    for stage in STAGES:
        module = importlib.import_module(stage)
        if hasattr(module, "keep_freed_memory"):
            monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
        for name in names.get(stage, [None]):
            monkeypatch.setattr(sys, "argv", [f"{stage}.py", *([name] if name else [])])
            module.main()


@pytest.mark.slow
def test_laptop_runs_through_every_stage(
    laptop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repro(monkeypatch)
    told = capsys.readouterr().out
    assert "Primary figure" in told and "Beyond the training domain: " in told and "untrained" in told
    params, report = load_params(), json.loads(Path("metrics/report.json").read_text())
    rows = {name: read_rows(f"data/prepared/{name}.parquet", PREPARED) for name in ("train", "test", "beyond")}
    assert len(rows["train"]) > 20 and len(rows["test"]) == report["about"]["questions"] == 8
    assert len(rows["beyond"]) == report["beyond"]["questions"] == 47  # of 48 one has no answer
    assert {row["group_id"] for row in rows["beyond"]} == {f"Title_{number}" for number in range(8)}
    labels = read_rows("data/labels/qwen3/train.parquet", SOFT_LABELS)
    assert {row["query_id"] for row in labels} == {row["query_id"] for row in rows["train"]}
    for run in params.runs:
        of_beyond = [row["beyond"] for row in read_rows(f"data/predictions/runs/{run}.parquet", PREDICTIONS)]
        assert of_beyond.count(False) == 2 * 8 and of_beyond.count(True) == 2 * 47  # seeds
    for name, system in report["beyond"]["systems"].items():
        scores = system["scores"].get("qwen3", {})
        assert (scores == {}) == (name == "oracle"), name
        assert (scores.get("retrieval") is None) == (name in ("oracle", "no_passage")), name
    against = report["beyond"]["differences"]["qwen3"]
    assert set(against["em"]) == set(against["retrieval"]) == {"infonce", "kl"}
    told = json.loads(Path("data/figures/prepare.json").read_text())
    assert told["beyond"]["splits"]["test"]["questions"] == 47 and told["splits"]["reader"]["questions"] == 0


PAGE = (REPOSITORY / "docs/first_experiment.md").read_text(encoding="utf-8")
QUESTIONS = REPOSITORY / "docs/first_questions.jsonl"


def test_commands_of_the_first_experiment() -> None:
    """All that its page asks for: the next test does the same, but for the installation."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line.split("  #")[0].rstrip() for block in blocks for line in block.splitlines()]
    assert [line for line in lines if not line.startswith("#")] == [
        "make models",
        "source .venv/bin/activate",
        "cp docs/first_questions.jsonl data/raw/",
        "python src/use_profile.py first",
        "dvc repro",
        "python src/compare.py --show",
    ]
    (shown,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert QUESTIONS.read_text(encoding="utf-8").startswith(shown)


@pytest.mark.slow
def test_the_first_experiment_goes_from_its_questions_to_a_table(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With profile first unchanged, except that the models are small ones, whose window worked examples do not fit."""
    monkeypatch.chdir(REPOSITORY)
    tree = parse_yaml(use_profile.render("first"), "a profile")
    packages = [tree[section][name]["model"] for section, name in (("readers", "smollm2"), ("encoders", "minilm"))]
    names = (REPOSITORY / "requirements-models.txt").read_text(encoding="utf-8").replace("-", "_")
    assert all(package.removeprefix("pkg://").split("/")[0] in names for package in packages)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    tree["readers"]["smollm2"] |= {"model": str(checkpoints / "qwen3")}
    tree["encoders"]["minilm"] |= {"model": str(checkpoints / "minilm")}
    del tree["readers"]["smollm2"]["examples"]
    tree["tracking"]["mlflow"] = False
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    Path("data/raw").mkdir(parents=True)
    shutil.copy(REPOSITORY / "data/raw/README.md", "data/raw")
    shutil.copy(QUESTIONS, "data/raw")
    repro(monkeypatch)
    capsys.readouterr()
    compare.command(["--show"])
    told = capsys.readouterr().out
    assert "Primary: soft minus human, smollm2 answers from 1 shown" in told
    assert all(f"\n {name} " in told for name in ("human", "soft", "no_passage", "annotated", "untrained"))
    counted = json.loads(Path("data/figures/prepare.json").read_text())["splits"]
    assert [counted[split]["questions"] for split in ("reader", "train", "validation", "test")] == [0, 5, 1, 4]
    rows = read_rows("data/prepared/test.parquet", PREPARED)
    assert all(sorted(passage["is_selected"] for passage in row["passages"]) == [0, 0, 0, 1] for row in rows)


@pytest.mark.slow
def test_without_a_network_the_first_stage_of_msmarco_qwen3_says_what_to_do(tmp_path: Path) -> None:
    """The whole graph is listed; the hub is a port at which no server listens."""
    workspace = Workspace(tmp_path, "msmarco_qwen3")
    listed = workspace.dvc("repro", "--dry", "--force")  # without force DVC stops where an input is not made yet
    params = load_params(tmp_path / "params.yaml")
    names = {"reader": params.readers, "encoder": params.encoders, "label": params.labels}
    names |= {"train": params.runs, "evaluate": params.runs}
    for stage in STAGES:
        for name in names.get(stage, [] if stage in ("derive", "mix") else [None]):
            assert f"Running stage '{stage}{f'@{name}' if name else ''}'" in listed
    began = time.monotonic()
    process = workspace.start("repro", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "cache"))
    output, _ = process.communicate()
    assert time.monotonic() - began < 10
    assert process.returncode != 0 and "Running stage 'prepare'" in output and "Running stage 'reader" not in output
    said = " ".join(next(line for line in output.splitlines() if line.startswith("error: ")).split())
    first = next(iter(params.readers.values()))
    for words in (first.model, first.revision, "127.0.0.1:9", "name the folder instead"):
        assert words in said
    assert "Traceback" not in output
