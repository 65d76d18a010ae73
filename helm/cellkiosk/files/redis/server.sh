#!/bin/sh
# The server; with sentinels one of three, which follows the master that they name.
# PORT: own port; CONFIG: redis.conf; STATE: folder that is kept; REDISCLI_AUTH: the password of all. With sentinels
# also SELF: own host; FIRST: host:port of the first pod; SENTINELS: host:port of each, parted by spaces.
set -eu
server=$(command -v valkey-server || command -v redis-server)

# The password goes into a file that nobody else may read: the arguments of a process are everybody's on its node.
file="$STATE/server-$PORT.conf"
(umask 077 && { cat "$CONFIG" && printf 'requirepass %s\nmasterauth %s\n' "$REDISCLI_AUTH" "$REDISCLI_AUTH"; } >"$file")
set -- "$file" --port "$PORT" --dir "$STATE"
[ -n "${SENTINELS:-}" ] || exec "$server" "$@"

client=$(command -v valkey-cli || command -v redis-cli)

# One line for each sentinel that answers: the number of the failover that it knows of, the master's host and port.
ask() {
  for sentinel in $SENTINELS; do
    REDISCLI_AUTH='' timeout 3 "$client" -h "${sentinel%:*}" -p "${sentinel##*:}" --no-auth-warning \
      sentinel master kiosk 2>/dev/null | awk '
        NR % 2 { key = $0; next }
        { value[key] = $0 }
        END { if (value["port"]) print value["config-epoch"], value["ip"], value["port"] }'
  done
}

# Two of three must agree to a failover, so one of any two knows of the last. To believe the first one that answers
# could make a server that missed a failover the master again, and all others would take its old data.
tries=30
known=$(ask)
while [ "$(echo "$known" | grep -c .)" -lt 2 ] && [ "$tries" -gt 0 ]; do
  sleep 1
  tries=$((tries - 1))
  known=$(ask)
done
newest=$(echo "$known" | sort -n | tail -n 1 | cut -d ' ' -f 2-)
master=${newest:-${FIRST%:*} ${FIRST##*:}}

set -- "$@" --replica-announce-ip "$SELF" --replica-announce-port "$PORT"
if [ "$master" != "$SELF $PORT" ]; then
  set -- "$@" --replicaof "$master"
fi
exec "$server" "$@"
