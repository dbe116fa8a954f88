"""No secret in any output: what the scripts that know one write and say, from the environment and from .env.

The services repeat the key in every reply. publish.py, which knows a token too: tests/publishing/test_publish.py.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import yaml
from gemini_service import KEY, Service, refused, replied
from hub_service import TOKEN, Hub

from bitter_retrieval.models.credentials import concealed
from bitter_retrieval.params import load_params
from bitter_retrieval.records import PREDICTIONS, PREPARED, write_rows

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "s3cretTESTdoNotShow"
SECRETS = {"GEMINI_API_KEY": KEY, "HF_TOKEN": TOKEN}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TRACKED = """
from bitter_retrieval.tracking import open_tracker
with open_tracker(True, "kl/seed0", {"a": 1}, {}, {}) as tracker:
    tracker.log(0, {"loss/kl": 1.0})
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as service:
        yield service


@pytest.fixture
def gemini() -> Iterator[Service]:
    """Refuses, answers with the key, and gives a verdict, in turn."""
    replies = [refused(400), replied(KEY), replied("YES")]

    async def behave(prompt: str) -> bytes:
        return replies[sum(service.requests.values()) % 3]

    service = Service(behave)
    with service:
        yield service


def project(folder: Path) -> Path:
    """One question with nine answers; a reader, an encoder and a judge that somebody else has."""
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["runs"] = {name: tree["runs"][name] for name in ("infonce", "kl")}
    there = {"model": "me/absent", "revision": COMMIT}
    for section, name in (("readers", "reader_a"), ("encoders", "mini")):
        tree[section][name] = {key: value for key, value in tree[section][name].items() if key != "fit"} | there
    calls = {"in_flight": 1, "per_minute": 1e9, "timeout": 10, "attempts": 1, "first_wait": 0, "longest_wait": 1}
    tree["judge"] = {"kind": "gemini", "model": "gemini-test", "min_coverage": 1.0, "calls": calls}
    tree["judge"] |= {"cost": {"limit": 9, "input": 0, "output": 0}}
    tree["judge"]["calls"]["output_tokens"] = 8
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    question = {"query_id": "q", "group_id": "g", "query": "Where?", "answers": ["Calder"], "passages": []}
    for name, rows in {"test": [question], "beyond": [], "reader": []}.items():
        write_rows(folder / f"data/prepared/{name}.parquet", rows, PREPARED)
    row = dict.fromkeys(PREDICTIONS.names) | {"reader": "reader_a", "seed": 0, "query_id": "q", "group_id": "g"}
    row |= {"beyond": False, "system": "kl"}
    given = [row | {"answer": f"answer {number}"} for number in range(9)]
    for name in ("infonce", "kl"):
        write_rows(folder / f"data/predictions/runs/{name}.parquet", given, PREDICTIONS)
    for name in load_params(folder / "params.yaml").controls:
        write_rows(folder / f"data/predictions/controls/{name}.parquet", given, PREDICTIONS)
    return folder


def said(folder: Path, *command: str, place: str, **services: str) -> str:
    """Output of a command that gets the secrets from the environment or from .env."""
    known = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    own = {"HF_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY / "src"), "DVC_ROOT": ""} | services
    if place == ".env":
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in SECRETS.items()))
    else:
        own |= SECRETS
    done = subprocess.run([sys.executable, *command], cwd=folder, env=known | own, capture_output=True, text=True)
    return done.stdout + done.stderr


def hold_a_secret(folder: Path) -> list[str]:
    secrets = [secret.encode() for secret in (*SECRETS.values(), PASSWORD)]
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".env"]
    assert len(files) > 8
    return [str(file) for file in files if any(secret in file.read_bytes() for secret in secrets)]


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_no_stage_writes_or_says_a_key(place: str, tmp_path: Path, hub: Hub, gemini: Service) -> None:
    folder = project(tmp_path)
    hub.fail = lambda method, path: 403
    services = {"HF_ENDPOINT": hub.url, "GOOGLE_GEMINI_BASE_URL": gemini.url}
    scripts = {"judge": [], "reader": ["reader_a"], "encoder": ["mini"]}
    told = {
        script: said(folder, str(REPOSITORY / f"src/{script}.py"), *given, place=place, **services)
        for script, given in scripts.items()
    }
    assert "HTTP 400" in told["judge"] and gemini.keys == {KEY}, told["judge"]
    assert "status 403" in told["reader"] and "status 403" in told["encoder"] and hub.requests
    for text in told.values():
        assert KEY not in text and TOKEN not in text and "Traceback" not in text
    assert hold_a_secret(folder) == [] and (folder / "data/judgements.parquet").exists()


@pytest.mark.parametrize("scheme", ["http", "odd"])
def test_no_login_of_a_tracking_server_is_said(scheme: str, tmp_path: Path) -> None:
    uri = f"{scheme}://me:{PASSWORD}@127.0.0.1:1"
    text = said(
        tmp_path, "-c", TRACKED, place="environment", MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
    )
    assert "MLflow: no curves of kl/seed0" in text and "127.0.0.1:1" in text and PASSWORD not in text


def test_no_login_of_a_hub_is_said(tmp_path: Path) -> None:
    folder = project(tmp_path)
    where = f"http://me:{PASSWORD}@127.0.0.1:1"
    text = said(folder, str(REPOSITORY / "src/encoder.py"), "mini", place="environment", HF_ENDPOINT=where)
    assert "http://127.0.0.1:1 cannot be reached" in text and PASSWORD not in text
    assert hold_a_secret(folder) == []


def test_concealed() -> None:
    assert concealed("a KEY, b", "KEY", None, "") == "a [the key], b"
    assert concealed("at https://me:p%40ss@host/x and a@b.org") == "at https://host/x and a@b.org"
