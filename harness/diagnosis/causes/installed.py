"""What is installed: APIs, control planes, membership, gateways, addresses."""

from __future__ import annotations

from harness.diagnosis.causes.cause import Cause

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
    "installation-failed": Cause(
        "The installation of {mesh} ended, and nothing was applied after it: {detail}.",
        "Put right what the message names, and run again.",
    ),
    "crds-missing": Cause(
        "{mesh} does not serve {kind}: there is no OpenShift Service Mesh 2.1 to 2.6 with a control plane.",
        "Install the operator and create a ServiceMeshControlPlane; OSSM 3 has no federation resources.",
    ),
    "control-plane-missing": Cause(
        "{mesh} has no ServiceMeshControlPlane {name}.", "Create it, or run the suite without --federation-adopt."
    ),
    "same-cluster": Cause(
        "mesh1 and mesh2 are the same cluster ({proof}), and it has no "
        "ServiceMeshControlPlane {name} in {system}: all that is said of {mesh} is said of {peer}'s cluster.",
        "Give {mesh}'s own cluster (--{mesh}-kubeconfig, --{mesh}-context, {variable}). If one cluster is to hold both "
        "meshes, create the control plane there.",
    ),
    "control-plane-not-ready": Cause(
        "Control plane {name} of {mesh} is not Ready: {detail}.",
        "See its conditions and readiness.components, and the events and pods of the components it waits for.",
    ),
    "istiod-down": Cause(
        "No pod of {istiod} is ready in {mesh} ({detail}): its statuses are frozen and its proxies get no changes.",
        "Have Deployment {istiod} run: scale it up, or mend what keeps its pods from starting (see their events).",
    ),
    "second-istiod": Cause(
        "{mesh} has {count} pods of istiod ({detail}), of which only the one that leads federates in this version: "
        "proxies of the others know no imported service.",
        "Have one: oc -n {system} patch servicemeshcontrolplane {name} --type merge -p "
        '\'{{"spec":{{"runtime":{{"components":{{"pilot":{{"deployment":{{"replicas":1}}}}}}}}}}}}\', '
        "or update to 2.2.",
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
    "object-misplaced": Cause(
        "{kind} {name} of {mesh} is in {namespace}; istiod reads only {system}.",
        "Move it: create it in {system}, and delete it in {namespace}.",
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
        "Gateway {gateway} of {mesh} has no ready pod: {detail}.",
        "Have Deployment {gateway} run: scale it up, or mend what keeps its pods from starting (see their events).",
    ),
    "gateway-selects-others": Cause(
        "Service {gateway} of {mesh} also selects pods of other gateways ({pods}): some connections go astray.",
        "Give the gateway's Service a label of its own in the ServiceMeshControlPlane, such as "
        "federation.maistra.io/ingress-for or egress-for.",
    ),
    "ingress-shared": Cause(
        "ServiceMeshPeers {detail} of {mesh} share ingress gateway {gateway}: each one's policy denies the others.",
        "Give every peer an ingress gateway of its own in the ServiceMeshControlPlane, and name it in the peer.",
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
        "Set spec.remote.discoveryPort of ServiceMeshPeer {system}/{name} in {mesh} to {expected}: oc -n {system} "
        'patch servicemeshpeer {name} --type merge -p \'{{"spec":{{"remote":{{"discoveryPort":{expected}}}}}}}\'.',
    ),
    "wrong-service-port": Cause(
        "{mesh} sends requests for {peer}'s services to port {port}; {peer}'s gateway listens on {expected}.",
        "Set spec.remote.servicePort of ServiceMeshPeer {system}/{name} in {mesh} to {expected}: oc -n {system} patch "
        'servicemeshpeer {name} --type merge -p \'{{"spec":{{"remote":{{"servicePort":{expected}}}}}}}\'.',
    ),
}
