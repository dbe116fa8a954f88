"""Models before they are used: do they fit, are their weights whole, is no code of theirs run?"""

import copy
import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import encoder as encoder_stage
from bitter_retrieval.encoders.encoder import Usage, load_encoder, save_usage
from bitter_retrieval.models import memory, pretrained
from bitter_retrieval.models.checkpoints import SUMS, CheckpointError
from bitter_retrieval.models.pretrained import TRAINED, check_memory, read_config
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import Reader, ReaderSettings, open_reader

QWEN3_8B = {"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288}
QWEN3_8B |= {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
USAGE = Usage("mean", "", "", 8)
GIB = 2**30


def config_alone(folder: Path, **stated: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(stated))
    return folder


def opened(folder: Path, dtype: str = "float32", max_length: int = 96) -> Reader:
    return open_reader("mine", str(folder), None, ReaderSettings(tiny.PROMPT.template, dtype, max_length, 6))


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (
            "bfloat16",
            "its 8.19 billion parameters take 15.3 GiB in bfloat16; 8.0 GiB are free on this machine. Take "
            "a smaller model.",
        ),
        (
            "float32",
            "its 8.19 billion parameters take 30.5 GiB in float32; 8.0 GiB are free on this machine. Take "
            "a smaller model, or bfloat16 as a reader's dtype.",
        ),
    ],
)
def test_reader_that_does_not_fit_is_refused_by_its_config_alone(
    dtype: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config_alone(tmp_path / "qwen", **QWEN3_8B)
    tiny.tokenizer_of("word").save_pretrained(folder)
    monkeypatch.setattr(memory, "free_on_machine", lambda: 8 * GIB)
    with pytest.raises(CheckpointError) as caught:
        opened(folder, dtype)
    assert str(caught.value).startswith(f"model '{folder}': ") and str(caught.value).endswith(said)
    monkeypatch.setattr(memory, "free_on_machine", lambda: 31 * GIB)
    with pytest.raises(CheckpointError, match="no causal language model can be loaded from there .*safetensors"):
        opened(folder, dtype)


def test_encoder_is_to_fit_as_often_as_training_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BERT-base: 109 million parameters, 0.4 GiB, and four times as much in training."""
    folder = config_alone(tmp_path / "bert", model_type="bert")
    monkeypatch.setattr(memory, "free_on_machine", lambda: GIB)
    with pytest.raises(CheckpointError, match=r"0.109 billion .* 1.6 GiB in float32, with gradients and AdamW's"):
        encoder_stage.point(tmp_path / "encoders/bert", str(folder), None, USAGE)
    with pytest.raises(CheckpointError, match="does not load as one: .*safetensors"):
        load_encoder(tmp_path / "encoders/bert")


@pytest.mark.parametrize(
    ("on_machine", "on_gpu", "said"),
    [(9, 1, "1.6 GiB .* 1.0 GiB are free on the GPU"), (0, 9, "0.4 GiB .* 0.0 GiB are free on this machine")],
)
def test_weights_pass_through_the_machine_to_the_gpu(
    on_machine: int, on_gpu: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel

    config = read_config(str(config_alone(tmp_path / "bert", model_type="bert")), None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(memory, "free_on_machine", lambda: on_machine * GIB)
    monkeypatch.setattr(memory, "free_on_gpu", lambda: on_gpu * GIB)
    with pytest.raises(CheckpointError, match=said):
        check_memory(AutoModel, "bert", config, torch.float32, TRAINED)
    monkeypatch.setattr(memory, "free_on_machine", lambda: GIB)
    monkeypatch.setattr(memory, "free_on_gpu", lambda: 2 * GIB)
    check_memory(AutoModel, "bert", config, torch.float32, TRAINED)


def test_quantised_model_is_not_held_to_the_size_of_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(memory, "free_on_machine", lambda: GIB)
    quantised = QWEN3_8B | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    config = read_config(str(config_alone(tmp_path / "awq", **quantised)), None)
    check_memory(AutoModelForCausalLM, "awq", config, torch.float16)


def test_a_container_has_what_its_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    on_machine = memory.free_on_machine()
    assert 0 < on_machine <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name, held in {"max": "5000\n", "current": "3000\n", "stat": "anon 2600\ninactive_file 400\n"}.items():
        (tmp_path / f"memory.{name}").write_text(held)
    assert memory.free_on_machine() == 2400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_on_machine() > 5000


# -- whole weights ---------------------------------------------------------------------------------------------------


def change_weights(folder: Path, drop: str | None = None, **added: torch.Tensor) -> None:
    weights = load_file(folder / "model.safetensors")
    weights = {name: tensor for name, tensor in weights.items() if name != drop} | added
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def save_reader(folder: Path, architecture: str, **changes: Any) -> Path:
    tokenizer = tiny.tokenizer_of("word")
    tiny.tiny_model(architecture, len(tokenizer), **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": "model.layers.1.mlp.up_proj.weight"}, "lack 1 tensors of a Qwen3ForCausalLM, such as model.layers.1"),
        ({"drop": "lm_head.weight"}, "lack 1 tensors of a Qwen3ForCausalLM, such as lm_head.weight"),
        ({"model.layers.2.mlp.up_proj.weight": torch.ones(2)}, "hold 1 tensors that a Qwen3ForCausalLM lacks, such"),
        ({"model.layers.0.self_attn.q_proj.bias": torch.ones(2)}, "hold 1 tensors that a Qwen3ForCausalLM lacks"),
        ({"cls.predictions.bias": torch.ones(2)}, "hold 1 tensors that a Qwen3ForCausalLM lacks, such as cls"),
        ({"model.norm.weight": torch.ones(31)}, "are not those of a Qwen3ForCausalLM: model.norm.weight is .31., not"),
    ],
)
def test_reader_is_not_half_loaded(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = save_reader(tmp_path / "qwen", "qwen3", tie_word_embeddings=False)
    opened(folder)
    change_weights(folder, **change)
    with pytest.raises(CheckpointError, match=f"no causal language model can be loaded from there .its weights {said}"):
        opened(folder)


def test_buffers_of_older_checkpoints_and_tied_heads_are_no_gaps(tmp_path: Path) -> None:
    folder = save_reader(tmp_path / "gpt2", "gpt2")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    wanted = opened(folder).model.state_dict()
    buffers = {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8), "transformer.h.1.attn.masked_bias": torch.ones(1)}
    change_weights(folder, **buffers)
    found = opened(folder).model.state_dict()
    assert found.keys() == wanted.keys() and all(tensor.equal(wanted[name]) for name, tensor in found.items())


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"vocab_size": 400, "max_position_embeddings": 20, "pad_token_id": 0}
FAMILIES = ["bert", "xlm-roberta", "mpnet", "modernbert", "nomic_bert", "distilbert", "electra"]


@pytest.fixture
def with_heads(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint as pre-training leaves it, with the head that filled gaps."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    settings = SMALL | {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    if request.param == "distilbert":
        settings |= {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2}
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(request.param, **settings))
    model.save_pretrained(tmp_path / request.param)
    tiny.tiny_encoder().tokenizer.save_pretrained(tmp_path / request.param)
    save_usage(tmp_path / request.param, USAGE, 32)
    return tmp_path / request.param


@pytest.mark.parametrize("with_heads", FAMILIES, indirect=True)
def test_heads_on_an_encoder_are_left_out_and_what_is_inside_it_is_not(
    with_heads: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    capsys.readouterr()
    found = load_encoder(with_heads)
    stored = load_file(with_heads / "model.safetensors")
    left_out = set(stored) - {name for name in stored if any(part in name for part in ("layer", "embeddings"))}
    assert left_out, "no head in this checkpoint"
    assert found.embed(["goat"], "query", 64).shape == (1, 32)
    assert capsys.readouterr().err.count("\n") <= 1 and not caplog.records
    inside = next(name for name in sorted(stored) if ".0." in name and name.endswith(".weight"))
    change_weights(with_heads, **{inside.replace(".0.", ".7."): stored[inside].clone()})
    with pytest.raises(CheckpointError, match=r"does not load as one: its weights hold \d tensors that a"):
        load_encoder(with_heads)
    change_weights(with_heads, drop=inside)
    with pytest.raises(CheckpointError, match=r"does not load as one: its weights lack \d tensors of a"):
        load_encoder(with_heads)


@pytest.mark.parametrize(("with_heads", "reads"), [("xlm-roberta", 19), ("bert", 20)], indirect=["with_heads"])
def test_encoder_has_a_position_for_every_token(with_heads: Path, reads: int) -> None:
    """Padding is token 0 here: the first position of an XLM-R, and 19 are left."""
    save_usage(with_heads, Usage("mean", "", "", reads), 32)
    load_encoder(with_heads).embed(["goat " * 40], "query", 64)
    save_usage(with_heads, Usage("mean", "", "", reads + 1), 32)
    with pytest.raises(CheckpointError, match=f"reads {reads} tokens, max_length is {reads + 1}. Lower it to {reads}."):
        load_encoder(with_heads)


def test_reader_has_a_position_for_every_token(tmp_path: Path) -> None:
    folder = save_reader(tmp_path / "gpt2", "gpt2")
    assert opened(folder, max_length=1024).max_length == 1024
    with pytest.raises(CheckpointError, match="has 1024 positions, max_length is 1025. Lower it to 1024."):
        opened(folder, max_length=1025)


# -- configs ---------------------------------------------------------------------------------------------------------


def test_code_beside_weights_is_never_run(tmp_path: Path) -> None:
    stated = {"model_type": "new", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    folder = config_alone(tmp_path / "gte", **stated)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    with pytest.raises(CheckpointError, match="has no architecture 'new', and code that comes with weights is never"):
        encoder_stage.point(tmp_path / "encoders/gte", str(folder), None, USAGE)
    with pytest.raises(CheckpointError, match="has no architecture 'new'"):
        opened(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a model's config"),
        ("[]", "is not a model's config"),
        ("{}", "has no architecture None"),
        ('{"model_type": "qwen3", "hidden_size": "wide"}', "is not a model's config"),
    ],
)
def test_config_that_is_none_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"^model '{tmp_path}': .*{said}"):
        opened(tmp_path)


def test_folder_is_loaded_without_asking_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_reader(tmp_path / "qwen", "qwen3")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    assert opened(folder).model.config._commit_hash is None
    assert pretrained.read_config(str(folder), None).hidden_size == 32


@pytest.mark.parametrize("of", ["reader", "encoder"])
def test_adapter_beside_whole_weights_is_refused_whether_peft_is_installed_or_not(of: str, tmp_path: Path) -> None:
    if of == "reader":
        save_reader(tmp_path, "qwen3")
    else:
        tiny.tiny_encoder().save(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="adapter_config.json asks for other weights.*merge_and_unload"):
        opened(tmp_path) if of == "reader" else load_encoder(tmp_path)


# -- tokenizers and weights that do not fit, or are broken -----------------------------------------------------------


def save_with(folder: Path, of: str, tokenizer: Any, vocabulary: int) -> Path:
    if of == "encoder":
        encoder = tiny.tiny_encoder()
        encoder.model.resize_token_embeddings(vocabulary)
        encoder.tokenizer = tokenizer
        encoder.save(folder)
    else:
        tiny.tiny_model(of, vocabulary, tie_word_embeddings=False).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def tokenizer_for(of: str) -> Any:
    return copy.deepcopy(tiny.tiny_encoder().tokenizer if of == "encoder" else tiny.tokenizer_of("bpe"))


def outputs(folder: Path, of: str) -> list[Any]:
    """What batches of several lengths give."""
    if of == "encoder":
        return load_encoder(folder).embed(["a goat", "Dorin was born in Holt. He owns a dog."], "query", 99).tolist()
    reader, asked = opened(folder), [("Where?", "Dorin was born in Holt."), ("Where was Dorin born?", "")]
    scores = Scorer(reader, 10**4).score([Triple(*texts, "Holt") for texts in asked])
    return [[score.nll_sum for score in scores if score], [one.text for one in generate_answers(reader, asked, 10**4)]]


@pytest.mark.parametrize("of", ["qwen3", "gemma2", "encoder"])
@pytest.mark.parametrize("pad", ["beyond", "none"])
def test_any_token_pads_where_the_tokenizers_is_not_the_models(of: str, pad: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_for(of)
    size = len(tokenizer)
    wanted = outputs(save_with(tmp_path / "usual", of, tokenizer, size), of)
    if pad == "beyond":
        tokenizer.add_special_tokens({"pad_token": "[another]"})
    else:
        tokenizer.pad_token = tokenizer.eos_token = None
    found = outputs(save_with(tmp_path / pad, of, tokenizer, size), of)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-6)
    assert of == "encoder" or found[1] == wanted[1]


@pytest.mark.parametrize("of", ["qwen3", "encoder"])
@pytest.mark.parametrize("files", ["larger", "none", "cut"])
def test_tokenizer_that_is_not_the_models_or_none_is_named(of: str, files: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_for(of)
    save_with(tmp_path, of, tokenizer, 50 if files == "larger" else len(tokenizer))
    whole = tmp_path / "tokenizer.json"
    if files == "none":
        whole.unlink()
        (tmp_path / "tokenizer_config.json").unlink()
    elif files == "cut":
        whole.write_text(whole.read_text()[:500])
    said = {
        "larger": "its tokenizer is another model's: token .* the model has 50 tokens",
        "none": "it has no tokenizer|its tokenizer cannot be read",
        "cut": "its tokenizer cannot be read: .* Copy or fetch",
    }
    with pytest.raises(CheckpointError, match=said[files]):
        outputs(tmp_path, of)


@pytest.mark.parametrize("of", ["qwen3", "encoder"])
@pytest.mark.parametrize("broken", ["cut", "header", "empty"])
def test_weights_that_are_cut_off_are_named(of: str, broken: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_for(of)
    file = save_with(tmp_path, of, tokenizer, len(tokenizer)) / "model.safetensors"
    file.with_name(SUMS).unlink(missing_ok=True)  # as beside weights from elsewhere
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "header": b"\xff" * 64 + whole[64:], "empty": b""}[broken])
    with pytest.raises(CheckpointError, match=f"{tmp_path}.*a file of its weights is cut off or overwritten"):
        outputs(tmp_path, of)


def test_generation_config_that_is_cut_off_is_named(tmp_path: Path) -> None:
    folder = save_reader(tmp_path / "qwen", "qwen3")
    (folder / "generation_config.json").write_text('{"eos_')
    with pytest.raises(CheckpointError, match="generation_config.json is cut off or overwritten"):
        opened(folder)


@pytest.mark.parametrize(
    "head", ["lm_predictions.lm_head", "qa_outputs", "sop_classifier.classifier", "pred_layer.proj"]
)
@pytest.mark.parametrize("with_heads", ["bert"], indirect=True)
def test_head_of_another_task_is_left_out(head: str, with_heads: Path) -> None:
    change_weights(with_heads, **{f"{head}.weight": torch.ones(2)})
    assert load_encoder(with_heads).embed(["goat"], "query", 64).shape == (1, 32)
