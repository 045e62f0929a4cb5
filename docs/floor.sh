#!/usr/bin/env bash
# Measures what rounding makes of a trust region, on the CPU: docs/data/floor.csv, the KL of a step of nothing in every number format,
# and docs/data/deep.csv, the same run of 28 layers in bf16, f16 and f32 for three seeds; and their tables in docs/method.md. Half an
# hour on two cores: 16 bits are slow on a CPU. RUNS names the folder of the runs; those that are finished are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs/floor}
mkdir -p "$runs" docs/data

jmh/run.sh org.teamtr.jmh.FloorTable docs/data/floor.csv docs/method.md "$runs/models" docs/kernels.md docs/metrics.md docs/results.md

# As deep as Qwen3-0.6B: 28 layers of width 32, a vocabulary of eight. Random weights have small logits, of a standard deviation of
# 0.02 sqrt(32); the temperature makes it 2.8, as a trained checkpoint's are. Right is a message whose last number is 1, as some are by chance.
model=$runs/model temperature=0.04 seeds=${SEEDS:-1 2 3} formats=()
mkdir -p "$model"
cat > "$model/config.json" <<'JSON'
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 8, "hidden_size": 32, "intermediate_size": 80,
 "num_hidden_layers": 28, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256,
 "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": true, "attention_bias": false, "hidden_act": "silu",
 "torch_dtype": "float32", "eos_token_id": 1}
JSON
cat > "$model/tokenizer.json" <<'JSON'
{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
  {"id": 0, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
  {"id": 1, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
 "normalizer": null, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": " [12]|[\\s\\S]"}, "behavior": "Isolated", "invert": false},
 "post_processor": null, "decoder": {"type": "Fuse"}, "model": {"type": "WordLevel", "unk_token": "",
  "vocab": {"<pad>": 0, "<end>": 1, " 1": 2, " 2": 3, ";": 4, "?": 5, "(": 6, ")": 7}}}
JSON
echo '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<end>", "clean_up_tokenization_spaces": false}' \
  > "$model/tokenizer_config.json"
# All strings of five of the marks, in an order that mixes them.
awk 'BEGIN { for (i = 0; i < 1024; i++) { n = i * 397 % 1024; q = ""
  for (j = 0; j < 5; j++) { q = q substr(";?()", 1 + n % 4, 1); n = int(n / 4) }
  printf "{\"question\": \"%s\", \"answer\": \"1\"}\n", q } }' > "$runs/prompts.jsonl"
cat > "$runs/team.yaml" <<YAML
task: {name: files, files: {train: "$runs/prompts.jsonl", verifier: number}}
team:
  agents:
    - {role: solver, policy: solver, template: "{prompt}"}
policies: {solver: {model: "$model"}}
rollout: {group: 8, max_new_tokens: 8, temperature: $temperature}
optimiser: {learning_rate: 3e-5}
eval: {every: 0, prompts: 200, group: 4, temperature: $temperature}
certificate: {bound: paper}
checkpoint: {every: 1000, keep: 1}
YAML

for seed in $seeds; do
  # What all formats start from: trained in f32, at a radius that lets it learn quickly.
  start=$runs/start-$seed
  [[ -f $start/summary.json ]] || ./teamtr train "$runs/team.yaml" --set "seed=$seed" --set policies.solver.random=true \
    --set train.stages=6 --set rollout.prompts=24 --set optimiser.steps=2 --set trust_region.delta=0.05 \
    --out "$start"
  for format in f32 f16 bf16; do
    run=$runs/$format-$seed
    from=$start/checkpoints/stage-0006
    # floor=warn: bf16 is to show what it comes to, where otherwise it would be refused.
    [[ -f $run/summary.json ]] || ./teamtr train "$runs/team.yaml" --set "seed=$seed" \
      --set "policies.solver={model: $from/solver, dtype: $format}" \
      --set train.stages=32 --set rollout.prompts=16 --set optimiser.steps=1 --set trust_region.delta=0.002 --set trust_region.floor=warn \
      --out "$run"
  done
done
for format in f32 f16 bf16; do
  for seed in $seeds; do formats+=("$format=$runs/$format-$seed"); done
done
jmh/run.sh org.teamtr.jmh.FormatsTable docs/data/deep.csv docs/method.md "${formats[@]}"
