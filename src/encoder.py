"""Stage encoder: the start of a bi-encoder's training.

    python src/encoder.py mini

An encoder with `model: fit` gets a tokenizer and an unsupervised start from data/prepared/reader.parquet; for any
other, models/encoders/<encoder>/ points to its weights and says how they are used. These are loaded once: an encoder
that cannot be trained is refused before training starts.
"""

from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import bar, named, run_stage
from bitter_retrieval.encoders.encoder import Usage, load_encoder, save_usage
from bitter_retrieval.encoders.fit import fit_encoder
from bitter_retrieval.models.checkpoints import locate, write_pointer
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.models.pretrained import TRAINED, read_config, width
from bitter_retrieval.models.workers import use_threads
from bitter_retrieval.records import PREPARED, read_rows, replacing

ROWS = Path("data/prepared/reader.parquet")
MODELS = Path("models/encoders")


def main(arguments: Sequence[str] | None = None) -> str:
    params, name = named("encoders", __doc__, arguments)
    settings = params.encoders[name]
    keep_freed_memory()
    usage = Usage(settings.pooling, settings.query_prefix, settings.passage_prefix, settings.max_length)
    if settings.fit:
        use_threads(1)  # with more, gradients of layer norms add in another order
        with bar(f"fit {name}", settings.fit.steps, "step") as advance:
            encoder = fit_encoder(read_rows(ROWS, PREPARED), usage, settings.fit, lambda step, loss: advance(1))
        encoder.save(MODELS / name)
    else:
        point(MODELS / name, settings.model, settings.revision, usage)
    return f"encoder {name}: {f'fitted in {settings.fit.steps:,} steps' if settings.fit else settings.model}"


def point(folder: Path, model: str, revision: str | None, usage: Usage) -> None:
    """Make `folder` point to weights elsewhere, used as `usage` says. Raises CheckpointError."""
    size = width(model, read_config(locate(model), revision))
    with replacing(folder) as partial:
        write_pointer(partial, model, revision)
        save_usage(partial, usage, size)
    load_encoder(folder, TRAINED)


if __name__ == "__main__":
    run_stage(main)
