"""Prepared statements and pipelines in transaction mode, by library and by hand."""
import psycopg

import raw
from harness import case, holds, in_thread, memory_kb, refused, same

BEYOND = "1.18 has no prepared statements in transaction mode"


@case(beyond=BEYOND)
def psycopg_prepares_everything(t):
    weir = t.weir(default_pool_size=2)

    def work(i):
        with psycopg.connect(weir.dsn(), autocommit=True, prepare_threshold=0) as client:
            for n in range(t.sized(100, 20)):
                same(client.execute("SELECT %s::int + %s::int", (i, n)).fetchone()[0], i + n, "sum")
                same(client.execute("SELECT t FROM numbers WHERE i = %s", (1,)).fetchone()[0],
                     "c4ca4238a0b923820dcc509a6f75849b", "row")

    for thread in [in_thread(work, i) for i in range(8)]:
        thread.get()
    holds(t.pg.servers_n() <= 2, "too many servers")


@case(beyond=BEYOND)
def one_name_two_texts(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as first, weir.raw() as second:
        first.kinds(raw.parse("s", "SELECT 'one'"), raw.sync())
        second.kinds(raw.parse("s", "SELECT 'two'"), raw.sync())
        for _ in range(3):
            same(first.rows(raw.run_named("s")), [["one"]], "first")
            same(second.rows(raw.run_named("s")), [["two"]], "second")


@case(beyond=BEYOND)
def a_statement_follows_its_client_to_other_servers(t):
    weir = t.weir(default_pool_size=3)
    with weir.raw() as client:
        same(client.kinds(raw.parse("s", "SELECT pg_backend_pid(), $1::text"),
                          raw.describe("S", "s"), raw.sync()), "1tTZ", "Parse and Describe")
        pids = set()
        for _ in range(3):
            pids.add(client.rows(raw.run_named("s", ["x"]))[0][0])
            blocker = weir.connect(autocommit=False)
            blocker.execute("SELECT 1")
        same(len(pids), 3, "servers met")


@case(beyond=BEYOND)
def more_statements_than_a_server_keeps(t):
    weir = t.weir(default_pool_size=2, max_prepared_statements=10)
    count = t.sized(60, 25)
    with weir.raw() as first, weir.raw() as second:
        for i in range(count):
            first.kinds(raw.parse(f"s{i}", f"SELECT {i}, $1::int"), raw.sync())
        for _ in range(2):
            for i in range(count):
                same(first.rows(raw.run_named(f"s{i}", [i])), [[str(i), str(i)]], "row")
                second.query("SELECT 1")
    with weir.connect() as client:
        kept = client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0]
    holds(kept <= 11, f"{kept} statements on a server, 10 are allowed")


