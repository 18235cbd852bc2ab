"""The console, its commands, signals, reload, and the command line."""
import os
import re
import signal
import time

import psycopg

import raw
from harness import (Failed, Skip, as_postgres, case, holds, in_thread, output_of, refused, same,
                     wait_until)

XACT = "server_assignment_count xact_count query_count"
TIMES = "xact_time query_time wait_time"
PS = "client_parse_count server_parse_count bind_count client_login_count"
# PgBouncer 1.25's columns, in its order; ours may only come after them.
COLUMNS = {
    "VERSION": "version",
    "CONFIG": "key value default changeable",
    "DATABASES": "name host port database force_user pool_size min_pool_size reserve_pool_size "
                 "server_lifetime pool_mode load_balance_hosts max_connections current_connections "
                 "max_client_connections current_client_connections paused disabled",
    "POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req "
             "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login "
             "maxwait maxwait_us pool_mode load_balance_hosts",
    "CLIENTS": "type user database replication state addr port local_addr local_port connect_time "
               "request_time wait wait_us close_needed ptr link remote_pid tls application_name "
               "prepared_statements id",
    "SERVERS": "type user database replication state addr port local_addr local_port connect_time "
               "request_time wait wait_us close_needed ptr link remote_pid tls application_name "
               "prepared_statements id",
    "LISTS": "list items",
    "USERS": "name pool_size reserve_pool_size pool_mode max_user_connections current_connections "
             "max_user_client_connections current_client_connections",
    "TOTALS": "name value",
    "STATS": "database "
             + " ".join(f"total_{c}" for c in f"{XACT} received sent {TIMES} {PS}".split()) + " "
             + " ".join(f"avg_{c}" for c in f"{XACT} recv sent {TIMES} {PS}".split()),
}


@case(each={name: name for name in COLUMNS}, beyond="1.18 has fewer columns")
def columns_are_pgbouncers(t, name):
    weir = t.weir()
    with weir.connect() as client:
        client.execute("SELECT 1")
        rows = weir.console(f"SHOW {name}")
        holds(rows, f"SHOW {name} is empty")
        wanted = COLUMNS[name].split()
        same(list(rows[0])[:len(wanted)], wanted, f"columns of SHOW {name}")
        same(len(weir.console(f"show {name.lower()};")), len(rows), "in small letters")


@case(beyond="it knows no classes", each={name: name for name in ("CLASSES", "BREAKERS", "ENDS")})
def our_own_tables(t, name):
    weir = t.weir()
    weir.value("SELECT 1")
    rows = weir.console(f"SHOW {name}")
    holds(rows, f"SHOW {name} is empty")


@case()
def show_lists_pools_and_clients_tell_the_truth(t):
    weir = t.weir(default_pool_size=1)
    idle, holder = weir.connect(application_name="idler"), weir.connect(autocommit=False)
    idle.execute("SELECT 1")
    holder.execute("SELECT 1")
    waiting = in_thread(lambda: idle.execute("SELECT 2").fetchone()[0])
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    pool = weir.pool()
    same((pool["cl_active"], pool["sv_active"], pool["sv_idle"]), (1, 1, 0), "pool")
    holds(pool["pool_mode"] == "transaction", "pool_mode")
    wait_until("maxwait grows", lambda: weir.pool()["maxwait"] >= 1, 3)
    clients = {c["application_name"]: c for c in weir.console("SHOW CLIENTS")
               if c["database"] == "postgres"}
    same(clients["idler"]["state"], "waiting", "state of the waiting client")
    same(len([s for s in weir.console("SHOW SERVERS") if s["state"] == "active"]), 1, "servers")
    lists = {row["list"]: row["items"] for row in weir.console("SHOW LISTS")}
    holds(lists["used_clients"] >= 2 and lists["used_servers"] == 1, f"lists: {lists}")
    holder.commit()
    same(waiting.get(), 2, "the waiting query")


