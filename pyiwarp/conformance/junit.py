"""A run as JUnit XML, which continuous integration shows case by case."""

from __future__ import annotations

from xml.etree import ElementTree

from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.results import Report, Result

__all__ = ["junit"]


def junit(report: Report) -> bytes:
    """The XML document; groups are suites, and what is declared or cannot be tested counts as skipped."""
    root = ElementTree.Element("testsuites", name=f"pyiwarp conform {report.peer}", time=f"{report.seconds:.3f}")
    if report.abandoned:
        _add_abandoned(root, report)
    groups: dict[str, list[Result]] = {}
    for result in report.results:
        groups.setdefault(result.case.group, []).append(result)
    for group, results in groups.items():
        _add_suite(root, group, results)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _add_suite(root: ElementTree.Element, group: str, results: list[Result]) -> None:
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=group,
        tests=str(len(results)),
        failures=str(sum(result.verdict is Verdict.FAILED for result in results)),
        errors=str(sum(result.verdict is Verdict.ERROR for result in results)),
        skipped=str(sum(_is_skipped(result) for result in results)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        _add_case(suite, result)


def _is_skipped(result: Result) -> bool:
    return not result.verdict.bad and result.verdict is not Verdict.PASSED


def _add_case(suite: ElementTree.Element, result: Result) -> None:
    name = f"{result.case.id} {result.case.title}"
    case = ElementTree.SubElement(
        suite, "testcase", classname=result.case.group, name=name, time=f"{result.seconds:.3f}"
    )
    if result.verdict.bad:
        kind = "failure" if result.verdict is Verdict.FAILED else "error"
        message = f"expected {result.expected}; came {result.seen}" if result.expected else result.reason
        ElementTree.SubElement(case, kind, message=_printable(message)).text = _printable("\n".join(result.details()))
    elif _is_skipped(result):
        ElementTree.SubElement(case, "skipped", message=_printable(f"{result.verdict.value}: {result.reason}"))


def _add_abandoned(root: ElementTree.Element, report: Report) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name="the peer", tests="1", failures="0", errors="1")
    case = ElementTree.SubElement(suite, "testcase", classname="the peer", name="is an iWARP endpoint")
    ElementTree.SubElement(case, "error", message=_printable(report.abandoned))


def _printable(text: str) -> str:
    """Without characters that XML cannot hold: a peer may have sent anything."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
