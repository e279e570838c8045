#!/usr/bin/env bash
# Builds the source distribution and the wheel into dist/; `make dist` calls this script. With
# the argument "check", the wheel is then installed into an empty environment, which takes its
# dependencies from PyPI, and a job is run with a daemon of that environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PYTHON=$PWD/.venv/bin/python PLACE=build/dist-check

say() { printf 'dist: %s\n' "$*"; }
die() { printf 'dist: %s\n' "$*" >&2; exit 1; }

build() {
    # setuptools would take over files that an earlier build left there.
    rm -rf build/lib build/bdist.* dist/ktaskd-*.tar.gz dist/ktaskd-*.whl
    # The wheel is built from the source distribution, so that this has all that a build needs.
    "$PYTHON" -m build --no-isolation --outdir dist . >build/dist.log 2>&1 || { cat build/dist.log >&2; die "the build failed"; }
    "$PYTHON" -m twine check --strict dist/ktaskd-*.tar.gz dist/ktaskd-*.whl
}

# Names in the source distribution that do not belong there, and files that must be there.
check_names() {
    local name names
    names=$(tar tzf dist/ktaskd-*.tar.gz | cut -d / -f 2-)
    if grep -E '(^tests/|^tools/|__pycache__|\.pyc$|\.so$|~$)' <<<"$names"; then
        die "the source distribution has files that do not belong there"
    fi
    for name in $(git ls-files ktaskd client deploy proto 2>/dev/null) LICENSE README.md CHANGELOG.md; do
        grep -qxF "$name" <<<"$names" || die "the source distribution lacks $name"
    done
}

# Runs the wheel in a directory without the sources, as a user who has no other daemon.
run_wheel() {
    local bin=$PWD/$PLACE/bin wheel
    wheel=$(echo "$PWD"/dist/ktaskd-*.whl)
    rm -rf "$PLACE"
    "$PYTHON" -m venv "$PLACE"
    "$bin/python" -m pip --quiet --disable-pip-version-check install --no-input "$wheel"
    "$bin/python" -I -m pip --disable-pip-version-check check
    home=$(mktemp -d)
    trap clean_up EXIT
    cd "$home"
    export XDG_RUNTIME_DIR=$home
    unset KTASKD_SOCKET PYTHONPATH
    "$bin/ktask" --version
    "$bin/ktask" --help >help.txt
    grep -q '^usage: ktask' help.txt || die "ktask --help prints no usage"
    printf 123456789 >nine
    [ "$("$bin/ktask" run file.crc32 data=nine 2>&1 | grep crc32)" = "crc32: 3421780262" ] \
        || die "the checksum of a job is wrong"
    daemon=$(pgrep -f -- "-m ktaskd --runtime-dir $home/ktaskd") || die "the job had no daemon of its own"
    say "the wheel works in an empty environment"
}

daemon=
clean_up() {
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then tail --pid="$daemon" -f /dev/null; fi
    rm -rf "$home"
}

mkdir -p build dist
build
check_names
[ "${1:-}" != check ] || run_wheel
