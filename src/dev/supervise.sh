#!/bin/sh
# Runs one server and ends it when standard input closes, so that the server never outlives the Holdfast that started it:
# the kernel closes the other end of that pipe even when Holdfast is killed with -9.
#
# usage: supervise.sh SIGNAL FIRMER_SIGNAL COMMAND [ARGUMENT...]
#   stdin   a pipe; end of file ends the server within 5 s, a line before it ("stop") gives it 30 s to end well
#   stdout  one line: the server's process id
#   stderr  the server's log, for both of its streams
# The exit code is the server's.
gentle=$1 firm=$2
shift 2

exec 3<&0 </dev/null
# Nothing of our environment but PATH: neither a setting like PGDATESTYLE nor a secret belongs to the server.
env -i PATH="$PATH" LC_ALL=C TZ=UTC "$@" 3<&- >&2 &
server=$!
echo "$server"
exec >/dev/null

# Sends a signal and gives the server that many tenths of a second; leaves when the server has gone.
end_with() {
  kill -s "$1" "$server" 2>/dev/null || exit 0
  tenths=$2
  while [ "$tenths" -gt 0 ]; do
    sleep 0.1
    kill -0 "$server" 2>/dev/null || exit 0
    tenths=$((tenths - 1))
  done
}

(
  if read -r _ <&3; then patience=300; else patience=33; fi
  end_with "$gentle" "$patience"
  end_with "$firm" 8
  kill -s KILL "$server" 2>/dev/null
) &
watcher=$!
exec 3<&-

wait "$server"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
