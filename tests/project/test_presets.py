"""profiles/presets.yaml: its entries are complete, and a profile that names one, or one of its base, gets it whole."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import use_profile
from bitter_retrieval.params import parse_params
from bitter_retrieval.typed_yaml import ParamsError, read_yaml

ROOT = Path(__file__).parents[2]
READY = read_yaml(ROOT / "profiles/presets.yaml")
DEFAULT = read_yaml(ROOT / "profiles/default.yaml")
# From the models' cards: readers with a chat template; pooling and prefixes of encoders.
CHAT = {"Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B", "Llama-3.1-8B-Instruct"}
CHAT |= {"Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct"}
USAGES = {
    "bert-base-uncased": ("mean", "", "", 512),
    "ModernBERT-base": ("mean", "", "", 512),
    "nomic-embed-text-v1": ("mean", "search_query: ", "search_document: ", 512),
    "nomic-embed-text-v1-unsupervised": ("mean", "search_query: ", "search_document: ", 512),
    "e5-base-v2": ("mean", "query: ", "passage: ", 512),
    "bge-base-en-v1.5": ("cls", "Represent this sentence for searching relevant passages: ", "", 512),
    "gte-base": ("mean", "", "", 512),
    "all-MiniLM-L6-v2": ("mean", "", "", 256),
}
ENTRIES = [(section, name) for section, entries in READY.items() for name in entries]


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real profiles, to which a test adds its own, as the working directory."""
    (tmp_path / "profiles").mkdir()
    for name in ("default", "presets"):
        (tmp_path / f"profiles/{name}.yaml").write_text((ROOT / f"profiles/{name}.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_profile(repo: Path, readers: Any, encoders: Any) -> None:
    """A profile over the default, with the readers and encoders that its labels and runs need in addition."""
    given = {"readers": DEFAULT["readers"] | readers, "encoders": DEFAULT["encoders"] | encoders}
    (repo / "profiles/mine.yaml").write_text(yaml.safe_dump({"base": "default", **given}))


@pytest.mark.parametrize(("section", "name"), ENTRIES)
def test_every_entry_is_whole_and_is_called_after_its_model(section: str, name: str) -> None:
    entry = READY[section][name]
    assert name == re.sub("[^a-z0-9]", "_", entry["model"].rpartition("/")[2].lower())
    ready = getattr(parse_params(DEFAULT | {section: DEFAULT[section] | {name: entry}}, "presets"), section)[name]
    assert (ready.model, ready.revision) == (entry["model"], entry["revision"])
    model = entry["model"].rpartition("/")[2]
    if section == "readers":
        assert ready.chat == (model in CHAT)
    else:
        assert (ready.pooling, ready.query_prefix, ready.passage_prefix, ready.max_length) == USAGES[model]


def test_models_differ() -> None:
    entries = [READY[section][name] for section, name in ENTRIES]
    models = [entry["model"] for entry in entries]
    commits = [entry["revision"] for entry in entries if entry["revision"] is not None]
    assert len(set(models)) == len(models) and len(set(commits)) == len(commits) > len(models) - 3


def test_presets_are_written_out(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"preset": "qwen3_0_6b_base", "dtype": "float32"}
    add_profile(repo, {"qwen3_8b": "preset", "small": small}, {"e5_base_v2": "preset"})
    assert use_profile.main(["mine"]) == 0
    written = read_yaml("params.yaml")
    assert written["readers"]["qwen3_8b"] == READY["readers"]["qwen3_8b"]
    assert written["readers"]["small"] == READY["readers"]["qwen3_0_6b_base"] | {"dtype": "float32"}
    assert written["readers"]["reader_a"] == DEFAULT["readers"]["reader_a"]
    assert written["encoders"]["e5_base_v2"]["query_prefix"] == "query: "
    assert "preset" not in (repo / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        ({"qwen3_8b_bas": "preset"}, "'qwen3_8b_bas' is none of .*presets.yaml. Did you mean 'qwen3_8b_base'?"),
        ({"x": {"preset": "e5_base_v2"}}, "readers: 'e5_base_v2' is none of"),
        ({"x": {"preset": "qwen3_8b", "dtpye": "float32"}}, "readers.x.dtpye: unknown key. Did you mean 'dtype'?"),
        ({"x": "preest"}, "readers.x: must be a mapping"),
    ],
)
def test_preset_that_is_none_is_named(reader: Any, said: str, repo: Path) -> None:
    add_profile(repo, reader, {})
    with pytest.raises(ParamsError, match=said):
        use_profile.render("mine")


def test_the_file_of_presets_is_no_profile(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert use_profile.main(["presets"]) == 2
    assert use_profile.main([]) == 0
    out, err = capsys.readouterr()
    assert "no such profile" in err and "presets" not in out


def test_entries_of_the_base_are_taken_whole_or_with_changes(repo: Path) -> None:
    entries = "{mini: base, wide: {base: mini, pooling: cls, fit: {width: 256}}}"
    (repo / "profiles/mine.yaml").write_text(f"base: default\nencoders: {entries}\n")
    (repo / "profiles/next.yaml").write_text("base: mine\nencoders: {wide: base}\n")
    mini = DEFAULT["encoders"]["mini"]
    wide = mini | {"pooling": "cls", "fit": mini["fit"] | {"width": 256}}
    assert use_profile.resolve("mine")[0]["encoders"] == {"mini": mini, "wide": wide}
    assert use_profile.resolve("next")[0]["encoders"] == {"wide": wide}


def test_losses_of_an_entry_of_the_base_are_replaced_whole(repo: Path) -> None:
    name, run = next(iter(DEFAULT["runs"].items()))
    (repo / "profiles/mine.yaml").write_text(f"base: default\nruns: {{x: {{base: {name}, losses: {{margin: 1.0}}}}}}\n")
    assert use_profile.resolve("mine")[0]["runs"]["x"] == run | {"losses": {"margin": 1.0}}


def test_an_entry_that_the_base_lacks_is_named(repo: Path) -> None:
    for entry in ("{smal: base}", "{x: {base: smal}}"):
        (repo / "profiles/mine.yaml").write_text(f"base: default\nencoders: {entry}\n")
        with pytest.raises(ParamsError, match=r"profiles/mine.yaml: encoders.\w+: the base has no 'smal'. It has mini"):
            use_profile.resolve("mine")
