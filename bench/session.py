"""A PostgreSQL session of trust and the simple protocol: enough for control and for consoles.

Standard library only, like all of this folder.
"""
import socket
import struct


class PgError(Exception):
    def __init__(self, fields):
        super().__init__(f"{fields.get('C')} {fields.get('M')}")
        self.sqlstate = fields.get("C")


class Session:
    """A PostgreSQL session of trust and the simple protocol: enough for control and consoles."""

    def __init__(self, port, user="postgres", database="postgres", host="127.0.0.1", seconds=30):
        if str(host).startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(seconds)
            self.sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.sock = socket.create_connection((host, port), seconds)
        self.file = self.sock.makefile("rb")
        body = struct.pack("!I", 196608)
        for word in ("user", user, "database", database, "application_name", "bench", ""):
            body += word.encode() + b"\0"
        self.sock.sendall(struct.pack("!I", len(body) + 4) + body)
        self._results()

    def _message(self):
        head = self.file.read(5)
        if len(head) < 5:
            raise PgError({"C": "08006", "M": "connection closed"})
        kind, length = struct.unpack("!cI", head)
        return kind, self.file.read(length - 4)

    def _results(self):
        rows, names, error = [], [], None
        while True:
            kind, body = self._message()
            if kind == b"R" and struct.unpack("!I", body[:4])[0] != 0:
                raise PgError({"C": "28000", "M": "this session knows trust only"})
            if kind == b"E":
                parts = [part for part in body.split(b"\0") if part]
                error = PgError({p[:1].decode(): p[1:].decode(errors="replace") for p in parts})
                if error.sqlstate and error.args[0].startswith(("57P", "28", "3D", "53300")):
                    raise error
            elif kind == b"T":
                names = self._names(body)
            elif kind == b"D":
                rows.append(dict(zip(names, self._values(body))))
            elif kind == b"Z":
                if error:
                    raise error
                return rows

    @staticmethod
    def _names(body):
        names, at = [], 2
        for _ in range(struct.unpack("!H", body[:2])[0]):
            end = body.index(b"\0", at)
            names.append(body[at:end].decode())
            at = end + 19
        return names

    @staticmethod
    def _values(body):
        values, at = [], 2
        for _ in range(struct.unpack("!H", body[:2])[0]):
            (length,) = struct.unpack("!i", body[at:at + 4])
            at += 4
            if length < 0:
                values.append(None)
                continue
            values.append(body[at:at + length].decode(errors="replace"))
            at += length
        return values

    def ask(self, sql):
        """Rows as dicts; PgError when the server says no."""
        text = sql.encode() + b"\0"
        self.sock.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
        return self._results()

    def value(self, sql):
        return next(iter(self.ask(sql)[0].values()))

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
