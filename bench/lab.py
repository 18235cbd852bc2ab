"""The laboratory of drill.py and bench.py: PostgreSQL, poolers, clocks to read them by.

Standard library only. Everything listens on loopback, lives in a folder of its own, and dies with
the process that started it. PostgreSQL and the poolers refuse to run as root; then they run as the
user tests/scratch.sh gives their files to.
"""
import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from session import PgError, Session

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(os.environ.get("O") or "build")
OUT = OUT if OUT.is_absolute() else ROOT / OUT
SCRATCH = ROOT / "tests" / "scratch.sh"
QUICK = os.environ.get("QUICK", "") not in ("", "0")
DATABASE = "drill"
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


class Trouble(Exception):
    """What the operator of a bench has to read, without a traceback."""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def run(command, **more):
    """Output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False,
                          **more)
    if done.returncode:
        raise Trouble(f"{Path(str(command[0])).name} failed: {done.stderr.strip()[-800:]}")
    return done.stdout


def wait_until(what, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Trouble(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)


# ---- processes ------------------------------------------------------------------------------


def server_user():
    """Popen's user and groups for programs that refuse root."""
    if os.getuid() != 0:
        return {}
    import pwd
    names = [p.pw_name for p in pwd.getpwall()]
    who = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def give_away(path):
    if os.getuid() == 0:
        who = server_user()
        os.chown(path, who["user"], who["group"])


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def start(command, as_server=False, first=False, cpus=None, **more):
    """A child that ends when we end; its own session: Ctrl-C reaches it only through us. `first`
    puts it before everybody else on its CPUs, where we may do that (as root)."""
    who = server_user() if as_server else {}

    def prepare():
        die_with_parent()
        if cpus:
            os.sched_setaffinity(0, cpus)
        if first:
            os.setpriority(os.PRIO_PROCESS, 0, -15)

    first = first and os.getuid() == 0
    if first and as_server:  # the priority must be taken before root is given up
        command = ["setpriv", f"--reuid={who['user']}", f"--regid={who['group']}",
                   "--clear-groups", "setpriv", "--pdeathsig", "TERM", *command]
        who = {}
    more.setdefault("start_new_session", True)
    return subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                            preexec_fn=prepare, **who, **more)


def stop(process, how=signal.SIGTERM, seconds=20):
    """Ends a process we started; its exit status."""
    if process is None:
        return None
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def split_cpus():
    """(PostgreSQL's, everybody else's): a database of one core, as on a machine of its own, so that
    a bench says the same on two cores and on twenty. One core only: all share it."""
    cpus = sorted(os.sched_getaffinity(0))
    return ({cpus[0]}, set(cpus[1:])) if len(cpus) > 1 else (set(cpus), set(cpus))


def workplace():
    """The folder of cluster and data, kept from run to run: below the build folder, or in /var/tmp
    where the server's user cannot reach that."""
    place = OUT / "lab"
    place.mkdir(parents=True, exist_ok=True)
    who = server_user()
    if who and subprocess.run(["test", "-x", str(place)], check=False, **who).returncode:
        place = Path(f"/var/tmp/pgweir-lab-{os.getuid()}")
        place.mkdir(mode=0o755, exist_ok=True)
        if place.is_symlink() or place.stat().st_uid != os.getuid():
            raise Trouble(f"{place} is somebody else's")
    return place


# ---- clocks ---------------------------------------------------------------------------------


