"""A copy of the project that DVC runs in, with the parameters of a profile."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import yaml

from bitter_retrieval.typed_yaml import read_yaml, write_yaml

REPOSITORY = Path(__file__).parents[1]
COPIED = ("src", "profiles", "dvc.yaml", "data/raw/README.md", ".dvcignore")
TREE = dict[str, Any]


class Workspace:
    def __init__(self, folder: Path, profile: str = "smoke") -> None:
        self.folder = folder
        for name in COPIED:
            source, target = REPOSITORY / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(source, target)
        subprocess.run([sys.executable, "src/use_profile.py", profile], cwd=folder, check=True)
        self.dvc("init", "--no-scm", "--quiet")

    def copied(self, folder: Path) -> "Workspace":
        """The workspace as it is now, in another folder."""
        found = copy(self)
        found.folder = shutil.copytree(self.folder, folder, symlinks=True)
        return found

    def edit(self, change: Callable[[TREE], object]) -> None:
        tree = read_yaml(self.folder / "params.yaml")
        change(tree)
        (self.folder / "params.yaml").write_text(write_yaml(tree))

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """DVC in a new session; it receives interrupts even if the shell runs in the background and ignores them."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "COLUMNS": "120", "OMP_NUM_THREADS": "1"} | environment
        command = [sys.executable, "-m", "dvc", *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        own = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **own, **streams)

    def dvc(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def repro(self) -> tuple[set[str], str]:
        """Stages that ran, and the output."""
        output = self.dvc("repro")
        return set(re.findall(r"Running stage '(.+)'", output)), output

    def lock(self) -> TREE:
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
