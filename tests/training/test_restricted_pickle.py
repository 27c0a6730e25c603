"""Hostile pickles: nothing of them runs, nothing is imported, and none takes long or much memory."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from suite.errors import DataError
from suite.training.foreign_checkpoints import read_checkpoint
from suite.training.restricted_pickle import BrokenPickle, Placeholder, Reference, UnsafePickle, load
from suite.training.stored_tensors import BUILDERS

TRACE: list[str] = []


def leave_trace(*_: object) -> None:
    """Would be called by pickle.load."""
    TRACE.append("ran")


def read(data: bytes) -> Any:
    return load(io.BytesIO(data), BUILDERS)


def word(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def stack_global(module: str, name: str) -> bytes:
    return word(module) + word(name) + b"\x93"


HERE = __name__
TRAPS: dict[str, bytes] = {
    "a call": b"\x80\x04" + stack_global(HERE, "leave_trace") + b")R.",
    "a call of protocol 0": f"c{HERE}\nleave_trace\n(tR.".encode(),
    "an instance of protocol 0": f"(i{HERE}\nleave_trace\n.".encode(),
    "an object of protocol 1": b"(" + f"c{HERE}\nleave_trace\n".encode() + b"o.",
    "NEWOBJ": b"\x80\x04" + stack_global(HERE, "Trap") + b")\x81.",
    "NEWOBJ_EX": b"\x80\x04" + stack_global(HERE, "Trap") + b")}\x92.",
    "state of a class": b"\x80\x04" + stack_global(HERE, "Trap") + b")\x81}" + word("a") + b"K\x01sb.",
    "a call of a call": b"\x80\x04" + stack_global("functools", "partial") + stack_global(HERE, "leave_trace")
    + b"\x85R)R.",
    "a dotted name": b"\x80\x04" + stack_global(HERE, "Trap.method") + b")R.",
    "attribute by attribute": b"\x80\x04" + stack_global("builtins", "getattr") + stack_global(HERE, "Trap")
    + word("method") + b"\x86R)R.",
    "a call as a key": b"\x80\x04}" + stack_global(HERE, "leave_trace") + b")RK\x01s.",
    "an extension code": b"\x80\x04\x82\x01)R.",
    "through a builder's arguments": b"\x80\x04" + stack_global("torch._utils", "_rebuild_parameter")
    + stack_global(HERE, "leave_trace") + b")R\x89}\x87R.",
    "through torch's own detour": b"\x80\x04" + stack_global("torch._tensor", "_rebuild_from_type_v2") + b"("
    + stack_global(HERE, "leave_trace") + stack_global(HERE, "Trap") + b"))tR.",
}  # fmt: skip


class Trap:
    """Every way in which a class can notice that it is used."""

    def __new__(cls, *_: object) -> Trap:
        leave_trace()
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        leave_trace()

    @staticmethod
    def method() -> None:
        leave_trace()


@pytest.mark.parametrize("trap", TRAPS)
def test_nothing_is_called(trap: str) -> None:
    TRACE.clear()
    try:
        read(TRAPS[trap])
    except BrokenPickle as error:
        pytest.fail(str(error))
    assert TRACE == []


def test_the_traps_are_traps() -> None:
    """Python's own reader falls into them: else the test above shows nothing."""
    sys.modules.setdefault(HERE, sys.modules[__name__])
    for trap in ("a call", "a call of protocol 0", "NEWOBJ", "NEWOBJ_EX", "a call of a call", "a dotted name"):
        TRACE.clear()
        pickle.loads(TRAPS[trap])
        assert TRACE, trap


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("__builtin__", "execfile"),
     ("builtins", "__import__"), ("subprocess", "Popen"), ("importlib", "import_module"), ("os", "path.os.system")],
)  # fmt: skip
def test_functions_that_run_code_are_named(module: str, name: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    data = b"\x80\x04" + stack_global(module, name) + word(f"touch {ran}") + b"\x85R."
    with pytest.raises(UnsafePickle, match=name.split(".", maxsplit=1)[0]):
        read(data)
    nested = b"\x80\x04}(" + word("state_dict") + b"}" + word("x") + data[2:-1] + b"u."
    (tmp_path / "c.pth").write_bytes(nested)
    with pytest.raises(DataError, match=rf"names the function {module}\.{name}.*Nothing was run"):
        read_checkpoint(tmp_path / "c.pth")
    assert not ran.exists()


def test_no_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trojan_of_a_checkpoint.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = read(b"\x80\x04" + stack_global("trojan_of_a_checkpoint", "Config") + b")\x81.")
    assert isinstance(found, Placeholder)
    assert found.of == Reference("trojan_of_a_checkpoint", "Config")
    assert "trojan_of_a_checkpoint" not in sys.modules


def bomb_of_tuples() -> bytes:
    """2 ** 60 elements by reference, used as the key of a dict."""
    data = b"\x80\x04}N"
    for _ in range(60):
        data += b"2\x86"  # DUP, TUPLE2
    return data + b"K\x01s."


def bomb_of_lists() -> bytes:
    return b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."


HUGE: dict[str, bytes] = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
    "a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"abc.",
    "a number": b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b"abc.",
    "a number as text": b"L" + b"9" * 100_000 + b"L\n.",
    "the memo": b"\x80\x04Nr" + struct.pack("<I", 0xFFFFFFFF) + b".",
    "tuples": bomb_of_tuples(),
    "nested lists": bomb_of_lists(),
    "marks": b"\x80\x04" + b"(" * 100_000 + b".",
    "an array": b"\x80\x04" + stack_global("numpy", "zeros") + b"\x8a\x06"
    + (1 << 40).to_bytes(6, "little") + b"\x85R.",
    "bytes by a call": b"\x80\x04" + stack_global("builtins", "bytearray") + b"\x8a\x06"
    + (1 << 40).to_bytes(6, "little") + b"\x85R.",
    "a range": b"\x80\x04" + stack_global("builtins", "list") + stack_global("builtins", "range") + b"\x8a\x06"
    + (1 << 40).to_bytes(6, "little") + b"\x85R\x85R.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", HUGE)