def cpu_ns(pid):
    """Nanoseconds of CPU of all threads of a process: no ticks, so that short runs can be told."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        except OSError:
            continue  # a thread that ended a moment ago
    return total


def rss_kb(pid):
    """Resident kilobytes, all of them."""
    fields = {}
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            name, _, value = line.partition(":")
            fields[name] = value
    return int(fields["VmRSS"].split()[0])


# ---- PostgreSQL -----------------------------------------------------------------------------


class Postgres:
    """A scratch cluster, kept in its folder from run to run."""

    def __init__(self, directory, **settings):
        self.dir = Path(directory)
        if not (self.dir / "data" / "PG_VERSION").exists():
            shutil.rmtree(self.dir, ignore_errors=True)
            run([SCRATCH, "init", self.dir] + [f"{k}={v}" for k, v in settings.items()])
        env = dict(line.split("=", 1) for line in run([SCRATCH, "env", self.dir]).splitlines())
        self.port, self.sock = int(env["PGPORT"]), env["PGSOCKET"]
        self.bin = Path(run([SCRATCH, "bin"]).strip())
        self.process = None

    def start(self, cpus=None):
        """Serves until stop(), or our end. scratch.sh makes the session itself: as the leader of
        one it would have to fork, and we would hold the wrong process."""
        self.process = start([SCRATCH, "run", self.dir], cpus=cpus, start_new_session=False)
        run([SCRATCH, "wait", self.dir])
        if self.process.poll() is not None:
            raise Trouble(f"PostgreSQL did not start, or another one has it: see {self.dir}/log")
        return self

    def stop(self, how=signal.SIGINT):
        """In order; SIGQUIT is `pg_ctl stop -m immediate`, after which it has to recover."""
        stop(self.process, how, 60)
        self.process = None

    def session(self, database="postgres"):
        return Session(self.port, database=database)

    def conninfo(self, user="app", database=DATABASE, unix=False):
        host = self.sock if unix else "127.0.0.1"
        return (f"host={host} port={self.port} user={user} dbname={database} "
                f"sslmode=disable gssencmode=disable connect_timeout=10")


ACCOUNTS_N = 1_000_000
# With their schema, for pg_dump leaves an empty search_path to whoever gets its server next, behind
# poolers that do not see to that.
TABLES = [f"public.ledger_{i}" for i in range(1, 5)]
# The users' tables are pgbench's of scale 10 (150 MB). The ledgers are what a backup drags out and
# users never touch: 4 x 90 MB of numbers and times, as ledgers have, which cost the server more to
# write out than a client to read; the whole is several times shared_buffers.
DATA = ["""
    CREATE TABLE pgbench_branches (bid int, bbalance int, filler char(88));
    CREATE TABLE pgbench_tellers (tid int, bid int, tbalance int, filler char(84));
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp,
                                  filler char(22));
    CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int,
                                   filler char(84)) WITH (fillfactor = 90);
    INSERT INTO pgbench_branches SELECT i, 0, '' FROM generate_series(1, 10) i;
    INSERT INTO pgbench_tellers SELECT i, (i - 1) / 10 + 1, 0, '' FROM generate_series(1, 100) i;
    INSERT INTO pgbench_accounts
        SELECT i, (i - 1) / 100000 + 1, 0, '' FROM generate_series(1, 1000000) i;
    ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid);
    ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid);
    ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)"""]
DATA += [f"""
    CREATE TABLE {table} (
        id bigint, account int, booked timestamptz, valued timestamptz, entered timestamptz,
        changed timestamptz, amount numeric, balance numeric, tax numeric, fee numeric,
        rate float8, weight float8, note text);
    INSERT INTO {table}
        SELECT i, i % 1000000, t, t + interval '1 day', t - interval '1 hour',
               t + interval '5 min', n, n * 7.25, n * 0.19,
               n * 0.01, i / 7.0, i / 13.0, repeat(md5(i::text), 2)
        FROM generate_series(1, 400000) i, LATERAL (SELECT '2024-01-01'::timestamptz
            + i * interval '77 seconds' AS t, (i * 37 % 9999999) / 100.0 AS n) v"""
         for table in TABLES]
# Written last: data of another version, or half of it, is made again.
DATA_VERSION = 2
DATA += [f"CREATE TABLE complete AS SELECT {DATA_VERSION} AS version"]


def has_data(control):
    try:
        return bool(control.ask(f"SELECT 1 FROM complete WHERE version = {DATA_VERSION}"))
    except PgError:
        return False


def open_cluster(cpus=None):
    """The cluster with its data, started; both are made at the first run. Settings are a small
    server's: the defaults but for durability, which a scratch disk would only add noise to."""
    pg = Postgres(workplace() / "pg", max_connections=100, full_page_writes="off",
                  synchronous_commit="off", autovacuum="off", max_wal_size="4GB")
    pg.start(cpus)
    with pg.session() as control:
        control.ask("ALTER SYSTEM RESET ALL")  # what a bench that was killed may have left
        control.ask("SELECT pg_reload_conf()")
        if not control.ask(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
            for role in ("app", "backup"):
                control.ask(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
            control.ask("GRANT pg_read_all_data TO backup")
            control.ask(f"CREATE DATABASE {DATABASE} OWNER app")
    with Session(pg.port, user="app", database=DATABASE, seconds=300) as control:
        if not has_data(control):
            say("making the data (500 MB, once)")
            control.ask("DROP OWNED BY app")
            for statement in DATA:
                control.ask(statement)
    with Session(pg.port, database=DATABASE, seconds=300) as control:
        control.ask("TRUNCATE pgbench_history")
        control.ask("VACUUM ANALYZE")
        control.ask("CHECKPOINT")
    return pg


# ---- poolers --------------------------------------------------------------------------------


class Pooler:
    """One pgbouncer or pgweir in front of a Postgres: an ini in the dialect both read. `own` holds
    what only pgweir knows: settings of [pgbouncer], `text`, whole sections, and `under`, a command
    it is run by."""

    def __init__(self, directory, binary, pg, name, databases=None, users="", own=None, **settings):
        self.name, self.pg, self.binary = name, pg, str(binary)
        self.is_weir = Path(binary).name.startswith("pgweir")
        self.dir = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))  # a socket's path is short
        self.log_path = Path(directory) / f"{name}.log"
        os.chmod(self.dir, 0o755)
        give_away(self.dir)
        self.port = free_port()
        self.status_port = free_port()
        self.sock = str(self.dir)
        own = dict(own or {}) if self.is_weir else {}
        text, self.under = own.pop("text", ""), own.pop("under", [])
        if self.is_weir:
            own = {"status_listen_addr": "127.0.0.1", "status_port": self.status_port, **own}
        databases = databases or {DATABASE: f"host=127.0.0.1 port={pg.port} dbname={DATABASE}"}
        settings = {"listen_addr": "127.0.0.1", "listen_port": self.port,
                    "unix_socket_dir": self.dir, "auth_type": "trust",
                    "auth_file": self.dir / "users.txt", "admin_users": "postgres",
                    "pool_mode": "transaction", **own, **settings}
        lines = ["[databases]"] + [f"{k} = {v}" for k, v in databases.items()]
        lines += ["[users]", users] if users else []
        lines += ["[pgbouncer]"] + [f"{k} = {v}" for k, v in settings.items()]
        self.ini = self.dir / "pooler.ini"
        self.ini.write_text("\n".join(lines) + "\n" + text)
        secrets = self.dir / "users.txt"
        secrets.write_text("".join(f'"{u}" "{u}"\n' for u in ("postgres", "app", "backup")))
        self.process = None

    def start(self, first=False, cpus=None):
        with open(self.log_path, "ab") as log:
            self.process = start([*self.under, self.binary, self.ini], as_server=True,
                                 first=first, cpus=cpus, stdout=log, stderr=log)
        wait_until(f"{self.name} listens (see {self.log_path})", self._listens)
        return self

    def _listens(self):
        if self.process.poll() is not None:
            tail = self.log_path.read_text(errors="replace")[-600:]
            raise Trouble(f"{self.name} ended with {self.process.returncode}:\n{tail}")
        try:
            connect(self.port).close()
        except OSError:
            return False
        return os.path.exists(f"{self.sock}/.s.PGSQL.{self.port}")

    @property
    def pid(self):
        return self.process.pid

    def conninfo(self, user="app", database=DATABASE, unix=False, tls=False):
        host = self.sock if unix else "127.0.0.1"
        return (f"host={host} port={self.port} user={user} dbname={database} "
                f"sslmode={'require' if tls else 'disable'} gssencmode=disable connect_timeout=10")

    def console(self):
        return Session(self.port, database="pgbouncer")

    def stop(self):
        """Ends it; its exit status, which must be 0 of a healthy one. To PgBouncer before 1.23,
        TERM means at once what QUIT means since."""
        status = stop(self.process, signal.SIGQUIT if self.is_weir else signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)
        return status


