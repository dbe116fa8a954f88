"""Small GGUF files as llama.cpp's converter writes them: a Llama of two layers with quantised weights and a BPE."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

WIDTH, INNER, LAYERS, HEADS, KEYS = 64, 128, 2, 4, 2


def write_gguf(file: Path, architecture: str = "llama", without: str = "", seed: int = 0) -> Path:
    """A file of random weights in Q8_0, norms in float32. without: the name of a tensor that is left out."""
    gguf: Any = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(file, architecture)
    words, merges = _bpe()
    writer.add_name("tiny")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([1] * len(words))
    writer.add_token_merges(merges)
    writer.add_eos_token_id(0)
    rng = np.random.default_rng(seed)
    for name, shape in _shapes(len(words)).items():
        if name == without:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            values = rng.normal(0, 0.3, shape).astype(np.float32)
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _bpe() -> tuple[list[str], list[str]]:
    """Tokens by id, and merges, of the tests' byte-level BPE."""
    model = json.loads(tiny.tokenizer_of("bpe").backend_tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return words, [" ".join(pair) for pair in model["merges"]]


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    keys = WIDTH // HEADS * KEYS
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (WIDTH,),
                "attn_q": (WIDTH, WIDTH),
                "attn_k": (keys, WIDTH),
                "attn_v": (keys, WIDTH),
                "attn_output": (WIDTH, WIDTH),
                "ffn_norm": (WIDTH,),
                "ffn_gate": (INNER, WIDTH),
                "ffn_up": (INNER, WIDTH),
                "ffn_down": (WIDTH, INNER),
            }.items()
        }
    return shapes
