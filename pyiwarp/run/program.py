"""A Python program, as `python` runs it: `sys.argv`, `sys.path[0]`, `__main__`, tracebacks."""

from __future__ import annotations

import builtins
import io
import linecache
import os
import pkgutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib.machinery import BuiltinImporter, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, ModuleType, TracebackType
from typing import Any, NamedTuple, NoReturn

__all__ = ["Kind", "Program"]


class Kind(StrEnum):
    """How `python` is told what to run."""

    FILE = "file"
    MODULE = "module"
    CODE = "code"


class Program(NamedTuple):
    """What to run, and its arguments: `name` is a path, a module, or code. "-" is the file on standard input."""

    kind: Kind
    name: str
    arguments: Sequence[str]

    def run(self) -> None:
        """Run it as `__main__` of this process. Raises what it raises, and `SystemExit` if it is not there."""
        sys.excepthook = _excepthook
        main = ModuleType("__main__")
        vars(main).update(__builtins__=builtins, __loader__=BuiltinImporter)
        if "__annotations__" in vars(sys.modules["__main__"]):  # it depends on Python's version
            vars(main).update(__annotations__={})
        sys.modules["__main__"] = main
        sys.argv = ["-c" if self.kind is Kind.CODE else self.name, *self.arguments]
        exec(self._code(main), vars(main))

    def _code(self, main: ModuleType) -> CodeType:
        if self.kind is Kind.MODULE:
            return _module(self.name, main)
        if self.kind is Kind.CODE or self.name == "-":
            return _text(self.name, main)
        path = os.path.abspath(self.name)
        importer = pkgutil.get_importer(path)
        if importer is None or (isinstance(importer, FileFinder) and not os.path.isdir(path)):
            return _file(self.name, path, main)
        sys.path.insert(0, path)  # a directory or an archive with a __main__.py
        return _found(importer.find_spec("__main__", None), path, main)


def _first_on_path(directory: str) -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, directory)


def _text(text: str, main: ModuleType) -> CodeType:
    _first_on_path("")
    if text != "-":
        if "<string>" in linecache.cache:  # Python 3.13 shows lines of code too, by now those of what runs it
            lines = [f"{line}\n" for line in text.splitlines()]
            linecache.cache["<string>"] = len(text), None, lines, "<string>"
        return compile(text, "<string>", "exec", dont_inherit=True)
    vars(main).update(__file__="<stdin>", __cached__=None)
    return compile(sys.stdin.read(), "<stdin>", "exec", dont_inherit=True)


def _file(name: str, path: str, main: ModuleType) -> CodeType:
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        _end(2, f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}")
    vars(main).update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    _first_on_path(os.path.dirname(os.path.realpath(name)))
    return compile(source, path, "exec", dont_inherit=True)


def _module(name: str, main: ModuleType) -> CodeType:
    _first_on_path(os.getcwd())
    sys.argv[0] = "-m"  # what the packages above it see
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
            if spec is None:
                _end(1, f"No module named {name}.__main__; {name!r} is a package and cannot be directly executed")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    code = _found(spec, name, main)
    sys.argv[0] = vars(main)["__file__"]
    return code


def _found(spec: ModuleSpec | None, name: str, main: ModuleType) -> CodeType:
    """The code of what was found; `main` gets the attributes of its module."""
    if spec is None:
        what = f"can't find '__main__' module in {name!r}" if os.path.exists(name) else f"No module named {name}"
        _end(1, what)
    loader: Any = spec.loader
    code: CodeType | None = loader.get_code(spec.name)
    if code is None:
        _end(1, f"No code object available for {name}")
    vars(main).update(
        __spec__=spec, __loader__=loader, __package__=spec.parent, __file__=spec.origin, __cached__=spec.cached
    )
    return code


def _end(status: int, why: str) -> NoReturn:
    print(f"{sys.executable}: {why}", file=sys.stderr)
    raise SystemExit(status)


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Python's own, for the frames of the program: those before them are of what runs it."""
    frame = traceback
    while frame is not None and frame.tb_frame.f_code.co_filename != __file__:
        frame = frame.tb_next
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
        traceback = frame
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)  # it prints that of the exception
