"""nomic's old layout against its arithmetic written out; deviations are refused, never half loaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import layer_norm, silu

import encoder as stage
from bitter_retrieval.encoders.encoder import Usage, load_encoder
from bitter_retrieval.models.checkpoints import CheckpointError

WIDTH, INNER, HEADS, LAYERS = 24, 40, 3, 2
PREFIXES = Usage("mean", "search_query: ", "search_document: ", 64)
TEXTS = ["Where was Dorin born?", "Dorin was born in Fenwick. Dorin owns a dog.", "cat"]
CONFIG = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"},
    "causal": False,
    "embd_pdrop": 0.0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-5,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_inner": INNER,
    "n_layer": LAYERS,
    "n_positions": 8192,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 500,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": 2,
    "type_vocab_size": 2,
    "use_rms_norm": None,
}


def old_tensors(vocabulary: int) -> dict[str, Tensor]:
    shapes = {"embeddings.word_embeddings": (vocabulary, WIDTH), "embeddings.token_type_embeddings": (2, WIDTH)}
    norms = ["emb_ln"]
    for layer in (f"encoder.layers.{number}" for number in range(LAYERS)):
        shapes |= {f"{layer}.attn.Wqkv": (3 * WIDTH, WIDTH), f"{layer}.attn.out_proj": (WIDTH, WIDTH)}
        shapes |= {f"{layer}.mlp.fc11": (INNER, WIDTH), f"{layer}.mlp.fc12": (INNER, WIDTH)}
        shapes |= {f"{layer}.mlp.fc2": (WIDTH, INNER)}
        norms += [f"{layer}.norm1", f"{layer}.norm2"]
    generator = torch.Generator().manual_seed(0)
    drawn = {f"{name}.weight": torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    drawn |= {f"{name}.weight": 1 + torch.randn(WIDTH, generator=generator) * 0.3 for name in norms}
    return drawn | {f"{name}.bias": torch.randn(WIDTH, generator=generator) * 0.3 for name in norms}


def states(tensors: dict[str, Tensor], ids: list[int]) -> Tensor:
    """[T, width] of one text, in float64, as the code beside those checkpoints computed them."""
    of = {name: tensor.double() for name, tensor in tensors.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (WIDTH,), of[f"{name}.weight"], of[f"{name}.bias"], CONFIG["layer_norm_epsilon"])

    size = WIDTH // HEADS
    frequencies = CONFIG["rotary_emb_base"] ** -(torch.arange(0, size, 2).double() / size)
    angles = torch.outer(torch.arange(len(ids)).double(), frequencies)

    def rotated(x: Tensor) -> Tensor:  # [H, T, D]
        first, second = x.chunk(2, dim=-1)
        return torch.cat(
            [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
        )

    x = of["embeddings.word_embeddings.weight"][ids] + of["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "emb_ln")
    for layer in (f"encoder.layers.{number}" for number in range(LAYERS)):
        parts = (x @ of[f"{layer}.attn.Wqkv.weight"].T).view(len(ids), 3, HEADS, size).permute(1, 2, 0, 3)
        q, k, v = rotated(parts[0]), rotated(parts[1]), parts[2]
        attended = ((q @ k.transpose(1, 2) * size**-0.5).softmax(-1) @ v).transpose(0, 1).reshape(len(ids), WIDTH)
        x = norm(x + attended @ of[f"{layer}.attn.out_proj.weight"].T, f"{layer}.norm1")
        gated = (x @ of[f"{layer}.mlp.fc11.weight"].T) * silu(x @ of[f"{layer}.mlp.fc12.weight"].T)
        x = norm(x + gated @ of[f"{layer}.mlp.fc2.weight"].T, f"{layer}.norm2")
    return x


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder as nomic published them: config, weights, tokenizer, and code, which must not run."""
    folder = tmp_path / "nomic"
    folder.mkdir()
    tokenizer = tiny.tiny_encoder().tokenizer
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(tokenizer)}))
    (folder / "code.py").write_text("raise RuntimeError('code that came with weights was run')\n")
    save_file(old_tensors(len(tokenizer)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit(folder: Path, **changes: Any) -> None:
    stated = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({name: value for name, value in stated.items() if value != "drop"}))


def point(checkpoint: Path) -> Path:
    """Point the stage encoder to it, and load it."""
    folder = checkpoint.parent / "encoders/nomic"
    stage.point(folder, str(checkpoint), None, PREFIXES)
    return folder


def test_vectors_are_those_of_the_layout_it_was_published_in(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_encoder(point(checkpoint))
    tensors = old_tensors(len(loaded.tokenizer))
    for kind, prefix in (("query", "search_query: "), ("passage", "search_document: ")):
        pooled = [states(tensors, loaded.tokenizer(prefix + text).input_ids).mean(0) for text in TEXTS]
        wanted = torch.stack([vector / vector.norm() for vector in pooled]).numpy()
        np.testing.assert_allclose(loaded.embed(TEXTS, kind, 64), wanted, rtol=0, atol=1e-5)
    assert loaded.model.config.max_position_embeddings == 2048  # beyond, that code scaled the rotations
    loaded.save(tmp_path / "trained")
    again = load_encoder(tmp_path / "trained")
    np.testing.assert_array_equal(again.embed(TEXTS, "query", 64), loaded.embed(TEXTS, "query", 64))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation_function": "gelu"}, "asks for {'activation_function': 'gelu'}, which NomicBert cannot do"),
        ({"activation_function": "drop"}, "asks for {'activation_function': None}"),
        ({"prenorm": True}, "{'prenorm': True}"),
        ({"qkv_proj_bias": "drop"}, "{'qkv_proj_bias': None}"),
        ({"rotary_emb_fraction": 0.5}, "{'rotary_emb_fraction': 0.5}"),
        ({"rotary_emb_interleaved": True}, "{'rotary_emb_interleaved': True}"),
        ({"causal": True}, "{'causal': True}"),
        ({"use_rms_norm": True}, "{'use_rms_norm': True}"),
        ({"num_experts": 8}, "{'num_experts': 8}"),
        ({"embd_pdrop": 0.1}, "{'embd_pdrop': 0.1}"),
        ({"n_inner": None, "rotary_emb_base": "drop"}, "lacks n_inner, rotary_emb_base"),
    ],
)
def test_config_that_asks_for_something_else_is_refused(changes: dict[str, Any], said: str, checkpoint: Path) -> None:
    edit(checkpoint, **changes)
    with pytest.raises(CheckpointError) as caught:
        point(checkpoint)
    assert "has nomic's old layout and" in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize(("layers", "said"), [(1, "hold 11 tensors that a NomicBertModel lacks"), (3, "lack 11")])
def test_weights_of_another_depth_are_not_half_loaded(layers: int, said: str, checkpoint: Path) -> None:
    edit(checkpoint, n_layer=layers)
    with pytest.raises(CheckpointError, match=f"does not load as one: its weights {said}"):
        point(checkpoint)


def test_biases_that_the_config_does_not_tell_of_are_not_left_out(checkpoint: Path) -> None:
    tensors = old_tensors(len(tiny.tiny_encoder().tokenizer))
    tensors["encoder.layers.0.mlp.fc2.bias"] = torch.ones(WIDTH)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="hold 1 tensors that a NomicBertModel lacks, such as .*bias"):
        point(checkpoint)
