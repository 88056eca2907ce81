#!/usr/bin/env bash
# Downloads the Python packages that install.sh needs, for a machine without a network.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

usage() {
    cat << 'END'
Usage: deploy/make-wheelhouse.sh [--suite bookworm|trixie] [--machine aarch64|x86_64] FOLDER

Run it on a machine with a network and Python 3.11 or later; it installs nothing there. The default
is the Raspberry Pi (aarch64) with trixie. Then, on the Pi, with FOLDER and this repository:

    sudo deploy/install.sh --wheelhouse FOLDER
END
}

here=$(dirname "$(realpath "$0")")
source "$here/lib/packages.sh"
read_options "$@"
cd "$here/.."

# build.txt has the build tools: the Pi builds the project from its source.
python3 -m pip --disable-pip-version-check download --quiet --dest "$folder" \
    --only-binary=:all: --python-version "$python" "${platforms[@]}" \
    --require-hashes --requirement "deploy/locks/$suite.txt" --requirement deploy/locks/build.txt
printf '%s: packages for %s, %s: ' "$folder" "$suite" "$machine"
du --summarize --human-readable "$folder" | cut --fields=1
