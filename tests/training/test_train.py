"""The stage train in a small project: outs, printed lines and errors. Kills are in test_training_resume.py."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from small_project import TRAIN, VALIDATION, edit_params, make_project

import train as stage
from bitter_retrieval.encoders.encoder import load_encoder, save_usage
from bitter_retrieval.evaluation.retrievers import rank_by_encoder
from bitter_retrieval.journal import journal_folder
from bitter_retrieval.labels.soft import LabelError
from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.records import SOFT_LABELS, passage_texts, write_rows
from bitter_retrieval.tracking import Tracker, folder_md5

Told = list[tuple[int, Mapping[str, float]]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(stage, "keep_freed_memory", lambda: None)
    return tmp_path


@pytest.fixture
def run_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def run(name: str) -> None:
        monkeypatch.setattr("sys.argv", ["train.py", name])
        stage.main()

    return run


@pytest.mark.parametrize("run", ["infonce", "kl"])
def test_stage_writes_an_encoder_a_seed_and_curves(run: str, project: Path, run_stage: Callable[[str], None]) -> None:
    run_stage(run)
    files = [project / f"models/runs/{run}/seed{seed}/model.safetensors" for seed in (0, 4)]
    weights = [file.read_bytes() for file in files]
    assert weights[0] != weights[1] != (project / "models/encoders/mini/model.safetensors").read_bytes()
    assert load_encoder(files[0].parent).usage == load_encoder(project / "models/encoders/mini").usage
    with (project / f"plots/curves/{run}.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert [(row["seed"], row["step"]) for row in curve] == [(s, str(step)) for s in "04" for step in range(8)]
    assert [step for step, row in enumerate(curve) if row["validation_loss"]] == [3, 7, 11, 15]
    assert all(float(row[name]) > 0 for row in curve for name in (f"gradient/{run}", "gradient_norm"))
    gaps = np.reshape([float(row["similarity_gap"]) for row in curve], (4, 4)).mean(1)  # two seeds, two epochs
    assert gaps[1] > gaps[0]
    assert gaps[3] > gaps[2]
    curves = (project / f"plots/curves/{run}.csv").read_bytes()
    run_stage(run)
    assert [file.read_bytes() for file in files] == weights
    assert (project / f"plots/curves/{run}.csv").read_bytes() == curves
    assert list(journal_folder().rglob("*.pt")) == []


def test_validation_utilities_are_measured_by_the_training_scale(project: Path) -> None:
    doubled = [{**label, "nll_sum": 3 * label["nll_sum"]} for label in tiny.soft(VALIDATION)]
    write_rows(project / "data/labels/reader_a/validation.parquet", doubled, SOFT_LABELS)
    params = stage.load_params()
    train, validation = stage.load_sets(params, params.runs["kl"])
    assert validation.targets.scale == train.targets.scale == tiny.soft_labelled(TRAIN).scale


@pytest.mark.parametrize("split", ["train", "validation"])
def test_split_of_which_nothing_was_scored_is_named(
    split: str, project: Path, run_stage: Callable[[str], None]
) -> None:
    rows = {"train": TRAIN, "validation": VALIDATION}[split]
    unscored = [{**label, "nll_sum": None, "n_tokens": None} for label in tiny.soft(rows)]
    write_rows(project / f"data/labels/reader_a/{split}.parquet", unscored, SOFT_LABELS)
    with pytest.raises(LabelError, match=f"labels reader_a: no query of {split} has labels.*unscorable: error"):
        run_stage("kl")


# -- tracking --------------------------------------------------------------------------------------------------------


def test_tracker_is_told_where_a_run_comes_from_and_what_was_kept(
    project: Path, run_stage: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, tuple[Mapping[str, str], Told]] = {}
    settings: dict[str, Any] = {}
    kept: list[tuple[Path, str]] = []

    def open_tracker(
        enabled: bool, name: str, params: Mapping[str, Any], tags: Mapping[str, str], inputs: Mapping[str, Path]
    ) -> Tracker:
        assert enabled and {*inputs} == {"train", "validation", "labels"} and all(map(Path.exists, inputs.values()))
        tracker, told = Tracker(), []
        tracker.log = lambda *point: told.append(point)
        tracker.keep = lambda *model: kept.append(model)
        opened[name] = tags, told
        settings.update(params)
        return tracker

    monkeypatch.setattr(stage, "open_tracker", open_tracker)
    edit_params(project, lambda tree: tree["tracking"].update(mlflow=True))
    run_stage("kl")
    assert set(opened) == {"kl-seed0", "kl-seed4"}
    assert settings["temperature"]["student"] > 0 and settings["learning_rate"] == settings["train"]["learning_rate"]
    made = folder_md5(project / "models/runs/kl")
    assert kept == [(Path(f"models/runs/kl/seed{seed}"), made) for seed in (0, 4)]
    tags, told = opened["kl-seed4"]
    assert (tags["seed"], tags["labels"], tags["encoder"]) == ("4", "reader_a", "mini")
    assert tags["labels.md5"] == folder_md5(project / "data/labels/reader_a") != tags["encoder.md5"]
    step, best = told[-1]
    validated = {at: metrics for at, metrics in told if "validation_loss" in metrics}
    assert set(validated) == {3, 7}
    assert best == {"kept/step": step, **{f"kept/{name}": value for name, value in validated[step].items()}}


def test_learning_rate_of_a_run_goes_before_that_of_all(
    project: Path, run_stage: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def open_tracker(_: bool, __: str, params: Mapping[str, Any], *___: Any) -> Tracker:
        rates.append(params["learning_rate"])
        return Tracker()

    monkeypatch.setattr(stage, "open_tracker", open_tracker)
    edit_params(project, lambda tree: tree["runs"]["kl"].update(learning_rate=0.002))
    run_stage("kl")
    assert rates == [0.002, 0.002]


def test_md5_of_a_folder_is_the_one_that_dvc_gives_it(tmp_path: Path) -> None:
    files = {"1_Pooling/config.json": "{}\n", "b.txt": "a\n", "B.txt": "x\r\ny", "a-b.txt": "2\n", "ü.txt": "ü\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "empty").mkdir()
    assert folder_md5(tmp_path) == "6a3cadc5645ecf6ed4815f2086f52666.dir"  # `dvc add` of these files


# -- the query side alone --------------------------------------------------------------------------------------------


def test_run_of_the_query_side_is_evaluated_with_the_passages_it_started_from(
    project: Path, run_stage: Callable[[str], None]
) -> None:
    edit_params(project, lambda tree: tree["runs"]["kl"].update(trains="query"))
    run_stage("kl")
    folder, texts = Path("models/runs/kl/seed4"), passage_texts(VALIDATION)
    queries = [row["query"] for row in VALIDATION]
    start, loaded = load_encoder(Path("models/encoders/mini")), load_encoder(folder)
    np.testing.assert_array_equal(
        loaded.embed(list(texts.values()), "passage", 64), start.embed(list(texts.values()), "passage", 64)
    )
    assert np.abs(loaded.embed(queries, "query", 64) - start.embed(queries, "query", 64)).max() > 0.01
    found = rank_by_encoder(folder, VALIDATION, texts, 10, 8192)
    scores = loaded.embed(queries, "query", 64) @ start.embed(list(texts.values()), "passage", 64).T
    assert [ranking.ids[0] for ranking in found] == [list(texts)[place] for place in scores.argmax(1)]
    shutil.move(project / "models/encoders/mini", project / "elsewhere")
    with pytest.raises(CheckpointError, match="encoders/mini: no such folder"):
        load_encoder(folder)


def test_run_of_both_sides_embeds_passages_itself_where_a_run_of_one_lay(
    project: Path, run_stage: Callable[[str], None]
) -> None:
    """A stage run by hand finds its old outs still there."""
    found = []
    for trains in ("query", "both"):
        edit_params(project, lambda tree, trains=trains: tree["runs"]["kl"].update(trains=trains))
        run_stage("kl")
        loaded = load_encoder(Path("models/runs/kl/seed4"))
        found.append([loaded.embed(["Aldan owns a goat."], kind, 64) for kind in ("query", "passage")])
    (query, passage), (both, also) = found
    assert not np.array_equal(query, passage) and np.array_equal(both, also)


# -- checkpoints that are no encoders --------------------------------------------------------------------------------


def decoder(folder: Path) -> None:
    tiny.tiny_model("qwen3", 360).save_pretrained(folder)
    tiny.tokenizer_of("word").save_pretrained(folder)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def other_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def other_architecture(folder: Path) -> None:
    tiny.tiny_model("gpt2", 360).save_pretrained(folder / "other")
    shutil.copy(folder / "other/model.safetensors", folder)


def two_parts(folder: Path) -> None:
    from transformers import AutoConfig, AutoModel

    size = {"d_model": 32, "d_kv": 8, "num_heads": 4, "num_layers": 1, "d_ff": 32, "vocab_size": 360}
    AutoModel.from_config(AutoConfig.for_model("t5", **size)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (decoder, "Qwen3Model in .*mini is a decoder: its tokens do not see those after them"),
        (no_weights, "does not load as one: .*model.safetensors"),
        (no_tokenizer, "does not load as one: it has no tokenizer"),
        (other_size, "its weights lack .* tensors of a BertModel, such as encoder.layer.1"),
        (other_architecture, "its weights lack .* tensors of a BertModel"),
        (two_parts, "does not load as one: "),
    ],
)
def test_what_is_no_encoder_is_refused_with_what_to_do(
    break_it: Callable[[Path], None], said: str, project: Path, run_stage: Callable[[str], None]
) -> None:
    (project / "models/encoders/mini/SHA256SUMS").unlink()  # as of a checkpoint from elsewhere
    break_it(project / "models/encoders/mini")
    with pytest.raises(CheckpointError, match=rf"^encoder models/encoders/mini: (?s:.*){said}(?s:.*)bidirectional"):
        run_stage("kl")
    assert not Path("models/runs").exists()


def test_pooler_that_a_checkpoint_lacks_is_the_same_each_time(project: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = project / "models/encoders/mini"
    (folder / "SHA256SUMS").unlink()  # as of a checkpoint from elsewhere
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    save_usage(folder, tiny.tiny_encoder().usage, 32)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = load_encoder(folder).state_dict(), load_encoder(folder).state_dict()
    assert set(first) - {f"model.{name}" for name in kept} and all(first[name].equal(second[name]) for name in first)
    assert torch.get_rng_state().equal(before)
