"""Measures the program against the physical floor on this machine, and against the Go programs that are named in REMCO_GO
and CONFD_GO. Run by scripts/bench, which builds what it needs; nothing here builds, installs or decides what is good.

    measure.py REMCO RANGE [DOCUMENT]

REMCO and RANGE are programs; DOCUMENT is rewritten between its two marks. BENCH_SHORT=1 in the environment does everything
with small numbers, to see that it works, and writes no document."""

import base64
import ctypes
import http.client
import itertools
import json
import multiprocessing
import os
import platform
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SHORT = os.environ.get("BENCH_SHORT") == "1"
SIZES = [100, 1_000, 2_000] if SHORT else [100, 10_000, 100_000]
RUNS = {100: 41, 1_000: 5, 2_000: 3, 10_000: 11, 100_000: 5}
PUTS = 30 if SHORT else 1_000
CHANGES = 3 if SHORT else 20
IDLE = 3 if SHORT else 60
CYCLES = 20 if SHORT else 1_000
DROPPED = 5 if SHORT else 60
PATIENCE = 120

ALL = '{% for kv in gets("/bench/*") %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}'
GO_ALL = '{{range gets "/bench/*"}}{{.Key}}={{.Value}}\n{{end}}'


def key(number):
    """40 bytes, as its value is."""
    return f"/bench/{number:033}"


def value(number, version=0):
    return f"{version:020}{number:020}"


TEN = "".join('{{ getv("%s") }}\n' % key(n) for n in range(10))


def b64(text):
    return base64.b64encode(text.encode()).decode()


PORTS = itertools.count(os.getpid() * 97)


def free_port():
    """Below those that Linux gives to clients, which could take it before the server does."""
    while True:
        port = 10_000 + next(PORTS) % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def wait_until(what, holds, limit=PATIENCE):
    until = time.monotonic() + limit
    while not holds():
        if time.monotonic() > until:
            raise SystemExit(f"bench: still waiting after {limit} s: {what}")
        time.sleep(0.002)


def median(numbers):
    return statistics.median(numbers)


def percentile(numbers, part):
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * part))]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


