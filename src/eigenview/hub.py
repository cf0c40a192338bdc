"""The Hugging Face hub, from which timm's weights and `hf:OWNER/NAME` come: the local cache, and whether it answers.

The libraries ask the hub first, also for what they have in their cache, and ask five times where nobody answers: a
machine without a network, which is the usual case for training, waits for a minute.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from eigenview.errors import UserError

Loaded = TypeVar("Loaded")

TIMM_CONFIG, TIMM_FILES = "config.json", ("model.safetensors", "pytorch_model.bin")
"""Files of a network as timm saves and uploads it: the description, and the tensors under one of two names."""
SECONDS = 5.0
"""Longest wait for the hub's answer."""


@contextmanager
def cache_only(*settings: Any) -> Iterator[None]:
    """In this block the libraries take what is in their cache and open no connection.

    settings: modules of the libraries that hold the setting HF_HUB_OFFLINE; default that of huggingface_hub.
    """
    from huggingface_hub import constants

    modules: tuple[Any, ...] = (constants, *settings)
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def why_unreachable() -> str:
    """Why the hub cannot be asked, after one attempt; an empty text if it answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # an answer
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return ""  # the libraries may know other certificates
        return f"{constants.ENDPOINT} does not answer"
    return ""


def from_cache_or_hub(name: str, what: str, load: Callable[[], Loaded], otherwise: str) -> Loaded:
    """What `load` gives: from the local cache, else from the hub, which is asked once and only if it answers.

    name, what, otherwise: for errors, what the user typed, what is looked for, and what could be given in its place.

    Raises: UserError if it is not in the cache and cannot be loaded.
    """
    try:
        with cache_only():
            return load()
    except (OSError, RuntimeError, ValueError) as error:
        missing = error
    silent = why_unreachable()
    if silent:
        raise UserError(
            f"{name}: {what} are not in this machine's cache, and {silent}. Run the same command once with a network "
            f"and copy its cache here (~/.cache/huggingface, or where HF_HOME points), or give {otherwise}."
        ) from missing
    try:
        return load()
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{name}: {what} could not be loaded ({reason}). Try again, or give {otherwise}.") from error
