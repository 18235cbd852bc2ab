"""Parallel jobs: pg_dump -j and its kind need all their servers at once, and none can end before.

Real tools against small pools. A dump that ends with status 0 is restored, and the copy compared
with what was dumped."""
import re

from harness import case, holds, same, wait_until

BEYOND = "it lets half of a parallel dump in, and there that stands"
TABLES = 12


def populate(pg, name, rows_n):
    """A database of some tables, with indexes and a key between two of them."""
    pg.database(name)
    with pg.connect(name) as direct:
        for i in range(TABLES):
            direct.execute(f"CREATE TABLE t{i} AS SELECT g AS id, md5(g::text) AS text, "
                           f"g * {i + 1} AS n FROM generate_series(1, {rows_n}) g")
            direct.execute(f"ALTER TABLE t{i} ADD PRIMARY KEY (id)")
        direct.execute("ALTER TABLE t1 ADD FOREIGN KEY (id) REFERENCES t0 (id)")
    return name


def contents(pg, name):
    """What a database holds: its definition, and a sum over each table."""
    with pg.connect(name) as direct:
        sums = [direct.execute(f"SELECT count(*), sum(hashtext(t::text)::bigint) FROM t{i} t")
                .fetchone() for i in range(TABLES)]
        keys = direct.execute("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
                              "WHERE connamespace = 'public'::regnamespace ORDER BY 1").fetchall()
    return sums, keys


def dump(t, weir, name, jobs_n, to):
    command = [t.pg.bin / "pg_dump", "-Fd", "-j", jobs_n, "-f", t.dir / to, "-d",
               weir.dsn(dbname=name)]
    return t.spawn(command, stderr=(t.dir / f"{to}.err").open("w"))


def ends_well(t, child, to, seconds=40):
    status = child.wait(seconds)
    same(status, 0, f"exit status; it said: {(t.dir / f'{to}.err').read_text()}")


def restored_equals(t, weir, source, to, jobs_n=4):
    copy = t.pg.database(f"{source}_{to}")
    weir.tool("pg_restore", "-j", jobs_n, "-d", weir.dsn(dbname=copy), t.dir / to)
    same(contents(t.pg, copy), contents(t.pg, source), "the restored database")


@case(beyond=BEYOND)
def two_parallel_dumps_share_a_pool(t):
    """Ten connections where the class may have six: leaders that hold a snapshot do not count."""
    name = populate(t.pg, "two_dumps", t.sized(20000, 2000))
    weir = t.weir(default_pool_size=20)
    children = [dump(t, weir, name, 4, to) for to in ("one", "two")]
    for child, to in zip(children, ("one", "two")):
        ends_well(t, child, to)
    restored_equals(t, weir, name, "one")


@case(beyond=BEYOND)
def a_dump_goes_beyond_its_class_rather_than_stand(t):
    """Four connections where 30 % of eight are three."""
    name = populate(t.pg, "small_pool", t.sized(20000, 2000))
    weir = t.weir(default_pool_size=8)
    with weir.connect(dbname=name) as client:  # so that there is something reserved for others
        client.execute("SELECT 1")
        ends_well(t, dump(t, weir, name, 3, "three"), "three")
    restored_equals(t, weir, name, "three")


@case(beyond=BEYOND)
def a_dump_takes_what_others_reserved_and_do_not_use(t):
    """All five places of the pool, three of them kept for users who are there and ask nothing."""
    name = populate(t.pg, "whole_pool", t.sized(5000, 1000))
    weir = t.weir(default_pool_size=5)
    with weir.connect(dbname=name) as client:
        client.execute("SELECT 1")
        ends_well(t, dump(t, weir, name, 4, "whole"), "whole")
        same(client.execute("SELECT 1").fetchone()[0], 1, "the user in the end")


@case(beyond=BEYOND)
def a_worker_is_not_refused_where_newcomers_are(t):
    """The class's queue holds one and its deadline is a second: a worker waits all the same."""
    name = populate(t.pg, "patient", t.sized(5000, 1000))
    weir = t.weir(default_pool_size=4,
                  text="[class backup]\nqueue_limit = 1\nmax = 100%\nqueue_deadline = 1\n"
                       "[class interactive]\nreserved = 0\n")
    held = [weir.connect(dbname=name, autocommit=False) for _ in range(3)]
    for client in held:
        client.execute("SELECT pg_sleep(0)")
    child = dump(t, weir, name, 3, "patient")
    wait_until("its workers wait", lambda: weir.pool(name)["cl_waiting"] >= 2, 20)
    waited = t.pg.value("SELECT clock_timestamp()")
    wait_until("the deadline passes", lambda: t.pg.value(
        "SELECT clock_timestamp() > %s + interval '2.5 s'", waited))
    same(child.poll(), None, "the dump has ended")
    for client in held:
        client.commit()
    ends_well(t, child, "patient")


@case(beyond=BEYOND, seconds=90)
def what_cannot_be_is_told(t):
    """-j 4 behind a pool of three: refused with who, what and what to do, not left standing."""
    name = populate(t.pg, "too_small", 100)
    weir = t.weir(default_pool_size=3)
    child = dump(t, weir, name, 4, "small")
    holds(child.wait(60) != 0, "the dump of five connections ended well in a pool of three")
    said = (t.dir / "small.err").read_text()
    for part in (r"needs 5 servers", name, r"pool_size is 3", r"N \+ 1"):
        holds(re.search(part, said), f"no “{part}” in: {said}")
    same(weir.value("SELECT 1", dbname=name), 1, "others afterwards")


@case(beyond=BEYOND)
def a_base_backup_with_its_stream_needs_two(t):
    """The second connection comes while the first is not read: a pool of two is enough."""
    weir = t.weir(pool_mode="session", default_pool_size=2,
                  databases={"*": f"host=127.0.0.1 port={t.pg.port}"})
    weir.tool("pg_basebackup", "-X", "stream", "-c", "fast", "-D", t.dir / "base", seconds=50)
    holds((t.dir / "base" / "PG_VERSION").exists(), "there is no backup")
    names = [path.name for path in (t.dir / "base" / "pg_wal").iterdir()]
    holds(any(re.fullmatch("[0-9A-F]{24}", name) for name in names), f"no WAL came: {names}")
