"""The PostgreSQL protocol by hand: for what no client library would send.

Messages are built by small functions that return bytes, so that a test can cut, join and spoil
them; Raw sends bytes and takes messages apart. Nothing is retried and nothing is forgiven.
"""
import socket
import struct

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class Closed(Exception):
    """The other side closed the connection."""


class ServerError(Exception):
    """An ErrorResponse, by its fields."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('C')} {fields.get('M')}")
        self.fields = fields
        self.sqlstate = fields.get("C")
        self.text = fields.get("M")


def message(kind, body=b""):
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def startup(version=PROTOCOL_3_0, **params):
    body = struct.pack("!i", version)
    for name, value in params.items():
        body += name.encode() + b"\0" + str(value).encode() + b"\0"
    body += b"\0"
    return struct.pack("!i", len(body) + 4) + body


def request(code, payload=b""):
    return struct.pack("!ii", 8 + len(payload), code) + payload


def query(sql):
    return message("Q", sql.encode() + b"\0")


def parse(name, sql):
    return message("P", name.encode() + b"\0" + sql.encode() + b"\0" + struct.pack("!h", 0))


def bind(portal, name, params=()):
    body = portal.encode() + b"\0" + name.encode() + b"\0" + struct.pack("!hh", 0, len(params))
    for value in params:
        value = value if isinstance(value, bytes) else str(value).encode()
        body += struct.pack("!i", len(value)) + value
    return message("B", body + struct.pack("!h", 0))


def describe(kind, name=""):
    return message("D", kind.encode() + name.encode() + b"\0")


def execute(portal="", rows=0):
    return message("E", portal.encode() + b"\0" + struct.pack("!i", rows))


def close(kind, name=""):
    return message("C", kind.encode() + name.encode() + b"\0")


def sync():
    return message("S")


def flush():
    return message("H")


def terminate():
    return message("X")


def run_named(name, params=()):
    """Bind, execute and sync a named statement."""
    return bind("", name, params) + execute() + sync()


def error_fields(body):
    return {part[:1].decode(): part[1:].decode(errors="replace")
            for part in body.split(b"\0") if part}


def row_values(body):
    (columns,) = struct.unpack_from("!h", body)
    at, values = 2, []
    for _ in range(columns):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if size < 0 else body[at:at + size].decode(errors="replace"))
        at += max(size, 0)
    return values


class Raw:
    """One connection. login=False leaves it before the startup packet."""

    def __init__(self, address, login=True, timeout=10, version=PROTOCOL_3_0, wrap=None, **params):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if wrap:
            self.sock = wrap(self.sock)
        self.pending = b""
        self.parameters, self.key = {}, None
        if login:
            params.setdefault("user", "postgres")
            params.setdefault("database", "postgres")
            self.send(startup(version, **params))
            self.login_messages = self.until_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, *parts):
        self.sock.sendall(b"".join(parts))

    def bytes(self, n):
        while len(self.pending) < n:
            got = self.sock.recv(1 << 16)
            if not got:
                raise Closed(f"closed with {len(self.pending)} of {n} bytes")
            self.pending += got
        out, self.pending = self.pending[:n], self.pending[n:]
        return out

    def next(self):
        """The next message as (kind, body)."""
        head = self.bytes(5)
        (size,) = struct.unpack("!i", head[1:])
        kind, body = head[:1].decode("latin1"), self.bytes(size - 4)
        if kind == "S":
            name, value = body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode()
        elif kind == "K":
            self.key = body
        return kind, body

    def until_ready(self, errors="raise"):
        """All messages up to ReadyForQuery; an ErrorResponse is raised after it, or returned."""
        out, error = [], None
        while True:
            try:
                kind, body = self.next()
            except (Closed, ConnectionResetError):
                if error and errors == "raise":
                    raise error from None
                raise
            out.append((kind, body))
            if kind == "E":
                error = error or ServerError(error_fields(body))
            if kind == "Z":
                break
        if error and errors == "raise":
            raise error
        return out

    def rows(self, *parts):
        """Sends, and returns the rows that came back as lists of texts."""
        self.send(*parts)
        return [row_values(body) for kind, body in self.until_ready() if kind == "D"]

    def kinds(self, *parts):
        """Sends, and returns the kinds of the messages that came back, as one string."""
        self.send(*parts)
        return "".join(kind for kind, _ in self.until_ready(errors="keep"))

    def query(self, sql):
        return self.rows(query(sql))

    def until_closed(self, timeout=5):
        """All bytes until the other side closes; None when it does not."""
        self.sock.settimeout(timeout)
        got, self.pending = self.pending, b""
        try:
            while part := self.sock.recv(1 << 16):
                got += part
        except ConnectionResetError:
            pass
        except TimeoutError:
            return None
        return got

    def is_closed(self, timeout=5):
        """Waits until the other side has closed; what it says before that is thrown away."""
        return self.until_closed(timeout) is not None
