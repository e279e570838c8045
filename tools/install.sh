#!/usr/bin/env bash
# Installs or removes the daemon, its client and its units; `make install` and
# `make uninstall` call it. From the environment:
#   PREFIX   where programs and units go (default /usr/local)
#   DESTDIR  directory in place of "/" while a package is made (default none)
#   PYTHON   interpreter of the private environment (default the first python3)
#   EXTRAS   extras to install with it (default systemd,dbus,functions,metrics,top)
# The environment is $PREFIX/lib/ktaskd; nothing else of Python is touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PREFIX=${PREFIX:-/usr/local} DESTDIR=${DESTDIR:-} PYTHON=${PYTHON:-python3}
readonly EXTRAS=${EXTRAS:-systemd,dbus,functions,metrics,top}
readonly HOME_DIR=$PREFIX/lib/ktaskd CONFIG=/etc/ktaskd/ktaskd.toml
readonly FUNCTIONS=/etc/ktaskd/functions.d
readonly UNITS=(ktaskd.socket ktaskd.service ktaskd-helpers.socket ktaskd-helpers.service ktaskd.slice)
# The destination of each file of deploy/, below PREFIX.
readonly -A PLACES=(
    [ktaskd.socket]=lib/systemd/system/ktaskd.socket
    [ktaskd.service]=lib/systemd/system/ktaskd.service
    [ktaskd-helpers.socket]=lib/systemd/system/ktaskd-helpers.socket
    [ktaskd-helpers.service]=lib/systemd/system/ktaskd-helpers.service
    [ktaskd.slice]=lib/systemd/system/ktaskd.slice
    [ktaskd-user.service]=lib/systemd/user/ktaskd.service
    [ktaskd.sysusers]=lib/sysusers.d/ktaskd.conf
    [ktaskd.tmpfiles]=lib/tmpfiles.d/ktaskd.conf
    [ktask_function.h]=include/ktask_function.h
    [README.md]=share/doc/ktaskd/README.md
)

# The directory that zsh reads. Debian's packages have a directory of their own.
case $PREFIX in /usr) ZSH=share/zsh/vendor-completions ;; *) ZSH=share/zsh/site-functions ;; esac
readonly ZSH

# Pairs of a file below deploy/ and its destination below PREFIX: man pages and completions.
shell_files() {
    local path
    for path in deploy/man/*.[158]; do
        printf '%s %s\n' "${path#deploy/}" "share/man/man${path##*.}/${path##*/}"
    done
    printf '%s\n' "completions/ktask share/bash-completion/completions/ktask" \
        "completions/ktaskd share/bash-completion/completions/ktaskd" \
        "completions/_ktask $ZSH/_ktask" \
        "completions/ktask.fish share/fish/vendor_completions.d/ktask.fish"
}

say() { printf '%s: %s\n' "$ACTION" "$*"; }
die() { printf '%s: %s\n' "$ACTION" "$*" >&2; exit 1; }

on_this_machine() { [ -z "$DESTDIR" ]; }
with_systemd() { on_this_machine && [ -d /run/systemd/system ]; }

