"""Who may come in, by which proof; and who we are to PostgreSQL."""
import hashlib
import os
import signal
import struct
import time

import raw
from harness import PASSWORD, Failed, case, holds, in_thread, refused, same


def md5_secret(user, password=PASSWORD):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def secret_of(t, kind, user):
    """u_scram's password in one of the three forms a userlist knows."""
    return {"plain": PASSWORD, "md5": md5_secret(user), "scram": t.pg.secrets["u_scram"]}[kind]


# auth_type and form of the secret -> may log in
MATRIX = {f"{auth},{kind}": (auth, kind, works) for auth, kind, works in (
    ("plain", "plain", True), ("plain", "md5", True), ("plain", "scram", True),
    ("md5", "plain", True), ("md5", "md5", True), ("md5", "scram", True),
    ("scram-sha-256", "plain", True), ("scram-sha-256", "scram", True),
    ("scram-sha-256", "md5", False))}


@case(each=MATRIX)
def passwords(t, what):
    auth, kind, works = what
    # The server side trusts: this is about clients alone.
    weir = t.weir(auth_type=auth, userlist={"u_scram": secret_of(t, kind, "u_scram")},
                  databases={"*": f"host={t.pg.sock} port={t.pg.port}"})

    def login(password):
        return weir.value("SELECT current_user::text", user="u_scram", password=password,
                          connect_timeout=5)

    if works:
        same(login(PASSWORD), "u_scram", "the right password")
    else:
        refused(lambda: login(PASSWORD), "28P01")
    # libpq asks for a password before it sends an empty one, hence a letter.
    for wrong in ("x", PASSWORD + " ", PASSWORD.upper(), md5_secret("u_scram"), "p" * 900):
        refused(lambda w=wrong: login(w), "28P01", "password|SASL|authentication")
    if works:
        same(login(PASSWORD), "u_scram", "the right password, after wrong ones")


def login_talk(weir, user, database="postgres"):
    """The messages of a login up to the first request for a proof, and after a wrong answer."""
    with raw.Raw(weir.tcp, login=False) as client:
        client.send(raw.startup(user=user, database=database))
        kind, body = client.next()
        talk = [(kind, len(body), body[:4])]
        (method,) = struct.unpack("!i", body[:4]) if kind == "R" else (None,)
        if method == 5:
            client.send(raw.message("p", b"md5" + b"0" * 32 + b"\0"))
        elif method == 3:
            client.send(raw.message("p", b"wrong\0"))
        elif method == 10:
            first = b"n,,n=,r=abcdefghijklmnop"
            client.send(raw.message("p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first))
                                    + first))
            kind, body = client.next()
            text = body[4:].decode()
            fields = dict(part.split("=", 1) for part in text.split(","))
            talk.append((kind, sorted(fields), len(fields["s"]), fields["i"],
                         len(fields["r"])))
            salt = fields["s"]
            proof = f"c=biws,r={fields['r']},p={'A' * 43}="
            client.send(raw.message("p", proof.encode()))
        kind, body = client.next()
        error = raw.error_fields(body)
        for name in ("M", "D", "H"):
            if name in error:
                error[name] = error[name].replace(user, "USER")
        talk.append((kind, {k: v for k, v in error.items() if k in "SVCMDH"}))
        holds(client.is_closed(), "a refused client stays connected")
        return talk, (salt if method == 10 else None)


@case(beyond="an unknown user gets another text, and 08P01", each={
    "plain": "plain", "md5": "md5", "scram": "scram-sha-256"})
def an_unknown_user_looks_like_a_wrong_password(t, auth):
    weir = t.weir(auth_type=auth, userlist={"known": PASSWORD})
    known, _ = login_talk(weir, "known")
    unknown, salt = login_talk(weir, "nobody")
    same(unknown, known, "what an unknown user sees")
    same(known[-1][1]["C"], "28P01", "SQLSTATE")
    # A salt that changes from one try to the next would give the mock away.
    same(login_talk(weir, "nobody")[1], salt, "the salt of an unknown user, asked twice")
    if salt:
        holds(login_talk(weir, "somebody")[1] != salt, "two unknown users have one salt")


@case()
def trust_asks_for_nothing_and_any_for_less(t):
    weir = t.weir()
    same(weir.value("SELECT current_user::text", user="app"), "app", "trust")
    weir = t.weir(auth_type="any", databases={
        "*": f"host=127.0.0.1 port={t.pg.port} dbname=postgres user=app"})
    same(weir.value("SELECT current_user::text", user="whoever"), "app", "any, with a forced user")


SERVER_SIDE = {
    "password": ("u_plain", PASSWORD), "md5": ("u_md5", PASSWORD), "scram": ("u_scram", PASSWORD)}


