"""The reference of the public API, `docs/reference.md`, from the signatures and docstrings of the package.

Run it after a change of either:

    python -m tests.meta.reference

It reads the sources and imports nothing of them but what says which names of an object are internal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, cast

import griffe

from tests.meta.reference_catches import CATCHES, CATCHING, CATCHING_NOTES

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference.md"

DOORS: Final = {
    "pyiwarp": "Connections on asyncio",
    "pyiwarp.blocking": "Connections without a loop",
    "pyiwarp.rdmacm": "rdma_cm, awaited",
    "pyiwarp.blockingcm": "rdma_cm, for scripts",
    "pyiwarp.verbs": "Verbs",
    "pyiwarp.cm": "Connecting queue pairs",
    "pyiwarp.devices": "Devices",
    "pyiwarp.profile": "Peer profiles",
    "pyiwarp.capture": "Captures",
    "pyiwarp.files": "The file service",
    "pyiwarp.sockets": "Sockets over iWARP",
    "pyiwarp.errors": "Errors",
}
"""The modules that programs import from, in the order of the page. A name that several have stands under the first."""

BESIDES: Final = {"pyiwarp": ("pyiwarp.negotiation.Agreement", "pyiwarp.codes.Rtr")}
"""What no module of these exports, but the objects of these give."""

ERRORS: Final = "pyiwarp.errors"
"""Errors stand here, whoever else names them."""

SPOKEN: Final = {
    "__aenter__": "async with",
    "__enter__": "with",
    "__aiter__": "async for",
    "__iter__": "for",
    "__await__": "await",
    "__getitem__": "[…]",
    "__bytes__": "bytes",
}
"""Methods with a name of Python's that programs use by another word."""

INTERNAL: Final = {"operation", "offer", "tap", "second_try", "of_queue_pair", "check_device"}
"""Methods of values that the package calls, and no program needs."""

SAME: Final = {
    "pd": "The protection domain that it belongs to.",
    "context": "The context that it belongs to.",
    "stag": "The STag, 32 bits.",
    "to": "The tagged offset (TO) of the first octet, 64 bits.",
    "nbytes": "The length in octets.",
    "remote": "The memory of the peer.",
    "wr_id": "Any object; the completion has it.",
    "signaled": "Whether success has a completion; failure always has.",
    "fence": "Whether it waits until all earlier Reads and Atomics are complete.",
    "solicited": "Whether it solicits an event at the peer (RFC 5040 §5.3).",
    "qp_num": "The number of the queue pair.",
}
"""Attributes that mean the same in every class, unless a class has words of its own."""

PREFACE: Final = """# Reference

Every public name, with its arguments and what it does; made by `make reference` from the sources. A test fails while it
is stale or incomplete. The [tutorial](tutorial.md) is the place to begin.

Lengths and offsets are in octets, times in seconds. An argument behind `*` is given by its name. Local memory (`Local`)
is part of a region (`region[a:b]`), a whole region, or any contiguous buffer (`Buffer`): `bytes`, `bytearray`,
`memoryview`, `mmap`, arrays. `Opening[X]` is awaited, or entered with `async with`; both give an `X`. `Handler` is a
coroutine function of a `Connection`, `Accept` a function of a `Request`.
"""


class Reference:
    """The package as griffe has read it, and where each object of it stands on the page."""

    def __init__(self) -> None:
        self.package = griffe.load("pyiwarp", search_paths=[ROOT], allow_inspection=False, resolve_aliases=True)
        self.places: dict[str, tuple[str, str]] = {}  # of what is defined there: module and name on the page
        for door in (ERRORS, *DOORS):
            for name in self.exports(door):
                self.places.setdefault(self.target(f"{door}.{name}").path, (door, name))

    def target(self, path: str) -> griffe.Object:
        """What a dotted name stands for, where it is defined."""
        found = self.package[path.partition(".")[2]] if "." in path else self.package
        return cast("griffe.Object", found.final_target if isinstance(found, griffe.Alias) else found)

    def exports(self, door: str) -> list[str]:
        """The public names of a module, in the order of their use: functions, classes, constants."""
        module = self.target(door)
        names = [str(name) for name in module.exports or ()]
        kinds = {name: self.target(f"{door}.{name}").kind.value for name in names}
        order = ["function", "class", "attribute"]
        return sorted(names, key=lambda name: order.index(kinds[name]) if kinds[name] in order else len(order))

    def of_door(self, door: str) -> list[tuple[str, griffe.Object]]:
        """What stands under a module: names and objects."""
        here = [name for name in self.exports(door) if self.places[self.target(f"{door}.{name}").path] == (door, name)]
        besides = [(path.rpartition(".")[2], self.target(path)) for path in BESIDES.get(door, ())]
        return [*((name, self.target(f"{door}.{name}")) for name in here), *besides]

    def elsewhere(self, door: str) -> list[tuple[str, str]]:
        """Names that a module has too: name, and the module under which it stands."""
        places = ((name, self.places[self.target(f"{door}.{name}").path][0]) for name in self.exports(door))
        return [(name, place) for name, place in places if place != door]