@case()
def stats_count(t):
    weir = t.weir()
    with weir.connect() as client:
        before = totals(weir)
        for _ in range(50):
            client.execute("SELECT 1")
        client.execute("BEGIN; SELECT 1; SELECT 2; COMMIT")
        wait_until("51 transactions are counted", lambda: totals(weir)["total_xact_count"]
                   - before["total_xact_count"] == 51)
        after = totals(weir)
        holds(after["total_query_count"] - before["total_query_count"] >= 51, "queries")
        for name in ("total_received", "total_sent", "total_query_time"):
            holds(after[name] > before[name], f"{name} stands still")


@case(beyond="it has one loop")
def moves_between_workers_are_counted(t):
    weir = t.weir(default_pool_size=1, workers=2)
    clients = [weir.connect() for _ in range(8)]  # some in each loop, and one server for all
    for client in clients:
        client.execute("SELECT 1")
    after = totals(weir)
    moves = after["total_server_move_count"]
    holds(0 < moves <= after["total_server_assignment_count"], f"{moves} moves")


def totals(weir):
    for row in weir.console("SHOW STATS"):
        if row["database"] == "postgres":
            return row
    return {"total_xact_count": 0, "total_query_count": 0, "total_received": 0, "total_sent": 0,
            "total_query_time": 0}


@case()
def who_may_do_what(t):
    weir = t.weir(admin_users="postgres", stats_users="app")
    holds(weir.console("SHOW POOLS", user="app", unix=False), "stats_users may SHOW")
    for command in ("RELOAD", "PAUSE", "SHUTDOWN", "SET verbose = 1"):
        refused(lambda c=command: weir.console(c, user="app", unix=False))
    refused(lambda: weir.console("SHOW POOLS", user="other", unix=False))
    holds(weir.console("SHOW POOLS", user="postgres", unix=False), "admin over TCP")


@case(beyond="it asks for a password here, unless its own user name is asked for")
def its_own_user_needs_no_password_on_the_unix_socket(t):
    weir = t.weir(auth_type="scram-sha-256", userlist={"postgres": "secret"}, admin_users="")
    for name in ("pgweir", "pgbouncer"):
        command = [t.pg.bin / "psql", "-XAtw", "-p", str(weir.port), "-U", name, name, "-c",
                   "SHOW VERSION"]
        _, out, _ = output_of([*as_postgres(), *command, "-h", weir.dir])
        holds(out.strip(), "no version")
        status, _, _ = output_of([*as_postgres(), *command, "-h", "127.0.0.1"], check=False)
        holds(status != 0, f"{name} is let in over TCP without a password")
        if os.getuid() == 0:
            status, _, _ = output_of([*command, "-h", weir.dir], check=False)
            holds(status != 0, f"{name} is let in as another user of this machine")


@case(beyond="a long command ends the connection")
def wrong_commands_are_errors_and_no_more(t):
    weir = t.weir()
    with weir.raw(database="pgbouncer") as console:
        for text in ("SHOW NONSENSE", "BOGUS", "SHOW", "SET", "SET x", "SET no_such_key = 1",
                     "SET default_pool_size = abc", "PAUSE nowhere", "RESUME nowhere", ";;;", "'",
                     "SHOW " + "x" * 5000, "SHOW POOLS POOLS POOLS", "-- comment", "\n\n"):
            try:
                console.query(text)
            except raw.ServerError as error:
                holds(error.sqlstate and error.text, f"{text!r}: {error.fields}")
            same(len(console.query("SHOW VERSION")), 1, f"after {text[:20]!r}")


@case(beyond="an extended message ends the connection")
def the_console_speaks_the_extended_protocol(t):
    weir = t.weir()
    with weir.raw(database="pgweir") as console:
        rows = console.rows(raw.parse("", "SHOW VERSION"), raw.bind("", ""), raw.describe("P"),
                            raw.execute(), raw.sync())
        same(len(rows), 1, "rows")
        refused(lambda: console.rows(raw.parse("", "SHOW NONSENSE"), raw.bind("", ""),
                                     raw.describe("P"), raw.execute(), raw.sync()))
        same(len(console.query("SHOW VERSION")), 1, "goes on")
    with psycopg.connect(weir.dsn(dbname="pgweir"), autocommit=True) as client:
        same(len(client.execute("SHOW VERSION").fetchall()), 1, "psycopg's own way")


