# shellcheck shell=bash
# Sourced by ./demo and ./check: what is missing on this machine, and how it comes here.

PATIENCE=8 # seconds without a word before progress is shown

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
exec </dev/null # nothing here asks questions, and CI has no standard input
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
program=$(basename "$0")
scratch=$(mktemp -d)
log=$scratch/log
missing=()

trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
    printf '%s: %s\n' "$program" "$*" >&2
    exit 1
}

say() {
    printf '    %s\n' "$*"
}

# Keeps a tool's output in the log; shows its last line when it has been busy for a while.
narrate() {
    local line last='' status began=$SECONDS shown=$SECONDS
    while true; do
        status=0
        IFS= read -r -t "$PATIENCE" line || status=$?
        printf '%s' "$line" >>"$log"
        if ((status == 0)); then
            printf '\n' >>"$log"
            last=${line:-$last}
        elif ((status <= 128)); then # the end; a time-out is more than 128
            break
        fi
        if ((SECONDS - shown >= PATIENCE)); then
            say "$((SECONDS - began)) s: ${last:0:72}"
            shown=$SECONDS
        fi
    done
}

# step TITLE COMMAND...: one step with its duration; its output is shown if it fails.
step() {
    local title=$1 began=$SECONDS
    shift
    printf '==> %s\n' "$title"
    : >"$log"
    if ! "$@" 2>&1 | narrate; then
        tail -n 60 "$log" | sed 's/^/    | /' >&2
        die "failed: $title"
    fi
    say "$((SECONDS - began)) s"
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

may_be_root() {
    ((EUID == 0)) || { command -v sudo >/dev/null && sudo -v; }
}

# want PACKAGE TEST...: remembers the Debian package as missing when TEST fails.
want() {
    local package=$1
    shift
    "$@" &>/dev/null || missing+=("$package")
}

find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done 2>/dev/null
    return 1
}

# compiles OPTIONS...: a program that includes a header of the C library can be made.
compiles() {
    printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' |
        cc "$@" -x c - -o "$scratch/compiled"
}

want_python() {
    want python3-venv find_python
}

has_library() {
    grep -F "$1" <(ldconfig -p)
}

want_libraries() {
    want libseccomp2 has_library libseccomp.so.2 # fewer system calls for the back end
}

want_compiler() {
    want gcc command -v cc
    want libc6-dev compiles
}

apt_install() {
    # A source that cannot be reached may not be the one that is needed: install decides.
    as_root apt-get update || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
        install --yes --no-install-recommends "$@"
}

can_install() {
    command -v apt-get >/dev/null && may_be_root
}

install_missing() {
    if ((${#missing[@]} > 0)); then
        can_install || die "missing: ${missing[*]}; install them, or run this as root on Debian"
        step "Debian packages: ${missing[*]}" apt_install "${missing[@]}"
        missing=()
    fi
}

# A copied or moved folder, or a new Python, needs a new environment.
venv_works() {
    grep -qF "$PWD/.venv" .venv/bin/activate && .venv/bin/python -c 'import pip'
}

make_venv() {
    "$(find_python)" -m venv --clear .venv
}

# install_project EXTRA: into .venv, if pyproject.toml is not the one installed last.
install_project() {
    local stamp=.venv/installed${1:+-$1}
    if ! venv_works &>/dev/null; then
        find_python >/dev/null || die "no Python 3.11 or newer here; install python3, python3-venv"
        step "virtual environment .venv" make_venv
    fi
    if ! cmp -s pyproject.toml "$stamp"; then
        step "the project, into .venv" .venv/bin/python -m pip install -e ".${1:+[$1]}"
        cp pyproject.toml .venv/installed
        cp pyproject.toml "$stamp"
    fi
}
