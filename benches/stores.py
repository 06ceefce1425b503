"""Measures the program on each store but etcd, which measure.py has, beside a client that only receives the change and beside
the store's own command line client. Run by scripts/bench --stores, which builds and installs; a store that this machine does
not have is left out, with a line that says so.

    stores.py REMCO DOCUMENT

REMCO is the program; DOCUMENT is rewritten between its two marks. PATH leads to the servers, and CONSUL may name one. With
BENCH_SHORT=1 in the environment it does everything with small numbers, to see that it works, and writes no document."""

import base64
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from measure import ALL, SHORT, Renames, Running, Table, free_port, key, machine, median, peak_rss, percentile
from measure import read, rewrite, run_once, status_of, value, wait_until, write

KEYS = 200 if SHORT else 10_000
RUNS = 2 if SHORT else 7
PUTS = 10 if SHORT else 500
IDLE = 3 if SHORT else 30
PATIENCE = 60
# Debian's manifest of the first file lacks the other two.
CLASSES = ":".join(f"/usr/share/java/{name}.jar" for name in ["zookeeper", "netty-codec", "netty-resolver"])


class Store:
    """A real server with a port and data of its own, which is gone with the block that it is used in."""

    # The program that is measured, which main sets.
    remco = ""
    name, watches = "", True
    # Seconds between two puts, where the program looks at changes no more often than that.
    pause = 0
    # The store's own command line client, in words.
    client = "none that reads all keys at once"

    def __init__(self, work, count):
        self.port, self.data = free_port(), tempfile.mkdtemp(dir=work)
        self.log = os.path.join(self.data, "log")
        command, more = self.command()
        log = open(self.log, "wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data, env={**os.environ, **more}
        )
        try:
            wait_until(f"{self.name} answers", self.answers, PATIENCE)
            self.connect()
            self.fill(count)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def answers(self):
        """Asks once. A server that is just starting may accept a connection and never answer on it."""
        if self.process.poll() is not None:
            raise SystemExit(f"bench: {self.name} ended: {read(self.log).decode(errors='replace')}")
        try:
            return self.healthy()
        except (OSError, http.client.HTTPException):
            return False

    def socket(self, timeout=PATIENCE):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def fill(self, count):
        """Hundreds are on their way before the first reply is awaited."""
        for first in range(0, count, 500):
            numbers = range(first, min(first + 500, count))
            for number in numbers:
                self.send(key(number), value(number))
            for _ in numbers:
                self.settle()

    def prepare(self, work):
        """Writes a configuration into a new folder; gives the folder, the command that stays and the one that runs once."""
        folder = tempfile.mkdtemp(dir=work)
        os.mkdir(os.path.join(folder, "out"))
        write(os.path.join(folder, "bench.tmpl"), ALL)
        changes = "watch = true" if self.watches else "interval = 3600"
        write(
            os.path.join(folder, "config"),
            f'log_level = "error"\n[[resource]]\nname = "bench"\n[[resource.template]]\nsrc = "{folder}/bench.tmpl"\n'
            f'dst = "{folder}/out/file"\nmode = "0644"\n'
            f'[resource.backend.{self.name}]\n{self.options()}\nkeys = ["/bench"]\n{changes}\n',
        )
        stays = [self.remco, "-config", os.path.join(folder, "config")]
        return folder, stays, [*stays, "-onetime"]

    def own_client(self):
        """Two commands of the store's own client: one that prints all keys, and the part of it whose memory counts. None:
        there is no such client."""
        return None

    @staticmethod
    def mark(stamp):
        """What the store's word of a change has in it, for a value of this stamp."""
        return stamp.encode()


class Bare:
    """A connection on which a store tells of changes, with nothing around it."""

    def __init__(self, connection):
        self.connection, self.text = connection, b""

    def fileno(self):
        return self.connection.fileno()

    def take(self, mark):
        """Whether what came tells of the change."""
        self.text += self.connection.recv(1 << 20)
        if mark not in self.text:
            return False
        self.text = b""
        return True


