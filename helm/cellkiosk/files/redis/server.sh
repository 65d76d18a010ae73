#!/bin/sh
# One of three servers: follows the master that the sentinels name.
# SELF and PORT: own address; FIRST: host:port of the first pod; SENTINELS: host:port of each, parted by spaces;
# CONFIG: redis.conf; STATE: folder that is kept; REDISCLI_AUTH: the password of all.
set -eu
server=$(command -v valkey-server || command -v redis-server)
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
# shellcheck disable=SC2046
set -- $(echo "$known" | sort -n | tail -n 1)
master=${2:-${FIRST%:*}}:${3:-${FIRST##*:}}

set -- "$CONFIG" --port "$PORT" --dir "$STATE" --requirepass "$REDISCLI_AUTH" --masterauth "$REDISCLI_AUTH" \
  --replica-announce-ip "$SELF" --replica-announce-port "$PORT"
if [ "$master" != "$SELF:$PORT" ]; then
  set -- "$@" --replicaof "${master%:*} ${master##*:}"
fi
exec "$server" "$@"
