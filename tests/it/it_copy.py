"""Bulk: COPY both ways, wide rows, large parameters, pg_dump and pg_restore."""
import hashlib
import subprocess
import time

import psycopg

import raw
from harness import case, holds, in_thread, memory_kb, output_of, refused, same, wait_until

PEAK_KB = 48 * 1024  # far below every size that goes through in this file


def peak_is_bounded(t, weir, what):
    peak = memory_kb(weir.pid, "VmHWM")
    t.note(f"peak {peak // 1024} MiB")
    # A sanitizer's own memory would drown ours.
    holds(not t.scale or peak < PEAK_KB, f"peak of {peak} kB during {what}")


@case(seconds=90)
def copy_out_large(t):
    weir = t.weir()
    rows = t.sized(600000, 40000)
    sql = (f"COPY (SELECT i, repeat('abcdefghij', 10) FROM generate_series(1, {rows}) i) TO STDOUT")
    wanted, got = hashlib.sha256(), hashlib.sha256()
    with t.pg.connect() as c, c.cursor().copy(sql) as data:
        for block in data:
            wanted.update(block)
    with weir.connect() as c, c.cursor().copy(sql) as data:
        for block in data:
            got.update(block)
    same(got.hexdigest(), wanted.hexdigest(), "content")
    peak_is_bounded(t, weir, "COPY out")