class Consul(Store):
    name, pause, client = "consul", 0.15, "consul kv get -recurse"

    @staticmethod
    def program():
        return shutil.which(os.environ.get("CONSUL") or "consul")

    def command(self):
        ports = {"http": self.port, "dns": -1, "grpc": -1, "serf_wan": -1, "serf_lan": free_port(), "server": free_port()}
        options = {"server": True, "bootstrap_expect": 1, "node_name": "n", "data_dir": os.path.join(self.data, "data")}
        options |= {"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "ports": ports, "disable_update_check": True}
        options |= {"performance": {"raft_multiplier": 1}}
        write(os.path.join(self.data, "consul.json"), json.dumps(options))
        return [self.program(), "agent", "-config-file", os.path.join(self.data, "consul.json")], {}

    def healthy(self):
        """It has a leader that writes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        connection.request("PUT", "/v1/kv/ready", "")
        return connection.getresponse().status == 200

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def fill(self, count):
        for first in range(0, count, 64):
            pairs = [(key(n)[1:], base64.b64encode(value(n).encode()).decode()) for n in range(first, min(first + 64, count))]
            operations = [{"KV": {"Verb": "set", "Key": name, "Value": text}} for name, text in pairs]
            self.connection.request("PUT", "/v1/txn", json.dumps(operations))
            self.settle()

    def send(self, name, text):
        self.connection.request("PUT", f"/v1/kv{name}", text)

    def settle(self):
        response = self.connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer

    def watch(self):
        return BareConsul(self.socket())

    def options(self):
        return f'nodes = ["127.0.0.1:{self.port}"]'

    def own_client(self):
        command = [self.program(), "kv", "get", "-recurse", f"-http-addr=http://127.0.0.1:{self.port}", "bench/"]
        return command, command

    @classmethod
    def version(cls):
        return first_line([cls.program(), "version"])


class BareConsul(Bare):
    """One request after the other, each of which is answered after a change, with all keys."""

    def __init__(self, connection):
        super().__init__(connection)
        self.ask(0)
        while not self.take(b""):
            pass

    def ask(self, index):
        request = f"GET /v1/kv/bench/?recurse&wait=60s&index={index} HTTP/1.1\r\nHost: consul\r\n\r\n"
        self.connection.sendall(request.encode())

    def take(self, mark):
        self.text += self.connection.recv(1 << 20)
        head, end, body = self.text.partition(b"\r\n\r\n")
        sized = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not end:
            return False
        if sized:
            whole = len(body) >= int(sized[1])
        else:
            whole = body.endswith(b"0\r\n\r\n")
        if not whole:
            return False
        told = base64.b64encode(mark) in body
        self.text = b""
        self.ask(int(re.search(rb"(?i)\r\nx-consul-index: *(\d+)", head)[1]))
        return told


class Redis(Store):
    name, client = "redis", "redis-cli --scan, MGET"

    @staticmethod
    def program():
        return shutil.which("redis-server") and shutil.which("redis-cli")

    def command(self):
        options = f'bind 127.0.0.1\nport {self.port}\ndir {self.data}\nsave ""\nnotify-keyspace-events KA\n'
        write(os.path.join(self.data, "redis.conf"), options)
        return ["redis-server", os.path.join(self.data, "redis.conf")], {}

    def healthy(self):
        with self.socket(2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")

    def connect(self):
        self.connection = self.socket()
        self.replies = self.connection.makefile("rb")

    def send(self, name, text):
        self.connection.sendall(f"SET {name} {text}\r\n".encode())

    def settle(self):
        assert self.replies.readline() == b"+OK\r\n"

    def watch(self):
        connection = self.socket()
        connection.sendall(b"PSUBSCRIBE __keyspace@0__:/bench/*\r\n")
        bare = Bare(connection)
        while not bare.take(b"psubscribe"):
            pass
        return bare

    @staticmethod
    def mark(_):
        return b"pmessage"

    def options(self):
        return f'nodes = ["127.0.0.1:{self.port}"]'

    def own_client(self):
        ask = f"{shutil.which('redis-cli')} -p {self.port}"
        line = f"{ask} --scan --pattern '/bench/*' | xargs -s 1000000 {ask} MGET"
        return ["sh", "-c", line], [*ask.split(), "MGET", *(key(n) for n in range(KEYS))]

    @staticmethod
    def version():
        return " ".join(first_line(["redis-server", "--version"]).split()[:3])


class Nats(Store):
    name, client = "nats", "none in its package"

    @staticmethod
    def program():
        return shutil.which("nats-server")

    def command(self):
        store = os.path.join(self.data, "store")
        text = f"host: 127.0.0.1\nport: {self.port}\njetstream: {{ store_dir: {json.dumps(store)} }}\n"
        write(os.path.join(self.data, "nats.conf"), text)
        return [self.program(), "-c", os.path.join(self.data, "nats.conf")], {}

    def healthy(self):
        with self.socket(2) as connection:
            return connection.recv(4096).startswith(b"INFO ")

    def session(self, more):
        connection = self.socket()
        replies = connection.makefile("rb")
        assert replies.readline().startswith(b"INFO ")
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True}
        connection.sendall(f"CONNECT {json.dumps(options)}\r\nSUB {more} 1\r\nPING\r\n".encode())
        while replies.readline() != b"PONG\r\n":
            pass
        return connection, replies

    def connect(self):
        self.connection, self.replies = self.session("_INBOX.bench")
        config = {"name": "KV_bench", "subjects": ["$KV.bench.>"], "storage": "file", "max_msgs_per_subject": 1}
        config |= {"discard": "new", "allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True}
        self.publish("$JS.API.STREAM.CREATE.KV_bench", json.dumps(config))
        self.settle()

    def publish(self, subject, body):
        self.connection.sendall(f"PUB {subject} _INBOX.bench {len(body)}\r\n{body}\r\n".encode())

    def send(self, name, text):
        self.publish("$KV.bench" + name.replace("/", "."), text)

    def settle(self):
        while True:
            line = self.replies.readline()
            if line.startswith(b"MSG "):
                answer = self.replies.read(int(line.split()[-1]) + 2)
                assert b'"error"' not in answer, answer
                return
            if line == b"PING\r\n":
                self.connection.sendall(b"PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise SystemExit(f"bench: nats-server answers {line}")

    def watch(self):
        """A consumer of the server, as a change has to be in its store first."""
        connection, _ = self.session("_INBOX.watch")
        config = {"deliver_subject": "_INBOX.watch", "deliver_policy": "new", "ack_policy": "none", "replay_policy": "instant"}
        body = json.dumps({"stream_name": "KV_bench", "config": config})
        self.publish("$JS.API.CONSUMER.CREATE.KV_bench", body)
        self.settle()
        return Bare(connection)

    def options(self):
        return f'nodes = ["nats://127.0.0.1:{self.port}"]\nbucket = "bench"'

    @classmethod
    def version(cls):
        return first_line([cls.program(), "--version"])


class Zookeeper(Store):
    name = "zookeeper"

    @staticmethod
    def program():
        return shutil.which("java") if os.path.exists(CLASSES.split(":")[0]) else None

    def command(self):
        write(
            os.path.join(self.data, "zoo.cfg"),
            f"dataDir={self.data}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
        )
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return ["java", "-Xmx256m", "-cp", CLASSES, main, os.path.join(self.data, "zoo.cfg")], {}

    def healthy(self):
        return b"Mode:" in self.about()

    def about(self):
        with self.socket(2) as connection:
            connection.sendall(b"srvr")
            return connection.makefile("rb").read()

    @staticmethod
    def text(data):
        return len(data).to_bytes(4, "big") + data

    def session(self):
        connection = self.socket()
        start = bytes(12) + (40_000).to_bytes(4, "big") + bytes(8) + self.text(bytes(16)) + b"\0"
        connection.sendall(self.text(start))
        replies = connection.makefile("rb")
        replies.read(int.from_bytes(replies.read(4), "big"))
        return connection, replies

    def connect(self):
        Zookeeper.told = self.about().split(b"\n")[0].decode().split(",")[0].split("-")[0].replace(" version:", "")
        self.connection, self.replies = self.session()
        self.create("/bench", "")
        self.settle()

    def request(self, operation, body, number=1):
        self.connection.sendall(self.text(number.to_bytes(4, "big") + operation.to_bytes(4, "big") + body))

    def create(self, name, text):
        acl = (1).to_bytes(4, "big") + (31).to_bytes(4, "big") + self.text(b"world") + self.text(b"anyone")
        self.request(1, self.text(name.encode()) + self.text(text.encode()) + acl + bytes(4))

    def fill(self, count):
        for first in range(0, count, 500):
            numbers = range(first, min(first + 500, count))
            for number in numbers:
                self.create(key(number), value(number))
            for _ in numbers:
                self.settle()

    def send(self, name, text):
        self.request(5, self.text(name.encode()) + self.text(text.encode()) + b"\xff" * 4)

    def settle(self):
        reply = self.replies.read(int.from_bytes(self.replies.read(4), "big"))
        assert reply[12:16] == bytes(4), reply

    def watch(self):
        """One watch of all nodes below (ZooKeeper 3.6 or later)."""
        connection, replies = self.session()
        body = self.text(b"/bench") + (1).to_bytes(4, "big")
        connection.sendall(self.text((1).to_bytes(4, "big") + (106).to_bytes(4, "big") + body))
        reply = replies.read(int.from_bytes(replies.read(4), "big"))
        assert reply[12:16] == bytes(4), reply
        return Bare(connection)

    @staticmethod
    def mark(_):
        return b"/bench/"

    def options(self):
        return f'nodes = ["127.0.0.1:{self.port}"]'

    @staticmethod
    def version():
        return Zookeeper.told


class Vault(Store):
    name, watches = "vault", False

    @staticmethod
    def program():
        return shutil.which("bao")

    def command(self):
        """A server that keeps all in memory."""
        command = [self.program(), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=bench"]
        return [*command, f"-dev-listen-address=127.0.0.1:{self.port}"], {"HOME": self.data}

    def healthy(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        connection.request("GET", "/v1/sys/health")
        return connection.getresponse().status == 200

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.post("/sys/mounts/bench", {"type": "kv"})

    def post(self, path, body):
        self.connection.request("POST", f"/v1{path}", json.dumps(body), {"X-Vault-Token": "bench"})
        response = self.connection.getresponse()
        answer = response.read()
        assert response.status in (200, 204), answer

    def fill(self, count):
        for number in range(count):
            self.post(key(number), {"value": value(number)})

    def options(self):
        return f'node = "http://127.0.0.1:{self.port}"\nauth_type = "token"\nauth_token = "bench"'

    @classmethod
    def version(cls):
        return " ".join(first_line([cls.program(), "version"]).split()[:2])


def first_line(command):
    return (subprocess.run(command, capture_output=True, text=True).stdout.splitlines() or ["unknown"])[0]


def idle(work, stores):
    """All of them at once, as they do nothing: wake-ups, RSS and the part of it that is the program's own, in KB."""
    servers, started = [], []
    try:
        for store in stores:
            servers.append(store(work, 100))
            folder, command, _ = servers[-1].prepare(work)
            started.append(Running(folder, command))
        time.sleep(min(5, IDLE))
        woken = [status_of(running.pid, "voluntary_ctxt_switches") for running in started]
        time.sleep(IDLE)
        return {
            store.name: (
                status_of(running.pid, "voluntary_ctxt_switches") - before,
                status_of(running.pid, "VmRSS"),
                status_of(running.pid, "RssAnon"),
            )
            for store, running, before in zip(stores, started, woken)
        }
    finally:
        for running in started:
            running.stop()
        for server in servers:
            server.__exit__()


def put_to_file(work, server):
    """Seconds from a put to the renamed file, and to the bare client, for each of the puts. One key of 100."""
    folder, command, _ = server.prepare(work)
    running = Running(folder, command)
    renames = Renames(os.path.dirname(running.file))
    files, events = [], []
    try:
        watch = server.watch()
        # The first ones find a watch that is just being opened, and caches that are cold.
        for version in range(-5, PUTS):
            time.sleep(server.pause)
            stamp = value(0, time.monotonic_ns() % 10**18)
            mark = server.mark(stamp)
            start = time.perf_counter()
            server.send(key(0), stamp)
            seen_event = seen_file = None
            while seen_event is None or seen_file is None:
                readable, _, _ = select.select([watch, renames], [], [], PATIENCE)
                now = time.perf_counter()
                if not readable:
                    raise SystemExit(f"bench: a put to {server.name} was not followed")
                if watch in readable and watch.take(mark):
                    seen_event = now - start
                if renames in readable and renames.take("file") and stamp.encode() in read(running.file):
                    seen_file = now - start
            server.settle()
            if version >= 0:
                files.append(seen_file)
                events.append(seen_event)
    finally:
        running.stop()
        renames.close()
    return files, events


def one_shot(work, server):
    """Wall and CPU seconds and KB over all keys: of the program with its file in sync, and of the store's own client."""
    folder, _, command = server.prepare(work)
    own = server.own_client()
    ours, theirs = [], []
    run_once(command)
    if own:
        lines = subprocess.run(own[0], stdin=subprocess.DEVNULL, capture_output=True).stdout.count(b"\n")
        assert lines == KEYS, f"the client of {server.name} prints {lines} lines"
    for _ in range(RUNS):
        ours.append(run_once(command))
        if own:
            theirs.append(run_once(own[0]))
    assert len(read(os.path.join(folder, "out", "file"))) == KEYS * 82, "the file is not whole"

    def figures(runs, measured):
        return [median(walls) for walls in zip(*runs)] + [peak_rss(measured)]

    return figures(ours, command), figures(theirs, own[1]) if own else None


def markdown(head, rows):
    first, *rest = ["| " + " | ".join(line) + " |\n" for line in [head, *rows]]
    return "".join([first, "|" + "---|" * len(head) + "\n", *rest])


def main():
    Store.remco, document = [os.path.abspath(path) for path in sys.argv[1:3]]
    # A signal ends it as an error does, so that nothing that it started outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    stores = []
    for store in [Consul, Redis, Nats, Zookeeper, Vault]:
        if store.program():
            stores.append(store)
        else:
            print(f"skipped: {store.name}: there is no server of it here")
    began = machine("")
    puts, shots = [], []
    with tempfile.TemporaryDirectory(prefix="remco-bench-") as work:
        idles = idle(work, stores)
        for store in stores:
            cells = ["not watched"] + [""] * 3
            if store.watches:
                with store(work, 100) as server:
                    files, events = put_to_file(work, server)
                times = [percentile(times, part) for part in (0.5, 0.99) for times in (files, events)]
                cells = [Table.figure(time, "ms") for time in times]
            woken, rss, own = idles[store.name]
            puts.append([store.name, *cells, str(woken), f"{rss:,} KB", f"{own:,} KB"])
            print(" | ".join(puts[-1]), flush=True)
            with store(work, KEYS) as server:
                ours, theirs = one_shot(work, server)
            cells = [
                cell
                for wall, cpu, rss in [ours, *([theirs] if theirs else [])]
                for cell in (Table.figure(wall, "ms"), Table.figure(cpu, "ms"), f"{rss:,} KB")
            ]
            shots.append([store.name, *cells, *([] if theirs else [""] * 3), store.client])
            print(" | ".join(shots[-1]), flush=True)
    head = ["store", "put to file: p50", "bare client: p50", "put to file: p99", "bare client: p99"]
    text = began + " " + "; ".join(store.version() for store in stores) + ".\n\n"
    text += markdown([*head, f"wake-ups in {IDLE} s, idle", "RSS, idle", "of it its own"], puts)
    head = [f"one-shot, {KEYS:,} keys", "wall", "user + sys", "peak RSS", "its client: wall", "user + sys", "peak RSS"]
    text += "\n" + markdown([*head, "its client"], shots)
    print("\n" + text)
    if not SHORT:
        rewrite(document, "scripts/bench --stores", text)


if __name__ == "__main__":
    main()
