"""A hub's refusal or silence is reported in one line with the remedy, within seconds and without the token.

The client is the real one, against a service on the loopback that refuses as the Hub does, and puts the token into
every reply.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hub_service
import huggingface_hub
import pytest
import tiny
import yaml

import encoder as encoder_stage
import prepare
from bitter_retrieval.encoders.encoder import Usage, load_encoder
from bitter_retrieval.evaluation.given_models import point_to_encoder
from bitter_retrieval.files.hub_datasets import DatasetError, hub_parts, refuse_unavailable
from bitter_retrieval.files.settings import Hub
from bitter_retrieval.labels.settings import TRAIN
from bitter_retrieval.models import hub
from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.readers.language_model import ReaderSettings, open_reader
from bitter_retrieval.records import PREPARED, write_rows

TOKEN = "hf_TESTdoNotShow5b21aa07"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "meta-llama/Llama-3.1-8B"
SOURCE = Path(hub.__file__).parents[2]
Headers = dict[str, str]


class Refusing(ThreadingHTTPServer):
    """Answers everything with one status and its headers, or not at all; it may describe a repo to all (tells)."""

    daemon_threads = True

    def __init__(self, status: int, headers: Headers, tells: bool = False) -> None:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                if status == SILENT:
                    time.sleep(30)
                    return
                if tells and self.path.startswith("/api/") and not self.path.endswith("/auth-check"):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(json.dumps({"id": MODEL, "sha": COMMIT, "siblings": []}).encode())
                    return
                token = self.headers.get("Authorization", "no token")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, f"{value} {token}" if name == "X-Error-Message" else value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(json.dumps({"error": f"refused: {token}"}).encode())

            do_GET = do_HEAD = answer

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


SILENT = 0
MESSAGE = {"X-Error-Message": "see"}
GATED = (401, MESSAGE | {"X-Error-Code": "GatedRepo"})
NO_ACCESS = (403, MESSAGE | {"X-Error-Code": "GatedRepo"})
ABSENT = (404, MESSAGE | {"X-Error-Code": "RepoNotFound"})
PRIVATE = (401, MESSAGE | {"X-Error-Code": "RepoNotFound"})
NO_REVISION = (404, MESSAGE | {"X-Error-Code": "RevisionNotFound"})
NO_FILE = (404, MESSAGE | {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
BAD_TOKEN = (401, {"X-Error-Message": "Invalid credentials in Authorization header"})
FORBIDDEN = (403, MESSAGE)
DOWN = (503, MESSAGE)
LOGIN = "`export HF_TOKEN=…` or `hf auth login`"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point huggingface_hub at a service, with an empty cache."""

    def point(url: str) -> None:
        hub.unreachable.cache_clear()
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(tmp_path / "no-token"))

    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return point


@pytest.fixture
def refusing(request: pytest.FixtureRequest, client: Callable[[str], None]) -> Iterator[str]:
    with Refusing(*request.param) as service:
        client(service.url)
        yield service.url
        service.shutdown()


def refused(model: str = MODEL, revision: str | None = COMMIT) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_reader("mine", model, revision, ReaderSettings(tiny.PROMPT.template, "float32", 96, 6))
    message = str(caught.value)
    assert "\n" not in message and TOKEN not in message and message.startswith(f"model {model!r}: ")
    return message.removeprefix(f"model {model!r}: ")


NONE, LITTLE = "no token is set", "the token that is set has no access"
LOOK = "Ask for access at {url}/" + MODEL
CHECK = "Check the name; if it is private, " + LOGIN
FINE = "At {url}/settings/tokens, allow a fine-grained one to read gated repositories"
OTHER = "Make another at {url}/settings/tokens, then " + LOGIN


