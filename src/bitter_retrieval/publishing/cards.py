"""What the cards of models and datasets share: the page, and the part that says where its content comes from.

    origin = Origin(commit="3f…", settings={"data": {…}, "runs.kl": {…}}, hashes={"models/runs/kl": "9b…"}, …)
    page(ModelCardData(…), "owner/kl", ["> Primary figure …", "## Results", …], origin)    README.md as one text
    portable("/home/ada/models/llama")                                                     "…/llama"

Cards never show paths of this machine.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CardData

from bitter_retrieval.lineage import SOURCES
from bitter_retrieval.plain_text import plain
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.typed_yaml import write_yaml

TAG = "bitter-retrieval"  # by which the Hub finds what this project has published
QUESTION = (
    "Does a retriever trained on what helps a frozen language model answer (the loss of the answer given each passage, "
    "a soft label) beat one trained on human relevance labels, judged by the answers that the model then gives?"
)
CREDIT = (
    "Made with bitter-retrieval, after the idea and first implementation by Nick Ryan "
    "(https://github.com/nickcdryan/bitter-retrieval)."
)
# The folders of a path on this machine (/…, ~/… or ../…), spaces included; its last part is not matched.
PLACE = re.compile(r"""(?<![^\s'"(])(~\w*|\.\.)?/(?=\S)(.*/(?=[^\s:]))?""")


@dataclass(frozen=True)
class Origin:
    """Where something comes from: code, settings and files."""

    commit: str
    settings: Mapping[str, Any]  # entries of params.yaml by dotted key, `data` among them
    hashes: Mapping[str, str]  # MD5 by path
    doubts: Sequence[str]  # reasons why the figures may be about something else
    licence: str


def page(data: CardData, repo: str, parts: Iterable[str], origin: Origin) -> str:
    """The whole card: metadata for the Hub, paragraphs, and where it all comes from."""
    head = f"---\n{data.to_yaml()}\n---\n\n# {repo}"
    return plain("\n\n".join([head, *parts, *_provenance(origin)]) + "\n")


def _provenance(origin: Origin) -> Iterator[str]:
    if origin.doubts:
        yield "## Doubts"
        yield "**Figures and counts above may not belong to these files:**"
        yield "\n".join(f"- {portable(doubt)}" for doubt in origin.doubts)
    yield "## Where it comes from"
    yield (
        f"{CREDIT} Commit `{origin.commit}`. The statements above hold for these data, readers and sizes; they do not "
        "show how others behave."
    )
    if origin.licence == "unknown":
        yield "No licence has been stated; those of the data and the models used apply in any case."
    yield "Settings, from params.yaml:"
    shown = write_yaml(portable(origin.settings), width=110)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))  # a prompt may hold one
    yield f"{fence}yaml\n{shown}{fence}"
    if origin.hashes:
        yield "Files read and written (dvc.lock, MD5):"
        yield markdown_table(["file", "MD5"], [[portable(path), md5] for path, md5 in origin.hashes.items()])


def portable(value: Any) -> Any:
    """Settings, or a sentence, with each path on this machine cut to its last part; prompts stay, slashes and all."""
    if isinstance(value, Mapping):
        return {key: item if key == "prompt" else portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return PLACE.sub("…/", value) if isinstance(value, str) else value


def label_kind(settings: Mapping[str, Any], source: str) -> str:
    """The kind of a label source, and whose losses it has."""
    own = next(entry for key, entry in settings.items() if key in {f"{section}.{source}" for section in SOURCES})
    readers = [f"{key.split('.')[1]}, {weights(e)}" for key, e in settings.items() if key.startswith("readers.")]
    return f"{own['kind']}; answer losses of {', '.join(readers)}" if readers else f"kind {own['kind']}"


def weights(entry: Mapping[str, Any]) -> str:
    """A model and its commit, from an entry of readers or encoders."""
    model = "a small model fitted in the experiment" if entry["model"] == "fit" else portable(entry["model"])
    return f"{model} at {entry['revision']}" if entry.get("revision") else model


def dataset_ids(settings: Mapping[str, Any]) -> list[str]:
    """Hub ids of the data and of published labels; not of `beyond`, as no model is trained on it."""
    hubs = [entry.get("hub") for key, entry in settings.items() if key == "data" or key.startswith("labels.")]
    return list(dict.fromkeys(hub["id"] for hub in hubs if hub))
