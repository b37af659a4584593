"""istiod's certificates, as the captured gateways presented them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtensionOID, NameOID

from lab.client import ApiError
from lab.istiod.ca import CertificateAuthority, Workload

IDENTITY = "spiffe://mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account"


def chain_of(workload: Workload) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(workload.chain.encode())


def test_the_chain_is_the_captured_one(observed: Callable[[str], Any]) -> None:
    captured = observed("healthy/tls.txt")
    leaf, root = chain_of(CertificateAuthority.self_signed("mesh1.local").issue(IDENTITY))
    names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert f"URI:{names.value.get_values_for_type(x509.UniformResourceIdentifier)[0]}" in captured
    assert names.critical
    assert "X509v3 Subject Alternative Name: critical" in captured
    assert list(leaf.subject) == []
    assert leaf.issuer == root.subject == root.issuer
    [organization] = root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert f"subject=O = {organization.value}\n" in captured
    constraints = [
        certificate.extensions.get_extension_for_class(x509.BasicConstraints) for certificate in (leaf, root)
    ]
    assert [(entry.value.ca, entry.critical) for entry in constraints] == [(False, True), (True, True)]
    lives = [certificate.not_valid_after_utc - certificate.not_valid_before_utc for certificate in (leaf, root)]
    assert lives == [timedelta(hours=24), timedelta(days=3650)]
    leaf.verify_directly_issued_by(root)


def test_a_certificate_is_renewed_before_it_ends() -> None:
    workload = CertificateAuthority.self_signed("mesh1.local").issue(IDENTITY)
    leaf = chain_of(workload)[0]
    assert leaf.not_valid_before_utc < workload.renew_at < leaf.not_valid_after_utc


class Secrets:
    """The part of the API client that the authority uses, over a dict."""

    def __init__(self, **secrets: dict[str, str]) -> None:
        self.kept = {name.replace("_", "-"): self._secret(name, data) for name, data in secrets.items()}

    @staticmethod
    def _secret(name: str, data: dict[str, str]) -> dict[str, Any]:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        return {"metadata": {"name": name}, "data": encoded}

    async def find(self, _: object, name: str, __: str) -> Any:
        return self.kept.get(name)

    async def create(self, _: object, secret: Any) -> None:
        self.kept[secret["metadata"]["name"]] = secret


async def load(secrets: Secrets) -> CertificateAuthority:
    return await CertificateAuthority.load(secrets, "mesh1-system", "mesh1.local")  # type: ignore[arg-type]


@pytest.fixture
def run() -> Callable[..., Any]:
    return asyncio.run


def test_a_second_istiod_has_the_same_root(run: Callable[..., Any]) -> None:
    secrets = Secrets()
    first, second = run(load(secrets)), run(load(secrets))
    assert first.root == second.root
    leaf = chain_of(second.issue(IDENTITY))[0]
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(first.root.encode()))


def test_of_two_istiods_that_start_together_the_second_takes_the_first_ones_root(run: Callable[..., Any]) -> None:
    faster = Secrets()
    made = run(load(faster))

    class Slower(Secrets):
        async def create(self, _: object, __: Any) -> None:
            raise ApiError(409, "AlreadyExists", "secrets istio-ca-secret already exists")

        async def get(self, _: object, name: str, __: str) -> Any:
            return faster.kept[name]

    assert run(load(Slower())).root == made.root


def test_a_plugged_in_authority_is_used_and_its_root_told(run: Callable[..., Any]) -> None:
    own, plugged = Secrets(), Secrets()
    made = run(load(own))
    given = own.kept["istio-ca-secret"]["data"]
    plugged.kept = {"cacerts": {"metadata": {"name": "cacerts"}, "data": given}, **Secrets().kept}
    used = run(load(plugged))
    assert used.root == made.root
    assert "istio-ca-secret" not in plugged.kept, "no root of its own beside the plugged one"


def test_a_secret_without_a_key_is_named(run: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"cacerts has no ca-key\.pem"):
        run(load(Secrets(cacerts={"ca-cert.pem": "x"})))


def test_a_key_that_cannot_sign_for_envoy_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
    root = CertificateAuthority.self_signed("mesh1.local").root
    with pytest.raises(ValueError, match="RSA and EC"):
        CertificateAuthority(root, pem, root, root)
