"""What the breakers know: norms that survive a restart, statements shown, orders obeyed."""
import os
import subprocess
import sys
import time
from pathlib import Path

from harness import case, holds, same, wait_until

BEYOND = "it has no breakers"
TOP = Path(__file__).resolve().parents[2]


def blind(weir):
    """No norm is known; before the first ticks nothing is known of that either."""
    rows = weir.console("SHOW UPSTREAMS")
    return not rows or rows[0]["ticks"] < 3 or bool(rows[0]["blind"])


def again(weir):
    """Ends the process, so that it may be started again."""
    same(weir.stop(), 0, "exit status")
    weir.exit_status = None


def norms_are_learnt(client, weir):
    """Statements of a literal each until latency may speak: 8 s of calm with 1000 samples."""
    i = 0
    deadline = time.monotonic() + 50
    while blind(weir):
        holds(time.monotonic() < deadline, "a norm is learnt in 50 s")
        for _ in range(40):
            i += 1
            client.execute(f"SELECT  {i} AS seen, 'secret {i}'")
        time.sleep(0.05)
    return i


def shown_statement(weir):
    rows = [row for row in weir.console("SHOW FINGERPRINTS")
            if row["text"] == "SELECT ? AS seen, ?"]
    return rows[0] if rows else None


@case(beyond=BEYOND, seconds=120)
def norms_survive_a_restart(t):
    weir = t.weir(start=False)
    path = weir.dir / "norms"
    weir.write(baseline_file=path)
    weir.start()
    with weir.connect() as client:
        ran = norms_are_learnt(client, weir)
        row = shown_statement(weir)
        holds(row is not None, "the statement is shown without its literals")
        holds(row["n"] > 500 and row["n"] <= ran, f"its samples: {row['n']} of {ran}")
        holds(row["share"] > 0.5, f"its share of the time: {row['share']}")
        holds(not any("secret" in (r["text"] or "") for r in weir.console("SHOW FINGERPRINTS")),
              "no literal is shown")
    again(weir)
    holds(b"secret" not in path.read_bytes(), "no literal is in the file")
    same(os.stat(path).st_mode & 0o777, 0o600, "mode of the file")
    weir.start()
    with weir.connect() as client:
        client.execute("SELECT 1 AS seen, 'x'")
        wait_until("norms are there at once", lambda: not blind(weir))
        holds(shown_statement(weir)["n"] >= row["n"] - 40, "with their samples")
        holds("norms of" in weir.log(), "the log says so")
        weir.console("RESET BASELINE")
        wait_until("RESET BASELINE forgets them", lambda: blind(weir))
    again(weir)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    weir.start()
    with weir.connect() as client:
        client.execute("SELECT 1")
        wait_until("the log says that they are ignored", lambda: "are ignored" in weir.log())
        holds(blind(weir), "blind with a damaged file")


@case(beyond=BEYOND)
def a_file_of_somebody_else_is_ignored_with_one_line(t):
    weir = t.weir(start=False)
    path = weir.dir / "foreign"
    path.write_bytes(os.urandom(5000))
    path.chmod(0o644)
    weir.write(baseline_file=path)
    weir.start()
    same(weir.value("SELECT 1"), 1)
    same(weir.log().count("is ignored: it is not a file of norms"), 1, "lines about it")


@case(beyond=BEYOND)
def what_an_operator_orders_is_shown_and_logged(t):
    weir = t.weir(log_breaker_ticks=1)
    same(weir.value("SELECT 1"), 1)

    def breaker(name):
        return next(row for row in weir.console("SHOW BREAKERS") if row["class"] == name)

    same((breaker("bulk")["state"], breaker("bulk")["verdict"]), ("closed", "none"))
    weir.console("TRIP bulk")
    same((breaker("bulk")["state"], breaker("bulk")["verdict"]), ("throttled", "by_hand"))
    holds(breaker("bulk")["g"] < 0.05, "bulk is at its floor")
    holds(breaker("backup")["g"] == 1, "and nobody else")
    moves = weir.console("SHOW TRANSITIONS")
    same([(m["from"], m["to"], m["class"]) for m in moves], [("closed", "throttled", "bulk")])
    holds("bulk g=0.01" in moves[0]["classes"], moves[0]["classes"])
    wait_until("ticks are logged", lambda: weir.log().count("breaker_tick ") > 5)
    weir.console("RELEASE")
    same((breaker("bulk")["state"], breaker("bulk")["g"]), ("closed", 1))
    wait_until("both moves are logged", lambda: weir.log().count("by hand") >= 2)
    same(len(weir.console("SHOW VERDICTS")), 5, "kinds of verdicts")
    played = subprocess.run([sys.executable, TOP / "tests/model/replay.py", weir.log_file],
                            stdout=subprocess.PIPE, text=True, check=False)
    holds(played.returncode in (0, 77), played.stdout)


@case(beyond=BEYOND)
def observing_is_shown_and_does_nothing(t):
    weir = t.weir(text="[class bulk]\nmatch = application_name:bulky\n")
    weir.console("SET BREAKER bulk observe")
    with weir.connect(application_name="bulky") as client:
        client.execute("SELECT 1")
        weir.console("TRIP bulk")
        time.sleep(0.3)
        for _ in range(20):
            client.execute("SELECT 1")
        row = next(r for r in weir.console("SHOW BREAKERS") if r["class"] == "bulk")
        same(row["mode"], "observe")
        holds(row["limited_us"] > 0, "time it would have been limited")
        held = next(r for r in weir.console("SHOW CLASSES") if r["class"] == "bulk")
        same((held["held"], held["refused"]), (0, 0), "held, refused")
