"""What no line of the source may do: load a pickle, which runs code, or take a text in the locale's encoding."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
TREES = {
    file.relative_to(SOURCE).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
    for file in sorted([*SOURCE.rglob("*.py")])
}
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
OBJECTS = {"read_pickle", "to_pickle", "broadcast_object_list", "all_gather_object", "scatter_object_list"}
OWN = {
    "bitter_retrieval/models/pretrained.py: pickle",  # the name of an error
    "bitter_retrieval/models/workers.py: pickle",  # whether an error of our own can be sent by a process of our own
    "bitter_retrieval/models/workers.py: pickle.loads(pickle.dumps(error))",
}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, dict[str, ast.expr]]]:
    """Calls with the last part of their name and their keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield node, name, {word.arg: word.value for word in node.keywords if word.arg}


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def pickles(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from sorted({name for name in names if name.partition(".")[0] in PICKLING})
    for call, name, words in calls(tree):
        whose = getattr(getattr(call.func, "value", None), "id", "")
        unsafe = (
            (whose == "torch" and name == "load" and not is_true(words.get("weights_only")))
            or (whose in PICKLING and name in ("load", "loads"))
            or "allow_pickle" in words
            or is_true(words.get("trust_remote_code"))
            or name in OBJECTS
            or (name == "from_pretrained" and "weights_only" in words)
        )
        if unsafe:
            yield ast.unparse(call)


def locales(tree: ast.AST) -> Iterator[str]:
    """Files and outputs of processes that are read or written as text without an encoding."""
    for call, name, words in calls(tree):
        if name in ("read_text", "write_text", "open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
            texts = [one.value for one in [*call.args, *words.values()] if isinstance(one, ast.Constant)]
            binary = any(isinstance(text, str) and "b" in text and set(text) <= set("rwaxb+") for text in texts)
            text = not binary and not (name.endswith("TemporaryFile") and "mode" not in words)
        else:
            text = is_true(words.get("text")) or is_true(words.get("universal_newlines"))
        ours = isinstance(call.func, ast.Name) and name == "write_text"  # records.write_text, which names it
        if text and not ours and "encoding" not in words:
            yield ast.unparse(call)


def test_no_pickle_is_loaded() -> None:
    assert {f"{file}: {found}" for file, tree in TREES.items() for found in pickles(tree)} == OWN


def test_every_text_names_its_encoding() -> None:
    assert [f"{file}: {found}" for file, tree in TREES.items() for found in locales(tree)] == []


@pytest.mark.parametrize(
    "line",
    ["torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)"]
    + ["import joblib", "from dill import load", "M.from_pretrained(m, trust_remote_code=True)"],
)
def test_a_pickle_is_seen(line: str) -> None:
    assert list(pickles(ast.parse(line)))


@pytest.mark.parametrize("line", ["open(p)", "p.open('w')", "p.write_text(t)", "run(a, text=True)", "p.read_text()"])
def test_a_text_without_encoding_is_seen(line: str) -> None:
    assert list(locales(ast.parse(line)))
    assert not list(locales(ast.parse(line.replace(")", ", encoding='utf-8')").replace("(, ", "("))))
    assert not list(locales(ast.parse("p.open('rb'); open(p, mode='wb'); TemporaryDirectory(); TemporaryFile()")))
