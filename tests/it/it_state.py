"""Transaction mode: nothing of one client reaches the next, and each keeps what it asked for.

All cases run on a pool of one server, so the second client gets the very connection the first one
dirtied.
"""
import os
import signal

import psycopg

import raw
from harness import Failed, case, holds, in_thread, refused, same, wait_until

BEYOND = "it resets nothing in transaction mode"

LOCKS = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'"
ROWS = "SELECT count(*)::text FROM numbers"

# what the first client does -> what the second asks, and must be told
LEAKS = {
    "work_mem": ("SET work_mem = '77MB'", "SHOW work_mem", "4MB"),
    "search_path": ("SET search_path = shelf", "SHOW search_path", '"$user", public'),
    "set_config": ("SELECT pg_catalog.set_config('search_path', '', false)",
                   "SHOW search_path", '"$user", public'),
    "set_config behind a comment": ("/* x */ select set_config('work_mem', '66MB', false)",
                                    "SHOW work_mem", "4MB"),
    "second of two statements": ("SELECT 1; SET work_mem = '55MB'", "SHOW work_mem", "4MB"),
    "in a transaction": ("BEGIN; SET work_mem = '44MB'; COMMIT", "SHOW work_mem", "4MB"),
    "statement_timeout": ("SET statement_timeout = '33s'", "SHOW statement_timeout", "0"),
    "read only": ("SET default_transaction_read_only = on",
                  "SHOW default_transaction_read_only", "off"),
    "session characteristics": ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                                "SHOW default_transaction_read_only", "off"),
    "SET ROLE": ("SET ROLE other", "SELECT current_user::text", "postgres"),
    "role by set_config": ("SELECT set_config('role', 'other', false)",
                           "SELECT current_user::text", "postgres"),
    "SESSION AUTHORIZATION": ("SET SESSION AUTHORIZATION other",
                              "SELECT session_user::text", "postgres"),
    # PostgreSQL itself leaves an empty one behind, whatever is done short of a new connection.
    "custom setting": ("SET app.tenant = '7'",
                       "SELECT coalesce(current_setting('app.tenant', true), '')", ""),
    "temp table": ("CREATE TEMP TABLE numbers (i int)", ROWS, "1000"),
    "temp table as": ("CREATE TEMPORARY TABLE numbers AS SELECT 1 AS i",
                      ROWS, "1000"),
    "SELECT INTO LOCAL TEMP": ("SELECT 1 AS i INTO LOCAL TEMP numbers", ROWS, "1000"),
    "SELECT INTO TEMP": ("SELECT 1 AS i INTO TEMP numbers", ROWS,
                         "1000"),
    "temp view": ("CREATE TEMP VIEW numbers AS SELECT 1 AS i", ROWS,
                  "1000"),
    "WITH HOLD cursor": ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
                         "SELECT count(*)::text FROM pg_cursors", "0"),
    "SQL PREPARE": ("PREPARE mine AS SELECT 1", "SELECT count(*)::text FROM pg_prepared_statements "
                    "WHERE from_sql", "0"),
    "LISTEN": ("LISTEN gossip", "SELECT count(*)::text FROM pg_listening_channels()", "0"),
    "advisory lock": ("SELECT pg_advisory_lock(42)",
                      LOCKS, "0"),
    "shared advisory lock": ("SELECT pg_try_advisory_lock_shared(43)",
                             LOCKS, "0"),
}


@case(beyond=BEYOND, each=LEAKS)
def does_not_leak(t, what):
    dirty, question, wanted = what
    weir = t.weir(default_pool_size=1)
    first, second = weir.connect(), weir.connect()
    same(second.execute(question).fetchone()[0], wanted, "before")
    first.execute(dirty)
    same(second.execute(question).fetchone()[0], wanted, "after")


@case(beyond=BEYOND, each={key: LEAKS[key] for key in ("work_mem", "set_config", "temp table",
                                                       "advisory lock", "LISTEN", "SQL PREPARE")})
def does_not_leak_by_the_extended_protocol(t, what):
    dirty, question, wanted = what
    weir = t.weir(default_pool_size=1)
    with weir.raw() as first, weir.connect() as second:
        first.rows(raw.parse("", dirty), raw.bind("", ""), raw.execute(), raw.sync())
        same(second.execute(question).fetchone()[0], wanted, "after")
        first.rows(raw.parse("named", dirty.replace("numbers", "numbers2").replace("mine", "m2")),
                   raw.bind("", "named"), raw.execute(), raw.sync())
        same(second.execute(question).fetchone()[0], wanted, "after a named statement")


