"""pytest's JUnit file, finished: one result for each test, counts that add up, causes, facts of the run, no secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.report.run_record import RunRecord
from harness.run.redact import redacted, redacted_text

_HEAD = '<?xml version="1.0" encoding="utf-8"?>'
_RESULTS = ("error", "failure", "skipped")  # worst first; a test without any has passed
_THE_RUN = "the run"


def finished(text: str, record: RunRecord, stopped: str = "") -> str:
    """The same file as it leaves the run; what is no XML only without its secrets.

    stopped: why the run ended before its tests did, which is then an error of its own.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return redacted_text(text)
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    if suite is not None:
        _join_cases(suite)
        if stopped:
            case = SubElement(suite, "testcase", {"classname": "", "name": _THE_RUN, "time": "0"})
            SubElement(case, "error", {"message": stopped}).text = stopped
        for case in suite.iter("testcase"):
            _one_result(case, _causes(record))
        _count(suite)
        _set_properties(suite, facts(record))
    _redact(root)
    return _HEAD + ElementTree.tostring(root, encoding="unicode")


def facts(record: RunRecord) -> dict[str, str]:
    """What is said of the whole suite; '' for what nobody could read."""
    found = {
        "suite": record.suite,
        "run": record.run_id,
        "clusters": record.where,
        "embedded": str(record.clusters == "embedded").lower(),
    }
    for name, mesh in sorted(record.meshes.items()):
        found |= {f"{name}.ossm": mesh.ossm, f"{name}.kubernetes": mesh.kubernetes, f"{name}.server": mesh.server}
    return found


def _join_cases(suite: Element) -> None:
    """pytest writes a test that fails and whose teardown fails too as two."""
    known: dict[tuple[str | None, str | None], Element] = {}
    for case in suite.findall("testcase"):
        first = known.setdefault((case.get("classname"), case.get("name")), case)
        if first is not case:
            first.extend(child for child in case if child.tag != "properties")
            first.set("time", f"{float(first.get('time', 0)) + float(case.get('time', 0)):.3f}")
            suite.remove(case)


def _one_result(case: Element, causes: Sequence[str]) -> None:
    """The worst result with the words of all, and with the causes that the run was found to have."""
    results = sorted((child for child in case if child.tag in _RESULTS), key=lambda child: _RESULTS.index(child.tag))
    if not results:
        return
    worst, *others = results
    for other in others:
        worst.text = "\n\n".join(filter(None, (worst.text, other.get("message"), other.text)))
        case.remove(other)
    if worst.tag != "skipped" and case.get("name") != _THE_RUN:
        worst.text = "\n".join([worst.text or "", *causes])


def _causes(record: RunRecord) -> list[str]:
    diagnosis = record.diagnosis or {}
    found = [entry for entry in (diagnosis, *diagnosis.get("also", ())) if entry.get("cause")]
    lines = []
    for entry in found:
        after = f" (after {entry['after']} failed)" if len(found) > 1 else ""
        lines += [f"cause{after}: {entry['sentence']} [{entry['cause']}]", f"side: {entry['side']}"]
        lines += [f"remedy: {entry['remedy']}"]
    return lines


def _count(suite: Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for count, tag in (("errors", "error"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))


def _set_properties(suite: Element, values: Mapping[str, str]) -> None:
    properties = suite.find("properties")
    if properties is None:
        properties = Element("properties")
        suite.insert(0, properties)
    for name, value in values.items():
        SubElement(properties, "property", {"name": name, "value": value})


def _redact(root: Element) -> None:
    for element in root.iter():
        element.attrib.update(redacted(dict(element.attrib)))
        element.text = redacted_text(element.text) if element.text else None
        element.tail = redacted_text(element.tail) if element.tail else None
