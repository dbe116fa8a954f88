"""From a name to a model that is ready: it is available, fits into memory and is complete before it is used.

    config = read_config("Qwen/Qwen3-8B-Base", "49e3418f…")       a few kilobytes, and the first contact with a hub
    load_model(AutoModelForCausalLM, "Qwen/Qwen3-8B-Base", config, torch.bfloat16)

    model 'Qwen/Qwen3-8B-Base': its 8.19 billion parameters take 30.5 GiB in float32; 22.1 GiB are free on the GPU. …

Weights with missing or surplus tensors are refused: such a model would run, but be another one. Code that comes with
weights is never run.
"""

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from bitter_retrieval.models import hub, memory
from bitter_retrieval.models.checkpoints import CheckpointError, check_seal
from bitter_retrieval.models.nomic import is_old_layout, nomic_config

GIB = 2**30
ADAPTER, WISHES = "adapter_config.json", "generation_config.json"
TRAINED = 4  # copies of the weights in training: themselves, their gradients, AdamW's two averages
# Buffers that older checkpoints hold and models now make themselves.
MADE = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq)$|\battn(ention)?\.(masked_)?bias$")
# Parts on top of an encoder: its pooler, and what it predicted with in pre-training or another task.
HEADS = frozenset(
    "pooler cls head lm_head decoder classifier pre_classifier predictions vocab_transform vocab_layer_norm "
    "vocab_projector generator_predictions generator_lm_head discriminator_predictions mask_predictions lm_predictions "
    "entity_predictions sop_classifier pred_layer logits_proj embedding_decoder unembedding_projection "
    "classification_head sequence_summary qa_outputs qa_classifier score".split()
)


class WeightsError(ValueError):
    """Weights with missing, surplus or misshapen tensors."""


def read_config(model: str, revision: str | None) -> Any:
    """transformers' configuration of a folder or hub id, with its commit. Raises CheckpointError."""
    from transformers import CONFIG_MAPPING, AutoConfig, __version__

    file = hub.fetch(model, "config.json", revision)
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
        kind = stated.get("model_type")
        if kind not in CONFIG_MAPPING:
            raise CheckpointError(
                f"model {model!r}: transformers {__version__} has no architecture {kind!r}, and code that comes with "
                "weights is never run here. Name a model of another architecture."
            )
        if is_old_layout(stated):
            config = nomic_config(stated, model)
        else:
            config = AutoConfig.from_pretrained(file.parent, trust_remote_code=False)
    except CheckpointError:
        raise
    except Exception as error:  # a config's class may raise anything
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"model {model!r}: {file} is not a model's config ({why}).") from error
    # transformers no longer sets it. That it is not saved is tested in tests/project/test_private_names.py.
    config._commit_hash = None if Path(model).is_dir() else file.parent.name
    return config


def width(model: str, config: Any) -> int:
    """Size of the model's states. Raises CheckpointError for several models in one, such as CLIP."""
    if not hasattr(config, "hidden_size"):
        raise CheckpointError(
            f"model {model!r}: {type(config).__name__} has no hidden_size: it may combine models of texts and of "
            "images. Name an encoder of texts alone, such as those of profiles/presets.yaml."
        )
    return config.hidden_size