class Etcd:
    """A real etcd with ports and data of its own."""

    def __init__(self, work, count=0):
        self.port, peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = tempfile.mkdtemp(dir=work)
        peer = f"http://127.0.0.1:{peer}"
        log = open(os.path.join(self.data, "log"), "w")
        command = ["etcd", "--data-dir", os.path.join(self.data, "data"), "--listen-client-urls", self.url]
        command += ["--advertise-client-urls", self.url, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("etcd answers", self.healthy)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for first in range(0, count, 100):
            pairs = [{"key": b64(key(n)), "value": b64(value(n))} for n in range(first, min(first + 100, count))]
            self.request("/v3/kv/txn", {"success": [{"requestPut": pair} for pair in pairs]})

    def healthy(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("POST", "/v3/kv/range", json.dumps({"key": b64("health")}))
            return connection.getresponse().status == 200
        except OSError:
            return False

    def request(self, path, body):
        self.connection.request("POST", path, json.dumps(body))
        response = self.connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return answer

    def put(self, name, text):
        self.request("/v3/kv/put", {"key": b64(name), "value": b64(text)})

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.data)


RANGE_BODY = json.dumps({"key": b64("/bench/"), "range_end": b64("/bench0")})


class BareWatch:
    """A watch without anything around it."""

    def __init__(self, etcd):
        self.socket = socket.create_connection(("127.0.0.1", etcd.port))
        body = '{"create_request":{"key":"%s","range_end":"%s"}}' % (b64("/bench/"), b64("/bench0"))
        self.socket.sendall(f"POST /v3/watch HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        text = b""
        while b'"created":true' not in text:
            text += self.socket.recv(65536)

    def fileno(self):
        return self.socket.fileno()

    def take(self):
        return b'"events"' in self.socket.recv(1 << 20)


class Renames:
    """Tells of files that are renamed into a directory."""

    MOVED_TO = 0x80
    CLOSE_WRITE = 0x8

    def __init__(self, directory):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.libc.inotify_add_watch(self.fd, directory.encode(), self.MOVED_TO | self.CLOSE_WRITE) >= 0

    def fileno(self):
        return self.fd

    def take(self, name):
        return name.encode() in os.read(self.fd, 65536)

    def close(self):
        os.close(self.fd)


class Relay:
    """Hands bytes on between a client and a server of this machine, counts them, and can fall silent: then it reads and
    accepts nothing any more, as if all packets were dropped."""

    def __init__(self, port):
        self.target, self.bytes, self.silent = port, 0, False
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.wake_read, self.wake_write = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        pairs = {}
        while True:
            watched = [self.wake_read] if self.silent else [self.wake_read, self.listener, *pairs]
            readable, _, _ = select.select(watched, [], [])
            for source in readable:
                if source == self.wake_read:
                    if os.read(source, 1) == b"q":
                        return
                elif source is self.listener:
                    client, _ = self.listener.accept()
                    server = socket.create_connection(("127.0.0.1", self.target))
                    pairs[client], pairs[server] = server, client
                elif source in pairs:
                    try:
                        data = source.recv(65536)
                        pairs[source].sendall(data)
                    except OSError:
                        data = b""
                    self.bytes += len(data)
                    if not data:
                        other = pairs.pop(source)
                        pairs.pop(other, None)
                        source.close()
                        other.close()

    def fall_silent(self):
        """Nobody accepts, and the queue of those who wait for it is full: a new connection gets no answer at all."""
        self.silent = True
        os.write(self.wake_write, b"s")
        self.listener.listen(0)
        self.fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(filler)

    def stop(self):
        os.write(self.wake_write, b"q")
        self.thread.join()


class Contender:
    """A program that does the work: ours, or one it is compared with."""

    def __init__(self, name, path, kind):
        self.name, self.path, self.kind = name, path, kind

    def prepare(self, work, url, template=ALL, watch=False, level="error", more=""):
        """Writes a configuration into a new folder; gives the folder and the command. The file becomes out/file."""
        folder = tempfile.mkdtemp(dir=work)
        out = os.path.join(folder, "out")
        os.mkdir(out)
        if self.kind == "confd":
            os.makedirs(os.path.join(folder, "conf.d"))
            os.makedirs(os.path.join(folder, "templates"))
            text = GO_ALL if template == ALL else template.replace("{{ getv(", "{{getv ").replace(") }}", "}}")
            write(os.path.join(folder, "templates", "bench.tmpl"), text)
            about = f'[template]\nsrc = "bench.tmpl"\ndest = "{out}/file"\nkeys = ["/bench"]\n'
            write(os.path.join(folder, "conf.d", "bench.toml"), about)
            command = [self.path, "-confdir", folder, "-backend", "etcdv3", "-node", url, "-log-level", "error"]
            return folder, command + (["-watch"] if watch else ["-onetime"])
        write(os.path.join(folder, "bench.tmpl"), template)
        backend = f'[resource.backend.etcd]\nversion = 3\nnodes = ["{url}"]\nkeys = ["/bench/"]\n'
        backend += "watch = true\n" if watch else "interval = 3600\n"
        write(
            os.path.join(folder, "config"),
            f'log_level = "{level}"\n[[resource]]\nname = "bench"\n[[resource.template]]\nsrc = "{folder}/bench.tmpl"\n'
            f'dst = "{out}/file"\nmode = "0644"\n{more}{backend}',
        )
        return folder, [self.path, "-config", os.path.join(folder, "config")] + ([] if watch else ["-onetime"])


def start_quietly(command, **options):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)


def run_once(command):
    """Wall and CPU seconds of a run."""
    start = time.perf_counter()
    process = start_quietly(command, stderr=subprocess.PIPE, close_fds=False)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"bench: {command} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return wall, usage.ru_utime + usage.ru_stime


def peak_rss(command):
    """The most kilobytes that a run had in memory. A short one may be over before it was looked at, on a busy machine."""
    return max(watched_rss(command) for _ in range(5))


def watched_rss(command):
    """One run, looked at all the time until it is gone. wait4 would count the memory of the process that it was forked
    from."""
    process = start_quietly(command, stderr=subprocess.DEVNULL)
    peak, status = 0, os.open(f"/proc/{process.pid}/status", os.O_RDONLY)
    exe = os.path.realpath(command[0])
    while process.poll() is None:
        try:
            if os.readlink(f"/proc/{process.pid}/exe") == exe:
                peak = max(peak, field(os.pread(status, 8192, 0), b"VmHWM"))
        except (OSError, KeyError):
            pass
    os.close(status)
    return peak


def field(text, name):
    for line in text.splitlines():
        if line.startswith(name + b":"):
            return int(line.split()[1])
    raise KeyError(name)


def status_of(pid, name):
    return field(read(f"/proc/{pid}/status"), name.encode())


def io_of(pid, name):
    return field(read(f"/proc/{pid}/io"), name.encode())


class Running:
    """A program that was started to stay."""

    def __init__(self, folder, command):
        self.log = os.path.join(folder, "log")
        self.file = os.path.join(folder, "out", "file")
        self.folder = folder
        self.process = start_quietly(command, stderr=open(self.log, "wb"))
        self.pid = self.process.pid
        wait_until(f"{command[0]} writes its file", self.is_there)

    def is_there(self):
        if self.process.poll() is not None:
            raise SystemExit(f"bench: the program ended: {read(self.log).decode(errors='replace')}")
        return os.path.exists(self.file)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Table:
    """Rows of figures: ours, the floor, and each other program with its ratio."""

    def __init__(self, others):
        self.others, self.rows = others, []

    def row(self, what, unit, ours, floor=None, floor_is="", others=None):
        self.rows.append((what, unit, ours, floor, floor_is, others or {}))
        cells = self.cells(self.rows[-1])
        what, number, floor, ratio, *rest = cells
        print("  ".join([f"{what:<66}", f"{number:>15}", f"{floor:>12}", f"{ratio:>6}", *rest]).rstrip(), flush=True)

    @staticmethod
    def figure(number, unit):
        if number is None:
            return ""
        if isinstance(number, str):
            return number
        if unit == "ms":
            return f"{number * 1000:.2f} ms" if number < 0.1 else f"{number * 1000:.0f} ms"
        if unit == "KB":
            return f"{number:,.0f} KB"
        return f"{number:,.0f} {unit}".strip()

    def cells(self, row):
        what, unit, ours, floor, floor_is, others = row
        numeric = isinstance(ours, (int, float))
        ratio = f"{ours / floor:.2f}" if floor and numeric else ""
        cells = [what, self.figure(ours, unit), self.figure(floor, unit), ratio, floor_is]
        for other in self.others:
            number = others.get(other.name)
            cells.append(f"{self.figure(number, unit)} ({number / ours:.1f}x)" if number and ours and numeric else "")
        return cells

    def markdown(self):
        head = ["", "remco", "floor", "ratio", "the floor is", *[other.name for other in self.others]]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(self.cells(row)) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def one_shot(bench, count, etcd):
    """Wall time, CPU time and peak RSS over so many keys, each contender and the floor in turn."""
    jobs = {c.name: c.prepare(bench.work, etcd.url) for c in bench.contenders}
    bare = [bench.range, str(etcd.port), RANGE_BODY]
    walls, cpus, fresh = ({name: [] for name in [*jobs, "bare"]} for _ in range(3))
    for _, command in jobs.values():
        run_once(command)
    for _ in range(RUNS[count]):
        wall, cpu = run_once(bare)
        walls["bare"].append(wall)
        cpus["bare"].append(cpu)
        for name, (folder, command) in jobs.items():
            wall, cpu = run_once(command)
            walls[name].append(wall)
            cpus[name].append(cpu)
            os.remove(os.path.join(folder, "out", "file"))
            fresh[name].append(run_once(command)[0])
            assert len(read(os.path.join(folder, "out", "file"))) == count * 82, "the file is not whole"
    copies = []
    source = os.path.join(jobs[bench.ours.name][0], "out", "file")
    for _ in range(RUNS[count]):
        start = time.perf_counter()
        target = source + ".copy"
        shutil.copyfile(source, target)
        with open(target, "rb") as file:
            os.fsync(file.fileno())
        os.rename(target, source)
        directory = os.open(os.path.dirname(source), os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        copies.append(time.perf_counter() - start)
    ours, others = bench.ours.name, [other.name for other in bench.others]

    def pick(figures):
        return {name: median(figures[name]) for name in others}

    what = f"one-shot, {count:,} keys"
    bare_wall = median(walls["bare"])
    bench.table.row(f"{what}, file in sync: wall", "ms", median(walls[ours]), bare_wall, "bare range", pick(walls))
    cpu, bare_cpu = median(cpus[ours]), median(cpus["bare"])
    bench.table.row(f"{what}, file in sync: user + sys", "ms", cpu, bare_cpu, "bare range", pick(cpus))
    floor = bare_wall + median(copies)
    bench.table.row(f"{what}, new file: wall", "ms", median(fresh[ours]), floor, "bare range, cp, fsync", pick(fresh))
    peaks = {name: peak_rss(command) for name, (_, command) in jobs.items()}
    floor = peak_rss(bare)
    bench.table.row(f"{what}: peak RSS", "KB", peaks[ours], floor, "bare range", {name: peaks[name] for name in others})


def latencies(bench, contender, etcd, template, puts, number=0, more="", flags=()):
    """Seconds from a put to the renamed file, and to the event of a bare watch, for each of the puts."""
    folder, command = contender.prepare(bench.work, etcd.url, template, watch=True, more=more)
    running = Running(folder, [*command, *flags])
    watch, renames = BareWatch(etcd), Renames(os.path.dirname(running.file))
    files, events = [], []
    # The first ones find the watch that is just being opened, and caches that are cold.
    for version in range(-3, puts):
        stamp = value(number, int(time.monotonic_ns()) % 10**18)
        start = time.perf_counter()
        etcd.put(key(number), stamp)
        seen_event = seen_file = None
        while seen_event is None or seen_file is None:
            readable, _, _ = select.select([watch, renames], [], [], PATIENCE)
            now = time.perf_counter()
            if not readable:
                raise SystemExit(f"bench: {contender.name} did not follow a put")
            if watch in readable and watch.take():
                seen_event = now - start
            if renames in readable and renames.take("file") and stamp.encode() in read(running.file):
                seen_file = now - start
        if version >= 0:
            files.append(seen_file)
            events.append(seen_event)
    running.stop()
    renames.close()
    watch.socket.close()
    return files, events


def put_to_file(bench, etcd):
    files, events = latencies(bench, bench.ours, etcd, ALL, PUTS)
    unsynced = latencies(bench, bench.ours, etcd, ALL, PUTS, more='durability = "none"\n')
    others = {other.name: latencies(bench, other, etcd, ALL, PUTS)[0] for other in bench.others}
    for part, name in [(0.5, "p50"), (0.99, "p99")]:
        pick = {other: percentile(times, part) for other, times in others.items()}
        what = f"put to file, one key of 100, {PUTS:,} puts: {name}"
        bench.table.row(what, "ms", percentile(files, part), percentile(events, part), "bare watch", pick)
    for part, name in [(0.5, "p50"), (0.99, "p99")]:
        ours, floor = (percentile(times, part) for times in unsynced)
        bench.table.row(f'the same without syncing (durability = "none"): {name}', "ms", ours, floor, "bare watch")


def one_of_many(bench, count, etcd):
    for template, reads in [(ALL, "all"), (TEN, "ten")]:
        files, events = latencies(bench, bench.ours, etcd, template, CHANGES)
        others = {other.name: median(latencies(bench, other, etcd, template, CHANGES)[0]) for other in bench.others}
        what = f"one of {count:,} keys changed, template reads {reads}: p50"
        bench.table.row(what, "ms", median(files), median(events), "bare watch", others)
    relay = Relay(etcd.port)
    running = Running(*bench.ours.prepare(bench.work, relay.url, TEN, watch=True))
    wait_until("the watch is open", lambda: relay.bytes > 0)
    time.sleep(1)
    before = relay.bytes
    for change in range(CHANGES):
        stamp = value(0, change + 1)
        etcd.put(key(0), stamp)
        wait_until("the change is in the file", lambda: stamp.encode() in read(running.file))
    bench.table.row(f"one of {count:,} keys changed: over the wire", "bytes", (relay.bytes - before) / CHANGES)
    running.stop()
    relay.stop()


def one_template_of_many(bench, count, etcd):
    """A resource with many templates, each over its share of the keys, beside one template alone."""
    # The keys of a share differ in so many digits at their end.
    digits = len(f"{count - 1}") - 2
    each = 10**digits
    templates = count // each
    folder = tempfile.mkdtemp(dir=bench.work)

    def share(number):
        prefix = key(number * each)[:-digits]
        return '{% for kv in gets("' + prefix + '*") %}{{ kv.Key }} {{ kv.Value }}\n{% endfor %}'

    others = ""
    for number in range(1, templates):
        write(os.path.join(folder, f"{number}.tmpl"), share(number))
        others += f'[[resource.template]]\nsrc = "{folder}/{number}.tmpl"\ndst = "{folder}/{number}"\n'
    alone, events = latencies(bench, bench.ours, etcd, share(0), CHANGES)
    among, events_too = latencies(bench, bench.ours, etcd, share(0), CHANGES, more=others)
    whole = latencies(bench, bench.ours, etcd, share(0), CHANGES, more=others, flags=["--render-all"])[0]
    lines = len(read(os.path.join(folder, "1")).splitlines())
    assert lines == each, f"a template has {lines} keys"
    what = f"one of {count:,} keys changed"
    bench.table.row(f"{what}, one template reads {each:,}: p50", "ms", median(alone), median(events), "bare watch")
    among, events = median(among), median(events_too)
    bench.table.row(f"{what}, {templates} templates read {each:,} each: p50", "ms", among, events, "bare watch")
    bench.table.row(f"{what}, {templates} templates, --render-all: p50", "ms", median(whole))


def idle(bench, etcd):
    """All of them at once, as they do nothing."""
    child = '[resource.exec]\ncommand = "sleep 100000"\n'
    started = []
    for contender, name, exec_table in [*((c, c.name, "") for c in bench.contenders), (bench.ours, "exec", child)]:
        folder, command = contender.prepare(bench.work, etcd.url, watch=True)
        if exec_table:
            config = os.path.join(folder, "config")
            write(config, read(config).decode() + exec_table)
            if not starts(command):
                continue
        started.append((name, Running(folder, command)))
    time.sleep(min(5, IDLE))
    switches = {name: status_of(running.pid, "voluntary_ctxt_switches") for name, running in started}
    time.sleep(IDLE)
    figures = {}
    for name, running in started:
        woken = status_of(running.pid, "voluntary_ctxt_switches") - switches[name]
        rss, own, threads = (status_of(running.pid, name) for name in ["VmRSS", "RssAnon", "Threads"])
        figures[name] = [rss, own, woken, threads]
        running.stop()
    others = [other.name for other in bench.others]
    ours = figures[bench.ours.name]
    rows = [
        (0, f"idle in a watch of 100 keys for {IDLE} s: RSS", "KB"),
        (1, "of it its own, not mapped from files", "KB"),
        (2, f"wake-ups in {IDLE} s", ""),
        (3, "threads", ""),
    ]
    for index, what, unit in rows:
        bench.table.row(what, unit, ours[index], others={name: figures[name][index] for name in others})
    if "exec" in figures:
        bench.table.row(f"wake-ups in {IDLE} s, with an exec child", "", figures["exec"][2])


def starts(command):
    """Whether this build takes the configuration: one that does not ends at once."""
    process = start_quietly(command, stderr=subprocess.DEVNULL)
    try:
        return process.wait(1) == 0
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        return True


def unchanged(bench, etcd):
    """An interval is a second at least, so the cycles come by SIGHUP, which renders and compares everything as an
    interval does."""
    folder, command = bench.ours.prepare(bench.work, etcd.url, watch=True, level="debug")
    running = Running(folder, command)
    cycles = lambda: read(running.log).count(b"target config in sync")
    before, stamp = io_of(running.pid, "write_bytes"), os.stat(running.file)
    log_before = os.path.getsize(running.log)
    for cycle in range(CYCLES):
        running.process.send_signal(signal.SIGHUP)
        wait_until("a cycle", lambda: cycles() > cycle, 20)
    log = os.path.getsize(running.log) - log_before
    written = io_of(running.pid, "write_bytes") - before
    after = os.stat(running.file)
    assert (stamp.st_ino, stamp.st_mtime_ns, stamp.st_ctime_ns) == (after.st_ino, after.st_mtime_ns, after.st_ctime_ns)
    running.stop()
    # The debug log of the measurement itself goes to a file, page by page.
    pages = -(-log // 4096) * 4096 + 4096
    bench.table.row(f"{CYCLES:,} cycles without a change: bytes written, without the log", "bytes", max(0, written - pages))


class Dripper:
    """A server that has no keys and whose watch stream goes on for ever in chunks of one byte, 50,000 a second. It is a
    process of its own: a thread would hold up the one that measures."""

    EMPTY = b'{"header":{"cluster_id":"1","member_id":"1","revision":"1","raft_term":"1"}}'
    HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.process = multiprocessing.get_context("fork").Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def serve(self, client):
        try:
            while request := client.recv(65536):
                if b" /v3/watch " in request:
                    client.sendall(self.HEAD)
                    while True:
                        client.sendall(b"1\r\n \r\n" * 50)
                        time.sleep(0.001)
                elif b"\r\n\r\n" in request:
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.EMPTY) + self.EMPTY)
        except OSError:
            pass
        client.close()

    def stop(self):
        self.process.terminate()
        self.process.join()
        self.listener.close()


class SilentDns:
    """A name server that takes questions and never answers, and a resolv.conf that names it. Needs root."""

    def __init__(self, work):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for last in range(2, 250):
            try:
                self.socket.bind((f"127.0.0.{last}", 53))
                break
            except OSError:
                continue
        else:
            raise SystemExit("bench: no address of this machine has port 53 free")
        self.resolv_conf = os.path.join(work, "resolv.conf")
        write(self.resolv_conf, f"nameserver {self.socket.getsockname()[0]}\n")

    def stop(self):
        self.socket.close()


class Neighbour:
    """The store of a second resource, and how it falls ill."""

    def __init__(self, bench, state):
        self.state, self.wrap, self.parts = state, [], []
        if state == "drips":
            dripper = Dripper()
            self.parts, self.url = [dripper], dripper.url
        elif state == "DNS is silent":
            dns = SilentDns(bench.work)
            # Without a mount namespace of its own, every program of the machine would have that resolv.conf.
            mount = f'mount --bind {dns.resolv_conf} "$(realpath /etc/resolv.conf)" && exec "$@"'
            self.wrap = ["unshare", "--mount", "sh", "-c", mount, "sh"]
            self.parts, self.url = [dns], "http://etcd.example:2379"
        else:
            self.etcd = Etcd(bench.work, 100)
            self.relay = Relay(self.etcd.port)
            self.parts, self.url = [self.relay, self.etcd], self.relay.url

    def has_keys(self):
        return self.state in ["is well", "drops all packets", "is frozen"]

    def fall_ill(self):
        if self.state == "drops all packets":
            self.relay.fall_silent()
        elif self.state == "is frozen":
            self.etcd.process.send_signal(signal.SIGSTOP)

    def stop(self):
        for part in self.parts:
            part.stop()


STATES = ["is well", "drops all packets", "is frozen", "drips", "DNS is silent"]
# How often each reaction is timed.
REACTIONS = 2 if SHORT else 10


def neighbours(bench, etcd):
    """One resource's store is ill; those of the others work, and have a child."""
    for state in STATES:
        if state == "DNS is silent" and os.geteuid() != 0:
            print(f"bench: no row for a neighbour whose {state}: a resolv.conf of its own needs root")
            continue
        neighbour = Neighbour(bench, state)
        try:
            beside(bench, etcd, neighbour)
        finally:
            neighbour.stop()


def beside(bench, etcd, neighbour):
    folder, command = bench.ours.prepare(bench.work, etcd.url, watch=True, level="info")
    config = os.path.join(folder, "config")

    def resource(name, backend, more=""):
        template = f'[[resource.template]]\nsrc = "{folder}/bench.tmpl"\ndst = "{folder}/{name}"\n'
        return f'[[resource]]\nname = "{name}"\n{template}{backend}{more}'

    write(os.path.join(folder, "data.json"), '{"bench": {"key": "value"}}')
    ill = f'[resource.backend.etcd]\nversion = 3\nnodes = ["{neighbour.url}"]\nkeys = ["/bench/"]\nwatch = true\n'
    file = f'[resource.backend.file]\nfilepath = "{folder}/data.json"\nkeys = ["/bench"]\nwatch = true\n'
    # A child that takes no notice of TERM.
    command_line = "'''sh -c \"trap '' TERM; exec sleep 1000%d\"'''"
    child = f"[resource.exec]\nkill_timeout = 1\ncommand = {command_line}\n"
    base = read(config).decode() + resource("ill", ill)
    write(config, base + resource("child", file, child % 0))
    running = Running(folder, neighbour.wrap + command)
    children = lambda: children_of(running.pid)
    wait_until("the child", lambda: children() and b"sleep" in read(f"/proc/{children()[0]}/cmdline"))
    if neighbour.has_keys():
        wait_until("the second resource", lambda: os.path.exists(os.path.join(folder, "ill")))
    neighbour.fall_ill()

    renames, times = Renames(os.path.dirname(running.file)), []
    until, number = time.monotonic() + DROPPED, 0
    while time.monotonic() < until:
        number += 1
        stamp = value(0, number)
        start = time.perf_counter()
        etcd.put(key(0), stamp)
        while True:
            if not select.select([renames], [], [], PATIENCE)[0]:
                raise SystemExit("bench: nothing is written while another store is ill")
            if renames.take("file") and stamp.encode() in read(running.file):
                break
        times.append(time.perf_counter() - start)
        time.sleep(0.02)
    renames.close()
    what = f"put to file, another resource's store {neighbour.state}"
    if "DNS" in neighbour.state:
        what = f"put to file, another resource's {neighbour.state}"
    for name, figure in [("p50", percentile(times, 0.5)), ("p99", percentile(times, 0.99)), ("longest", max(times))]:
        bench.table.row(f"{what} ({DROPPED} s): {name}", "ms", figure)

    # What the loop has to notice meanwhile; the longest of some.
    hangups, kills = [], []
    for count in range(1, REACTIONS + 1):
        time.sleep(0.05)
        old, lines = children()[0], read(running.log).count(b"loading new config")
        write(config, base + resource("child", file, child % count))
        start = time.perf_counter()
        os.kill(running.pid, signal.SIGHUP)
        wait_until("SIGHUP is taken up", lambda: read(running.log).count(b"loading new config") > lines)
        hangups.append(time.perf_counter() - start)
        wait_until("the old child is gone", lambda: not os.path.exists(f"/proc/{old}"))
        # The second that the configuration gives it does not count.
        kills.append(max(0, time.perf_counter() - start - 1))
        argument = b"sleep\x001000%d\x00" % count
        wait_until("the new child", lambda: any(cmdline(pid) == argument for pid in children()))
    ended = b"resource execution failed"
    lines = read(running.log).count(ended)
    start = time.perf_counter()
    os.kill(children()[0], signal.SIGKILL)
    wait_until("the child's exit is noticed", lambda: read(running.log).count(ended) > lines)
    noticed = time.perf_counter() - start
    # No child that is waited for: the end is that of the program alone.
    write(config, base)
    os.kill(running.pid, signal.SIGHUP)
    wait_until("the child is gone", lambda: not children())
    start = time.perf_counter()
    running.stop()
    end = time.perf_counter() - start
    rows = [
        ("SIGHUP to the new configuration, longest", max(hangups)),
        ("SIGKILL after kill_timeout, longest", max(kills)),
        ("a child's end noticed", noticed),
        ("SIGTERM to the end", end),
    ]
    for name, figure in rows:
        bench.table.row(f"{name}, beside a store that {neighbour.state}".replace("a store that DNS", "a store whose DNS"), "ms", figure)


def cmdline(pid):
    try:
        return read(f"/proc/{pid}/cmdline")
    except OSError:
        return b""


def children_of(pid):
    return [int(child) for child in read(f"/proc/{pid}/task/{pid}/children").split()]


class Bench:
    def __init__(self, ours, range_program, work):
        self.ours = Contender("remco", ours, "remco")
        self.range, self.work = range_program, work
        named = [("REMCO_GO", "remco"), ("CONFD_GO", "confd")]
        self.others = [Contender(name, os.environ[name], kind) for name, kind in named if os.environ.get(name)]
        self.contenders = [self.ours, *self.others]
        self.table = Table(self.others)

    def run(self):
        small = Etcd(self.work, 100)
        for count in SIZES:
            etcd = small if count == 100 else Etcd(self.work, count)
            one_shot(self, count, etcd)
            if count == 100:
                put_to_file(self, small)
            if count == SIZES[-1]:
                one_of_many(self, count, etcd)
                one_template_of_many(self, count, etcd)
            if etcd is not small:
                etcd.stop()
        idle(self, small)
        unchanged(self, small)
        neighbours(self, small)
        small.stop()
        sizes = {contender.name: os.path.getsize(shutil.which(contender.path)) for contender in self.contenders}
        self.table.row("size of the binary", "bytes", sizes[self.ours.name], others=sizes)


def machine(server):
    """What was measured where; the server is named with its version, in front of a semicolon."""
    names = [line for line in read("/proc/cpuinfo").decode().splitlines() if line.startswith("model name")]
    model = names[0].split(":", 1)[1].strip() if names else platform.machine()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    load = os.getloadavg()[0]
    system = f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"
    return f"{system}; {server}commit {commit or 'unknown'}; load when it began {load:.1f}."


def rewrite(document, program, text):
    """Puts the text between the two marks of a program."""
    begin, end = f"<!-- written by {program} -->\n", f"<!-- end of what {program} writes -->\n"
    whole = read(document).decode()
    before, after = whole.split(begin)[0], whole.split(end)[1]
    write(document, before + begin + "\n" + text + "\n" + end + after)


def main():
    ours, range_program, document = [os.path.abspath(path) for path in sys.argv[1:4]]
    etcd = subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    about = machine(f"{etcd}; ")
    # A signal ends it as an error does, so that nothing that it started outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="remco-bench-") as work:
        bench = Bench(ours, range_program, work)
        print(about)
        bench.run()
    if SHORT:
        return
    rewrite(document, "scripts/bench", about + "\n\n" + bench.table.markdown())


if __name__ == "__main__":
    main()
