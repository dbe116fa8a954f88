"""Files that DVC reads too mean here what they mean to DVC; files that hold no params are refused by name."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from any_values import FEW, texts, values
from dvc.utils.serialize import load_yaml
from hypothesis import given
from hypothesis import strategies as st

import use_profile
from bitter_retrieval.params import load_params
from bitter_retrieval.typed_yaml import ParamsError, read_yaml, write_yaml

ROOT = Path(__file__).parents[2]
SCALARS: dict[str, Any] = {  # as written in a file, and what it means
    "010": 10,
    "-010": -10,
    "0o17": 15,
    "0x1F": 31,
    "1_000": 1000,
    "3:12": "3:12",
    "1:2:3": "1:2:3",
    "yes": "yes",
    "No": "No",
    "on": "on",
    "off": "off",
    "y": "y",
    "true": True,
    "TRUE": True,
    "2e-05": 2e-05,
    "1e3": 1000.0,
    "1.e5": 1e5,
    ".5": 0.5,
    "+1": 1,
    "5e": "5e",
    "~": None,
    "Null": None,
    "": None,
    "'010'": "010",
    '"2e-05"': "2e-05",
    "2e-05x": "2e-05x",
}
BREAKS = "a\u2028b\u2029 c\u2028"  # line breaks that are none to us


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(write_yaml({"prompt": BREAKS, BREAKS: ["\x85"]}), encoding="utf-8")
    assert load_yaml(tmp_path / "params.yaml") == {"prompt": BREAKS, BREAKS: ["\x85"]}
    (tmp_path / "params.yaml").write_text(write_yaml({"prompt": BREAKS, BREAKS: [BREAKS]}), encoding="utf-8")
    assert read_yaml(tmp_path / "params.yaml") == {"prompt": BREAKS, BREAKS: [BREAKS]}


def kinds(value: Any) -> Any:
    """The value with the type of each part, as 1, 1.0 and true are equal."""
    if isinstance(value, dict):
        return [(key, kinds(item)) for key, item in value.items()]
    return [kinds(item) for item in value] if isinstance(value, list) else (type(value), repr(value))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*strings(list(value)), *strings(list(value.values()))]
    return [one for item in value for one in strings(item)] if isinstance(value, list) else [str(value)]


@FEW
@given(st.dictionaries(texts, values(texts), max_size=4))
def test_whatever_is_written_is_read_alike_by_dvc(tmp_path_factory: pytest.TempPathFactory, tree: dict) -> None:
    file, text = tmp_path_factory.getbasetemp() / "any.yaml", write_yaml(tree)
    file.write_text(text, encoding="utf-8")
    try:
        found = read_yaml(file)
    except ParamsError as error:
        unprintable = any(map(re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]").search, strings(tree)))
        assert str(error).startswith(f"{file}: ") and unprintable
    else:
        assert kinds(found) == kinds(load_yaml(file)) == kinds(tree)


@pytest.mark.parametrize("written", SCALARS)
def test_a_scalar_means_what_it_means_to_dvc(tmp_path: Path, written: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"section: {{}}\nvalue: {written}\nlisted:\n- {written or 'null'}\n")
    found, theirs = read_yaml(file), load_yaml(file)
    assert found == theirs == {"section": {}, "value": SCALARS[written], "listed": [SCALARS[written]]}
    assert type(found["value"]) is type(theirs["value"]) is type(SCALARS[written])


@pytest.mark.parametrize(("written", "meant"), [("010", 10), ("1_000", 1000), ("0o17", 15)])
def test_an_edited_seed_is_the_one_that_dvc_sees(tmp_path: Path, written: str, meant: int) -> None:
    text = (ROOT / "profiles/default.yaml").read_text().replace("  seed: 0  ", f"  seed: {written}  ", 1)
    file = tmp_path / "params.yaml"
    file.write_text(text)
    assert load_params(file).data.seed == load_yaml(file)["data"]["seed"] == meant


def test_a_number_as_dvc_exp_run_writes_it_is_a_number(tmp_path: Path) -> None:
    text = (ROOT / "profiles/default.yaml").read_text().replace("learning_rate: 0.001 ", "learning_rate: 2e-05 ")
    file = tmp_path / "params.yaml"
    file.write_text(text)
    assert load_params(file).train.learning_rate == 2e-05


def test_a_profile_over_another_means_to_dvc_what_it_means_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that one of the two YAMLs takes for numbers, and numbers that the other takes for texts."""
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    prefixes = ["2e-05", "0o17", "yes", "010", "1_000", "3:12", "~", "null", "a: b", "# c", " d\n", "é\u2028", ""]
    readers = {f"r{i}": {"base": "reader_a", "prompt": f"{p}{{query}} {{passage}}:"} for i, p in enumerate(prefixes)}
    encoders = {f"e{i}": {"base": "mini", "query_prefix": prefix} for i, prefix in enumerate(prefixes)}
    changes = {"base": "default", "train": {"learning_rate": 2e-05}, "encoders": {"mini": "base", **encoders}}
    changes["readers"] = {"reader_a": "base", "reader_b": "base", **readers}
    Path("profiles/odd.yaml").write_text(write_yaml(changes))
    text = use_profile.render("odd")
    Path("params.yaml").write_text(text)
    assert read_yaml("params.yaml") == load_yaml("params.yaml") == use_profile.resolve("odd")[0]
    assert "*id" not in text, "an entry that is used twice is written twice"
    params = load_params()
    assert [params.encoders[f"e{i}"].query_prefix for i in range(len(prefixes))] == prefixes
    assert params.train.learning_rate == 2e-05


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is written twice"),
        ("train: {a: &x {b: *x}}\n", "train.a.b: an alias (*) holds itself"),
        ("a: &a [*a]\n", "a[0]: an alias (*) holds itself"),
        ("x: {y: " + "[" * 3000 + "]" * 3000 + "}\n", "nested too deeply"),
        ("data: {seed: " + "1" * 5000 + "}\n", "a value is not what YAML takes it for"),
        ("data: {seed: 2001-13-45}\n", "a value is not what YAML takes it for (month"),
        ("data: {seed: !!bool maybe}\n", "a value is not what YAML takes it for"),
        ('data: {path: "a\\e[31mb"}\n', "data.path: holds the character '\\x1b'"),
        ('data: {path: "\\ud800"}\n', "data.path: holds the character '\\ud800'"),
        ('data: {"a\\0": 1}\n', "data: holds the character '\\x00'"),
        ("data: !!python/object:os.system {}\n", "not valid YAML"),
    ],
)
def test_what_is_no_tree_of_params_is_refused_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}: {says}") and "\n" not in str(caught.value)


