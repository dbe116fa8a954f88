"""The stage label by a reader: every split with its account, and the same bytes again."""

import json
from pathlib import Path

import pytest
import tiny
import yaml
from commands import refused, run
from saved_reader import ASKED, TOO_LONG, losses, save_reader

import label
from bitter_retrieval.readers.language_model import ReaderSettings, save_settings
from bitter_retrieval.records import PREPARED, SOFT_LABELS, read_rows, write_rows


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared splits, one with an answer that no reader here can take, and models/readers/reader_a."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["label"] |= {"mlflow": False, "unscorable": "skip", "batch_tokens": 300}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    for place, split in enumerate(label.SPLITS):
        rows = tiny.world(3, 3 * place)
        if split == "test":
            rows[1] = {**rows[1], "answers": [rows[1]["answers"][0], TOO_LONG]}
        write_rows(label.PREPARED_FOLDER / f"{split}.parquet", rows, PREPARED)
    folder = save_reader(tmp_path / "models/readers/reader_a")
    save_settings(folder, ReaderSettings(**{**ASKED, "max_length": 96}))
    return tmp_path


def test_stage_labels_every_split_and_accounts_for_it(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(label, "reader_a", monkeypatch=monkeypatch)
    accounts = json.loads((label.METRICS / "reader_a.json").read_text())
    assert list(accounts) == list(label.SPLITS)
    assert [accounts[split]["unscorable"] for split in label.SPLITS] == [0, 0, 4]
    assert not any("second" in name for account in accounts.values() for name in account)  # no times in a DVC output
    for place, split in enumerate(label.SPLITS):
        rows = read_rows(label.LABELS / "reader_a" / f"{split}.parquet", SOFT_LABELS)
        found = [row["nll_sum"] for row in rows if row["answer_index"] == 0]
        assert found == pytest.approx(losses(stage / "models/readers/reader_a", tiny.world(3, 3 * place)), abs=1e-4)


def test_stage_that_is_run_again_writes_the_same_bytes(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [label.METRICS / "reader_a.json", *(label.LABELS / f"reader_a/{split}.parquet" for split in label.SPLITS)]
    written = []
    for _ in range(2):
        run(label, "reader_a", monkeypatch=monkeypatch)
        written.append([file.read_bytes() for file in files])
        for file in files:
            file.unlink()
    assert written[0] == written[1]


def test_source_that_params_do_not_have_is_named(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "reader_x" in (message := refused(label, "reader_x", monkeypatch=monkeypatch)) and "reader_a" in message
    assert not label.LABELS.exists()
