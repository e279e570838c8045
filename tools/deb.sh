#!/usr/bin/env bash
# Builds dist/ktaskd_VERSION_ARCH.deb, which carries a private environment with everything
# that the daemon needs: Debian's own grpcio is too old. `make deb` calls this script. As
# root it installs missing packages from Debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian's own interpreter, which runs the environment in the package.
readonly PYTHON=/usr/bin/python3 STAGE=build/deb
readonly NEEDED=(python3 python3-venv python3-dev gcc libc6-dev pkg-config libsystemd-dev)

readonly MAINTAINER="The ktaskd authors <root@localhost>"

say() { printf 'deb: %s\n' "$*"; }
die() { printf 'deb: %s\n' "$*" >&2; exit 1; }

is_there() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

get_packages() {
    local name missing=()
    for name in "${NEEDED[@]}"; do is_there "$name" || missing+=("$name"); done
    [ "${#missing[@]}" = 0 ] && return
    [ "$(id -u)" = 0 ] || die "needs apt-get install ${missing[*]}"
    say "apt-get install ${missing[*]}"
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

write_control() {
    local version=$1 arch=$2 minor next
    minor=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    next=$("$PYTHON" -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
    cat <<CONTROL
Package: ktaskd
Version: $version
Architecture: $arch
Maintainer: $MAINTAINER
Section: admin
Priority: optional
Installed-Size: $(du -sk "$STAGE" | cut -f 1)
Depends: python3 (>= $minor), python3 (<< $next), libc6, libsystemd0, libgcc-s1, libstdc++6, passwd
Recommends: libpcre2-8-0 (>= 10.38)
Suggests: systemd, dbus
Description: parallel work for every program, on CPUs that nobody else wants
 A daemon that runs jobs over memory regions and files for local programs, in
 workers of the lowest priority that are pinned to CPUs and NUMA nodes. It gives
 way to everything else on the machine. With the command ktask and a client
 library for Python in a private environment.
CONTROL
}

# The documents that Debian wants of each package, and compressed pages.
write_documents() {
    local version=$1 doc=$STAGE/usr/share/doc/ktaskd
    install -m 644 deploy/deb.copyright "$doc/copyright"
    gzip -9nc CHANGELOG.md >"$doc/CHANGELOG.md.gz"
    printf 'ktaskd (%s) unstable; urgency=medium\n\n  * %s\n\n -- %s  %s\n' "$version" \
        "CHANGELOG.md.gz in this directory has what changed." "$MAINTAINER" \
        "$(date -R -u -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y CHANGELOG.md)}")" | gzip -9n >"$doc/changelog.gz"
    chmod 644 "$doc"/*
    find "$STAGE/usr/share/man" -type f -exec gzip -9n {} +
}

main() {
    local version arch package
    get_packages
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' ktaskd/__init__.py)
    arch=$(dpkg --print-architecture)
    package=dist/ktaskd_${version}_$arch.deb
    rm -rf "$STAGE"
    mkdir -p "$STAGE/DEBIAN" dist
    # pip may keep a wheel that it built for another interpreter of the same version, with that one's library path.
    env PIP_NO_CACHE_DIR=1 DESTDIR="$PWD/$STAGE" PREFIX=/usr PYTHON="$PYTHON" tools/install.sh install
    write_documents "$version"
    write_control "$version" "$arch" >"$STAGE/DEBIAN/control"
    echo /etc/ktaskd/ktaskd.toml >"$STAGE/DEBIAN/conffiles"
    for name in postinst prerm postrm; do install -m 755 "deploy/deb.$name" "$STAGE/DEBIAN/$name"; done
    # Level 1: a tenth larger than with the default, and built in seconds.
    dpkg-deb --root-owner-group -Zxz -z1 --build "$STAGE" "$package" >/dev/null
    rm -rf "$STAGE"
    say "built $package ($(du -h "$package" | cut -f 1))"
}

main