@pytest.mark.parametrize(
    ("refusing", "token", "said"),
    [
        (GATED, None, f"it is gated, and {NONE}. {LOOK}, then {LOGIN}."),
        ((*GATED, True), None, f"it is gated, and {NONE}. {LOOK}, then {LOGIN}."),
        ((*NO_ACCESS, True), TOKEN, f"it is gated, and {LITTLE}. {LOOK}, then {LOGIN}."),
        (ABSENT, TOKEN, f"{{url}} has no repository of that name for you, and {LITTLE}. {CHECK}."),
        (PRIVATE, None, f"{{url}} has no repository of that name for you, and {NONE}. {CHECK}."),
        (
            NO_REVISION,
            None,
            f"it has no commit {COMMIT}. `git ls-remote {{url}}/{MODEL} HEAD` prints the current one.",
        ),
        ((*NO_FILE, True), TOKEN, "there is no config.json. A checkpoint has one, weights and a tokenizer."),
        (BAD_TOKEN, TOKEN, f"{{url}} does not know the token that is set. {OTHER}."),
        (FORBIDDEN, TOKEN, f"{{url}} answers with status 403, as {LITTLE}. {FINE}; then {LOGIN}."),
        (DOWN, TOKEN, "{url} answers with status 503. Try again later."),
    ],
    indirect=["refusing"],
)
def test_refusal_is_told_with_its_remedy(
    refusing: str, token: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    started = time.monotonic()
    assert refused() == said.format(url=refusing)
    assert time.monotonic() - started < 5
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("refusing", "token", "said"),
    [((*GATED, True), None, NONE), ((*NO_ACCESS, True), TOKEN, LITTLE)],
    indirect=["refusing"],
)
def test_gated_dataset_is_told_as_one_though_its_page_is_open(
    refusing: str, token: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub describes a dataset to all and keeps its files; `datasets` then says that there is none."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    page = f"{refusing}/datasets/them/gated"
    for ask in (refuse_unavailable, hub_parts):
        with pytest.raises(DatasetError) as caught:
            ask(Hub("them/gated", COMMIT), "data.hub", "data.path")
        wanted = f"{COMMIT}: it is gated, and {said}. Ask for access at {page}, then {LOGIN}. Or put its files into"
        assert wanted in str(caught.value) and TOKEN not in str(caught.value)


UNREACHED = "{url} cannot be reached, and the cache does not hold it. Connect; or run `hf download {model}{at}` where "
UNREACHED += "there is a network, and name the folder instead."


@pytest.mark.parametrize("refusing", [(SILENT, {})], indirect=True)
def test_hub_that_does_not_answer_is_not_waited_for(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is five seconds; here, half a second."""
    assert hub.CONTACT_SECONDS == 5
    monkeypatch.setattr(hub, "CONTACT_SECONDS", 0.5)
    started = time.monotonic()
    assert refused() == UNREACHED.format(url=refusing, model=MODEL, at=f" --revision {COMMIT}")
    assert time.monotonic() - started < 2


def test_no_network_and_offline_mode_are_told_alike(
    client: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    client("http://127.0.0.1:1")
    wanted = UNREACHED.format(url="http://127.0.0.1:1", model=MODEL, at="")
    started = time.monotonic()
    assert refused(revision=None) == wanted
    assert time.monotonic() - started < 5
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refused(revision=None) == wanted


def test_path_that_is_no_folder_and_no_name_of_a_hub_is_told(client: Callable[[str], None]) -> None:
    client("http://127.0.0.1:1")
    assert "models/runs/kl/seed0" in refused("models/runs/kl/seed0", None)


# -- through the stages ----------------------------------------------------------------------------------------------


def save_models(folder: Path) -> dict[str, dict[str, bytes]]:
    tiny.tiny_encoder().save(folder / "bert")
    reader = tiny.tiny_reader(tokenizer="bpe")
    for part in (reader.model, reader.tokenizer):
        part.save_pretrained(folder / "qwen")
    return {
        model: {path.name: path.read_bytes() for path in (folder / model).iterdir() if path.is_file()}
        for model in ("bert", "qwen")
    }


@pytest.fixture
def service(
    client: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[hub_service.Hub]:
    """A hub that has a reader and an encoder, for those with a token."""
    with hub_service.Hub() as found:
        for name, files in save_models(tmp_path).items():
            found.repos["model", f"me/{name}"] = hub_service.Repo("model", f"me/{name}", True, [files])
        client(found.url)
        monkeypatch.setenv("HF_TOKEN", hub_service.TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield found


def test_models_of_a_hub_are_those_of_their_folders_and_need_it_once(
    service: hub_service.Hub, tmp_path: Path, client: Callable[[str], None]
) -> None:
    head = service.repos["model", "me/bert"].head
    encoder_stage.point(tmp_path / "encoders/bert", "me/bert", head, Usage("cls", "", "", 32))
    settings = ReaderSettings(tiny.PROMPT.template, "float32", 96, 6)
    reader = open_reader("mine", "me/qwen", None, settings)
    assert reader.model.config._commit_hash == service.repos["model", "me/qwen"].head
    client("http://127.0.0.1:1")
    texts = ["Dorin owns a dog.", "goat"]
    wanted = tiny.tiny_encoder(pooling="cls").embed(texts, "query", 99)
    assert (load_encoder(tmp_path / "encoders/bert").embed(texts, "query", 99) == wanted).all()
    for revision in (service.repos["model", "me/qwen"].head, None):
        assert open_reader("mine", "me/qwen", revision, settings).identity == reader.identity
    assert hub_service.TOKEN not in (tmp_path / "encoders/bert/source.json").read_text()


@pytest.mark.parametrize("silence", ["offline", "http://127.0.0.1:1"])
def test_models_that_were_downloaded_whole_need_no_hub(
    silence: str,
    service: hub_service.Hub,
    tmp_path: Path,
    client: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by `hf download`, which leaves no word on the files that a model lacks, such as adapter_config.json."""
    heads = {name: service.repos["model", f"me/{name}"].head for name in ("bert", "qwen")}
    for name, head in heads.items():
        for file in service.repos["model", f"me/{name}"].files:
            huggingface_hub.hf_hub_download(f"me/{name}", file, revision=head)
    if silence == "offline":
        hub.unreachable.cache_clear()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        client(silence)
    encoder_stage.point(tmp_path / "encoders/bert", "me/bert", heads["bert"], Usage("cls", "", "", 32))
    wanted = tiny.tiny_encoder(pooling="cls").embed(["goat"], "query", 99)
    assert (load_encoder(tmp_path / "encoders/bert").embed(["goat"], "query", 99) == wanted).all()
    settings = ReaderSettings(tiny.PROMPT.template, "float32", 96, 6)
    assert open_reader("mine", "me/qwen", heads["qwen"], settings).model.config._commit_hash == heads["qwen"]


def test_how_an_encoder_is_used_is_its_files_word_or_an_error(
    service: hub_service.Hub, tmp_path: Path, client: Callable[[str], None]
) -> None:
    """A file that could not be fetched is not an absent one."""
    files = service.repos["model", "me/bert"].states[0]
    files["1_Pooling/config.json"] = (tmp_path / "bert/1_Pooling/config.json").read_bytes()
    del files["config_sentence_transformers.json"]
    service.fail = lambda method, path: 403 if path.endswith("modules.json") else None
    given = tmp_path / "pointer", "me/bert", None
    with pytest.raises(CheckpointError, match="me/bert': .* answers with status 403"):
        point_to_encoder(*given, {}, {}, print)
    service.fail = lambda method, path: None
    _, wanted = point_to_encoder(*given, {}, {}, print)
    head = service.repos["model", "me/bert"].head
    assert wanted == {"model": "me/bert", "revision": head} | vars(Usage("mean", "", "", 32))
    client("http://127.0.0.1:1")
    assert point_to_encoder(*given[:2], head, {}, {}, print)[1] == wanted


def test_token_of_the_env_file_is_taken_and_told_nowhere(
    service: hub_service.Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("HF_TOKEN")
    assert LOGIN in refused("me/bert", service.repos["model", "me/bert"].head)
    (tmp_path / ".env").write_text(f"HF_TOKEN={hub_service.TOKEN}\n")
    encoder_stage.point(tmp_path / "encoders/bert", "me/bert", None, Usage("mean", "", "", 32))
    assert load_encoder(tmp_path / "encoders/bert").embed(["goat"], "query", 99).shape[0] == 1
    assert ("GET", f"/me/bert/resolve/{service.repos['model', 'me/bert'].head}/model.safetensors") in service.requests
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.name for file in files if hub_service.TOKEN.encode() in file.read_bytes()] == [".env"]
    assert hub_service.TOKEN not in "".join(capfd.readouterr()) + caplog.text


LATER = {"revision": COMMIT, "id": "them/data"}
ASKED_FOR = {"source": "squad", "path": "data/raw", "hub": LATER, "seed": 0, "candidates": 3}
SCORING = {"dtype": "float32", "chat": False, "max_length": 64, "batch_tokens": 64}


@pytest.mark.parametrize(
    ("section", "entry", "said"),
    [
        ("beyond", ASKED_FOR | {"articles": {"reader": 0, "train": 0, "validation": 0, "test": 1}}, "beyond.hub: them"),
        ("labels", {"theirs": {"kind": "published", "needs": TRAIN, "hub": LATER}}, "labels.theirs.hub: them"),
        ("judge", {"kind": "llm", "model": "me/absent", "min_coverage": 1.0}, "model 'me/absent': .* no repository of"),
        ("judge", {"kind": "llm", "model": "me/qwen", "min_coverage": 1.0}, "data/absent: no such file"),
    ],
)
def test_what_is_fetched_late_is_asked_for_before_data_are_read(
    section: str, entry: dict[str, Any], said: str, service: hub_service.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data themselves are absent: the stage ends with that if nothing else is wrong."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path("datasets").absolute())
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["data"] |= {"source": "jsonl", "path": "data/absent"}
    tree["labels"]["human"] = {"kind": "selected", "needs": TRAIN}
    del tree["labels"]["truth"]
    scoring = {"scoring": SCORING | {"revision": service.repos["model", "me/qwen"].head}}
    tree[section] = (tree[section] if section == "labels" else {}) | entry | (scoring if section == "judge" else {})
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=said):
        prepare.main([])


@pytest.mark.parametrize("stage", ["reader", "encoder"])
def test_stage_ends_with_the_remedy_and_without_the_token(stage: str, tmp_path: Path) -> None:
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    there = {"model": MODEL, "revision": COMMIT}
    for section, name in (("readers", "reader_a"), ("encoders", "mini")):
        tree[section][name] = {k: v for k, v in tree[section][name].items() if k != "fit"} | there
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    write_rows(tmp_path / "data/prepared/reader.parquet", [], PREPARED)
    with Refusing(*NO_ACCESS) as service:
        environment = {**os.environ, "HF_ENDPOINT": service.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
        command = [sys.executable, str(SOURCE / f"{stage}.py"), {"reader": "reader_a", "encoder": "mini"}[stage]]
        started = time.monotonic()
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert time.monotonic() - started < 30  # most of it importing torch, on a busy machine
        service.shutdown()
    assert done.returncode == 1 and TOKEN not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: model '{MODEL}': it is gated, and {LITTLE}.")
