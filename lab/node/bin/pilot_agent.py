"""`pilot-agent request METHOD PATH`: asks this pod's Envoy and prints the answer; exit code 1 on failure.

Runs without site packages, as a command inside a pod.
"""

import os
import socket
import sys

ADMIN_PORT = 15000


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or arguments[0] != "request":
        sys.stderr.write("Usage: pilot-agent request METHOD PATH\n")
        return 1
    method, path = arguments[1].upper(), "/" + arguments[2].lstrip("/")
    request = f"{method} {path} HTTP/1.0\r\nHost: localhost:{ADMIN_PORT}\r\nContent-Length: 0\r\n\r\n"
    try:
        with socket.create_connection((os.environ["POD_IP"], ADMIN_PORT), timeout=30) as connection:
            connection.sendall(request.encode())
            raw = b""
            while more := connection.recv(1 << 18):
                raw += more
    except OSError as error:
        sys.stderr.write(f"Error: failed to execute command on Envoy: {error}\n")
        return 1
    head, _, body = raw.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        text = body.decode(errors="replace")
        sys.stderr.write(f"Error: received unexpected status {b''.join(status).decode()}: {text}\n")
        return 1
    sys.stdout.buffer.write(body)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
