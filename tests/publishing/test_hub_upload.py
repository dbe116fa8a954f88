"""Uploads by the real client to a hub on the loopback: refusals, faults, and what must stay unchanged."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hub_service import TOKEN, Hub

from bitter_retrieval.publishing.hub_upload import HubError, Published, Sent, Upload, published, send

CARD = b"---\nlicense: mit\ntags:\n- bitter-retrieval\n---\n# Mine\n"
FILES = {"README.md": CARD, "config.json": b"{}", "model.safetensors": b"weights"}
UPLOAD = Upload("model", "me/kl", False, "run kl", FILES)
Told = Callable[..., str]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with Hub() as service:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", service.url)
        yield service


@pytest.fixture
def told(hub: Hub, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Told:
    """The error that sending ends with; the token is in no output."""
    caplog.set_level(logging.INFO)

    def told(upload: Upload = UPLOAD, token: str = TOKEN, call: Callable[..., Any] = send) -> str:
        with pytest.raises(HubError) as caught:
            call(upload, token)
        out, err = capfd.readouterr()
        assert token not in out + err + caplog.text + str(caught.value)
        return str(caught.value)

    return told


def test_one_commit_holds_everything(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    sent = send(replace(UPLOAD, files=FILES | {"model.safetensors": tmp_path / "w"}), TOKEN)
    repo = hub.repos["model", "me/kl"]
    assert repo.files == FILES and repo.private and repo.messages == ["run kl"]
    assert list(hub.large.values()) == [b"weights"]
    assert sent == Sent(f"{hub.url}/me/kl/commit/{repo.head}", repo.head, [])


STATUSES = {
    401: "create one at https://huggingface.co/settings/tokens",
    403: "give it write permission",
    404: "no such owner or repo",
    409: "look at it on the Hub",
    429: "run this again in a few minutes",
    500: "run this again later",
}
PLACES = ["/create", "/models/me/kl", "/validate-yaml", "/preupload/main", "/objects/batch", "/commit/main"]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("place", PLACES)
def test_a_refusal_is_said_with_its_remedy(hub: Hub, told: Told, place: str, status: int) -> None:
    """The hub repeats the token in each error; a commit happens whole or not at all."""
    hub.fail = lambda method, path: status if path.endswith(place) and (place, status) != ("/create", 409) else None
    if (place, status) == ("/create", 409):  # the repo is there already
        assert send(UPLOAD, TOKEN) and hub.repos["model", "me/kl"].files == FILES
        return
    said = told()
    assert said.startswith(f"me/kl: the Hub answered {status} ({status} for Bearer [the key])")
    assert STATUSES[status] in said and all(not repo.files for repo in hub.repos.values())


def test_large_files_are_refused_too(hub: Hub, told: Told) -> None:
    """The client wraps errors of the store of large files."""
    hub.fail = lambda method, path: 413 if path.startswith("/lfs/") else None
    assert "answered 413" in told() and not hub.repos["model", "me/kl"].files


def test_a_passing_fault_is_the_clients_affair(hub: Hub) -> None:
    left = iter([503, 503])
    hub.fail = lambda method, path: next(left, None) if "/preupload/" in path else None
    send(UPLOAD, TOKEN)
    assert hub.repos["model", "me/kl"].files == FILES and sum("/preupload/" in path for _, path in hub.requests) == 3


def test_a_token_that_the_hub_does_not_know(hub: Hub, told: Told) -> None:
    assert "answered 401 (401 for Bearer [the key]). The token is not valid" in told(token="hf_another")


def test_no_hub_at_all(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert told() == (
        "me/kl: no answer from the Hub (ConnectError): check the connection, and HF_ENDPOINT if it is set."
    )


def test_offline_mode_is_said(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in told()


@pytest.mark.parametrize(("public", "remedy"), [(True, "is public, not private: give --public"), (False, "leave out")])
def test_who_can_see_a_repo_is_never_changed(hub: Hub, told: Told, public: bool, remedy: str) -> None:
    send(replace(UPLOAD, public=public), TOKEN)
    assert remedy in told(replace(UPLOAD, public=not public))
    assert hub.repos["model", "me/kl"].private is not public and len(hub.repos["model", "me/kl"].messages) == 1


def test_what_an_earlier_upload_left_goes(hub: Hub) -> None:
    send(replace(UPLOAD, files=FILES | {"old.json": b"{}", "model-2.safetensors": b"more"}), TOKEN)
    assert send(UPLOAD, TOKEN).removed == ["model-2.safetensors", "old.json"]
    repo = hub.repos["model", "me/kl"]
    assert repo.files == FILES and ".gitattributes" in repo.states[-1]


def test_a_repo_of_other_things_is_left_alone(hub: Hub, told: Told) -> None:
    send(replace(UPLOAD, files={"README.md": b"---\nlicense: mit\n---\n# Mine\n"}), TOKEN)
    assert "not put there by this command" in told() and len(hub.repos["model", "me/kl"].messages) == 1


def test_a_repo_that_changes_meanwhile_is_left_alone(hub: Hub, told: Told) -> None:
    send(UPLOAD, TOKEN)
    repo = hub.repos["model", "me/kl"]

    def meanwhile(method: str, path: str) -> None:
        if "/preupload/" in path:
            repo.states.append(dict(repo.states[-1]))

    hub.fail = meanwhile
    assert "the Hub answered 412" in told(replace(UPLOAD, files=FILES | {"config.json": b"[]"}))
    assert len(repo.messages) == 1


def test_a_dataset_and_a_model_of_one_name_are_two(hub: Hub) -> None:
    send(UPLOAD, TOKEN)
    send(replace(UPLOAD, kind="dataset", public=True), TOKEN)
    send(replace(UPLOAD, repo="other/kl"), TOKEN)
    send(replace(UPLOAD, repo="me/else", files={"README.md": b"---\nlicense: mit\n---\n"}), TOKEN)
    assert published("me", TOKEN) == [Published("model", "me/kl", False), Published("dataset", "me/kl", True)]


def test_a_list_that_is_refused(hub: Hub, told: Told) -> None:
    hub.fail = lambda method, path: 403 if path == "/api/datasets" else None
    assert "me: the Hub answered 403" in told("me", call=published)
