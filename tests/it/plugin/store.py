#!/usr/bin/env python3
"""A plugin whose keys are the lines KEY=VALUE of a file. Answers reads while it watches, as plugins in Go do."""

import json
import sys
import threading
import time
import zlib

lock = threading.Lock()
config = {}


def answer(call, result, error=None):
    with lock:
        print(json.dumps({"id": call["id"], "result": result, "error": error}), flush=True)


def stamp():
    with open(config["file"], "rb") as content:
        return zlib.crc32(content.read())


def values():
    with open(config["file"], encoding="utf-8") as lines:
        return dict(line.rstrip("\n").split("=", 1) for line in lines)


def watch(call, index):
    while stamp() == index:
        time.sleep(0.01)
    answer(call, stamp())


for line in sys.stdin:
    call = json.loads(line)
    (params,) = call["params"]
    match call["method"]:
        case "Plugin.Init":
            config.update(params)
            print("init", json.dumps(params), file=sys.stderr, flush=True)
            answer(call, True)
        case "Plugin.GetValues":
            print("keys", json.dumps(params), file=sys.stderr, flush=True)
            try:
                answer(call, values())
            except (OSError, ValueError) as error:
                answer(call, None, str(error))
        case "Plugin.WatchPrefix":
            index = params["Opts"]["WaitIndex"]
            threading.Thread(target=watch, args=(call, index), daemon=True).start()
        case "Plugin.Close":
            answer(call, True)
            print("closed", file=sys.stderr, flush=True)
            break
