"""What a kubeconfig can hold: client certificates, exec plugins, tokens of files, proxies; TLS is verified."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CONFIG_MAP
from harness.cluster.transport import ClusterError, KubeconfigError, Unreachable
from selftests.support.api import Http, api_server


@pytest.fixture(scope="module")
def lab():
    with api_server() as settings:
        yield settings


@pytest.fixture
def opened(lab, tmp_path):
    """A Cluster by a kubeconfig with this user, and other entries of the cluster."""
    with contextlib.ExitStack() as stack:

        def build(user, **entry):
            content = yaml.safe_load(lab.kubeconfig.read_text())
            content["users"][0]["user"] = user
            content["clusters"][0]["cluster"].update(entry)
            (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
            found = Cluster("mesh1", tmp_path / "kubeconfig", patience=0.3)
            stack.callback(found.close)
            return found

        yield build


def embedded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def test_a_client_certificate_is_enough(lab, opened):
    cluster = opened(
        {
            "client-certificate-data": embedded(lab.path / "admin.crt"),
            "client-key-data": embedded(lab.path / "admin.key"),
        }
    )
    assert cluster.version() == lab.kubernetes_version


def changed(lab, directory, section, entry):
    """The lab's kubeconfig with another first entry of a section."""
    content = yaml.safe_load(lab.kubeconfig.read_text())
    content[section][0] = entry
    file = directory / "changed"
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_context_whose_user_is_not_there_is_named(lab, tmp_path):
    file = changed(lab, tmp_path, "users", {"name": "jane", "user": {"token": "t"}})
    with pytest.raises(KubeconfigError, match=r"user admin@mesh1 is not in it; users there are: jane") as caught:
        Cluster("mesh1", file)
    assert str(file) in str(caught.value)


def test_a_cluster_without_a_server_is_named(lab, tmp_path):
    file = changed(lab, tmp_path, "clusters", {"name": "mesh1", "cluster": {}})
    with pytest.raises(KubeconfigError, match=r"cluster mesh1 has no `server`"):
        Cluster("mesh1", file)


def test_a_cluster_that_is_not_there_is_named(lab, tmp_path):
    file = changed(lab, tmp_path, "clusters", {"name": "other", "cluster": {"server": "https://127.0.0.1"}})
    with pytest.raises(KubeconfigError, match="mesh1"):
        Cluster("mesh1", file)


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("gcp", r"auth-provider gcp, which was removed from Kubernetes clients in 1\.26"),
        ("azure", r"auth-provider azure, which was removed from Kubernetes clients in 1\.26"),
        ("oidc", r"auth-provider oidc gave no credential"),
    ],
)
def test_an_auth_provider_that_gives_nothing_is_named_with_what_to_use_instead(opened, provider, said):
    with pytest.raises(KubeconfigError, match=said + r".*Use an exec plugin \(`exec`\) or a `token`"):
        opened({"auth-provider": {"name": provider}})


API_VERSION = "client.authentication.k8s.io/v1"


class Plugin:
    """An exec plugin: a script that gives `status`, or fails with `words`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.user = {
            "exec": {
                "apiVersion": API_VERSION,
                "command": sys.executable,
                "args": [str(path), "--client-secret=hidden"],
                "interactiveMode": "Never",
                "installHint": "Get it from the vault team.",
            }
        }

    @property
    def _counted(self) -> str:
        return f"open({str(self.path) + '.runs'!r}, 'a').write('.')\n"

    @property
    def runs(self) -> int:
        """How often it ran."""
        return len(self.path.with_name(self.path.name + ".runs").read_text())

    def gives(self, **status: str) -> None:
        answer = {"kind": "ExecCredential", "apiVersion": API_VERSION, "status": status}
        self.path.write_text(f"{self._counted}print({json.dumps(json.dumps(answer))})\n")

    def fails(self, words: str) -> None:
        self.path.write_text(f"import sys\nsys.exit({words!r})\n")


@pytest.fixture
def plugin(tmp_path):
    return Plugin(tmp_path / "plugin.py")


@pytest.fixture
def users(lab):
    """The lab's switch for users: `put` a token, `drop` it."""
    http = Http(lab)
    known = set()

    class Users:
        def put(self, token):
            http.must("POST", "/lab/users", {"token": token, "name": "visitor"})
            known.add(token)
            return token

        def drop(self, token):
            known.discard(token)
            http.must("DELETE", "/lab/users", {"token": token})

    yield Users()
    for token in known:
        http.must("DELETE", "/lab/users", {"token": token})


