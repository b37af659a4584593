"""Every cause a diagnosis can name: a stable id, a sentence for people, and what to do about it.

`{mesh}` is the side to put right, `{peer}` the other mesh; other placeholders come from the link that found it.
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """`sentence` and `remedy` are templates."""

    sentence: str
    remedy: str


CAUSES: dict[str, Cause] = {
    # API, control plane, membership
    "api-unreachable": Cause(
        "The API server of {mesh} does not answer: {detail}.",
        "Check the address in the kubeconfig, the network and the proxy settings.",
    ),
    "api-unauthorized": Cause(
        "The credentials for the cluster of {mesh} are not accepted.", "Log in again, or renew the kubeconfig's token."
    ),
    "api-failing": Cause(
        "The API server of {mesh} fails some requests: {detail}.",
        "Look at the API server and its webhooks: overload, a restart, or a broken load balancer before it.",
    ),
    "crds-missing": Cause(
        "{mesh} does not serve {kind}: there is no OpenShift Service Mesh 2.1 to 2.6 with a control plane.",
        "Install the operator and create a ServiceMeshControlPlane; OSSM 3 has no federation resources.",
    ),
    "control-plane-missing": Cause(
        "{mesh} has no ServiceMeshControlPlane {name}.", "Create it, or run the suite without --federation-adopt."
    ),
    "control-plane-not-ready": Cause(
        "Control plane {name} of {mesh} is not Ready: {detail}.",
        "See its conditions and readiness.components, and the events and pods of the components it waits for.",
    ),
    "istiod-down": Cause(
        "No pod of {istiod} runs in {mesh}: its statuses are frozen and its proxies get no changes.",
        "Scale Deployment {istiod} up and see why its pods do not start (events, image, quota).",
    ),
    "namespace-not-member": Cause(
        "Namespace {namespace} is not a configured member of {mesh}: {detail}.",
        "Add it to ServiceMeshMemberRoll default in {system}; if it is pending, see whether it exists and whose it is.",
    ),
    # Peer and gateways
    "peer-missing": Cause(
        "{mesh} has no ServiceMeshPeer {name} in its control plane namespace {system}{detail}.",
        "Create it there: istiod reads peers only in its own namespace.",
    ),
    "ingress-gateway-missing": Cause(
        "The peer object of {mesh} names ingress gateway {gateway}, which {mesh} does not have.",
        "gateways.ingress.name is a gateway of {mesh} itself: name {expected}, or add {gateway} to the control plane.",
    ),
    "egress-gateway-missing": Cause(
        "The peer object of {mesh} names egress gateway {gateway}, which {mesh} does not have.",
        "gateways.egress.name is a gateway of {mesh} itself: name {expected}, or add {gateway} to the control plane.",
    ),
    "gateway-port-missing": Cause(
        "Service {gateway} of {mesh} lacks port {port}.",
        "Give the gateway both ports, 8188 (discovery) and 15443 (tls), in the ServiceMeshControlPlane.",
    ),
    "gateway-down": Cause(
        "Gateway {gateway} of {mesh} has no ready pod.",
        "Scale Deployment {gateway} up and see why its pods do not start (events, image, quota).",
    ),
    "network-view-wrong": Cause(
        "Egress gateway {gateway} of {mesh} asks for network view {seen}, but the peer's network is {expected}.",
        "Set requestedNetworkView: [{expected}] for it in the ServiceMeshControlPlane.",
    ),
    # Addresses
    "address-missing": Cause(
        "The peer object of {mesh} has no address of {peer}.",
        "Put the address of {peer}'s federation ingress into spec.remote.addresses ({expected}).",
    ),
    "address-unresolvable": Cause(
        "{address}, by which {mesh} looks for {peer}, does not resolve.",
        "Correct spec.remote.addresses; {peer}'s federation ingress is at {expected}.",
    ),
    "address-unreachable": Cause(
        "{mesh} looks for {peer} at {address}, where its gateway does not answer: {detail}.",
        "Correct spec.remote.addresses ({peer}'s federation ingress is at {expected}), or open the way to it.",
    ),
    "address-pending": Cause(
        "The federation ingress {gateway} of {mesh} has no address from outside.",
        "Wait for its load balancer, or make the Service a NodePort and set the peer's ports.",
    ),
    "wrong-discovery-port": Cause(
        "{mesh} asks {peer} for its services on port {port}; {peer}'s gateway listens on {expected}.",
        "Set spec.remote.discoveryPort of the ServiceMeshPeer in {mesh} to {expected}.",
    ),
    "wrong-service-port": Cause(
        "{mesh} sends requests for {peer}'s services to port {port}; {peer}'s gateway listens on {expected}.",
        "Set spec.remote.servicePort of the ServiceMeshPeer in {mesh} to {expected}.",
    ),
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
        "{mesh} admits {seen}, but {peer}'s egress gateway is {expected}.",
        "Set spec.security.clientID of the ServiceMeshPeer in {mesh} to {expected}; for exports to follow, make the "
        "peer anew or restart istiod.",
    ),
    "client-id-missing": Cause(
        "The peer object of {mesh} has no clientID: discovery is denied to {peer}, exports are open to every trusted "
        "client.",
        "Set spec.security.clientID of the ServiceMeshPeer in {mesh} to {expected} and make the peer anew.",
    ),
    "chain-not-trusted": Cause(
        "The federation ingress of {mesh} shows a certificate that {peer} does not accept: {detail}.",
        "Restart {mesh}'s gateways so that they get certificates of the present authority, or copy its root again.",
    ),
    # Watches
    "peer-not-processed": Cause(
        "istiod of {mesh} has not taken up ServiceMeshPeer {name}: it has no status.",
        "See istiod's log, scope federation; a ConfigMap that came late is found within 60 s, else restart istiod.",
    ),
    "discovery-denied": Cause(
        "{peer} answers 403 to the watch of {mesh}, although the clientID fits.",
        "See the AuthorizationPolicies at {peer}'s federation ingress; no two peers may share one ingress gateway.",
    ),
    "egress-unreachable": Cause(
        "istiod of {mesh} does not reach its own egress gateway: {detail}.",
        "See the gateway's pods and Service, and NetworkPolicies between istiod and it.",
    ),
    "peer-not-trusted": Cause(
        "{mesh} rejects {peer}'s certificate: {detail}.",
        "Compare the root and the trust domain that {mesh} has for {peer} with {peer}'s; make connections anew.",
    ),
    "not-trusted-by-peer": Cause(
        "{peer} rejects the certificate of {mesh}: {detail}.",
        "Compare the root and the trust domain that {peer} has for {mesh} with {mesh}'s.",
    ),
    "peer-refuses-connections": Cause(
        "{mesh}'s egress gateway makes no connection to {address}: {detail}.",
        "See whether {peer}'s ingress gateway listens there and which firewall or NetworkPolicy is in between.",
    ),
    "peer-istiod-unreachable": Cause(
        "{peer}'s gateway takes the watch of {mesh}, but answers {detail}: its istiod does not.",
        "See istiod of {peer}, and whether it knows a ServiceMeshPeer for {mesh}.",
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
    "export-rule-no-match": Cause(
        "{mesh} does not export {service}: {detail}.",
        "Correct the rule: namespace and name are those of the Service in {mesh}, its namespace must be a member.",
    ),
    "import-rule-no-match": Cause(
        "{mesh} does not import {service}: {detail}.",
        "Correct the rule: it selects the names under which {peer} exports, aliases included.",
    ),
    "import-as-local": Cause(
        "{mesh} imports {service} as its own ({seen}), so the name {expected} does not exist.",
        "Set importAsLocal: false for the rule.",
    ),
    "surplus-export": Cause(
        "{mesh} also exports {service}, which was not asked for.",
        "Narrow the export rules: {peer} can call everything they match.",
    ),
    "not-exported-yet": Cause(
        "{mesh}'s ExportedServiceSet {name} has no status.",
        "Its istiod has not written any: see the leader lock and istiod's log, scope federation.",
    ),
    "not-imported-yet": Cause(
        "{mesh} has not imported {service}, although a rule takes it.",
        "Wait for the next resync (up to 5 min, 60 s from 2.4.7 and 2.5.1 on), or restart istiod.",
    ),
    "routes-not-generated": Cause(
        "istiod of {mesh} lists {service}, but makes no routes for it: {detail}.",
        "See istiod's log, scope federation, for errors at this service; a restart of istiod makes its routes anew. "
        "Names of over 63 characters are lost before 2.2.4.",
    ),
    # Client, routes
    "sidecar-missing": Cause(
        "Pod {pod} of {mesh} has no sidecar: {detail}.",
        'Set sidecar.istio.io/inject: "true" in the pod template and restart the Deployment.',
    ),
    "import-not-in-sidecar": Cause(
        "The sidecar of {pod} in {mesh} does not know {host}, although it is imported.",
        "See whether the proxy is connected to istiod and accepts its configuration.",
    ),
    "import-without-endpoints": Cause(
        "The sidecar of {pod} in {mesh} has no endpoint for {host}.",
        "See the egress gateway's pods, its port 15443, and requestedNetworkView.",
    ),
    "egress-endpoint-stale": Cause(
        "The sidecar of {pod} in {mesh} sends requests for {host} to {seen}, where no egress gateway pod is.",
        "It heals at the next resync; restart istiod to have it now.",
    ),
    "split-missing": Cause(
        "{mesh} has no VirtualService {name} in {namespace}, so no request is split.", "Create it again."
    ),
    "unknown-host": Cause(
        "{name} of {mesh} sends {share} to {host}, which no sidecar knows.",
        "Correct the destination's host; the imported one is {expected}.",
    ),
    "unknown-subset": Cause(
        "{name} of {mesh} sends {share} to subset {subset} of {host}, which no DestinationRule defines.",
        "Define the subset in a DestinationRule for this host, or drop it from the route.",
    ),
    "weights-differ": Cause(
        "{name} of {mesh} does not split as asked for: {detail}.", "Put the weights of the VirtualService right."
    ),
    "not-independent": Cause(
        "Where a request of {mesh} goes depends on more than the weights of {name}: {detail}.",
        "Look for session affinity, consistent hashing, or routes that match on headers in {name}.",
    ),
    "route-not-programmed": Cause(
        "The sidecar of {pod} in {mesh} routes {seen}, but {name} says {expected}.",
        "See whether another VirtualService owns the host, and whether the proxy accepts istiod's configuration.",
    ),
    "mongodb-route-missing": Cause(
        "{mesh} has no route from mongodb to {peer}'s mongodb, so ratings v2 of {mesh} fails.",
        "Create VirtualService {name}: tcp, host mongodb.{namespace}.svc.cluster.local, destination {expected}.",
    ),
    # Data path
    "egress-without-remote": Cause(
        "{mesh}'s egress gateway {gateway} knows no address of {peer} for {host}.",
        "See requestedNetworkView, and the addresses in the ServiceMeshPeer.",
    ),
    "data-path-blocked": Cause(
        "Discovery works, but {mesh}'s egress gateway makes no connection to {address}: {detail}.",
        "Open the service port ({address}) between the clusters; see firewalls and NetworkPolicies.",
    ),
    "export-denied": Cause(
        "{mesh}'s ingress gateway denies requests for its exports: its policy does not admit {peer}'s egress gateway.",
        "Exports keep the clientID the peer was made with: make the ServiceMeshPeer of {mesh} anew or restart istiod.",
    ),
    "export-unknown": Cause(
        "{mesh}'s ingress gateway does not know {host}, which {peer} still calls.",
        "Wait for the next resync of {peer}, and compare both service sets.",
    ),
    "backend-down": Cause(
        "{service} of {mesh} has no ready pod.", "See its Deployments, pods and events; federation is not to blame."
    ),
    "backend-unreachable": Cause(
        "{mesh}'s ingress gateway does not reach {address}: {detail}.",
        "See whether the pods behind it have sidecars and are ready, and which PeerAuthentication holds.",
    ),
    "denied-by-policy": Cause(
        "{mesh} denies ratings requests with 403.",
        "An AuthorizationPolicy there must admit the federation ingress gateway's identity, not the caller's.",
    ),
    "backend-failing": Cause(
        "{service} of {mesh} answers {detail}.",
        "See the log of the application in {mesh}; ratings v2 needs its database. Federation is not to blame.",
    ),
    "requests-failing": Cause(
        "Requests of {mesh} for ratings fail: {detail}.", "Follow one of them through the access logs in the evidence."
    ),
    "productpage-unreachable": Cause(
        "productpage of {mesh} does not answer: {detail}.",
        "See istio-ingressgateway, its Route or Service, the Gateway bookinfo-gateway and productpage's pods.",
    ),
    # Not on the path of a request
    "plaintext-accepted": Cause(
        "The federation ingress of {mesh} answers clients that do not speak TLS, on port {port}.",
        "Only mutual TLS may be served there: look for EnvoyFilters, Gateways and Services that claim the port.",
    ),
    "stranger-accepted": Cause(
        "The federation ingress of {mesh} lets clients without a certificate in, on port {port}.",
        "It must ask for client certificates: look for EnvoyFilters and Gateways that claim the port.",
    ),
    "access-log-off": Cause(
        "The proxies of {mesh} write no access log to /dev/stdout, so nothing shows where requests went.",
        "Set spec.proxy.accessLogging.file.name: /dev/stdout in the ServiceMeshControlPlane.",
    ),
}