@case(each=SERVER_SIDE)
def logs_in_to_servers_with_the_password_of_the_database(t, what):
    user, password = what
    good = f"host=127.0.0.1 port={t.pg.port} dbname=postgres user={user}"
    weir = t.weir(databases={"good": f"{good} password='{password}'", "bad": f"{good} password=no"})
    same(weir.value("SELECT current_user::text", dbname="good"), user, "user")
    said = refused(lambda: weir.value("SELECT 1", dbname="bad", connect_timeout=5))
    holds("password authentication failed" in said, said)
    same(weir.value("SELECT 1", dbname="good"), 1, "the good one goes on")


@case(each=SERVER_SIDE)
def logs_in_to_servers_with_the_password_of_the_userlist(t, what):
    user, password = what
    weir = t.weir(auth_type="plain", userlist={user: password})
    same(weir.value("SELECT current_user::text", user=user, password=password), user, "user")


@case()
def md5_secrets_serve_both_sides(t):
    weir = t.weir(auth_type="md5", userlist={"u_md5": md5_secret("u_md5")})
    same(weir.value("SELECT current_user::text", user="u_md5", password=PASSWORD), "u_md5", "user")


@case()
def scram_secrets_serve_both_sides(t):
    """The proof of one client is enough to log in to the server: no password is ever stored."""
    weir = t.weir(auth_type="scram-sha-256", userlist={"u_scram": t.pg.secrets["u_scram"]})
    for _ in range(2):
        same(weir.value("SELECT current_user::text", user="u_scram", password=PASSWORD), "u_scram",
             "user")


@case(seconds=30)
def a_client_that_never_answers_is_dropped(t):
    weir = t.weir(auth_type="scram-sha-256", client_login_timeout=1, userlist={"known": PASSWORD})
    silent = [raw.Raw(weir.tcp, login=False) for _ in range(3)]
    silent[1].send(raw.startup(user="known", database="postgres"))
    silent[2].send(raw.startup(user="known", database="postgres")[:11])
    began = time.monotonic()
    for client in silent:
        holds(client.is_closed(4), "a client that never logs in stays")
    holds(time.monotonic() - began < 3, "it took too long")


@case()
def a_login_does_not_stall_others(t):
    """PBKDF2 costs milliseconds; a query of somebody else must not wait for hundreds of them."""
    weir = t.weir(auth_type="md5", userlist={"app": md5_secret("app"), "slow": PASSWORD},
                  workers=1)
    with weir.connect(user="app", password=PASSWORD) as client:
        client.execute("SELECT 1")

        def storm():
            for _ in range(t.sized(30, 5)):
                try:
                    with raw.Raw(weir.tcp, login=False) as c:
                        c.send(raw.startup(user="slow", database="postgres"))
                        c.next()
                        c.send(raw.message("p", b"md5" + b"0" * 32 + b"\0"))
                        c.next()
                except (raw.Closed, ConnectionError):
                    pass

        storms = [in_thread(storm) for _ in range(4)]
        longest = 0
        while not all(s.done() for s in storms):
            began = time.monotonic()
            client.execute("SELECT 1")
            longest = max(longest, time.monotonic() - began)
        t.note(f"longest query {longest * 1000:.0f} ms")
        holds(longest < 1, "a query waited for logins")


@case()
def a_changed_userlist_counts_after_reload(t):
    weir = t.weir(auth_type="md5", userlist={"app": "first"})
    same(weir.value("SELECT 1", user="app", password="first"), 1, "first password")
    weir.userlist["app"] = "second password"
    weir.write()
    os.kill(weir.pid, signal.SIGHUP)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            same(weir.value("SELECT 1", user="app", password="second password"), 1, "second")
            break
        except Failed:
            raise
        except Exception:
            time.sleep(0.1)
    else:
        raise Failed("the new password is not accepted")
    refused(lambda: weir.value("SELECT 1", user="app", password="first"), "28P01")


@case()
def hostile_user_names(t):
    weir = t.weir(auth_type="scram-sha-256", userlist={"known": PASSWORD})
    for name in ("", "'; DROP TABLE x; --", "\n\r\t", "%s%n%x", "u" * 127, "v" * 5000, "ü" * 60):
        try:
            login_talk(weir, name)
        except (raw.Closed, ConnectionError, KeyError):
            pass
    refused(lambda: weir.value("SELECT 1", user="known", password="wrong"), "28P01")
    holds("\n\r" not in weir.log(), "a user name broke a log line")


@case(beyond="its errors are 08P01")
def a_server_that_refuses_the_user_says_so(t):
    weir = t.weir(userlist={"missing_role": ""}, server_login_retry=1)
    said = refused(lambda: weir.value("SELECT 1", user="missing_role", connect_timeout=5))
    holds('role "missing_role" does not exist' in said, said)
    same(weir.value("SELECT 1"), 1, "other users")
