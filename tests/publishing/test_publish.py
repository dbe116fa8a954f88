"""The command publish against a hub on the loopback, with the real client: uploads, downloads and messages.

The project is the made-up experiment of comparison_world.py, compared by the stage itself, with tiny checkpoints, and a
dvc.lock as DVC writes it from dvc.yaml.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comparison_world as world
import huggingface_hub
import markdown_tables
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from hub_service import TOKEN, Hub
from huggingface_hub import ModelCard

import compare
import publish
from bitter_retrieval.encoders.encoder import load_encoder, save_passage_encoder
from bitter_retrieval.judging.judges import make_judge
from bitter_retrieval.judging.settings import LlmParams, Scoring
from bitter_retrieval.labels.soft import passage_losses
from bitter_retrieval.models.credentials import CredentialError
from bitter_retrieval.publishing.hub_upload import HubError
from bitter_retrieval.records import SOFT_LABELS, read_rows, write_rows
from bitter_retrieval.reporting import wording
from bitter_retrieval.tracking import LOCK, md5
from bitter_retrieval.typed_yaml import read_yaml

REPOSITORY = Path(__file__).parents[2]
PLACE = re.compile(r"\$\{([^}]+)\}")
MODEL = ["model", "infonce_a", "--repo", "me/infonce_a"]
DATASET = ["dataset", "reader_a", "--repo", "me/soft"]
Run = Callable[..., str]


# -- a project with results ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a run of the DAG, with dvc.lock."""
    folder = tmp_path_factory.mktemp("ready")
    world.write_workspace(folder)
    checkpoints = ["encoders/mini", *(f"runs/{run}/seed{seed}" for run in world.RUNS for seed in (0, 1))]
    for place, checkpoint in enumerate(checkpoints):
        tiny.tiny_encoder(place, query_prefix="query : ", max_length=24).save(folder / "models" / checkpoint)
    (folder / "data/figures/label").mkdir()
    account = {"queries": 4, "human_label": {"disagreement": 0.25}, "exact_match_by_gain": [{"gain_from": None}]}
    (folder / "data/figures/label/reader_a.json").write_text(json.dumps({"train": account, "test": account}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["compare.py"])
        compare.main()
        lock()
    return folder


def lock() -> None:
    """Write dvc.lock as if every stage had just run on these files."""
    stages, tree = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"], read_yaml("params.yaml")
    found: dict[str, Any] = {}
    for name, stage in stages.items():
        if "do" not in stage:
            found[name] = locked(stage, tree)
        for key, item in (filled(stage["foreach"], tree) if "do" in stage else {}).items():
            found[f"{name}@{key}"] = locked(stage["do"], {**tree, "key": key, "item": item})
    LOCK.write_text(yaml.safe_dump({"schema": "2.0", "stages": found}))


def filled(text: str, tree: dict[str, Any]) -> Any:
    """`text` with its ${…} filled in; the value itself if `text` is a single ${…}."""
    if whole := PLACE.fullmatch(text):
        value: Any = tree
        for part in whole[1].split("."):
            value = value[part]
        return value
    return PLACE.sub(lambda place: str(filled(place[0], tree)), text)


def locked(stage: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    listed = {
        part: [filled(one if isinstance(one, str) else next(iter(one)), tree) for one in stage.get(part, [])]
        for part in ("deps", "outs", "params")
    }
    files = {
        part: [{"path": path, "hash": "md5", "md5": md5(Path(path))} for path in listed[part] if Path(path).exists()]
        for part in ("deps", "outs")
    }
    followed = (
        tree if "params.yaml" in listed["params"] else {key: filled(f"${{{key}}}", tree) for key in listed["params"]}
    )
    return files | {"params": {"params.yaml": followed}}


@pytest.fixture
def project(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ready, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path


@pytest.fixture
def hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as service:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", service.url)
        yield service


@pytest.fixture
def run(
    hub: Hub, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """The command's output and error message; the token is in neither, nor in any log."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)

    def run(*arguments: str, error: type[Exception] | None = None) -> str:
        if error is None:
            publish.main(arguments)
            said = ""
        else:
            with pytest.raises(error) as caught:
                publish.main(arguments)
            said = str(caught.value)
        out, err = capfd.readouterr()
        assert TOKEN not in out + err + said + caplog.text
        return out + said

    return run


def local(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- a model ---------------------------------------------------------------------------------------------------------


def test_a_model_goes_up_in_one_private_commit(hub: Hub, run: Run, project: Path) -> None:
    said = run(*MODEL, "--license", "mit")
    repo = hub.repos["model", "me/infonce_a"]
    sent = local(project / "models/runs/infonce_a/seed0")
    assert {name: content for name, content in repo.files.items() if name != "README.md"} == sent
    assert repo.private and repo.messages == ["run infonce_a, seed 0, commit unknown"] and len(hub.large) == 1
    assert f"{hub.url}/me/infonce_a/commit/{repo.head}" in said and f"revision: {repo.head}" in said
    assert not any(str(project).encode() in content or TOKEN.encode() in content for content in repo.files.values())


def test_another_seed_and_public(hub: Hub, run: Run, project: Path) -> None:
    run(*MODEL, "--seed", "1", "--public")
    repo = hub.repos["model", "me/infonce_a"]
    assert repo.files["model.safetensors"] == (project / "models/runs/infonce_a/seed1/model.safetensors").read_bytes()
    assert not repo.private and b"run `infonce_a`, seed 1:" in repo.files["README.md"]


@pytest.mark.parametrize(("more", "visibility"), [((), "private"), (("--public",), "public")])
def test_a_dry_run_says_what_would_be_sent_and_contacts_nobody(
    hub: Hub, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], visibility: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    said = run(*MODEL, "--dry-run", *more)
    card = said.split("README.md:\n\n")[1].removesuffix("\n")
    sizes = {name: len(content) for name, content in local(project / "models/runs/infonce_a/seed0").items()}
    sizes["README.md"] = len(card.encode())
    listed = dict(re.findall(r"│ (\S+) +│ +([\d,]+) │", said))
    assert {name: int(size.replace(",", "")) for name, size in listed.items()} == sizes
    assert f"{len(sizes)} files" in said and f"{sum(sizes.values()):,}" in said
    assert f"model me/infonce_a ({visibility})" in said and "Nothing was sent" in said and not hub.requests


def test_the_card_has_the_reports_figures(hub: Hub, run: Run) -> None:
    run(*MODEL)
    card = ModelCard(hub.repos["model", "me/infonce_a"].files["README.md"].decode())
    report = json.loads(Path("metrics/report.json").read_text())
    scores = report["systems"]["infonce_a"]["scores"]
    results = card.data.eval_results
    found = {(re.search("answers of ([^,]+)", one.metric_name)[1], one.metric_type): one for one in results}
    assert {reader for reader, _ in found} == {"reader_a", "reader_b"}
    for (reader, metric), one in found.items():
        estimate = scores[reader][metric]
        assert one.metric_value == estimate["mean"]
        ends = [f"{100 * estimate[end]:.1f}" for end in ("low", "high")]
        assert one.metric_name.endswith(f"[{ends[0]}, {ends[1]}]")
    assert card.data.license == "unknown" and card.data.tags[0] == "bitter-retrieval" and card.data.base_model is None
    assert found["reader_a", "em"].dataset_split == "test" and found["reader_a", "em"].dataset_type == "synthetic"
    for reader in scores:
        shown = report["systems"]["infonce_a"]["scores"][reader]["em"]
        assert ["Exact match", wording.share(shown)] in [row[:2] for row in markdown_tables.rows(card.text)]
    kinds = [row[:3] for row in markdown_tables.rows(card.text)]
    assert ["reader_a", "5", "Answer accuracy"] in kinds and ["reader_b", "1", "True support"] in kinds


def test_the_card_says_where_it_comes_from(hub: Hub, run: Run, project: Path) -> None:
    run(*MODEL)
    text = hub.repos["model", "me/infonce_a"].files["README.md"].decode()
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    tree = read_yaml("params.yaml")
    assert (
        settings["runs.infonce_a"] == tree["runs"]["infonce_a"]
        and settings["readers.reader_a"] == tree["readers"]["reader_a"]
    )
    assert settings["data"] == tree["data"] and settings["train"] == tree["train"]
    for path in (
        "models/runs/infonce_a",
        "data/labels/reader_a",
        "metrics/report.json",
        "data/predictions/runs/infonce_a.parquet",
    ):
        assert [path, md5(project / path)] in markdown_tables.rows(text)
    assert "Commit `unknown`" in text and "No licence has been stated" in text and "## Doubts" not in text


def told_of(run: str, change: Callable[[dict[str, Any]], object] = lambda difference: None) -> str:
    """A run's card, after a change of its primary difference."""
    report = json.loads(Path("metrics/report.json").read_text())
    change(report["differences"]["reader_a"]["em"].get(run, {}))
    return publish.model_card(
        "me/x", run, 0, report, publish.origin_of(tiny.PARAMS, Path("models/runs", run), [], (), "mit"), False
    )


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            "worse",
            "infonce_a answers fewer questions exactly than infonce_human: −3.0 [−5.0, −1.0] points, p .010, MDE 4.0.",
        ),
        ("inconclusive", "it is open whether infonce_a or infonce_human answers more questions exactly: −3.0 ["),
        ("equivalent", "infonce_a and infonce_human are equivalent in exact match: −3.0 ["),
    ],
)
def test_the_verdict_is_told_as_it_is(project: Path, verdict: str, words: str) -> None:
    figures = {"mean": -0.03, "low": -0.05, "high": -0.01, "p": 0.01, "mde": 0.04, "verdict": verdict}
    card = told_of("infonce_a", lambda difference: difference.update(figures))
    assert f"> Primary figure (reader_a answers): {words}" in card
    assert ["−3.0 [−5.0, −1.0]", ".010", verdict] in [row[3:6] for row in markdown_tables.rows(card)]


def test_baseline_and_negative_control_are_called_so(project: Path) -> None:
    assert "> infonce_human is the baseline" in told_of("infonce_human")
    card = told_of("kl_flat")
    assert "a negative control" in card and "> Secondary figure" in card and "not for use" in card


def test_hub_models_and_data_are_named_and_paths_of_the_machine_are_not(project: Path) -> None:
    origin = publish.origin_of(tiny.PARAMS, Path("models/runs/infonce_a"), [], ("train",), "mit")
    settings = {"encoders.of_labels": {"model": "org/other", "revision": "c" * 40}, **origin.settings}
    settings["encoders.mini"] |= {"model": "org/encoder", "revision": "a" * 40}
    settings["readers.reader_a"] |= {"model": "/home/me/secret/llama", "revision": None}
    source = {"id": "microsoft/ms_marco", "config": "v1.1", "revision": "b" * 40}
    settings["data"] |= {"source": "msmarco", "hub": source, "path": "../secret/raw"}
    asked = settings["readers.reader_a"]["prompt"] = "Question: {query} /no_think or/and\nContext: {passage}\nAnswer:"
    settings["readers.reader_a"]["stop"] = ["</answer>"]
    report = json.loads(Path("metrics/report.json").read_text())
    judge = LlmParams(
        kind="llm",
        model="/home/me/secret models/judge",
        min_coverage=0.9,
        scoring=Scoring(None, "float32", False, 9, 9),
    )
    report["about"]["judge"] = make_judge(judge).about
    report["about"]["origin"] = "/home/me/secret/data: mine.jsonl (8)"
    told = publish.replace(origin, settings=settings, doubts=["/home/me/secret/data is not what prepare read"])
    card = publish.model_card("me/x", "infonce_a", 0, report, told, False)
    data = ModelCard(card).data
    assert data.base_model == "org/encoder" and data.datasets == ["microsoft/ms_marco"]
    assert data.eval_results[0].dataset_type == "microsoft/ms_marco" and data.eval_results[0].dataset_config == "v1.1"
    assert f"org/encoder at {'a' * 40}" in card and "…/llama" in card and "secret" not in card
    assert "- …/data is not what prepare read" in card and "from …/data: mine.jsonl (8)." in card
    assert "Judge of the accuracy: the language model …/judge, which finds YES or NO more likely." in card
    told = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    reader = told["readers.reader_a"]
    assert told["data"]["path"] == "…/raw" and (reader["prompt"], reader["stop"]) == (asked, ["</answer>"])


def test_data_are_what_is_trained_on_and_not_another_domain(project: Path) -> None:
    origin = publish.origin_of(tiny.PARAMS, Path("models/runs/infonce_a"), [], ("train",), "mit")
    settings = dict(origin.settings)
    for key in ("labels.theirs", "data", "beyond"):
        hub = {"id": f"them/{key.split('.')[0]}", "revision": "b" * 40}
        settings[key] = settings.get(key, {"source": "squad", "kind": "published"}) | {"hub": hub}
    told = publish.replace(origin, settings=settings)
    card = publish.model_card("me/x", "infonce_a", 0, json.loads(Path("metrics/report.json").read_text()), told, False)
    assert sorted(ModelCard(card).data.datasets) == ["them/data", "them/labels"]


@pytest.mark.parametrize(
    ("origin", "split"),
    [
        ("microsoft/ms_marco, v1.1, commit 5e: test (8)", "test"),
        ("data/raw: test-0.jsonl (5), test-1.jsonl (3)", "test"),
        ("data/raw: validation.jsonl (8)", None),
        ("rajpurkar/squad, commit 5e: test (1), train (9)", None),
        ("/home/me/secret/data: mine.jsonl (8)", None),
    ],
)
def test_a_split_is_named_as_the_sources_only_if_it_is(project: Path, origin: str, split: str | None) -> None:
    report = json.loads(Path("metrics/report.json").read_text())
    report["about"]["origin"] = origin
    card = publish.model_card(
        "me/x",
        "infonce_a",
        0,
        report,
        publish.origin_of(tiny.PARAMS, Path("models/runs/infonce_a"), [], (), "mit"),
        False,
    )
    assert {one.dataset_split for one in ModelCard(card).data.eval_results} == {split}
    assert f"The questions are from {origin.replace('/home/me/secret/', '…/')}." in card and "secret" not in card


def test_another_domain_has_its_own_table(project: Path) -> None:
    report = json.loads(Path("metrics/report.json").read_text())
    away = {"questions": 70, "groups": 7, "source": "squad", "corpus": 90, "without_human_label": 0}
    difference = {"mean": -0.04, "low": -0.06, "high": -0.02}
    differences = {reader: {"em": {"infonce_a": difference}, "retrieval": {}} for reader in ("reader_a", "reader_b")}
    report["beyond"] = away | {"systems": report["systems"], "differences": differences}
    card = publish.model_card(
        "me/x",
        "infonce_a",
        0,
        report,
        publish.origin_of(tiny.PARAMS, Path("models/runs/infonce_a"), [], (), "mit"),
        False,
    )
    (row,) = [row for row in markdown_tables.rows(card) if "−4.0 [−6.0, −2.0]" in row]
    assert row[0] == "infonce_a" and "70 questions (squad), 90 passages" in card
    assert "70 questions" not in told_of("infonce_a")


# -- figures of another state ----------------------------------------------------------------------------------------


def test_figures_older_than_the_checkpoint_are_not_published(hub: Hub, run: Run, project: Path) -> None:
    tiny.tiny_encoder(99).save(project / "models/runs/infonce_a/seed0")
    said = run(*MODEL, error=publish.PublishError)
    assert "Doubt: models/runs/infonce_a is not what evaluate@infonce_a read." in said
    assert "dvc repro" in said and "--anyway" in said and not hub.requests
    said = run(*MODEL, "--anyway")
    text = hub.repos["model", "me/infonce_a"].files["README.md"].decode()
    assert (
        "## Doubts" in text
        and "- models/runs/infonce_a is not what evaluate@infonce_a read" in text
        and "Sent:" in said
    )


def test_a_checkpoint_trained_anew_by_dvc_has_old_figures_too(hub: Hub, run: Run, project: Path) -> None:
    """dvc.lock agrees with the checkpoint, but evaluate has not run since."""
    before = yaml.safe_load(LOCK.read_text())
    tiny.tiny_encoder(99).save(project / "models/runs/infonce_a/seed0")
    lock()
    after = yaml.safe_load(LOCK.read_text())
    LOCK.write_text(
        yaml.safe_dump({"stages": before["stages"] | {"train@infonce_a": after["stages"]["train@infonce_a"]}})
    )
    said = run(*MODEL, error=publish.PublishError)
    assert (
        "is not what evaluate@infonce_a read" in said
        and "is not what train@infonce_a wrote" not in said
        and not hub.requests
    )


def test_other_settings_than_the_checkpoints(hub: Hub, run: Run) -> None:
    tree = read_yaml("params.yaml")
    tree["runs"]["infonce_a"]["temperature"]["student"] = 0.5
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    assert "runs.infonce_a in params.yaml is not what train@infonce_a ran with" in run(
        *MODEL, error=publish.PublishError
    )
    assert not hub.requests


def test_a_run_without_figures(hub: Hub, run: Run) -> None:
    report = json.loads(Path("metrics/report.json").read_text())
    del report["systems"]["infonce_a"]
    Path("metrics/report.json").write_text(json.dumps(report))
    lock()
    assert "metrics/report.json has no figures of infonce_a" in run(*MODEL, error=publish.PublishError)
    run(*MODEL, "--anyway")
    text = hub.repos["model", "me/infonce_a"].files["README.md"].decode()
    assert "> No figures" in text and "## Results" not in text and "model-index" not in text


def test_labels_older_than_their_data(hub: Hub, run: Run, project: Path) -> None:
    write_rows(project / "data/labels/reader_a/test.parquet", world.soft(more=1.0), SOFT_LABELS)
    assert "data/labels/reader_a is not what label@reader_a wrote" in run(*DATASET, error=publish.PublishError)
    assert not hub.requests


# -- a run that trained only queries ---------------------------------------------------------------------------------


def test_the_encoder_of_passages_comes_along(hub: Hub, run: Run, project: Path, tmp_path: Path) -> None:
    save_passage_encoder(project / "models/runs/infonce_a/seed0", project / "models/encoders/mini")
    lock()
    run(*MODEL)
    files = hub.repos["model", "me/infonce_a"].files
    folder = tmp_path / "downloaded"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    found, made = load_encoder(folder), load_encoder(project / "models/runs/infonce_a/seed0")
    for kind in ("query", "passage"):
        assert np.array_equal(found.embed(["Dorin owns a dog."], kind, 64), made.embed(["Dorin owns a dog."], kind, 64))
    assert b'snapshot_download("me/infonce_a") + "/passage_encoder")' in files["README.md"]


# -- a dataset -------------------------------------------------------------------------------------------------------


def test_a_dataset_goes_up_with_both_configurations(hub: Hub, run: Run, project: Path) -> None:
    run(*DATASET)
    repo = hub.repos["dataset", "me/soft"]
    names = {f"{config}/{split}.parquet" for config in ("soft_labels", "records") for split in ("train", "test")}
    assert set(repo.files) == {"README.md", *names} and repo.private
    text = repo.files["README.md"].decode()
    rows = markdown_tables.rows(text)
    assert ["human label disagreement", "0.25", "0.25"] in rows and ["queries", "4", "4"] in rows
    assert ["data/labels/reader_a", md5(project / "data/labels/reader_a")] in rows
    assert "a small model fitted in the experiment" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [("human", "binary labels"), ("reader_x", "none of flat,"), ("hard", "Publish that source")],
)
def test_what_is_no_soft_source_is_refused(hub: Hub, run: Run, name: str, words: str) -> None:
    tree = read_yaml("params.yaml")
    mined = {"kind": "mined", "needs": "data/labels/reader_a", "encoder": "models/encoders/mini", "per_query": 1}
    tree["derived_labels"] = {"hard": mined | {"depth": 5, "below": 0.9}}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    assert words in run("dataset", name, "--repo", "me/soft", error=publish.PublishError) and not hub.requests


