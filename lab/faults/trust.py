"""Roots, trust domains and identities: why one mesh does not believe the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.faults.edits import anew, knob, peer, root
from lab.faults.fault import CAPTURED, INGRESSES, Fault
from lab.istiod.knobs import BUNDLES

EGRESS_OF_MESH2 = "mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"


@cache
def other_root(expired: bool = False) -> str:
    """PEM of a root that has signed nothing here, valid now or until yesterday; the same within one process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "somebody-else.local")])
    ends = datetime.now(UTC) + timedelta(days=-1 if expired else 365)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=366))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def faults() -> list[Fault]:
    """The faults of this module."""
    return [
        Fault(
            "wrong-trust-domain-import",
            "mesh2's peer gives mesh1 a trust domain that mesh1 does not have",
            "F22, product 1",
            (peer("mesh2", {"security": {"trustDomain": "mesh1.example"}}), knob("mesh2", BUNDLES, "current")),
            restart=INGRESSES,
        ),
        Fault(
            "wrong-trust-domain-export",
            "mesh1's peer gives mesh2 a trust domain that mesh2 does not have",
            "F22, product 1",
            (peer("mesh1", {"security": {"trustDomain": "mesh2.example"}}), knob("mesh1", BUNDLES, "current")),
            restart=INGRESSES,
        ),
        Fault(
            "own-trust-domain-import",
            "mesh2's peer gives mesh1 the trust domain of mesh2, so mesh1's root is never looked up",
            "F21, product 2",
            (peer("mesh2", {"security": {"trustDomain": "mesh2.local"}}), knob("mesh2", BUNDLES, "current")),
            restart=INGRESSES,
        ),
        Fault(
            "wrong-clientid-export",
            "mesh1's peer allows another clientID than mesh2's egress gateway has",
            CAPTURED,
            (peer("mesh1", {"security": {"clientID": "mesh2.local/ns/mesh2-system/sa/somebody-else"}}),),
        ),
        Fault(
            "wrong-clientid-import",
            "mesh2's peer allows another clientID than mesh1's egress gateway has",
            "F23, product 3",
            (peer("mesh2", {"security": {"clientID": "mesh1.local/ns/mesh1-system/sa/somebody-else"}}),),
        ),
        Fault(
            "wrong-clientid-from-the-start",
            "mesh1's peer was created with another clientID than mesh2's egress gateway has: exports are refused too",
            "F23, product 3",
            (peer("mesh1", {"security": {"clientID": "mesh2.local/ns/mesh2-system/sa/mesh1-egress"}}, recreate=True),),
            begun_by=(("mesh1", "istiod"),),  # a deleted peer froze it
            healed_by=(("mesh1", "istiod"),),
        ),
        Fault(
            "clientid-with-spiffe-prefix",
            "mesh1's peer writes the clientID as a SPIFFE URI, which no identity is ever equal to",
            "F23, product 3b",
            (peer("mesh1", {"security": {"clientID": f"spiffe://{EGRESS_OF_MESH2}"}}),),
        ),
        Fault(
            "clientid-empty",
            "mesh1's peer was created without clientID: discovery is denied, exports are open to any trusted client",
            "F24, product 3c",
            (peer("mesh1", {"security": {"clientID": ""}}, recreate=True),),
            begun_by=(("mesh1", "istiod"),),  # a deleted peer froze it
            healed_by=(("mesh1", "istiod"),),
        ),
        Fault(
            "root-missing-import",
            "the ConfigMap with mesh1's root is missing in mesh2, so its istiod never gets to work on the peer",
            "F17, product 4",
            (root("mesh2", None), anew("mesh2")),
        ),
        Fault(
            "root-foreign-import",
            "mesh2 holds a root that mesh1 does not sign with",
            "F19, product 5",
            (root("mesh2", other_root()),),
            restart=INGRESSES,
        ),
        Fault(
            "root-foreign-export",
            "mesh1 holds a root that mesh2 does not sign with",
            "F19, product 5",
            (root("mesh1", other_root()),),
            restart=INGRESSES,
        ),
        Fault(
            "root-expired-import",
            "the root that mesh2 holds for mesh1 expired yesterday",
            "F27, product 5",
            (root("mesh2", other_root(expired=True)),),
            restart=INGRESSES,
        ),
        Fault(
            "root-empty-import",
            "the ConfigMap with mesh1's root holds an empty text in mesh2",
            "F18, product 5",
            (root("mesh2", ""), knob("mesh2", BUNDLES, "current")),
            restart=INGRESSES,
        ),
    ]
