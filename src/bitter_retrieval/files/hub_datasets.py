"""Datasets of the Hugging Face Hub at one commit, from the hub or its local cache, as records with their places.

    parts = hub_parts(Hub("microsoft/ms_marco", "…40 hex digits…", "v1.1"), "data.hub", "data.path")
    next(iter(parts["train"]))    (microsoft/ms_marco/v1.1/train, row 1, {"query": "…", "answers": […], …})

The client is `datasets`, which reads HF_ENDPOINT, HF_HOME and HF_TOKEN. Left alone, it waits minutes for a hub that
does not answer and then takes the commit cached last. Here a hub has seconds to answer, and a commit other than the one
asked for is refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bitter_retrieval.files.settings import Hub
from bitter_retrieval.files.tables import Place, Record
from bitter_retrieval.models.credentials import concealed, offer_hub_token
from bitter_retrieval.models.hub import contact, refusal

BATCH = 1024  # rows turned into Python objects at a time


class DatasetError(ValueError):
    """An unavailable dataset: which, why, and what to do about it."""


def hub_parts(hub: Hub, at: str, instead: str) -> Mapping[str, Iterable[Record]]:
    """Records by split. Raises DatasetError.

    at: where params name the dataset; instead: where they name local files, for errors.
    """
    refuse_unstated(hub, at, instead)
    from datasets import load_dataset  # importing takes seconds

    refused = _refused(hub)
    try:
        found = _cached(hub) if refused else load_dataset(hub.id, hub.config, revision=hub.revision)
    except Exception as error:  # the hub, the cache, the disk and the files fail in many ways
        raise DatasetError(_said(hub, at, instead, refused or error)) from error
    commits = {Path(file["filename"]).parent.name for split in found.values() for file in split.cache_files}
    if commits != {hub.revision}:
        cached = DatasetError(f"the hub does not answer, and the cache has {sorted(commits)} instead")
        raise DatasetError(_said(hub, at, instead, cached))
    name = Path(hub.id, hub.config or "")
    return {split: _records(name / split, table) for split, table in found.items()}


def refuse_unstated(hub: Hub, at: str, instead: str) -> None:
    """Raise DatasetError if params state no commit. Contacts no hub."""
    from huggingface_hub import constants

    if hub.revision is None:
        page = f"{concealed(constants.ENDPOINT)}/datasets/{hub.id}"
        raise DatasetError(
            f"{at}.revision: null. `git ls-remote {page} main` prints the commit to "
            f"paste (40 hex digits). Or put the files of {hub.id} into a folder, set {instead} to it and remove hub."
        )


def refuse_unavailable(hub: Hub, at: str, instead: str) -> None:
    """Raise DatasetError, before anything is read, if the commit is neither cached nor available from the hub."""
    if not _folders(hub) and (refused := _refused(hub)):
        raise DatasetError(_said(hub, at, instead, refused)) from refused


def _refused(hub: Hub) -> Exception | None:
    """The error if the hub is out of reach or refuses the dataset, else None."""
    offer_hub_token()
    try:
        contact(hub.id, hub.revision, dataset=True)
    except Exception as error:  # the client and its HTTP library raise many types
        return error
    return None


def _cached(hub: Hub) -> Any:
    """The commit from the cache. Without a hub, load_dataset would take the commit cached last instead."""
    from datasets import Dataset, DatasetInfo, concatenate_datasets

    (folder,) = _folders(hub)
    found = {}
    for split in DatasetInfo.from_directory(str(folder)).splits:  # in <name>-<split>.arrow, or several …-00000-of-00002
        files = [*folder.glob(f"*-{split}.arrow"), *sorted(folder.glob(f"*-{split}-?????-of-?????.arrow"))]
        found[split] = concatenate_datasets([Dataset.from_file(str(file)) for file in files])
    return found


def _folders(hub: Hub) -> list[Path]:
    """The cache's folders of the commit, one per configuration: datasets/owner___name/v1.1/0.0.0/<commit>."""
    from datasets import config

    found = Path(config.HF_DATASETS_CACHE).expanduser().glob(f"*/*/*/{hub.revision}")
    named = (folder for folder in found if _letters(folder.parts[-4]) == _letters(hub.id))
    return [folder for folder in named if hub.config in (None, folder.parts[-3])]


def _letters(name: str) -> str:
    """Equal for owner/SomeName and owner___some_name, the cache's spelling of it."""
    return re.sub(r"[\W_]", "", name).lower()


def _said(hub: Hub, at: str, instead: str, why: Exception) -> str:
    from huggingface_hub import get_token

    reason = refusal(why, hub.id, hub.revision, dataset=True) or concealed(" ".join(f"{why}.".split()), get_token())
    return (
        f"{at}: {hub.id}, {hub.config or 'default'}, at {hub.revision}: {reason} Or put its files into a folder, set "
        f"{instead} to it and remove hub."
    )


def _records(name: Path, table: Any) -> Iterator[Record]:
    batches = table.with_format("arrow").iter(BATCH)
    for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
        yield Place(name, "row", number), row
