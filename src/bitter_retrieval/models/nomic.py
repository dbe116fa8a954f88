"""The layout in which nomic published its encoders before transformers had their architecture.

    {"n_embd": 768, "n_layer": 12, "n_inner": 3072, "activation_function": "swiglu", "rotary_emb_base": 1000, …}
    NomicBertConfig(hidden_size=768, num_hidden_layers=12, intermediate_size=3072, hidden_act="silu", …)

transformers renames the tensors of that layout as it loads them, but reads none of these fields: a model of nomic's
own size would be right by luck, any other silently wrong. A field that asks for more than NomicBert can do is refused.
"""

from typing import Any

from bitter_retrieval.models.checkpoints import CheckpointError

FIELDS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
    "vocab_size": "vocab_size",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
}
STATED = {  # as NomicBert does it; a config must say so, as the old defaults differ
    "activation_function": "swiglu",
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
}
IMPLIED = {  # as NomicBert does it; a config may leave it out, as the old defaults agree
    "prenorm": False,
    "parallel_block": False,
    "causal": False,
    "use_rms_norm": False,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "num_experts": 0,
}
TRAINED_POSITIONS = 2048  # beyond them nomic's code scales the rotations, NomicBert does not


def is_old_layout(stated: dict[str, Any]) -> bool:
    """Whether a config.json has that layout; later ones may keep the old fields next to the new."""
    return stated.get("model_type") == "nomic_bert" and "n_embd" in stated and "hidden_size" not in stated


def nomic_config(stated: dict[str, Any], model: str) -> Any:
    """transformers' config for a config.json in that layout. Raises CheckpointError."""
    from transformers import NomicBertConfig

    wanted = {*FIELDS.values(), "rotary_emb_base", "n_positions", "embd_pdrop"}
    lacking = sorted(name for name in wanted if stated.get(name) is None)
    other = {name: stated.get(name) for name, value in STATED.items() if stated.get(name) != value}
    other |= {name: stated[name] for name, value in IMPLIED.items() if stated.get(name) not in (None, value)}
    if not lacking and stated["embd_pdrop"] != stated["resid_pdrop"]:
        other["embd_pdrop"] = stated["embd_pdrop"]
    if lacking or other:
        why = f"lacks {', '.join(lacking)}" if lacking else f"asks for {other}, which NomicBert cannot do"
        raise CheckpointError(
            f"model {model!r}: its config.json has nomic's old layout and {why}. Name another encoder, or a revision "
            "in the layout of transformers."
        )
    return NomicBertConfig(
        **{name: stated[old] for name, old in FIELDS.items()},
        hidden_act="silu",  # the gate of swiglu
        max_position_embeddings=min(stated["n_positions"], stated.get("max_trained_positions") or TRAINED_POSITIONS),
        rope_parameters={"rope_type": "default", "rope_theta": float(stated["rotary_emb_base"])},
    )
