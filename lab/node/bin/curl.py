"""The part of curl that people use inside pods; `localhost` is this pod, other names come from the hosts file.

Runs without site packages. Environment: POD_IP, LAB_LISTEN (where the app listens), LAB_HOSTS, LAB_OUTBOUND (the
sidecar's way out, for commands that run beside an app).
"""

import http.client
import os
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

LOCAL = ("localhost", "127.0.0.1")
ADMIN, METRICS = 15000, "/stats/prometheus"
# short flag -> long name; those with a value first
WITH_VALUE = {"-o": "output", "-w": "write-out", "-X": "request", "-H": "header", "-d": "data", "-m": "max-time"}
WITH_VALUE |= {"-A": "user-agent", "--connect-timeout": "connect-timeout", "--data-raw": "data"}
PLAIN = {"-s": "silent", "-S": "show-error", "-i": "include", "-k": "insecure", "-f": "fail", "-I": "head"}
PLAIN |= {"-L": "location", "-v": "verbose", "-4": "ipv4"}


class CurlError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"curl: ({code}) {message}")
        self.code = code


def parse(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    urls: list[str] = []
    rest = list(arguments)
    values = set(WITH_VALUE.values())
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name = WITH_VALUE.get(word, word[2:])
            if name in values:
                if not rest:
                    raise CurlError(2, f"option {word}: requires parameter")
                options.setdefault(name, []).append(rest.pop(0))
            elif name in PLAIN.values():
                options[name] = []
            else:
                raise CurlError(2, f"option {word}: is unknown")
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                flag, letters = "-" + letters[0], letters[1:]
                if flag in PLAIN:
                    options[PLAIN[flag]] = []
                elif flag in WITH_VALUE:
                    if not letters and not rest:
                        raise CurlError(2, f"option {flag}: requires parameter")
                    options.setdefault(WITH_VALUE[flag], []).append(letters or rest.pop(0))
                    letters = ""
                else:
                    raise CurlError(2, f"option {flag}: is unknown")
        else:
            urls.append(word)
    return options, urls


def lookup(name: str) -> str:
    if name.replace(".", "").isdigit():
        return name
    with open(os.environ["LAB_HOSTS"]) as hosts:
        for line in hosts:
            address, *names = line.split() or [""]
            if name in names:
                return address
    raise CurlError(6, f"Could not resolve host: {name}")


def ways(host: str) -> list[str]:
    """Addresses to try, best first."""
    if host in LOCAL:
        return list(dict.fromkeys([os.environ["POD_IP"], os.environ.get("LAB_LISTEN", os.environ["POD_IP"])]))
    address = lookup(host)
    sidecar = os.environ.get("LAB_OUTBOUND")
    return [sidecar, address] if sidecar else [address]


def connect(host: str, port: int, timeout: float) -> socket.socket:
    for address in ways(host):
        try:
            return socket.create_connection((address, port), timeout, (os.environ["POD_IP"], 0))
        except TimeoutError:
            raise CurlError(28, f"Connection timed out after {timeout * 1000:.0f} milliseconds") from None
        except OSError as error:
            failure = error
    raise CurlError(7, f"Failed to connect to {host} port {port}: {failure.strerror}")


def fetch(url: str, options: dict[str, list[str]]) -> int:
    parts = urlsplit(url if "://" in url else "http://" + url)
    if parts.scheme not in ("http", "https"):
        raise CurlError(1, f"Protocol {parts.scheme} not supported or disabled in libcurl")
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    timeout = float(options.get("max-time", ["60"])[-1])
    body = "&".join(options["data"]).encode() if "data" in options else None
    method = options.get("request", ["HEAD" if "head" in options else "POST" if body is not None else "GET"])[-1]
    headers = {"Host": parts.netloc, "User-Agent": options.get("user-agent", ["curl/7.61.1"])[-1], "Accept": "*/*"}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    for header in options.get("header", []):
        name, _, value = header.partition(":")
        headers = {key: old for key, old in headers.items() if key.lower() != name.lower()}
        headers[name] = value.strip()
    began = time.monotonic()
    status, size = 0, 0
    try:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.sock = connect(host, port, min(timeout, float(options.get("connect-timeout", ["60"])[-1])))
        connection.sock.settimeout(timeout)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            if "insecure" in options:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if host in LOCAL and (port, parts.path) == (ADMIN, METRICS):
            # Envoy puts its name before those of all its metrics, also before those that Istio made.
            content = content.replace(b"envoy_istio_", b"istio_")
        status, size = answer.status, len(content)
        if "fail" in options and status >= 400:
            raise CurlError(22, f"The requested URL returned error: {status}")
        head = f"HTTP/{answer.version / 10:.1f} {status} {answer.reason}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.getheaders()) + "\r\n"
        shown = (head.encode() if options.keys() & {"include", "head"} else b"") + content
        if "output" in options:
            with open(options["output"][-1], "wb") as file:
                file.write(shown)
        else:
            sys.stdout.buffer.write(shown)
        return 0
    except http.client.RemoteDisconnected:
        raise CurlError(52, "Empty reply from server") from None
    except TimeoutError:
        raise CurlError(28, f"Operation timed out after {timeout * 1000:.0f} milliseconds") from None
    except ssl.SSLCertVerificationError as error:
        raise CurlError(60, f"SSL certificate problem: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise CurlError(35, f"TLS connect error: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise CurlError(56, f"Recv failure: {error}") from None
    finally:
        if "write-out" in options:
            text = options["write-out"][-1].replace("\\n", "\n").replace("\\t", "\t")
            values = {"http_code": f"{status:03d}", "response_code": f"{status:03d}", "size_download": str(size)}
            values["time_total"] = f"{time.monotonic() - began:.6f}"
            for name, value in values.items():
                text = text.replace("%{" + name + "}", value)
            sys.stdout.buffer.flush()
            sys.stdout.write(text)


def main(arguments: list[str]) -> int:
    options: dict[str, list[str]] = {}
    code = 0
    try:
        options, urls = parse(arguments)
        if not urls:
            raise CurlError(2, "no URL specified")
        for url in urls:
            code = fetch(url, options)
    except CurlError as error:
        if "silent" not in options or "show-error" in options:
            sys.stderr.write(f"{error}\n")
        return error.code
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
