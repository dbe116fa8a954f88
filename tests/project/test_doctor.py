"""The doctor's lines, with keys, GPU, hub and busy processes as the test wants them."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import tiny
import torch
import yaml

import doctor

SECRET = "hf_thisIsTheValue"
CALLS = {"in_flight": 1, "per_minute": 9, "timeout": 9, "attempts": 1, "first_wait": 1, "longest_wait": 1}
CALLS |= {"output_tokens": 9}
GEMINI = {"model": "gemini", "min_coverage": 0.9, "calls": CALLS, "cost": {"limit": 5, "input": 0.1, "output": 0.4}}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has all that is needed, without keys, hub and GPU."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "params.yaml").write_text(tiny.PROFILE.read_text())
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(doctor, "watched", dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """Exit status, and what is said by its subject."""
    status = 0
    try:
        doctor.main(arguments)
    except SystemExit as ended:
        status = ended.code
    told = capsys.readouterr().out
    assert SECRET not in told
    found: dict[str, str] = {}
    for line in told.splitlines():
        state, about, words = line[:8].strip(), line[8:19].strip(), line[19:]
        found[f"{about} {words.split()[0].rstrip(':')}" if about == "key" else about] = f"{state}: {words}"
    return status, found


def test_nothing_that_repro_needs_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = lines(capsys)
    assert status == 0 and not [line for line in told.values() if line.startswith("missing")]
    assert told["params"] == "ok: params.yaml is right" and told["torch"].startswith(f"ok: {torch.__version__}, CUDA")
    assert "requirements-gpu.txt" in told["flash-attn"] and told["remote"].startswith("note: none: `dvc remote add")
    assert told["git"].startswith("note: no repository")
    assert set(lines(capsys, "--brief")[1]) == {"cores"}


def test_keys_are_set_or_not_and_never_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, told = lines(capsys)
    assert told["key HF_TOKEN"].startswith("note: HF_TOKEN: no key: set HF_TOKEN in the environment, or copy")
    (project / ".env").write_text(f"HF_TOKEN={SECRET}\n")
    assert lines(capsys)[1]["key HF_TOKEN"] == "ok: HF_TOKEN is set"


def test_a_judge_without_its_key_is_missing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["judge"] = {"kind": "gemini"} | GEMINI
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    status, told = lines(capsys)
    assert status == 1 and told["key GEMINI_API_KEY"].startswith("missing: ")
    monkeypatch.setenv("GOOGLE_API_KEY", SECRET)
    assert lines(capsys)[0] == 0


def test_a_gpu_and_its_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys)[1]["GPU"].startswith("note: none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "H200")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (100 * 10**9, 140 * 10**9))
    assert lines(capsys)[1]["GPU"] == "ok: H200: 100 of 140 GB free"


@pytest.fixture(params=[200, 503])
def endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found)
        yield found
        server.shutdown()


def test_a_hub_that_answers(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys)[1]["hub"].startswith(f"ok: {endpoint} answers")


def test_a_hub_that_does_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys)[1]["hub"].startswith("note: http://127.0.0.1:9 gives no answer (")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert lines(capsys)[1]["hub"].startswith("note: not asked, as HF_HUB_OFFLINE is set")


def test_a_login_in_the_hubs_address_is_not_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:secret@127.0.0.1:9")
    told = lines(capsys)[1]["hub"]
    assert "127.0.0.1:9 gives no answer" in told and "secret" not in told


@pytest.mark.parametrize("brief", [[], ["--brief"]])
def test_what_repro_cannot_do_without(project: Path, brief: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text() + "tarin: {}\n")
    status, told = lines(capsys, *brief)
    assert status == 1 and told["params"].startswith("missing: params.yaml: tarin: unknown key. Did you mean 'train'?")


@pytest.mark.parametrize(("free", "state", "status"), [(1, "missing", 1), (5, "note", 0), (50, "ok", 0)])
def test_free_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: int, state: str, status: int
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free * 10**9))
    ended, told = lines(capsys)
    assert ended == status and told["disk"].startswith(f"{state}: {free:.1f} GB free")


def test_remotes_and_git(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[core]\n    remote = storage\n['remote \"storage\"']\n    url = /x%y\n")
    _, told = lines(capsys)
    assert told["git"].startswith("ok: commit ") and told["remote"].startswith("ok: storage: ")


def test_others_that_compute_on_the_cores(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured: a process that counts is named, this one and its parents are not."""
    monkeypatch.undo()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            share = doctor.watched()[psutil.Process(process.pid)]
        finally:
            process.kill()
    assert share > 5
    monkeypatch.setattr(doctor, "watched", lambda: {psutil.Process(): 99.0, psutil.Process().parent(): 99.0})
    assert [found.state for found in doctor.busy()] == ["ok"]
    monkeypatch.setattr(doctor, "watched", lambda: {psutil.Process(1): 99.0})
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [])
    (found,) = doctor.busy()
    assert found.state == "note" and "(1, 99% of a core)" in found.told and "four times slower" in found.told
