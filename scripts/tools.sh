# shellcheck shell=sh
# Shared by the release scripts: their tools, with locked versions, in .venv-release.

# tool PROGRAM ARGUMENT...: run a tool.
tool() {
    program=$1
    shift
    have_tools
    echo "+ $program $*" >&2
    ".venv-release/bin/$program" "$@"
}

# Create the environment, or update it when the lock changes.
have_tools() {
    cmp -s scripts/tools.txt .venv-release/tools.txt && return
    [ -x .venv-release/bin/python ] || "${PYTHON:-python3}" -m venv .venv-release
    .venv-release/bin/pip install --quiet --require-hashes --requirement scripts/tools.txt
    cp scripts/tools.txt .venv-release
}
