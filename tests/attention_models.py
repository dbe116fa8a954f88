"""Small encoders of the architectures whose padding attention may leave out, and texts of several lengths."""

from typing import Any

import torch
from torch import Tensor

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
MARKS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
SERVED: dict[str, dict[str, Any]] = {
    "bert": NO_DROPOUT,
    "xlm-roberta": NO_DROPOUT,
    "nomic_bert": {},
    "modernbert": {"local_attention": 8, "global_attn_every_n_layers": 2},  # the first layer sees all, the second four
}
LENGTHS = [1, 5, 17, 40, 40]


def model_of(architecture: str, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    settings = SMALL | MARKS | {"vocab_size": 300, "max_position_embeddings": 64} | changes
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)  # otherwise states hardly depend on other tokens
    return model.eval()


def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 300, (length,), generator=generator).tolist() for length in LENGTHS]


def relative(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()