def test_an_exec_plugin_is_asked_for_the_token(lab, opened, plugin):
    plugin.gives(token=lab.token)
    assert opened(plugin.user).groups()


def test_an_exec_plugin_may_give_a_client_certificate(lab, opened, plugin):
    certificate, key = ((lab.path / name).read_text() for name in ("admin.crt", "admin.key"))
    plugin.gives(clientCertificateData=certificate, clientKeyData=key)
    assert opened(plugin.user).groups()


def test_an_exec_plugin_that_fails_is_named_with_what_it_said(opened, plugin):
    plugin.fails("no session, run `vault login`")
    with pytest.raises(KubeconfigError) as caught:
        opened(plugin.user)
    said = str(caught.value)
    for part in (
        "mesh1",
        f"exec plugin {sys.executable}",
        "no session, run `vault login`",
        "Get it from the vault team.",
    ):
        assert part in said
    assert "hidden" not in said


def test_an_exec_plugin_that_is_not_there_is_named(opened, plugin):
    plugin.user["exec"]["command"] = "no-such-plugin"
    with pytest.raises(KubeconfigError, match=r"exec plugin no-such-plugin gave no credential.*No such file"):
        opened(plugin.user)


@pytest.mark.parametrize("told", [{"expirationTimestamp": "2020-01-01T00:00:00Z"}, {}], ids=["told", "untold"])
def test_an_exec_plugin_is_asked_again_when_its_token_expired(opened, plugin, users, told):
    plugin.gives(token=users.put("first"), **told)
    cluster = opened(plugin.user)
    assert cluster.groups()
    users.drop("first")
    plugin.gives(token=users.put("second"), **told)
    assert cluster.groups()


def test_an_exec_plugin_runs_once_for_all_who_use_a_cluster_and_once_per_refusal(opened, plugin, users):
    plugin.gives(token=users.put("first"))
    clusters = [opened(plugin.user) for _ in range(3)]
    assert [bool(cluster.groups()) for cluster in clusters] == [True] * 3
    assert plugin.runs == 1
    users.drop("first")
    plugin.gives(token=users.put("second"))
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda cluster: bool(cluster.groups()), clusters)) == [True] * 3
    assert plugin.runs == 2


def test_an_exec_plugin_runs_once_when_its_token_expires_under_many_requests(opened, plugin, users):
    plugin.gives(token=users.put("first"), expirationTimestamp="2020-01-01T00:00:00Z")
    clusters = [opened(plugin.user) for _ in range(2)]
    plugin.gives(token=users.put("second"), expirationTimestamp="2999-01-01T00:00:00Z")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda cluster: cluster.groups(), clusters * 3))
    assert plugin.runs == 2


def test_an_exec_plugin_that_fails_when_its_token_expired_is_named(opened, plugin, users):
    plugin.gives(token=users.put("first"))
    cluster = opened(plugin.user)
    assert cluster.groups()
    users.drop("first")
    plugin.fails("session over")
    with pytest.raises(KubeconfigError, match=r"exec plugin .* gave no credential.*session over"):
        cluster.wait("nothing", CONFIG_MAP, until=lambda _: None, timeout=600)


def test_a_token_file_is_read_again_when_its_token_expired(opened, users, tmp_path):
    file = tmp_path / "token"
    file.write_text(users.put("first"))
    cluster = opened({"tokenFile": str(file)})
    assert cluster.groups()
    users.drop("first")
    file.write_text(users.put("second"))
    assert cluster.groups()


