"""Tensors and arrays in a file, by where they lie: nothing is allocated before one of them is read.

`BUILDERS` gives the values for torch's and NumPy's own functions in a pickle (torch/_utils.py, numpy/_core/multiarray);
all others stay placeholders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.training.restricted_pickle import Builder, Reference, Stateful

_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_STORAGES = {  # name of torch's typed storage -> dtype
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}  # fmt: skip
_NUMPY_KINDS = re.compile(r"[<>=|]?(b1|\?|[iufc]\d{1,2})")


@dataclass(frozen=True, eq=False, slots=True)
class StoredTensor:
    """A tensor that is still in its file."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]  # a copy in memory; ValueError where the file is too short for it


@dataclass(frozen=True, eq=False, slots=True)
class StoredBytes:
    """Bytes of a file or a pickle: torch's storage. `at(start, stop)` copies a part."""

    size: Callable[[], int]
    at: Callable[[int, int], np.ndarray[Any, np.dtype[np.uint8]]]


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """A storage as a pickle names it."""

    data: StoredBytes
    dtype: torch.dtype
    start: int = 0  # bytes; of a view into another storage


def storage_dtype(reference: Any) -> torch.dtype:
    """The dtype of a storage class such as ``torch.cuda.FloatStorage``. ValueError for one that is not known."""
    if not isinstance(reference, Reference) or reference.name not in _STORAGES:
        raise ValueError(f"storage of the kind {reference}")
    return _STORAGES[reference.name]


def strided(storage: Storage, offset: int, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Any:
    """The tensor of `shape` and `stride` (elements) from `offset` (elements) on.

    Raises:
        ValueError: numbers that no tensor has. Whether the storage is long enough is seen when it is read.
    """
    numbers = [offset, *shape, *stride]
    if len(shape) != len(stride) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor's shape, stride and offset are whole numbers from 0")
    item = dtype.itemsize
    span = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))

    def read() -> Tensor:
        there = storage.data.size() - storage.start - offset * item
        if span * item > there or math.prod(shape) > span:  # no tensor that repeats elements: it may be of any size
            raise ValueError(f"a tensor of the shape {tuple(shape)} needs more than the {max(there, 0):,} bytes there")
        if span == 0:
            return torch.empty(tuple(shape), dtype=dtype)
        begin = storage.start + offset * item
        flat = torch.from_numpy(storage.data.at(begin, begin + span * item)).view(dtype)
        return flat.as_strided(tuple(shape), tuple(stride)).contiguous()

    return StoredTensor(tuple(shape), read)


class NumpyType(Stateful):
    """``numpy.dtype``: numbers only; others have the code None."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        code = text(code)
        self.code = code if isinstance(code, str) and _NUMPY_KINDS.fullmatch(code) else None

    def build(self, state: Any) -> None:
        """The byte order is the state's second entry."""
        order = text(state[1]) if isinstance(state, tuple) and len(state) > 1 else None
        if self.code is not None and order in {"<", ">"}:
            self.code = f"{order}{self.code.lstrip('<>=|')}"

    def numbers(self, data: Any) -> np.ndarray[Any, Any]:
        """The numbers in `data`. ValueError where it is not bytes of such numbers."""
        if self.code is None or not isinstance(data, bytes | bytearray | str):
            raise ValueError("an array of objects, or without bytes")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        flat = np.frombuffer(raw, np.dtype(self.code))
        return flat.astype(flat.dtype.newbyteorder("="))


class NumpyArray(Stateful):
    """``numpy.ndarray`` while its state is still to come; `tensor` is None until then."""

    def __init__(self, *_: Any) -> None:
        self.tensor: StoredTensor | None = None

    def build(self, state: Any) -> None:
        """State: (version, shape, dtype, whether in Fortran's order, bytes)."""
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], NumpyType):
            self.tensor = _array(state[4], state[2], state[1], "F" if state[3] else "C")


def _array(data: Any, dtype: NumpyType, shape: Any, order: Any = "C") -> StoredTensor | None:
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        return None
    if dtype.code is None:
        return None

    def read() -> Tensor:
        numbers = dtype.numbers(data).reshape(shape, order="F" if order == "F" else "C")
        return torch.from_numpy(np.array(numbers, order="C"))

    return StoredTensor(shape, read)


def text(value: Any) -> Any:
    """Python 2's strings as text."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    if not isinstance(storage, Storage):
        raise TypeError("no storage")
    return strided(storage, offset, size, stride, storage.dtype)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(storage, Storage) or str(dtype) not in _DTYPES:
        raise TypeError("no storage or no dtype")
    return strided(storage, offset, size, stride, _DTYPES[str(dtype)])  # type: ignore[no-any-return]


def _first(data: Any, *_: Any) -> Any:
    return data.tensor if isinstance(data, NumpyArray) else data


def _from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    builder = BUILDERS.get(str(function))
    if builder is None or not isinstance(arguments, tuple):
        raise TypeError("another function")
    return builder(*arguments)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, NumpyType):
        raise TypeError("no dtype")
    return dtype.numbers(data)[0].item() if dtype.numbers(data).size else None


def _buffer(data: Any, dtype: Any, shape: Any, order: Any) -> StoredTensor:
    made = _array(data, dtype, shape, order) if isinstance(dtype, NumpyType) else None
    if made is None:
        raise ValueError("no numbers")
    return made


def _bytes(value: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(value, str) or encoding not in {"latin1", "latin-1"}:
        raise TypeError("no text")
    return value.encode("latin1")


def _list(values: Any = ()) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else []


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    made = dict(pairs) if isinstance(pairs, dict) else {}
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int):
            made[pair[0]] = pair[1]
    return made


def _tuple(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else ()


BUILDERS: dict[str, Builder] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_numpy": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._utils._rebuild_xla_tensor": _first,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": _tuple,
    "numpy.dtype": NumpyType,
    "_codecs.encode": _bytes,
    **{f"{module}.{name}": _list for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list")},
    **{f"{module}.tuple": _tuple for module in ("builtins", "__builtin__")},
    **{f"{module}.dict": _dict for module in ("builtins", "__builtin__")},
    "collections.OrderedDict": _dict,
    **{f"numpy.{core}.multiarray._reconstruct": NumpyArray for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _buffer for core in ("core", "_core")},
}
