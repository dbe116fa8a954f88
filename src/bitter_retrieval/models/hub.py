"""First contact with a hub, within seconds, and its refusals in plain words with the remedy.

    fetch("meta-llama/Llama-3.1-8B", "config.json", "d04e592b…")      a path in the hub's cache, or CheckpointError:

    model 'meta-llama/Llama-3.1-8B': it is gated, and no token is set. Ask for access at
    https://huggingface.co/meta-llama/Llama-3.1-8B, then `export HF_TOKEN=…` or `hf auth login`.

huggingface_hub's own messages are not passed on: they repeat the service's reply, which may echo a token.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.models.credentials import concealed, offer_hub_token

CONTACT_SECONDS = 5.0  # that a hub may take to answer: behind a silent firewall the client waits for each address

Found = TypeVar("Found")


def fetch(model: str, name: str, revision: str | None) -> Path:
    """Path of a small file of a model: in its folder, or in the hub's cache. Raises CheckpointError."""
    file = find(model, name, revision)
    if file is None:
        raise CheckpointError(f"model {model!r}: there is no {name}. A checkpoint has one, weights and a tokenizer.")
    return file


def find(model: str, name: str, revision: str | None, optional: bool = False) -> Path | None:
    """Like fetch, but None if the model is available and has no such file.

    For a commit, the cache's word suffices. Otherwise the hub is first asked, once and briefly, whether it has the
    model: the client would try to fetch the file for half a minute. optional: of a model whose config is here; None
    also if the cache lacks the file and the hub is unreachable. `hf download` leaves no word on what a model lacks.
    """
    if Path(model).is_dir():
        return Path(model) / name if (Path(model) / name).is_file() else None
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    offer_hub_token()  # also if only the weights are still to be fetched
    cached = None
    try:
        cached = try_to_load_from_cache(model, name, revision=revision)  # a path, a mark of absence, or None (unknown)
        if optional and cached is None and unreachable(model, revision):
            return None
        if cached is None or not re.fullmatch("[0-9a-f]{40}", revision or ""):
            contact(model, revision)
            cached = _within(CONTACT_SECONDS, lambda: hf_hub_download(model, name, revision=revision))
    except errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # the client, its HTTP library or the disk may raise anything
        if cached is None:  # else it is the branch as last seen
            raise CheckpointError(f"model {model!r}: {_why(error, model, revision)}".splitlines()[0]) from error
    return Path(cached) if isinstance(cached, str) else None


def fetch_weights(model: str, name: str, revision: str | None, only_ask: bool = False) -> Path | None:
    """Like fetch, for a file of gigabytes: once the hub has answered, it may take its time.

    only_ask: fetch nothing, and give None if the hub has the model but the cache has no such file.
    """
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    offer_hub_token()
    try:
        cached = try_to_load_from_cache(model, name, revision=revision)
        if not isinstance(cached, str):
            contact(model, revision)
            cached = None if only_ask else hf_hub_download(model, name, revision=revision)
    except errors.RemoteEntryNotFoundError as error:
        raise CheckpointError(f"model {model!r}: there is no {name}. Its page lists its files.") from error
    except Exception as error:  # the client, its HTTP library or the disk may raise anything
        raise CheckpointError(f"model {model!r}: {_why(error, model, revision)}".splitlines()[0]) from error
    return cached and Path(cached)


@cache
def unreachable(model: str, revision: str | None) -> bool:
    """Whether only the cache can give the model. Asked once a process; transformers itself asks for minutes."""
    if Path(model).is_dir():
        return False
    try:
        contact(model, revision)
    except Exception as error:  # the client, its HTTP library or the disk may raise anything
        return _is_silence(_causes(error))
    return False


def contact(name: str, revision: str | None, dataset: bool = False) -> None:
    """Ask a hub whether it has a commit and, for a dataset, grants its files: `datasets` hides why they are refused.

    Raises the client's errors, or TimeoutError after CONTACT_SECONDS.
    """
    from huggingface_hub import HfApi, errors

    def ask() -> None:
        api, kind = HfApi(), "dataset" if dataset else "model"
        api.repo_info(name, repo_type=kind, revision=revision, timeout=CONTACT_SECONDS)
        try:
            if dataset:
                api.auth_check(name, repo_type=kind)
        except errors.HfHubHTTPError as error:
            if error.response.status_code in (401, 403):  # not where a hub lacks this request
                raise

    _within(CONTACT_SECONDS, ask)


def _within(seconds: float, call: Callable[[], Found]) -> Found:
    """Result of `call`, or TimeoutError after `seconds`; the call then goes on in a thread that nothing waits for."""
    found: Future[Found] = Future()

    def run() -> None:
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=run, daemon=True).start()
    return found.result(seconds)


def _why(error: Exception, model: str, revision: str | None) -> str:
    from huggingface_hub import get_token

    return refusal(error, model, revision) or concealed(str(error), get_token())


def refusal(error: BaseException, model: str, revision: str | None, dataset: bool = False) -> str | None:
    """Why a hub does not give a model or dataset, and the remedy; None if the error is not a hub's."""
    from huggingface_hub import constants, errors, get_token

    chain = list(_causes(error))
    hub = concealed(constants.ENDPOINT)
    page = f"{hub}/{'datasets/' if dataset else ''}{model}"
    token = "the token that is set has no access" if get_token() else "no token is set"
    login = "then `export HF_TOKEN=…` or `hf auth login`"

    def one(*kinds: Any) -> Any:
        """The first cause of these kinds, or None. Any: mypy does not read huggingface_hub."""
        return next((cause for cause in chain if isinstance(cause, kinds)), None)

    if one(errors.GatedRepoError):
        return f"it is gated, and {token}. Ask for access at {page}, {login}."
    if one(errors.RepositoryNotFoundError):
        private = f"Check the name; if it is private, {login[5:]}."
        return f"{hub} has no repository of that name for you, and {token}. {private}"
    if one(errors.RevisionNotFoundError):
        return f"it has no commit {revision}. `git ls-remote {page} HEAD` prints the current one."
    if refused := one(errors.HfHubHTTPError):
        status = refused.response.status_code
        if status == 401:
            return f"{hub} does not know the token that is set. Make another at {hub}/settings/tokens, {login}."
        if status == 403:
            may = f"At {hub}/settings/tokens, allow a fine-grained one to read gated repositories"
            return f"{hub} answers with status 403, as {token}. {may}; {login}."
        return f"{hub} answers with status {status}. Try again later."
    if _is_silence(chain):
        what = f"{model}{' --repo-type dataset' if dataset else ''}{f' --revision {revision}' if revision else ''}"
        return (
            f"{hub} cannot be reached, and the cache does not hold it. Connect; or run `hf download {what}` where "
            "there is a network, and name the folder instead."
        )
    return None


def _is_silence(causes: Iterable[BaseException]) -> bool:
    """Whether a hub could not be reached, or was not to be asked. Its refusals are among the causes, if it refused."""
    from huggingface_hub import errors

    causes = list(causes)
    kinds = errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError
    if any(isinstance(cause, errors.HfHubHTTPError) for cause in causes):
        return False
    return any(isinstance(cause, kinds) or type(cause).__module__.startswith("httpx") for cause in causes)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
