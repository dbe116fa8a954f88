"""experiments: calls of DVC and git, and refusals."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bitter_retrieval.studies import experiments
from bitter_retrieval.studies.experiments import ExperimentError

WANTED = {"one": {"data.seed": "1"}, "two": {"data.seed": "2", "++runs.kl.learning_rate": "0.01"}}


def entry(name: str, rev: str, params: dict[str, Any], state: str = "success") -> dict[str, Any]:
    metrics = {experiments.SUMMARY: {"data": {"em": {"kl": 0.6}}}}
    data = {"params": {"params.yaml": {"data": params}}, "metrics": metrics}
    return {"name": name, "revs": [{"rev": rev, "data": data}], "executor": {"state": state}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of a DVC that knows no experiment."""
    calls: list[tuple[str, ...]] = []

    def dvc(*arguments: str) -> str:
        calls.append(arguments)
        return "[]"

    monkeypatch.setattr(experiments, "dvc", dvc)
    return calls


def test_a_queued_experiment_has_its_name_and_settings(asked: list[tuple[str, ...]]) -> None:
    experiments.queue(WANTED)
    settings = ("--set-param=data.seed=2", "--set-param=++runs.kl.learning_rate=0.01")
    assert asked[:2] == [("queue", "status"), ("exp", "show", "--json", "--rev", "HEAD")]
    assert asked[3] == ("exp", "run", "--queue", "--name", "two", *settings)


@pytest.mark.parametrize("left", ["nothing", "another process", "its process"])
def test_what_was_killed_is_queued_again(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC 3.67 calls it running for ever, and `dvc exp run --run-all` waits for it for ever."""
    if left == "another process" and not Path("/proc/self/cmdline").exists():
        pytest.skip("this system does not tell what a process is")
    task, calls = "1916025" + 33 * "0", []
    status = (
        "Task     Name    Created    Status\n1916025  one     02:53 AM   Running\nd1e7cff  two     02:53 AM   Queued\n"
    )
    state = {"one": "running", "two": "queued"}
    waits = [sys.executable, "-c", "import time; time.sleep(60)", task if left == "its process" else "other"]
    process = subprocess.Popen(waits)
    told = Path(f"/proc/{process.pid}/cmdline")
    while told.exists() and waits[-1] not in told.read_text():  # the system tells it a moment after the start
        time.sleep(0.001)
    if left == "nothing":
        process.kill()
        process.wait()
    file = tmp_path / f".dvc/tmp/exps/run/{task}/{task}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"pid": process.pid, "returncode": None}))

    def dvc(*arguments: str) -> str:
        calls.append(arguments)
        if arguments == ("queue", "kill", "1916025"):
            assert json.loads(file.read_text())["returncode"] == -1, "DVC signals a process without an exit status"
            state["one"] = "failed"
        shown = [{"experiments": [entry(name, "a", {}, state[name]) for name in state]}]
        return status if arguments == ("queue", "status") else json.dumps(shown)

    monkeypatch.setattr(experiments, "dvc", dvc)
    monkeypatch.chdir(tmp_path)
    try:
        experiments.queue(WANTED)
        assert left == "nothing" or process.poll() is None, "it was left alone"
    finally:
        process.kill()
        process.wait()
    assert [call[4] for call in calls if "--queue" in call] == ["one"] * (left != "its process")


def test_what_has_finished_is_found_without_the_rest() -> None:
    one, two = entry("one", "a", {"data": {"seed": 1}}), entry("two", "b", {"data": {"seed": 2}}, "running")
    assert list(experiments.finished([{"experiments": [two, one]}], WANTED)) == ["one"]
    with pytest.raises(ExperimentError, match=r"no result of two \(running\)"):
        experiments.results([{"experiments": [two, one]}], WANTED)


@pytest.mark.parametrize(
    ("wanted", "ran"),
    [("1e-3", 0.001), ("2E5", 2e5), ("4", 4.0), ("true", True), ("null", None), ("skim", "skim"), ("[1,2]", [1, 2])],
)
def test_a_setting_is_what_ran_however_it_is_written(wanted: str, ran: Any) -> None:
    shown = [{"experiments": [entry("one", "a", {"train": {"x": ran}})]}]
    assert experiments.results(shown, {"one": {"train.x": wanted}})["one"].rev == "a"
    for other in ("1.1e-3", "uniform"):
        with pytest.raises(ExperimentError, match=re.escape(f"ran with train.x={ran}, not {other}")):
            experiments.results(shown, {"one": {"train.x": other}})


def test_reports_are_those_of_the_experiments_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = []
    run = ["git", "-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run([*run, "init", "--quiet"], check=True)
    for name, seed in (("one", 1), ("two", 2)):
        Path("report.json").write_text(json.dumps({"of": name}))
        subprocess.run([*run, "add", "report.json"], check=True)
        subprocess.run([*run, "commit", "--quiet", "--message", name], check=True)
        rev = experiments.git("rev-parse", "HEAD").strip()
        shown.append(entry(name, rev, {"data": {"seed": seed}, "runs": {"kl": {"learning_rate": 0.01}}}))
    monkeypatch.setattr(experiments, "dvc", lambda *arguments: json.dumps([{"experiments": shown}]))
    assert experiments.reports(WANTED, "HEAD", "report.json") == {"one": {"of": "one"}, "two": {"of": "two"}}
    with pytest.raises(ExperimentError, match=r"`git show \w+:metrics/report.json` failed:\n.*does not exist"):
        experiments.reports(WANTED, "HEAD")


def test_dvc_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dvc"
    program.write_text("#!/bin/sh\necho 'ERROR: not a DVC repository' >&2\nexit 253\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ExperimentError, match="dvc exp show --json` failed:\nERROR: not a DVC repository"):
        experiments.dvc("exp", "show", "--json")
