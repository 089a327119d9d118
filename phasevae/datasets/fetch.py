"""Download a file once, with progress, retries, a checksum, and resumption of an interrupted download."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import file_sha256
from phasevae.errors import InputError

RETRIES = 4
TIMEOUT = 10.0, 60.0  # seconds to connect, and between two pieces
_CHUNK = 2**14  # the most that a broken connection loses


def fetched(url: str, size: int, sha256: str, folder: Path | None = None) -> Path:
    """Return the path of a file in the cache; download it if it is not there.

    The bytes arrive in NAME.part in the same folder, so that a later attempt continues an interrupted one. After its
    checksum is verified the file gets its name. If several processes need it, one downloads it and the others wait.

    Parameters
    ----------
    url : str
    size : int
        Bytes of the file.
    sha256 : str
        Checksum of the file (hex).
    folder : Path, optional
        The cache; by default the environment variable PHASEVAE_CACHE, else the user's cache folder.

    Raises
    ------
    InputError
        If the host cannot be reached or the checksum is wrong.
    """
    import pooch
    from filelock import FileLock

    pooch.get_logger().setLevel("WARNING")
    folder = folder or Path(os.environ.get("PHASEVAE_CACHE") or pooch.os_cache("phasevae"))
    name = url.rsplit("/", 1)[-1]
    part = folder / f"{name}.part"
    # Without the lock, which a shared read-only cache cannot hold.
    if (folder / name).is_file() and file_sha256(folder / name) == sha256:
        return folder / name

    def download(url: str, destination: Any, _pooch: Any) -> None:
        resume(url, part, size)
        part.replace(destination)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, downloader=download))
    except InputError:
        raise
    except ValueError:
        raise InputError(f"{url}: the checksum of what was received is wrong, must be sha256 {sha256}") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or str(error).splitlines()[0]})") from None


def resume(url: str, part: Path, size: int, wait: Callable[[float], None] = time.sleep) -> None:
    """Download until a file is complete. An attempt that brings bytes does not count as a failure.

    Parameters
    ----------
    url : str
    part : Path
        The file, to whose present end the bytes are appended.
    size : int
        Bytes of the complete file.
    wait : function
        Waits a number of seconds between failures.

    Raises
    ------
    InputError
        If the server refuses, or after more than RETRIES failures in a row.
    """
    import requests

    if not sys.stderr.isatty():
        print(f"fetching {url} ({size / 1e6:.0f} MB)", file=sys.stderr, flush=True)
    failures = 0
    while (have := _size(part)) < size:
        try:
            _receive(url, part, size)
        except requests.HTTPError as error:
            if error.response.status_code < 500:
                raise InputError(f"{url}: the server answers {error.response.status_code}") from None
            reason = f"the server answers {error.response.status_code}"
        except requests.RequestException as error:
            reason = _reason(error)
        else:
            reason = "the connection closed early"
        if _size(part) > have:
            failures = 0
        elif _size(part) < size:
            failures += 1
            if failures > RETRIES:
                raise InputError(
                    f"{url}: cannot be fetched ({reason}); give a local copy of the file instead"
                ) from None
            wait(min(2.0 ** (failures - 1), 10.0))
    if _size(part) > size:
        part.unlink()
        raise InputError(f"{url}: is longer than {size} bytes, must be another file")


def _receive(url: str, part: Path, size: int) -> None:
    """One attempt, from the present end of `part`."""
    import requests

    have = _size(part)
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        # A server that does not know ranges answers 200 and sends the file from its start.
        resumed = response.status_code == requests.codes.partial_content
        with part.open("ab" if resumed else "wb") as stream, _progress(part.stem, size) as advance:
            advance(have if resumed else 0)
            for chunk in response.iter_content(_CHUNK):
                stream.write(chunk)
                advance(len(chunk))


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of bytes received: a bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = *Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(label, total=total)
        yield lambda n: progress.advance(task, n)


def _reason(error: Exception) -> str:
    """The cause in plain words; requests wraps it in several layers of text."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    if isinstance(error, requests.ConnectionError):
        return "no route to the host, or the connection broke"
    return str(error).splitlines()[0]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
