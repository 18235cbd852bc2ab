"""Hours of a class, and the time by which its work should be done."""
import datetime
import time
import zoneinfo

from harness import case, holds, in_thread, output_of, refused, same, wait_until

BEYOND = "it knows no hours"
ZONE = zoneinfo.ZoneInfo("Asia/Kathmandu")  # not the machine's, and 45 minutes off any other


def window(minutes_from, minutes_till):
    """A window around now, in words."""
    now = datetime.datetime.now(ZONE)
    ends = [(now + datetime.timedelta(minutes=m)).strftime("%H:%M")
            for m in (minutes_from, minutes_till)]
    return f"{ends[0]}-{ends[1]} {ZONE.key}"


def weir_with(t, hours, more=""):
    return t.weir(text=f"[class bulk]\nmatch = application_name:bulky\n"
                       f"schedule = {hours}\n{more}\n")


def shown(weir):
    return next(row for row in weir.console("SHOW CLASSES") if row["class"] == "bulk")


def at_once(t, weir, n):
    """The most of n slow statements that run at a time."""
    def work():
        with weir.connect(application_name="bulky") as client:
            return client.execute("SELECT 1, pg_sleep(0.3)").fetchone()[0]

    threads = [in_thread(work) for _ in range(n)]
    most = 0
    while not all(thread.done() for thread in threads):
        most = max(most, t.pg.running_n("pg_sleep"))
    for thread in threads:
        same(thread.get(), 1, "answer")
    return most


@case(beyond=BEYOND)
def inside_its_hours_a_class_works_as_it_likes(t):
    weir = weir_with(t, window(-60, 60))
    weir.value("SELECT 1", application_name="bulky")
    time.sleep(1.2)  # the clock is looked at once a second: here nothing must come of it
    same(shown(weir)["closed"], 0, "closed")
    holds(at_once(t, weir, 4) > 1, "its statements ran one by one")


@case(beyond=BEYOND)
def outside_it_has_one_server(t):
    weir = weir_with(t, window(60, 120))
    weir.value("SELECT 1")
    wait_until("the clock is seen", lambda: shown(weir)["closed"] == 1, 3)
    same(at_once(t, weir, 4), 1, "statements at once")


@case(beyond=BEYOND)
def outside_it_is_refused_and_a_reload_opens(t):
    later, now = window(60, 120), window(-60, 60)
    weir = weir_with(t, later, "outside = refuse")
    with weir.connect(application_name="bulky") as client:
        wait_until("the clock is seen", lambda: shown(weir)["closed"] == 1, 3)
        refused(lambda: client.execute("SELECT 1"), "53000", "may not work at this hour")
        same(weir.value("SELECT 2"), 2, "a user's answer")
        weir.text = weir.text.replace(later, now)
        weir.write()
        weir.console("RELOAD")
        wait_until("it is open", lambda: shown(weir)["closed"] == 0, 3)
        same(client.execute("SELECT 3").fetchone()[0], 3, "its answer")


@case(beyond=BEYOND)
def bad_hours_are_told_with_their_place(t):
    weir = t.weir(start=False, text="[class bulk]\nschedule = soon\n"
                                    "finish_by = 06:00 Europe/Atlantis\n")
    status, out, err = output_of([t.binary, "--check", weir.ini], check=False)
    holds(status != 0, "--check accepts it")
    said = out + err
    for part in ("schedule = soon", "Mon-Fri 01:00-05:00", 'no time zone "Europe/Atlantis"'):
        holds(part in said, f"no “{part}” in: {said}")


@case(beyond=BEYOND, seconds=150)
def a_backup_that_will_be_late_is_told(t):
    """Its time passes while it runs: one line, a column, a metric."""
    now = datetime.datetime.now(ZONE)
    due = (now + datetime.timedelta(minutes=1)).strftime("%H:%M")
    weir = t.weir(text="[class bulk]\nmatch = application_name:bulky\n"
                       f"finish_by = {due} {ZONE.key}\n")
    with weir.connect(application_name="bulky", autocommit=False) as client:
        client.execute("SELECT 1")
        wait_until("it is late", lambda: shown(weir)["late"] == 1, 75, every=0.5)
        client.commit()
    same(weir.log().count("late=yes"), 1, "lines in the log")
