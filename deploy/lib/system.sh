# shellcheck shell=bash
# The machine: requirements, system packages, and the service's user.

user=edge-daemon

check_rights() {
    ((EUID == 0 || dry_run)) || fail "requires root; run: sudo $0"
    # A purge of one would delete the settings and the state of the other.
    if is_installed edge-daemon; then
        fail "edge-daemon is installed as a Debian package; run: apt remove edge-daemon"
    fi
}

check_machine() {
    [[ -d /run/systemd/system ]] || fail "systemd is not running; the service requires it"
    [[ -e /etc/debian_version ]] || fail "unsupported system; use Debian or Raspberry Pi OS"
    # shellcheck source=/dev/null
    machine="$(. /etc/os-release && echo "$VERSION_CODENAME") $(dpkg --print-architecture)"
    if [[ $machine == *armhf && $(uname -m) != armv* ]]; then
        fail "a 32-bit system on a 64-bit kernel: pip would install 64-bit packages; set \
arm_64bit=0 in /boot/firmware/config.txt and reboot, or use the 64-bit system"
    fi
    case $machine in
        'bookworm armhf' | bookworm*64 | trixie*64) ;;
        *armhf) fail "unsupported system (got $machine): no TFLite runtime; use the 64-bit system" ;;
        *) fail "unsupported system (got $machine); use Debian or Raspberry Pi OS, bookworm or trixie" ;;
    esac
}

install_packages() {
    local missing=() package
    if [[ -z $wheelhouse ]] && ! compgen -G '/var/lib/apt/lists/*_Packages*' > /dev/null; then
        change "update the package lists" update_lists
    fi
    for package in python3-venv python3-systemd ca-certificates; do
        is_installed "$package" || missing+=("$package")
    done
    for package in $(packages_for_cameras); do
        is_installed "$package" || ! is_in_archive "$package" || missing+=("$package")
    done
    if ((${#missing[@]})); then
        change "install the packages ${missing[*]}" add_packages "${missing[@]}"
    fi
}

packages_for_cameras() {
    echo python3-picamera2 # in Raspberry Pi OS only
    # On 32-bit, OpenCV comes from piwheels.org, linked to libraries that this package brings.
    if [[ $machine == *armhf ]]; then echo python3-opencv; fi
}

is_installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2> /dev/null) == installed ]]
}

# Not `show`, which also accepts a name that only another package's dependencies mention.
is_in_archive() { [[ -n $(apt-cache madison "$1" 2> /dev/null) ]]; }

update_lists() { quietly "cannot update the package lists" apt update; }

add_packages() {
    update_lists
    quietly "cannot install packages" apt install --yes --no-install-recommends "$@"
}

# A fresh system may hold the lock for its own upgrades: hence the time-out.
apt() { DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --option=DPkg::Lock::Timeout=300 "$@"; }

make_user() {
    if ! getent passwd "$user" > /dev/null; then
        change "create the user $user" useradd --system --user-group --groups video \
            --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
    fi
}
