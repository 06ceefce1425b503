#!/usr/bin/env python3
"""Render generated templates with two programs and compare.

usage: REMCO_GO=/path/to/go-remco differ.py [options] BINARY

BINARY is remco of this tree, REMCO_GO the program that it is compared with: Go remco,
or any renderer that is started as `PROGRAM -config config.toml -onetime` with
the configuration of the recorded cases (see README.md). Without REMCO_GO
nothing is compared: a message says so, and the status is 0.

The templates come from a generator with a seed: `--seed N` repeats a run, and
each template depends on the seed and its number alone. Both programs have to
write the same bytes, or both have to fail; what they say does not matter.
Every difference is printed with its template. The status is 1 if there was
one. Differences that are meant are listed in docs/migrating.md.

Options: --seed N (1), --count N (500), --jobs N (2), --timeout S (20).

Needs Python 3.8 or later and nothing else.
"""
import argparse
import concurrent.futures
import os
import random
import subprocess
import sys
import tempfile

# No cache among the cases.
sys.dont_write_bytecode = True
from run import CONFIG  # noqa: E402

DATA = """\
{"app": {"name": "shop", "port": "8080", "ratio": "0.5", "html": "<b>a & b</b>", "words": "one two  three",
         "list": "c,a,b", "json": "{\\"a\\": [1, 2, {\\"b\\": null}]}", "utf8": "\u00e4\u65e5\U0001f600e\u0301"},
 "hosts": {"one": "10.0.0.2", "two": "10.0.0.1"}}
"""

TEXTS = ["", "a", "a b  c", "<i>x</i> &", "\u00e4\u00d6\u00df", "\u65e5\u672c", "\U0001f600", "1", "-2.5", "0x10", "x,y,z", "\\\\", "a\u0301"]
KEYS = ["name", "port", "ratio", "html", "words", "list", "json", "utf8", "none"]
FILTERS = {
    "": ["upper", "lower", "title", "capfirst", "length", "first", "last", "wordcount", "striptags", "escape", "escapejs",
         "addslashes", "linebreaks", "linebreaksbr", "linenumbers", "urlencode", "iriencode", "integer", "float", "make_list",
         "parseInt", "parseFloat", "parseYAML", "toJSON", "toYAML", "base", "dir", "yesno", "pluralize", "safe"],
    "number": ["truncatechars", "truncatewords", "truncatechars_html", "truncatewords_html", "center", "ljust", "rjust",
               "wordwrap", "add", "divisibleby", "get_digit", "floatformat", "index"],
    "text": ["cut", "split", "join", "default", "default_if_none", "add", "slice", "removetags", "stringformat"],
}
SLICES = ["0:1", "1:", ":2", "-1:", "1:-1", ":", "b,i", "%d", "%s", ",", " "]