@case(seconds=90)
def copy_in_large_and_back(t):
    weir = t.weir()
    name = t.pg.database("copy_in")
    rows = t.sized(400000, 40000)
    with weir.connect(dbname=name) as client:
        client.execute("CREATE TABLE c (i int, t text)")
        with client.cursor().copy("COPY c FROM STDIN") as copy:
            for start in range(0, rows, 1000):
                copy.write("".join(f"{i}\tvalue of {i} {'x' * 80}\n"
                                   for i in range(start, start + 1000)))
        same(client.execute("SELECT count(*), sum(i)::bigint FROM c").fetchone(),
             (rows, rows * (rows - 1) // 2), "rows")
    peak_is_bounded(t, weir, "COPY in")


@case()
def copy_in_that_fails(t):
    weir = t.weir(default_pool_size=1)
    name = t.pg.database("copy_fails")
    client, other = weir.connect(dbname=name), weir.connect(dbname=name)
    client.execute("CREATE TABLE copy_fails (i int)")

    def bad_value():
        with client.cursor().copy("COPY copy_fails FROM STDIN") as copy:
            for _ in range(20000):
                copy.write("not a number\n")

    def given_up():
        with client.cursor().copy("COPY copy_fails FROM STDIN") as copy:
            copy.write("1\n")
            raise ZeroDivisionError

    for _ in range(2):
        refused(bad_value, "22P02")
        same(client.execute("SELECT 1").fetchone()[0], 1, "after an error of the server")
        try:
            given_up()
        except (psycopg.errors.QueryCanceled, ZeroDivisionError):  # of psycopg 3.1; of 3.2
            pass
        same(client.execute("SELECT count(*) FROM copy_fails").fetchone()[0], 0, "after CopyFail")
        same(other.execute("SELECT 2").fetchone()[0], 2, "another client")


@case()
def copy_by_the_extended_protocol(t):
    weir = t.weir()
    with weir.raw() as client:
        client.send(raw.parse("", "COPY (SELECT 1) TO STDOUT"), raw.bind("", ""), raw.execute(),
                    raw.sync())
        same("".join(k for k, _ in client.until_ready()), "12HdcCZ", "COPY out")
        client.query("CREATE TEMP TABLE x (i int)")
        client.query("BEGIN")
        client.query("CREATE TEMP TABLE y (i int)")
        client.send(raw.parse("", "COPY y FROM STDIN"), raw.bind("", ""), raw.execute(), raw.sync())
        same("".join(client.next()[0] for _ in range(3)), "12G", "COPY in")
        client.send(raw.message("d", b"7\n"), raw.message("c"), raw.sync())
        holds("".join(k for k, _ in client.until_ready()) == "CZ", "end of COPY in")
        same(client.query("SELECT i FROM y"), [["7"]], "row")
        client.query("ROLLBACK")


@case()
def wide_rows(t):
    weir = t.weir()
    size = t.sized(30, 3) << 20
    with weir.connect() as client:
        got = client.execute("SELECT repeat('0123456789abcdef', %s), 'tail'",
                             (size // 16,)).fetchone()
        holds(got == ("0123456789abcdef" * (size // 16), "tail"), "a wide row came back different")
        for _ in range(3):
            same(client.execute("SELECT 'small'").fetchone()[0], "small", "after it")
    peak_is_bounded(t, weir, "a wide row")


@case(seconds=90)
def a_parameter_of_100_megabytes(t):
    weir = t.weir()
    size = t.sized(100, 10) << 20
    value = bytes(range(256)) * (size // 256)
    with weir.connect() as client:
        got = client.execute("SELECT length(%b), md5(%b)", (value, value[:1 << 20])).fetchone()
        same(got, (size, hashlib.md5(value[:1 << 20]).hexdigest()), "length and digest")
        same(client.execute("SELECT 1").fetchone()[0], 1, "after it")
    peak_is_bounded(t, weir, "a large Bind")


@case(seconds=90)
def a_long_query_text(t):
    weir = t.weir()
    size = t.sized(20, 2) << 20
    with weir.connect() as client:
        same(client.execute(f"SELECT length('{'y' * size}')").fetchone()[0], size, "length")
    peak_is_bounded(t, weir, "a long query")


@case()
def a_slow_reader_holds_up_only_itself(t):
    weir = t.weir(default_pool_size=2)
    with weir.raw(timeout=60) as slow, weir.connect() as fast:
        rows = t.sized(60000, 6000)
        slow.send(raw.query(f"SELECT repeat('z', 1000) FROM generate_series(1, {rows})"))
        slow.next()
        for i in range(200):
            same(fast.execute("SELECT %s::int", (i,)).fetchone()[0], i, "the other client")
        time.sleep(0.3)
        peak_is_bounded(t, weir, "a client that does not read")
        same(sum(1 for k, _ in slow.until_ready() if k == "D"), rows, "rows")


@case(beyond="it drops a client whose first header comes in two pieces")
def trickled_bytes(t):
    """Every message cut at every byte, in both directions as small as the kernel gives them."""
    weir = t.weir(default_pool_size=1)
    with weir.raw(login=False) as client:
        script = (raw.startup(user="postgres", database="postgres") + raw.query("SELECT 1")
                  + raw.parse("", "SELECT $1::text") + raw.bind("", "", ["drip"]) + raw.execute()
                  + raw.sync())
        for i in range(len(script)):
            client.send(script[i:i + 1])
            if i % 16 == 0:
                time.sleep(0.001)
        client.until_ready()
        for wanted in ("1", "drip"):
            rows = [raw.row_values(b) for k, b in client.until_ready() if k == "D"]
            same(rows, [[wanted]], "answer")


def fill(t, name):
    t.pg.database(name)
    with t.pg.connect(name) as c:
        c.execute(f"""
            CREATE TABLE wide (id int PRIMARY KEY, doc text, raw bytea, at timestamptz, n numeric);
            INSERT INTO wide SELECT i, repeat(md5(i::text), 20), decode(md5(i::text), 'hex'),
                '2024-01-01'::timestamptz + i * interval '1 min', i / 7.0
                FROM generate_series(1, {t.sized(20000, 2000)}) i;
            CREATE TABLE part (i int, k int) PARTITION BY RANGE (k);
            CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
            INSERT INTO part SELECT i, i % 10 FROM generate_series(1, 1000) i;
            CREATE VIEW narrow AS SELECT id FROM wide; CREATE INDEX ON wide (at);
            CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql AS 'SELECT i + 1';
            CREATE SEQUENCE s; SELECT nextval('s');
            SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'));
        """)
    return name


def same_key(t):
    """Newer pg_dumps guard their output by a random key, which would make any two differ."""
    known = "--restrict-key" in output_of([t.pg.bin / "pg_dump", "--help"])[1]
    return ["--restrict-key=equal"] if known else []


def dump_direct(t, name):
    env = {"PGHOST": t.pg.sock, "PGPORT": str(t.pg.port), "PGUSER": "postgres",
           "PGAPPNAME": "direct"}
    return output_of([t.pg.bin / "pg_dump", *same_key(t), name], env=env)[1]


@case(seconds=90)
def a_dump_is_byte_equal_to_a_direct_one(t):
    weir = t.weir()
    name = fill(t, "dump_me")
    _, through, said = weir.tool("pg_dump", *same_key(t), name)
    same(said, "", "stderr of pg_dump")
    direct = dump_direct(t, name)
    holds(through == direct and len(direct) > 100000, "the dumps differ")


@case(beyond="options and search_path leak", seconds=90)
def a_parallel_dump_restores_through_pgweir(t):
    # pg_dump holds a connection for itself and one a job, all at once: the class must have room.
    weir = t.weir(default_pool_size=20)
    name = fill(t, "dump_parallel")
    weir.tool("pg_dump", "-Fd", "-j", 3, "-f", f"{t.dir}/dump", name)
    t.pg.database("restored")
    weir.tool("pg_restore", "-j", 2, "-d", "restored", f"{t.dir}/dump")
    holds(dump_direct(t, "restored") == dump_direct(t, name), "the restored database differs")


@case(beyond="pg_dump's search_path = '' leaks")
def after_a_dump_others_see_their_own_settings(t):
    weir = t.weir(default_pool_size=1)
    with weir.connect() as client:
        for _ in range(2):
            weir.tool("pg_dump", "-t", "numbers", "postgres")
            same(client.execute("SHOW search_path").fetchone()[0], '"$user", public', "search_path")
            same(client.execute("SELECT count(*) FROM numbers").fetchone()[0], 1000, "a table")
            same(client.execute("SHOW statement_timeout").fetchone()[0], "0", "statement_timeout")
            same(client.execute("SHOW extra_float_digits").fetchone()[0], "1", "float digits")


@case()
def a_dump_killed_half_way_harms_nobody(t):
    weir = t.weir(default_pool_size=1)
    name = fill(t, "dump_killed")
    with weir.connect(dbname=name) as client:
        for delay in (0.03, 0.1, 0.2):
            child = t.spawn([t.pg.bin / "pg_dump", "-f", "/dev/null", "-d", weir.dsn(dbname=name)],
                            stderr=subprocess.DEVNULL)
            time.sleep(delay)
            child.kill()
            child.wait()
            same(client.execute("SELECT count(*) FROM public.part").fetchone()[0], 1000, "a table")


@case()
def bulk_and_small_side_by_side(t):
    weir = t.weir(default_pool_size=4)
    rows = t.sized(200000, 20000)
    sql = f"COPY (SELECT repeat('q', 500) FROM generate_series(1, {rows})) TO STDOUT"

    def bulk():
        with weir.connect() as client, client.cursor().copy(sql) as data:
            return sum(len(block) for block in data)

    with weir.connect() as client:
        readers = [in_thread(bulk) for _ in range(2)]
        wait_until("bulk runs", lambda: t.pg.running_n("^COPY") or all(r.done() for r in readers))
        times = []
        while not all(r.done() for r in readers):
            began = time.monotonic()
            same(client.execute("SELECT 1").fetchone()[0], 1, "small")
            times.append(time.monotonic() - began)
        for r in readers:
            same(r.get(), rows * 501, "bytes")
    if times:
        t.note(f"{len(times)} small queries meanwhile, longest {max(times) * 1000:.0f} ms")
