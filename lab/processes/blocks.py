"""Takes an address block that no other lab on this machine uses."""

from __future__ import annotations

import errno
import random
import socket

from lab.addresses import Block

OCTETS = range(16, 251)
_LOCK_PORT = 20000


def take_block() -> tuple[Block, socket.socket]:
    """A free block and the socket that locks it: the block is ours until the socket is closed.

    OSError when all blocks are taken, or where addresses of 127.0.0.0/8 cannot be bound.
    """
    for octet in random.sample(OCTETS, len(OCTETS)):
        block = Block(octet)
        lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            lock.bind((block.lock, _LOCK_PORT))
        except OSError as error:
            lock.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return block, lock
    raise OSError(errno.EADDRINUSE, "every address block from 127.16.0.0/16 to 127.250.0.0/16 is used by another lab")
