"""A small reinforcement-learning run from beginning to end: a policy that adds badly learns from rewards of a server.

The policy is a Llama of 0.1 M parameters that writes one character a token. It is first taught the form of an answer, with sums
that are right one time in three. Then TRL's GRPOTrainer trains it on rewards that a server of its own gives over gRPC: the
embedded reward model's score and a check of the sum, together as one ensemble (serve.yaml). Each wave of answers is sent as
soon as it is generated, and scored while the next one is.

make demo-rl        # about two minutes on two cores; the curve is written as a picture
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1", TOKENIZERS_PARALLELISM="false")

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from rm_grpc_client import Item, Reward, RewardEnvironment, SyncRewardEnvironment
from rm_grpc_server.deploy.child import ServerChild

ROOT = Path(__file__).parents[2]
MODEL = "graded"
CHARACTERS = "What is+=?\n0123456789"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{{ '\n' if m['role'] == 'user' else '' }}{% endfor %}"
RIGHT_AT_FIRST = 0.35
GROUP, WAVES, WAVE = 8, 8, 16
LONGEST_ANSWER = 9


def tokenizer() -> PreTrainedTokenizerFast:
    tokens = ["<pad>", "<eos>", *dict.fromkeys(CHARACTERS)]
    characters = Tokenizer(models.WordLevel({token: at for at, token in enumerate(tokens)}, unk_token="<pad>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    characters.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=characters, pad_token="<pad>", eos_token="<eos>", padding_side="left", chat_template=TEMPLATE
    )


def question(left: int, right: int) -> str:
    return f"What is {left}+{right}?"


def sums() -> list[tuple[int, int]]:
    """The sums of the run; each of its steps asks all of them, so that the curve does not jump with the questions."""
    return [(left, right) for left in range(2, 6) for right in range(2, 6)]


def taught(tokens: PreTrainedTokenizerFast, rng: random.Random, steps: int) -> LlamaForCausalLM:
    """A policy that knows the form of an answer, and adds rightly one time in three."""
    shape = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    policy = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokens), max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None, **shape
        )
    )
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        rows, opening = [], []
        for left, right in rng.choices(sums(), k=64):
            off = 0 if rng.random() < RIGHT_AT_FIRST else rng.choice((-3, -2, -1, 1, 2, 3))
            asked = tokens(f"{question(left, right)}\n")["input_ids"]
            rows.append(asked + tokens(f"{left}+{right}={max(0, left + right + off)}")["input_ids"] + [1])
            opening.append(len(asked))
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        labels = ids.masked_fill(ids == 0, -100)
        for row, length in zip(labels, opening, strict=True):
            row[:length] = -100
        loss = policy(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return policy


@dataclass
class Step:
    """What happened when in one rollout: seconds since its start, for each wave when it was sent and when it was scored."""

    generated: float = 0.0
    sent: list[float] = field(default_factory=list)
    scored: list[float] = field(default_factory=list)

    def busy(self, end: float) -> float:
        """Seconds before `end` in which a wave was being scored."""
        total, reached = 0.0, 0.0
        for sent, scored in sorted(zip(self.sent, self.scored, strict=True)):
            begin, until = max(sent, reached), min(scored, end)
            total, reached = total + max(0.0, until - begin), max(reached, until)
        return total

    @property
    def hidden(self) -> tuple[float, float]:
        """Seconds of scoring while the policy generated, and of scoring in all."""
        return self.busy(self.generated), self.busy(float("inf"))


class Rollouts:
    """Generates answers in waves and has each scored while the next is generated; TRL's `rollout_func`."""

    def __init__(self, environment: SyncRewardEnvironment, tokens: PreTrainedTokenizerFast) -> None:
        self._environment = environment
        self._tokens = tokens
        self.steps: list[Step] = []
        self.components: dict[str, list[float]] = {"quality": [], "right": []}

    def __call__(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        step, started = Step(), time.monotonic()
        self.steps.append(step)
        rows: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "logprobs": []}
        futures: list[Future[Reward]] = []
        for at in range(0, len(prompts), WAVE):
            wave = prompts[at : at + WAVE]
            for key, values in self._generated(wave, trainer).items():
                rows[key] += values
            said = [self._tokens.decode(ids, skip_special_tokens=True) for ids in rows["completion_ids"][at:]]
            futures += self._sent(step, started, wave, said)
        step.generated = time.monotonic() - started
        rewards = [future.result() for future in futures]
        while len(step.scored) < len(step.sent):
            time.sleep(0.001)  # the last note of a wave comes right behind its last reward
        components = [reward.components for reward in rewards if reward.value is not None]
        for name, values in self.components.items():
            values.append(sum(one[name] for one in components) / max(1, len(components)))
        return {**rows, "rm_grpc": [reward.value for reward in rewards]}

    def _sent(self, step: Step, started: float, prompts: Sequence[Any], answers: Sequence[str]) -> list[Future[Reward]]:
        step.sent.append(time.monotonic() - started)
        left, lock = [len(prompts)], threading.Lock()

        def note(_: Future[Reward]) -> None:
            with lock:
                left[0] -= 1
                if not left[0]:
                    step.scored.append(time.monotonic() - started)

        futures = []
        for prompt, answer in zip(prompts, answers, strict=True):
            item = Item.of([*prompt, {"role": "assistant", "content": answer}], metadata={"sum": _sum(prompt)})
            futures.append(self._environment.submit(item))
            futures[-1].add_done_callback(note)
        return futures

    def _generated(self, prompts: Sequence[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """Answers to prompts, sampled at temperature 1, with the log-probability of each token."""
        asked = [self._tokens.apply_chat_template(prompt, tokenize=False) for prompt in prompts]
        given = self._tokens(asked, return_tensors="pt", padding=True)
        with torch.no_grad():
            made = trainer.model.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                do_sample=True,
                max_new_tokens=LONGEST_ANSWER,
                output_logits=True,
                return_dict_in_generate=True,
            )
        answers = made.sequences[:, given["input_ids"].shape[1] :]
        scores = torch.stack(made.logits, dim=1).float().log_softmax(-1).gather(-1, answers.unsqueeze(-1)).squeeze(-1)
        rows: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "logprobs": []}
        for text, ids, values in zip(asked, answers.tolist(), scores.tolist(), strict=True):
            length = ids.index(1) + 1 if 1 in ids else len(ids)
            rows["prompt_ids"].append(self._tokens(text)["input_ids"])
            rows["completion_ids"].append(ids[:length])
            rows["logprobs"].append(values[:length])
        return rows


