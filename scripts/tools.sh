# shellcheck shell=sh
# What the scripts for releases share: their tools, of locked versions, in .venv-release.

# tool PROGRAM ARGUMENT...: run one of them.
tool() {
    program=$1
    shift
    have_tools
    echo "+ $program $*" >&2
    ".venv-release/bin/$program" "$@"
}

# The environment is made if it is not there, and follows the lock.
have_tools() {
    cmp -s scripts/tools.txt .venv-release/tools.txt && return
    [ -x .venv-release/bin/python ] || "${PYTHON:-python3}" -m venv .venv-release
    .venv-release/bin/pip install --quiet --require-hashes --requirement scripts/tools.txt
    cp scripts/tools.txt .venv-release
}
