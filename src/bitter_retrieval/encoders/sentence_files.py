"""What the files of sentence-transformers beside an encoder ask for: each is obeyed, or refused by name.

    modules.json                        Transformer, Pooling and perhaps Normalize: no Dense, no other order, no code
    1_Pooling/config.json               mean or cls, unless stated; the prefix counts as text
    2_Normalize/config.json             of the pooled vector
    sentence_bert_config.json           max_seq_length, unless stated; do_lower_case, if the tokenizer does it.
                                        Or another of SIZES: sentence-transformers reads the first that there is
    config_sentence_transformers.json   prompts, unless stated; a similarity that ranks as cosine does

Others beside them (README.md, onnx/, …) change no vector; adapter_config.json is refused with the weights
(pretrained.py).
"""

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitter_retrieval.models import hub
from bitter_retrieval.models.checkpoints import CheckpointError

SIZES = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
ORDERS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
FROM = "sentence_transformers."  # a module of another package is code that comes with the weights
OBEYED = {"max_seq_length", "do_lower_case", "unpad_inputs"}
USUAL = {  # what later versions write of any encoder of texts
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
    "model_args": {"add_pooling_layer": False},
    "model_kwargs": {"add_pooling_layer": False},
    "model_type": "SentenceTransformer",
}
ALIKE = {True: (None, "cosine", "dot", "euclidean"), False: (None, "cosine")}  # ranks as cosine: of unit vectors or any


@dataclass(frozen=True)
class SentenceFiles:
    """Contents of the files; empty where there is none."""

    modules: list[dict[str, Any]]
    pooling: dict[str, Any]
    normalize: dict[str, Any]
    transformer: dict[str, Any]  # sentence_bert_config.json or its like
    whole: dict[str, Any]  # config_sentence_transformers.json

    @property
    def kinds(self) -> list[str]:
        return [module["type"].rpartition(".")[2] for module in self.modules]


def read_sentence_files(path: str, revision: str | None, optional: bool = False) -> SentenceFiles:
    """The files next to the weights; optional: as in hub.find.

    Raises CheckpointError if a hub refuses, ValueError for what is no such file.
    """
    modules = _read(path, "modules.json", revision, list, optional)
    places = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    sizes = (_read(path, name, revision, dict, optional) for name in SIZES)
    return SentenceFiles(
        modules,
        _read(path, f"{places.get('Pooling', '1_Pooling')}/config.json", revision, dict, optional),
        _read(path, f"{places['Normalize']}/config.json", revision, dict, optional) if "Normalize" in places else {},
        next((found for found in sizes if found), {}),
        _read(path, "config_sentence_transformers.json", revision, dict, optional),
    )


def refuse_other_use(model: str, files: SentenceFiles, tokenizer: Any) -> None:
    """Raise CheckpointError if sentence-transformers would make other vectors, or rank by them otherwise."""
    asked = _beyond(files, tokenizer)
    if asked:
        raise CheckpointError(
            f"model {model!r}: its sentence-transformers files ask for {', '.join(asked)}, which is not supported "
            "here: its vectors would differ. Name another encoder."
        )


def _beyond(files: SentenceFiles, tokenizer: Any) -> list[str]:
    """What they ask for that an encoder here does not do."""
    asked = [
        kind if module["type"].startswith(FROM) else module["type"]
        for module, kind in zip(files.modules, files.kinds, strict=True)
        if kind not in ORDERS[1] or not module["type"].startswith(FROM)
    ]
    if files.modules and not asked:
        if files.kinds not in ORDERS:
            asked.append(f"the modules {files.kinds} in modules.json")
        elif files.modules[0]["path"]:
            asked.append(f"a Transformer in {files.modules[0]['path']} by modules.json")
    if files.pooling.get("include_prompt") is False:
        asked.append("include_prompt false")
    if files.normalize.get("module_input_name") not in (None, "sentence_embedding"):
        asked.append(f"Normalize of {files.normalize['module_input_name']}")
    others = {name: value for name, value in files.transformer.items() if name not in OBEYED}
    if files.transformer.get("do_lower_case") and not _lowers(tokenizer):
        others["do_lower_case"] = True
    others |= {name: files.whole[name] for name in ("model_type", "truncate_dim") if name in files.whole}
    asked += [f"{name} {value}" for name, value in others.items() if value and value != USUAL.get(name)]
    similarity = files.whole.get("similarity_fn_name")
    if similarity not in ALIKE["Normalize" in files.kinds]:
        asked.append(f"similarity_fn_name {similarity}")
    return asked


def _lowers(tokenizer: Any) -> bool:
    upper, lower = (" ".join(letters) for letters in (string.ascii_uppercase, string.ascii_lowercase))
    return tokenizer.tokenize(upper) == tokenizer.tokenize(lower)


def prefix(files: SentenceFiles, names: tuple[str, ...]) -> str | None:
    """The prompt of the first of these names; else the default one. None if nothing says which."""
    prompts: Mapping[Any, str] = files.whole.get("prompts") or {}
    said = [prompts[name] for name in names if name in prompts]
    if not said:
        default = files.whole.get("default_prompt_name")
        said = [prompts[default]] if default in prompts else []
    return next((text for text in said if text), said[0] if said else None)


def _read(path: str, name: str, revision: str | None, kind: Any, optional: bool) -> Any:
    found = hub.find(path, name, revision, optional)
    try:
        content = kind() if found is None else json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{name} holds no {'list' if kind is list else 'object'}")
    return content
