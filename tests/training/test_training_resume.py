"""Training that is killed for real ends with the bytes of an undisturbed run; a change in between starts it anew.

Processes are forked by a server that has torch and transformers imported, so that a dozen kills fit into a few seconds.
"""

import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from closure import code_deps
from small_project import TRAIN, edit_params, make_project

import train as stage
from bitter_retrieval.encoders.encoder import Encoder, load_encoder
from bitter_retrieval.journal import journal_folder
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.records import SOFT_LABELS, write_rows
from bitter_retrieval.tracking import Tracking
from bitter_retrieval.training import loop as training
from bitter_retrieval.training import state as training_state
from bitter_retrieval.training.distributed import ALONE
from bitter_retrieval.training.state import Progress, SavedState, StateError, fingerprint

ROOT = Path(__file__).parents[2]
KILLS = 10
STEPS = 24  # two seeds of three epochs of four
PROCESSES = multiprocessing.get_context("forkserver")


def train(folder: Path, halt: float = float("inf"), halt_saving: bool = False) -> None:
    """The work of a process: the stage, in `folder`.

    Each step adds a line to steps.txt as it begins; the one of line `halt` waits for the kill, or the first seed that
    is saved to the outs.
    """
    torch.set_num_threads(1)
    os.chdir(folder)
    step, save = training._step, Encoder.save

    def told(*given: Any) -> Any:
        with Path("steps.txt").open("a") as file:
            file.write("step\n")
        time.sleep(60 if steps(folder) >= halt else 0.005)
        return step(*given)

    def saved(encoder: Encoder, *given: Any) -> None:
        save(encoder, *given)
        Path("saved.txt").touch()
        time.sleep(60 if halt_saving else 0)

    training._step, Encoder.save = told, saved
    sys.argv = ["train.py", "kl"]
    stage.main()


def steps(folder: Path) -> int:
    told = folder / "steps.txt"
    return told.read_text().count("\n") if told.exists() else 0


def start(folder: Path, **how: Any) -> ForkServerProcess:
    """Run the stage as DVC does: without the outs of the last run."""
    for outs in ("models/runs", "plots"):
        shutil.rmtree(folder / outs, ignore_errors=True)
    process = PROCESSES.Process(target=train, args=(folder,), kwargs=how)
    process.start()
    return process


def finish(process: ForkServerProcess) -> int | None:
    process.join(60)
    return process.exitcode