# -- what comes back -------------------------------------------------------------------------------------------------

LOADED = """
import json, sys
import numpy as np
from datasets import load_dataset
from sentence_transformers import SentenceTransformer
out = sys.argv[1]
for config in (None, "records"):
    for split, found in load_dataset("me/soft", config).items():
        found.to_parquet(f"{out}/{config}-{split}.parquet")
model = SentenceTransformer("me/infonce_a", device="cpu")
texts = json.loads(sys.argv[2])
np.savez(f"{out}/vectors.npz", query=model.encode_query(texts), passage=model.encode_document(texts))
"""


@pytest.mark.slow
def test_what_is_loaded_from_the_hub_equals_what_was_sent(hub: Hub, run: Run, project: Path, tmp_path: Path) -> None:
    """Loaded by the users' libraries, in a new process."""
    pytest.importorskip("sentence_transformers")
    run(*MODEL)
    run(*DATASET)
    out, texts = tmp_path / "loaded", ["Where was Dorin born?", "Aldan owns a goat.", ""]
    out.mkdir()
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-c", LOADED, str(out), json.dumps(texts)]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + str(hub.requests)
    vectors, encoder = np.load(out / "vectors.npz"), load_encoder(project / "models/runs/infonce_a/seed0")
    for kind in ("query", "passage"):
        np.testing.assert_allclose(vectors[kind], encoder.embed(texts, kind, 512), atol=1e-6)
    for split in ("train", "test"):
        labels = read_rows(project / f"data/labels/reader_a/{split}.parquet", SOFT_LABELS)
        losses = passage_losses(labels, references="first")
        rows = pq.read_table(out / f"None-{split}.parquet").to_pylist()
        for row, prepared in zip(rows, world.prepared(), strict=True):
            ids = [*(passage["passage_id"] for passage in prepared["passages"]), ""]
            assert row["passages"]["passage_text"] == [*(one["text"] for one in prepared["passages"]), ""]
            assert row["passages"]["soft_labels"] == [losses[row["query_id"]][name] for name in ids]
            assert (row["query"], row["answers"]) == (prepared["query"], prepared["answers"])
        records = pq.read_table(out / f"records-{split}.parquet").select(SOFT_LABELS.names).cast(SOFT_LABELS)
        assert records.to_pylist() == labels
    assert any(method == "GET" and path.endswith("/model.safetensors") for method, path in hub.requests)