@case()
def set_changes_a_setting_now(t):
    weir = t.weir(default_pool_size=1)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    waiting = in_thread(lambda: weir.value("SELECT 'in'"))
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    weir.console("SET default_pool_size = 2")
    same(waiting.get(), "in", "the waiting client")
    same(setting(weir, "default_pool_size"), "2", "SHOW CONFIG")


@case()
def reload_takes_over_a_good_file(t):
    weir = t.weir(query_wait_timeout=60)
    client = weir.connect()
    client.execute("SELECT 1")
    weir.databases["fresh"] = f"host=127.0.0.1 port={t.pg.port} dbname=postgres"
    weir.write(query_wait_timeout=61)
    weir.console("RELOAD")
    same(setting(weir, "query_wait_timeout").split(".")[0], "61", "setting")
    same(weir.value("SELECT 1", dbname="fresh"), 1, "new database")
    same(client.execute("SELECT 2").fetchone()[0], 2, "clients stay")
    weir.write(query_wait_timeout=62)
    os.kill(weir.pid, signal.SIGHUP)
    wait_until("HUP reloads too", lambda: setting(weir, "query_wait_timeout").split(".")[0] == "62")


def setting(weir, key):
    return {row["key"]: row["value"] for row in weir.console("SHOW CONFIG")}[key]


@case(beyond="it takes over the part before the error (#1482)")
def reload_of_a_bad_file_changes_nothing(t):
    weir = t.weir(query_wait_timeout=60)
    client = weir.connect()
    client.execute("SELECT 1")
    weir.databases["half"] = f"host=127.0.0.1 port={t.pg.port} dbname=postgres"
    for bad in ("no_such_key = 1", "default_pool_size = many", "[nonsense]\nx = 1"):
        weir.text = f"[pgbouncer]\n{bad}"
        weir.write(query_wait_timeout=99)
        said = refused(lambda: weir.console("RELOAD"), "F0000")
        holds("RELOAD failed" in said, said)
        same(setting(weir, "query_wait_timeout").split(".")[0], "60", "setting")
        same("half" in [row["name"] for row in weir.console("SHOW DATABASES")], False, "database")
        same(client.execute("SELECT 2").fetchone()[0], 2, "clients stay")
    os.rename(weir.ini, f"{weir.ini}.away")
    refused(lambda: weir.console("RELOAD"), "F0000")
    os.rename(f"{weir.ini}.away", weir.ini)
    weir.text = ""
    weir.write()
    weir.console("RELOAD")
    same(setting(weir, "query_wait_timeout").split(".")[0], "99", "a good file again")


@case(seconds=60)
def reload_under_load(t):
    weir = t.weir(default_pool_size=5)
    stop = []

    def work():
        n = 0
        with psycopg.connect(weir.dsn(), autocommit=True, prepare_threshold=None) as client:
            while not stop:
                n += client.execute("SELECT 1").fetchone()[0]
        return n

    threads = [in_thread(work) for _ in range(5)]
    for i in range(t.sized(20, 5)):
        weir.write(query_wait_timeout=60 + i)
        weir.console("RELOAD")
        time.sleep(0.02)
    stop.append(True)
    t.note(f"{sum(thread.get() for thread in threads)} queries meanwhile")


