# shellcheck shell=bash
# Releases: each version in a folder of its own, a virtual environment that is not changed once it
# is complete. The symlink `current` names the one that runs.

prefix=/opt/edge-daemon
current=$prefix/current
cache=/var/cache/edge-daemon
made_of=(edge_daemon models deploy pyproject.toml README.md LICENSE)

# Version, Python and contents: whatever changes of these, it is another release.
name_release() {
    local version python contents
    version=$(sed --quiet 's/^__version__ = "\(.*\)"$/\1/p' "$repository/edge_daemon/__init__.py")
    python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null || echo 3)
    contents=$(fingerprint)
    release=$prefix/releases/$version-py$python-${contents:0:8}
}

fingerprint() {
    cd "$repository"
    find "${made_of[@]}" -type f ! -name '*.pyc' -print0 | LC_ALL=C sort --zero-terminated \
        | xargs --null sha256sum | sha256sum
}

make_release() {
    name_release
    [[ -e $release/complete ]] || change "build ${release##*/}" build_release
}

build_release() {
    unfinished=$release
    rm --recursive --force "$release"
    mkdir --parents "$release" "$cache" "$work/source"
    (cd "$repository" && cp --recursive "${made_of[@]}" "$work/source")
    quietly "a virtual environment cannot be made" \
        python3 -m venv --system-site-packages "$release"
    quietly "Python packages cannot be installed" install_python_packages
    cp --recursive "$work/source/deploy" "$release"
    touch "$release/complete"
    unfinished=''
}

# The files that the lock names, from wherever pip finds them, and no others. Those of piwheels.org,
# which Raspberry Pi OS has pip ask as well, are built there and passed over.
install_python_packages() {
    local project="$work/source[metrics,preview]" locks=$here/locks
    if [[ $machine == *armhf ]]; then
        pip_install "$project" # on 32-bit most come from there, and there are no lasting checksums
        return
    fi
    pip_install --require-hashes --requirement "$locks/${machine% *}.txt" \
        && pip_install --require-hashes --requirement "$locks/build.txt" --target "$work/builders" \
        && PYTHONPATH=$work/builders pip_install --no-index --no-build-isolation "$project"
}

# The big temporary files go to a disk: /tmp may be in memory.
pip_install() {
    local words=(env TMPDIR="$work" PIP_CACHE_DIR="$cache" "$release/bin/pip")
    words+=(--disable-pip-version-check install "$@")
    if [[ -n $wheelhouse ]]; then words+=(--no-index --find-links "$wheelhouse"); fi
    "${words[@]}"
}

# The one that ran before stays: to go back to it is a matter of a symlink.
remove_old_releases() {
    [[ $previous != "$release" ]] || return 0
    local folder
    for folder in "$prefix"/releases/*; do
        [[ $folder == "$release" || $folder == "$previous" ]] || rm --recursive --force "$folder"
    done
}
