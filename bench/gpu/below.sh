#!/usr/bin/env bash
# Batch work below live traffic under several settings, each with an engine of its own: some 130 s a setting, and 70 s more for one that is
# measured alone too.
#   [PAUSE=0.5] bench/gpu/below.sh OUT WHEELS MODEL VLLM_SITE SETTING ...
# SETTING: one of those below; with "+alone" after it live and batch traffic alone are measured first. Appends lines of JSON to OUT.
set -euo pipefail
here=$(dirname "$0")
out=$1 wheels=$2 model=$3 site=$4; shift 4
home=/tmp/turnout-gpu

stop() {
    [ -f "$home/pid" ] || return 0
    kill "$(cat "$home/pid")" 2> /dev/null || true
    while grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$(cat "$home/pid")/status"; do sleep 0.5; done
    rm -f "$home/pid"
}

for setting in "$@"; do
    batch="" args=()
    case ${setting%+alone} in
        as-it-is) ;;
        small-steps) batch="prompt_tokens: 1024" args=(--max-num-batched-tokens 1024) ;;
        no-async) args=(--no-async-scheduling) ;;
        *) echo "no setting $setting" >&2; exit 2 ;;
    esac
    stop
    BATCH=$batch "$here/setup.sh" "$wheels" "$model" "$site" ${args[@]+"${args[@]}"}
    only=(--only both)
    [ "$setting" = "${setting%+alone}" ] || only=()
    "$home/env/bin/python" "$here/protect.py" "$out" below --live 8 --batch 248 --pause "${PAUSE:-0}" --label "${setting%+alone}" ${only[@]+"${only[@]}"}
done
stop