def test_huge_claims_cost_nothing(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "c.pth").write_bytes(HUGE[bomb])
    began = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be read|holds no state_dict"):
        read_checkpoint(tmp_path / "c.pth")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, (1 << 40,), (1,)), (1 << 40, (2,), (1,)), (0, (1 << 20, 1 << 20), (0, 0)), (-1, (1,), (1,)), (0, (4,), (-1,)),
     (0, ("x",), (1,))],
)  # fmt: skip
def test_a_tensor_that_claims_more_than_its_storage(offset: int, shape: Any, stride: Any, tmp_path: Path) -> None:
    """The reader names it at most; its memory is never asked for."""

    class Claim:
        def __init__(self, storage: Any) -> None:
            self.storage = storage

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (self.storage, offset, shape, stride, False, OrderedDict())

    storage = torch.zeros(4)._typed_storage()
    torch.save({"weight": Claim(storage), "bias": torch.ones(2)}, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth")
    assert torch.equal(found["bias"].read(), torch.ones(2))
    if "weight" in found:
        with pytest.raises(ValueError, match=r"needs more than the (16|0) bytes there"):
            found["weight"].read()


def test_cut_off_anywhere() -> None:
    data = pickle.dumps({"state": [1, 2.5, "x", (None, True)], "path": PurePosixPath("a")}, protocol=4)
    for end in range(len(data)):
        with pytest.raises(BrokenPickle):
            read(data[:end])


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_numbers_are_python_s(protocol: int) -> None:
    value = {
        "none": None, "true": True, "int": -(1 << 70), "float": 2.5, "text": "naïve", "bytes": b"\x00\xff", "empty": (),
        "tuple": (1, (2, 3, 4, 5)), "list": [[], {}], 7: "key", "ordered": OrderedDict(a=1), "scalar": np.float32(0.5),
        "whole": np.int64(3),
    }  # fmt: skip
    expected = {**value, "ordered": {"a": 1}, "scalar": 0.5, "whole": 3}
    assert read(pickle.dumps(value, protocol)) == expected
    shared = [1]
    first, second = read(pickle.dumps([shared, shared], protocol))
    assert first is second
    assert sorted(read(pickle.dumps({3, 1, 2}, protocol))) == [1, 2, 3]


def test_a_list_in_itself() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    found = read(pickle.dumps(circle))
    assert found[1] is found


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "make",
    [
        lambda: defaultdict(list, a=[1]),
        lambda: partial(int, base=2),
        lambda: PureWindowsPath("C:/x"),
        lambda: SimpleNamespace(a=1),
        lambda: np.random.default_rng(0),
        lambda: np.array([{"an": "object"}], dtype=object),
        lambda: np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
        lambda: np.datetime64("2020-01-01"),
        lambda: torch.optim.SGD([torch.zeros(1)], 0.1).state_dict()["param_groups"],
        lambda: Reference,
        lambda: sys.intern,
        lambda: slice(1, 2),
        lambda: complex(1, 2),
        lambda: TimeoutError("x"),
    ],
)  # fmt: skip
def test_other_objects_are_swallowed(make: Callable[[], Any], protocol: int) -> None:
    found = read(pickle.dumps({"before": 1, "object": make(), "after": 2}, protocol))
    assert (found["before"], found["after"]) == (1, 2)


def test_what_a_placeholder_keeps() -> None:
    found = read(pickle.dumps(defaultdict(list, a=[1])))
    assert (str(found.of), found.items) == ("collections.defaultdict", {"a": [1]})
    found = read(pickle.dumps(SimpleNamespace(a=1)))
    assert found.state == {"a": 1}
