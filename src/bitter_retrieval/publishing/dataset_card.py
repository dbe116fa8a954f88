"""README.md of a dataset of soft labels: what a label is, the columns, counts, and where it comes from.

---
license: unknown
configs: [{config_name: soft_labels, data_files: [{split: train, path: soft_labels/train.parquet}, …]}, …]
---
# owner/soft-labels
Questions with candidate passages, and for each passage the loss of a frozen language model on the answer …
"""

from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import DatasetCardData

from bitter_retrieval.publishing.cards import QUESTION, TAG, Origin, dataset_ids, label_kind, page
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table


def dataset_card(
    repo: str, source: str, files: Mapping[str, Mapping[str, str]], counted: Mapping[str, Any], origin: Origin
) -> str:
    """Card of a label source. files: path by split, by configuration, the default first; counted: account by split."""
    data = DatasetCardData(
        license=origin.licence,
        pretty_name=f"Soft labels of {source}",
        tags=[TAG, "soft-labels", "retrieval"],
        task_categories=["text-retrieval", "question-answering"],
        annotations_creators=["machine-generated"],
        source_datasets=dataset_ids(origin.settings) or ["original"],
        configs=[
            {
                "config_name": name,
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
                **({"default": True} if name == next(iter(files)) else {}),
            }
            for name, paths in files.items()
        ],
    )
    return page(data, repo, _described(repo, source, files, counted, origin), origin)


def _described(
    repo: str, source: str, files: Mapping[str, Mapping[str, str]], counted: Mapping[str, Any], origin: Origin
) -> Iterator[str]:
    published, records = files
    yield (
        "Questions with candidate passages, and for each passage the loss of a frozen language model on the answer "
        "when it is shown that passage, in nats a token. Lower is better. "
        f"Label source `{source}`: {label_kind(origin.settings, source)}."
    )
    yield f"It was made to answer a question: {QUESTION[0].lower()}{QUESTION[1:]}"
    yield "\n".join(
        [
            "```python",
            "from datasets import load_dataset",
            "",
            f'load_dataset("{repo}")  # {published}: a row a question, MS MARCO\'s columns and passages.soft_labels',
            f'load_dataset("{repo}", "{records}")  # a row a (question, passage, reference answer)',
            "```",
        ]
    )
    yield (
        f"- `{published}`: `passages.soft_labels` is parallel to `passage_text` and refers to the first of `answers`. "
        "The last passage of every question is empty: its label is the loss without a passage. `is_selected` is the "
        "annotators' mark, null in data without annotation. `url`, `query_type` and `wellFormedAnswers` are empty.\n"
        f"- `{records}`: `nll_sum` over the `n_tokens` tokens of reference answer `answer_index`; `passage_index` is "
        "the passage's place in the row of the same `query_id`, `passage_id` is empty for no passage at all; "
        "resample questions by `group_id`.\n"
        "- A null label could not be computed."
    )
    yield "## Counts"
    yield markdown_table(["", *counted], list(_counts(counted)))


def _counts(counted: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a figure of the labels' account (metrics/label), a column a split."""
    splits = [dict(_leaves(split)) for split in counted.values()]
    for name in dict.fromkeys(name for split in splits for name in split):
        yield [name, *(f"{split[name]:,}" if name in split else wording.NOTHING for split in splits)]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by name, such as "gain mean"; lists, which are tables themselves, are left out."""
    for name, value in tree.items():
        words = above + name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{words} ")
        elif isinstance(value, int | float):
            yield words, value