class Generator:
    """Makes one template."""

    def __init__(self, seed, number):
        self.random = random.Random("%d/%d" % (seed, number))

    def pick(self, *choices):
        return self.random.choice(choices)

    def text(self):
        return '"%s"' % self.pick(*TEXTS)

    def number(self):
        return str(self.pick(0, 1, 2, 3, 5, 10, 100, 99999))

    def value(self, depth):
        if depth == 0 or self.random.random() < 0.3:
            return self.pick(self.text, self.number, self.key, lambda: self.pick("true", "x", "kv.Key", "forloop.Counter"))()
        return self.pick(self.filtered, self.filtered, self.operation, self.call)(depth - 1)

    def key(self):
        return 'getv("/app/%s"%s)' % (self.pick(*KEYS), self.pick("", ', "d"'))

    def filtered(self, depth):
        value = self.value(0)
        for _ in range(self.pick(1, 1, 2)):
            kind = self.pick(*FILTERS)
            value += "|" + self.pick(*FILTERS[kind])
            if kind == "number":
                value += ":" + self.number()
            elif kind == "text":
                value += ':"%s"' % self.pick(*SLICES, *TEXTS)
        return value

    def operation(self, depth):
        operator = self.pick("+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=", "and", "or", "in")
        return "(%s %s %s)" % (self.value(depth), operator, self.value(depth))

    def call(self, depth):
        return self.pick(
            'printf("%%%s", %s)' % (self.pick("v", "s", "d", "q", "T", "x", "05d", ".2f"), self.value(depth)),
            'replace(%s, "a", "b", %s)' % (self.text(), self.number()),
            "join(%s, %s)" % (self.list(), self.text()),
            "contains(%s, %s)" % (self.text(), self.text()),
            'exists("/app/%s")' % self.pick(*KEYS),
        )

    def list(self):
        return self.pick('ls("/app")', 'gets("/app/*")', 'getvs("/hosts/*")', 'lsdir("/")', '"c,a,b"|split:","', '"cab"', "none")

    def block(self, depth):
        return "".join(self.statement(depth) for _ in range(self.pick(1, 2, 3)))

    def statement(self, depth):
        if depth == 0 or self.random.random() < 0.4:
            return self.pick(" ", "\n", "text", "{{ %s }}" % self.value(2), "{{ %s }}" % self.value(2))
        body, value = self.block(depth - 1), self.value(1)
        return self.pick(
            "{%% if %s %%}%s{%% else %%}no{%% endif %%}" % (value, body),
            "{%% for kv in %s %%}%s{%% empty %%}-{%% endfor %%}" % (self.list(), body),
            "{%% for kv in %s reversed sorted %%}%s{%% endfor %%}" % (self.list(), body),
            "{%% set x = %s %%}%s" % (value, body),
            "{%% with x=%s %%}%s{%% endwith %%}" % (value, body),
            "{%% autoescape on %%}%s{%% endautoescape %%}" % body,
            "{%% filter %s %%}%s{%% endfilter %%}" % (self.pick(*FILTERS[""]), body),
            "{%% ifchanged %s %%}%s{%% endifchanged %%}" % (value, body),
            "{%% firstof %s %s %%}" % (self.value(0), self.value(0)),
            "{%% spaceless %%}%s{%% endspaceless %%}" % body,
            "{%%- if %s -%%} %s {%%- endif -%%}" % (value, body),
        )


def render(binary, template, timeout):
    """The bytes that a program writes, or None if it fails."""
    with tempfile.TemporaryDirectory(prefix="differ-") as folder:
        os.mkdir(os.path.join(folder, "case"))
        for name, text in (("case/template.tmpl", template), ("case/data.json", DATA), ("config.toml", CONFIG)):
            with open(os.path.join(folder, name), "w", encoding="utf-8", newline="") as file:
                file.write(text)
        command = [binary, "-config", "config.toml", "-onetime"]
        try:
            done = subprocess.run(
                command, cwd=folder, env={"PATH": os.environ.get("PATH", "")}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=timeout)
        except subprocess.TimeoutExpired:
            return "no end after %d s" % timeout
        out = os.path.join(folder, "out")
        # The status of Go remco is sometimes 0 where it failed.
        if done.returncode != 0 or not os.path.exists(out):
            return None
        with open(out, "rb") as file:
            return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=20)
    options = parser.parse_args()
    other = os.environ.get("REMCO_GO")
    if not other:
        print("differ: skipped, REMCO_GO names no program to compare with")
        return 0
    binaries = [os.path.abspath(options.binary), os.path.abspath(other)]
    for binary in binaries:
        if not os.access(binary, os.X_OK):
            sys.exit("differ: cannot run %s" % binary)

    def compare(number):
        template = Generator(options.seed, number).block(3)
        return number, template, [render(binary, template, options.timeout) for binary in binaries]

    different = 0
    rendered = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for number, template, (ours, theirs) in pool.map(compare, range(options.count)):
            rendered += theirs is not None
            if ours == theirs:
                continue
            different += 1
            print("--- template %d (--seed %d)\n%s" % (number, options.seed, template))
            print("    ours:   %r\n    theirs: %r" % (ours, theirs))
    print("differ: %d of %d templates differ, %d rendered" % (different, options.count, rendered))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
