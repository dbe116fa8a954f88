"""Is everything there that the experiment needs? One line each, with the remedy for what is missing; `make doctor`.

    python src/doctor.py           # Python, torch, GPU, keys, hub, DVC's remote, disk, git, params.yaml, busy cores
    python src/doctor.py --brief   # only what is missing, and busy cores, without torch and hub; `make repro` begins so

Exit status 1 if something is missing without which `make repro` cannot run. Of a key it says whether it is set, never
its value.
"""

import configparser
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bitter_retrieval.command_line import Parser, run_stage

# isort: split
import psutil

from bitter_retrieval.models.credentials import CredentialError, hub_token, service_key
from bitter_retrieval.models.workers import cores
from bitter_retrieval.params import load_params
from bitter_retrieval.plain_text import PlainConsole
from bitter_retrieval.typed_yaml import ParamsError, elsewhere
from check import refuse_missing

OK, NOTE, MISSING = "ok", "note", "missing"
PARAMS = Path("params.yaml")
GIGABYTE = 10**9
LEAST_DISK, LITTLE_DISK = 2, 20  # gigabytes: of the default experiment with its cache; of real models
WAIT = 5  # seconds for the hub
WATCHED = 0.5  # seconds in which other processes are watched
BUSY = 50  # per cent of a core from which a process counts as busy


class Finding(NamedTuple):
    state: str  # OK, NOTE or MISSING
    about: str
    told: str


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--brief", action="store_true", help="only what is missing, and busy cores")
    brief = parser.parse_args(arguments).brief
    if elsewhere() and not PARAMS.is_file():
        sys.exit(f"error: {PARAMS}: no such file{elsewhere()}")
    console, lacking = PlainConsole(), False
    for check in BRIEF if brief else (*BRIEF, *SLOW):
        for found in check():
            lacking |= found.state == MISSING
            if not brief or found.state == MISSING or check is busy:
                console.print(f"{found.state:<8}{found.about:<11}{found.told}", soft_wrap=True)
    if lacking:
        sys.exit(1)


def python() -> Iterator[Finding]:
    state = OK if sys.version_info >= (3, 11) else MISSING
    yield Finding(
        state, "Python", f"{sys.version.split()[0]} in {sys.prefix}" + ("" if state == OK else "; 3.11 needed")
    )


def dvc() -> Iterator[Finding]:
    try:
        yield Finding(OK, "DVC", version("dvc"))
    except PackageNotFoundError:
        yield Finding(MISSING, "DVC", "not installed: `make .venv/installed`")


def params() -> Iterator[Finding]:
    try:
        refuse_missing(load_params())
        yield Finding(OK, "params", f"{PARAMS} is right")
    except ParamsError as error:
        yield Finding(MISSING, "params", str(error))


def disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / GIGABYTE
    state = MISSING if free < LEAST_DISK else NOTE if free < LITTLE_DISK else OK
    yield Finding(
        state, "disk", f"{free:,.1f} GB free" + ("" if state == OK else "; docs/commands.md says what to delete")
    )


def git() -> Iterator[Finding]:
    if shutil.which("git") is None:
        yield Finding(NOTE, "git", "not installed: no experiments, and no comparison with the committed figures")
        return
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, encoding="utf-8")
    if found.returncode:
        yield Finding(NOTE, "git", "no repository, or no commit: experiments and committed figures need a clone")
    else:
        yield Finding(OK, "git", f"commit {found.stdout.strip()}")


def busy() -> Iterator[Finding]:
    """Other processes that compute: two on two cores make each stage several times slower."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    shares = {process: share for process, share in watched().items() if share > BUSY and process.pid not in own}
    if not shares:
        yield Finding(OK, "cores", f"{cores()}, and no other process keeps one busy")
        return
    named = ", ".join(f"{name_of(one)} ({one.pid}, {share:.0f}% of a core)" for one, share in shares.items())
    yield Finding(
        NOTE,
        "cores",
        f"{cores()}, and others compute on them: {named}. Two on two cores make each stage up to four times slower",
    )


def watched() -> dict[psutil.Process, float]:
    """Share of a core, in per cent, that each process takes now."""
    processes = list(psutil.process_iter())
    for process in processes:
        share_of(process)  # the first call begins the measurement
    time.sleep(WATCHED)
    return {process: share_of(process) for process in processes}


def share_of(process: psutil.Process) -> float:
    try:
        return process.cpu_percent()
    except psutil.Error:  # it has ended, or is not ours to look at
        return 0.0


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "a process"


def torch() -> Iterator[Finding]:
    import torch

    yield Finding(OK, "torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not in this build'}")
    if not torch.cuda.is_available():
        yield Finding(NOTE, "GPU", "none: all runs on the CPU, which profiles of real models find slow")
        return
    for number in range(torch.cuda.device_count()):
        free, whole = (size / GIGABYTE for size in torch.cuda.mem_get_info(number))
        yield Finding(OK, "GPU", f"{torch.cuda.get_device_name(number)}: {free:.0f} of {whole:.0f} GB free")


def flash_attention() -> Iterator[Finding]:
    if importlib.util.find_spec("flash_attn"):
        yield Finding(OK, "flash-attn", "installed")
        return
    how = "`pip install --no-build-isolation -r requirements-gpu.txt`, with a CUDA GPU and CUDA's compiler"
    yield Finding(NOTE, "flash-attn", f"absent; torch's own attention serves. To get it: {how}")


def keys() -> Iterator[Finding]:
    """Whether the keys of services are set. Only a judge that asks Gemini cannot do without."""
    try:
        wanted = load_params().judge.kind == "gemini"
    except ParamsError:
        wanted = False
    asked: dict[str, tuple[Callable[[], str], bool]] = {
        "HF_TOKEN": (hub_token, False),
        "GEMINI_API_KEY": (lambda: service_key("GEMINI_API_KEY", "GOOGLE_API_KEY"), wanted),
    }
    for name, (key, needed) in asked.items():
        try:
            key()
            yield Finding(OK, "key", f"{name} is set")
        except CredentialError as error:
            yield Finding(MISSING if needed else NOTE, "key", f"{name}: {error}")


def hub() -> Iterator[Finding]:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        yield Finding(NOTE, "hub", "not asked, as HF_HUB_OFFLINE is set: only models that are here can be used")
        return
    parts = urlsplit(constants.ENDPOINT)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # without a login
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=WAIT):
            yield Finding(OK, "hub", f"{address} answers")
    except urllib.error.HTTPError as error:
        yield Finding(OK, "hub", f"{address} answers, with status {error.code}")
    except (OSError, ValueError) as error:
        yield Finding(NOTE, "hub", f"{address} gives no answer ({error}): only models that are here can be used")


def remote() -> Iterator[Finding]:
    config = configparser.ConfigParser(interpolation=None)
    config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    found = [section.split('"')[1] for section in config.sections() if section.startswith("'remote ")]
    if found:
        yield Finding(OK, "remote", f"{', '.join(found)}: `dvc push` and `dvc pull` share data and models")
    else:
        yield Finding(
            NOTE, "remote", "none: `dvc remote add -d storage <folder or s3://…>` makes data and models shared"
        )


BRIEF: tuple[Callable[[], Iterator[Finding]], ...] = (python, dvc, params, disk, git, busy)
SLOW: tuple[Callable[[], Iterator[Finding]], ...] = (torch, flash_attention, keys, hub, remote)


if __name__ == "__main__":
    run_stage(main)