# -- what the hub says: more in test_hub_upload.py -------------------------------------------------------------------


def test_the_command_ends_with_what_the_hub_says_and_no_token(hub: Hub, project: Path) -> None:
    hub.fail = lambda method, path: 403 if path.endswith("/objects/batch") else None
    command = [sys.executable, str(REPOSITORY / "src/publish.py"), *MODEL]
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 1 and TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (
        "error: me/infonce_a: the Hub answered 403 (403 for Bearer [the key]). The token may not do this" in done.stderr
    )


def test_the_command_ends_with_what_it_refuses(project: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "src/publish.py"), *MODEL, "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: models/runs/infonce_a/seed7: no checkpoint here. Run `dvc repro train@infonce_a`")


def test_a_licence_that_the_hub_does_not_know(hub: Hub, run: Run) -> None:
    said = run(*MODEL, "--license", "mine", error=HubError)
    assert '"license" must not be mine' in said and not hub.repos["model", "me/infonce_a"].files


def test_an_earlier_upload_is_replaced(hub: Hub, run: Run) -> None:
    run(*MODEL)
    repo = hub.repos["model", "me/infonce_a"]
    repo.states[-1]["passage_encoder.json"] = b"{}"
    assert "Removed from the repo: passage_encoder.json" in run(*MODEL, "--seed", "1")
    assert "passage_encoder.json" not in repo.files and len(repo.messages) == 2


