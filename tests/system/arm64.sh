#!/bin/bash
# Installs the wheels for the Raspberry Pi, from a wheelhouse, in an emulated 64-bit Debian, and runs
# the daemon there on a clip. What it prints is in docs/installation.md.
#
#     tests/system/arm64.sh CLIP.mp4 [bookworm|trixie]
#
# Needs root, and from apt mmdebstrap, qemu-user-static and binfmt-support. The root (100 MB) and the
# wheelhouse are kept in $EDGE_DAEMON_BOX, by default ~/.cache/edge-daemon-box. For minutes only:
# emulation is slow. Not for figures of speed.
set -euo pipefail
TIMEFORMAT='took %0R s'

clip=$(realpath "${1:?a clip with faces is missing}")
suite=${2:-trixie}
here=$(dirname "$(realpath "$0")")
repository=$(realpath "$here/../..")
cache=${EDGE_DAEMON_BOX:-$HOME/.cache/edge-daemon-box}
root=$cache/$suite-arm64
wheelhouse=$cache/$suite-arm64-wheelhouse

emulate() {
    grep -q binfmt_misc /proc/mounts \
        || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
}

# Packages are only unpacked, which takes no emulation.
make_root() {
    rm -rf "$root.part"
    nice mmdebstrap --mode=root --arch=arm64 --variant=extract --quiet \
        --aptopt='Acquire::Check-Date "false"' \
        --include=base-files,libc-bin,python3,python3-venv,python3-systemd,libstdc++6,libgomp1 \
        "$suite" "$root.part"
    # What the package that was not configured would have made; pip does not start without it.
    install -D /etc/ssl/certs/ca-certificates.crt "$root.part/etc/ssl/certs/ca-certificates.crt"
    mv "$root.part" "$root"
}

# Without /proc and /sys: LiteRT would take the features of this machine's processor for its own.
inside() {
    env -i PATH=/usr/sbin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 QEMU_CPU=cortex-a72 \
        chroot "$root" "$@"
}

emulate
[ -d "$root" ] || make_root
"$repository/deploy/make-wheelhouse.sh" --suite "$suite" --machine aarch64 "$wheelhouse"

trap 'rm -rf "$root/opt/"*' EXIT
mkdir -p "$root/opt/source" "$root/opt/wheelhouse"
cp -r "$repository"/{edge_daemon,models,pyproject.toml,README.md,LICENSE} "$root/opt/source"
cp "$wheelhouse"/*.whl "$root/opt/wheelhouse"
cp "$clip" "$root/opt/clip.mp4"

echo "--- installing: $suite, $(inside python3 -c 'import platform as on
print(on.machine(), on.python_version())')"
time {
    inside python3 -m venv --system-site-packages /opt/venv
    inside /opt/venv/bin/pip install --quiet --no-index --find-links /opt/wheelhouse \
        '/opt/source[metrics,preview]'
}
echo '--- what a Pi would run'
inside /opt/venv/bin/edge-daemon --version
inside /opt/venv/bin/edge-daemon models list
echo '--- a clip'
time inside /opt/venv/bin/edge-daemon run --source /opt/clip.mp4 --sink jsonl \
    > "$root/opt/lines.jsonl"
inside python3 - << 'END'
import collections, json

lines = [json.loads(line) for line in open("/opt/lines.jsonl")]
faces = [face for line in lines for face in line["faces"]]
emotions = collections.Counter(face["emotion"] for face in faces)
print(f"{len(lines)} frames, {len(faces)} faces: {dict(emotions)}")
print(json.dumps(faces[0]))
END