def positions(config: Any) -> int | None:
    """How many tokens the config says that the model reads; None if it states no limit, as XLNet's -1 is none."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    return stated if stated and stated > 0 else None


def load_model(
    auto: Any,
    model: str,
    config: Any,
    dtype: torch.dtype,
    heads: Collection[str] = (),
    copies: int = 1,
    gguf_file: str | None = None,
) -> Any:
    """The model on the CPU, in evaluation mode.

    auto: an Auto class of transformers. heads: parts that may be missing or surplus. copies: of the weights, held where
    the model runs. gguf_file: in the folder `model`, to be dequantised. Raises CheckpointError if the model is
    unavailable or does not fit; WeightsError, or transformers' errors, if the files are not those of such a model.
    """
    if hub.find(model, ADAPTER, config._commit_hash, optional=True):
        raise CheckpointError(
            f"model {model!r}: {ADAPTER} asks for other weights than those beside it, and only if peft is installed. "
            "Merge the adapter into the weights (peft's merge_and_unload), or name a folder without it."
        )
    wishes = hub.find(model, WISHES, config._commit_hash, optional=True)
    try:
        json.loads(wishes.read_text(encoding="utf-8") if wishes else "{}")
    except ValueError as error:  # transformers would go on without the end tokens that it names
        raise WeightsError(f"{WISHES} is cut off or overwritten: {error}. Copy or fetch it again") from error
    check_memory(auto, model, config, dtype, copies)
    if Path(model).is_dir():
        check_seal(Path(model))
    try:
        with _without_report():
            loaded, found = auto.from_pretrained(
                model,
                revision=config._commit_hash,
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # refused below
                output_loading_info=True,
                gguf_file=gguf_file,
                local_files_only=hub.unreachable(model, config._commit_hash),
                adapter_kwargs={"local_files_only": True},  # asked for above
            )
    except Exception as error:
        _raise_refusal(error, model, config)
        if isinstance(error, SafetensorError | UnpicklingError | EOFError):
            raise WeightsError(
                f"a file of its weights is cut off or overwritten: {error}. Copy or fetch the weights again"
            ) from error
        raise
    missing, left_over = (_strange(found[f"{kind}_keys"], loaded, heads) for kind in ("missing", "unexpected"))
    a = f"a {type(loaded).__name__}"
    if missing:
        raise WeightsError(f"its weights lack {len(missing)} tensors of {a}, such as {missing[0]}")
    if left_over:
        raise WeightsError(f"its weights hold {len(left_over)} tensors that {a} lacks, such as {left_over[0]}")
    if found["mismatched_keys"]:
        name, stored, wanted = min(found["mismatched_keys"])
        raise WeightsError(f"its weights are not those of {a}: {name} is {list(stored)}, not {list(wanted)}")
    return loaded.eval()


@contextmanager
def _without_report() -> Iterator[None]:
    """Hide transformers' table of missing and surplus tensors, which it prints for harmless ones too."""
    log = logging.getLogger("transformers.modeling_utils")
    log.addFilter(_is_no_report)
    try:
        yield
    finally:
        log.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def load_tokenizer(model: str, config: Any, gguf_file: str | None = None) -> Any:
    """The tokenizer of the same commit. Raises CheckpointError for a hub's refusal, ValueError if there is none."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(
            model,
            revision=config._commit_hash,
            trust_remote_code=False,
            gguf_file=gguf_file,
            local_files_only=hub.unreachable(model, config._commit_hash),
        )
    except Exception as error:
        _raise_refusal(error, model, config)
        why = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(f"its tokenizer cannot be read: {why.rstrip('. ')}. Copy or fetch the files again") from error
    if len(found) <= len(found.all_special_ids):  # transformers makes one up if there are no files
        raise ValueError("it has no tokenizer: copy tokenizer.json and tokenizer_config.json there too")
    return found


def usable_pad(tokenizer: Any, model: Any) -> int:
    """Token that fills up batches, which nothing looks at: the tokenizer's, or any that the model has."""
    known = [tokenizer.pad_token_id, tokenizer.eos_token_id]
    return next((pad for pad in known if pad is not None and pad < _rows(model)), 0)


def refuse_larger_tokenizer(tokenizer: Any, model: Any, ids: Iterable[int]) -> None:
    """Raise WeightsError if a text may have tokens that the model does not have.

    ids: those of a text, with what always stands around it. Other special tokens may be unused ones, as padding is.
    """
    special = {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    last = max({*tokenizer.get_vocab().values()} - special | {*ids}, default=0)
    if last >= _rows(model):
        raise WeightsError(
            f"its tokenizer is another model's: token {last} is {tokenizer.convert_ids_to_tokens(last)!r}, and the "
            f"model has {_rows(model)} tokens"
        )


def _rows(model: Any) -> int:
    return len(model.get_input_embeddings().weight)


def _raise_refusal(error: Exception, model: str, config: Any) -> None:
    """Raise CheckpointError if a hub refused, or the network failed."""
    why = config._commit_hash and hub.refusal(error, model, config._commit_hash)
    if why:
        raise CheckpointError(f"model {model!r}: {why}") from error


def _strange(names: Iterable[str], model: Any, heads: Collection[str]) -> list[str]:
    """Names of tensors outside the heads, without the buffers that a model makes itself."""
    prefix = f"{model.base_model_prefix}."
    own = [name for name in sorted(names) if not MADE.search(name)]
    return [name for name in own if name.removeprefix(prefix).partition(".")[0] not in heads]


def check_memory(auto: Any, model: str, config: Any, dtype: torch.dtype, copies: int = 1) -> None:
    """Raise CheckpointError if the weights will not fit."""
    if getattr(config, "quantization_config", None):  # quantised weights take less than their number says
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # counted without taking memory
        empty = auto.from_config(config, trust_remote_code=False)
    count = sum(parameter.numel() for parameter in empty.parameters())
    weights = count * dtype.itemsize
    # Weights pass through the machine's memory to the GPU, where training adds its copies.
    on_gpu = {"on the GPU": weights * copies} if torch.cuda.is_available() else {}
    for place, wanted in {"on this machine": weights if on_gpu else weights * copies, **on_gpu}.items():
        free = memory.free_on_gpu() if place in on_gpu else memory.free_on_machine()
        if wanted > free:
            kind = str(dtype).removeprefix("torch.") + (", with gradients and AdamW's averages" if copies > 1 else "")
            remedy = "Take a smaller model" + (", or bfloat16 as a reader's dtype" if dtype.itemsize > 2 else "")
            raise CheckpointError(
                f"model {model!r}: its {count / 1e9:.3g} billion parameters take {wanted / GIB:.1f} GiB in {kind}; "
                f"{free / GIB:.1f} GiB are free {place}. {remedy}."
            )