@case()
def pause_and_resume(t):
    weir = t.weir()
    with weir.connect() as client:
        client.execute("SELECT 1")
        weir.console("PAUSE")
        wait_until("PAUSE closes the servers", lambda: t.pg.servers_n() == 0)
        waiting = in_thread(lambda: client.execute("SELECT 'on'").fetchone()[0])
        time.sleep(0.5)
        same(waiting.done(), False, "a query ran in a pause")
        weir.console("RESUME")
        same(waiting.get(), "on", "after RESUME")
        os.kill(weir.pid, signal.SIGUSR1)
        wait_until("USR1 pauses too", lambda: t.pg.servers_n() == 0)
        waiting = in_thread(lambda: client.execute("SELECT 'end'").fetchone()[0])
        time.sleep(0.5)
        same(waiting.done(), False, "a query ran in a pause")
        os.kill(weir.pid, signal.SIGUSR2)
        same(waiting.get(), "end", "after USR2")


@case()
def pause_waits_for_transactions(t):
    weir = t.weir()
    client = weir.connect(autocommit=False)
    client.execute("SELECT 1")
    pausing = in_thread(lambda: weir.console("PAUSE postgres"))
    time.sleep(0.5)
    same(pausing.done(), False, "PAUSE ended in the middle of a transaction")
    client.commit()
    pausing.get(5)
    weir.console("RESUME postgres")
    same(client.execute("SELECT 1").fetchone()[0], 1, "goes on")


@case(each={"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGQUIT": signal.SIGQUIT},
      beyond="in 1.18 only SIGINT ends it in order")
def signals_end_it_cleanly(t, how):
    weir = t.weir()
    with weir.connect() as client:
        client.execute("SELECT 1")
    same(weir.stop(how), 0, "exit status")


@case(beyond="in 1.18 SIGTERM is an immediate shutdown")
def sigterm_waits_for_clients_and_sigint_for_servers(t):
    weir = t.weir()
    client = weir.connect(autocommit=False)
    client.execute("SELECT 1")
    os.kill(weir.pid, signal.SIGTERM)
    wait_until("newcomers are refused", lambda: not weir.answers())
    same(client.execute("SELECT 2").fetchone()[0], 2, "a client inside goes on")
    client.commit()
    same(weir.process.poll(), None, "still there")
    client.close()
    same(weir.process.wait(5), 0, "exit status once the last client has left")
    weir.exit_status = 0
    second = t.weir()
    client = second.connect(autocommit=False)
    client.execute("SELECT 1")
    os.kill(second.pid, signal.SIGINT)
    same(client.execute("SELECT 2").fetchone()[0], 2, "a transaction goes on")
    client.commit()
    same(second.process.wait(5), 0, "exit status once the last server is idle")
    second.exit_status = 0


@case()
def shutdown_by_command(t):
    weir = t.weir()
    weir.value("SELECT 1")
    try:
        weir.console("SHUTDOWN")
    except psycopg.Error:
        pass
    same(weir.process.wait(10), 0, "exit status")
    weir.exit_status = 0


@case(beyond="its console waits behind its one loop")
def the_console_answers_while_pools_are_full(t):
    weir = t.weir(default_pool_size=1, max_client_conn=20)
    clients = [weir.raw() for _ in range(20)]
    for client in clients:
        client.send(raw.query("SELECT pg_sleep(0.1)"))
    began = time.monotonic()
    for name in ("POOLS", "CLIENTS", "SERVERS", "STATS", "CLASSES", "BREAKERS"):
        weir.console(f"SHOW {name}")
    holds(time.monotonic() - began < 1, "the console is slow")
    for client in clients:
        client.until_ready()


# ---- command line --------------------------------------------------------------------------------


def run_binary(t, *args):
    return output_of([*as_postgres(), t.binary, *args], check=False, seconds=10)


@case()
def version_and_help(t):
    status, out, _ = run_binary(t, "--version")
    same(status, 0, "exit status of --version")
    weir = t.weir()
    same(weir.console("SHOW VERSION")[0]["version"], out.splitlines()[0], "SHOW VERSION")
    status, out, said = run_binary(t, "--help")
    same(status, 0, "exit status of --help")
    for option in ("-d", "-q", "-v", "-u", "-V", "-h"):
        holds(f"{option}, " in out + said, f"--help does not know {option}")
    same(run_binary(t)[0] != 0, True, "without a file")
    same(run_binary(t, "--no-such-option")[0] != 0, True, "unknown option")
    same(run_binary(t, f"{t.dir}/nowhere.ini")[0] != 0, True, "missing file")


