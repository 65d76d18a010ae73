#!/bin/sh
# The sentinel beside a server. Its file is written by itself and kept, since it holds what it has learnt.
set -eu
server=$(command -v valkey-server || command -v redis-server)
file="$STATE/sentinel-$SENTINEL_PORT.conf"

if [ ! -f "$file" ]; then
  cat >"$file.new" <<END
port $SENTINEL_PORT
dir $STATE
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $SELF
sentinel announce-port $SENTINEL_PORT
sentinel monitor kiosk ${FIRST%:*} ${FIRST##*:} 2
sentinel auth-pass kiosk $REDISCLI_AUTH
sentinel down-after-milliseconds kiosk $DOWN_AFTER
sentinel failover-timeout kiosk $FAILOVER_TIMEOUT
sentinel parallel-syncs kiosk 1
END
  mv "$file.new" "$file"
fi
# A name that cannot be looked up yet ends the sentinel: the first pod may still be on its way. The shell is process 1
# meanwhile, so it passes on the signal to stop.
trap 'trap "" TERM; kill "$!"; wait; exit 0' TERM
until "$server" "$file" --sentinel & wait "$!"; do sleep 1; done
