"""Named DVC experiments: queue them, list their states, read their results.

    wanted = {"world-101": {"data.seed": "101"}, "world-102": {"data.seed": "102"}}    settings by name
    queue(wanted)                        dvc exp run --queue --name world-101 --set-param=data.seed=101, …
    finished(shown("HEAD"), wanted)      {"world-101": Result("world-101", "success", "14db831b…", {…})}
    states(shown("HEAD"))                {"world-101": "success", "world-102": "running"}
    reports(wanted, "HEAD")["world-101"]["about"]["baseline"]                          "infonce"

A setting follows Hydra's grammar; "++key" may be absent from params.yaml. A name has no dots, as they mean something
else to git and DVC. Experiments belong to a commit, and DVC reuses what a setting does not change.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bitter_retrieval.records import write_text
from bitter_retrieval.typed_yaml import parse_yaml

Wanted = Mapping[str, Mapping[str, str]]
Shown = Sequence[Mapping[str, Any]]  # what `dvc exp show --json` prints
SUMMARY = "metrics/summary.json"  # an experiment without it has failed
REPORT = "metrics/report.json"
PROCESSES = Path(".dvc/tmp/exps/run")  # DVC 3.67: <task>/<task>.json has the process of an experiment
STATES = ("failed", "queued", "running", "success")  # the best last


class ExperimentError(ValueError):
    """Experiments that cannot be queued or read, and what to do about it."""


class Result(NamedTuple):
    """What `dvc exp show` says of one experiment."""

    name: str
    state: str
    rev: str  # commit, if the experiment succeeded
    data: Mapping[str, Any]  # params, metrics


def queue(wanted: Wanted) -> None:
    """Queue on the last commit what has not succeeded, is not queued and does not run; print what was done.

    Experiments that ran when the machine or DVC's worker was stopped are queued again.
    """
    _fail_stopped()
    known = states(shown("HEAD"))
    for name, settings in wanted.items():
        if known.get(name) in ("success", "queued", "running"):
            print(f"{name}: {known[name]}, not queued again")
            continue
        dvc("exp", "run", "--queue", "--name", name, *[f"--set-param={key}={value}" for key, value in settings.items()])
        print(f"{name}: queued")
    print("\nRun them:   dvc exp run --run-all   (or in the background: dvc queue start -j 1)")


def _fail_stopped() -> None:
    """Mark as failed what ran when it was killed: DVC takes it to run, and waits for it, for ever.

    `dvc queue status` also counts workers, but none that does not answer in time on a busy machine.
    """
    tasks = [line.split()[0] for line in dvc("queue", "status").splitlines() if line.endswith("Running")]
    for file in (file for task in tasks for file in PROCESSES.glob(f"{task}*/{task}*.json")):
        process = json.loads(file.read_text(encoding="utf-8"))
        if process["returncode"] is None and not _runs(process["pid"], file.stem):
            # Without an exit status DVC interrupts whatever process has this number by now.
            write_text(file, json.dumps(process | {"returncode": -1}))
            dvc("queue", "kill", file.stem[:7])


def _runs(pid: int, task: str) -> bool:
    """Whether a process is there and, where the system tells what it is (Linux), works on this task."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    told = Path(f"/proc/{pid}/cmdline")
    return not told.exists() or task in told.read_text(encoding="utf-8", errors="replace")


def reports(wanted: Wanted, rev: str, path: str = REPORT) -> dict[str, dict[str, Any]]:
    """A JSON file of every wanted experiment on a commit, by name. Raises ExperimentError as `results` does."""
    return {name: read(result, path) for name, result in results(shown(rev), wanted).items()}


def read(result: Result, path: str = REPORT) -> dict[str, Any]:
    """A JSON file of an experiment, which git keeps."""
    return json.loads(git("show", f"{result.rev}:{path}"))


def states(shown: Shown) -> dict[str, str]:
    """State of each experiment by name; the best one (STATES) where a name occurs twice."""
    found: dict[str, str] = {}
    for result in all_results(shown):
        found[result.name] = max(found.get(result.name, result.state), result.state, key=_order)
    return found


def results(shown: Shown, wanted: Wanted) -> dict[str, Result]:
    """Results in the order wanted. Raises ExperimentError naming those without one, or one with other settings."""
    state = states(shown)
    missing = {name: state.get(name, "not found") for name in wanted if state.get(name) != "success"}
    if missing:
        said = ", ".join(f"{name} ({why})" for name, why in missing.items())
        remedy = "Queue them, then `dvc exp run --run-all`; `dvc queue logs <name>` says why one failed."
        raise ExperimentError(f"no result of {said}. {remedy}")
    return finished(shown, wanted)


def finished(shown: Shown, wanted: Wanted) -> dict[str, Result]:
    """Results that are there, in the order wanted. Raises ExperimentError on one with other settings."""
    found = {result.name: result for result in all_results(shown) if result.state == "success"}
    found = {name: found[name] for name in wanted if name in found}
    for name, result in found.items():
        _check(result, wanted[name])
    return found


def shown(rev: str) -> list[dict[str, Any]]:
    """What `dvc exp show` knows of the experiments on a commit."""
    return json.loads(dvc("exp", "show", "--json", "--rev", rev))


def dvc(*arguments: str) -> str:
    """Standard output of DVC. Raises ExperimentError with its error output if it fails."""
    installed = Path(sys.executable).with_name("dvc")
    program = shutil.which("dvc") or (str(installed) if installed.exists() else None)
    if program is None:
        raise ExperimentError("dvc is neither on PATH nor next to this Python. `make repro` installs it into .venv.")
    return _output(program, *arguments)


def git(*arguments: str) -> str:
    """Standard output of git. Raises ExperimentError with its error output if it fails."""
    return _output("git", *arguments)


def _output(program: str, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        command = shlex.join([Path(program).name, *arguments])
        raise ExperimentError(f"`{command}` failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _order(state: str) -> int:
    return STATES.index(state) if state in STATES else 0


def all_results(shown: Shown) -> Iterator[Result]:
    """Every experiment; one that ran outside the queue has no executor."""
    for commit in shown:
        for experiment in commit.get("experiments") or []:
            last = experiment["revs"][0]
            state = (experiment.get("executor") or {}).get("state") or "success"
            broken = last.get("error") or not (last.get("data") or {}).get("metrics", {}).get(SUMMARY, {}).get("data")
            name = experiment["name"] or last["rev"][:7]
            yield Result(name, "failed" if state == "success" and broken else state, last["rev"], last["data"])


def _check(result: Result, settings: Mapping[str, str]) -> None:
    """Raises ExperimentError if an experiment ran with other settings than these."""
    for key, value in settings.items():
        ran: Any = result.data["params"]["params.yaml"]["data"]
        for part in (key := key.lstrip("+")).split("."):
            ran = ran.get(part) if isinstance(ran, Mapping) else None
        if not _same(ran, value):
            remedy = f"`dvc exp remove {result.name}`, then queue it again."
            raise ExperimentError(f"experiment {result.name} ran with {key}={ran}, not {value}: {remedy}")


def _same(ran: Any, wanted: str) -> bool:
    return ran == parse_yaml(f"wanted: {wanted}", "a setting")["wanted"]
