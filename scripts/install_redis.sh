#!/bin/sh
# Installs Debian's redis-server where it is missing: the tests of what processes share run against a real one.
# Needs root and apt-get; else it says what to do, and those tests are skipped.
set -eu

command -v redis-server >/dev/null && exit 0

fail() {
    echo "Some tests need redis-server, and $1; they are skipped. Install it by hand, for example: sudo apt-get install redis-server" >&2
    exit 0
}

[ "$(id -u)" -eq 0 ] || fail "only root can install it here"
command -v apt-get >/dev/null || fail "there is no apt-get here"
echo "installing redis-server for the tests"
export DEBIAN_FRONTEND=noninteractive
# The package would start a server of its own, which nobody asked for.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq || fail "the package lists cannot be read"
apt-get install -y -qq --no-install-recommends redis-server >/dev/null || fail "apt-get could not install it"
