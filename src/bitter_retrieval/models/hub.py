"""The first contact with a hub, within seconds, and what its refusal means to who reads it.

    fetch("meta-llama/Llama-3.1-8B", "config.json", "d04e592b…")      a path in the hub's cache, or CheckpointError:

    model 'meta-llama/Llama-3.1-8B': it is gated, and no token is set. Ask for access at
    https://huggingface.co/meta-llama/Llama-3.1-8B, then `export HF_TOKEN=…` or `hf auth login`.

What huggingface_hub says itself is not passed on: it holds what the service sent, which may echo a token.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TypeVar

from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.models.credentials import offer_hub_token

CONTACT_SECONDS = 5.0  # that a hub may take to say a little: behind a silent firewall each address is waited for

Found = TypeVar("Found")


def fetch(model: str, name: str, revision: str | None) -> Path:
    """A small file of a model: in its folder, or in the cache of the hub. Raises CheckpointError."""
    file = find(model, name, revision)
    if file is None:
        raise CheckpointError(f"model {model!r}: there is no {name}. A checkpoint has it, weights and a tokenizer.")
    return file


def find(model: str, name: str, revision: str | None) -> Path | None:
    """The same; None where the model is to be had and has no such file.

    What the cache knows of a commit is as good as the hub's word. Else the hub is first asked whether it has the model,
    once and not for long: the client would try to fetch the file for half a minute.
    """
    if Path(model).is_dir():
        return Path(model) / name if (Path(model) / name).is_file() else None
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    offer_hub_token()  # also where the weights alone are still to be fetched
    cached = None
    try:
        cached = try_to_load_from_cache(model, name, revision=revision)  # a path, a mark that there is none, or None
        if cached is None or not re.fullmatch("[0-9a-f]{40}", revision or ""):
            contact(model, revision)
            cached = _within(CONTACT_SECONDS, lambda: hf_hub_download(model, name, revision=revision))
    except errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # whatever the client, its HTTP library or the disk may raise
        if cached is None:  # else it is of a branch, as that was
            why = refusal(error, model, revision)
            raise CheckpointError(f"model {model!r}: {why or error}".splitlines()[0]) from error
    return Path(cached) if isinstance(cached, str) else None


def contact(name: str, revision: str | None, dataset: bool = False) -> None:
    """Ask a hub whether it has a commit, and gives the files of a dataset: `datasets` hides why it is refused them.

    Raises what the client raises, or TimeoutError after some seconds.
    """
    from huggingface_hub import HfApi, errors

    def ask() -> None:
        api, kind = HfApi(), "dataset" if dataset else "model"
        api.repo_info(name, repo_type=kind, revision=revision, timeout=CONTACT_SECONDS)
        try:
            if dataset:
                api.auth_check(name, repo_type=kind)
        except errors.HfHubHTTPError as error:
            if error.response.status_code in (401, 403):  # another hub than the original may not know this request
                raise

    _within(CONTACT_SECONDS, ask)


def _within(seconds: float, call: Callable[[], Found]) -> Found:
    """What `call` returns; TimeoutError after so many seconds, while it goes on in a thread that nothing waits for."""
    found: Future[Found] = Future()

    def run() -> None:
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=run, daemon=True).start()
    return found.result(seconds)


def refusal(error: BaseException, model: str, revision: str | None, dataset: bool = False) -> str | None:
    """What stands in the way of a model or dataset, and what to do; None where the error is none of a hub's."""
    from huggingface_hub import constants, errors, get_token

    chain = list(_causes(error))
    hub = constants.ENDPOINT
    page = f"{hub}/{'datasets/' if dataset else ''}{model}"
    token = "the token that is set has no access" if get_token() else "no token is set"
    login = "then `export HF_TOKEN=…` or `hf auth login`"

    def one(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in chain if isinstance(cause, kinds)), None)

    if one(errors.GatedRepoError):
        return f"it is gated, and {token}. Ask for access at {page}, {login}."
    if one(errors.RepositoryNotFoundError):
        return f"{hub} has none of that name for you, and {token}. Check the name; if it is private, {login[5:]}."
    if one(errors.RevisionNotFoundError):
        return f"it has no commit {revision}. `git ls-remote {page} HEAD` prints the one that it has now."
    if refused := one(errors.HfHubHTTPError):
        status = refused.response.status_code
        if status == 401:
            return f"{hub} does not know the token that is set. Make another at {hub}/settings/tokens, {login}."
        if status == 403:
            may = f"At {hub}/settings/tokens, a fine-grained one is allowed to read gated repositories"
            return f"{hub} answers with status 403, as {token}. {may}; {login}."
        return f"{hub} answers with status {status}. Try again later."
    kinds = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError)
    if one(*kinds) or any(type(cause).__module__.startswith("httpx") for cause in chain):
        what = f"{model}{' --repo-type dataset' if dataset else ''}{f' --revision {revision}' if revision else ''}"
        return (
            f"{hub} is not reached, and the cache does not hold it. Connect; or `hf download {what}` where there is a "
            "network, and name the folder instead."
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
