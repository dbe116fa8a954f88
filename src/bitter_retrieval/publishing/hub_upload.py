"""Uploads to the Hugging Face Hub, and its errors in plain words. The only module that writes there.

    upload = Upload("model", "owner/kl", public=False, message="run kl, seed 0", files={"README.md": b"…", …})
    send(upload, token)          Sent("https://huggingface.co/owner/kl/commit/3f…", revision="3f…", removed=[])
    published("owner", token)    [Published("model", "owner/kl", public=False)]

An upload is one commit that replaces everything in the repo; if it fails, the repo stays as it was. The repo is new or
was published by this command (its card has the tag); its visibility never changes. The client repeats failed requests.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from bitter_retrieval.models.credentials import concealed
from bitter_retrieval.publishing.cards import TAG

Kind = Literal["model", "dataset"]
MADE_BY_HUB = {".gitattributes"}
REMEDIES = {
    401: "The token is not valid (any more): create one at https://huggingface.co/settings/tokens and put it into "
    "HF_TOKEN or .env.",
    403: "The token may not do this: give it write permission for this owner (https://huggingface.co/settings/tokens), "
    "or choose another --repo.",
    404: "There is no such owner or repo, or the token may not see it: correct --repo, or give the token access.",
    409: "The repo was changed meanwhile, or something else has its name: look at it on the Hub, then run this again.",
    412: "The repo was changed meanwhile: run this again.",
    413: "A file is too large for this account: see https://huggingface.co/docs/hub/storage-limits.",
    429: "Too many requests: run this again in a few minutes.",
}
LATER = "The Hub has an internal error: run this again later (https://status.huggingface.co)."
UNKNOWN = "The cause is unknown: run this again, or look at the repo on the Hub."


class PublishError(ValueError):
    """Something absent, or something that its figures are not about."""


class HubError(ValueError):
    """A refusal of the Hub, and what to do about it; never contains the token."""


@dataclass(frozen=True)
class Upload:
    """One commit."""

    kind: Kind
    repo: str
    public: bool
    message: str
    files: Mapping[str, Path | bytes]  # by path in the repo

    @property
    def visibility(self) -> str:
        return "public" if self.public else "private"


@dataclass(frozen=True)
class Sent:
    url: str
    revision: str
    removed: list[str]  # files of an earlier upload, deleted by this one


@dataclass(frozen=True)
class Published:
    kind: Kind
    repo: str
    public: bool


def send(upload: Upload, token: str) -> Sent:
    """Commit the upload. Raises HubError."""
    api, repo, kind = HfApi(token=token), upload.repo, upload.kind
    with _told(repo, token):
        api.create_repo(repo, repo_type=kind, private=not upload.public, exist_ok=True)
        there = api.repo_info(repo, repo_type=kind)
    present = {file.rfilename for file in there.siblings or []} - MADE_BY_HUB
    _refuse(upload, there.private, bool(present) and TAG not in (there.tags or []))
    removed = sorted(present - set(upload.files))
    operations = [CommitOperationAdd(name, content) for name, content in upload.files.items()]
    operations += [CommitOperationDelete(name) for name in removed]
    settings = {"repo_type": kind, "commit_message": upload.message, "parent_commit": there.sha}
    with _told(repo, token):
        done = api.create_commit(repo, operations, **settings)
    return Sent(done.commit_url, done.oid, removed)


def _refuse(upload: Upload, private: bool, foreign: bool) -> None:
    if private == upload.public:
        raise HubError(
            f"{upload.repo} exists and is {'private' if private else 'public'}, not {upload.visibility}: "
            f"{'leave out' if private else 'give'} --public, or change the repo's settings."
        )
    if foreign:
        raise HubError(
            f"{upload.repo} holds files that were not put there by this command (its card lacks the tag {TAG}): "
            "choose another --repo, or empty this one."
        )


def published(owner: str, token: str) -> list[Published]:
    """Repos of an owner on the Hub that this project has published and the token may see. Raises HubError."""
    api = HfApi(token=token)
    with _told(owner, token):
        models, datasets = api.list_models(author=owner, filter=TAG), api.list_datasets(author=owner, filter=TAG)
        return [
            *(Published("model", repo.id, not repo.private) for repo in models),
            *(Published("dataset", repo.id, not repo.private) for repo in datasets),
        ]


@contextmanager
def _told(where: str, token: str) -> Iterator[None]:
    """Turn the client's errors into a HubError."""
    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        raise HubError(f"{where}: {concealed(_said(error), token)}") from None


def _said(error: BaseException) -> str:
    refused = next((one for one in _causes(error) if isinstance(one, HfHubHTTPError)), None)
    if refused is not None:
        status = refused.response.status_code
        remedy = REMEDIES.get(status, LATER if status >= 500 else UNKNOWN)
        return f"the Hub answered {status}{f' ({refused.server_message})' if refused.server_message else ''}. {remedy}"
    if isinstance(error, httpx2.HTTPError):
        return f"no answer from the Hub ({type(error).__name__}): check the connection, and HF_ENDPOINT if it is set."
    return str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: the client wraps the errors of single files."""
    while error is not None:
        yield error
        error = error.__cause__
