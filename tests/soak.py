"""Kill the pipeline at random moments, damage its files, and see that it ends as if nothing had happened.

    python tests/soak.py --kills 50       # kill -9 of DVC and all its processes, until so many kills are done
    python tests/soak.py --damage         # each kept file cut in half, with another header, with flipped bytes, missing

Both run the profile smoke in a temporary folder, first undisturbed. After each disturbance `dvc repro` must give the
undisturbed metrics, or stop with an error that names the file. Between kills, src/unlock.py is called as `make repro`
does. Prints a line a disturbance; exit 1 if one ended otherwise. Fifty kills take about a quarter of an hour.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from workspace import Workspace  # noqa: E402

LONGEST = 12.0  # seconds until a kill: starting DVC takes two of them, a stage of smoke about three


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="how many kills (0: none)")
    parser.add_argument("--damage", action="store_true", help="damage every kind of kept file, one at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills and of the flipped bytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Workspace(Path(folder) / "undisturbed")
        undisturbed.repro()
        bad = 0
        if options.kills:
            bad += kill_often(Path(folder), figures(undisturbed), options.kills, random.Random(options.seed))
        if options.damage:
            bad += damage_all(undisturbed, random.Random(options.seed))
    return int(bad > 0)


def figures(workspace: Workspace) -> dict[str, bytes]:
    """Every metrics file's bytes."""
    root = workspace.folder / "metrics"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def kill_often(folder: Path, expected: dict[str, bytes], kills: int, rng: random.Random) -> int:
    """Rounds of a whole DAG, each killed again and again until it ends. Returns how many rounds ended otherwise."""
    done, rounds, bad = 0, 0, 0
    while done < kills:
        rounds += 1
        workspace = Workspace(folder / f"round{rounds}")
        before = done
        while kill_once(workspace, rng.uniform(0.5, LONGEST)):
            done += 1
            subprocess.run([sys.executable, "src/unlock.py"], cwd=workspace.folder, check=True)
            if done == kills:
                workspace.repro()
                break
        same = figures(workspace) == expected
        bad += not same
        print(
            f"round {rounds}: {done - before} kills, {'the undisturbed metrics' if same else 'OTHER METRICS'}",
            flush=True,
        )
        shutil.rmtree(workspace.folder)
    print(f"{done} kills in {rounds} rounds, {bad} with other metrics")
    return bad


def kill_once(workspace: Workspace, seconds: float) -> bool:
    """Whether `dvc repro` was killed; else it has ended well. Raises AssertionError if it failed by itself."""
    process = workspace.start("repro")
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, output
    return False


Damage = Callable[[Path, random.Random], None]


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite_header(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * min(16, path.stat().st_size))


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for place in rng.sample(range(len(content)), min(64, len(content))):
        content[place] ^= 0xFF
    path.write_bytes(content)


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


DAMAGES: tuple[Damage, ...] = (cut, overwrite_header, flip, remove)
# A file of each kind that stages read. What DVC knows is made again; the journal and the lock are DVC's or our own.
KEPT = (
    "data/prepared/train.parquet",
    "data/prepared/corpus.parquet",
    "data/labels/human/train.parquet",
    "data/labels/reader_a/train.parquet",
    "models/readers/reader_a/model.safetensors",
    "models/readers/reader_a/reader.json",
    "models/readers/reader_a/tokenizer.json",
    "models/encoders/mini/model.safetensors",
    "models/runs/kl_a/seed0/model.safetensors",
    "data/predictions/runs/kl_a.parquet",
    "data/judgements.parquet",
    "dvc.lock",
    "params.yaml",
)


def damage_all(undisturbed: Workspace, rng: random.Random) -> int:
    """Returns after how many damages `dvc repro` gave other metrics, or an error that does not name the file."""
    expected, bad = figures(undisturbed), 0
    for name, damage, remade in disturbances(undisturbed.folder):
        copy = undisturbed.copied(undisturbed.folder.with_name("damaged"))
        damage(copy.folder / name, rng)
        if remade:  # so that every stage runs, and reads its journal
            for outputs in ("data/prepared", "data/labels", "models", "data/predictions", ".dvc/cache", "dvc.lock"):
                path = copy.folder / outputs
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        process = copy.start("repro")
        output, _ = process.communicate()
        same = process.returncode == 0 and figures(copy) == expected
        refused = process.returncode != 0 and Path(name).name in output and "Traceback" not in output
        bad += not (same or refused)
        print(
            f"{name}: {damage.__name__}: {'the same' if same else 'refused' if refused else 'WRONG: ' + output[-800:]}",
            flush=True,
        )
        shutil.rmtree(copy.folder)
    return bad


def disturbances(folder: Path) -> Iterator[tuple[str, Damage, bool]]:
    """Name in the folder, damage, and whether all outputs are removed too."""
    for name in KEPT:
        for damage in DAMAGES:
            yield name, damage, False
    journals = sorted(path for path in (folder / ".journal").rglob("*") if path.is_file())
    kinds = {path.relative_to(folder).parts[1]: path for path in journals}  # one of each folder of .journal
    for path in kinds.values():
        for damage in DAMAGES:
            yield str(path.relative_to(folder)), damage, True


if __name__ == "__main__":
    sys.exit(main())
