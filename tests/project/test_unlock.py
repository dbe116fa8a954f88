"""A lock file of DVC that a kill has left empty is removed, unless DVC runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from workspace import Workspace

import unlock

WHOLE = '{"write": {}, "read": {}}'


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    unlock.LOCK.parent.mkdir(parents=True)
    Path(".git").mkdir()
    return unlock.LOCK


@pytest.mark.parametrize("left", ["", '{"write": {"a', "[]", "\0\0\0"])
def test_a_broken_lock_is_removed_with_a_line(lock: Path, left: str, capsys: pytest.CaptureFixture[str]) -> None:
    lock.write_text(left)
    unlock.main([])
    assert not lock.exists()
    said = capsys.readouterr().err
    assert said == f"{lock}: removed, as a kill had left it broken and no process of DVC runs here.\n"


def test_a_whole_lock_stays_and_an_absent_one_is_no_error(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unlock.main([])
    lock.write_text(WHOLE)
    unlock.main([])
    assert lock.read_text() == WHOLE and capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["here", "below", "elsewhere"])
def test_while_dvc_runs_here_nothing_is_removed(
    lock: Path, tmp_path_factory: pytest.TempPathFactory, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock.write_text("")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "dvc").write_text("print('up', flush=True)\nimport time\ntime.sleep(60)")
    cwd = {"here": Path.cwd(), "below": lock.parent, "elsewhere": elsewhere}[place]
    command = [sys.executable, str(elsewhere / "dvc"), "repro"]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            unlock.main([])
        finally:
            process.kill()
    assert lock.exists() == (place != "elsewhere")
    assert (f"DVC runs here (process {process.pid})" in capsys.readouterr().err) == (place != "elsewhere")


@pytest.mark.slow
def test_dvc_goes_on_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    unlock.LOCK.write_text("")
    process = workspace.start("repro", "check")
    output, _ = process.communicate()
    assert process.returncode != 0 and "Unable to read RWLock-file" in output
    unlock.main([])
    assert "Running stage 'check'" in workspace.dvc("repro", "check")
