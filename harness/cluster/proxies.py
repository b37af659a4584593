"""Which HTTP proxy a URL is reached by: the one decision for every client of the suite.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are honoured (host names, domains, addresses, networks). Loopback is
never proxied, as with kubectl: a forwarded port, the lab and kind are on this machine.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy


@dataclass(frozen=True)
class Proxy:
    """A proxy: `url` without its credentials, which never show; `whole` with them."""

    url: str
    whole: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Proxy:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return cls(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), parts.geturl())

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def headers(self) -> dict[str, str]:
        """What the proxy is told of its user, who may have none."""
        parts = urlsplit(self.whole)
        if not parts.username:
            return {}
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"proxy-authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def proxy_for(url: str) -> Proxy | None:
    """The proxy of the environment for this URL; None where it is reached directly."""
    if is_loopback(urlsplit(url).hostname or ""):
        return None
    found = select_proxy(url, get_environ_proxies(url))
    return Proxy.of(found) if found else None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def get(url: str, timeout: float) -> requests.Response:
    """One GET, by the proxy that `proxy_for` names. Raises requests.RequestException."""
    with requests.Session() as session:
        session.trust_env = False
        proxy = proxy_for(url)
        return session.get(url, timeout=timeout, proxies={urlsplit(url).scheme: proxy.whole} if proxy else {})