check() {
    case $PREFIX in /*) ;; *) die "PREFIX: got \"$PREFIX\", wanted an absolute path" ;; esac
    case $DESTDIR in ""|/*) ;; *) die "DESTDIR: got \"$DESTDIR\", wanted \"\" or an absolute path" ;; esac
}

# Have the scripts of the environment name their interpreter by its final path.
fix_scripts() {
    local script
    for script in "$DESTDIR$HOME_DIR"/bin/*; do
        if [ -f "$script" ] && [ ! -L "$script" ] && head -c 2 "$script" | grep -q '#!'; then
            sed -i "1s|.*|#!$HOME_DIR/bin/python -I|" "$script"
        fi
    done
}

install_environment() {
    local home=$DESTDIR$HOME_DIR wanted=.
    [ -z "$EXTRAS" ] || wanted=".[$EXTRAS]"
    rm -rf "$home"
    mkdir -p "$(dirname "$home")"
    "$PYTHON" -m venv --without-pip --symlinks "$home"
    # Not the shim of a version manager, and not the link of another environment.
    ln -sf "$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')" "$home/bin/python3"
    ln -sf python3 "$home/bin/python"
    say "installing $wanted into $HOME_DIR"
    .venv/bin/python -m pip --python "$home/bin/python" --quiet --disable-pip-version-check \
        install --no-input --no-compile --no-warn-script-location "$wanted"
    # They go below PREFIX, where man and the shells look.
    rm -rf "$home"/share/{man,bash-completion,zsh,fish}
    # Dependencies bring commands of their own, which nobody should find here.
    find "$home/bin" -mindepth 1 ! -name 'python*' ! -name ktask ! -name ktaskd -delete
    fix_scripts
    "$home/bin/python" -I -m compileall -q -j 0 -s "$DESTDIR" -p / "$home/lib" >/dev/null || true
    # Every user who runs the daemon must be able to read it, regardless of the umask.
    chmod -R u=rwX,go=rX "$home"
}

install_files() {
    local name source target
    mkdir -p "$DESTDIR$PREFIX/bin" "$DESTDIR$FUNCTIONS"
    ln -sfn "../lib/ktaskd/bin/ktaskd" "$DESTDIR$PREFIX/bin/ktaskd"
    ln -sfn "../lib/ktaskd/bin/ktask" "$DESTDIR$PREFIX/bin/ktask"
    for name in "${!PLACES[@]}"; do
        mkdir -p "$(dirname "$DESTDIR$PREFIX/${PLACES[$name]}")"
        sed "s|/usr/bin/ktaskd|$PREFIX/bin/ktaskd|; s|/usr/share/doc|$PREFIX/share/doc|" "deploy/$name" \
            >"$DESTDIR$PREFIX/${PLACES[$name]}"
        chmod 644 "$DESTDIR$PREFIX/${PLACES[$name]}"
    done
    while read -r source target; do
        install -D -m 644 "deploy/$source" "$DESTDIR$PREFIX/$target"
    done < <(shell_files)
    if [ -e "$DESTDIR$CONFIG" ]; then
        say "$CONFIG exists already and was left unchanged"
    else
        install -m 644 deploy/ktaskd.toml "$DESTDIR$CONFIG"
    fi
}

tell_systemd() {
    systemd-sysusers "$PREFIX/lib/sysusers.d/ktaskd.conf"
    systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/ktaskd.conf"
    systemctl daemon-reload
    systemctl enable --now ktaskd.socket ktaskd-helpers.socket
    systemctl try-restart ktaskd-helpers.service ktaskd.service
    say "the sockets listen; \`adduser USER ktask\` lets a user in"
}

install_all() {
    check
    install_environment
    install_files
    if with_systemd; then
        tell_systemd
    elif on_this_machine; then
        say "systemd does not run here: start $PREFIX/bin/ktaskd yourself"
    fi
}

uninstall_all() {
    local name target
    check
    if with_systemd; then
        systemctl disable --now "${UNITS[@]:0:4}" 2>/dev/null || true
        systemctl stop ktaskd.slice 2>/dev/null || true
    fi
    rm -rf "$DESTDIR$HOME_DIR" "$DESTDIR$PREFIX/share/doc/ktaskd"
    rm -f "$DESTDIR$PREFIX/bin/ktaskd" "$DESTDIR$PREFIX/bin/ktask"
    for name in "${!PLACES[@]}"; do rm -f "$DESTDIR$PREFIX/${PLACES[$name]}"; done
    while read -r _ target; do rm -f "$DESTDIR$PREFIX/$target"; done < <(shell_files)
    if cmp -s deploy/ktaskd.toml "$DESTDIR$CONFIG"; then
        rm -f "$DESTDIR$CONFIG"
    elif [ -e "$DESTDIR$CONFIG" ]; then
        say "$CONFIG has been changed and was kept"
    fi
    rmdir "$DESTDIR$FUNCTIONS" "$DESTDIR$(dirname "$CONFIG")" 2>/dev/null || true
    if with_systemd; then
        systemctl daemon-reload
        rm -rf /run/ktaskd
    fi
    if on_this_machine && getent passwd ktaskd >/dev/null; then
        say "the user ktaskd and the group ktask were kept; to remove them: userdel ktaskd; groupdel ktask"
    fi
}

readonly ACTION=${1:-}
case $ACTION in
    install) install_all ;;
    uninstall) uninstall_all ;;
    *) echo "usage: tools/install.sh install|uninstall" >&2; exit 2 ;;
esac
