#!/usr/bin/env bash
# Makes a GPU machine without a package registry ready for bench/gpu/measure.py: the gateway in an environment of its own, the checkpoint's
# folder, the configuration, and a running gateway whose engine is vLLM.
#   [SLOTS= QUEUE= WAIT= TTFT= SLEEP= BATCH= CONTEXT=] bench/gpu/setup.sh WHEELS MODEL VLLM_SITE [ENGINE_ARG ...]
# WHEELS: what bench/gpu/pack.sh made. MODEL: the folder of a checkpoint. VLLM_SITE: a folder that PYTHONPATH finds vLLM in.
# BATCH: the engine's `batch` section, such as "prompt_tokens: 1024".
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=$1 model=$2 site=$3; shift 3
home=/tmp/turnout-gpu
mkdir -p "$home"
if [ ! -x "$home/env/bin/turnout" ]; then
    python3 -m venv "$home/env"
    "$home/env/bin/pip" -q install --no-index "$wheels"/*.whl
    "$home/env/bin/pip" -q install --no-index --no-deps --no-build-isolation --editable .
    printf '#!/bin/sh\nPYTHONPATH=%s exec %s "$@"\n' "$site" "$(command -v python3)" > "$home/vllm-python"
    chmod +x "$home/vllm-python"
fi
args=$(printf '"%s", ' --load-format dummy "$@")
batch=${BATCH:+"batch: {$BATCH}, "}
cat > "$home/turnout.yaml" <<Y
state: {database: "sqlite:///$home/turnout.db"}
engines:
  llm:
    {kind: vllm, model: $model, python: $home/vllm-python, slots: ${SLOTS:-256}, context: ${CONTEXT:-4096}, max_queue: ${QUEUE:-1024}, max_wait_s: ${WAIT:-300},
     gpu_memory_utilization: 0.85, ${TTFT:+ttft_ms: $TTFT, }${SLEEP:+sleep_when_idle: $SLEEP, }${batch}args: [${args%, }]}
models: {llm: {targets: [{engine: llm}]}}
teams:
  live: {keys: [sk-live-bench-gpu]}
  batch: {keys: [sk-batch-bench-gpu], priority: batch}
Y
export HF_HUB_OFFLINE=1 VLLM_USE_FLASHINFER_SAMPLER=0
cd "$home"
setsid "$home/env/bin/turnout" serve --config turnout.yaml --port 8080 > "$home/gateway.log" 2>&1 < /dev/null &
echo $! > "$home/pid"
began=$(date +%s)
until curl -s http://127.0.0.1:8080/health/ready | grep -q '"llm":{"state":"ready"'; do
    kill -0 "$(cat "$home/pid")" || { tail -40 "$home/gateway.log"; exit 1; }
    ! curl -s http://127.0.0.1:8080/health/ready | grep -q '"state":"failed"' || { tail -c 3000 "$home/gateway.log"; exit 1; }
    [ $(($(date +%s) - began)) -lt 500 ] || { tail -60 "$home/gateway.log"; exit 1; }
    sleep 1
done
echo "ready after $(($(date +%s) - began)) s"