BAD_FILES = {
    "unknown key": ("[pgbouncer]\nquery_wait_timout = 5\n", r":2\b.*query_wait_timout(.|\n)*"
                                                            r"query_wait_timeout"),
    "unknown section": ("[pgbouncr]\nx = 1\n", r"pgbouncr"),
    "bad number": ("[pgbouncer]\nlisten_port = x\n", r":2\b.*listen_port"),
    "bad word": ("[pgbouncer]\npool_mode = often\n", r":2\b.*pool_mode"),
    "bad database": ("[databases]\na = host=x nonsense=1\n", r":2\b.*nonsense"),
    "bad class": ("[class bulk]\npriorty = 3\n", r":2\b.*priorty(.|\n)*priority"),
}


@case(beyond="it has no --check", each=BAD_FILES)
def check_finds(t, what):
    text, wanted = what
    path = t.dir / "bad.ini"
    path.write_text(text)
    status, out, said = run_binary(t, "--check", path)
    holds(status != 0, "--check is content with it")
    holds(re.search(wanted, out + said), f"it says: {out}{said}")
    status, out, said = run_binary(t, path)
    holds(status != 0, "it starts nevertheless")


@case(beyond="it has no --check")
def check_is_content_with_a_good_file(t):
    weir = t.weir(start=False)
    status, out, said = run_binary(t, "--check", weir.ini)
    same(status, 0, f"exit status ({out}{said})")
    second = weir.dir / "second.ini"
    second.write_text("[pgweir]\ndefault_pool_size = 7\n[class reports]\npriority = 5\n"
                      "match = application_name:report*\n")
    status, out, said = run_binary(t, "--check", weir.ini, second)
    same(status, 0, f"exit status with two files ({out}{said})")


@case(beyond="it has no second file")
def a_second_file_adds_and_overrides(t):
    weir = t.weir(start=False, default_pool_size=3)
    second = weir.dir / "second.ini"
    second.write_text("[pgweir]\ndefault_pool_size = 7\n")
    weir.args, weir.ini = [weir.ini], second
    weir.start()
    same(setting(weir, "default_pool_size"), "7", "default_pool_size")


@case()
def it_refuses_to_run_as_root(t):
    if os.getuid() != 0:
        raise Skip("not run as root")
    weir = t.weir(start=False)
    status, out, said = output_of([t.binary, weir.ini], check=False, seconds=10)
    holds(status != 0 and "root" in out + said, f"status {status}: {out}{said}")


@case()
def daemon_pidfile_and_logfile(t):
    weir = t.weir(start=False)
    pidfile, logfile = weir.dir / "pid", weir.dir / "logfile"
    weir.write(pidfile=pidfile, logfile=logfile)
    output_of([*as_postgres(), t.binary, "-d", "-q", weir.ini], seconds=10)
    pid = int(wait_until("the pidfile", lambda: pidfile.exists() and pidfile.read_text().strip()))
    try:
        wait_until("it listens", weir.answers)
        same(weir.value("SELECT 1"), 1, "service")
        status, _, _ = output_of([*as_postgres(), t.binary, "-d", "-q", weir.ini], check=False,
                                 seconds=10)
        holds(status != 0, "a second one starts with the same pidfile")
        moved = logfile.rename(weir.dir / "logfile.1")
        os.kill(pid, signal.SIGHUP)
        wait_until("the log is reopened", lambda: weir.answers() and logfile.exists())
        holds("LOG" in moved.read_text(), "the old log")
    finally:
        os.kill(pid, signal.SIGINT)
        try:
            wait_until("it ends", lambda: not os.path.exists(f"/proc/{pid}"), 10)
        except Failed:
            os.kill(pid, signal.SIGKILL)
            raise
    same(pidfile.exists(), False, "the pidfile is left")
