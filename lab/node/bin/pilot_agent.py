"""`pilot-agent request METHOD PATH`: asks this pod's Envoy and prints the answer; exit code 1 on failure.

Runs without site packages, as a command inside a pod, several times a second while traffic is measured.
"""

import os
import sys

# Not `socket` nor `http.client`: they take two and four times as long to start as all the rest.
from _socket import AF_INET, SOCK_STREAM
from _socket import socket as Socket

ADMIN_PORT = 15000
METRICS = "/stats/prometheus"
# Envoy puts its name before those of all its metrics, also before those that Istio made (lab/node/bootstrap.py).
ENVOYS_NAME, ISTIOS_NAME = b"envoy_istio_", b"istio_"


def ask(method: str, path: str) -> tuple[int, bytes]:
    """(status, body) of one request to the pod's Envoy."""
    connection = Socket(AF_INET, SOCK_STREAM)
    connection.settimeout(30)
    connection.connect((os.environ["POD_IP"], ADMIN_PORT))
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{ADMIN_PORT}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    pieces = []
    while piece := connection.recv(1 << 18):
        pieces.append(piece)
    connection.close()
    start, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    status = int(start.split(b" ", 2)[1])
    return status, unchunked(body) if b"transfer-encoding: chunked" in start.lower() else body


def unchunked(body: bytes) -> bytes:
    """The content of a chunked body."""
    pieces: list[bytes] = []
    position = 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        position = end + 4 + size


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or arguments[0] != "request":
        sys.stderr.write("Usage: pilot-agent request METHOD PATH\n")
        return 1
    path = "/" + arguments[2].lstrip("/")
    try:
        status, body = ask(arguments[1].upper(), path)
    except (OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"Error: failed to execute command on Envoy: {error}\n")
        return 1
    if status != 200:
        sys.stderr.write(f"Error: received unexpected status {status}: {body.decode(errors='replace')}\n")
        return 1
    sys.stdout.buffer.write(body.replace(ENVOYS_NAME, ISTIOS_NAME) if path.startswith(METRICS) else body)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