def test_aliases_are_copies_and_those_that_multiply_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("a: &a {x: [1]}\nb: {<<: *a, y: 2}\nc: *a\n")
    tree = read_yaml(file)
    assert tree == {"a": {"x": [1]}, "b": {"x": [1], "y": 2}, "c": {"x": [1]}}
    assert tree["a"]["x"] is not tree["c"]["x"]
    tens = [f"{name}: &{name} [{', '.join([f'*{of}'] * 10)}]" for of, name in zip("abcdefg", "bcdefgh", strict=True)]
    file.write_text("\n".join(["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", *tens]))
    with pytest.raises(ParamsError, match="multiply"):
        read_yaml(file)


def test_another_encoding_and_a_folder_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes("data: {path: données}\n".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"not UTF-8 \(byte 18 is 0xe9\)\. Save it as UTF-8"):
        read_yaml(file)
    with pytest.raises(ParamsError, match="cannot be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            ("mlflow: true ", "mlflow: yes "),
            "tracking.mlflow: must be true or false, got 'yes' (str). YAML 1.2",
        ),
        (("clip: 1.0 ", f"clip: {10**400} "), "train.clip: must be a finite number, got inf"),
        (("mlflow: true ", f"mlflow: {['x'] * 500} "), "tracking.mlflow: must be true or false, got ['x', 'x'"),
    ],
)
def test_a_value_of_another_type_is_told_shortly(tmp_path: Path, edit: tuple[str, str], says: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "profiles/default.yaml").read_text().replace(*edit))
    with pytest.raises(ParamsError) as caught:
        load_params(file)
    assert str(caught.value).startswith(f"{file}: {says}") and len(str(caught.value)) < 600


def test_no_module_reads_another_yaml() -> None:
    """A second reader would bring a second meaning."""
    assert not [file for file in (ROOT / "src").rglob("*.py") if "\nimport yaml" in file.read_text()]
