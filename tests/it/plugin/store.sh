#!/bin/sh
# A plugin in the shell: one call a line, one key.
while read -r call; do
    id=${call##*\"id\":}
    id=${id%%[!0-9]*}
    case $call in
        *Plugin.Init*) echo "{\"id\":$id,\"result\":true,\"error\":null}" ;;
        *Plugin.GetValues*) echo "{\"id\":$id,\"result\":{\"/app/greeting\":\"from the shell\"},\"error\":null}" ;;
        *) echo "{\"id\":$id,\"result\":null,\"error\":\"unknown method\"}" ;;
    esac
done
