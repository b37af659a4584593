"""istiod's certificate authority: a root per mesh, and certificates for workloads."""

from __future__ import annotations

import base64
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.client import ApiClient, ApiError, Key, Object, Reconciler
from lab.istiod.state import MeshState
from lab.resources import CONFIG_MAP, ROLE_BINDING, SECRET

log = logging.getLogger("citadel")
ROOT_CONFIG_MAP, ROOT_KEY = "istio-ca-root-cert", "root-cert.pem"
_OWN_SECRET, _PLUGGED_SECRET = "istio-ca-secret", "cacerts"
_ROOT_LIFE, _WORKLOAD_LIFE = timedelta(days=3650), timedelta(hours=24)


@dataclass(frozen=True)
class Workload:
    """A workload's certificate: `chain` (leaf first) and `key` as PEM, and when to replace it."""

    chain: str
    key: str
    renew_at: datetime


class CertificateAuthority:
    """Issues certificates under one root. `root` is what other meshes must trust, as PEM."""

    def __init__(self, certificate: str, key: str, chain: str, root: str) -> None:
        self.root = root
        self._chain = chain
        self._certificate = x509.load_pem_x509_certificate(certificate.encode())
        loaded = serialization.load_pem_private_key(key.encode(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError(f"the CA's key is a {type(loaded).__name__}; RSA and EC keys are supported")
        self._key = loaded

    @classmethod
    def self_signed(cls, trust_domain: str) -> CertificateAuthority:
        """A new root for a trust domain, valid for ten years."""
        certificate, key = _new_root(trust_domain)
        return cls(certificate, key, certificate, certificate)

    @classmethod
    async def load(cls, api: ApiClient, namespace: str, trust_domain: str) -> CertificateAuthority:
        """The mesh's authority: Secret `cacerts` if users gave one, else `istio-ca-secret`, made if it is not there.

        Raises ApiError where the API does not answer as it should, ValueError for a Secret that holds no usable CA.
        """
        plugged = await api.find(SECRET, _PLUGGED_SECRET, namespace)
        if plugged:
            log.info("Use plugged-in cert at etc/cacerts/ca-key.pem")
            return cls._from_secret(plugged)
        own = await api.find(SECRET, _OWN_SECRET, namespace)
        if own is None:
            log.info("Use self-signed certificate as the CA certificate")
            certificate, key = _new_root(trust_domain)
            own = _secret(namespace, {"ca-cert.pem": certificate, "ca-key.pem": key, "root-cert.pem": certificate})
            try:
                await api.create(SECRET, own)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                own = await api.get(SECRET, _OWN_SECRET, namespace)
        return cls._from_secret(own)

    @classmethod
    def _from_secret(cls, secret: Object) -> CertificateAuthority:
        data = {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}
        missing = [name for name in ("ca-cert.pem", "ca-key.pem") if not data.get(name)]
        if missing:
            raise ValueError(f"Secret {secret['metadata']['name']} has no {' and no '.join(missing)}")
        certificate = data["ca-cert.pem"]
        chain = data.get("cert-chain.pem") or certificate
        return cls(certificate, data["ca-key.pem"], chain, data.get("root-cert.pem") or certificate)

    def issue(self, identity: str) -> Workload:
        """A certificate for a SPIFFE id, valid for 24 hours: empty subject, the id as critical alternative name."""
        now = datetime.now(UTC).replace(microsecond=0)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + _WORKLOAD_LIFE)
            .add_extension(_key_usage("digital_signature", "key_encipherment"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer, critical=False)
            .add_extension(names, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        chain = leaf.public_bytes(serialization.Encoding.PEM).decode() + self._chain
        return Workload(chain, _pem(key), now + _WORKLOAD_LIFE / 2)


def _new_root(trust_domain: str) -> tuple[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _ROOT_LIFE)
        .add_extension(_key_usage("key_cert_sign"), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), _pem(key)


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def _key_usage(*uses: str) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in uses for name in names})


def _secret(namespace: str, data: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _OWN_SECRET, "namespace": namespace},
        "type": "istio.io/ca-root",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
    }


class RootPublisher:
    """Keeps ConfigMap `istio-ca-root-cert` in the control plane's and every member's namespace; removes none.

    A member where istiod has no rights yet, by no RoleBinding for its account, is given up: it is tried again only
    by an istiod that starts anew, or when it has left and comes back (captured with 2.1.6 and operator 2.2.13).
    """

    def __init__(self, state: MeshState, root: str) -> None:
        self._state, self._root = state, root
        self._given_up: set[str] = set()
        self._work = Reconciler("istio-ca-root-cert", self._write, workers=4)
        state.on_change(self._compare)

    async def run(self) -> None:
        """Runs until cancelled."""
        self._compare()
        await self._work.run()

    def _compare(self) -> None:
        self._given_up &= self._state.namespaces
        for namespace in self._state.namespaces - self._given_up:
            if not self._is_there((namespace, ROOT_CONFIG_MAP)):
                self._work.add((namespace, ROOT_CONFIG_MAP))

    def _is_there(self, key: Key) -> bool:
        found = self._state.informers.config_maps.items.get(key) or {}
        return (found.get("data") or {}).get(ROOT_KEY) == self._root

    async def _write(self, key: Key) -> None:
        namespace, name = key
        if namespace not in self._state.namespaces or self._is_there(key):
            return
        if namespace != self._state.namespace and not await self._may_write(namespace):
            self._given_up.add(namespace)
            who = f"system:serviceaccount:{self._state.namespace}:{self._account}"
            text = f'configmaps is forbidden: User "{who}" cannot create resource "configmaps" in API group ""'
            log.error('error creating configmap %s: %s in the namespace "%s"', name, text, namespace)
            return
        metadata = {"name": name, "namespace": namespace, "labels": {"istio.io/config": "true"}}
        try:
            await self._state.api.apply(CONFIG_MAP, {"metadata": metadata, "data": {ROOT_KEY: self._root}})
        except ApiError as error:
            # a member may be listed before its namespace exists, or while it goes away: its next change tries again
            if error.status not in (403, 404):
                raise

    @property
    def _account(self) -> str:
        return os.environ.get("SERVICE_ACCOUNT", "")

    async def _may_write(self, namespace: str) -> bool:
        bindings, _ = await self._state.api.list_objects(ROLE_BINDING, namespace)
        own = (self._account, self._state.namespace)
        return any(
            (who["name"], who.get("namespace")) == own for each in bindings for who in each.get("subjects") or ()
        )