class Certificate:
    """A key and a certificate that nobody vouches for, for poolers whose clients speak TLS."""

    KEYS = {"rsa": ["rsa:2048"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]}

    def __init__(self, key="rsa"):
        self.dir = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
        os.chmod(self.dir, 0o755)
        self.key, self.cert = self.dir / "server.key", self.dir / "server.crt"
        run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey",
             *self.KEYS[key], "-keyout", self.key, "-out", self.cert])
        give_away(self.key)

    def settings(self):
        return {"client_tls_sslmode": "require", "client_tls_key_file": self.key,
                "client_tls_cert_file": self.cert}

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), 1)


def free_port():
    """A port below those the kernel gives to outgoing connections, tried by binding it."""
    while True:
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def pgbouncer_path():
    path = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") \
        or shutil.which("pgbouncer")
    if not path or not os.access(path, os.X_OK):
        raise Trouble("no pgbouncer to compare with: install Debian's package, or PGBOUNCER=path")
    return path


def pgbouncer_version(path):
    return run([path, "--version"]).splitlines()[0]


def weir_path():
    """build/pgweir, or None where it is not built yet; WEIR=path names another build."""
    path = Path(os.environ.get("WEIR") or OUT / "pgweir")
    return path if os.access(path, os.X_OK) else None


def tool(name):
    """A program of this folder, built by make; TOOLS=dir names another place."""
    path = Path(os.environ.get("TOOLS") or OUT / "bench") / name
    if not os.access(path, os.X_OK):
        raise Trouble(f"{path} is missing: make bench-build")
    return path


def spans(process):
    """The JSON a load generator wrote when it ended."""
    out, err = process.communicate(timeout=120)
    if process.returncode:
        raise Trouble(f"{process.args[0]} ended with {process.returncode}: {err.strip()[-400:]}")
    return json.loads(out)


def median(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
