"""Keys of services: from the environment, else from `.env` in the repo root (.env.example shows what may stand there).

A key goes to the client that needs it and to nothing else: no error, record or log has it. What a service says may
repeat it: concealed(…) takes it out.
"""

import os
from pathlib import Path

from dotenv import dotenv_values

HUB_TOKEN = "HF_TOKEN"


class CredentialError(ValueError):
    """A key that is not there, or is none."""


def service_key(*names: str) -> str:
    """What the first of these variables that is set holds. Raises CredentialError where none is."""
    if key := _stated(*names):
        return key
    raise CredentialError(
        f"no key: set {' or '.join(names)} in the environment, or copy .env.example to {_env_file()} and put it there."
    )


def hub_token() -> str:
    """HF_TOKEN, or the token that `hf auth login` has kept. Raises CredentialError where there is neither."""
    from huggingface_hub import get_token

    return _stated(HUB_TOKEN) or get_token() or service_key(HUB_TOKEN)


def offer_hub_token() -> None:
    """Put HF_TOKEN of `.env` where all clients of a hub look first: into the environment of this process."""
    if token := _stated(HUB_TOKEN):
        os.environ[HUB_TOKEN] = token


def _stated(*names: str) -> str | None:
    places = (os.environ, dotenv_values(_env_file(), interpolate=False))
    found = ((name, (place.get(name) or "").strip()) for place in places for name in names)
    name, key = next(((name, key) for name, key in found if key), (None, ""))
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CredentialError(f"{name} holds a space, a line break or a letter that no key has. Paste the key again.")
    return key or None


def _env_file() -> Path:
    """That of the main repo, also in a copy by DVC."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".env"


def concealed(text: str, key: str) -> str:
    """`text` without the key."""
    return text.replace(key, "[the key]") if key else text
