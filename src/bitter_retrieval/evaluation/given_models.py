"""Encoders and readers as a user names them: a folder, pkg://package/folder, a hub id, or a stage's output.

    sentence-transformers/all-MiniLM-L6-v2, no revision     {"model": "sentence-transformers/all-MiniLM-L6-v2",
                                                             "revision": "c9745ed1…", "pooling": "mean", "max_length":
                                                             256, "query_prefix": "", "passage_prefix": ""}

How an encoder is used comes from the user's options, else from its sentence-transformers files (of any version), else
from the project's preset for that model. A checkpoint that sentence-transformers would use otherwise than encoder.py
does is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bitter_retrieval.encoders.encoder import PASSAGE_ENCODER, Usage, load_usage, save_usage
from bitter_retrieval.encoders.sentence_files import prefix, read_sentence_files, refuse_other_use
from bitter_retrieval.models.checkpoints import CheckpointError, locate, resolve_checkpoint, write_pointer
from bitter_retrieval.models.pretrained import load_tokenizer, positions, read_config, width
from bitter_retrieval.readers.language_model import SETTINGS, Reader, ReaderSettings, open_reader, read_settings

POOLING = {"mean": "mean", "cls": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
PREFIXES = {"query_prefix": ("query",), "passage_prefix": ("document", "passage", "corpus")}  # by their names there
UNBOUNDED = 10**6  # tokenizers without a limit state a far larger number


def open_given_reader(
    model: str, revision: str | None, readers: Path, stated: Mapping[str, Any], otherwise: ReaderSettings
) -> tuple[Reader, ReaderSettings]:
    """The reader, and how it is asked: as `stated`, else by the reader.json next to its weights, else `otherwise`.

    model: a name in the folder `readers`, or what open_reader takes.
    """
    folder = next((one for one in (readers / model, Path(model)) if (one / SETTINGS).is_file()), None)
    if folder is not None:
        otherwise, _ = read_settings(folder)
        path, revision = resolve_checkpoint(folder)
    else:
        path = model
    settings = replace(otherwise, **stated)
    return open_reader(Path(model).name, path, revision, settings), settings


def point_to_encoder(
    folder: Path,
    model: str,
    revision: str | None,
    stated: Mapping[str, Any],
    preset: Mapping[str, Any],
    warn: Callable[[str], None],
) -> tuple[Path, dict[str, Any]]:
    """A folder for load_encoder (`folder`, or the model's own), and a description of its weights and usage.

    stated: fields of Usage; preset: the same, for gaps in the model's files. warn: gets a line if nothing says which
    prefixes to use. A hub id without a revision gets its current commit. Raises CheckpointError.
    """
    given = Path(model)
    if (given / PASSAGE_ENCODER).is_file():  # another encoder embeds its passages: only our own files say so
        if stated:
            raise CheckpointError(
                f"encoder {model!r}: its passages have an encoder of their own ({PASSAGE_ENCODER}), so "
                f"{', '.join(stated)} cannot be set. Leave the options out."
            )
        return given, {"model": model, "revision": None, **asdict(load_usage(given))}
    path, revision = resolve_checkpoint(given) if given.is_dir() else (locate(model), revision)
    try:
        config, tokenizer, length = _reads(path, revision)
        commit = config._commit_hash
        size = width(model, config)
        usage = _usage(model, str(given) if given.is_dir() else path, commit, tokenizer, length, stated, preset, warn)
    except CheckpointError:
        raise
    except Exception as error:  # files may hold anything
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"encoder {model!r}: no encoder can be loaded from there ({why}). Give a folder or hub id with "
            "config.json, weights and tokenizer."
        ) from error
    if usage.max_length > (positions(config) or usage.max_length):
        raise CheckpointError(
            f"encoder {model!r}: has {positions(config)} positions, max_length is {usage.max_length}. "
            f"Pass --encoder-max-length {length} or less."
        )
    write_pointer(folder, str(Path(path).resolve()) if Path(path).is_dir() else path, commit)
    save_usage(folder, usage, size)
    return folder, {"model": model, "revision": commit, **asdict(usage)}


def _reads(path: str, revision: str | None) -> tuple[Any, Any, int | None]:
    """The model's configuration, its tokenizer, and how many tokens it reads: None if neither of them says."""
    config = read_config(path, revision)
    tokenizer = load_tokenizer(path, config)
    known = [positions(config), tokenizer.model_max_length]
    return config, tokenizer, min((length for length in known if length and length < UNBOUNDED), default=None)


def _usage(
    model: str,
    path: str,
    revision: str | None,
    tokenizer: Any,
    length: int | None,
    stated: Mapping[str, Any],
    preset: Mapping[str, Any],
    warn: Callable[[str], None],
) -> Usage:
    files = read_sentence_files(path, revision)
    carried = {
        "pooling": _pooling(files.pooling) if files.pooling else preset.get("pooling"),
        "max_length": files.transformer.get("max_seq_length") or preset.get("max_length") or length,
    }
    said = {field: prefix(files, names) for field, names in PREFIXES.items()}
    for field, own in said.items():  # "" says nothing: sentence-transformers writes it by default
        carried[field] = own or preset.get(field) or ""
    usage = Usage(**{**carried, **stated})
    refuse_other_use(model, files, tokenizer)
    if usage.pooling is None:
        found = f"pools by {files.pooling}" if files.pooling else "has no 1_Pooling/config.json"
        raise CheckpointError(f"encoder {model!r}: {found}. Pass --pooling mean or cls, as its authors do.")
    if usage.max_length is None:
        raise CheckpointError(f"encoder {model!r}: does not say how many tokens it reads. Pass --encoder-max-length.")
    unsaid = [field for field, own in said.items() if own is None and field not in {**stated, **preset}]
    if unsaid:
        options = " and ".join(f"--{field.replace('_', '-')}" for field in unsaid)
        warn(f"encoder {model!r}: nothing says which prefixes its authors use, and none is used. Pass {options}.")
    return usage


def _pooling(config: Mapping[str, Any]) -> str | None:
    """mean or cls; None if the file is absent, or names another pooling or several."""
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    mode = config.get("pooling_mode", chosen[0] if len(chosen) == 1 else None)
    return POOLING.get(mode) if isinstance(mode, str) else None
