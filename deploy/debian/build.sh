#!/usr/bin/env bash
# Builds a Debian package of edge-daemon with the Python packages that it needs.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

usage() {
    cat << 'END'
Usage: deploy/debian/build.sh [OPTION]... FOLDER

Builds FOLDER/edge-daemon_VERSION_ARCHITECTURE.deb. Requires dpkg-deb, Python 3.11 or later with
pip, and a network unless there is a --wheelhouse. Another architecture than this machine's can be built.

  --suite NAME         bookworm or trixie (default: trixie)
  --machine NAME       aarch64 or x86_64 (default: aarch64)
  --wheelhouse FOLDER  Python packages of that suite and machine, from deploy/make-wheelhouse.sh

$DEBFULLNAME and $DEBEMAIL name the package's maintainer.
END
}

here=$(dirname "$(realpath "$0")")
source "$here/../lib/packages.sh"
options+=(--wheelhouse) wheelhouse=''
read_options "$@"
case $machine in
    aarch64) architecture=arm64 ;;
    x86_64) architecture=amd64 ;;
esac
next_python=3.$((${python#3.} + 1))

repository=$(dirname "$(dirname "$here")")
work=$(mktemp --directory)
trap 'rm --recursive --force "$work"' EXIT

if [[ -z $wheelhouse ]]; then
    wheelhouse=$work/wheelhouse
    "$here/../make-wheelhouse.sh" --suite "$suite" --machine "$machine" "$wheelhouse"
fi
wheelhouse=$(realpath "$wheelhouse")
version=$(sed --quiet 's/^__version__ = "\(.*\)"$/\1/p' "$repository/edge_daemon/__init__.py")
root=$work/root
library=$root/usr/lib/edge-daemon
packages=$library/packages

# Installs only files whose checksums are in the lock.
pip() { PIP_ROOT_USER_ACTION=ignore python3 -m pip --disable-pip-version-check --quiet "$@"; }

install_packages() {
    local offline=(--no-index --find-links "$wheelhouse")
    # Only the lock decides, not this machine: neither what is installed nor its Python, which pip
    # checks in spite of --python-version.
    pip install --target "$packages" --no-compile --no-deps --only-binary=:all: "${platforms[@]}" \
        --python-version "$python" --ignore-requires-python "${offline[@]}" \
        --require-hashes --requirement "$repository/deploy/locks/$suite.txt"
    cp --recursive "$repository/edge_daemon" "$packages"
    cp --recursive "$repository/models" "$packages/edge_daemon"
    rm --recursive --force "${packages:?}/bin"
    find "$packages" -name __pycache__ -prune -exec rm --recursive {} +
    find "$packages" -type f -exec chmod 644 {} +
    find "$root" -type d -exec chmod 755 {} +
}

# The units of install.sh, with the package's program.
install_units() {
    local units=$root/usr/lib/systemd/system unit
    mkdir --parents "$units"
    for unit in edge-daemon.service edge-daemon@.service; do
        sed 's|/opt/edge-daemon/current/bin/edge-daemon|/usr/lib/edge-daemon/edge-daemon|' \
            "$here/../$unit" > "$units/$unit"
        install -D --mode=644 "$here/../common.conf" "$units/$unit.d/10-common.conf"
        # bookworm's systemd logs a warning for each unknown key.
        if [[ $suite != bookworm ]]; then
            install --mode=644 "$here/../back-off.conf" "$units/$unit.d/20-back-off.conf"
        fi
    done
    install -D --mode=644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/edge-daemon.conf"
}

install_program() {
    install -D --mode=755 "$here/edge-daemon.py" "$library/edge-daemon"
    mkdir --parents "$root/usr/bin"
    sed 's|/opt/edge-daemon/current/bin/edge-daemon|/usr/lib/edge-daemon/edge-daemon|' \
        "$here/../edge-daemon" > "$root/usr/bin/edge-daemon"
    chmod 755 "$root/usr/bin/edge-daemon"
}

install_documents() {
    local documents=$root/usr/share/doc/edge-daemon
    install -D --mode=644 "$here/copyright" "$documents/copyright"
    gzip --best --no-name < "$repository/CHANGELOG.md" > "$documents/changelog.gz"
    chmod 644 "$documents/changelog.gz"
}

write_control() {
    local script
    mkdir "$root/DEBIAN"
    for script in preinst postinst prerm postrm; do
        install --mode=755 "$here/$script" "$root/DEBIAN/$script"
    done
    cat > "$root/DEBIAN/control" << END
Package: edge-daemon
Version: $version
Architecture: $architecture
Maintainer: ${DEBFULLNAME:-edge-daemon developers} <${DEBEMAIL:-root@$(hostname --fqdn)}>
Installed-Size: $(du --summarize --block-size=1K "$root" | cut --fields=1)
Depends: python3 (>= $python), python3 (<< $next_python), python3-systemd, systemd
Recommends: python3-picamera2
Section: misc
Priority: optional
Description: emotions of the faces that a camera sees, over MQTT
 A systemd service for a Raspberry Pi: it finds faces in the image of a
 camera, recognises seven emotions on the device, and publishes only the
 results over MQTT. It brings its Python packages, for the Python of Debian
 $suite.
END
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort --zero-terminated | xargs --null md5sum) \
        > "$root/DEBIAN/md5sums"
}

install_packages
install_program
install_units
install_documents
write_control
file=$folder/edge-daemon_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zgzip -z1 --build "$root" "$file" > /dev/null
printf '%s: ' "$file"
du --human-readable "$file" | cut --fields=1
