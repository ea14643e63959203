"""Whose a connection is: the kernel is asked for one socket, by its addresses. Linux only, as is /proc."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

LOOPBACK = socket.inet_aton("127.0.0.1") + bytes(12)
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLM_F_REQUEST = 1
ANY_STATE = 0xFFFFFFFF
NO_COOKIE = 0xFFFFFFFF

HEADER = struct.Struct("=IHHII")
"""Of a netlink message: length, type, flags, sequence number, port. Source: linux/netlink.h."""
SOCKET = struct.Struct("!HH16s16s")
"""Ports and addresses of a socket, the side that has it first, in network order. Source: linux/inet_diag.h."""
REQUEST = struct.Struct("=BBBBI")
"""What comes before the socket: family, protocol, extensions, padding, states."""
REST = struct.Struct("=III")
"""What comes after it: interface and cookie."""
TABLES = (
    ("/proc/net/tcp", "0100007F"),
    # gRPC dials 127.0.0.1 from a socket of both families.
    ("/proc/net/tcp6", "0000000000000000FFFF00000100007F"),
)
"""Where the kernel lists all sockets, and how 127.0.0.1 is written there."""
INODE_AT = HEADER.size + 4 + SOCKET.size + REST.size + 16
"""In an answer: behind family, state, timer, retransmissions; the socket; expiry, both queues and the user."""


def owner_of(port: int, peer_port: int, pids: Mapping[int, str]) -> str:
    """Which of the processes has the socket on 127.0.0.1 whose own port is `port`, and that is connected to
    `peer_port`; "" where none has it any more.
    """
    inode = _asked_of_kernel(port, peer_port) or _looked_up(port)
    if not inode:
        return ""
    sought = f"socket:[{inode}]"
    for pid, name in pids.items():
        with suppress(OSError):  # it ended just now
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(entry.path) == sought:
                        return name
    return ""


def _asked_of_kernel(port: int, peer_port: int) -> int:
    """The socket's inode, of either family; 0 where there is none, or the kernel cannot be asked so."""
    body = (
        REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, ANY_STATE)
        + SOCKET.pack(port, peer_port, LOOPBACK, LOOPBACK)
        + REST.pack(0, NO_COOKIE, NO_COOKIE)
    )
    header = HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            kernel.send(header + body)
            answer = kernel.recv(4096)
    except OSError:
        return 0
    if HEADER.unpack_from(answer)[1] == NLMSG_ERROR:
        return 0
    return int(struct.unpack_from("=I", answer, INODE_AT)[0])


def _looked_up(port: int) -> int:
    """The same from the kernel's tables: its walk over all buckets takes milliseconds, and a socket can be missed while
    others come and go. 0 where it is not there.
    """
    for table, address in TABLES:
        local = f"{address}:{port:04X}"
        with open(table) as lines:
            for line in lines:
                fields = line.split()
                if fields[1] == local:
                    return int(fields[9])
    return 0