def _sum(prompt: Any) -> str:
    left, right = prompt[0]["content"].removeprefix("What is ").removesuffix("?").split("+")
    return str(int(left) + int(right))


def reward_model(prompts: list[Any], rm_grpc: list[float | None], **_: Any) -> list[float | None]:
    """The rewards that came back with the rollout; None leaves a sample out."""
    assert len(rm_grpc) == len(prompts)
    return rm_grpc


def train(address: str, steps: int, lessons: int, seed: int) -> dict[str, list[float]]:
    """The run: of each step the mean reward and its components, and the seconds of scoring."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the server has the other core
    warnings.filterwarnings("ignore", ".*gradient_checkpointing.*", FutureWarning)
    rng, tokens = random.Random(seed), tokenizer()
    policy = taught(tokens, rng, lessons)
    questions = [{"prompt": [{"role": "user", "content": question(*pair)}]} for pair in sums()]
    with SyncRewardEnvironment(RewardEnvironment(address, model=MODEL, failures="none")) as environment:
        rollouts = Rollouts(environment, tokens)
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=reward_model,
            rollout_func=rollouts,
            args=GRPOConfig(
                output_dir=tempfile.mkdtemp(),
                use_cpu=True,
                bf16=False,
                report_to="none",
                per_device_train_batch_size=WAVES * WAVE,
                num_generations=GROUP,
                max_completion_length=LONGEST_ANSWER,
                max_steps=steps,
                shuffle_dataset=False,
                learning_rate=1e-3,
                lr_scheduler_type="constant",
                logging_steps=1,
                save_strategy="no",
                beta=0.0,
                activation_checkpointing=False,
                dataloader_pin_memory=False,
                disable_tqdm=True,
                seed=seed,
            ),
            train_dataset=Dataset.from_list(questions),
            processing_class=tokens,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    hidden = [step.hidden for step in rollouts.steps]
    return {
        "reward": [line["reward"] for line in trainer.state.log_history if "reward" in line],
        **rollouts.components,
        "scoring_seconds": [busy for _, busy in hidden],
        "hidden_seconds": [share for share, _ in hidden],
        "generating_seconds": [step.generated for step in rollouts.steps],
    }


def draw(run: dict[str, list[float]], file: Path) -> None:
    """The curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    rewards, scoring = figure.subplots(1, 2)
    rewards.plot(run["reward"], color="#1f5fa8")
    rewards.set(xlabel="step of GRPO", ylabel="mean reward")
    rewards.yaxis.label.set_color("#1f5fa8")
    right = rewards.twinx()
    right.plot(run["right"], color="#c8722b")
    right.set(ylim=(0, 1), ylabel="share of right answers")
    right.yaxis.label.set_color("#c8722b")
    steps = range(len(run["scoring_seconds"]))
    scoring.bar(
        steps, [1000 * one for one in run["hidden_seconds"]], width=1.0, color="#b9cfe6", label="while the policy generated"
    )
    waited = [1000 * (busy - share) for busy, share in zip(run["scoring_seconds"], run["hidden_seconds"], strict=True)]
    bottom = [1000 * one for one in run["hidden_seconds"]]
    scoring.bar(steps, waited, width=1.0, bottom=bottom, color="#c8722b", label="after it")
    scoring.set(xlabel="step of GRPO", ylabel="ms of scoring")
    scoring.legend(frameon=False)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="", help="a server of the reward model; by default one is started")
    parser.add_argument("--steps", type=int, default=50, help="of GRPO")
    parser.add_argument("--lessons", type=int, default=300, help="of teaching the policy the form of an answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/demo-rl"), help="folder for the curve and its numbers")
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.address:
        run = train(args.address, args.steps, args.lessons, args.seed)
    else:
        os.chdir(ROOT)  # where serve.yaml names its scorer from
        config = Path(__file__).with_name("serve.yaml")
        child = ServerChild([f"--config={config}", "--listen=127.0.0.1:0"], Path(tempfile.mkdtemp()))
        try:
            run = train(child.wait(300), args.steps, args.lessons, args.seed)
        finally:
            child.stop()
    (args.out / "run.json").write_text(json.dumps(run, indent=1))
    draw(run, args.out / "reward.png")
    tenth = max(1, len(run["reward"]) // 10)
    for name, told in (("reward", "mean reward"), ("quality", "reward model's score"), ("right", "right answers")):
        first, last = (sum(part) / tenth for part in (run[name][:tenth], run[name][-tenth:]))
        print(f"{told}: {first:.2f} in the first {tenth} steps, {last:.2f} in the last")
    hidden, scoring = sum(run["hidden_seconds"]), sum(run["scoring_seconds"])
    print(f"scoring: {scoring:.1f} s in all, {hidden / scoring:.0%} of it while the policy generated")
    print(f"the curve is in {args.out / 'reward.png'}")


if __name__ == "__main__":
    main()
