#!/bin/sh
# One of three servers: follows the master that the sentinels name; where none answers, the first pod is the master.
# SELF and PORT: own address; FIRST: host:port of the first pod; SENTINELS: host:port of each, parted by spaces;
# CONFIG: redis.conf; STATE: folder that is kept; REDISCLI_AUTH: the password of all.
set -eu
server=$(command -v valkey-server || command -v redis-server)
client=$(command -v valkey-cli || command -v redis-cli)

master=""
for sentinel in $SENTINELS; do
  answer=$(REDISCLI_AUTH='' timeout 3 "$client" -h "${sentinel%:*}" -p "${sentinel##*:}" --no-auth-warning \
    sentinel get-master-addr-by-name kiosk 2>/dev/null | tr '\n' ' ') || continue
  # shellcheck disable=SC2086
  set -- $answer
  if [ $# -eq 2 ]; then
    master="$1:$2"
    break
  fi
done
: "${master:=$FIRST}"

set -- "$CONFIG" --port "$PORT" --dir "$STATE" --requirepass "$REDISCLI_AUTH" --masterauth "$REDISCLI_AUTH" \
  --replica-announce-ip "$SELF" --replica-announce-port "$PORT"
if [ "$master" != "$SELF:$PORT" ]; then
  set -- "$@" --replicaof "${master%:*} ${master##*:}"
fi
exec "$server" "$@"
