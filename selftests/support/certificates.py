"""Certificate authorities and workload certificates made for one test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Authority:
    """A self-signed root that issues SPIFFE leaves."""

    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate

    @classmethod
    def make(cls, name: str, *, ca: bool = True, start: timedelta = timedelta(hours=-1), days: int = 1) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        builder = _builder(subject, subject, key, start, days).add_extension(x509.BasicConstraints(ca, None), True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    def write_leaf(self, directory: Path, uri: str) -> Path:
        """Writes key, leaf and root into one PEM file as a TLS server wants it."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name([]), self.root.subject, key, timedelta(hours=-1), 1)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        leaf = builder.add_extension(names, critical=True).sign(self.key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        target = directory / "server.pem"
        target.write_text(private.decode() + pem(leaf) + pem(self.root))
        return target


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: timedelta, days: int
) -> x509.CertificateBuilder:
    begin = NOW + start
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
    )
