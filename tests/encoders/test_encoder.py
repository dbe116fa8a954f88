"""The bi-encoder against one text at a time: pooling, prefixes, cutting, micro-batches, saving. See also
test_sentence_transformers.py for the tests that need that library."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from bitter_retrieval.encoders.encoder import (
    Encoder,
    Kind,
    QueryEncoder,
    Usage,
    load_encoder,
    load_usage,
    save_usage,
)
from bitter_retrieval.models.checkpoints import CheckpointError, write_pointer
from bitter_retrieval.models.vocabulary import fit_word_tokenizer
from bitter_retrieval.records import RecordError, passage_texts

TEXTS = [
    *passage_texts(tiny.world(4)).values(),
    "Aldan",
    "",
    "Was Brenn born in Holt? Kelso, 42 goats.",
    "goat " * 60,
]
USAGES = [Usage("mean", "", "", 32), Usage("cls", "query : ", "passage : ", 24), Usage("mean", "born", "owns a ", 64)]


def one_vector(encoder: Encoder, text: str, kind: Kind) -> np.ndarray:
    """Prefix, tokens, cut, forward pass without padding, pooling and length 1, written out."""
    usage = encoder.usage
    ids = encoder.tokenizer((usage.query_prefix if kind == "query" else usage.passage_prefix) + text).input_ids
    if len(ids) > usage.max_length:
        ids = ids[: usage.max_length - 1] + [encoder.tokenizer.sep_token_id]
    with torch.no_grad():
        hidden = encoder.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    pooled = (hidden[0] if usage.pooling == "cls" else hidden.mean(0)).numpy()
    return pooled / np.linalg.norm(pooled)


@pytest.mark.parametrize("kind", ["query", "passage"])
@pytest.mark.parametrize("usage", USAGES)
def test_vectors_are_those_of_texts_alone(usage: Usage, kind: Kind) -> None:
    encoder = tiny.tiny_encoder(**vars(usage))
    vectors = encoder.embed(TEXTS, kind, 64)
    wanted = np.stack([one_vector(encoder, text, kind) for text in TEXTS])
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01


@pytest.mark.parametrize("budget", [1, 20, 77, 10**6])
def test_micro_batches_and_order_change_nothing(budget: int) -> None:
    encoder = tiny.tiny_encoder()
    wanted = encoder.embed(TEXTS, "passage", 64)
    np.testing.assert_allclose(encoder.embed(TEXTS[::-1], "passage", budget)[::-1], wanted, atol=1e-6)


def test_micro_batches_do_not_change_gradients() -> None:
    gradients = []
    for budget in (20, 10**6):
        encoder = tiny.tiny_encoder()
        vectors = encoder(encoder.tokens(TEXTS, "passage"), budget)
        (vectors @ vectors[0]).square().sum().backward()
        parameters = [p for name, p in encoder.named_parameters() if "pooler" not in name]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-5 * gradients[0].abs().max()
    assert gradients[0].abs().max() > 1e-3


def test_each_kind_gets_its_prefix() -> None:
    plain, prefixed = tiny.tiny_encoder(), tiny.tiny_encoder(query_prefix="born in ", passage_prefix="owns ")
    assert prefixed.tokens(["Ashby"], "query") == plain.tokens(["born in Ashby"], "query")
    assert prefixed.tokens(["Ashby"], "passage") == plain.tokens(["owns Ashby"], "passage")
    np.testing.assert_array_equal(prefixed.embed(["Ashby"], "query", 64), plain.embed(["born in Ashby"], "passage", 64))


def test_long_texts_lose_their_tail_and_never_their_last_mark() -> None:
    encoder = tiny.tiny_encoder(max_length=10, passage_prefix="owns ")
    long, longer = encoder.tokens(["Aldan was born in Ashby . " * 3, "Aldan was born in Ashby . " * 9], "passage")
    assert long == longer and len(long) == 10
    assert encoder.tokenizer.decode(long) == "[CLS] owns aldan was born in ashby. aldan [SEP]"
    assert len(encoder.tokens(["Aldan"], "passage")[0]) < 10


def test_embedding_is_without_dropout_and_gradients() -> None:
    encoder = tiny.tiny_encoder()
    wanted = encoder.embed(TEXTS, "query", 64)
    for module in encoder.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    np.testing.assert_array_equal(encoder.embed(TEXTS, "query", 64), wanted)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_no_texts_no_tokens() -> None:
    assert tiny.tiny_encoder().tokens([], "query") == []


# -- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", USAGES)
def test_saved_encoder_is_loaded_as_it_was(usage: Usage, tmp_path: Path) -> None:
    encoder = tiny.tiny_encoder(seed=3, **vars(usage))
    encoder.save(tmp_path / "run/seed3")
    loaded = load_encoder(tmp_path / "run/seed3")
    assert loaded.usage == usage == load_usage(tmp_path / "run/seed3")
    weights = encoder.state_dict()
    assert set(loaded.state_dict()) == set(weights)
    assert all(value.cpu().equal(weights[name]) for name, value in loaded.state_dict().items())
    for kind in ("query", "passage"):
        assert loaded.tokens(TEXTS, kind) == encoder.tokens(TEXTS, kind)
    np.testing.assert_array_equal(loaded.embed(TEXTS, "query", 64), encoder.embed(TEXTS, "query", 64))


@pytest.mark.parametrize("usage", USAGES)
def test_automodel_and_pooling_give_the_vectors_of_a_saved_encoder(usage: Usage, tmp_path: Path) -> None:
    """As a user of transformers alone would write it: a padded batch, prompts from the files."""
    from transformers import AutoModel, AutoTokenizer

    tiny.tiny_encoder(seed=3, **vars(usage)).save(tmp_path)
    model, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    prompts = json.loads((tmp_path / "config_sentence_transformers.json").read_text())["prompts"]
    length = json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"]
    for kind, prompt in (("query", prompts["query"]), ("passage", prompts["document"])):
        texts = [prompt + text for text in TEXTS]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        pooled = hidden[:, 0] if usage.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        wanted = torch.nn.functional.normalize(pooled, dim=1).numpy()
        np.testing.assert_allclose(load_encoder(tmp_path).embed(TEXTS, kind, 64), wanted, rtol=0, atol=1e-6)


def test_same_encoder_saved_twice_is_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        tiny.tiny_encoder().save(folder)
        files = (path for path in folder.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert contents[0] == contents[1] and "model.safetensors" in contents[0]


KILLED = """
import os, signal, sys
from pathlib import Path
import tiny
from bitter_retrieval.encoders import encoder
encoder.save_usage = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
tiny.tiny_encoder(seed=4).save(Path(sys.argv[1]))
"""


def test_a_kill_in_the_midst_leaves_the_checkpoint_that_was_there(tmp_path: Path) -> None:
    tiny.tiny_encoder(seed=3).save(tmp_path / "seed0")
    former = load_encoder(tmp_path / "seed0").state_dict()
    path = os.pathsep.join(str(Path(__file__).parents[up] / folder) for up, folder in ((1, ""), (2, "src")))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "seed0")], env=os.environ | {"PYTHONPATH": path}
    )
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".seed0.*.partial")
    assert (left / "model.safetensors").is_file()
    assert all(value.equal(former[name]) for name, value in load_encoder(tmp_path / "seed0").state_dict().items())


def test_nothing_of_an_earlier_checkpoint_stays(tmp_path: Path) -> None:
    tiny.tiny_encoder(seed=1).save(tmp_path / "mini")
    tiny.tiny_encoder(seed=2).save(tmp_path / "seed0", tmp_path / "mini")
    assert isinstance(load_encoder(tmp_path / "seed0"), QueryEncoder)
    tiny.tiny_encoder(seed=3).save(tmp_path / "seed0")
    assert type(load_encoder(tmp_path / "seed0")) is Encoder


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_a_full_disk_is_named_and_leaves_the_checkpoint_that_was_there(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.tiny_encoder(seed=3).save(tmp_path / "seed0")
    former, encoder = load_encoder(tmp_path / "seed0").state_dict(), tiny.tiny_encoder(seed=4)

    def full(folder: Path) -> None:  # as the libraries in Rust say it, which know no OSError
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"half")
        raise Exception("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(getattr(encoder, part), "save_pretrained", full)
    with pytest.raises(RecordError, match=r"seed0: .*No space left on device.*Free space there"):
        encoder.save(tmp_path / "seed0")
    assert list(tmp_path.iterdir()) == [tmp_path / "seed0"]
    assert all(value.equal(former[name]) for name, value in load_encoder(tmp_path / "seed0").state_dict().items())


@pytest.mark.parametrize("file", ["model.safetensors", "SHA256SUMS"])
def test_weights_with_changed_bytes_are_refused_by_name(tmp_path: Path, file: str) -> None:
    tiny.tiny_encoder().save(tmp_path)
    load_encoder(tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    for place in range(1, 65):  # numbers at the end of the weights
        content[-place] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not the weights that were saved there, by .*SHA256SUMS.*dvc checkout"):
        load_encoder(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()  # the change was meant
    load_encoder(tmp_path)


def test_pointer_takes_weights_from_elsewhere_and_usage_from_its_folder(tmp_path: Path) -> None:
    encoder = tiny.tiny_encoder()
    encoder.save(tmp_path / "elsewhere")
    write_pointer(tmp_path / "mini", str(tmp_path / "elsewhere"), None)
    save_usage(tmp_path / "mini", Usage("cls", "a ", "b ", 12), 32)
    loaded = load_encoder(tmp_path / "mini")
    assert loaded.usage == Usage("cls", "a ", "b ", 12)
    weights = encoder.state_dict()
    assert all(value.cpu().equal(weights[name]) for name, value in loaded.state_dict().items())


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        load_encoder(tmp_path / "nowhere")


# -- which way a transformer reads -----------------------------------------------------------------------------------

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
BOTH_WAYS = {
    "bert": {**SMALL, "max_position_embeddings": 8},
    "nomic_bert": SMALL,  # positions are rotations: equal tokens do not show who sees whom
    "modernbert": {**SMALL, "global_attn_every_n_layers": 1},
    "gemma3_text": {**tiny.ARCHITECTURES["gemma3_text"], "use_bidirectional_attention": True},
    "qwen3": {**tiny.SIZE, "is_causal": False},
}
FORWARD = ["qwen3", "gemma3_text", "gpt2", "bloom", "mamba"]


def save_with_unknown_words(folder: Path, architecture: str, size: dict[str, Any]) -> None:
    """A transformer whose tokenizer knows no usual word, and puts nothing around a text."""
    from transformers import AutoConfig, AutoModel

    tokenizer = fit_word_tokenizer(["Ashby"], 60)
    marks = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(architecture, **size, **marks, vocab_size=60)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_usage(folder, Usage("mean", "", "", 8), 32)


@pytest.mark.parametrize("architecture", BOTH_WAYS)
def test_encoder_is_one_whatever_its_tokenizer_knows(architecture: str, tmp_path: Path) -> None:
    save_with_unknown_words(tmp_path, architecture, BOTH_WAYS[architecture])
    assert load_encoder(tmp_path).embed(["Ashby the goat"], "query", 64).shape == (1, 32)


@pytest.mark.parametrize("architecture", FORWARD)
def test_decoder_is_refused(architecture: str, tmp_path: Path) -> None:
    save_with_unknown_words(tmp_path, architecture, tiny.ARCHITECTURES[architecture])
    with pytest.raises(CheckpointError, match="is a decoder: its tokens do not see those after them"):
        load_encoder(tmp_path)


# -- whether padding changes vectors ---------------------------------------------------------------------------------

LEAKY = {
    "fnet": {**SMALL, "max_position_embeddings": 64},  # mixes all places
    "convbert": {**SMALL, "max_position_embeddings": 64, "embedding_size": 32},  # convolves over padding
    "yoso": {**SMALL, "max_position_embeddings": 64},
    "nystromformer": {**SMALL, "max_position_embeddings": 64, "num_landmarks": 4, "segment_means_seq_len": 4},
    # pools neighbouring places
    "funnel": {
        "d_model": 32,
        "d_inner": 48,
        "n_head": 2,
        "d_head": 16,
        "block_sizes": [1, 1],
        "architectures": ["FunnelModel"],
    },
}


def save_for_batches(folder: Path, architecture: str, size: dict[str, Any]) -> Encoder:
    """A transformer with the world's tokenizer and weights that tell texts apart; reads 40 tokens."""
    from transformers import AutoConfig, AutoModel

    usage, tokenizer = Usage("mean", "", "", 40), tiny.tiny_encoder().tokenizer
    marks = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **size, **marks, vocab_size=len(tokenizer))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    encoder = Encoder(model, tokenizer, usage)
    encoder.save(folder)
    return encoder


