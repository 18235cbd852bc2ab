"""Whether an archive of pg_dump holds what the database held: restored beside it and compared.

The ledgers never change, so each row must be there again. The accounts did change while the dump
ran; but every change moved a balance and wrote its delta into the history in one transaction, so a
copy taken at one instant has the same difference between the two sums as the original at any time.
"""
import lab

COPY = "restored"


def prints(control, table):
    """Rows of a table, and a sum of their hashes, which no order of rows changes."""
    row = control.ask(f"SELECT count(*) AS n, sum(hashtextextended(t::text, 0)::numeric) AS h"
                      f" FROM {table} t")[0]
    return row["n"], row["h"]


def difference(control):
    return control.value("SELECT (SELECT sum(abalance) FROM pgbench_accounts)"
                         " - (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")


def compare(pg, archive):
    """"equal", or what is not."""
    with pg.session() as control:
        control.ask(f"DROP DATABASE IF EXISTS {COPY}")
        control.ask(f"CREATE DATABASE {COPY} TEMPLATE template0")
    try:
        lab.run(["pg_restore", "-j", 2, "--no-owner", "--no-privileges", "-d",
                 pg.conninfo(user="postgres", database=COPY), archive])
        with lab.Session(pg.port, database=lab.DATABASE, seconds=300) as here, \
                lab.Session(pg.port, database=COPY, seconds=300) as there:
            for table in lab.TABLES:
                if prints(here, table) != prints(there, table):
                    return f"{table} differs"
            if difference(here) != difference(there):
                return "accounts and history are not of one instant"
            if here.value("SELECT count(*) FROM pgbench_accounts") != \
                    there.value("SELECT count(*) FROM pgbench_accounts"):
                return "accounts are missing"
    except (lab.Trouble, lab.PgError) as trouble:
        return str(trouble)
    finally:
        with pg.session() as control:
            control.ask(f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)")
    return "equal"