# -- the token -------------------------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_sent(hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    said = run(*MODEL, error=CredentialError)
    assert re.search(r"no key: set HF_TOKEN .*\.env\.example", said) and not hub.requests
    Path(".env").write_text((REPOSITORY / ".env.example").read_text().replace("HF_TOKEN=", f"HF_TOKEN={TOKEN}"))
    run(*MODEL)
    assert hub.repos["model", "me/infonce_a"].files


def test_the_token_of_a_login_does_too(hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    Path("token").write_text(TOKEN)
    run(*MODEL)
    assert hub.repos["model", "me/infonce_a"].files


def test_a_wrong_token_is_not_told(hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """The hub of these tests repeats the token it was sent."""
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    said = run(*MODEL, error=HubError)
    assert "answered 401" in said and "hf_another" not in said and "[the key]" in said


# -- the list --------------------------------------------------------------------------------------------------------


def test_the_list_has_local_runs_with_their_figures(hub: Hub, run: Run, project: Path) -> None:
    shutil.copytree(project / "models/runs/infonce_a", project / "models/runs/gone")
    said = run("list")
    rows = {cells[0]: cells[1:] for line in said.splitlines() if (cells := [c.strip() for c in line.split("│")[1:-1]])}
    em = json.loads(Path("metrics/report.json").read_text())["systems"]["infonce_a"]["scores"]["reader_a"]["em"]
    for cell, whole in zip(rows["infonce_a"][1:4], ("reader_a", "infonce_soft 1", wording.share(em)), strict=True):
        assert cell and whole.startswith(cell)  # ends are folded; a run's name is not
    assert rows["infonce_a"][-1] == rows["infonce_human"][-1] == "up to date" and rows["gone"][-1].startswith("not in")
    assert rows["infonce_human"][4:6] == ["-", "-"] and not hub.requests
    tiny.tiny_encoder(99).save(project / "models/runs/infonce_a/seed0")
    said = run("list")
    assert "in doubt" in said and "Doubt: models/runs/infonce_a is not what evaluate@infonce_a read." in said


def test_the_list_of_a_project_without_results(hub: Hub, run: Run) -> None:
    shutil.rmtree("metrics")
    LOCK.unlink()
    assert "in doubt" in run("list") and not hub.requests


def test_the_list_of_what_an_owner_has_published(hub: Hub, run: Run) -> None:
    run(*MODEL)
    run(*DATASET, "--public")
    run("model", "infonce_human", "--repo", "other/infonce_human")
    said = run("list", "--owner", "me")
    assert re.search(r"model +│ me/infonce_a +│ private", said) and re.search(r"dataset +│ me/soft +│ public", said)
    assert "other/infonce_human" not in said
    hub.fail = lambda method, path: 403 if path == "/api/datasets" else None
    assert "me: the Hub answered 403" in run("list", "--owner", "me", error=HubError)


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repo", ["infonce_a", "me/infonce_a/x", "me/k l", "me/--infonce_a", "/infonce_a"])
def test_a_repo_has_an_owner_and_a_name(project: Path, repo: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        publish.main(["model", "infonce_a", "--repo", repo])
    assert "argument --repo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model", "k1", "--repo", "me/infonce_a"], "'k1' is none of infonce_human, infonce_a, kl_flat"),
        ([*MODEL, "--seed", "7"], "no checkpoint here. Run `dvc repro train@infonce_a`"),
    ],
)
def test_what_is_not_there(run: Run, arguments: list[str], words: str) -> None:
    assert words in run(*arguments, error=publish.PublishError)
