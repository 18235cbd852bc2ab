"""The status port: metrics in Prometheus' text format, and two health checks."""
import http.client
import re
import socket

from harness import case, holds, same, wait_until

BEYOND = "it has no status port"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?'
SAMPLE = re.compile(rf'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{{(?:{LABEL})*\}})? '
                    r'(-?[0-9.]+(?:e[+-]?[0-9]+)?|[+-]Inf|NaN)$')


def samples(text):
    """{(name, labels): value}, after checking that every line is as the format demands."""
    out, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            holds(name not in types, f"two TYPE lines for {name}")
            types[name] = kind
            continue
        if line.startswith("#") or not line:
            continue
        match = SAMPLE.match(line)
        holds(match, f"not a sample: {line!r}")
        base = re.sub(r"_(bucket|sum|count)$", "", match.group(1))
        holds(match.group(1) in types or base in types, f"no TYPE for {match.group(1)}")
        key = (match.group(1), match.group(2) or "")
        holds(key not in out, f"twice: {key}")
        out[key] = float(match.group(3))
    return out


@case(beyond=BEYOND)
def metrics_are_well_formed_and_count(t):
    weir = t.weir()
    with weir.connect() as client:
        client.execute("SELECT 1")
        status, text = weir.status("/metrics")
        same(status, 200, "status")
        before = samples(text)
        for _ in range(100):
            client.execute("SELECT 1")
        wait_until("some counter has grown by 100", lambda: any(
            value - before.get(key, 0) == 100 and key[0].endswith(("_total", "_count"))
            for key, value in samples(weir.status("/metrics")[1]).items()))
        t.note(f"{len(before)} samples")


@case(beyond=BEYOND)
def histograms_are_cumulative(t):
    weir = t.weir()
    with weir.connect() as client:
        for i in range(30):
            client.execute("SELECT pg_sleep(%s)", (i / 5000,))
    series = {}
    for (name, labels), value in samples(weir.status("/metrics")[1]).items():
        if name.endswith("_bucket"):
            edge = re.search(r'le="([^"]+)"', labels).group(1)
            rest = re.sub(r',?le="[^"]+"', "", labels)
            series.setdefault((name, rest), []).append((float(edge.replace("+Inf", "inf")), value))
    holds(series, "no histogram at all")
    holds(any(buckets[-1][1] > 0 for buckets in series.values()), "all histograms are empty")
    for key, buckets in series.items():
        same(sorted(buckets), buckets, f"order of the buckets of {key}")
        same(sorted(v for _, v in buckets), [v for _, v in buckets], f"counts of {key}")
        same(buckets[-1][0], float("inf"), f"last bucket of {key}")


@case(beyond=BEYOND)
def health(t):
    weir = t.weir()
    same(weir.status("/healthz")[0], 200, "/healthz")
    weir.value("SELECT 1")
    same(weir.status("/readyz")[0], 200, "/readyz")
    same(weir.status("/nowhere")[0], 404, "an unknown path")


@case(beyond=BEYOND)
def it_answers_while_all_places_are_taken(t):
    weir = t.weir(default_pool_size=1, max_client_conn=10)
    clients = [weir.connect(autocommit=False) for _ in range(10)]
    clients[0].execute("SELECT 1")
    same(weir.status("/healthz")[0], 200, "/healthz")
    same(weir.status("/metrics")[0], 200, "/metrics")


@case(beyond=BEYOND)
def hostile_http(t):
    weir = t.weir()
    address = ("127.0.0.1", weir.settings["status_port"])
    for junk in (b"\0" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100000,
                 b"GET /" + b"a" * 50000 + b" HTTP/1.1\r\n\r\n", b"GET /metrics HTTP/1.1\r\n" +
                 b"X: y\r\n" * 20000 + b"\r\n",
                 b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
                 b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(address, 5) as client:
            try:
                client.sendall(junk)
                client.settimeout(1)
                got = client.recv(4096)
                holds(b"root:" not in got, "a file came back")
            except OSError:
                pass
    half_open = [socket.create_connection(address, 5) for _ in range(100)]
    same(weir.status("/healthz")[0], 200, "/healthz")
    for client in half_open:
        client.close()
    connection = http.client.HTTPConnection(*address, timeout=5)
    for method in ("POST", "DELETE", "PUT"):
        connection.request(method, "/metrics")
        answer = connection.getresponse()
        answer.read()
        holds(answer.status >= 400, f"{method} is answered by {answer.status}")
        connection.close()
    same(weir.value("SELECT 1"), 1, "clients")


@case(beyond=BEYOND)
def metrics_and_show_agree(t):
    weir = t.weir()
    with weir.connect() as client:
        for _ in range(20):
            client.execute("SELECT 1")

        def both():
            shown = next(row for row in weir.console("SHOW STATS") if row["database"] == "postgres")
            total = int(shown["total_xact_count"])
            text = weir.status("/metrics")[1]
            return [key for key, value in samples(text).items()
                    if "postgres" in key[1] and value == total]

        wait_until("a metric says what SHOW STATS says", both)
