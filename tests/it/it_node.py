"""node-postgres: a client nobody here wrote, in its own words (node_suite.js).

Debian's package node-pg serves if it is there. Otherwise npm installs `pg` from the registry npm is
set up for, once, into a cache outside the tree.
"""
import os
import shutil
import subprocess
from pathlib import Path

from harness import PASSWORD, Failed, Skip, case, output_of
from it_tls import Certificates

HERE = Path(__file__).resolve().parent
DEBIAN = "/usr/share/nodejs"


def has_pg(path):
    return subprocess.run(["node", "-e", "require('pg')"], env={**os.environ, "NODE_PATH": path},
                          capture_output=True, check=False).returncode == 0


def node_path():
    if not shutil.which("node"):
        raise Skip("no node here (make deps)")
    if has_pg(DEBIAN):
        return DEBIAN
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pgweir-tests" / "node"
    modules = str(cache / "node_modules")
    if not has_pg(modules):
        if not shutil.which("npm"):
            raise Skip("neither Debian's node-pg nor npm is here")
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache),
                               "pg@8"], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode or not has_pg(modules):
            raise Skip(f"npm could not install pg: {done.stderr[-200:]!r}")
    return modules


def suite(t, name, weir, **env):
    status, out, said = output_of(
        ["node", HERE / "node_suite.js", name], check=False, seconds=50,
        env={"NODE_PATH": node_path(), "PGHOST": "127.0.0.1", "PGPORT": str(weir.port),
             "PGUSER": "postgres", "PGDATABASE": "postgres", **env})
    if status:
        raise Failed(f"node_suite.js {name}: {out}{said}")
    t.note(out.strip())


@case(each={name: name for name in ("simple", "transactions", "errors", "types", "cancel", "pool",
                                    "big")})
def node_postgres(t, name):
    suite(t, name, t.weir(default_pool_size=3))


@case(beyond="1.18 has no prepared statements in transaction mode",
      each={name: name for name in ("prepared", "prepared_everywhere")})
def node_postgres_named_statements(t, name):
    suite(t, name, t.weir(default_pool_size=3))


@case(beyond="startup parameters end in FATAL")
def node_postgres_startup_options(t):
    suite(t, "options", t.weir(default_pool_size=1))


@case(beyond="a wrong password is 08P01")
def node_postgres_scram_and_tls(t):
    c = Certificates(t.dir)
    weir = t.weir(auth_type="scram-sha-256", userlist={"app": PASSWORD},
                  client_tls_sslmode="require", client_tls_key_file=c.path("server.key"),
                  client_tls_cert_file=c.path("server.crt"))
    suite(t, "tls", weir, PGUSER="app", PGPASSWORD=PASSWORD, CA=str(c.path("ca.crt")))
