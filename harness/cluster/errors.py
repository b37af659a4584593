"""What a cluster did not do, for people: mesh, what was asked, what it said, and what to do about it."""

from __future__ import annotations

import re

FAILED_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)"')


class ClusterError(Exception):
    """A cluster did not do what it was asked: mesh, what was asked, what it said, HTTP status (0: no answer).

    retry_after: after how many seconds the server wants to be asked again; None where it does not say. lasting: asking
    again soon would not help, or was in vain already.
    """

    remedy = ""
    lasting = False
    retry_after: float | None = None

    def __init__(self, mesh: str, what: str, detail: str, status: int = 0) -> None:
        self.mesh, self.what, self.detail, self.status = mesh, what, detail, status
        self.sentence = f"{what}: {detail}{'. ' + self.remedy if self.remedy else ''}"  # for who knows the mesh
        super().__init__(f"{mesh}: {self.sentence}")


class KubeconfigError(ClusterError):
    remedy = "Give a kubeconfig file that `kubectl --kubeconfig FILE get ns` works with"


class Unreachable(ClusterError):
    remedy = "Check the server address in the kubeconfig, the network and HTTPS_PROXY / NO_PROXY"


class CertificateError(Unreachable):
    """The server's certificate is not believed; asking again does not change that."""

    remedy = (
        "Name the authority that signed it by `certificate-authority` or `certificate-authority-data` of this cluster "
        "in the kubeconfig (`insecure-skip-tls-verify` believes anybody). Where a proxy on the way breaks TLS open, "
        "the authority is the proxy's, or NO_PROXY has to name this server"
    )


class CertificateOfAnotherHost(CertificateError):
    remedy = (
        "Use a server address in the kubeconfig that the certificate is made out to, or name one of its names by "
        "`tls-server-name`"
    )


class CertificateNotInForce(CertificateError):
    remedy = "Renew the certificate of the API server, or set the clock of this machine (chrony) if that one is wrong"


class Unauthorized(ClusterError):
    remedy = "Log in again (`oc login`) or renew the token in the kubeconfig"


class Forbidden(ClusterError):
    lasting = True
    remedy = "Ask an administrator for a Role with this permission, or use another user"


class QuotaExceeded(Forbidden):
    remedy = "Raise the ResourceQuota that it names, or free some of it"


class NotFound(ClusterError):
    """There is no such object, or its kind is not served."""


class Conflict(ClusterError):
    """The object exists already or was changed meanwhile."""


class Invalid(ClusterError):
    """The API server or a webhook refused the object (400, 422)."""


class Gone(ClusterError):
    """A resource version is too old to go on from (410)."""


class ServerError(ClusterError):
    """The API server kept failing (5xx, 429) for as long as the request was repeated."""


class WebhookFailed(ServerError):
    """The API server got no answer from `webhook`, which it asks before it takes such an object."""

    remedy = (
        "See the pods behind this webhook (of *.maistra.io the operator's: Deployment istio-operator), their events "
        "and logs, and run again when they listen"
    )

    @property
    def webhook(self) -> str:
        found = FAILED_WEBHOOK.search(self.detail)
        return found[1] if found else ""
