"""Where requests go: calling sidecars, routes, gateways, workloads, the application."""

from __future__ import annotations

from harness.diagnosis.causes.cause import Cause

CAUSES: dict[str, Cause] = {
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
    "egress-data-path-blocked": Cause(
        "The sidecar of {pod} in {mesh} makes no connection to {gateway} at {seen}, where a pod of it runs: {detail}.",
        "Refused: the gateway has no listener on 15443, see its configuration. A timeout: a NetworkPolicy or the "
        "cluster's network is in between.",
    ),
    "tls-failing": Cause(
        "{proxy} of {mesh} and what it calls at {address} do not agree on TLS: {detail}.",
        "Both belong to {mesh}: compare their certificates with its root (who got one before a rotation has to "
        "restart), and see the DestinationRules and PeerAuthentications for that host.",
    ),
    "split-missing": Cause(
        "{mesh} has no VirtualService {name} in {namespace}, so no request is split.", "Create it again."
    ),
    "unknown-host": Cause(
        "{name} of {mesh} sends {share} to {host}, which no sidecar knows.",
        "Correct the destination's host; the imported one is {expected}.",
    ),
    "call-without-route": Cause(
        "{proxy} in {mesh} has no route that fits {share} to {host}.",
        "See which VirtualService owns the host: one whose routes match only some requests leaves the others without.",
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
    "egress-without-route": Cause(
        "{mesh}'s egress gateway {gateway} does not know {host}, which its sidecars call: {detail}.",
        "istiod makes its routes from the imports: see whether the gateway accepts its configuration; services with "
        "several ports cannot be imported.",
    ),
    "egress-refuses-plaintext": Cause(
        "Sidecars of {mesh} call egress gateway {gateway} without mutual TLS, which it refuses: {detail}.",
        "Imported hosts need TLS mode ISTIO_MUTUAL: put that DestinationRule or PeerAuthentication right.",
    ),
    "gateway-denies": Cause(
        "Gateway {gateway} of {mesh} denies connections for {host}: {detail}.",
        "Federation did not make that policy: change its selector or let federation's connections through.",
    ),
    "data-path-blocked": Cause(
        "Discovery works, but {mesh}'s egress gateway makes no connection to {address}: {detail}.",
        "Open the service port ({address}) between the clusters; see firewalls and NetworkPolicies.",
    ),
    "remote-address-stale": Cause(
        "{mesh}'s egress gateway still calls {address}, which is not {peer}'s address any more: {detail}.",
        "istiod of {mesh} looks the name up at its next resync; restart it to have it now, or give {peer}'s gateway an "
        "address that stays.",
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
        "{service} of {mesh} has no ready pod: {detail}.",
        "See its Deployments, pods and events; federation is not to blame.",
    ),
    "backend-unreachable": Cause(
        "{proxy} of {mesh} makes no connection to {address}: {detail}.",
        "See whether the pod there is ready and listens, and the NetworkPolicies that select it.",
    ),
    "backend-without-tls": Cause(
        "{proxy} of {mesh} calls {address} by mutual TLS, which does not speak it: {detail}.",
        "Give its pods sidecars, and let the PeerAuthentication there and the DestinationRule for it agree.",
    ),
    "denied-by-policy": Cause(
        "{mesh} denies {what}: {detail}.",
        "An AuthorizationPolicy there must admit {caller}.",
    ),
    "backend-failing": Cause(
        "{service} of {mesh} answers {detail}.",
        "See the log of the application in {mesh}; {blame}.",
    ),
    "backend-silent": Cause(
        "{service} of {mesh} does not answer in time: {detail}.",
        "It is connected to, and says nothing: see its pods and its log in {mesh}, what it waits for itself, and "
        "whether it is overloaded.",
    ),
    "mongodb-unanswered": Cause(
        "Connections of {peer}'s ratings v2 to mongodb of {mesh}, a TCP import, end without an answer: {detail}.",
        "No proxy on the way says why: see the logs of mongodb and its sidecar in {mesh}, and the lines of both "
        "gateways for 27017.",
    ),
    "calls-lost": Cause(
        "Calls of {mesh} for {peer}'s ratings get no answer in time, and none of them arrives there: {detail}.",
        "Something between the gateways drops packets without a word: see firewalls and NetworkPolicies for the "
        "service port.",
    ),
    "requests-failing": Cause(
        "Requests of {mesh} for ratings fail: {detail}.",
        "Follow one of them through the access logs of reviews, of both gateways and of ratings; their user agent "
        "holds {run}.",
    ),
    "pages-without-ratings": Cause(
        "Every page of {mesh} comes, but not every one asks for ratings: {detail}.",
        "A page without ratings is of reviews v1: see which versions of reviews are called, and the VirtualService "
        "that pins them.",
    ),
    "pages-without-stars": Cause(
        "Not every page of {mesh} shows stars: {detail}.",
        "Follow one of them through the access logs of productpage, reviews and ratings; their user agent holds {run}.",
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
