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
    if [ -d "$folder" ]; then
        set -- --volume "$folder:/home/kiosk/${folder#"$HOME"/}" "$@"
    fi
done
for name in KUBECONFIG GOOGLE_APPLICATION_CREDENTIALS; do
    file=$(printenv "$name" || true)
    if [ -f "$file" ]; then
        file=$(realpath "$file")
        set -- --volume "$file:$file:ro" --env "$name=$file" "$@"
    fi
done
for name in $(env | sed -n 's/^\(KIOSK_[A-Z0-9_]*\)=.*/\1/p'); do
    set -- --env "$name" "$@"
done
if [ -t 0 ] && [ -t 1 ]; then
    set -- --tty --interactive "$@"
elif [ ! -t 0 ]; then
    set -- --interactive "$@" # so that what is piped in arrives
fi
exec docker run --rm --init --network host --user "$(id -u):$(id -g)" --env HOME=/home/kiosk \
    --volume "$PWD:/here" --workdir /here "$@"
