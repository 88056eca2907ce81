# shellcheck shell=bash
# Releases: each version is a virtual environment in its own folder, which does not change once it
# is complete. The symlink `current` selects the running one.

prefix=/opt/edge-daemon
current=$prefix/current
switching=$prefix/switching # during a switch, a symlink to the release before it
cache=/var/cache/edge-daemon
work_folders=/var/tmp # for the installer's temporary files
made_of=(edge_daemon models deploy pyproject.toml README.md LICENSE)

# A release is identified by version, Python and contents.
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
    umask 022 # the service's user reads the release, whatever the umask of the caller
    unfinished=$release
    rm --recursive --force "$release"
    mkdir --parents "$release" "$cache" "$work/source"
    (cd "$repository" && cp --recursive "${made_of[@]}" "$work/source")
    quietly "cannot create a virtual environment" \
        python3 -m venv --system-site-packages "$release"
    quietly "cannot install Python packages" install_python_packages
    cp --recursive "$work/source/deploy" "$release"
    sync --file-system "$release" # a power cut leaves no empty files in a complete release
    touch "$release/complete"
    unfinished=''
}

# Only files whose checksums are in the lock. Raspberry Pi OS configures piwheels.org as another
# index; its files are built there, and pip skips them.
install_python_packages() {
    local project="$work/source[metrics,preview]" locks=$here/locks
    if [[ $machine == *armhf ]]; then
        pip_install "$project" # on 32-bit most are from piwheels.org, without lasting checksums
        return
    fi
    pip_install --require-hashes --requirement "$locks/${machine% *}.txt" \
        && pip_install --require-hashes --requirement "$locks/build.txt" --target "$work/builders" \
        && PYTHONPATH=$work/builders pip_install --no-index --no-build-isolation "$project"
}

# Large temporary files go to a disk: /tmp may be in memory.
pip_install() {
    local command=(env TMPDIR="$work" PIP_CACHE_DIR="$cache" "$release/bin/pip")
    command+=(--disable-pip-version-check install "$@")
    if [[ -n $wheelhouse ]]; then command+=(--no-index --find-links "$wheelhouse"); fi
    "${command[@]}"
}

# The previous release stays, for a roll-back by symlink.
remove_old_releases() {
    [[ $previous != "$release" ]] || return 0
    local folder
    for folder in "$prefix"/releases/*; do
        [[ $folder == "$release" || $folder == "$previous" ]] || rm --recursive --force "$folder"
    done
}

# What an installer that was killed left: temporary folders and incomplete releases. Others can
# write to /var/tmp, so only root's own folders count.
remove_leftovers() {
    local folder
    find "$work_folders" -mindepth 1 -maxdepth 1 -name 'edge-daemon-install.??????' -user root \
        -type d -exec rm --recursive --force {} +
    for folder in "$prefix"/releases/*; do
        if [[ -d $folder && ! -e $folder/complete && $folder != "$(installed_release)" ]]; then
            rm --recursive --force "$folder"
        fi
    done
    rm --force "$current.new" "$switching.new" "$stored_password.new" "$configuration/config.toml.new"
}
