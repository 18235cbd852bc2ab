"""What real clients make of being shed: psql, pg_dump, psycopg, node-postgres, pgjdbc.

A refusal of a first statement must leave a connection pool's connection valid (53000 is "not now"),
a refusal at login must send libpq to the next host where the class says so (57P03) and nowhere
where it does not (53300), and our text must reach whoever reads the error.
"""
import asyncio
import re
import shutil
from pathlib import Path

import psycopg

from harness import Failed, Skip, case, holds, in_thread, output_of, same, wait_until
from it_node import suite
from it_shed import BEYOND, SAYS_CANCELLED, SAYS_SHED, Open, bulk, error_of, shown

HERE = Path(__file__).resolve().parent
JAR = "/usr/share/java/postgresql.jar"
DUMPS = "[class bulk]\nmatch = application_name:pg_dump\nmax = 100%\n"


def one_place(t, more="", match="bulky", **settings):
    """A pgweir whose class bulk has one place and refuses after a moment, because it is shed."""
    weir = t.weir(text=f"[class bulk]\nmatch = application_name:{match}\nqueue_deadline = 0.3\n"
                       f"{more}", **settings)
    with weir.connect() as user:
        user.execute("SELECT 1")
    weir.console("TRIP bulk")
    wait_until("the trip shows", lambda: shown(weir, "bulk")["limit"] == 1)
    return weir


def cancelling(t, weir, running_n=1, pattern="pg_sleep"):
    """Cancels class bulk once it runs; in a thread."""

    def watch():
        wait_until("it runs", lambda: t.pg.running_n(pattern) >= running_n, 30)
        weir.console("CANCEL bulk")

    return in_thread(watch)


# ---- libpq: psql, pg_dump ----------------------------------------------------------------------


@case(beyond=BEYOND)
def psql_prints_what_was_said(t):
    weir = one_place(t)
    holder = bulk(weir, autocommit=False)
    holder.execute("SELECT 1")
    status, _, said = weir.psql("SELECT 1", check=False, application_name="bulky")
    same(status, 3, "exit status of psql")
    holds(re.search(f"ERROR:  {SAYS_SHED}", said), said)
    holds("DETAIL:  latency breaker" in said and "HINT:  retry_after=" in said, said)
    # Without ON_ERROR_STOP it goes on with the next statement, on the same connection.
    out = output_of([t.pg.bin / "psql", "-XAtq", "-d", weir.dsn(application_name="bulky")],
                    stdin="SELECT 'lost';\nSELECT 'lost too';\n", check=False)
    same(out[2].count("is being shed"), 2, "refusals")


@case(beyond=BEYOND)
def pg_dump_prints_what_was_said(t):
    """Refused at its first statement, and cancelled in the middle: exit status 1, our words."""
    weir = one_place(t, match="bulky,pg_dump")
    holder = bulk(weir, autocommit=False)
    holder.execute("SELECT 1")
    status, _, said = weir.tool("pg_dump", "-f", "/dev/null", check=False)
    same(status, 1, "exit status of a refused pg_dump")
    holds(re.search(SAYS_SHED, said), said)


@case(beyond=BEYOND, each={"alone": 1, "parallel": 4})
def a_cancelled_pg_dump(t, jobs):
    weir = t.weir(text=DUMPS, default_pool_size=8)
    name = t.pg.database(f"dumped_{jobs}")
    with t.pg.connect(name) as direct:
        direct.execute("CREATE FUNCTION slow() RETURNS int LANGUAGE sql AS "
                       "'SELECT 1 FROM pg_catalog.pg_sleep(60)'")
        for i in range(jobs):
            direct.execute(f"CREATE TABLE part{i} (i int)")
            direct.execute(f"INSERT INTO part{i} VALUES (1)")
            direct.execute(f"ALTER TABLE part{i} ENABLE ROW LEVEL SECURITY")
            direct.execute(f"ALTER TABLE part{i} FORCE ROW LEVEL SECURITY")
            direct.execute(f"CREATE POLICY slow{i} ON part{i} USING (slow() = 1)")
        direct.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO app")
    target = ["-Fd", "-j", jobs, "-f", t.dir / f"dump{jobs}"] if jobs > 1 else ["-f", "/dev/null"]
    cancel = cancelling(t, weir, jobs, "COPY public.part")
    status, _, said = weir.tool("pg_dump", "--enable-row-security", *target, check=False,
                                user="app", database=name)
    cancel.get()
    same(status, 1, "exit status")
    holds(re.search(SAYS_CANCELLED, said) and "retry_after=" in said, said)
    wait_until("nothing runs on", lambda: t.pg.running_n("part") == 0)


@case(beyond=BEYOND, each={"53300": "", "57P03": "shed_sqlstate = 57P03\n"})
def where_libpq_goes_from_a_refused_login(t, setting):
    """host=pgweir,postgres: 57P03 sends it on, 53300 does not."""
    with Open(t, setting) as at:
        wait_until("the breaker is open", lambda: at.state() == "open", 20)
        hosts = psycopg.conninfo.make_conninfo(
            host="127.0.0.1,127.0.0.1", port=f"{at.weir.port},{t.pg.port}", user="postgres",
            dbname="postgres", application_name="bulky", connect_timeout=5)
        status, out, said = output_of([t.pg.bin / "psql", "-XAtq", "-d", hosts], check=False,
                                      stdin="SELECT inet_server_port(), 'there'")
        if setting:
            same((status, out.strip()), (0, f"{t.pg.port}|there"), "psql")
            with psycopg.connect(hosts) as client:
                same(client.info.port, t.pg.port, "port of psycopg")
        else:
            same(status, 2, "exit status of psql")
            holds(re.search(f"FATAL:  {SAYS_SHED}", said), said)
        status, _, said = at.weir.tool("pg_dump", "-f", "/dev/null", check=False,
                                       appname="bulky")
        same(status, 1, "exit status of pg_dump, of one host")
        holds(re.search(SAYS_SHED, said), said)


