"""Read a pickle as data: no class of the file is imported, nothing in it is called.

The opcodes are interpreted here, on top of `pickletools.genops`, instead of by `pickle.Unpickler`: that one calls what
the file names and sets attributes on the result. Plain containers and scalars become Python's own; a set becomes a
list, as its elements may not be hashable here. The name of a class or function becomes a `Reference`. A call becomes
the value that one of the caller's `builders` gives for its arguments, or else a `Placeholder`, which keeps arguments,
state and items as data. The opcodes are those of pickle protocols 0 to 5 (cpython, Lib/pickletools.py).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

MAX_OPCODES = 20_000_000  # about half a minute; a ResNet-50 with its optimiser state has 100,000

_SCALARS = (str, bytes, int, float, bool, type(None))
_MARK = object()
# Functions that no checkpoint needs and that run code when a careless reader calls them.
_CODE_MODULES = {"os", "posix", "nt", "subprocess", "pty", "runpy", "importlib", "ctypes", "shutil"}
_CODE_NAMES = {"eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint", "input"}


class UnsafePickle(ValueError):
    """The file names a function whose only use in a pickle is to run code."""


class BrokenPickle(ValueError):
    """The bytes are no pickle, or end early."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of a class or function, never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Placeholder:
    """An object of an unknown class: what the file would have given to its constructor and its state."""

    of: Reference
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)  # of a dict's subclass
    elements: list[Any] = field(default_factory=list)  # of a list's or set's subclass


Builder = Callable[..., Any]
_UNKNOWN = Reference("unknown", "object")


def load(file: IO[bytes], builders: Mapping[str, Builder], persistent: Callable[[Any], Any] = lambda _: None) -> Any:
    """Read the first pickle of `file`; the file position is behind it afterwards.

    Args:
        file: read with `read` and `readline`; bytes are never asked for beyond its end.
        builders: per full name of a class or function, such as ``collections.OrderedDict``, what its call gives.
            A builder gets the file's arguments, whatever they are: it must check them, and raise ValueError or
            TypeError for a call that it does not understand; the call then gives a placeholder.
        persistent: turns a persistent id (torch's name of a storage) into a value.

    Raises:
        BrokenPickle: no pickle, one that ends early, or one of more than `MAX_OPCODES` opcodes.
        UnsafePickle: it names a function such as ``os.system``. The function is not called.
    """
    machine = _Machine(builders, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES:
                raise BrokenPickle(f"more than {MAX_OPCODES:,} opcodes")
            machine.step(opcode.name, argument)
        return machine.pop()
    except (UnsafePickle, BrokenPickle):
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, UnicodeError) as error:
        raise BrokenPickle(str(error) or type(error).__name__) from None


class _Machine:
    """The stack and the memo. One method per group of opcodes."""

    def __init__(self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]) -> None:
        self.builders, self.persistent = builders, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise BrokenPickle("a mark where a value is expected")
        return value

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in {"PROTO", "FRAME", "STOP", "NEXT_BUFFER", "READONLY_BUFFER"}:
            if name == "NEXT_BUFFER":
                raise BrokenPickle("it refers to a buffer outside the file")
        elif name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[int(argument)])
        else:
            method = getattr(self, f"op_{name.lower()}", None)
            if method is None:
                raise BrokenPickle(f"opcode {name} is not understood")
            method(argument)

    # Containers

    def op_mark(self, _: object) -> None:
        self.stack.append(_MARK)

    def op_pop(self, _: object) -> None:
        self.stack.pop()

    def op_dup(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def op_pop_mark(self, _: object) -> None:
        self._since_mark()

    def op_tuple(self, _: object) -> None:
        self.stack.append(tuple(self._since_mark()))

    def op_tuple1(self, _: object) -> None:
        self.stack.append((self.pop(),))

    def op_tuple2(self, _: object) -> None:
        second, first = self.pop(), self.pop()
        self.stack.append((first, second))

    def op_tuple3(self, _: object) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, second, third))

    def op_list(self, _: object) -> None:
        self.stack.append(self._since_mark())

    def op_frozenset(self, _: object) -> None:
        self.stack.append(self._since_mark())  # a list: its elements may not be hashable, or hash for hours

    def op_dict(self, _: object) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set(values)

    def op_append(self, _: object) -> None:
        value = self.pop()
        self._extend([value])

    def op_appends(self, _: object) -> None:
        self._extend(self._since_mark())

    def op_additems(self, _: object) -> None:
        self._extend(self._since_mark())

    def op_setitem(self, _: object) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def op_setitems(self, _: object) -> None:
        self._set(self._since_mark())

    def _since_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Placeholder):
            target.elements.extend(values)

    def _set(self, values: list[Any]) -> None:
        target = self.stack[-1]
        into = target.items if isinstance(target, Placeholder) else target
        if isinstance(into, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                if isinstance(key, _SCALARS):  # others could take for ever to hash, and name no tensor
                    into[key] = value

    # Classes and calls

    def op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_reference(module, name))

    def op_stack_global(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise BrokenPickle("a class whose name is no text")
        self.stack.append(_reference(module, name))

    def op_ext1(self, code: int) -> None:
        self.stack.append(Reference("copyreg", f"extension {code}"))

    op_ext2 = op_ext4 = op_ext1

    def op_persid(self, identity: str) -> None:
        self.stack.append(self.persistent(identity))

    def op_binpersid(self, _: object) -> None:
        self.stack.append(self.persistent(self.pop()))

    def op_reduce(self, _: object) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self._call(function, arguments))

    def op_newobj(self, _: object) -> None:
        self.op_reduce(None)

    def op_newobj_ex(self, _: object) -> None:
        keywords, arguments, cls = self.pop(), self.pop(), self.pop()
        made = self._call(cls, arguments) if not keywords else _placeholder(cls, arguments)
        if isinstance(made, Placeholder) and isinstance(keywords, dict):
            made.items.update(keywords)
        self.stack.append(made)

    def op_obj(self, _: object) -> None:
        values = self._since_mark()
        self.stack.append(self._call(values[0], tuple(values[1:])))

    def op_inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self._call(_reference(module, name), tuple(self._since_mark())))

    def op_build(self, _: object) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target.state = state
        elif isinstance(target, Stateful):
            target.build(state)

    def _call(self, function: Any, arguments: Any) -> Any:
        builder = self.builders.get(str(function)) if isinstance(function, Reference) else None
        if builder is not None and isinstance(arguments, tuple):
            try:
                return builder(*arguments)
            except (ValueError, TypeError):
                pass
        return _placeholder(function, arguments)


class Stateful:
    """A builder's value that takes part of what it is from the state that follows its call."""

    def build(self, state: Any) -> None:
        """Take the state; what is not understood is ignored."""
        raise NotImplementedError


def _placeholder(function: Any, arguments: Any) -> Placeholder:
    of = function if isinstance(function, Reference) else getattr(function, "of", _UNKNOWN)
    return Placeholder(of, arguments if isinstance(arguments, tuple) else (arguments,))


def _reference(module: str, name: str) -> Reference:
    root, last = module.partition(".")[0], name.rpartition(".")[2]
    if root in _CODE_MODULES or (root in {"builtins", "__builtin__"} and last in _CODE_NAMES):
        raise UnsafePickle(f"{module}.{name}")
    return Reference(module, name)


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list,
}  # fmt: skip
