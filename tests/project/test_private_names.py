"""Private names of libraries in the package: each only as long as there is no public one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import tiny

SOURCE = Path(__file__).parents[2] / "src"
PRIVATE = {
    "_attn_implementation",  # which attention a model has: transformers can set it publicly, not ask
    "_commit_hash",  # of a configuration: transformers leaves it out of what it saves
    "_supports_flash_attn",  # of a model: before the kernel is asked for, which raises several errors
}


def private_names(node: ast.AST) -> Iterator[str]:
    """Attributes with a leading underscore, of anything but self and cls; private modules and names imported."""
    if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
        yield node.attr
    if isinstance(node, ast.Import | ast.ImportFrom):
        paths = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        yield from (part for path in paths for part in path.split("."))


def test_no_other_private_name_is_used() -> None:
    nodes = [node for file in SOURCE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = {name for node in nodes for name in private_names(node) if name.startswith("_") and not name.endswith("__")}
    assert found - own == PRIVATE


def test_they_are_there_and_have_no_public_name() -> None:
    """If this fails, use the public name, or do without."""
    model = tiny.tiny_encoder().model
    assert model.config._attn_implementation == "sdpa" and model._supports_flash_attn is True
    for public in ("attn_implementation", "get_attn_implementation", "supports_flash_attn", "commit_hash"):
        assert not hasattr(model, public) and not hasattr(model.config, public), public
    model.config._commit_hash = "a" * 40
    assert "a" * 40 not in model.config.to_json_string(use_diff=False)