# --- what an object has ----------------------------------------------------------------------------------------------

VALUES: Final = {"NamedTuple", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}


def members(cls: griffe.Class) -> list[tuple[str, griffe.Object]]:
    """The public members of a class with those that it inherits, in the order of the sources."""
    hidden = internal(cls)
    found: dict[str, griffe.Object] = {}
    for each in (cls, *cls.mro()):
        for name, member in each.members.items():
            if (name[0] != "_" or name in SPOKEN) and name not in hidden and not isinstance(member, griffe.Alias):
                found.setdefault(name, member)
    return list(found.items())


def internal(cls: griffe.Class) -> frozenset[str]:
    """What `dir()` of an object does not show: its class names the constant that lists it."""
    hidden = frozenset(INTERNAL)
    for each in (cls, *cls.mro()):
        said = re.search(r"public_names\(self, (\w+)\)", each.source) if "__dir__" in each.members else None
        if said:
            hidden |= getattr(import_module(each.module.path), said[1])
    return hidden


def is_error(thing: griffe.Object) -> bool:
    """Whether it is an exception."""
    return isinstance(thing, griffe.Class) and issubclass(
        getattr(import_module(thing.module.path), thing.name), BaseException
    )


def is_field(cls: griffe.Class, each: griffe.Object) -> bool:
    """Whether an attribute is a field of a value, or a member of an enumeration."""
    value = "dataclass" in cls.labels or VALUES & {str(base).rpartition(".")[2] for base in cls.bases}
    return bool(value) and isinstance(each, griffe.Attribute) and "property" not in each.labels


def default_of(value: object, module: griffe.Module) -> str:
    """A default as a program would write it: what a constant of the module stands for."""
    text = (
        str(value).removeprefix("field(default_factory=lambda: ").rstrip(")")
        if "lambda: " in str(value)
        else str(value)
    )
    name = re.fullmatch(r"(?:\w+\.)*_?[A-Z][A-Z_]+", text)
    if not name or text.startswith(("Access.", "Rtr.")):
        return text
    first, dot, rest = text.partition(".")
    try:
        found = module.modules_collection[module.resolve(first) + dot + rest]
    except (KeyError, griffe.NameResolutionError):
        return text
    found = found.final_target if isinstance(found, griffe.Alias) else found
    return str(getattr(found, "value", text))


def type_of(each: griffe.Attribute) -> str:
    """The type of an attribute: as annotated, or that of the argument or literal that it is given."""
    if each.annotation is not None:
        return str(each.annotation)
    value = str(each.value)
    if value in ("True", "False"):
        return "bool"
    if value.isdigit():
        return "int"
    made = each.parent.members.get("__init__") if each.parent else None
    if isinstance(made, griffe.Function) and value in made.parameters:
        return str(made.parameters[value].annotation)
    return ""


# --- writing ---------------------------------------------------------------------------------------------------------


