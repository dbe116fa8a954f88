"""What sections of params name a hub's dataset by."""

import re
from dataclasses import dataclass
from typing import Annotated

from bitter_retrieval.parameter_types import Commit, Text
from bitter_retrieval.typed_yaml import Rule

DATASET = "a dataset's id on the hub, microsoft/ms_marco say"
DatasetId = Annotated[str, Rule(lambda text: re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text) is not None, DATASET)]


@dataclass(frozen=True)
class Hub:
    """A dataset of the Hugging Face Hub at one commit."""

    id: DatasetId
    revision: Commit | None  # None: refused when it is read, with the command that prints it
    config: Text | None = None  # None: the dataset has only one
