"""The examples of docs/ do what the text beside them says, and its links lead somewhere."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from loss_batches import SETTINGS, make_batch

import prepare
import use_profile
from bitter_retrieval.params import ParamsError, parse_params
from bitter_retrieval.records import PREPARED, read_rows
from bitter_retrieval.training import losses
from bitter_retrieval.typed_yaml import read_yaml

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def example(page: str, language: str, place: int = 0) -> str:
    """A block of code in that language: the first, unless told."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)[place]


def test_a_record_of_ones_own_and_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    mine = yaml.safe_load(example("own_data.md", "yaml"))
    tree = use_profile.merge(yaml.safe_load(use_profile.render(mine.pop("base"))), mine)
    record = json.loads(example("own_data.md", "json"))
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    asked: list[str] = []
    monkeypatch.setattr(prepare, "fetch", lambda model, *_: asked.append(model))
    Path("data/raw").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        own = record | {"query": f"{record['query']}, {split}", "group_id": split}
        Path(f"data/raw/{split}.jsonl").write_text(json.dumps(own) + "\n")
    prepare.main()
    (row,) = read_rows("data/prepared/train.parquet", PREPARED)
    assert row["answers"] == ["the Vistula"] and row["group_id"] == "train"
    assert [passage["is_selected"] for passage in row["passages"]] == [None, 1]
    assert asked == [tree["readers"]["qwen3"]["model"], tree["encoders"]["minilm"]["model"]]
    assert tree["evaluate"]["corpus_size"] is None and read_rows("data/prepared/beyond.parquet", PREPARED) == []
    for file in Path("data/raw").iterdir():
        file.unlink()
    own = [record | {"query": f"{record['query']}, {n}", "group_id": str(n)} for n in range(10)]
    Path("data/raw/mine.jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
    prepare.main()
    counted = [len(read_rows(f"data/prepared/{split}.parquet", PREPARED)) for split in prepare.SPLITS]
    assert counted == [0, 6, 1, 3], "a single file is divided by the shares"


def test_a_profile_for_data_without_human_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    mine, instead = (yaml.safe_load(example("own_data.md", "yaml", place)) for place in (0, 1))
    base = yaml.safe_load(use_profile.render(mine.pop("base")))
    trees = [use_profile.merge(base, part) for part in (mine, mine | instead)]
    monkeypatch.chdir(tmp_path)
    with_human_labels, without = (parse_params(tree, "docs") for tree in trees)
    record = json.loads(example("own_data.md", "json"))
    unlabelled = {"is_selected": None}
    rows = [record | {"passages": [passage | unlabelled for passage in record["passages"]]}]
    splits = dict.fromkeys(prepare.SPLITS, rows)
    prepare.refuse_unlabelled(splits, without)
    with pytest.raises(ParamsError, match="runs: infonce would learn from the passages that people selected"):
        prepare.refuse_unlabelled(splits, with_human_labels)


def test_a_run() -> None:
    tree = read_yaml(REPOSITORY / "profiles/default.yaml")
    tree["runs"] |= yaml.safe_load(example("adding_a_run.md", "yaml"))["runs"]
    assert parse_params(tree, "docs").runs["kl_sharp"].temperature.teacher == 0.1


def test_a_loss() -> None:
    module = vars(losses) | {"LOSSES": {}}
    lines = example("adding_a_loss.md", "python").splitlines()
    exec("\n".join(line.removeprefix("   ") for line in lines), module)
    batch = make_batch()
    similarity = batch.similarity.clone().requires_grad_()
    value = module["LOSSES"]["hinge_to_empty"].function(replace(batch, similarity=similarity), SETTINGS, None)
    value.mean.backward()
    assert value.mean > 0 and (similarity.grad[~batch.own] == 0).all() and (value.used == batch.own.any(1)).all()


@pytest.mark.parametrize("page", [*sorted(DOCS.glob("*.md")), REPOSITORY / "README.md"], ids=lambda path: path.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