class Page:
    """The lines of `docs/reference.md`; `bare` names what has no sentence or no type."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.bare: list[str] = []
        self._lines = [
            PREFACE,
            *self._contents(),
            "",
            "## What to catch",
            "",
            CATCHING,
            *self._catches(),
            "",
            CATCHING_NOTES,
        ]
        for door, title in DOORS.items():
            self._lines += [f"## {title}: {door}", ""]
            entries = reference.of_door(door)
            for name, thing in entries:
                if not is_error(thing):
                    self._lines += self._entry(door, name, thing)
            raised = [cast("griffe.Class", thing) for _, thing in entries if is_error(thing)]
            if raised:
                self._lines += self._errors(raised)
            others = [_link(home, name) for name, home in reference.elsewhere(door) if home != ERRORS]
            if others:
                self._lines += [f"The module has {', '.join(others)} too.", ""]

    def __str__(self) -> str:
        return "\n".join(self._lines).rstrip() + "\n"

    def _contents(self) -> Iterator[str]:
        yield "| Module | Names |"
        yield "|---|---|"
        for door, title in DOORS.items():
            named = [name for name, thing in self.reference.of_door(door) if not is_error(thing)]
            words = [_link(door, name) for name in named]
            errors = [f"[its errors](#{_anchor(f'{title}: {door}')})"] if door == ERRORS else []
            yield f"| `{door}` | {', '.join(words + errors)} |"

    def _catches(self) -> Iterator[str]:
        yield "| Exception | Client | Server | When | What to do |"
        yield "|---|---|---|---|---|"
        for row in CATCHES:
            sides = ("yes" if side in row.sides else "" for side in ("client", "server"))
            yield f"| {' | '.join((', '.join(f'`{name}`' for name in row.names), *sides, row.when, row.remedy))} |"

    def _entry(self, door: str, name: str, thing: griffe.Object) -> Iterator[str]:
        yield from (f"### {door}.{name}", "")
        yield from self._paragraphs(name, name, thing)
        if not isinstance(thing, griffe.Class):
            return
        held = [(word, each) for word, each in members(thing) if isinstance(each, griffe.Attribute)]
        if held:
            yield from self._attributes(thing, held)
        for word, each in members(thing):
            if isinstance(each, griffe.Function) and (each.docstring or word not in SPOKEN):
                yield from self._paragraphs(f"{name}.{word}", word, each)

    def _paragraphs(self, full_name: str, name: str, thing: griffe.Object) -> Iterator[str]:
        if not thing.docstring:
            self.bare.append(full_name)
        yield from (f"**`{declaration(name, thing)}`**", "", thing.docstring.value if thing.docstring else "", "")

    def _attributes(self, cls: griffe.Class, held: list[tuple[str, griffe.Attribute]]) -> Iterator[str]:
        """The table of attributes: fields of a value, members of an enumeration, properties."""
        enumeration = "dataclass" not in cls.labels and "NamedTuple" not in map(str, cls.bases)
        valued = any(is_field(cls, each) and each.value is not None for _, each in held)
        yield "| Attribute | Type |" + (" Value |" if valued else "") + " Meaning |"
        yield "|---|---|---|" + ("---|" if valued else "")
        for word, each in held:
            field, kind = is_field(cls, each), type_of(each)
            told = any(f"`{word}`" in of.docstring.value for of in (cls, each.parent) if of and of.docstring)
            words = " ".join(each.docstring.value.split()) if each.docstring else "" if told else SAME.get(word, "")
            cells = [f"`{word}`", _cell(kind)]
            if valued:
                cells.append(_cell(default_of(each.value, each.module)) if field and each.value is not None else "")
            yield f"| {' | '.join([*cells, words])} |"
            if not (field and enumeration) and not (kind and (words or told)):
                self.bare.append(f"{cls.name}.{word}")
        yield ""

    def _errors(self, raised: list[griffe.Class]) -> Iterator[str]:
        """The table of exceptions."""
        yield "| Exception | Kind of | Meaning |"
        yield "|---|---|---|"
        for cls in raised:
            bases = ", ".join(f"`{base}`" for base in cls.bases)
            words = " ".join(cls.docstring.value.split()) if cls.docstring else ""
            if not words:
                self.bare.append(cls.name)
            yield f"| `{cls.name}` | {bases} | {words} |"
        yield ""


def declaration(name: str, thing: griffe.Object) -> str:
    """How a thing is called or made, in one line."""
    if isinstance(thing, griffe.Function):
        word = f"{SPOKEN[name]}: " if name in SPOKEN else "async " if "async" in thing.labels else ""
        return word + name + _arguments(thing) + (f" -> {thing.returns}" if thing.returns else "")
    if isinstance(thing, griffe.Class):
        bases = f"({', '.join(map(str, thing.bases))})" if thing.bases else ""
        return f"class {name}{bases}"
    annotation = getattr(thing, "annotation", None)
    return f"{name}: {annotation}" if annotation else name


def _arguments(function: griffe.Function) -> str:
    """The arguments without self."""
    words: list[str] = []
    named = False
    for each in function.parameters:
        if each.name in ("self", "cls"):
            continue
        if each.kind is griffe.ParameterKind.keyword_only and not named:
            words.append("*")
            named = True
        prefix = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(each.kind, "")
        default = "" if each.default is None or prefix else f" = {default_of(each.default, function.module)}"
        words.append(f"{prefix}{each.name}: {each.annotation}{default}")
    return f"({', '.join(words)})"


def _link(door: str, name: str) -> str:
    return f"[`{name}`](#{_anchor(f'{door}.{name}')})"


def _anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower()


def _cell(value: object) -> str:
    return "" if not value else "`{}`".format(str(value).replace("|", "\\|"))


def main() -> int:
    """Write the page; tell what has no words."""
    page = Page(Reference())
    PAGE.write_text(str(page), encoding="utf-8")
    for name in page.bare:
        print(f"without a sentence or a type: {name}", file=sys.stderr)
    return 1 if page.bare else 0


if __name__ == "__main__":
    sys.exit(main())
