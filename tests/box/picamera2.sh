#!/bin/bash
# Runs the daemon's PiCamera source, then the whole daemon, with the real picamera2 on libcamera's
# virtual camera, which replays pictures. No Raspberry Pi is needed.
#
#     tests/box/picamera2.sh VIDEO|FOLDER [YUNET.onnx]
#     tests/box/picamera2.sh --root       make the root that it takes, and print where it is
#
# The video, or the folder's *.jpg, hold the faces to show: the first 40 pictures. Without YuNet,
# faces are found by Haar. Needs root, ffmpeg, and from apt systemd-container and mmdebstrap. The
# first call builds a Debian root with all that it takes (1 to 2 minutes, 1.5 GB) in
# $EDGE_DAEMON_BOX, by default ~/.cache/edge-daemon-box; later calls take half a minute. What a run
# writes is not kept.
set -euo pipefail

: "${1:?a video or a folder with faces is missing}"
here=$(dirname "$(realpath "$0")")
repository=$(realpath "$here/../..")
cache=${EDGE_DAEMON_BOX:-$HOME/.cache/edge-daemon-box}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# in_box ROOT [NSPAWN OPTION]... -- COMMAND...
in_box() {
    local root=$1 options=() file
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        if [ -e "$file" ]; then options+=(--bind-ro="$file"); fi
    done
    systemd-nspawn -q -D "$root" --register=no --keep-unit --pipe --timezone=off \
        --resolv-conf=replace-host --bind-ro="$here/picamera2:/opt/box" "${options[@]}" "$@" \
        2> >(grep -v 'Attempted to remove disk file system' >&2)
}

build_root() {
    local root=$1 packages=ca-certificates,python3-venv,python3-prctl,python3-systemd
    packages+=,python3-dev,gcc,libc6-dev,libcap-dev,systemd,systemd-sysv,dbus,procps
    nice mmdebstrap --variant=minbase --aptopt='Acquire::Check-Date "false"' \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --include="$packages" trixie "$root"
    cp "$repository/pyproject.toml" "$root/opt/"
    in_box "$root" -- nice bash /opt/box/install.sh
}

root=$cache/picamera2
made_of=("$here"/picamera2{.sh,/install.sh,/virtual_camera.py,/pykms.py,/fakedmaheap.c})
stamp=$(cat "$repository/pyproject.toml" "${made_of[@]}" | sha256sum)
if [ "$(cat "$root.stamp" 2> /dev/null)" != "$stamp" ]; then
    mkdir -p "$cache"
    rm -rf "$root" "$root.stamp"
    build_root "$root"
    echo "$stamp" > "$root.stamp"
fi

if [ "${1:-}" = --root ]; then
    echo "$root"
    exit
fi
faces=$(realpath "$1")
yunet=${2:+$(realpath "$2")}

input=(-i "$faces")
if [ -d "$faces" ]; then input=(-framerate 10 -pattern_type glob -i "$faces/*.jpg"); fi
mkdir "$work/frames"
fit='scale=1280:720:force_original_aspect_ratio=decrease,pad=1280:720:-1:-1'
ffmpeg -v error "${input[@]}" -vf "$fit" -frames:v 40 -start_number 0 -q:v 2 "$work/frames/%d.jpg"
bound=(--bind-ro="$work/frames:/opt/frames" --bind-ro="$repository:/opt/source")
if [ -n "$yunet" ]; then bound+=(--bind-ro="$yunet:/opt/yunet.onnx"); fi

in_box "$root" --volatile=overlay "${bound[@]}" -- nice bash /opt/box/inside.sh
