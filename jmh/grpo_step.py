"""One optimiser step of TRL's GRPOTrainer on the model and the prompts that jmh/trainer.sh trl gives to ./teamtr train, on the CPU.

usage: grpo_step.py MODEL_FOLDER PROMPTS.jsonl STEPS

Prints, for every step but the first: seconds of the whole step, and the largest resident size of the process in bytes. Weights are
random, as those of the other side. The reward is the share of different characters, so that returns differ. What is compared is
what each does by default: TRL has no reference model (beta 0) and no measured KL.
"""
import json
import os
import resource
import sys
import time

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

folder, prompts, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(1)
tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"), pad_token="<pad>", eos_token="<end>")
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
model.generation_config.pad_token_id, model.generation_config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
with open(prompts, encoding="utf-8") as lines:
    data = Dataset.from_list([{"prompt": json.loads(line)["question"]} for line in lines])


class Clock(TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.began)


clock = Clock()
config = GRPOConfig(output_dir=os.path.join(folder, "trl"), use_cpu=True, bf16=False, gradient_checkpointing=False, learning_rate=1e-5,
                    per_device_train_batch_size=64, num_generations=8, max_completion_length=64, temperature=0.8, max_steps=steps,
                    report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True)
GRPOTrainer(model=model, args=config, processing_class=tokenizer, train_dataset=data, callbacks=[clock],
            reward_funcs=lambda completions, **_: [len(set(c)) / max(1, len(c)) for c in completions]).train()
for seconds in clock.seconds[1:]:
    print(f"{seconds:.3f},{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")
