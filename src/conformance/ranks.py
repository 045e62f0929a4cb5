"""Compares the run of several processes with that of one: ranks.py ONE MANY. Says the largest relative differences, and what share of
its time each rank spent on giving to the others and waiting for them."""
import json
import sys

EXACT = ("stage", "agent", "order", "policy_versions", "episodes", "messages", "tokens", "return_mean", "accuracy", "inner_steps",
         "stopped_by", "halvings", "delta", "beta_next")
CLOSE = ("kl", "surrogate", "predicted_gain", "grad_norm", "entropy")
TOLERANCE = 1e-3  # f32 sums are in another order


def lines(run, name):
    with open(f"{run}/{name}.jsonl") as file:
        return [json.loads(line) for line in file]


one, many = lines(sys.argv[1], "metrics"), lines(sys.argv[2], "metrics")
assert len(one) == len(many), (len(one), len(many))
worst = dict.fromkeys(CLOSE, 0.0)
for a, b in zip(one, many):
    for name in EXACT:
        assert a[name] == b[name], (a["stage"], a["agent"], name, a[name], b[name])
    for name in CLOSE:
        worst[name] = max(worst[name], abs(a[name] - b[name]) / (abs(a[name]) + 1e-6))
assert all(difference <= TOLERANCE for difference in worst.values()), worst
assert lines(sys.argv[1], "transcripts") == lines(sys.argv[2], "transcripts")
print("   same prompts, draws and decisions; relative differences at most "
      + ", ".join(f"{name} {difference:.1e}" for name, difference in worst.items()))
updates = lines(sys.argv[2], "ranks")[1:]  # the first has the warm start in it
for rank in range(len(updates[0]["ranks"])):
    mine = [update["ranks"][rank] for update in updates]
    busy = sum(m["seconds_rollout"] + m["seconds_update"] for m in mine)
    print(f"   rank {rank}: rollouts and updates {busy:.2f} s, exchange and waiting (evaluations too) "
          f"{sum(m['seconds_exchange'] for m in mine):.2f} s, {sum(m['bytes_sent'] for m in mine) / 1e6:.1f} MB sent")
