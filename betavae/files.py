"""Write files whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor


def write(path: str | Path, content: str | bytes) -> None:
    """Replace a file's content atomically.

    Raises
    ------
    OSError
        Nothing can be written there. The old file is untouched, and no partial file is left.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file: ``write``, with the permissions of any new file.

    safetensors' own ``save_file`` makes files that only their owner can read, and raises its own error on a full disk.

    Raises
    ------
    OSError
        See ``write``.
    """
    write(path, save(dict(tensors), dict(metadata) if metadata else None))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file, by name, and its metadata.

    Raises
    ------
    SafetensorError, OSError
        The file is damaged or missing.
    """
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def sentence(error: OSError) -> str:
    """The message of an error, with the file's name and without the error's number."""
    return f"{error.filename!r}: {error.strerror}." if error.filename and error.strerror else str(error)
