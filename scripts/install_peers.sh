#!/bin/sh
# Installs the gateways that `make bench` compares with: nginx from Debian, the others by hashed locks into bench/venvs and bench/node. What cannot be
# installed is named and left out. About two minutes and 1 GB the first time; nothing where all is there.   usage: install_peers.sh [PYTHON]
set -u
cd "$(dirname "$0")/.." || exit 1
python=${1:-python3}

left_out() { echo "bench: $1 cannot be installed here and is left out" >&2; }

if ! command -v nginx >/dev/null; then
    echo "installing nginx"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        left_out "nginx (it needs root and apt-get)"
    else
        # The package would start a server of its own, which nobody asked for.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
            trap 'rm -f "$policy"' EXIT
        fi
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light; } >/dev/null 2>&1 || left_out nginx
    fi
fi

for peer in litellm routers smg; do
    lock=requirements-bench-$peer.lock
    venv=bench/venvs/$peer
    cmp -s "$lock" "$venv/.installed" && continue
    echo "installing what $lock names into $venv"
    rm -rf "$venv"
    # Compiled, so that no peer pays for that when it starts.
    if "$python" -m venv "$venv" && "$venv/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --no-compile -r "$lock"; then
        "$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" >/dev/null || true
        cp "$lock" "$venv/.installed"
    else
        rm -rf "$venv"
        left_out "$peer"
    fi
done

node=bench/node
if ! cmp -s "$node/package-lock.json" "$node/node_modules/.installed"; then
    echo "installing Portkey into $node"
    if command -v npm >/dev/null && (cd "$node" && npm ci --omit=dev >/dev/null); then
        cp "$node/package-lock.json" "$node/node_modules/.installed"
    else
        left_out "Portkey (it needs npm)"
    fi
fi
exit 0
