"""The certificate authority and the credentials of one emulated cluster.

Every cluster has a CA of its own, so that a client that talks to the wrong cluster fails on TLS.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.settings import ClusterSettings

_LIFETIME = datetime.timedelta(days=30)
_ADMIN = "system:admin"
_ADMIN_GROUP = "system:masters"
_ADMISSION = "maistra-admission-controller.openshift-operators.svc"


def create_cluster_files(settings: ClusterSettings) -> None:
    """Writes the credentials of a cluster into `settings.directory`; files that exist are replaced.

    `ca.crt`/`ca.key`, `apiserver.crt`/`.key` (address of the API and `kubernetes.default.svc`), `admin.crt`/`.key`
    (client certificate of the admin), `webhook.crt`/`.key` (the node's address, localhost, the operator's Service) and
    `admin.kubeconfig` (token; everything embedded; the context has the cluster's name).
    """
    directory = settings.path
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{settings.name}-ca")])
    ca = _certificate(ca_name, ca_key, ca_name, ca_key, [], authority=True)
    _write(directory, "ca", ca, ca_key)
    server = urlsplit(settings.server).hostname or settings.block.apiserver
    served = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    for name, common_name, group, hosts in (
        ("apiserver", "kube-apiserver", None, [server, *served]),
        ("webhook", "webhook", None, [settings.block.node, "localhost", _ADMISSION]),
        ("admin", _ADMIN, _ADMIN_GROUP, []),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if group:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        _write(directory, name, _certificate(x509.Name(attributes), key, ca_name, ca_key, hosts), key)
    kubeconfig(settings, settings.kubeconfig, settings.token)


def kubeconfig(settings: ClusterSettings, target: Path, token: str, user: str = "admin") -> None:
    """Writes a kubeconfig (JSON is YAML) for a bearer token; the cluster's `ca.crt` must be there."""
    authority = base64.b64encode(settings.ca_file.read_bytes()).decode()
    name = settings.name
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": settings.server, "certificate-authority-data": authority}},
        ],
        "users": [{"name": f"{user}@{name}", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{user}@{name}", "namespace": "default"}}],
        "current-context": name,
    }
    _private(target, json.dumps(content, indent=1).encode())


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    hosts: list[str],
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=not authority,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if not authority:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    _private(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _private(directory / f"{name}.key", encoded)


def _private(target: Path, content: bytes) -> None:
    target.touch(mode=0o600)
    target.write_bytes(content)
