# shellcheck shell=bash
# Options of the scripts that prepare packages for another machine: its suite and architecture, and
# the folder of the packages.

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

suite=trixie machine=aarch64 folder=''
options=(--suite --machine) # with a value, each into the variable of its name

# Into the variables of the options and `folder`. `python` is the suite's version, and `platforms`
# are pip's options for its C library.
read_options() {
    local glibc minor
    while (($#)); do
        if [[ " ${options[*]} " == *" $1 "* ]]; then
            (($# > 1)) || fail "$1: option requires a value; see --help"
            declare -g "${1#--}=$2"
            shift
        else
            case $1 in
                -h | --help)
                    usage
                    exit
                    ;;
                -*) fail "$1: unknown option; see --help" ;;
                *) folder=$1 ;;
            esac
        fi
        shift
    done
    [[ -n $folder ]] || fail "FOLDER: missing argument; see --help"
    [[ $machine == aarch64 || $machine == x86_64 ]] \
        || fail "--machine: invalid value (got $machine); use aarch64 or x86_64"
    case $suite in
        bookworm) python=3.11 glibc=36 ;;
        trixie) python=3.13 glibc=41 ;;
        *) fail "--suite: invalid value (got $suite); use bookworm or trixie" ;;
    esac
    platforms=(--platform "manylinux2014_$machine")
    for ((minor = 17; minor <= glibc; minor++)); do
        platforms+=(--platform "manylinux_2_${minor}_$machine")
    done
    mkdir --parents "$folder"
    folder=$(realpath "$folder")
}
