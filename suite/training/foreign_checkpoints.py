"""Read the tensors of a checkpoint that another project wrote. Nothing in the file is executed or imported.

The format is recognised by the content, not by the name: torch's zip and legacy formats, safetensors, .npz, and pickles
with NumPy arrays. Tensors stay in the file (memory-mapped) until one is asked for. An object of an unknown class is
data: its attributes and items are searched for tensors too, so that a whole pickled `nn.Module` can be read.
"""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from suite.data.download.content import describe_content
from suite.errors import DataError
from suite.training.restricted_pickle import BrokenPickle, Placeholder, UnsafePickle, load
from suite.training.stored_tensors import (
    BUILDERS,
    NumpyArray,
    Storage,
    StoredBytes,
    StoredTensor,
    storage_dtype,
    text,
)

_MAGIC = 0x1950A86A20F9469CFC6C  # of torch.save's legacy format, torch/serialization.py
_DEPTH = 32  # nested containers; a project's own have hardly 5
_MODULE_PARTS = {"_parameters", "_buffers", "_modules"}  # attributes of a pickled nn.Module
_DEFLATE = 1032  # the most that a compressed byte can become


def read_checkpoint(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint file by their full names, such as ``state_dict.module.encoder_q.conv1.weight``.

    Names join the keys of all containers around a tensor. Links are followed.

    Raises:
        DataError: no file; no checkpoint (says what it is instead), a damaged one, one without tensors, or one that
            names a function such as ``os.system``, which only a hostile file does.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: expected a checkpoint file, such as one of those in it.")
    if not path.is_file():
        raise DataError(f"the checkpoint {path} does not exist.")
    try:
        content = _content(path)
    except UnsafePickle as error:
        raise DataError(
            f"{path} names the function {error}, which would run code when it is unpickled. Nothing was run. Do not "
            "use this file; get the checkpoint from its publisher."
        ) from None
    except (BrokenPickle, SafetensorError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{path} cannot be read as a checkpoint ({reason}). {_nature(path)}") from None
    tensors = dict(_named_tensors(content))
    if not tensors:
        raise DataError(f"{path} holds no state_dict: expected tensors by name, found {_kind(content)}.")
    return tensors


def _content(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise ValueError("it has no content")
    if start.startswith(b"PK"):
        return _zip(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return _safetensors(path)
    if start[:1] == b"\x80" or start[:1] in b"(]}lcd":
        return _pickle(path)
    raise ValueError("its first bytes are those of no known format")


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    file: Any = safe_open(path, framework="pt")

    def stored(name: str) -> StoredTensor:
        return StoredTensor(tuple(file.get_slice(name).get_shape()), lambda: file.get_tensor(name))

    return {name: stored(name) for name in file.keys()}  # noqa: SIM118  (no mapping)


def _zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if any(name.endswith(".npy") for name in members):
            return _npz(path, members)
        pickles = sorted((name for name in members if f"/{name}".endswith("/data.pkl")), key=len)
        if not pickles:
            raise ValueError("a zip archive without torch's data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for name, info in members.items() if name.startswith(root)):
            raise ValueError("a compressed zip archive; torch.save writes uncompressed ones")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder").strip() != b"little":
            raise ValueError("it was written on a big-endian machine")
        pickled = archive.read(pickles[0])
    whole = _mapped(path)

    def persistent(identity: Any) -> Any:
        kind, cls, key, *_ = identity
        if text(kind) != "storage" or f"{root}data/{text(key)}" not in members:
            raise BrokenPickle(f"the storage {key} is not in the file")
        info = members[f"{root}data/{text(key)}"]
        begin = _data_start(whole, info)
        return Storage(_part(whole, begin, info.file_size), storage_dtype(cls))

    return load(io.BytesIO(pickled), BUILDERS, persistent)


def _data_start(whole: np.ndarray[Any, Any], info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin, behind its local header (zip specification, 4.3.7)."""
    header = whole[info.header_offset : info.header_offset + 30].tobytes()
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _npz(path: Path, members: Mapping[str, zipfile.ZipInfo]) -> dict[str, StoredTensor]:
    arrays = {}
    for name, info in members.items():
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            if np.lib.format.read_magic(file) == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.kind not in "biufc" or dtype.itemsize * int(np.prod(shape, dtype=object)) > _DEFLATE * info.file_size:
            continue

        def read(name: str = name) -> Tensor:
            with np.load(path, allow_pickle=False) as archive:
                return torch.from_numpy(np.array(archive[name.removesuffix(".npy")], order="C"))

        arrays[name.removesuffix(".npy")] = StoredTensor(shape, read)
    return arrays


def _pickle(path: Path) -> Any:
    """A plain pickle, or torch's legacy format: five pickles, then every storage behind its number of elements."""
    storages: dict[Any, tuple[torch.dtype, dict[str, int]]] = {}
    whole = _mapped(path)

    def persistent(identity: Any) -> Any:
        if text(identity[0]) == "module":  # a class with its source code, which is not read
            return identity[1]
        kind, cls, key, _, _, view = identity
        if text(kind) != "storage":
            raise BrokenPickle(f"unknown persistent id {kind}")
        dtype, place = storages.setdefault(text(key), (storage_dtype(cls), {}))
        data = StoredBytes(
            lambda: place.get("size", 0), lambda a, b: np.array(whole[place["start"] + a : place["start"] + b])
        )
        return Storage(data, dtype, 0 if view is None else int(view[1]) * dtype.itemsize)

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stream = cast(IO[bytes], mapped)  # it reads and seeks as a file does
        content = load(stream, BUILDERS)
        if content != _MAGIC:
            return content
        load(stream, BUILDERS)  # the protocol
        load(stream, BUILDERS)  # facts on the machine
        content = load(stream, BUILDERS, persistent)
        keys = load(stream, BUILDERS)
        position = stream.tell()
    for key in keys if isinstance(keys, list) else ():
        dtype, place = storages.get(text(key), (None, None))
        if dtype is None or place is None:
            raise BrokenPickle(f"the storage {key} belongs to no tensor")
        size = int.from_bytes(whole[position : position + 8].tobytes(), "little", signed=True) * dtype.itemsize
        if size < 0 or position + 8 + size > len(whole):
            raise BrokenPickle("the storages are not complete")
        place["start"], place["size"] = position + 8, size
        position += 8 + size
    return content


def _mapped(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.memmap(path, np.uint8, "r")


def _part(whole: np.ndarray[Any, np.dtype[np.uint8]], begin: int, size: int) -> StoredBytes:
    there = max(min(size, len(whole) - begin), 0)
    return StoredBytes(lambda: there, lambda a, b: np.array(whole[begin + a : begin + b]))


def _named_tensors(content: Any) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor with its name, in the file's order; each container once, however often it is referred to."""
    visited: set[int] = set()
    stack: list[tuple[str, int, Any]] = [("", 0, content)]
    while stack:
        name, depth, value = stack.pop()
        if isinstance(value, NumpyArray):
            value = value.tensor
        if isinstance(value, StoredTensor):
            yield name, value
        elif depth < _DEPTH and id(value) not in visited:
            visited.add(id(value))
            stack += reversed([(f"{name}.{key}".lstrip("."), depth + 1, inner) for key, inner in _children(value)])
            stack += [(name, depth + 1, part) for part in _same_name(value)]


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Placeholder):
        for part in (value.state, value.items):
            if isinstance(part, dict):
                yield from ((key, inner) for key, inner in part.items() if key not in _MODULE_PARTS)
        yield from enumerate(value.elements)
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _same_name(value: Any) -> Iterator[Any]:
    """Parts of a module that add nothing to a name."""
    if isinstance(value, Placeholder) and isinstance(value.state, dict):
        yield from (value.state[part] for part in _MODULE_PARTS if part in value.state)


def _kind(content: Any) -> str:
    if isinstance(content, dict):
        return f"a mapping with the keys {', '.join(map(str, list(content)[:5]))}"
    return f"an object of {content.of}" if isinstance(content, Placeholder) else f"a {type(content).__name__}"


def _nature(path: Path) -> str:
    return describe_content(path) or "Expected a file of torch.save or safetensors; a download may have been cut off."
