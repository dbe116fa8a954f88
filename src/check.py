"""Stage check: is params.yaml right? Before any other, and again whenever something in params.yaml changes.

    python src/check.py

DVC empties the paths that names stand in before it runs a stage, outside the repo too if a name is `../../x`. So every
other stage comes after this one, which refuses such a name, sections that nobody knows, and paths where nothing is, of
which DVC would say no more than "[Errno 2]". Writes data/checked, always the same: nothing else reruns for its sake.
"""

from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, run_stage
from bitter_retrieval.data.settings import GeneratedData
from bitter_retrieval.labels.settings import PublishedLabels
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.typed_yaml import ParamsError

CHECKED = Path("data/checked")


def main(arguments: Sequence[str] | None = None) -> str:
    Parser(description=__doc__).parse_args(arguments)
    refuse_missing(load_params())
    CHECKED.parent.mkdir(parents=True, exist_ok=True)
    CHECKED.write_text("The names in params.yaml may be names of files.\n", encoding="utf-8")
    return "check: params.yaml is right"


def refuse_missing(params: Params) -> None:
    """Raise ParamsError for a file or folder that the user brings, if neither it nor a .dvc file for it is there."""
    brought = {"data.path": params.data.path}  # DVC follows it whatever the source is
    if params.beyond and not isinstance(params.beyond, GeneratedData) and not params.beyond.hub:
        brought["beyond.path"] = params.beyond.path
    for name, labels in params.labels.items():
        if isinstance(labels, PublishedLabels) and not labels.hub:
            brought[f"labels.{name}.needs"] = labels.needs
    for at, path in brought.items():
        places = [Path(path), *Path(path).parents]
        if not places[0].exists() and not any(Path(f"{place}.dvc").is_file() for place in places):
            raise ParamsError(f"params.yaml: {at}: {path!r}: no such file or folder. Put it there, or name its place.")


if __name__ == "__main__":
    run_stage(main)
