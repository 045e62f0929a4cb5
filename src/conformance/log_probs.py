"""The log-probs that transformers, or PEFT on it, computes for the models of a folder.

    python log_probs.py WORK

WORK/cases.json is a list of {"name", "folder", "ids", "columns"}: a model folder (or an adapter folder, which names its base
model), the token ids of one text, and how many logit columns count. WORK/log_probs.json gets, by name, the natural logarithm of the
probability of ids[1:], each given the ones before it; f32 weights and activations, the softmax in f64 over the first `columns`.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402


def load(folder):
    if os.path.exists(os.path.join(folder, "adapter_config.json")):
        return peft.AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def log_probs(case):
    model = load(case["folder"]).eval()
    ids = torch.tensor([case["ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1, : case["columns"]].double()
    return torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0].tolist()


def main(work):
    torch.manual_seed(0)
    with open(os.path.join(work, "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)
    result = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
              "log_probs": {case["name"]: log_probs(case) for case in cases}}
    with open(os.path.join(work, "log_probs.json"), "w", encoding="utf-8") as file:
        json.dump(result, file)


main(sys.argv[1])
