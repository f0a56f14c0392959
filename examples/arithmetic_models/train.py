"""Trains the two embedded demonstration models and writes them as ordinary checkpoint folders.

    python examples/arithmetic_models/train.py --out server/rm_grpc_server/defaults

Both are tiny Llama models, trained with a Bradley-Terry loss on the pairs of `problems.py`:
`arithmetic-classifier` is a `LlamaForSequenceClassification` with one label, `arithmetic-logit` a `LlamaForCausalLM`
whose raw next-token logit of token id 0 is the score. They judge small arithmetic and nothing else.

They come about as reward models do: a language model first learns to write right answers, then learns to rank them. Writing
fills its layers to the top, so that ranking gets two more, which compare what was expected with what stands there. The second
reward model goes on from the first one's layers with a head of its own.

The Bradley-Terry loss is taken on the two whole answers and on every prefix after the point where they part (the prefix of a
right answer above the equally long prefix of the wrong one), so that one pair teaches about each of its steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from problems import FRIENDS, NAMES, Pair, pairs
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOS, HEADER, END_HEADER, EOT = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
LOGIT_TOKEN_ID = 0
VOCABULARY = 1024
MAX_LENGTH = 1024
WRITER_LAYERS, RANKING_LAYERS = 3, 2


def build_tokenizer(seed: int) -> Tokenizer:
    """A byte-level BPE in the manner of Llama 3: same split, digits in threes, control tokens after the vocabulary."""
    corpus = itertools.islice(pairs(random.Random(seed), held_out=False), 20_000)
    texts = [text for pair in corpus for text in (pair.prompt, pair.right)]
    texts += ["\n\n".join(("user", "assistant", "system", ""))] * 200
    texts += [" ".join(str(n) for n in range(201))] * 200 + [" ".join(NAMES + FRIENDS)] * 200
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 5, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (BOS, EOS, HEADER, END_HEADER, EOT)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, prompt: str, answer: str) -> list[int]:
    """The ids of the rendered conversation; the same text as `CHAT_TEMPLATE` renders."""
    turns = "".join(f"{HEADER}{role}{END_HEADER}\n\n{text}{EOT}" for role, text in (("user", prompt), ("assistant", answer)))
    return tokenizer.encode(BOS + turns, add_special_tokens=False).ids


def build_config(tokenizer: Tokenizer, layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOT),
        pad_token_id=tokenizer.token_to_id(EOS),
        tie_word_embeddings=False,
        num_labels=1,
        dtype="float32",
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded ids of all right and then all wrong answers, where each pair parts, and each answer's last position."""

    ids: Tensor
    parts: Tensor
    lasts: Tensor


def batch_of(tokenizer: Tokenizer, batch: list[Pair]) -> Batch:
    rights = [encode(tokenizer, pair.prompt, pair.right) for pair in batch]
    wrongs = [encode(tokenizer, pair.prompt, pair.wrong) for pair in batch]
    rows = rights + wrongs
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    parts = [next(i for i, (a, b) in enumerate(zip(r, w, strict=False)) if a != b) for r, w in zip(rights, wrongs, strict=True)]
    return Batch(ids, torch.tensor(parts), torch.tensor([len(row) - 1 for row in rows]))


def bradley_terry(rewards_BT: Tensor, parts: Tensor, lasts: Tensor) -> tuple[Tensor, Tensor]:
    """The loss over all prefixes that differ and over the whole answers, and the share of pairs ranked right."""
    pairs_in_batch = parts.shape[0]
    right, wrong = rewards_BT[:pairs_in_batch], rewards_BT[pairs_in_batch:]
    whole = right.gather(1, lasts[:pairs_in_batch, None]) - wrong.gather(1, lasts[pairs_in_batch:, None])
    positions = torch.arange(right.shape[1])
    shorter = torch.minimum(lasts[:pairs_in_batch], lasts[pairs_in_batch:])
    differs = (positions >= parts[:, None]) & (positions <= shorter[:, None])
    prefix_losses = -torch.nn.functional.logsigmoid(right - wrong)
    per_pair = (prefix_losses * differs).sum(1) / differs.sum(1)
    loss = -torch.nn.functional.logsigmoid(whole).mean() + per_pair.mean() + 1e-3 * whole.pow(2).mean()
    return loss, (whole > 0).float().mean()


RewardModel = LlamaForSequenceClassification | LlamaForCausalLM


def rewards_of(model: RewardModel, hidden: Tensor) -> Tensor:
    """The reward at every position, [batch, tokens]."""
    head = model.score.weight[0] if isinstance(model, LlamaForSequenceClassification) else model.lm_head.weight[LOGIT_TOKEN_ID]
    return hidden @ head