def test_a_server_of_another_authority_is_not_believed(lab, opened, tmp_path):
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes((lab.path / "admin.crt").read_bytes())
    cluster = opened({"token": lab.token}, **{"certificate-authority-data": embedded(stranger)})
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        cluster.version()


class Proxy:
    """An HTTP proxy for CONNECT that remembers what it was asked to reach.

    Every name leads to the host `target`, as long as that is given.
    """

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.target = ""
        self.wanted = ""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def restrict(self) -> str:
        """From now on credentials are needed: its URL with them."""
        self.wanted = base64.b64encode(b"user:p@ss/w").decode()
        return self.url.replace("//", "//user:p%40ss%2Fw@")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        target = head.split()[1].decode()
        with client:
            if self.wanted and f"proxy-authorization: Basic {self.wanted}".lower() not in head.decode().lower():
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                return
            self.reached.append(target)
            host, _, port = target.rpartition(":")
            with socket.create_connection((self.target or host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(monkeypatch):
    found = Proxy()
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.listener.close()


NAME = "api.mesh1.example"


def asked_of_a_pod(cluster: Cluster) -> str:
    """What a command's websocket came to: the lab's API server has no pods."""
    with pytest.raises(ClusterError) as caught:
        cluster.exec("default", "nobody", "c", ["true"])
    return str(caught.value)


@pytest.fixture
def far(lab, opened, proxy):
    """A cluster whose name only the proxy knows; gives the Cluster and what the proxy is asked for."""
    address, _, port = lab.server.removeprefix("https://").rpartition(":")
    proxy.target = address
    entry = {"server": f"https://{NAME}:{port}", "tls-server-name": address}
    return lambda **more: opened({"token": lab.token}, **entry, **more), f"{NAME}:{port}"


def test_the_proxy_of_the_environment_is_used_and_no_proxy_spares_it(far, proxy, monkeypatch):
    build, target = far
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    cluster = build()
    assert cluster.groups()
    assert "404" in asked_of_a_pod(cluster)
    assert proxy.reached == [target, target]
    monkeypatch.setenv("NO_PROXY", "elsewhere.example, .mesh1.example")
    cluster = build()
    with pytest.raises(Unreachable, match="resolve"):
        cluster.groups()
    assert "Name or service not known" in asked_of_a_pod(cluster)
    assert proxy.reached == [target, target]


def test_loopback_is_reached_without_the_proxy_of_the_environment(lab, opened, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    cluster = opened({"token": lab.token})
    assert cluster.groups()
    assert "404" in asked_of_a_pod(cluster)
    assert proxy.reached == []


def test_the_proxy_of_the_kubeconfig_is_used_whatever_no_proxy_says(far, proxy, monkeypatch):
    build, target = far
    monkeypatch.setenv("NO_PROXY", "mesh1.example")
    cluster = build(**{"proxy-url": proxy.url})
    assert cluster.groups()
    assert "404" in asked_of_a_pod(cluster)
    assert proxy.reached == [target, target]


@pytest.mark.parametrize("given", ["environment", "kubeconfig"])
def test_a_proxy_is_told_its_user(far, proxy, monkeypatch, given):
    build, target = far
    url = proxy.restrict()
    if given == "environment":
        monkeypatch.setenv("HTTPS_PROXY", url)
    cluster = build(**({"proxy-url": url} if given == "kubeconfig" else {}))
    assert cluster.groups()
    assert "404" in asked_of_a_pod(cluster)
    assert proxy.reached == [target, target]


def test_a_proxy_that_refuses_its_user_is_an_error_without_the_password(far, proxy, monkeypatch):
    build, _ = far
    monkeypatch.setenv("HTTPS_PROXY", proxy.restrict().replace("p%40ss", "wr%40ng"))
    cluster = build()
    with pytest.raises(Unreachable, match="407") as caught:
        cluster.groups()
    for said in (str(caught.value), asked_of_a_pod(cluster)):
        assert "407" in said
        assert "wr" + "%40ng" not in said
        assert "wr@ng" not in said
        assert base64.b64encode(b"user:wr@ng/w").decode() not in said
