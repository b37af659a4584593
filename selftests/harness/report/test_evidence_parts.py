"""Parts of the evidence: logs that say where they begin, slices that say who may come in, a directory of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from harness.report.evidence import collect, discard
from harness.report.evidence.evidence_files import Store
from harness.report.evidence.evidence_logs import newest, span
from harness.report.evidence.evidence_proxies import federation_listeners, tls_to

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[3]
CLIENT = "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"


def line(second: int) -> str:
    return f'[2026-01-01T00:00:{second:02}.000Z] "GET /ratings/0 HTTP/1.1" 200 -'


def test_of_a_long_log_the_newest_whole_lines_are_kept() -> None:
    lines = [line(second) for second in range(60)]
    size = len(lines[0]) + 1
    assert newest(lines, 60 * size) == (lines, False)
    assert newest(lines, 10 * size + 5) == (lines[-10:], True)
    assert newest(lines, 0) == ([], True)
    assert newest([], 0) == ([], False)


def test_a_log_says_from_when_to_when_it_goes() -> None:
    lines = ["starting", line(3), line(7), "a line without a time"]
    assert span(lines) == ("2026-01-01T00:00:03.000Z", "2026-01-01T00:00:07.000Z")
    assert span(["2026-01-01T00:00:01.5Z\tinfo\tfederation\tsynced"])[0] == "2026-01-01T00:00:01.5Z"
    assert span([json.dumps({"a": 1, "start_time": "2026-01-01T00:00:09+00:00"})])[1] == "2026-01-01T00:00:09+00:00"
    assert span(["[2026-01-01 00:00:02.120][7][warning] own"])[0] == "2026-01-01 00:00:02.120"
    assert span(["nothing"]) == ("", "")


def test_a_log_cut_for_the_limit_of_all_is_marked_and_tells_what_is_left_of_it(tmp_path: Path) -> None:
    lines = [line(second) for second in range(60)]
    store = Store(tmp_path, 1000)
    store.write_log("a.log", "a", "mesh1", lines, False)
    store.write_log("b.log", "b", "mesh1", lines[:1], True)
    first, second = store.files
    kept = (tmp_path / "a.log").read_text().splitlines()
    assert kept == lines[-len(kept) :]
    assert (first.cut, first.first, first.last) == (True, span(kept)[0], span(lines)[1])
    assert first.bytes == (tmp_path / "a.log").stat().st_size <= 900
    assert second.cut, "it was cut before it came here"


def test_who_may_come_in_by_a_federation_port_is_told(observed) -> None:
    capture = observed("healthy/envoy/mesh1-mesh2-ingress.json")
    found = federation_listeners([{"active_state": {"listener": entry}} for entry in capture["listeners"]])
    assert {entry["name"] for entry in found} == {"0.0.0.0_8188", "0.0.0.0_15443"}
    text = json.dumps(found)
    assert '"require_client_certificate": true' in text
    assert "ratings.bookinfo.svc.mesh2-exports.local" in text
    assert CLIENT in text
    assert "ROOTCA" in text
    assert "text_format" not in text


def test_what_a_client_expects_of_the_other_side_is_told(observed) -> None:
    capture = observed("healthy/envoy/mesh2-reviews-v3.json")
    found = tls_to([{"cluster": cluster} for cluster in capture["clusters"]])
    imported = json.dumps(found["outbound|9080||ratings.mesh2-bookinfo.svc.mesh1-imports.local"])
    assert CLIENT in imported
    assert '"sni": "outbound_.9080_._.ratings.mesh2-bookinfo.svc.mesh1-imports.local"' in imported
    assert "ROOTCA" in imported


def test_keys_and_chains_of_the_proxy_itself_are_left_out() -> None:
    own = {"private_key": {"filename": "key"}, "certificate_chain": {"inline_string": "chain"}}
    context = {"tls_certificates": [own], "validation_context": {"trusted_ca": {"filename": "root-cert.pem"}}}
    socket = {"typed_config": {"common_tls_context": context, "sni": "s", "private_key": "k"}}
    found = tls_to([{"cluster": {"name": "outbound|1||ratings", "transport_socket": socket}}])
    assert found["outbound|1||ratings"]["transport_socket"]["typed_config"] == {
        "common_tls_context": {"validation_context": {"trusted_ca": {"filename": "root-cert.pem"}}},
        "sni": "s",
    }


def test_evidence_that_was_cut_short_is_known_and_goes_too(tmp_path: Path) -> None:
    directory = tmp_path / "evidence"
    script = (
        "import os, sys, pathlib, datetime\n"
        "from harness.report.evidence import collect\n"
        "class Found:\n"
        "    to_dict = staticmethod(lambda: os.kill(os.getpid(), 9))\n"
        "collect({}, datetime.datetime.now(datetime.UTC), pathlib.Path(sys.argv[1]), Found())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(directory)], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert yaml.safe_load((directory / "index.yaml").read_text())["complete"] is False
    (directory / "old.log").write_text("of the run that was cut short")
    collect({}, NOW, directory)
    assert [path.name for path in directory.iterdir()] == ["index.yaml"]
    assert yaml.safe_load((directory / "index.yaml").read_text())["complete"] is True


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "evidence"
    directory.mkdir()
    for name, text in (("notes.txt", "mine"), ("index.yaml", "of: something else")):
        (directory / name).write_text(text)
        with pytest.raises(FileExistsError, match="move it away"):
            collect({}, NOW, directory)
        assert (directory / name).read_text() == text
    link = tmp_path / "link"
    collect({}, NOW, tmp_path / "ours")
    link.symlink_to(tmp_path / "ours")
    with pytest.raises(FileExistsError):
        discard(link)
    assert (tmp_path / "ours" / "index.yaml").is_file()


def test_an_empty_directory_and_none_at_all_are_nothing_to_keep(tmp_path: Path) -> None:
    discard(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    collect({}, NOW, tmp_path / "empty")
    assert (tmp_path / "empty" / "index.yaml").is_file()