def language_loss(logits: Tensor, ids: Tensor, lasts: Tensor) -> Tensor:
    """Mean cross-entropy of the next token over everything but padding."""
    inside = torch.arange(ids.shape[1] - 1) < lasts[:, None]
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    return (losses * inside).sum() / inside.sum()


def write_loss(model: LlamaForCausalLM, batch: Batch) -> tuple[Tensor, float]:
    """Learning to write right answers; the figure is the share of answer tokens predicted right after the prompt."""
    half = batch.parts.shape[0]
    ids, lasts = batch.ids[:half], batch.lasts[:half]
    logits = model(input_ids=ids, use_cache=False).logits
    at = torch.arange(half)
    first_differing = logits[at, batch.parts - 1].argmax(-1) == ids[at, batch.parts]
    return language_loss(logits, ids, lasts), first_differing.float().mean().item()


def rank_loss(model: RewardModel, batch: Batch) -> tuple[Tensor, float]:
    """Learning to rank; the figure is the share of pairs ranked right. Right padding needs no mask under causal attention."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    loss, ranked = bradley_terry(rewards_of(model, hidden), batch.parts, batch.lasts)
    return loss, ranked.item()


def train(
    model: RewardModel,
    tokenizer: Tokenizer,
    loss_of: Callable[[RewardModel, Batch], tuple[Tensor, float]],
    *,
    steps: int,
    seed: int,
    learning_rate: float,
    batch_pairs: int = 48,
    terse: float = 0.3,
) -> None:
    """AdamW with a short warm-up and a cosine to a fiftieth."""
    generator = pairs(random.Random(seed), held_out=False, terse=terse)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    scale = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    model.train()
    start, figures = time.monotonic(), []
    for step in range(1, steps + 1):
        batch = batch_of(tokenizer, list(itertools.islice(generator, batch_pairs)))
        loss, figure = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scale.step()
        figures.append(figure)
        if step % 50 == 0:
            recent = sum(figures[-50:]) / 50
            print(
                f"{loss_of.__name__} {step}/{steps} loss {loss.item():.3f} right {recent:.3f} {time.monotonic() - start:.0f} s",
                flush=True,
            )


@torch.no_grad()
def accuracy(model: RewardModel, tokenizer: Tokenizer, *, seed: int, count: int) -> float:
    """Share of held-out pairs whose right answer scores above the wrong one."""
    model.eval()
    generator = pairs(random.Random(seed), held_out=True)
    ranked = [rank_loss(model, batch_of(tokenizer, list(itertools.islice(generator, 50))))[1] for _ in range(0, count, 50)]
    return sum(ranked) / len(ranked)


def grow(model: RewardModel, writer: LlamaForCausalLM) -> RewardModel:
    """Gives a deeper model the writer's layers; the ones above begin as the identity."""
    model.model.load_state_dict(writer.model.state_dict(), strict=False)
    for layer in model.model.layers[writer.config.num_hidden_layers :]:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


def save(model: RewardModel, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOT,
        "pad_token": EOS,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the two checkpoint folders")
    parser.add_argument("--writer", type=Path, help="folder of the language model: read where it is there, else written")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer(args.seed)
    if args.writer and args.writer.is_dir():
        writer = LlamaForCausalLM.from_pretrained(args.writer)
    else:
        writer = LlamaForCausalLM(build_config(tokenizer, WRITER_LAYERS))
        train(writer, tokenizer, write_loss, steps=800, seed=args.seed, learning_rate=3e-3, batch_pairs=256, terse=1.0)
        train(writer, tokenizer, write_loss, steps=700, seed=args.seed, learning_rate=2e-3, batch_pairs=64)
        if args.writer:
            save(writer, tokenizer, args.writer)
    config = build_config(tokenizer, WRITER_LAYERS + RANKING_LAYERS)
    classifier = grow(LlamaForSequenceClassification(config), writer)
    train(classifier, tokenizer, rank_loss, steps=300, seed=args.seed + 1, learning_rate=2e-3, batch_pairs=256, terse=1.0)
    train(classifier, tokenizer, rank_loss, steps=400, seed=args.seed + 2, learning_rate=1e-3)
    save(classifier, tokenizer, args.out / "arithmetic-classifier")
    logit = LlamaForCausalLM(config)
    logit.model.load_state_dict(classifier.model.state_dict())
    train(logit, tokenizer, rank_loss, steps=120, seed=args.seed + 3, learning_rate=5e-4)
    save(logit, tokenizer, args.out / "arithmetic-logit")
    for name, model in (("arithmetic-classifier", classifier), ("arithmetic-logit", logit)):
        print(f"{name}: {accuracy(model, tokenizer, seed=args.seed + 4, count=1000):.3f} of held-out pairs ranked right")


if __name__ == "__main__":
    main()
