"""How sections of params name a dataset of a hub."""

import re
from dataclasses import dataclass
from typing import Annotated

from bitter_retrieval.parameter_types import Commit, Text
from bitter_retrieval.typed_yaml import Rule

DATASET = "a dataset's id on the hub, such as microsoft/ms_marco"
DatasetId = Annotated[str, Rule(lambda text: re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text) is not None, DATASET)]


@dataclass(frozen=True)
class Hub:
    """A dataset of the Hugging Face Hub at one commit."""

    id: DatasetId
    revision: Commit | None  # None: reading stops and names the command that prints it
    config: Text | None = None  # None: the dataset has only one