# ---- psycopg -----------------------------------------------------------------------------------


@case(beyond=BEYOND)
def psycopg_goes_on_after_a_refusal(t):
    weir = one_place(t)
    holder, client = bulk(weir, autocommit=False), bulk(weir, autocommit=False)
    holder.execute("SELECT 1")
    for execute in (lambda: client.execute("SELECT 1"),
                    lambda: client.execute("SELECT %s::int", [1], prepare=True),
                    lambda: client.cursor().copy("COPY (SELECT 1) TO STDOUT").__enter__()):
        error = error_of(execute)
        same(type(error), psycopg.errors.InsufficientResources, "its class")
        same(client.info.transaction_status, psycopg.pq.TransactionStatus.IDLE, "status")
        client.rollback()
    holder.commit()
    same(client.execute("SELECT 2").fetchone()[0], 2, "afterwards")
    client.rollback()


@case(beyond=BEYOND)
def psycopg_pipelines_are_refused_whole(t):
    weir = one_place(t)
    holder, client = bulk(weir, autocommit=False), bulk(weir)
    holder.execute("SELECT 1")

    def pipeline():
        with client.pipeline():
            cursors = [client.execute("SELECT %s::int", [i]) for i in range(20)]
        return [cursor.fetchone()[0] for cursor in cursors]

    same(error_of(pipeline).sqlstate, "53000", "SQLSTATE")
    same(client.info.status, psycopg.pq.ConnStatus.OK, "the connection")
    holder.commit()
    same(pipeline(), list(range(20)), "the same pipeline, later")


@case(beyond=BEYOND)
def psycopg_async_hears_the_same(t):
    weir = one_place(t)
    holder = bulk(weir, autocommit=False)
    holder.execute("SELECT 1")

    async def work():
        client = await psycopg.AsyncConnection.connect(weir.dsn(application_name="bulky"),
                                                       autocommit=True)
        async with client:
            try:
                await client.execute("SELECT 1")
                raise Failed("not refused")
            except psycopg.errors.InsufficientResources as error:
                holds(re.search(SAYS_SHED, str(error)), str(error))
            holder.commit()
            cursor = await client.execute("SELECT 2")
            same((await cursor.fetchone())[0], 2, "afterwards")
            cancel = cancelling(t, weir)
            try:
                await client.execute("SELECT pg_sleep(60)")
                raise Failed("not cancelled")
            except psycopg.errors.QueryCanceled as error:
                holds(re.search(SAYS_CANCELLED, str(error)), str(error))
            cancel.get()
            cursor = await client.execute("SELECT 3")
            same((await cursor.fetchone())[0], 3, "afterwards")

    asyncio.run(work())


# ---- node-postgres -----------------------------------------------------------------------------


@case(beyond=BEYOND)
def node_postgres_refused(t):
    suite(t, "refused", one_place(t), PGAPPNAME="bulky")


@case(beyond=BEYOND)
def node_postgres_cancelled(t):
    weir = t.weir(text="[class bulk]\nmatch = application_name:bulky\n")
    cancel = cancelling(t, weir)
    suite(t, "cancelled", weir, PGAPPNAME="bulky")
    cancel.get()


@case(beyond=BEYOND, each={"53300": "", "57P03": "shed_sqlstate = 57P03\n"})
def node_postgres_at_login(t, setting):
    with Open(t, setting) as at:
        wait_until("the breaker is open", lambda: at.state() == "open", 20)
        suite(t, "turned_away", at.weir, PGAPPNAME="bulky", CODE=setting[-6:-1] or "53300")


# ---- pgjdbc --------------------------------------------------------------------------------------


def jdbc(t, name, ports, *args):
    if not shutil.which("java") or not Path(JAR).exists():
        raise Skip("no Java, or no pgjdbc here (make deps)")
    # Of an older server pgjdbc would set its name after the login: too late to be refused there.
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    url = (f"jdbc:postgresql://{hosts}/postgres?user=postgres&ApplicationName=bulky"
           "&assumeMinServerVersion=12")
    status, out, said = output_of(["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
                                   JAR, HERE / "Jdbc.java", name, url, *args],
                                  check=False, seconds=80)
    if status:
        raise Failed(f"Jdbc.java {name}: {out}{said}")
    t.note(out.strip())


@case(beyond=BEYOND, seconds=90, each={name: name for name in ("refused", "transactions",
                                                               "batches")})
def pgjdbc_goes_on_after_a_refusal(t, name):
    with t.pg.connect() as direct:
        direct.execute("CREATE TABLE IF NOT EXISTS jdbc_rows (i int, t text)")
    jdbc(t, name, [one_place(t).port])


@case(beyond=BEYOND, seconds=90)
def pgjdbc_cancelled(t):
    weir = t.weir(text="[class bulk]\nmatch = application_name:bulky\n")
    cancel = cancelling(t, weir)
    jdbc(t, "cancelled", [weir.port])
    cancel.get()


@case(beyond=BEYOND, seconds=90, each={"53300": "", "57P03": "shed_sqlstate = 57P03\n"})
def pgjdbc_at_login(t, setting):
    with Open(t, setting) as at:
        wait_until("the breaker is open", lambda: at.state() == "open", 20)
        jdbc(t, "login", [at.weir.port], setting[-6:-1] or "53300")
        jdbc(t, "next_host", [at.weir.port, t.pg.port])
