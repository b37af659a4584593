"""What the meshes know of each other: trust, watches, exports, imports."""

from __future__ import annotations

from harness.diagnosis.causes.cause import Cause

CAUSES: dict[str, Cause] = {
    # Trust
    "own-root-invalid": Cause(
        "The root of {mesh} itself is not usable: it {detail}.", "Repair or renew the certificate authority of {mesh}."
    ),
    "root-missing": Cause(
        "{mesh} has no root certificate of {peer}: {detail}.",
        "Create ConfigMap {config_map} in {system} with {peer}'s root under the key root-cert.pem.",
    ),
    "root-empty": Cause(
        "What {mesh} holds as the root of {peer} {detail}.",
        "Copy root-cert.pem of {peer}'s ConfigMap istio-ca-root-cert again, after its control plane is Ready.",
    ),
    "root-expired": Cause(
        "What {mesh} holds as the root of {peer} is out of its time: {detail}.",
        "Copy {peer}'s present root into ConfigMap {config_map}; compare the clocks of both clusters.",
    ),
    "root-not-current": Cause(
        "{mesh} holds root {held} for {peer}, but {peer} signs with {current}.",
        "Copy root-cert.pem of {peer}'s istio-ca-root-cert into ConfigMap {config_map} of {mesh}.",
    ),
    "same-trust-domain": Cause(
        "Both meshes have trust domain {domain}: neither takes over the other's root.",
        "Give each control plane a spec.security.trust.domain of its own and restart the gateways.",
    ),
    "wrong-trust-domain": Cause(
        "{mesh} expects {peer} in trust domain {seen}, but {peer} is {expected}.",
        "Set spec.security.trustDomain of the ServiceMeshPeer in {mesh} to {expected}.",
    ),
    "wrong-client-id": Cause(
        "{mesh} admits {seen}, but {peer}'s egress gateway is {expected} ({detail}).",
        "Set spec.security.clientID of ServiceMeshPeer {system}/{peer} in {mesh} to {expected}: oc -n {system} patch "
        'servicemeshpeer {peer} --type merge -p \'{{"spec":{{"security":{{"clientID":"{expected}"}}}}}}\'; for exports '
        "to follow, restart istiod: {restart}.",
    ),
    "client-id-missing": Cause(
        "The peer object of {mesh} has no clientID: discovery is denied to {peer}, exports are open to every trusted "
        "client.",
        "Set spec.security.clientID of ServiceMeshPeer {system}/{peer} in {mesh} to {expected}: oc -n {system} patch "
        'servicemeshpeer {peer} --type merge -p \'{{"spec":{{"security":{{"clientID":"{expected}"}}}}}}\'; then '
        "restart istiod: {restart}.",
    ),
    "chain-not-trusted": Cause(
        "The federation ingress of {mesh} shows a certificate that {peer} does not accept: {detail}.",
        "Restart {mesh}'s gateways so that they get certificates of the present authority, or copy its root again.",
    ),
    # Gateways that discovery announces
    "foreign-gateway-announced": Cause(
        "{mesh} tells {peer} to find its services at {seen} too, which is no federation ingress of {mesh}: a share of "
        "{peer}'s new connections goes there, where nobody serves them, while all statuses are perfect.",
        "Update {mesh} to OSSM 2.3.3 or later (OSSM-3644). On 2.2 it holds until the next new Service to stop the "
        "istiods of all meshes together, since they tell each other: {stop}; when all their pods are gone: {start}.",
    ),
    # Watches
    "peer-not-processed": Cause(
        "istiod of {mesh} has not taken up ServiceMeshPeer {name}: it has no status.",
        "See istiod's log, scope federation; a ConfigMap that came late is found within 60 s, else restart istiod.",
    ),
    "federation-frozen": Cause(
        "istiod of {mesh} answers 400 to {peer}, although ServiceMeshPeer {system}/{name} was made {age} s ago: its "
        "federation stands still, as it does for good after a peer with exports was deleted.",
        "Restart istiod of {mesh}: {restart}. To make the peer anew does not help. Before deleting a peer, delete its "
        "ExportedServiceSet and wait until nothing is offered any more.",
    ),
    "restarted-without-federation": Cause(
        "istiod of {mesh} was started {age} s ago, found no root of {peer} yet, gave up, and serves without federation "
        "until it looks again (a defect of 2.1).",
        "Wait: it looks again within 60 s of its start. If it still answers 400 then: {restart}.",
    ),
    "discovery-denied": Cause(
        "{mesh} answers 403 to the watch of {peer}{admitted}: {detail}.",
        "{remedy}.",
        elsewhere=True,
    ),
    "egress-unreachable": Cause(
        "istiod of {mesh} does not reach its own egress gateway {gateway}: {detail}.",
        "No such host: see the gateway's Service. Refused: it has no listener, see its configuration. A timeout: see "
        "the NetworkPolicies between istiod and it.",
    ),
    "egress-without-discovery-route": Cause(
        "{mesh}'s own egress gateway {gateway} has no route for the watch on {peer}: {detail}.",
        "The gateway has not got what istiod made of the peer: see whether it accepts its configuration, and whether "
        "two peers share it.",
    ),
    "peer-address-unknown": Cause(
        "{mesh}'s egress gateway {gateway} has no address to which it could send the watch on {peer}: {detail}.",
        "See whether spec.remote.addresses resolve in the cluster of {mesh}; a name that is new takes minutes.",
    ),
    "peer-not-trusted": Cause(
        "{mesh} rejects {peer}'s certificate: {detail}.",
        "Compare the root and the trust domain that {mesh} has for {peer} with {peer}'s; make connections anew.",
    ),
    "peer-identity-differs": Cause(
        "{mesh} trusts {peer}'s root, but expects another identity at {address}: {detail}.",
        "The identities are those that {peer}'s discovery names, its ingress gateway's: see whether {address} is that "
        "gateway and which service account it runs as, and wait for the next resync or restart istiod of {mesh}.",
    ),
    "peer-without-tls": Cause(
        "What answers {mesh} at {address} does not speak TLS as {peer}'s ingress gateway does: {detail}.",
        "The way there must pass TLS on untouched: no Route, no HTTP load balancer, no proxy that ends TLS.",
    ),
    "not-trusted-by-peer": Cause(
        "{mesh} rejects the certificate of {peer}'s egress gateway: {detail}.",
        "Compare the root and the trust domain that {mesh} has for {peer} with {peer}'s.",
        elsewhere=True,
    ),
    "peer-refuses-connections": Cause(
        "{mesh}'s egress gateway makes no connection to {address}: {detail}.",
        "Refused: {peer}'s ingress gateway does not listen there. A timeout: see firewalls and NetworkPolicies on the "
        "way.",
    ),
    "peer-object-unknown": Cause(
        "istiod of {mesh} answers 400 to the watch of {peer}: it knows no ServiceMeshPeer for {peer}, or one that is "
        "named otherwise.",
        "Create ServiceMeshPeer {peer} in {mesh}; if it is there, restart istiod, which has not loaded it.",
        elsewhere=True,
    ),
    "discovery-without-route": Cause(
        "The federation ingress of {mesh} answers 404 to the watch of {peer}: it has no route for discovery.",
        "See whether {address} is the gateway that the ServiceMeshPeer in {mesh} names, and whether that gateway "
        "accepts its configuration.",
        elsewhere=True,
    ),
    "peer-istiod-unreachable": Cause(
        "The federation ingress of {mesh} answers {detail} to the watch of {peer}: istiod behind it does not answer.",
        "See the pods of istiod in {mesh} and its port 8188, and NetworkPolicies between its ingress and istiod.",
        elsewhere=True,
    ),
    "one-direction": Cause(
        "{peer} watches {mesh}, but {mesh} does not watch {peer}: {detail}.",
        "See the way from {mesh} to {peer}: egress gateway, address, port, certificates.",
    ),
    "watch-not-connected": Cause(
        "The watch of {mesh} on {peer} is not connected: {detail}.",
        "See istiod's log (scope federation) of {mesh} and the access logs of both gateways on the way.",
    ),
    "stale-sync": Cause(
        "{mesh} is connected to {peer}, but does not take over what it offers: {detail}.",
        "Restart istiod of {mesh} and see its log (scope federation) for `resync failed`.",
    ),
    # Exports, imports
    "export-set-misnamed": Cause(
        "{mesh} has no ExportedServiceSet {name} in {system}{detail}.",
        "Name it like the ServiceMeshPeer, in the control plane's namespace: sets of other names are ignored.",
    ),
    "import-set-misnamed": Cause(
        "{mesh} has no ImportedServiceSet {name} in {system}{detail}.",
        "Name it like the ServiceMeshPeer, in the control plane's namespace: sets of other names are ignored.",
    ),
    "export-service-missing": Cause(
        "{mesh} does not export {service}: there is no Service {names}.",
        "Create the Service again: rules export Services, and only those that exist.",
    ),
    "export-rule-ignored": Cause(
        "istiod of {mesh} leaves out {rule}, which would export {service}: {detail}.", "{repair}."
    ),
    "export-rule-no-match": Cause(
        "{mesh} does not export {service}: {detail}.",
        "Correct one of the rules, or add one, so that it takes Service {names}.",
    ),
    "exported-under-another-name": Cause(
        "{mesh} exports {service} as {seen}, by {rule}; {peer} takes it as {expected}.",
        "Correct the rule's alias (namespace: {alias}, name: {service}), or {peer}'s import rules.",
    ),
    "export-not-listed": Cause(
        "{mesh} does not export {service}, although {rule} takes it: {detail}.",
        "A changed set is taken up within 60 s. Services of type ExternalName are never exported, nor those whose "
        "annotation networking.istio.io/exportTo leaves out {system}; else see istiod's log, scope federation.",
    ),
    "import-rule-ignored": Cause(
        "istiod of {mesh} leaves out {rule}, which would import {service}: {detail}.", "{repair}."
    ),
    "import-rule-no-match": Cause(
        "{mesh} does not import {service}: {detail}.",
        "Correct one of the rules, or add one: it selects the names under which {peer} exports, aliases included.",
    ),
    "imported-under-another-name": Cause(
        "{mesh} imports {service} as {seen}, by {rule}, but its routes use {expected}.",
        "Waiting does not help. To get the name that routes use: {change}.",
    ),
    "import-as-local": Cause(
        "{mesh} imports {service} as its own ({seen}), so the name {expected} does not exist.",
        "Set importAsLocal: false for the rule.",
    ),
    "surplus-export": Cause(
        "{mesh} also exports {service}, which was not asked for.",
        "Narrow the export rules: {peer} can call everything they match.",
    ),
    "leader-missing": Cause(
        "Nobody writes the statuses of {mesh}'s exports and imports: {detail}.",
        "Restart {istiod}: one of its pods has to take the lock.",
    ),
    "not-exported-yet": Cause(
        "{mesh}'s ExportedServiceSet {name} has no status.",
        "Its istiod has not written any: see istiod's log, scope federation.",
    ),
    "not-imported-yet": Cause(
        "{mesh} has not imported {service}, although {rule} takes it: {detail}.",
        "Wait for the next resync (up to 5 min, 60 s from 2.4.7 and 2.5.1 on), or restart istiod.",
    ),
    "routes-not-generated": Cause(
        "istiod of {mesh} lists {service}, but makes no routes for it: {detail}.",
        "See istiod's log, scope federation, for errors at this service; a restart of istiod makes its routes anew. "
        "Names of over 63 characters are lost before 2.2.4.",
    ),
}
