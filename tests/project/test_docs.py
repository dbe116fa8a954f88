"""The examples of docs/ do what their text says, and links lead somewhere."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from loss_batches import SETTINGS, make_batch

import compare
import prepare
import use_profile
from bitter_retrieval.params import parse_params
from bitter_retrieval.records import PREPARED, read_rows
from bitter_retrieval.training import losses
from bitter_retrieval.training.settings import Loss
from bitter_retrieval.typed_yaml import ParamsError, parse_yaml, read_yaml

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"


def example(page: str, language: str, place: int = 0) -> str:
    """A block of code in a language, by default the first one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)[place]


def test_your_own_record_and_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    mine = yaml.safe_load(example("own_data.md", "yaml"))
    tree = use_profile.merge(parse_yaml(use_profile.render(mine.pop("base")), "a profile"), mine)
    record = json.loads(example("own_data.md", "json"))
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    asked: list[str] = []
    monkeypatch.setattr(prepare, "fetch", lambda model, *_: asked.append(model))
    Path("data/raw").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        own = record | {"query": f"{record['query']}, {split}", "group_id": split}
        Path(f"data/raw/{split}.jsonl").write_text(json.dumps(own) + "\n")
    prepare.main([])
    (row,) = read_rows("data/prepared/train.parquet", PREPARED)
    assert row["answers"] == ["the Vistula"] and row["group_id"] == "train"
    assert [passage["is_selected"] for passage in row["passages"]] == [None, 1]
    assert asked == [tree["readers"]["qwen3"]["model"], tree["encoders"]["minilm"]["model"]]
    assert tree["evaluate"]["corpus_size"] is None and read_rows("data/prepared/beyond.parquet", PREPARED) == []
    for file in Path("data/raw").iterdir():
        file.unlink()
    own = [record | {"query": f"{record['query']}, {n}", "group_id": str(n)} for n in range(10)]
    Path("data/raw/mine.jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
    prepare.main([])
    counted = [len(read_rows(f"data/prepared/{split}.parquet", PREPARED)) for split in prepare.SPLITS]
    assert counted == [0, 6, 1, 3], "a single file is divided by the shares"


def test_a_profile_for_data_without_human_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    mine, instead = (yaml.safe_load(example("own_data.md", "yaml", place)) for place in (0, 1))
    base = parse_yaml(use_profile.render(mine.pop("base")), "a profile")
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


def test_a_judge() -> None:
    tree = read_yaml(REPOSITORY / "profiles/default.yaml") | yaml.safe_load(example("params.md", "yaml"))
    assert parse_params(tree, "docs").judge.min_coverage == 0.98


def test_a_run() -> None:
    tree = read_yaml(REPOSITORY / "profiles/default.yaml")
    tree["runs"] |= yaml.safe_load(example("training.md", "yaml"))["runs"]
    assert parse_params(tree, "docs").runs["kl_sharp"].temperature.teacher == 0.1


def test_a_loss() -> None:
    row, function = (example("../CONTRIBUTING.md", "python", place) for place in (0, 1))
    (loss,) = eval(f"{{{row}}}", {"Loss": Loss}).values()
    assert loss.labels == "soft" and not loss.in_batch
    module = dict(vars(losses))
    exec(function, module)
    batch = make_batch()
    similarity = batch.similarity.clone().requires_grad_()
    value = module["hinge_to_empty"](replace(batch, similarity=similarity), SETTINGS, None)
    value.mean.backward()
    assert value.mean > 0 and (similarity.grad[~batch.own] == 0).all() and (value.used == batch.own.any(1)).all()


# -- the README: short, true to the figures, and the way to every page ---------------------------------------------


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that `python src/compare.py --show` prints of the results in metrics/."""
    monkeypatch.chdir(REPOSITORY)
    compare.command(["--show"])
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 100


def test_rows_of_the_readme_are_those_of_the_confirmation() -> None:
    page = (DOCS / "confirm.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| ([\d.]+)% \| (\S+ \[\S+ \S+) \| (\S+) \| (\d of \d) \|", README.read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) == 4
    for error, difference, p, above in rows:
        assert re.search(
            rf"^\| \S+ +\| {error} +\| {re.escape(difference)} +\| {p} +\| \S+ +\| {above} ", page, re.MULTILINE
        )


def test_intervals_of_the_readme_are_printed_by_a_command(printed: list[str]) -> None:
    written = [(DOCS / page).read_text(encoding="utf-8") for page in ("confirm.md",)]
    differences = re.findall(r"[+−][\d.]+ \[[^]]+\]", README.read_text(encoding="utf-8"))
    known = "\n".join([*printed, *written])
    assert len(differences) > 5 and [one for one in differences if one not in known] == []


def test_tables_of_the_findings_are_what_compare_prints(printed: list[str]) -> None:
    text = (DOCS / "findings.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block.splitlines() == printed[: len(block.splitlines())]


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop().resolve()
        if page not in reached:
            reached.add(page)
            waiting += [page.parent / link for link in links(page) if link.endswith(".md")]
    assert [page.name for page in DOCS.glob("*.md") if page not in reached] == []


def links(page: Path) -> list[str]:
    """Relative targets of a page's links, without #anchors."""
    return re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


PAGES = [*sorted(DOCS.glob("*.md")), README, REPOSITORY / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []
    anchored = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [(to, at) for to, at in anchored if at not in headings(page.parent / to if to else page)] == []


def test_commands_of_the_pages_name_scripts_that_exist() -> None:
    named = {
        script
        for page in PAGES
        for script in re.findall(r"python ((?:src|tests|benchmarks)/\w+\.py)", page.read_text(encoding="utf-8"))
    }
    assert [script for script in sorted(named) if not (REPOSITORY / script).exists()] == []


def test_the_dev_container_has_what_the_readme_asks_for() -> None:
    made = json.loads((REPOSITORY / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert made["image"].endswith("python:3.11")
    tool, target = made["postCreateCommand"].split()
    assert tool == "make" and f"\n{target}: " in (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def test_every_script_has_a_command_on_the_page_of_commands() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    scripts = sorted(file.name for file in (REPOSITORY / "src").glob("*.py"))
    assert [script for script in scripts if f"python src/{script}" not in page] == []
