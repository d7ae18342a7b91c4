#!/bin/sh
# Installs Debian's redis-server, PostgreSQL, npm and Chromium where they are missing: the tests of what processes and hosts share run against real
# servers, those of the dashboard in a real browser. Of Debian's prometheus only promtool is taken, which checks the alert rules and boards of
# deploy/. About a minute for all of them. Needs root and apt-get; else it says what to do, and those tests are skipped.
set -eu

missing=
command -v redis-server >/dev/null || missing="redis-server"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { command -v initdb >/dev/null && command -v postgres >/dev/null; } || missing="$missing postgresql"
command -v npm >/dev/null || missing="$missing npm"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing="$missing chromium"
promtool=
command -v promtool >/dev/null || promtool=promtool
[ -n "$missing$promtool" ] || exit 0

fail() {
    echo "Some tests need $missing $promtool, and $1; they are skipped. Install it by hand, for example: sudo apt-get install $missing ${promtool:+prometheus}" >&2
    exit 0
}

[ "$(id -u)" -eq 0 ] || fail "only root can install it here"
command -v apt-get >/dev/null || fail "there is no apt-get here"
echo "installing $missing $promtool for the tests"
export DEBIAN_FRONTEND=noninteractive
# The packages would start servers of their own, which nobody asked for.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
apt-get update -qq || fail "the package lists cannot be read"
if [ -n "$promtool" ]; then
    folder=$(mktemp -d)
    (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg -x prometheus_*.deb . && install usr/bin/promtool /usr/local/bin/) ||
        echo "promtool could not be had; what it would check is skipped" >&2
    rm -rf "$folder"
fi
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null || fail "apt-get could not install it"