@case(beyond="it disconnects, with 08P01")
def unknown_and_duplicate_names_are_errors(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as client:
        refused(lambda: client.rows(raw.run_named("nobody")), "26000")
        refused(lambda: client.rows(raw.describe("S", "nobody"), raw.sync()), "26000")
        same(client.query("SELECT 1"), [["1"]], "goes on")
        client.kinds(raw.parse("s", "SELECT 1"), raw.sync())
        refused(lambda: client.rows(raw.parse("s", "SELECT 2"), raw.sync()), "42P05")
        same(client.rows(raw.run_named("s")), [["1"]], "the first one stays")
        same(client.kinds(raw.close("S", "s"), raw.close("S", "never"), raw.sync()), "33Z", "Close")
        refused(lambda: client.rows(raw.run_named("s")), "26000")
        client.kinds(raw.parse("s", "SELECT 3"), raw.sync())
        same(client.rows(raw.run_named("s")), [["3"]], "the name is free again")


@case(beyond=BEYOND)
def a_parse_that_failed_takes_no_name(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as client:
        refused(lambda: client.rows(raw.parse("s", "SELEC 1"), raw.sync()), "42601")
        refused(lambda: client.rows(raw.run_named("s")), "26000")
        same(client.kinds(raw.parse("s", "SELECT 1"), raw.sync()), "1Z", "Parse")
        same(client.rows(raw.run_named("s")), [["1"]], "run")


@case(beyond=BEYOND)
def errors_in_a_pipeline_skip_to_sync(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as client:
        same(client.kinds(raw.parse("ok", "SELECT 1"), raw.sync()), "1Z", "Parse")
        got = client.kinds(raw.bind("", "ok"), raw.execute(), raw.parse("bad", "SELECT 1/0"),
                           raw.bind("", "bad"), raw.execute(), raw.parse("late", "SELECT 2"),
                           raw.bind("", "late"), raw.execute(), raw.sync())
        holds(got.startswith("2DC") and got.endswith("EZ"), f"answers {got}")
        same(got.count("E"), 1, "errors")
        refused(lambda: client.rows(raw.run_named("late")), "26000")
        same(client.rows(raw.run_named("ok")), [["1"]], "what stood before the error")
        # Two units in one write: the first fails, the second must be answered.
        client.send(raw.bind("", "nobody"), raw.execute(), raw.sync(), raw.run_named("ok"))
        same("".join(kind for kind, _ in client.until_ready(errors="keep")), "EZ", "first unit")
        same("".join(kind for kind, _ in client.until_ready()), "2DCZ", "second unit")


@case(beyond=BEYOND)
def a_long_pipeline_by_hand(t):
    weir = t.weir(default_pool_size=2)
    count = t.sized(2000, 300)
    with weir.raw() as client:
        units = [raw.parse(f"n{i % 50}", f"SELECT $1::int + {i % 50}") + raw.sync()
                 for i in range(50)]
        units += [raw.run_named(f"n{i % 50}", [i]) for i in range(count)]
        sender = in_thread(client.send, *units)
        for i in range(50):
            same("".join(k for k, _ in client.until_ready()), "1Z", "Parse")
        for i in range(count):
            rows = [raw.row_values(b) for k, b in client.until_ready() if k == "D"]
            same(rows, [[str(i + i % 50)]], f"answer {i}")
        sender.get()


@case(beyond=BEYOND)
def pipeline_with_flush_only(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as client:
        client.send(raw.parse("f", "SELECT 5"), raw.describe("S", "f"), raw.flush())
        same("".join(client.next()[0] for _ in range(3)), "1tT", "after Flush")
        client.send(raw.bind("", "f"), raw.execute(), raw.flush())
        same("".join(client.next()[0] for _ in range(3)), "2DC", "after Flush")
        same(client.kinds(raw.sync()), "Z", "after Sync")


@case(beyond=BEYOND)
def psycopg_pipeline(t):
    weir = t.weir(default_pool_size=2)
    count = t.sized(500, 100)
    with weir.connect(prepare_threshold=0) as client:
        with client.pipeline():
            cursors = [client.execute("SELECT %s::int * 2", (i,)) for i in range(count)]
        same([c.fetchone()[0] for c in cursors], [2 * i for i in range(count)], "results")

        def broken():
            with client.pipeline() as p:
                client.execute("SELECT %s::int", (1,))
                client.execute("SELECT 1 / %s::int", (0,))
                client.execute("SELECT %s::int", (2,))
                p.sync()

        refused(broken, "22012")
        same(client.execute("SELECT %s::int", (3,)).fetchone()[0], 3, "goes on")


@case(beyond=BEYOND)
def a_pipelined_transaction_stays_on_one_server(t):
    weir = t.weir(default_pool_size=4)
    with weir.connect(autocommit=False, prepare_threshold=0) as client:
        for _ in range(5):
            with client.pipeline():
                pids = [client.execute("SELECT pg_backend_pid()") for _ in range(20)]
            same(len({c.fetchone()[0] for c in pids}), 1, "servers in one transaction")
            client.commit()


@case(beyond=BEYOND)
def server_side_cursors(t):
    weir = t.weir(default_pool_size=1)
    with weir.connect(autocommit=False) as client:
        with client.cursor("rows") as cursor:
            cursor.itersize = 64
            cursor.execute("SELECT i FROM numbers ORDER BY i")
            same(sum(row[0] for row in cursor), 500500, "sum over a named cursor")
        client.commit()
    with weir.raw() as client:
        client.send(raw.parse("p", "SELECT i FROM numbers ORDER BY i"), raw.bind("portal", "p"),
                    raw.execute("portal", 3), raw.execute("portal", 2), raw.close("P", "portal"),
                    raw.sync())
        same("".join(k for k, _ in client.until_ready()), "12DDDsDDs3Z", "portal in pieces")


@case(beyond=BEYOND)
def a_large_bind_is_not_collected(t):
    weir = t.weir(default_pool_size=1)
    size = t.sized(100, 10) << 20
    with weir.raw(timeout=60) as client:
        client.kinds(raw.parse("big", "SELECT length($1::text)"), raw.sync())
        # Binary text parameter, so that PostgreSQL need not be told about quoting either.
        value = b"x" * size
        same(client.rows(raw.run_named("big", [value])), [[str(size)]], "length")
    peak = memory_kb(weir.pid, "VmHWM")
    t.note(f"peak {peak // 1024} MiB")
    if t.scale:
        holds(peak < 40 * 1024, f"peak of {peak} kB while a Bind of {size} bytes went through")


@case(beyond=BEYOND)
def a_plan_whose_result_type_changed_heals(t):
    weir = t.weir(default_pool_size=1)
    t.pg.database("ddl")
    with weir.raw(database="ddl") as client, weir.raw(database="ddl") as other:
        other.query("CREATE TABLE grows (a int); INSERT INTO grows VALUES (1)")
        client.kinds(raw.parse("s", "SELECT * FROM grows"), raw.sync())
        same(client.rows(raw.run_named("s")), [["1"]], "before")
        other.query("ALTER TABLE grows ADD b int DEFAULT 2")
        refused(lambda: client.rows(raw.run_named("s")), "0A000")
        client.kinds(raw.close("S", "s"), raw.sync())
        client.kinds(raw.parse("s", "SELECT * FROM grows"), raw.sync())
        same(client.rows(raw.run_named("s")), [["1", "2"]], "after a new Parse")


@case(beyond=BEYOND)
def discard_all_and_deallocate(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as first, weir.raw() as second:
        for client in (first, second):
            client.kinds(raw.parse("s", "SELECT 'kept'"), raw.sync())
            same(client.rows(raw.run_named("s")), [["kept"]], "before")
        first.query("DISCARD ALL")
        refused(lambda: first.rows(raw.run_named("s")), "26000")
        same(second.rows(raw.run_named("s")), [["kept"]], "the other client's")
        first.kinds(raw.parse("s", "SELECT 'new'"), raw.sync())
        same(first.rows(raw.run_named("s")), [["new"]], "after a new Parse")
        first.query("DEALLOCATE ALL")
        refused(lambda: first.rows(raw.run_named("s")), "26000")
        same(second.rows(raw.run_named("s")), [["kept"]], "the other client's")


@case(beyond=BEYOND)
def sql_deallocate_of_a_protocol_name(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as client:
        client.kinds(raw.parse("s", "SELECT 1"), raw.sync())
        same(client.rows(raw.run_named("s")), [["1"]], "before")
        client.query("DEALLOCATE s")
        refused(lambda: client.rows(raw.run_named("s")), "26000")
        client.kinds(raw.parse("s", "SELECT 2"), raw.sync())
        same(client.rows(raw.run_named("s")), [["2"]], "after")


@case(beyond=BEYOND)
def sql_execute_of_a_protocol_name(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as client, weir.raw() as other:
        client.kinds(raw.parse("s", "SELECT $1::int + 1"), raw.sync())
        other.query("DISCARD ALL")
        same(client.query("EXECUTE s(41)"), [["42"]], "after the server has lost it")
        same(client.query('  execute "s" (1);'), [["2"]], "in quotes")
        refused(lambda: other.query("EXECUTE s(1)"), "26000")


@case(beyond=BEYOND)
def a_batch_nobody_said_sync_for_is_not_committed(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as other:
        other.query("CREATE TABLE unsaid (x int)")
        client = weir.raw()
        client.send(raw.parse("", "INSERT INTO unsaid VALUES (1)"), raw.bind("", ""),
                    raw.execute(), raw.flush())
        while client.next()[0] != "C":
            pass
        client.close()
        same(other.query("SELECT count(*) FROM unsaid"), [["0"]], "rows")


@case(beyond=BEYOND)
def many_clients_one_statement_is_parsed_once_a_server(t):
    weir = t.weir(default_pool_size=1)
    for _ in range(20):
        with weir.raw() as client:
            client.kinds(raw.parse("s", "SELECT 'shared'"), raw.sync())
            same(client.rows(raw.run_named("s")), [["shared"]], "row")
    with weir.connect() as client:
        same(client.execute("SELECT count(*) FROM pg_prepared_statements "
                            "WHERE statement = 'SELECT ''shared'''").fetchone()[0], 1,
             "copies on the server")
