"""Measures what telemetry costs: a put to a file without it, with it, and while it is scraped beside connections that stall;
a scrape; memory. Run by scripts/bench --telemetry, which builds and installs.

    scrapes.py REMCO DOCUMENT

REMCO is the program; DOCUMENT is rewritten between its two marks. With BENCH_SHORT=1 in the environment it does everything
with small numbers, to see that it works, and writes no document."""

import atexit
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from measure import ALL, PATIENCE, SHORT, BareWatch, Contender, Etcd, Renames, Running, Table
from measure import free_port, key, machine, percentile, read, rewrite, status_of, value, wait_until, write

# The rounds of the three states follow each other, so that a busy moment of the machine falls on all of them.
ROUNDS = 2 if SHORT else 5
SCRAPES = 40 if SHORT else 2_000
RATE = 200
STALLED = 20
# Between two puts. The puts of a round take as long as its scrapes.
PAUSE = 0.05
PUTS = int(SCRAPES / RATE / PAUSE)
IDLE = 3 if SHORT else 60


class Scraper:
    """Scrapes at a constant rate, and keeps connections open that never complete a request. It is a process of its own: a
    thread would hold up the one that measures."""

    def __init__(self, port):
        context = multiprocessing.get_context("fork")
        self.results, results = context.Pipe(duplex=False)
        self.process = context.Process(target=self.run, args=[port, results], daemon=True)
        self.process.start()

    @staticmethod
    def run(port, results):
        times, stalled, due = [], [], time.monotonic()
        for number in range(SCRAPES):
            # The server closes those that wait for long: others take their place.
            if number % (RATE // 10) == 0:
                stalled = [one for one in stalled if not select.select([one], [], [], 0)[0]]
                while len(stalled) < STALLED:
                    one = socket.create_connection(("127.0.0.1", port))
                    one.sendall(b"GET /metr")
                    stalled.append(one)
            time.sleep(max(0, due - time.monotonic()))
            due += 1 / RATE
            start = time.perf_counter()
            if is_scraped(port):
                times.append(time.perf_counter() - start)
        results.send(times)

    def stop(self):
        """Seconds of each scrape that was answered."""
        times = self.results.recv()
        self.process.join()
        return times


def is_scraped(port):
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer.startswith(b"HTTP/1.1 200 ") and b"\nremco_up 1\n" in answer
    except OSError:
        return False


def ended_at_exit(running):
    """An error ends this program in the middle; what it started does not outlive it."""
    atexit.register(running.process.kill)
    return running


class Figures:
    """What was measured in one state."""

    def __init__(self):
        self.files, self.events, self.scrapes, self.cpu, self.memory = [], [], [], [], []


def table(port):
    return f'[telemetry]\nenabled = true\n[telemetry.sinks.prometheus]\naddr = "127.0.0.1:{port}"\n' if port else ""


def cpu_of(pid):
    """User and system seconds so far."""
    fields = read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_round(work, remco, etcd, port, is_scraping, figures):
    folder, command = Contender("remco", remco, "remco").prepare(work, etcd.url, ALL, watch=True, more=table(port))
    running = ended_at_exit(Running(folder, command))
    if port:
        wait_until("metrics are served", lambda: is_scraped(port))
    watch, renames = BareWatch(etcd), Renames(os.path.dirname(running.file))
    before = cpu_of(running.pid)
    scraper = Scraper(port) if is_scraping else None
    # The first ones find the watch that is just being opened, and caches that are cold.
    for number in range(-3, PUTS):
        stamp = value(0, int(time.monotonic_ns()) % 10**18)
        start = time.perf_counter()
        etcd.put(key(0), stamp)
        event = file = None
        while event is None or file is None:
            readable, _, _ = select.select([watch, renames], [], [], PATIENCE)
            now = time.perf_counter()
            if not readable:
                raise SystemExit("bench: the program did not follow a put")
            if watch in readable and watch.take():
                event = now - start
            if renames in readable and renames.take("file") and stamp.encode() in read(running.file):
                file = now - start
        if number >= 0:
            figures.files.append(file)
            figures.events.append(event)
        time.sleep(PAUSE)
    if scraper:
        figures.scrapes += scraper.stop()
    figures.cpu.append(cpu_of(running.pid) - before)
    figures.memory.append((status_of(running.pid, "VmRSS"), status_of(running.pid, "RssAnon")))
    running.stop()
    renames.close()
    watch.socket.close()


def idle(work, remco, etcd):
    """Wake-ups without telemetry, and with every sink and the status file. Both do nothing at the same time."""
    receiver, listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    for one in receiver, listener:
        one.bind(("127.0.0.1", 0))
    listener.listen()
    to = {"statsd": receiver, "statsite": listener}
    sinks = "".join(f'[telemetry.sinks.{name}]\naddr = "127.0.0.1:{one.getsockname()[1]}"\n' for name, one in to.items())
    sinks += f'[telemetry.sinks.inmem]\ninterval = 10\nretain = 60\n[telemetry.sinks.textfile]\npath = "{work}/remco.prom"\n'
    started = []
    for top, more in [("", ""), (f'status_file = "{work}/status.json"\n', table(free_port()) + sinks)]:
        folder, command = Contender("remco", remco, "remco").prepare(work, etcd.url, ALL, watch=True, more=more)
        config = os.path.join(folder, "config")
        write(config, top + read(config).decode())
        started.append(ended_at_exit(Running(folder, command)))
    # What was counted at the start is sent within seconds.
    time.sleep(min(15, IDLE))
    switches = lambda: [status_of(running.pid, "voluntary_ctxt_switches") for running in started]
    before = switches()
    time.sleep(IDLE)
    woken = [after - before for after, before in zip(switches(), before)]
    for running in started:
        running.stop()
    return woken


def main():
    remco, document = [os.path.abspath(path) for path in sys.argv[1:3]]
    version = subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    began = machine(f"{version}; ")
    # A signal ends it as an error does, so that nothing that it started outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    states = [("off", False, False), ("on", True, False), ("scraped", True, True)]
    measured = {name: Figures() for name, *_ in states}
    with tempfile.TemporaryDirectory(prefix="remco-bench-") as work:
        etcd = ended_at_exit(Etcd(work, 100))
        for _ in range(ROUNDS):
            for name, is_on, is_scraping in states:
                one_round(work, remco, etcd, free_port() if is_on else None, is_scraping, measured[name])
        without, with_all = idle(work, remco, etcd)
        etcd.stop()
    scrapes = ROUNDS * SCRAPES
    titles = {
        "off": "without telemetry",
        "on": "with it, not scraped",
        "scraped": f"{scrapes:,} scrapes at {RATE} a second, {STALLED} stalled connections beside",
    }
    head = "| | put to file: p50 | p99 | bare watch: p50 | p99 | file behind the bare watch: p50 | p99 "
    lines = [head + "| user + sys | RSS | of it its own |", "|" + "---|" * 10]
    ms = lambda seconds: Table.figure(seconds, "ms")
    for name, title in titles.items():
        figures = measured[name]
        # What the machine does to a put falls on the bare watch as well.
        behind = [file - event for file, event in zip(figures.files, figures.events)]
        columns = (figures.files, figures.events, behind)
        times = [percentile(times, part) for times in columns for part in (0.5, 0.99)]
        rss, own = (max(numbers) for numbers in zip(*figures.memory))
        cells = [title, *map(ms, times), ms(sum(figures.cpu)), f"{rss:,} KB", f"{own:,} KB"]
        lines.append("| " + " | ".join(cells) + " |")
    times = measured["scraped"].scrapes
    answered = f"{len(times):,} of {scrapes:,} scrapes were answered"
    text = f"{began}\n\n" + "\n".join(lines) + "\n\n"
    text += f"{answered}: p50 {ms(percentile(times, 0.5))}, p99 {ms(percentile(times, 0.99))}, longest {ms(max(times))}.\n"
    text += f"Wake-ups in {IDLE} s, idle: {without} without telemetry, {with_all} with every sink and the status file.\n"
    print(text)
    if not SHORT:
        rewrite(document, "scripts/bench --telemetry", text)


if __name__ == "__main__":
    main()
