#!/bin/sh
# Installs, from Debian's packages, the servers that tests/programs runs programs against.
#
# Where that is not possible (another system, no root, no mirror) it says so and succeeds: the tests
# that need a missing server are skipped with the reason.
set -u

server() { # server PACKAGE WHERE...: names the package if none of its files is there
    package=$1
    shift
    for file in "$@"; do
        [ -x "$file" ] && return
    done
    missing="${missing:-} $package"
}

server postgresql /usr/lib/postgresql/*/bin/postgres
server mariadb-server-core /usr/sbin/mariadbd
server mariadb-client-core /usr/bin/my_print_defaults # which mariadb-install-db calls
server redis-server /usr/bin/redis-server
[ -z "${missing:-}" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "not installed (needs root and apt-get):$missing; their tests will be skipped"
    exit 0
fi

printf 'installing%s: reading the lists ... ' "$missing"
export DEBIAN_FRONTEND=noninteractive
# In run level 1 a package does not start what it installs.
export RUNLEVEL=1
log=$(mktemp)
if apt-get update -qq >"$log" 2>&1 && printf 'the packages ... ' &&
    apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1; then
    echo "done"
else
    echo "failed; their tests will be skipped"
    tail -5 "$log"
fi
rm -f "$log"
