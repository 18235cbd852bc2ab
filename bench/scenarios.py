"""What is staged: a line or two of prose, then what load, what trouble, when, which bars.

A scenario lasts calm + trouble + after seconds; actors (actors.py) come at the beginning of their
phase and leave at its end; bars (bars.py) say what must hold. Arms run in the order given. Nothing
here does anything: stage.py plays it.
"""
from dataclasses import dataclass, field

import bars
from actors import (Crash, DeployedUsers, Dump, Hold, Readers, Restart, Scans, Sick, SlowDisk,
                    Stalls, AlterTable)

APP_CONNECTIONS_N = 10  # as HikariCP has unless told; both poolers allow 20: nobody must queue
SHARE = 0.45            # of capacity: what users take of the server in all scenarios


@dataclass
class Users:
    """The application. A share of the capacity measured at the start, or a rate, or a crowd of
    impatient ones who ask again as soon as they were answered (`closed`)."""
    share: float = SHARE
    nap_share: float = 0.0  # of the naps (10 ms each) a pool of 20 can do: capacity by definition
    closed: bool = False
    conns: int = APP_CONNECTIONS_N
    options: tuple = ()     # further ones of bench/load
    profile: tuple = ()     # (phase, seconds into it, factor)
    bin_s: float = 1.0


@dataclass
class Scenario:
    name: str
    title: str
    actors: list
    bars: list
    arms: tuple = ("off", "weir")
    users: Users = field(default_factory=Users)
    trouble_s: int = 20
    after_s: int = 5
    lone: bool = False      # a single COPY reader in the phase `after`: is it let run?
    grace_s: int = 2        # what the breaker needs is not counted: p99 from the 3rd second on
    pooler: dict = field(default_factory=dict)  # settings of every pooler


ALL = ("direct", "off", "weir", "bouncer", "tuned")
BACKUP_NAMES = "pgbackrest,barman,pg_dump,"  # the empty one is a script that says nothing

SCENARIOS = [
    Scenario(
        "streams", "a backup of 24 readers: two pg_dump -j 4 and sixteen COPY loops",
        [Readers(16, names=BACKUP_NAMES), Dump(jobs=4), Dump(jobs=4, kept=True)],
        [bars.plain_outage("direct", "off"), bars.acts_within(1.6), bars.users_calm(),
         bars.served(), bars.bulk_moves_as("tuned"), bars.full_speed_within(60),
         bars.dump_restores(), bars.no_limit_cycle()],
        arms=ALL, trouble_s=30, after_s=60, lone=True),
    Scenario(
        "aggregates", "24 reports at once: scans, hash aggregates and sorts that return one row",
        [Scans(24, names="dbt,airbyte")],
        [bars.plain_outage("direct"), bars.acts_within(1.6), bars.users_calm(), bars.served(),
         bars.bulk_answers()],
        arms=("direct", "weir", "tuned"), trouble_s=30, after_s=10, grace_s=8),
    Scenario(
        "mixed", "both at once: eight reports, twelve COPY loops and a pg_dump -j 4",
        [Scans(8, names="dbt"), Readers(12, names=BACKUP_NAMES), Dump(jobs=4)],
        [bars.acts_within(1.6), bars.users_calm(), bars.served(), bars.bulk_moves()],
        arms=("weir", "tuned"), trouble_s=30, after_s=10, grace_s=8),
    Scenario(
        "benign", "one pg_dump, which hardly hurts",
        [Dump(jobs=1)],
        [bars.nobody_blamed(), bars.withheld(0.02), bars.bulk_beside("off", 0.9),
         bars.served()]),
    Scenario(
        "alone", "24 readers and nobody else",
        [Readers(24, names=BACKUP_NAMES)],
        [bars.nobody_blamed(), bars.withheld(0.0), bars.bulk_beside("off", 0.9)],
        users=None, trouble_s=15, after_s=0),
    Scenario(
        "locks", "somebody holds the users' table for seconds while an innocent backup reads",
        [Readers(1, names="pgbackrest"),
         Hold("LOCK TABLE pgbench_accounts IN ACCESS EXCLUSIVE MODE", hold_s=3, every_s=9)],
        [bars.nobody_blamed(), bars.withheld(0.02)], trouble_s=25),
    Scenario(
        "inversion", "a dump under a storm, then ALTER TABLE: users queue behind it for the dump",
        # of another class than the dump, which shall have its place and be slowed down in it
        [Readers(12, names="airbyte"), Dump(jobs=1), AlterTable(after_s=5)],
        [bars.altered_within(15), bars.users_back_within(20)], trouble_s=30, after_s=5),
    Scenario(
        "deploy", "a new release asks heavier questions; a backup runs",
        [Readers(1, names="pgbackrest"), DeployedUsers(share=0.15)],
        [bars.nobody_blamed(), bars.withheld(0.02)]),
    Scenario(
        "ramp", "users become more, to 1.6 times as many, while a backup runs",
        [Readers(1, names="pgbackrest")],
        [bars.nobody_blamed(), bars.withheld(0.02), bars.served(0.99)],
        users=Users(share=0.25, profile=(("trouble", 0, 1), ("trouble", 20, 1.6)))),
    Scenario(
        "stalls", "checkpoints that stop everything for 0.3 s, while a backup runs",
        [Readers(1, names="pgbackrest"), Stalls(stall_s=0.3, every_s=5)],
        [bars.nobody_blamed(), bars.withheld(0.02)]),
    Scenario(
        "disk", "the disk becomes slow while a backup of one reader runs",
        [Readers(1, names="pgbackrest"), SlowDisk(share=0.5)],
        [bars.not_cancelled(), bars.given_back()], arms=("weir",), trouble_s=20, after_s=60),
    Scenario(
        "surge", "users at 1.33 times capacity, no bulk at all",
        [],
        [bars.loses_what_physics_demands("weir", extra=0.02), bars.nobody_blamed()],
        arms=("bouncer", "weir"),
        users=Users(nap_share=0.7, conns=1500, options=("--protocol=simple",),
                    profile=(("calm", 0, 1), ("trouble", 0, 1), ("trouble", 0, 1.9),
                             ("after", 0, 1.9), ("after", 0, 1))),
        trouble_s=20, after_s=10, pooler={"max_client_conn": 5000}),
    Scenario(
        "retries", "60 impatient clients retry while statements and logins take a second longer",
        [Sick()],
        [bars.recovers_within(2.0)], arms=("bouncer", "weir"),
        users=Users(closed=True, conns=60, bin_s=0.25,
                    options=("--timeout-ms=250", "--attempts=1", "--sql=SELECT nap()",
                             "--protocol=simple")),
        trouble_s=5, after_s=12, pooler={"max_client_conn": 5000}),
    Scenario(
        "crash", "a backend is killed by SIGKILL: all sessions are lost, and PostgreSQL recovers",
        [Readers(1, names="pgbackrest"), Crash()],
        [bars.recovers_within(2.0)], arms=("bouncer", "weir"), users=Users(bin_s=0.25),
        trouble_s=5, after_s=10),
    Scenario(
        "restart", "PostgreSQL is stopped the hard way, is away for 3 s, and starts again",
        [Readers(1, names="pgbackrest"), Restart(away_s=3)],
        [bars.recovers_within(2.0)], arms=("bouncer", "weir"), users=Users(bin_s=0.25),
        trouble_s=5, after_s=10),
]
