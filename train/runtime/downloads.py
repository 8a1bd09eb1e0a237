"""Fetch a file once: over https, its sha256 checked, in place only when whole. No other module asks a network."""

import hashlib
import http.client
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from adam_minibatch_noise.errors import InputError
from common.files import atomic_write

BLOCK = 1 << 20  # bytes at a time


def open_url(url: str) -> IO[bytes]:
    """Open an address for reading, with a time-out of a minute; https only, also where it leads on to another one.

    Parameters
    ----------
    url : str

    Raises
    ------
    InputError
        An address that is not https.
    OSError
        It cannot be opened.
    """
    from urllib.request import HTTPRedirectHandler, build_opener

    class OnlyHttps(HTTPRedirectHandler):
        def redirect_request(self, request, file, code, message, headers, new):
            return super().redirect_request(request, file, code, message, headers, _https(new))

    return build_opener(OnlyHttps).open(_https(url), timeout=60)


def _https(url: str) -> str:
    if not url.startswith("https://"):
        raise InputError(f"{url}: not fetched, allowed: addresses that begin with https://")
    return url


def fetch(url: str, path: Path, sha256: str, opener: Callable[[str], IO[bytes]] | None = None) -> None:
    """Fetch `url` to `path`, which appears only if the sha256 is right.

    Parameters
    ----------
    url : str
    path : path
        Missing folders are made.
    sha256 : str
        What the file must have.
    opener : callable, optional
        From an address to a readable binary file; `open_url` unless given.

    Raises
    ------
    InputError
        The download failed, or brought something else.
    """
    from tqdm import tqdm

    digest = hashlib.sha256()
    try:
        with (opener or open_url)(url) as response, atomic_write(path, "wb") as file:
            with tqdm(desc=path.name, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
                while block := response.read(BLOCK):
                    digest.update(block)
                    file.write(block)
                    bar.update(len(block))
            check(url, digest.hexdigest(), sha256)
    except (OSError, http.client.HTTPException) as error:
        folder = os.path.dirname(path)
        raise InputError(f"{url}: download failed ({error}); put the file into {folder} by hand") from error


def check(name: str, found: str, expected: str) -> None:
    """Refuse a file whose sha256 is not the expected one.

    Parameters
    ----------
    name : str
        Path or address, for the message.
    found, expected : str

    Raises
    ------
    InputError
    """
    if found != expected:
        raise InputError(
            f"{name}: its sha256 is {found}, allowed: {expected}; the file is damaged or cut short: delete it or "
            "replace it"
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file.

    Parameters
    ----------
    path : path
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