@case(beyond=BEYOND)
def a_vanished_client_leaves_nothing_behind(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as first:
        first.query("SET work_mem = '77MB'")
    with weir.raw() as first:
        first.send(raw.query("BEGIN; CREATE TABLE half (i int); SELECT pg_sleep(0.2)"))
    with weir.connect() as second:
        same(second.execute("SHOW work_mem").fetchone()[0], "4MB", "work_mem")
        same(second.execute("SELECT to_regclass('half')").fetchone()[0], None, "half a transaction")


@case()
def set_local_ends_with_its_transaction(t):
    weir = t.weir(default_pool_size=1)
    client = weir.connect()
    pid = client.execute("SELECT pg_backend_pid()").fetchone()[0]
    with client.transaction():
        client.execute("SET LOCAL work_mem = '77MB'")
        same(client.execute("SHOW work_mem").fetchone()[0], "77MB", "inside")
    with weir.connect() as second:
        same(second.execute("SHOW work_mem").fetchone()[0], "4MB", "outside")
        same(second.execute("SELECT pg_backend_pid()").fetchone()[0], pid, "server (kept)")


@case(beyond="bound after another client's Parse, it runs that client's statement")
def an_unnamed_statement_is_nobody_elses(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as first, weir.raw() as second:
        first.kinds(raw.parse("", "SELECT 'first'"), raw.sync())
        second.kinds(raw.parse("", "SELECT 'second'"), raw.sync())
        first.send(raw.bind("", ""), raw.execute(), raw.sync())
        try:
            rows = [raw.row_values(b) for kind, b in first.until_ready() if kind == "D"]
        except raw.ServerError as error:
            same(error.sqlstate, "26000", "SQLSTATE")
        else:
            same(rows, [["first"]], "result")
        same(first.query("SELECT 'on'"), [["on"]], "first goes on")
        same(second.rows(raw.parse("", "SELECT 'again'"), raw.bind("", ""), raw.execute(),
                         raw.sync()), [["again"]], "second goes on")


@case()
def reported_settings_follow_each_client(t):
    weir = t.weir(default_pool_size=1)
    asked = {"UTC": "ISO, DMY", "Europe/Berlin": "German, DMY", "Asia/Tokyo": "SQL, MDY"}
    clients = {zone: weir.connect(application_name=zone) for zone in asked}
    for zone, client in clients.items():
        client.execute(f"SET TimeZone = '{zone}'")
        client.execute(f"SET DateStyle = '{asked[zone]}'")
    for _ in range(3):
        for zone, client in clients.items():
            got = [client.execute(f"SHOW {name}").fetchone()[0]
                   for name in ("TimeZone", "DateStyle", "application_name")]
            same(got, [zone, asked[zone], zone], "settings")
            same(client.info.parameter_status("TimeZone"), zone, "as reported")


@case()
def quotes_in_a_setting_are_not_sql(t):
    weir = t.weir(default_pool_size=1)
    name = "it's \\ \"odd\"; SELECT 1"
    with weir.connect(application_name=name) as first, weir.connect(application_name="x") as second:
        for _ in range(2):
            same(first.execute("SHOW application_name").fetchone()[0], name, "first")
            same(second.execute("SHOW application_name").fetchone()[0], "x", "second")


@case(beyond="startup parameters end in FATAL")
def startup_options_hold_for_their_client_only(t):
    weir = t.weir(default_pool_size=1)
    options = "-c search_path=shelf -c statement_timeout=5s --work-mem=8MB -c app.x=a\\ b"
    first, second = weir.connect(options=options), weir.connect()
    for _ in range(2):
        got = [first.execute(f"SHOW {name}").fetchone()[0]
               for name in ("search_path", "statement_timeout", "work_mem", "app.x")]
        same(got, ["shelf", "5s", "8MB", "a b"], "first")
        same(first.execute("SELECT count(*) FROM book").fetchone()[0], 0, "schema")
        got = [second.execute(f"SHOW {name}").fetchone()[0]
               for name in ("search_path", "statement_timeout", "work_mem")]
        same(got, ['"$user", public', "0", "4MB"], "second")


@case(beyond="startup parameters end in FATAL")
def startup_parameters_hold_for_their_client_only(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw(search_path="shelf", extra_float_digits="2") as first, weir.raw() as second:
        for _ in range(2):
            same(first.query("SHOW search_path"), [["shelf"]], "first")
            same(first.query("SHOW extra_float_digits"), [["2"]], "first")
            same(second.query("SHOW search_path"), [['"$user", public']], "second")
            same(second.query("SHOW extra_float_digits"), [["1"]], "second")


@case(beyond="startup parameters end in FATAL")
def a_startup_option_that_is_wrong_is_an_error_and_no_more(t):
    weir = t.weir(default_pool_size=1)
    for options in ("-c work_mem=nonsense", "-c no_such_setting=1"):
        try:
            with weir.connect(options=options, connect_timeout=5) as client:
                client.execute("SELECT 1")
        except psycopg.Error as error:
            holds("work_mem" in str(error) or "no_such_setting" in str(error), str(error))
        else:
            raise Failed(f"{options} was accepted")
    same(weir.value("SELECT 1"), 1, "others go on")


@case()
def ignore_startup_parameters_is_obeyed(t):
    weir = t.weir(default_pool_size=1, ignore_startup_parameters="extra_float_digits, options")
    with weir.raw(extra_float_digits="2", options="-c work_mem=9MB") as client:
        same(client.query("SELECT 1"), [["1"]], "login")
        same(client.query("SHOW extra_float_digits"), [["1"]], "ignored")


@case()
def rollback_undoes_a_setting_for_all(t):
    weir = t.weir(default_pool_size=1)
    first, second = weir.connect(), weir.connect()
    first.execute("BEGIN")
    first.execute("SET TimeZone = 'Asia/Tokyo'")
    first.execute("ROLLBACK")
    zones = [client.execute("SHOW TimeZone").fetchone()[0] for client in (first, second)]
    holds(zones[0] == zones[1] != "Asia/Tokyo", f"time zones {zones}")


@case(beyond=BEYOND)
def a_dirtied_server_is_cleaned_or_closed_not_lost(t):
    weir = t.weir(default_pool_size=2)
    client = weir.connect()
    for i in range(50):
        client.execute(f"SET work_mem = '{i + 1}MB'")
    holds(t.pg.servers_n() <= 2, "more servers than the pool allows")
    with weir.connect() as other:
        same(other.execute("SHOW work_mem").fetchone()[0], "4MB", "work_mem")


@case(beyond=BEYOND)
def no_state_survives_a_storm_of_dirt(t):
    """Many clients dirty and ask at once; nobody may ever see what another one set."""
    weir = t.weir(default_pool_size=3)
    def dirty(i):
        with psycopg.connect(weir.dsn(), autocommit=True, prepare_threshold=None) as client:
            for n in range(t.sized(40, 8)):
                kind = (i + n) % 4
                if kind == 0:
                    client.execute(f"SELECT set_config('app.owner', 'c{i}', false)")
                elif kind == 1:
                    client.execute("CREATE TEMP TABLE numbers (i int)")
                else:
                    row = client.execute("SELECT current_setting('app.owner', true), "
                                         "(SELECT count(*) FROM numbers)").fetchone()
                    # A client may find what it set itself, if its server happened to be kept.
                    holds(row[0] in (None, "", f"c{i}"), f"client {i} saw {row}")
                    holds(row[1] in (0, 1000), f"client {i} saw {row}")

    def reader():
        with psycopg.connect(weir.dsn(), autocommit=True, prepare_threshold=None) as client:
            for _ in range(t.sized(100, 20)):
                row = client.execute("SELECT current_setting('app.owner', true), "
                                     "(SELECT count(*) FROM numbers)").fetchone()
                holds(row[0] in (None, "") and row[1] == 1000, f"a reader saw {row}")

    threads = [in_thread(dirty, i) for i in range(4)] + [in_thread(reader) for _ in range(3)]
    for thread in threads:
        thread.get(50)


@case()
def notify_needs_no_session(t):
    weir = t.weir(default_pool_size=1)
    with t.pg.connect() as listener, weir.connect() as client:
        got = []
        listener.add_notify_handler(lambda notice: got.append(notice.payload))
        listener.execute("LISTEN bell")
        client.execute("NOTIFY bell, 'rung'")
        wait_until("the notice arrives", lambda: listener.execute("SELECT 1") and got)
        same(got, ["rung"], "payload")


@case()
def a_server_error_keeps_its_sqlstate(t):
    weir = t.weir()
    client = weir.connect()
    refused(lambda: client.execute("SELECT 1/0"), "22012")
    refused(lambda: client.execute("SELECT * FROM nowhere"), "42P01")
    same(client.execute("SELECT 1").fetchone()[0], 1, "goes on")


@case(beyond=BEYOND)
def settings_that_cannot_be_read_back_end_their_client(t):
    """It was told that it has them, and would go on without: it must not."""
    weir = t.weir(default_pool_size=1)
    client = weir.raw()
    schemas = ", ".join(f"a_schema_with_a_long_name_{i:03}" for i in range(200))
    client.query(f"SET search_path = {schemas}")
    said = client.until_closed(5)  # it sends nothing more: that would reset what it is told
    holds(said and b"read back" in said, f"told {said}")
    same(weir.value("SHOW search_path"), '"$user", public', "what others see")


@case(beyond="it gives the server back with them", each={"quits": True, "vanishes": False})
def settings_on_their_way_to_a_server_meet_nobody_else(t, quits):
    """The client goes while the server is given its settings: nobody may get it with them."""
    weir = t.weir(default_pool_size=1)
    same(weir.value("SHOW work_mem"), "4MB", "before")
    backend = weir.value("SELECT pg_backend_pid()")
    client = weir.raw(options="-c work_mem=12345kB")
    os.kill(backend, signal.SIGSTOP)
    try:
        client.send(raw.query("SELECT 1"))
        wait_until("its settings are on their way", lambda: "tested" in
                   [row["state"] for row in weir.console("SHOW SERVERS")])
        if quits:
            client.send(raw.terminate())
        client.close()
        wait_until("it is gone", lambda: weir.console("SHOW CLIENTS") == [] or
                   "12345" not in str(weir.console("SHOW CLIENTS")))
        wait_until("the server drains", lambda: "tested" not in
                   [row["state"] for row in weir.console("SHOW SERVERS")])
    finally:
        os.kill(backend, signal.SIGCONT)
    same(weir.value("SHOW work_mem"), "4MB", "what the next client has")