@pytest.mark.parametrize("architecture", [*LEAKY, "modernbert"])
def test_batches_give_each_text_the_vector_that_it_has_alone(
    architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = save_for_batches(tmp_path, architecture, LEAKY.get(architecture) or BOTH_WAYS[architecture])
    loaded = load_encoder(tmp_path)
    assert loaded.pads == (architecture not in LEAKY) == ("encodes texts one by one" not in caplog.text)
    texts = [text for text in TEXTS if text]  # Funnel pools no text away
    with torch.no_grad():
        hidden = [saved.model(torch.tensor([ids])).last_hidden_state[0] for ids in saved.tokens(texts, "query")]
    alone = np.array([torch.nn.functional.normalize(states.mean(0), dim=0).numpy() for states in hidden])
    np.testing.assert_allclose(loaded.embed(texts, "query", 10**4), alone, rtol=0, atol=1e-5)


def test_encoder_that_draws_lots_is_refused(tmp_path: Path) -> None:
    chunks = {"local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "num_buckets": 2, "attn_layers": ["lsh"]}
    save_for_batches(
        tmp_path,
        "reformer",
        {**SMALL, **chunks, "attention_head_size": 16, "axial_pos_embds": False, "max_position_embeddings": 64},
    )
    with pytest.raises(CheckpointError, match="ReformerModel gives a text another vector each time"):
        load_encoder(tmp_path)
