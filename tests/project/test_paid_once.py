"""What has been computed is not computed again after a change and back, nor deleted by a wrong parameter."""

import re
import sqlite3
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from workspace import TREE, Workspace

from bitter_retrieval.evaluation.settings import Evaluate
from bitter_retrieval.journal import Journal

REPOSITORY = Path(__file__).parents[2]
COPIES = {"check", "figures", "compare"}  # seconds each; what they write is in git, or anyone's


def stages() -> dict[str, TREE]:
    tree = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in tree.items()}


@pytest.mark.parametrize("name", sorted(stages()))
def test_dvc_keeps_what_a_stage_makes(name: str) -> None:
    """DVC's run cache takes no stage with an out in git, nor one with an out that it leaves in place (`persist`)."""
    options = [option for out in stages()[name]["outs"] if isinstance(out, dict) for option in out.values()]
    assert all("cache" not in option for option in options) or name in COPIES
    assert not any("persist" in option for option in options) or name in {"label", "judge"}, "these have a journal"


@pytest.mark.parametrize("name", ["evaluate", "control"])
def test_answers_depend_on_all_of_evaluate_but_the_memory_of_a_batch(name: str) -> None:
    followed = {key for key in stages()[name]["params"] if key.partition(".")[0] == "evaluate"}
    assert followed == {f"evaluate.{field.name}" for field in fields(Evaluate)} - {"evaluate.batch_tokens"}


def test_a_journal_takes_in_another_by_the_documented_line(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/commands.md").read_text(encoding="utf-8")
    (line,) = re.findall(r'"(ATTACH .*)"', page)
    for place, items in {"": {"a": 1, "b": 2}, "theirs": {"b": 3, "c": [0.1, None]}}.items():
        (tmp_path / place).mkdir(exist_ok=True)
        with Journal(tmp_path / place / "judge.sqlite") as journal:
            journal.put(items)
    own = sqlite3.connect(tmp_path / "judge.sqlite")
    own.executescript(line.replace("theirs/$name", f"{tmp_path}/theirs/judge") + ";")
    own.close()
    with Journal(tmp_path / "judge.sqlite") as journal:
        assert journal.get("abc") == {"a": 1, "b": 2, "c": [0.1, None]}


@pytest.mark.slow
def test_a_fitted_reader_comes_back_and_a_wrong_name_deletes_none(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    weights = tmp_path / "models/readers/reader_a/model.safetensors"
    reader, params = "reader@reader_a", tmp_path / "params.yaml"
    before = params.read_text()

    def ran() -> set[str]:
        return set(re.findall(r"Running stage '(.+)'", workspace.dvc("repro", reader)))

    assert reader in ran()
    fitted = weights.read_bytes()
    workspace.edit(lambda tree: tree["readers"]["reader_a"].update(prompt="{passage} {query}"))
    assert reader in ran() and weights.read_bytes() != fitted
    params.write_text(before)
    assert reader not in ran() and weights.read_bytes() == fitted
    for right, wrong in (("max_new_tokens", "max_new_token"), ("max_new_tokens: ", "max_new_tokens: -")):
        params.write_text(before.replace(right, wrong))
        process = workspace.start("repro", reader)
        assert "params.yaml: readers.reader_a.max_new_token" in process.communicate()[0]
        assert process.returncode and weights.read_bytes() == fitted