def outs(folder: Path) -> dict[str, bytes]:
    files = [path for part in ("models/runs", "plots") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def project(folder: Path, seconds: float) -> Path:
    return make_project(folder, epochs=3, checkpoint_seconds=seconds)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outs of an undisturbed process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
        patch.delenv("DVC_ROOT", raising=False)
        PROCESSES.set_forkserver_preload([__name__, "transformers.models.bert.modeling_bert"])
        folder = project(tmp_path_factory.mktemp("undisturbed"), 3600)
        assert finish(start(folder)) == 0  # the server starts with it
    assert steps(folder) == STEPS
    found = outs(folder)
    assert {f"models/runs/kl/seed{seed}/model.safetensors" for seed in (0, 4)} | {"plots/curves/kl.csv"} <= set(found)
    return found


@pytest.mark.parametrize("seconds", [0.0, 0.03])
def test_killed_ten_times(seconds: float, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """At many moments: in a step, while the state is written, before the first step."""
    project(tmp_path, seconds)
    draw = random.Random(0)
    for moment in sorted(draw.choices(range(STEPS - 3), k=KILLS)):
        process = start(tmp_path, halt=STEPS - 1)
        while process.is_alive() and steps(tmp_path) < moment:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        assert finish(process) == -9
    assert finish(start(tmp_path)) == 0
    assert outs(tmp_path) == undisturbed
    assert steps(tmp_path) <= STEPS + KILLS or seconds  # saved after every step: a kill costs one at most
    assert not list(tmp_path.glob(".journal/training/*"))


def test_killed_between_two_seeds(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """The first is not trained again although its outs are gone."""
    process = start(project(tmp_path, 3600), halt_saving=True)
    while process.is_alive() and not (tmp_path / "saved.txt").exists():
        time.sleep(0.001)
    process.kill()
    assert finish(process) == -9 and steps(tmp_path) == STEPS / 2
    assert finish(start(tmp_path)) == 0
    assert outs(tmp_path) == undisturbed and steps(tmp_path) == STEPS


# -- what starts anew ------------------------------------------------------------------------------------------------


def other_rate(folder: Path) -> None:
    edit_params(folder, lambda tree: tree["runs"]["kl"].update(learning_rate=0.002))


def other_epochs(folder: Path) -> None:
    edit_params(folder, lambda tree: tree["train"].update(epochs=4))


def other_label(folder: Path) -> None:
    labels = tiny.soft(TRAIN)
    labels[5] = {**labels[5], "nll_sum": labels[5]["nll_sum"] + 0.01}
    write_rows(folder / "data/labels/reader_a/train.parquet", labels, SOFT_LABELS)


def other_weights(folder: Path) -> None:
    tiny.tiny_encoder(seed=1).save(folder / "models/encoders/mini")


def other_manner(folder: Path) -> None:
    """The interval of saving and the list of seeds do not change the result of a seed."""
    edit_params(folder, lambda tree: tree["tracking"].update(checkpoint_seconds=3600))
    edit_params(folder, lambda tree: tree["train"].update(seeds=[4, 0]))


@pytest.mark.parametrize(
    ("change", "wanted", "trains"),
    [
        (other_rate, 24, "both"),
        (other_epochs, 32, "both"),
        (other_label, 24, "both"),
        (other_weights, 24, "both"),
        (other_manner, 24 - 17, "both"),
        (other_manner, 24 - 17, "query"),  # and passages keep the vectors that they had as training began
    ],
)
def test_interrupted_and_changed(
    change: Callable[[Path], None], wanted: int, trains: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps still to do after 17: all of them if the change decides the result."""
    run = {"trains": trains, "losses": {"kl": 0.5, "mse": 0.5}}  # mse has weights of its own
    for name in ("interrupted", "fresh"):
        edit_params(project(tmp_path / name, 0.0), lambda tree: tree["runs"]["kl"].update(run))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(stage, "keep_freed_memory", lambda: None)
    monkeypatch.setattr("sys.argv", ["train.py", "kl"])
    step, done = training._step, 0

    def interrupted_after(count: int) -> Callable[..., Any]:
        def told(*given: Any) -> Any:
            nonlocal done
            if done == count:
                raise KeyboardInterrupt
            done += 1
            return step(*given)

        return told

    monkeypatch.chdir(tmp_path / "interrupted")
    monkeypatch.setattr(training, "_step", interrupted_after(17))
    with pytest.raises(KeyboardInterrupt):
        stage.main()
    change(Path.cwd())
    done = 0
    monkeypatch.setattr(training, "_step", interrupted_after(99))
    stage.main()
    assert done == wanted
    monkeypatch.chdir(tmp_path / "fresh")
    change(Path.cwd())
    stage.main()
    assert outs(tmp_path / "interrupted") == outs(tmp_path / "fresh")


def test_everything_that_decides_has_a_part_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, 0.0))
    params = load_params()

    def key(
        params: Params = params,
        change: Callable[[Any], Any] = lambda sets: sets,
        prefix: str = "",
        dropout: float = 0.1,
    ) -> str:
        encoder = load_encoder(stage.ENCODERS / "mini")
        encoder.usage = replace(encoder.usage, query_prefix=prefix)
        encoder.model.config.hidden_dropout_prob = dropout
        return fingerprint(encoder, change(stage.load_sets(params, run := params.runs["kl"])), run, params.train)

    def tokens(sets: Any) -> Any:
        passages = [[*sets[1].passages[0][:-1], 7], *sets[1].passages[1:]]
        return sets[0], replace(sets[1], passages=passages)

    def cut(sets: Any) -> Any:
        """The same numbers, cut into queries elsewhere."""
        first, second, *rest = sets[0].queries
        return replace(sets[0], queries=[[*first, second[0]], second[1:], *rest]), sets[1]

    def changed(**fields: Any) -> Params:
        return replace(params, runs=params.runs | {"kl": replace(params.runs["kl"], **fields)})

    keys = [key(), key(change=tokens), key(change=cut), key(prefix="query: "), key(dropout=0.2)]
    keys += [key(changed(losses={"kl": 0.5})), key(changed(trains="query")), key(changed(references="first"))]
    keys += [key(replace(params, train=replace(params.train, clip=2.0)))]
    with monkeypatch.context() as other:
        other.setattr(torch, "__version__", "2.99.0")
        keys.append(key())
    package = Path(shutil.copytree(training_state.PACKAGE, tmp_path / "package"))
    monkeypatch.setattr(training_state, "PACKAGE", package)
    assert key() == keys[0]
    code = (package / "encoders/encoder.py").read_text()
    (package / "encoders/encoder.py").write_text(f"{code}# another line\n")
    keys.append(key())
    (package / "encoders/encoder.py").write_text(code)
    for unread in ("readers/language_model.py", "statistics/statistics.py", "params.py"):
        (package / unread).write_text("# another line\n")
    with monkeypatch.context() as other:
        other.setattr(torch, "get_num_threads", lambda: 99)
        keys.append(key())
    assert len(set(keys)) == len(keys) == 12
    assert key() == keys[0] == key(changed(seeds=[7]))
    assert key(replace(params, tracking=Tracking(mlflow=True, checkpoint_seconds=5.0))) == keys[0]


def test_the_code_in_the_key_is_what_training_imports() -> None:
    """The deps for which DVC reruns the stage, except its script."""
    parts = [f"src/{training_state.PACKAGE.name}/{part}" for part in training_state.CODE]
    assert [*parts, "src/train.py"] == code_deps(ROOT / "src/train.py")


# -- the file --------------------------------------------------------------------------------------------------------


def saved(folder: Path, step: int = 1) -> SavedState:
    state = SavedState(folder / "key/seed0.pt", 0.0)
    state.save({"layer": torch.nn.Linear(2, 2)}, Progress(step=step, curve=[(0, {"loss": 1 / 3})]))
    return state


def test_state_brings_back_parts_progress_and_random_numbers(tmp_path: Path) -> None:
    layer, state = torch.nn.Linear(2, 2), SavedState(tmp_path / "key/seed0.pt", 0.0)
    state.save({"layer": layer}, Progress(step=3, best=0.1, kept=layer.state_dict(), curve=[(0, {"loss": 1 / 3})]))
    drawn, other = torch.rand(3), torch.nn.Linear(2, 2)
    progress = SavedState(tmp_path / "key/seed0.pt", 0.0).restore({"layer": other})
    assert torch.rand(3).equal(drawn) and other.weight.equal(layer.weight)
    assert (progress.step, progress.best, progress.curve) == (3, 0.1, [(0, {"loss": 1 / 3})])
    assert progress.kept["bias"].equal(layer.bias)


def test_state_is_saved_when_it_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state, found = SavedState(tmp_path / "seed0.pt", 60.0), []
    for step, now in enumerate([101.0, 159.9, 160.0, 219.9, 220.1]):  # noqa: B007
        state.save({}, Progress(step=step))
        found.append(state.restore({}).step)
    assert found == [0, 0, 2, 2, 4]
    state.finish(Progress(step=9))
    assert state.restore({}).step == 9


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def another_header(content: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(64) + content[64:]


def flipped(content: bytes, draw: random.Random) -> bytes:
    """64 changed bytes in the weights, which are most of the file."""
    changed = bytearray(content)
    for place in draw.sample(range(len(content)), 64):
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("damage", [cut, another_header, flipped])
def test_damaged_state_is_named_and_its_seed_trained_anew(
    damage: Callable[[bytes, random.Random], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, layer = tmp_path / "seed0.pt", torch.nn.Linear(200, 200)
    SavedState(path, 0.0).save({"layer": layer}, Progress(step=3))
    whole, untouched = path.read_bytes(), torch.nn.Linear(200, 200)
    before = untouched.weight.clone()
    for seed in range(20):
        path.write_bytes(damage(whole, random.Random(seed)))
        random_state = torch.get_rng_state()
        assert SavedState(path, 0.0).restore({"layer": untouched}) == Progress()
        assert untouched.weight.equal(before) and torch.get_rng_state().equal(random_state)
    assert caplog.text.count("seed0.pt: damaged (") == 20 and "Its seed is trained anew." in caplog.text
    SavedState(path, 0.0).save({"layer": layer}, Progress(step=4))
    assert SavedState(path, 0.0).restore({"layer": untouched}).step == 4


def test_a_state_that_may_not_be_read_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    state = saved(tmp_path)
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(StateError, match=r"seed0.pt: .*Permission denied. Make it readable, or delete it"):
        state.restore({})


def test_state_that_has_no_room_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    saved(tmp_path, step=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="seed0.pt: .*No space left on device.* Free space there and run again"):
        saved(tmp_path, step=2)
    assert SavedState(tmp_path / "key/seed0.pt", 0.0).restore({"layer": torch.nn.Linear(2, 2)}).step == 1
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["seed0.pt"]


def test_removing_a_state_leaves_that_of_other_seeds(tmp_path: Path) -> None:
    state, other = saved(tmp_path), SavedState(tmp_path / "key/seed1.pt", 0.0)
    other.finish(Progress())
    (tmp_path / "key/.seed0.pt.17.partial").touch()  # of a process that was killed as it wrote
    state.remove()
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["seed1.pt"]
    other.remove()
    assert not (tmp_path / "key").exists()
    other.remove()


def test_another_process_may_finish_the_same_work_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of equal content share a folder; the first to finish removes it while the other writes."""
    state, sync = saved(tmp_path), os.fsync

    def finished(file: int) -> None:
        SavedState(tmp_path / "key/seed0.pt", 0.0).remove()
        sync(file)

    monkeypatch.setattr(os, "fsync", finished)
    state.save({}, Progress(step=2))
    assert not (tmp_path / "key").exists() and state.restore({}).step == 0
    monkeypatch.setattr(os, "fsync", sync)
    state.save({}, Progress(step=3))
    assert state.restore({}).step == 3


def test_state_lies_beside_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path / "copy", 0.0))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = load_params()
    states = stage.saved_states(params, params.runs["kl"], *stage.load_sets(params, params.runs["kl"]), ALONE)
    for state in states.values():
        state.finish(Progress())
    assert journal_folder() == tmp_path / ".journal" and list(states) == [0, 4]
    assert sorted(path.name for path in (tmp_path / ".journal/training").glob("*/*")) == ["seed0.pt", "seed4.pt"]
