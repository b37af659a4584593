"""Nothing secret is written down, whatever it is wrapped in; what people need to read stays."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from harness.diagnosis.model import Diagnosis, Look
from harness.report.evidence import collect
from harness.report.junit import finished
from harness.report.run_record import RunRecord
from harness.run.redact import GONE, redacted, redacted_text

SECRET = "c0ffee-" + "do-not-show-me"
KEY = f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
JWT = f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.{SECRET}"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.rpartition("\n")[0],
        json.dumps({"inline_string": KEY}),
        f"Authorization: Bearer {SECRET}",
        f'"authorization": "Basic {SECRET}"',
        f"authorization={SECRET}",
        f"curl -H 'authorization: bearer {SECRET}' https://example.com",
        JWT,
        f"token: {SECRET}",
        f"access_token={SECRET}&other=1",
        f"https://user:{SECRET}@example.com/path",
        f"mongodb://admin:{SECRET}@mongodb:27017/test",
        f"MONGO_PASSWORD={SECRET}",
        f"client-key-data: {SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"oauth cookie: {SECRET}",
        f"sha256~{SECRET}",
        f'Authorization: Bearer "{SECRET}"',
        f"'authorization': 'Bearer {SECRET}'",
        f"curl -H \"Authorization: Bearer '{SECRET}'\"",
        f"DB_PASS={SECRET}",
        f"SECRET={SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"SESSION_KEY: {SECRET}",
        f'{{"auths": {{"registry.example.com": {{"auth": "{SECRET}"}}}}}}',
        f'.dockerconfigjson="{SECRET}"',
        f'password: "two words and {SECRET}"',
        f"{{'password': 'it\\'s {SECRET}'}}",
        f"password='{SECRET}",
        json.dumps(json.dumps({"password": SECRET, "user": "x"})),
        json.dumps(json.dumps(json.dumps({"token": f"x {SECRET}"}))),
        f"cookie: first=1; second={SECRET}",
        f"http://user:p@{SECRET}@proxy:3128",
        f"[{{'name': 'DB_PASSWORD', 'value': '{SECRET}'}}]",
        f"app --db-password {SECRET} --verbose",
        f"app -password {SECRET}",
        f"app --db-password '{SECRET} in two words'",
        f'sh -c "app --db-password {SECRET}"',
        f"app --api-key\t{SECRET}; next",
        f"app --token first,{SECRET}",
        f"app --db-password \\\n  {SECRET}",
        json.dumps(json.dumps({"args": ["--db-password", SECRET]})),
        f"args: ['--db-password', '{SECRET}']",
        f"args:\n- --db-password\n- {SECRET}\n- --verbose",
    ],
)
def test_text_loses_its_secrets(text: str) -> None:
    assert SECRET not in redacted_text(text)
    once = redacted_text(text)
    assert GONE in once
    assert redacted_text(once) == once


LONG_RUNS = ["\\", '"', "\n", "\n ", "-", "eyJabcdef-", "token\\", '"name":"', "--token \\", "cookie ", "-----BEGIN A"]


@pytest.mark.timeout(60)  # linear it is well under a second; read anew from each character it is an hour
@pytest.mark.parametrize("run", LONG_RUNS)
@pytest.mark.parametrize("before", ["", "--token", "token=" + "\\" * 60_000 + '"'], ids=["bare", "flag", "quoted"])
def test_a_long_run_of_anything_takes_no_longer_than_its_length(before: str, run: str) -> None:
    assert redacted_text(f"{before}{run * (60_000 // len(run))}\ntoken: {SECRET}").endswith(GONE)


def test_json_nested_too_deep_to_be_read_is_redacted_as_text() -> None:
    assert SECRET not in redacted("[" * 60_000 + f' "token": "{SECRET}"')


def test_only_the_secret_itself_is_taken() -> None:
    said = f'the proxy of "mesh1" refused Authorization: Bearer "{SECRET}", see its log'
    assert redacted_text(said) == f'the proxy of "mesh1" refused Authorization: Bearer "{GONE}", see its log'
    assert redacted_text(f'{{"password": "{SECRET}", "user": "x"}}') == f'{{"password": "{GONE}", "user": "x"}}'
    assert redacted_text(f"token={SECRET}&user=x") == f"token={GONE}&user=x"
    assert redacted_text(f"app --token {SECRET} --port 80") == f"app --token {GONE} --port 80"
    assert redacted(["--token", SECRET, "--port", "80"]) == ["--token", GONE, "--port", "80"]


def test_a_key_in_base64_is_a_key() -> None:
    wrapped = base64.b64encode(KEY.encode()).decode()
    assert wrapped not in redacted_text(f"something: {wrapped}")


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "Secret", "data": {"anything": SECRET}, "stringData": {"else": SECRET}},
        {"type": "kubernetes.io/tls", "data": {"tls.key": SECRET}},
        {"users": [{"user": {"token": SECRET, "client-key-data": SECRET, "password": SECRET}}]},
        {"headers": {"Authorization": SECRET, "Cookie": SECRET}},
        {"env": [{"name": "DB_PASSWORD", "value": SECRET}]},
        {"metadata": {"annotations": {"note": f"bearer {SECRET}"}}},
        {"match": [{"headers": {"token": {"exact": SECRET}}}]},
        {"annotations": {"env": json.dumps([{"name": "DB_PASSWORD", "value": SECRET}])}},
        [[{"private_key": {"inline_bytes": SECRET}}]],
        {"env": [{"name": "DB_PASS", "value": SECRET}]},
        {"env": [{"name": "SECRET", "value": SECRET}]},
        {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}]},
        {"env": [{"name": "SESSION_KEY", "value": SECRET}]},
        {"env": [{"name": "ANYTHING_AT_ALL", "value": SECRET}]},
        {"env": [{"name": "MONGO_DB_URL", "value": f"mongodb://admin:{SECRET}@mongodb:27017/test"}]},
        {"env": [{"name": "ISTIO_META_TOKEN", "value": SECRET}]},
        {"runtime": {"components": {"pilot": {"container": {"env": {"ANYTHING": SECRET}}}}}},
        {"annotations": {"env": json.dumps([{"name": "ANYTHING", "value": SECRET}])}},
        {"auths": {"registry.example.com": {"auth": SECRET}}},
        {"secret": SECRET, "credentials": {"value": SECRET}},
        {"args": ["--db-password=x", "--db-password", SECRET, "--verbose"]},
        {"command": ["app", "-token", f"-{SECRET}"]},
        {"command": ["sh", "-c", f"exec app --db-password {SECRET} --verbose"]},
        {"annotations": {"pods": json.dumps([{"args": ["--cookie", SECRET]}])}},
    ],
)
def test_objects_lose_their_secrets(value: object) -> None:
    assert SECRET not in json.dumps(redacted(value))


KEPT = {
    "pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "serviceAccountToken": {"path": "token", "expirationSeconds": 3600},
    "imagePullSecrets": [{"name": "registry"}],
    "clientID": "mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account",
    "line": '"GET /ratings/0 HTTP/1.1" 503 UF "probe/x/1" "ratings:9080"',
    "secretName": "istio-ca",
    "tokenPath": "/var/run/secrets/token",
    "env": [
        {"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": "network-mesh2"},
        {"name": "TRUST_DOMAIN", "value": "mesh1.local"},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "DB_PASS", "valueFrom": {"secretKeyRef": {"name": "db", "key": "pass"}}},
        {"name": "MONGO_DB_URL", "value": "mongodb://mongodb:27017/test"},
    ],
    "volumes": [{"name": "certs", "secret": {"secretName": "istio-ca", "items": [{"key": "a.crt", "path": "a"}]}}],
    "reviewer": {"name": "token-review", "value": "on"},
    "args": ["--token-audience", "istio-ca", "--password-file", "/x", "--no-password", "--port", "80", "-p", "81"],
    "command": ["sh", "-c", "app --password-file /x --token-ttl 3h --secret-name istio-ca -p 80"],
    "sds": {"tls_certificate_sds_secret_configs": [{"name": "default"}]},
    "principal": "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account",
    "said": 'mesh1: watch of mesh2: secret "cacerts" not found; bypass: true; INCONCLUSIVE, PASS from 1e3',
}


def test_what_people_need_stays_in_objects() -> None:
    assert redacted(KEPT) == KEPT


@pytest.mark.parametrize(
    "text",
    [yaml.safe_dump(KEPT), json.dumps(KEPT), json.dumps(KEPT, indent=1)],
    ids=["YAML", "JSON", "indented JSON"],
)
def test_what_people_need_stays_in_text(text: str) -> None:
    assert redacted_text(text) == text


def test_a_junit_file_is_looked_through_and_stays_xml() -> None:
    clean = '<testsuites><testcase name="a"><failure message="b">c</failure></testcase></testsuites>'
    assert clean in finished(clean, RunRecord())
    dirty = (
        f'<t><property name="token" value="{SECRET}"/><f message="Bearer &quot;{SECRET}&quot;">token: {SECRET}</f></t>'
    )
    found = ElementTree.fromstring(finished(dirty, RunRecord()))
    assert SECRET not in ElementTree.tostring(found, encoding="unicode")
    assert [found[0].get("value"), found[1].get("message")] == [GONE, f'Bearer "{GONE}"']
    assert SECRET not in finished(f"<cut short token={SECRET}", RunRecord())


def broken_diagnosis() -> Diagnosis:
    return Diagnosis((Look("API", "mesh1", f"token={SECRET}").unknown(f"authorization: Bearer {SECRET}"),))


def test_a_directory_keeps_within_its_limit_and_says_what_it_cut(tmp_path: Path) -> None:
    filler = Diagnosis(tuple(Look(f"link {n}", "mesh1", "x" * 100).ok("y" * 100) for n in range(400)))
    index = collect({}, datetime.now(UTC), tmp_path, filler, limit_bytes=20_000)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 20_000
    assert [entry.cut for entry in index.files] == [True]
    assert yaml.safe_load((tmp_path / "index.yaml").read_text())["files"][0]["cut"] is True
    whole = collect({}, datetime.now(UTC), tmp_path, filler, limit_bytes=2_000_000)
    assert [entry.cut for entry in whole.files] == [False]


def test_what_an_earlier_run_left_is_gone(tmp_path: Path) -> None:
    collect({}, datetime.now(UTC), tmp_path, broken_diagnosis())
    (tmp_path / "old.log").write_text("of an earlier run")
    collect({}, datetime.now(UTC), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.yaml"]


def test_a_diagnosis_is_written_without_secrets(tmp_path: Path) -> None:
    collect({}, datetime.now(UTC), tmp_path, broken_diagnosis())
    assert SECRET not in (tmp_path / "diagnosis.yaml").read_text()
