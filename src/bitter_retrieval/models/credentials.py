"""Keys of services: from the environment, else from `.env` in the repo root (.env.example lists them).

    service_key("GEMINI_API_KEY", "GOOGLE_API_KEY")       the first that is set, or CredentialError

A key goes to the client that needs it and nowhere else: not into errors, records or logs. A service's reply may repeat
it, and a client the address of its service, which may hold a login: concealed(…) takes both out.
"""

import os
import re
from pathlib import Path

from dotenv import dotenv_values

HUB_TOKEN = "HF_TOKEN"
LOGIN = re.compile(r"(?<=://)[^\s/@]+@")  # in https://user:password@host


class CredentialError(ValueError):
    """A key that is missing or malformed."""


def service_key(*names: str) -> str:
    """Value of the first of these variables that is set. Raises CredentialError if none is."""
    if key := _stated(*names):
        return key
    raise CredentialError(
        f"no key: set {' or '.join(names)} in the environment, or copy .env.example to {_env_file()} and put it there."
    )


def hub_token() -> str:
    """HF_TOKEN, or the token that `hf auth login` stored. Raises CredentialError if there is neither."""
    from huggingface_hub import get_token

    return _stated(HUB_TOKEN) or get_token() or service_key(HUB_TOKEN)


def offer_hub_token() -> None:
    """Copy HF_TOKEN of `.env` into the environment of this process, where all clients of a hub look first."""
    if token := _stated(HUB_TOKEN):
        os.environ[HUB_TOKEN] = token


def _stated(*names: str) -> str | None:
    places = (os.environ, dotenv_values(_env_file(), interpolate=False))
    found = ((name, (place.get(name) or "").strip()) for place in places for name in names)
    name, key = next(((name, key) for name, key in found if key), (None, ""))
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CredentialError(f"{name} has a space, a line break or a letter that no key has. Paste the key again.")
    return key or None


def _env_file() -> Path:
    """The main repo's, also where DVC runs a stage in a copy."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".env"


def concealed(text: str, *keys: str | None) -> str:
    """`text` without these keys, and without the logins of addresses."""
    for key in filter(None, keys):
        text = text.replace(key, "[the key]")
    return LOGIN.sub("", text)
