# shellcheck shell=bash
# The command line and the environment: what is to be done, and the answers that it takes.

usage() {
    cat << 'END'
Usage: sudo deploy/install.sh [ACTION] [ANSWER]...

Installs edge-daemon as a service and starts it, on Raspberry Pi OS or Debian. Where it is installed
already, it is brought up to this version; if that does not become healthy, the old one comes back.

Actions
  --upgrade       the same, but only where edge-daemon is installed
  --uninstall     remove the program; settings and what it keeps stay
  --purge         remove those, too
  --dry-run       with any of these: only say what would be done
  --help          this text

Answers (or variables), for the settings of a first installation
  --source SPEC          INSTALL_SOURCE       picamera (the default), /dev/video0, rtsp://…
  --broker HOST[:PORT]   INSTALL_BROKER       the MQTT broker; localhost, unless named
  --credentials FILE     INSTALL_CREDENTIALS  its user name, and in a second line the password
  --device-id NAME       INSTALL_DEVICE_ID    the device's name in topics; else the host's
  --set KEY=VALUE                             any other setting, such as capture.fps=10

How
  --wheelhouse FOLDER    INSTALL_WHEELHOUSE   packages from make-wheelhouse.sh: needs no network
  --timeout SECONDS      INSTALL_TIMEOUT      for the service to become healthy; 120
END
}

read_answers() {
    action=install dry_run=0
    source_spec=${INSTALL_SOURCE:-} broker=${INSTALL_BROKER:-} device_id=${INSTALL_DEVICE_ID:-}
    credentials=${INSTALL_CREDENTIALS:-} wheelhouse=${INSTALL_WHEELHOUSE:-}
    timeout=${INSTALL_TIMEOUT:-120} more_settings=()
    while (($#)); do
        case $1 in
            --upgrade | --uninstall | --purge) action=${1#--} ;;
            --dry-run) dry_run=1 ;;
            --*=*)
                set -- "${1%%=*}" "${1#*=}" "${@:2}"
                continue
                ;;
            --source | --broker | --credentials | --device-id | --set | --wheelhouse | --timeout)
                (($# > 1)) || fail "$1: what belongs behind it is missing; see --help"
                take_answer "$1" "$2"
                shift
                ;;
            -h | --help)
                usage
                exit
                ;;
            *) fail "$1: no such option; see --help" ;;
        esac
        shift
    done
    check_answers
}

take_answer() {
    case $1 in
        --source) source_spec=$2 ;;
        --broker) broker=$2 ;;
        --credentials) credentials=$2 ;;
        --device-id) device_id=$2 ;;
        --set) more_settings+=(--set "$2") ;;
        --wheelhouse) wheelhouse=$2 ;;
        --timeout) timeout=$2 ;;
    esac
}

check_answers() {
    [[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout $timeout: must be a whole number of seconds"
    [[ -z $wheelhouse || -d $wheelhouse ]] || fail "--wheelhouse $wheelhouse: no such folder"
    broker_host=$broker broker_port=
    # An IPv6 address has colons of its own: with a port it stands in brackets.
    if [[ $broker =~ ^\[(.+)\](:([0-9]+))?$ || $broker =~ ^([^:]+)(:([0-9]+))$ ]]; then
        broker_host=${BASH_REMATCH[1]} broker_port=${BASH_REMATCH[3]}
    fi
    username='' password=''
    if [[ -n $credentials ]]; then read_credentials; fi
}

read_credentials() {
    local lines=()
    [[ -f $credentials && -r $credentials ]] || fail "--credentials $credentials: cannot be read"
    mapfile -t lines < "$credentials"
    ((${#lines[@]} >= 2)) || fail "--credentials $credentials: must have two lines: user name, password"
    username=${lines[0]} password=${lines[1]}
}
