#!/usr/bin/env bash
# An oracle behind a real server of models: src/conformance/endpoint.sh PYTHON [FOLDER]
# PYTHON has torch, transformers, fastapi, uvicorn and openai. The built-in model is served by `transformers serve`, and a team is trained
# on riddles whose referee it is: once asking the server itself, once through endpoint.py, where OpenAI's own client checks the requests by
# its types, sends them on, and answers with what it read.
set -euo pipefail

python=$1
root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..
folder=$(readlink -f "${2:-$(mktemp -d)}")
teamtr=${TEAMTR:-$root/teamtr}
port=$((20000 + RANDOM % 20000))
mkdir -p "$folder"
trap '[[ -z $(jobs -p) ]] || kill $(jobs -p)' EXIT

say() { echo "== $*"; }
await() { # address
  local i
  for ((i = 0; i < 600; i++)); do
    ! "$python" -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)" "$1" 2> /dev/null || return 0
    sleep 0.2
  done
  say "nothing at $1"
  return 1
}

cat > "$folder/teacher.yaml" << EOF
task:
  name: generated
  generated: {name: guess_number, size: 1, choices: 5}
  environment: {name: guess_number, turns: 1}
team:
  turns: 2
  agents: [{role: a, policy: p, template: "{prompt} {transcript}", message: "{text} "}]
policies: {p: {model: tiny}}
warm_start: {steps: 100, batch: 32}
train: {stages: 0}
rollout: {prompts: 2, group: 2, validation_fraction: 0, max_new_tokens: 8}
eval: {prompts: 2}
hardware: {threads: 1}
EOF
say "a model to serve"
"$teamtr" train "$folder/teacher.yaml" --out "$folder/teacher" > "$folder/teacher.log" 2>&1
model=$folder/teacher/warm-start
"$python" -m transformers.cli.transformers serve "$model" --host 127.0.0.1 --port "$port" --device cpu > "$folder/server.log" 2>&1 &
"$python" "$root/src/conformance/endpoint.py" "$((port + 1))" "http://127.0.0.1:$port/v1" "$folder/requests.jsonl" > "$folder/client.log" 2>&1 &
await "http://127.0.0.1:$port/health"
await "http://127.0.0.1:$((port + 1))/health"

for i in 1 2 3 4; do
  echo "{\"prompt\": \"A man is $i floors up\", \"answer\": \"He took a lift of $i doors.\"}"
done > "$folder/riddles.jsonl"
for name in server client; do
  address=http://127.0.0.1:$((port + $([[ $name == server ]] && echo 0 || echo 1)))/v1
  cat > "$folder/$name.yaml" << EOF
task:
  name: files
  environment: {name: situation, turns: 2, oracle: "$address", oracle_model: "$model"}
  files: {train: $folder/riddles.jsonl, prompt_column: prompt, answer_column: answer}
team:
  turns: 3
  agents:
    - {role: a, policy: p, template: "{prompt} {transcript}", message: "{text} "}
    - {role: b, policy: q, template: "{prompt} {transcript}", message: "{text} "}
policies: {p: {model: $model}, q: {model: $model}}
train: {stages: 1}
rollout: {prompts: 2, group: 2, validation_fraction: 0, max_new_tokens: 32}
loss: {entropy: 0.01}
optimiser: {steps: 2}
eval: {prompts: 1, transcripts: 1}
certificate: {bound: paper} # which plays no episodes of its own
hardware: {threads: 1}
EOF
  say "trained with a referee at the $name"
  "$teamtr" train "$folder/$name.yaml" --out "$folder/$name" > "$folder/$name.txt" 2>&1 || { cat "$folder/$name.txt"; exit 1; }
  "$python" - "$folder/$name" << 'EOF'
import json, sys
updates = [json.loads(line) for line in open(sys.argv[1] + "/metrics.jsonl")]
heard = [m["observation"] for line in open(sys.argv[1] + "/transcripts.jsonl") for m in json.loads(line)["messages"] if m["observation"] is not None]
assert len(updates) == 2 and heard, (updates, heard)
print(f"   {len(updates)} updates; the referee said, for example, {heard[0]!r}")
EOF
done
"$python" - "$folder/requests.jsonl" << 'EOF'
import json, sys
requests = [json.loads(line) for line in open(sys.argv[1])]
assert requests and all(r["temperature"] == 0.7 and r["top_p"] == 0.7 and r["messages"][0]["role"] == "system" for r in requests)
assert len({r["seed"] for r in requests}) > 1
print(f"   {len(requests)} requests, all of them as OpenAI's client types them")
EOF
say "done: $folder"
