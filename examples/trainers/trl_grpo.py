"""TRL: two steps of GRPOTrainer with rewards from a server. The policy is tiny, random and knows 64 words.

rm-grpc serve                                                   # in one terminal
python examples/trainers/trl_grpo.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import json
import tempfile

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from rm_grpc_client.adapters.trl import reward_function

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "user", "assistant", ":", "What", "is", "?", "+", "="] + [str(n) for n in range(52)]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", chat_template=TEMPLATE, **special)


def policy() -> LlamaForCausalLM:
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=128, pad_token_id=0, eos_token_id=2, **shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    rows = [{"prompt": [{"role": "user", "content": f"What is {n} + 1 ?"}], "answer": str(n + 1)} for n in range(8)]
    trainer = GRPOTrainer(
        model=policy(),
        reward_funcs=reward_function(args.address, model=args.model, columns=["answer"]),
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=False,
            report_to="none",
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            max_steps=2,
            logging_steps=1,
            save_strategy="no",
            beta=0.0,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(),
    )
    trainer.train()
    logged = [line for line in trainer.state.log_history if "reward" in line]
    print(json.dumps([{key: line[key] for key in line if key.startswith(("rewards/", "rm_grpc/"))} for line in logged]))


if __name__ == "__main__":
    main()
