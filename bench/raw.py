"""Clients that are nothing but a socket: many of them fit into one process, and they do so little
that what is measured is the proxy."""
import socket
import ssl
import struct

import lab


def send_query(sock, query):
    sock.sendall(b"Q" + struct.pack("!I", len(query) + 5) + query.encode() + b"\0")


def connect(address, tls=None, session=None):
    """A socket of a client, encrypted where it is given an ssl.SSLContext (and a session to resume,
    perhaps)."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(20)
    sock.connect(address)
    if not tls:
        return sock
    sock.sendall(struct.pack("!II", 8, 80877103))
    if sock.recv(1) != b"S":
        raise lab.Trouble("TLS was refused")
    return tls.wrap_socket(sock, session=session)


def login(sock, user="app", database=lab.DATABASE):
    body = struct.pack("!I", 196608) + b"".join(
        word.encode() + b"\0" for word in ("user", user, "database", database, ""))
    sock.sendall(struct.pack("!I", len(body) + 4) + body)
    read_until_ready(sock)


def ask(sock, query="SELECT 1"):
    send_query(sock, query)
    read_until_ready(sock)


def tls_context():
    """A client that takes any certificate, as sslmode=require does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_until_ready(sock):
    """ReadyForQuery is the last thing a server says before it waits: Z, 5, a state."""
    seen = b""
    while not (len(seen) >= 6 and seen[-6:-1] == b"Z\0\0\0\5"):
        got = sock.recv(65536)
        if not got:
            raise lab.Trouble(f"a client was refused: {seen[-200:]!r}")
        seen += got
