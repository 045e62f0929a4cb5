#!/usr/bin/env bash
# Writes what a training run of a real size needs and nobody has to fetch: a model folder of a given shape without weights, a
# tokenizer of as many tokens as it has, each a character of its own, and prompts.
#
#   cuda/model.sh FOLDER SHAPE          SHAPE: qwen3-0.6b, qwen3-0.3b (half as wide), or tiny
#
# Training takes the folder with `random: true`. The answers of the prompts are right by chance: a message whose last token is an
# even one is "right" where the prompt asks for it, so that returns differ and there is something to learn (Parity.java).
set -euo pipefail
[[ $# -eq 2 ]] || { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }
mkdir -p "$1"
case $2 in
  qwen3-0.6b) vocab=151936 hidden=1024 middle=3072 layers=28 heads=16 kv=8 head=128 ;;
  qwen3-0.3b) vocab=151936 hidden=512 middle=1536 layers=28 heads=16 kv=8 head=128 ;;
  tiny) vocab=300 hidden=32 middle=64 layers=2 heads=4 kv=2 head=8 ;;
  *) echo "model.sh: SHAPE: expected qwen3-0.6b, qwen3-0.3b or tiny, given $2" >&2; exit 2 ;;
esac
cat > "$1/config.json" <<JSON
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": $vocab, "hidden_size": $hidden,
 "intermediate_size": $middle, "num_hidden_layers": $layers, "num_attention_heads": $heads, "num_key_value_heads": $kv,
 "head_dim": $head, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
 "tie_word_embeddings": true, "attention_bias": false, "hidden_act": "silu", "torch_dtype": "bfloat16"}
JSON
# Letters, digits and marks first, then characters from U+10000 on, written as JSON has them: in two halves.
LC_ALL=C awk -v vocab="$vocab" 'BEGIN {
  printf "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [%s, %s],\n", added(0, "<pad>"), added(1, "<end>")
  printf " \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[\\\\s\\\\S]\"},"
  printf " \"behavior\": \"Isolated\", \"invert\": false},\n \"post_processor\": null, \"decoder\": {\"type\": \"Fuse\"},\n"
  printf " \"model\": {\"type\": \"WordLevel\", \"unk_token\": \"\", \"vocab\": {\"<pad>\": 0, \"<end>\": 1"
  id = 2
  printf ", \"\\n\": %d", id++
  for (c = 32; c < 127; c++) printf ", \"%s%c\": %d", c == 34 || c == 92 ? "\\" : "", c, id++
  for (c = 0; id < vocab; c++) printf ", \"\\u%04x\\u%04x\": %d", 55296 + int(c / 1024), 56320 + c % 1024, id++
  printf "}}}\n"
}
function added(id, text) {
  return sprintf("{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false," \
    " \"normalized\": false, \"special\": true}", id, text)
}' > "$1/tokenizer.json"
cat > "$1/tokenizer_config.json" <<'JSON'
{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<end>", "clean_up_tokenization_spaces": false}
JSON
awk 'BEGIN {
  for (i = 1; i <= 256; i++)
    printf "{\"question\": \"A merchant buys %d crates of %d apples and sells %d of every %d. How many apples are left?\", \"answer\": \"%d\"}\n",
      i, 7 + i % 13, 1 + i % 5, 6 + i % 4, i % 2
}' > "$1/prompts.jsonl"
