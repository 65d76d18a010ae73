#!/bin/sh
# `kiosk` in its container: the current folder, the login to the cloud and that to the cluster are brought along.
# Needs nothing on the host but Docker, and works the same inside docker-in-docker.
set -eu
image=${KIOSK_IMAGE:-cellkiosk/console}

if ! command -v docker >/dev/null; then
    echo "kiosk: this runs in a container and needs Docker, which is not on PATH here." >&2
    exit 2
fi
set -- "$image" "$@"
for folder in "$HOME/.kube" "$HOME/.config/gcloud"; do
    [ -d "$folder" ] && set -- --volume "$folder:/home/kiosk/${folder#"$HOME"/}" "$@"
done
for name in $(env | sed -n 's/^\(KIOSK_[A-Z_]*\)=.*/\1/p'); do
    set -- --env "$name" "$@"
done
[ -t 0 ] && [ -t 1 ] && set -- --tty --interactive "$@"
exec docker run --rm --network host --user "$(id -u):$(id -g)" --env HOME=/home/kiosk \
    --volume "$PWD:/here" --workdir /here "$@"
