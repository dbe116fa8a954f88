"""Readers from GGUF files: the weights that transformers dequantises, kept once, named, and refused where broken."""

from pathlib import Path

import pytest
import torch
from gguf_files import write_gguf
from transformers import AutoModelForCausalLM

from bitter_retrieval.models.checkpoints import CheckpointError, resolve_checkpoint, weights_changed, write_pointer
from bitter_retrieval.readers import gguf
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.language_model import Reader, ReaderSettings, load_reader, open_reader, save_settings

SETTINGS = ReaderSettings("Question: {query}\nContext: {passage}\nAnswer:", "float32", 96, 6)
TRIPLES = [
    Triple("Where was Aldan born?", "Aldan was born in Ashby. Aldan owns a goat.", "Ashby"),
    Triple("Where was Brenn born?", "", "Caldbury or Kelso"),
    Triple("What does Falk own?", "Falk was born in Holt.", "a crow"),
]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture
def file(project: Path) -> Path:
    return write_gguf(project / "tiny.Q8_0.gguf")


def one_by_one(reader: Reader, file: Path, triple: Triple) -> float:
    """Loss by transformers' own forward pass of the weights that it dequantises itself."""
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    prompt = f"Question: {triple.query}\nContext: {triple.passage}\nAnswer:"
    ids = reader.tokenizer(f"{prompt} {triple.answer}", return_tensors="pt").input_ids
    asked = reader.tokenizer(prompt, return_tensors="pt").input_ids.shape[1]
    with torch.inference_mode():
        logits = model(ids).logits[0, asked - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, ids[0, asked:], reduction="sum").item()


def test_losses_are_those_of_the_dequantised_weights(file: Path) -> None:
    reader = open_reader("tiny", f"./{file.name}", None, SETTINGS)
    scores = [score.nll_sum for score in Scorer(reader, 512).score(TRIPLES) if score]
    assert scores == pytest.approx([one_by_one(reader, file, triple) for triple in TRIPLES], abs=1e-4)
    assert len({round(score, 2) for score in scores}) == len(TRIPLES)


def test_a_file_is_converted_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_reader("tiny", str(file), None, SETTINGS)

    def refuse(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(gguf, "_convert", refuse)
    again = open_reader("other", str(file), None, SETTINGS)
    assert again.identity == first.identity
    assert [one.name for one in Path(".journal/gguf").iterdir()] == [gguf.provenance(file)["sha256"]]


def test_other_weights_are_another_reader(file: Path, project: Path) -> None:
    other = write_gguf(project / "other.gguf", seed=1)
    readers = [open_reader("tiny", str(one), None, SETTINGS) for one in (file, other)]
    assert readers[0].identity != readers[1].identity


def test_a_reader_of_the_project_states_its_file(file: Path) -> None:
    folder = Path("models/readers/tiny")
    write_pointer(folder, f"./{file.name}", None)
    save_settings(folder, SETTINGS, gguf.provenance(file))
    reader = load_reader(folder)
    assert reader.weights == {
        "file": "tiny.Q8_0.gguf",
        "sha256": gguf.provenance(file)["sha256"],
        "quantisation": "Q8_0",
    }
    assert resolve_checkpoint(folder) == (f"./{file.name}", None)
    assert not weights_changed(folder)
    write_gguf(file, seed=1)
    assert weights_changed(folder)
    with pytest.raises(CheckpointError, match="not those that models/readers/tiny was made for"):
        load_reader(folder)


def test_a_file_of_a_package(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = project / "site" / "weights_of_ours"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a package with weights is not to be run')\n")
    write_gguf(package / "tiny.gguf")
    monkeypatch.syspath_prepend(project / "site")
    assert open_reader("tiny", "pkg://weights_of_ours/tiny.gguf", None, SETTINGS).name == "tiny"
    with pytest.raises(CheckpointError, match=r"weights_of_ours has no file 'absent\.gguf'"):
        gguf.find_gguf("pkg://weights_of_ours/absent.gguf", None)


@pytest.mark.parametrize("name", ["absent.gguf", "models/absent.gguf"])
def test_a_name_that_is_neither_here_nor_a_hubs_is_told(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no such file here; a hub's is named owner/repo/file\.gguf"):
        gguf.find_gguf(name, None)


def test_an_absent_file_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"'\./absent\.gguf': no such file"):
        open_reader("tiny", "./absent.gguf", None, SETTINGS)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.99])
def test_a_file_that_was_cut_off_is_refused_by_name(kept: float, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"tiny\.Q8_0\.gguf: cut off, or no GGUF file \(.+\)\. Fetch it again"):
        open_reader("tiny", str(file), None, SETTINGS)


def test_a_file_of_something_else_is_refused_by_name(file: Path) -> None:
    file.write_text("<html>Not found</html>" * 100)
    with pytest.raises(CheckpointError, match="cut off, or no GGUF file"):
        open_reader("tiny", str(file), None, SETTINGS)


def test_an_unknown_architecture_is_refused_by_name(project: Path) -> None:
    file = write_gguf(project / "new.gguf", architecture="brandnew")
    with pytest.raises(CheckpointError, match=r"new\.gguf: no causal language model can be made from it \(.*brandnew"):
        open_reader("tiny", str(file), None, SETTINGS)


def test_missing_weights_are_refused_instead_of_drawn(project: Path) -> None:
    file = write_gguf(project / "part.gguf", without="blk.1.ffn_up.weight")
    with pytest.raises(CheckpointError, match=r"part\.gguf: .*lack 1 tensors of a LlamaForCausalLM"):
        open_reader("tiny", str(file), None, SETTINGS)
    assert not list(Path(".journal/gguf").iterdir())


def test_without_the_package_the_error_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(CheckpointError, match="requirements-models.txt"):
        gguf.provenance(file)
