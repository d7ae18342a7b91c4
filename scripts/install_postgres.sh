#!/bin/sh
# Installs Debian's PostgreSQL where it is missing: the tests of a ledger that hosts share run against a real one.
# Needs root and apt-get; else it says what to do, and those tests are skipped.
set -eu

ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && exit 0
command -v initdb >/dev/null && command -v postgres >/dev/null && exit 0

fail() {
    echo "Some tests need PostgreSQL, and $1; they are skipped. Install it by hand, for example: sudo apt-get install postgresql" >&2
    exit 0
}

[ "$(id -u)" -eq 0 ] || fail "only root can install it here"
command -v apt-get >/dev/null || fail "there is no apt-get here"
echo "installing postgresql for the tests"
export DEBIAN_FRONTEND=noninteractive
# The package would start a server of its own, which nobody asked for.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
apt-get update -qq || fail "the package lists cannot be read"
apt-get install -y -qq --no-install-recommends postgresql >/dev/null || fail "apt-get could not install it"
