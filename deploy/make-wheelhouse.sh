#!/usr/bin/env bash
# Downloads the Python packages that install.sh needs, for a machine without a network.
set -euo pipefail

usage() {
    cat << 'END'
Usage: deploy/make-wheelhouse.sh [--suite bookworm|trixie] [--machine aarch64|x86_64] FOLDER

Run it on a machine with a network and Python 3.11 or later; it installs nothing there. The default
is the Raspberry Pi (aarch64) with trixie. Then, on the Pi, with FOLDER and this repository:

    sudo deploy/install.sh --wheelhouse FOLDER
END
}

fail() {
    printf 'make-wheelhouse.sh: %s\n' "$*" >&2
    exit 1
}

suite=trixie machine=aarch64 folder=''
while (($#)); do
    case $1 in
        --suite | --machine)
            (($# > 1)) || fail "$1: option requires a value; see --help"
            declare "${1#--}=$2"
            shift
            ;;
        -h | --help)
            usage
            exit
            ;;
        -*) fail "$1: unknown option; see --help" ;;
        *) folder=$1 ;;
    esac
    shift
done
[[ -n $folder ]] || fail "FOLDER: missing argument; see --help"
[[ $machine == aarch64 || $machine == x86_64 ]] || fail "--machine: invalid value (got $machine); use aarch64 or x86_64"
# Its Python and C library.
case $suite in
    bookworm) python=3.11 glibc=36 ;;
    trixie) python=3.13 glibc=41 ;;
    *) fail "--suite: invalid value (got $suite); use bookworm or trixie" ;;
esac

mkdir --parents "$folder"
folder=$(realpath "$folder")
cd "$(dirname "$(realpath "$0")")/.."

platforms=(--platform "manylinux2014_$machine")
for ((minor = 17; minor <= glibc; minor++)); do
    platforms+=(--platform "manylinux_2_${minor}_$machine")
done
# build.txt has the build tools: the Pi builds the project from its source.
python3 -m pip --disable-pip-version-check download --quiet --dest "$folder" \
    --only-binary=:all: --python-version "$python" "${platforms[@]}" \
    --require-hashes --requirement "deploy/locks/$suite.txt" --requirement deploy/locks/build.txt
printf '%s: packages for %s, %s: ' "$folder" "$suite" "$machine"
du --summarize --human-readable "$folder" | cut --fields=1
