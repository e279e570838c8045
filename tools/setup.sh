#!/usr/bin/env bash
# Makes .venv with everything that the project needs. Run it as often as you like: it
# does nothing while pyproject.toml, this script and the tools that it found are
# unchanged. Works as any user; as root it may install Debian packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly STAMP=$VENV/setup.stamp

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "apt-get install $*"
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# A name may be found and yet not run: shims of version managers do that.
choose_python() {
    local candidate candidates=(python3.13 python3.12 python3.11 python3)
    if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or newer, found none as ${candidates[*]} (apt-get install python3 python3-venv)"
}

# Two words about an interpreter: its version, and whether C code can be built for it.
describe_python() {
    "$1" -c '
import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
print("%d.%d" % sys.version_info[:2], "headers" if os.path.exists(header) else "none")'
}

# Debian packages that the extra "systemd" still needs; empty = it can be built.
missing_for_systemd() {
    local version=$1 headers=$2 missing=()
    command -v gcc >/dev/null || missing+=(gcc)
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    { pkg-config --exists libsystemd || [ -e /usr/include/systemd/sd-daemon.h ]; } 2>/dev/null \
        || missing+=(libsystemd-dev)
    [ "$headers" = headers ] || missing+=("python$version-dev")
    printf '%s' "${missing[*]}"
}

# A hash of everything that the environment depends on; its path too, which its scripts contain.
fingerprint() {
    local about
    about=$(describe_python "$VENV/bin/python" 2>/dev/null) || return 0
    # shellcheck disable=SC2086  # two words
    { cat pyproject.toml tools/setup.sh; printf '%s\n' "$PWD" "$about" "$(missing_for_systemd $about)"; } \
        | sha256sum
}

up_to_date() {
    local now
    [ -e "$STAMP" ] || return 1
    now=$(fingerprint)
    [ -n "$now" ] && [ "$now" = "$(cat "$STAMP")" ]
}

has_ensurepip() { "$1" -c 'import ensurepip; ensurepip.version()' >/dev/null 2>&1; }

make_environment() {
    local python version
    python=$(choose_python)
    version=$(describe_python "$python"); version=${version% *}
    rm -rf "$VENV"
    if ! has_ensurepip "$python" && can_apt; then
        apt_install "python$version-venv" || true
    fi
    if has_ensurepip "$python"; then
        "$python" -m venv "$VENV"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        # Debian without python3-venv: another pip can fill the environment.
        "$python" -m venv --without-pip "$VENV"
        "$python" -m pip --quiet --disable-pip-version-check --python "$VENV/bin/python" install pip
    else
        die "$python has neither ensurepip nor pip: apt-get install python$version-venv"
    fi
    say "made $VENV with $python ($version)"
}

still_missing() {
    local about
    about=$(describe_python "$VENV/bin/python")
    # shellcheck disable=SC2086  # two words
    missing_for_systemd $about
}

# Editable installs are found by an import hook, which type checkers do not follow.
name_client() {
    "$VENV/bin/python" -c '
import pathlib, sysconfig
path = pathlib.Path(sysconfig.get_path("purelib"), "ktaskd-client.pth")
path.write_text("%s\n" % pathlib.Path("client").absolute())'
}

install_packages() {
    # Otherwise Debian's pip warns about packages that have no pyproject.toml.
    local -x PIP_USE_PEP517=1
    local missing pip=("$VENV/bin/python" -m pip --quiet --disable-pip-version-check install --no-input)
    missing=$(still_missing)
    if [ -n "$missing" ] && can_apt; then
        # shellcheck disable=SC2086  # a list of packages
        apt_install $missing || true
        missing=$(still_missing)
    fi
    # The tests of the bus run a private one.
    if ! command -v dbus-daemon >/dev/null && can_apt; then
        apt_install dbus-daemon || say "no dbus-daemon: the tests of the bus are left out"
    fi
    # Tests use it to read the output of file.compress.
    if ! command -v zstd >/dev/null && can_apt; then
        apt_install zstd || say "no zstd: tests of compressed files fail"
    fi
    # The tests of the units only analyze them with it; no part of systemd is started.
    if ! command -v systemd-analyze >/dev/null && can_apt; then
        apt_install systemd || say "no systemd-analyze: some tests of the units are left out"
    fi
    say "installing packages into $VENV"
    if [ -z "$missing" ] && "${pip[@]}" --editable '.[dev,dbus,functions,metrics,systemd]' >"$VENV/systemd.log" 2>&1; then
        rm -f "$VENV/systemd.log"
        return
    fi
    "${pip[@]}" --editable '.[dev,dbus,functions,metrics]'
    if [ -n "$missing" ]; then
        say "continuing without the extra \"systemd\", which needs: apt-get install $missing"
    else
        say "continuing without the extra \"systemd\", which does not build here; see $VENV/systemd.log"
    fi
}

main() {
    # The lock, which ends with this process, keeps two runs from filling the environment at once.
    exec 9<pyproject.toml
    if command -v flock >/dev/null; then flock 9; fi
    if up_to_date; then return; fi
    rm -f "$STAMP"
    if ! new_enough "$VENV/bin/python" || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        make_environment
    fi
    install_packages
    name_client
    # Written last, so that a failed run does not look like a complete one.
    fingerprint >"$STAMP"
    say "done"
}

main
