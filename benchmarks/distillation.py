"""Distillation beside TRL's GKDTrainer: tokens per second and peak memory of the same training, on one CPU.

Both sides train the same student towards the same teacher on the same texts in the same order, off-policy,
in float32, with AdamW, clipped gradients and one loss (TRL's generalised JSD): their first losses must
agree. Tokens are real ones (prompt and completion, no padding). Each run is a process of its own, since the
peak of resident memory is a process's. What makes the comparison unfair:

- Stillmark's side is a plain loop over the fused losses, so that part of the gap is TRL's and the Trainer's own
  overhead (collation, logging, callbacks). Both sides tokenize before the clock starts.
- Tiny models with a large vocabulary are what the fused head is best at. Deeper models show less: see `smollm2`.
- TRL's documented defaults (bf16, gradient checkpointing) are off, as they make it slower on a CPU.

    # one run, in either environment; prints one JSON line
    python benchmarks/distillation.py run --engine stillmark --vocab 8192 --beta 0.5 --threads 1
    VENV_TRL/bin/python benchmarks/distillation.py run --engine trl --vocab 8192 --beta 0.5 --threads 1
    # all of them, alternating, into benchmarks/distillation.jsonl; then the table for
    # benchmarks/distillation.md
    python benchmarks/distillation.py all --trl-python VENV_TRL/bin/python [--smollm2 DIR]
    python benchmarks/distillation.py table
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
HERE = Path(__file__).parent
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training that is timed."""

    engine: str
    vocab: str
    beta: float
    threads: int
    signal: str
    steps: int
    warmup_steps: int
    batch_size: int
    smollm2: str | None
    student_hidden: int
    teacher_hidden: int


def byte_tokenizer() -> Any:
    """Bytes as tokens, and a chat template; the models' ids past 260 are never used."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(specials + alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"], model_max_length=4096,
    )  # fmt: skip
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def random_llama(vocab_size: int, hidden_size: int, num_layers: int, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(seed)
    heads = hidden_size // 32
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=int(hidden_size * 8 / 3) // 32 * 32,
        num_hidden_layers=num_layers, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=4096, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def models_of(case: Case) -> tuple[Any, Any, Any]:
    """(student, teacher, tokenizer): tiny random ones, or SmolLM2-135M and every second layer of it."""
    if case.vocab != "smollm2":
        vocab_size = int(case.vocab)
        student = random_llama(vocab_size, case.student_hidden, 2, seed=0)
        return student, random_llama(vocab_size, case.teacher_hidden, 4, seed=1), byte_tokenizer()
    import copy

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(case.smollm2)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    teacher = AutoModelForCausalLM.from_pretrained(case.smollm2, dtype=torch.float32)
    student = copy.deepcopy(teacher)
    student.model.layers = student.model.layers[::2]
    student.config.num_hidden_layers = len(student.model.layers)
    for index, layer in enumerate(student.model.layers):
        layer.self_attn.layer_idx = index
    return student, teacher, tokenizer


def conversations(case: Case) -> list[list[dict[str, str]]]:
    """Made-up text: for the tiny models 70 to 256 bytes, for SmolLM2 about as many tokens."""
    rng = random.Random(0)
    words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randint(2, 7))) for _ in range(400)]
    stretch = 2 if case.vocab == "smollm2" else 1

    def text(num_bytes: int) -> str:
        made = ""
        while len(made) < num_bytes:
            made += rng.choice(words) + " "
        return made[:num_bytes]

    rows = []
    for _ in range(case.batch_size * (case.steps + 2)):
        completion = text(stretch * rng.randint(46, 184))
        rows.append([{"role": "user", "content": text(32)}, {"role": "assistant", "content": completion}])
    return rows


class Clock:
    """Wall and processor seconds, and tokens, of the steps after the warm-up."""

    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.tokens: list[int] = []
        self.padded: list[int] = []
        self.losses: list[float] = []
        self.flops: list[int] = []

    def step(self) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def report(self, case: Case, before_bytes: int) -> dict[str, Any]:
        first = self.warmup_steps
        tokens = sum(self.tokens[first:])
        wall, cpu = self.wall[-1] - self.wall[first - 1], self.cpu[-1] - self.cpu[first - 1]
        return {
            **{name: getattr(case, name) for name in ("engine", "signal", "vocab", "beta", "threads")},
            "tokens_per_second": tokens / wall,
            "tokens_per_cpu_second": tokens / cpu,
            "peak_memory_bytes": peak_memory_bytes(),
            "memory_before_training_bytes": before_bytes,
            "tokens_per_step": tokens / (len(self.wall) - first),
            "padding_share": 1 - sum(self.tokens) / sum(self.padded),
            "losses": self.losses[:3],
            "model_flops_per_cpu_second": sum(self.flops[first:]) / cpu if self.flops else None,
            "matmul_flops_per_cpu_second": matmul_flops_per_cpu_second(case.engine),
            "student_hidden": case.student_hidden,
            "teacher_hidden": case.teacher_hidden,
        }


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def matmul_flops_per_cpu_second(engine: str) -> float:
    """The best of ten float32 products of 1,024 x 1,024 matrices, on the threads and by the library of the run."""
    import torch

    multiply = torch.matmul
    if engine == "stillmark":
        from stillmark.backends.kernels import product as multiply
    first, second, best = torch.randn(1024, 1024), torch.randn(1024, 1024), float("inf")
    for _ in range(10):
        start = time.process_time()
        multiply(first, second)
        best = min(best, time.process_time() - start)
    return 2 * 1024**3 / best


def backbone_params(model: Any) -> int:
    """Weights of the matrices that every token is multiplied by, without embedding and head."""
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "layers" in name)


def run_trl(case: Case) -> dict[str, Any]:
    """GKDTrainer, off-policy, with the settings that suit a CPU."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    student, teacher, tokenizer = models_of(case)
    clock = Clock(case.warmup_steps)

    class Ticks(TrainerCallback):
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            clock.step()

    config = GKDConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=case.batch_size, max_steps=case.steps,
        learning_rate=1e-3, lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[],
        use_cpu=True, bf16=False, gradient_checkpointing=False, seed=0, disable_tqdm=True,
        dataloader_pin_memory=False, beta=case.beta, lmbda=0.0, temperature=1.0, max_length=1024,
    )  # fmt: skip
    trainer = GKDTrainer(
        model=student, teacher_model=teacher, processing_class=tokenizer, args=config, callbacks=[Ticks()],
        train_dataset=Dataset.from_dict({"messages": conversations(case)}),
    )  # fmt: skip
    original = trainer.compute_loss

    def counted(model: Any, inputs: Any, **options: Any) -> Any:
        clock.tokens.append(int(inputs["attention_mask"].sum()))
        clock.padded.append(inputs["labels"].numel())
        return original(model, inputs, **options)

    trainer.compute_loss = counted
    trainer._get_train_sampler = lambda dataset=None: SequentialSampler(trainer.train_dataset)
    before = peak_memory_bytes()
    trainer.train()
    clock.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return clock.report(case, before)


def tokenized(case: Case, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """(ids, targets) of each conversation: the assistant's turn has a loss, as in TRL's collator."""
    rows = []
    for messages in conversations(case):
        prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        prompt_ids, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole))
        labels = [IGNORED] * len(prompt_ids) + ids[len(prompt_ids) :]
        rows.append((ids, [*labels[1:], IGNORED]))
    return rows


def micro_batches(rows: list[Any], parts: int) -> list[tuple[Any, Any]]:
    """(ids, targets) padded at the right, in groups of like length: causal attention needs no mask for
    that.
    """
    import torch

    ordered = sorted(rows, key=lambda row: len(row[0]))
    size = -(-len(ordered) // parts)
    batches = []
    for start in range(0, len(ordered), size):
        group = ordered[start : start + size]
        width = len(group[-1][0])
        ids = torch.tensor([row[0] + [0] * (width - len(row[0])) for row in group])
        targets = torch.tensor([row[1] + [IGNORED] * (width - len(row[1])) for row in group])
        batches.append((ids, targets))
    return batches


def run_stillmark(case: Case) -> dict[str, Any]:
    """Our side, begun as the command line begins, with the matrix library that `Training` uses too."""
    from stillmark.backends.kernels import faster_linears
    from stillmark.startup import start_process

    start_process()

    student, teacher, tokenizer = models_of(case)
    with faster_linears(student), faster_linears(teacher):
        return trained_by_stillmark(case, student, teacher, tokenizer)


def trained_by_stillmark(case: Case, student: Any, teacher: Any, tokenizer: Any) -> dict[str, Any]:
    """A plain loop: backbones by like length, then one fused loss of all loss positions of the step."""
    import torch

    from stillmark.distill.losses import DivergenceSettings, fused_divergence, output_head

    rows = tokenized(case, tokenizer)
    teacher.eval()
    cache = captured(teacher, rows, tokenizer) if case.signal == "cached" else None
    if cache is not None:
        teacher = None
    head = output_head(student)
    teacher_head = None if teacher is None else output_head(teacher)
    settings = DivergenceSettings(kind="jsd", beta=case.beta)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    clock, before = Clock(case.warmup_steps), peak_memory_bytes()
    per_token = 6 * backbone_params(student) + (0 if teacher is None else 2 * backbone_params(teacher))
    per_loss = 6 * head.weight.numel() + (0 if teacher_head is None else 2 * teacher_head.weight.numel())
    for step in range(case.steps):
        chosen = range(step * case.batch_size, (step + 1) * case.batch_size)
        batches = micro_batches([(*rows[index], index) for index in chosen], parts=4)
        kept = [targets != IGNORED for _, targets in batches]
        targets = torch.cat([targets[mask] for (_, targets), mask in zip(batches, kept, strict=True)])
        hidden = at_loss_positions(student.model, batches, kept)
        if teacher is not None:
            with torch.inference_mode():
                teacher_hidden = at_loss_positions(teacher.model, batches, kept)
            loss = fused_divergence(
                hidden, head, teacher_hidden, teacher_head, targets,
                divergence=settings, num_loss_tokens=len(targets),
            ).loss  # fmt: skip
        else:
            order = sorted(chosen, key=lambda index: len(rows[index][0]))
            loss = cached_loss(cache, order, hidden, head, targets, settings)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        clock.losses.append(float(loss.detach()))
        clock.tokens.append(sum(len(rows[index][0]) for index in chosen))
        clock.padded.append(sum(ids.numel() for ids, _ in batches))
        clock.flops.append(clock.tokens[-1] * per_token + len(targets) * per_loss)
        clock.step()
    return clock.report(case, before)


def at_loss_positions(backbone: Any, batches: list[Any], kept: list[Any]) -> Any:
    """Hidden states of the positions with a loss, (L, D), of all micro-batches."""
    import torch

    return torch.cat(
        [
            backbone(input_ids=ids, use_cache=False).last_hidden_state[mask]
            for (ids, _), mask in zip(batches, kept, strict=True)
        ]
    )


def captured(teacher: Any, rows: list[Any], tokenizer: Any) -> Any:
    """A top-32 cache of the run's rows, captured before the clock starts."""
    from stillmark.distill.identity import TokenSequence, cache_identity
    from stillmark.distill.logit_cache import CacheSettings, LogitCache
    from stillmark.distill.logit_capture import capture_logits, teacher_hidden_states

    data = [TokenSequence(token_ids=ids, targets=targets) for ids, targets in rows]
    identity = cache_identity(teacher, tokenizer, data)
    hidden_states, head = teacher_hidden_states(teacher)
    directory = Path(tempfile.mkdtemp())
    settings = CacheSettings(k=32)
    capture_logits(directory, hidden_states, head, data, identity=identity, settings=settings)
    return LogitCache(directory, identity)


def cached_loss(cache: Any, order: list[int], hidden: Any, head: Any, targets: Any, settings: Any) -> Any:
    from stillmark.distill.cached_losses import fused_cached_divergence

    return fused_cached_divergence(
        hidden, head, cache.targets(order), targets, divergence=settings, num_loss_tokens=len(targets)
    ).loss


def processor_name() -> str | None:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def run_all(options: argparse.Namespace) -> None:
    """Every case, the two engines alternating; results are appended, so that a cut run goes on."""
    path = Path(options.output)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    vocabs = ["8192", "32000", *(["smollm2"] if options.smollm2 else [])]
    for vocab in vocabs:
        for threads in map(int, options.thread_counts.split(",")):
            for beta in (0.0, 0.5, 1.0) if vocab != "smollm2" else (0.5,):
                for engine, signal in (("trl", "live"), ("stillmark", "live"), ("stillmark", "cached")):
                    key = {
                        "engine": engine,
                        "signal": signal,
                        "vocab": vocab,
                        "beta": beta,
                        "threads": threads,
                    }
                    if sum(key.items() <= row.items() for row in done) >= options.repeats:
                        continue
                    python = options.trl_python if engine == "trl" else sys.executable
                    flags = [f"--{name}={value}" for name, value in key.items()]
                    steps = 4 if vocab == "smollm2" else 8
                    flags += [f"--steps={steps}", f"--warmup-steps={1 if steps == 4 else 2}"]
                    flags += [f"--smollm2={options.smollm2}"] if options.smollm2 else []
                    command = ["flock", "/tmp/bench.lock", python, __file__, "run", *flags]
                    result = subprocess.run(command, capture_output=True, text=True, check=False)
                    if result.returncode:
                        print(result.stderr[-2000:], file=sys.stderr)
                        continue
                    row = json.loads(result.stdout.splitlines()[-1]) | {"processor": processor_name()}
                    with path.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)


def table(path: Path) -> str:
    """Markdown, one line a training: each side's tokens per processor second and peak memory, and the
    ratios.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = {}
    for row in rows:  # of repeats, the last
        found[row["vocab"], row["threads"], row["beta"], row["engine"], row["signal"]] = row
    lines = [
        "| V | threads | beta | TRL tok/s | Stillmark tok/s | ratio | cached tok/s | / live "
        "| TRL MB | Stillmark MB | ratio | of matmul peak |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for vocab, threads, beta in dict.fromkeys(key[:3] for key in found):
        sides = [
            found.get((vocab, threads, beta, *side))
            for side in (("trl", "live"), ("stillmark", "live"), ("stillmark", "cached"))
        ]
        if None in sides:
            continue
        trl, live, cached = ([row["tokens_per_cpu_second"], row["peak_memory_bytes"] / 1e6] for row in sides)
        peak_share = sides[1]["model_flops_per_cpu_second"] / sides[1]["matmul_flops_per_cpu_second"]
        lines.append(
            f"| {vocab} | {threads} | {beta} | {trl[0]:,.0f} | {live[0]:,.0f} | **{live[0] / trl[0]:.1f}** "
            f"| {cached[0]:,.0f} | {cached[0] / live[0]:.1f} | {trl[1]:,.0f} | {live[1]:,.0f} "
            f"| {live[1] / trl[1]:.2f} | {peak_share:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "all", "table"])
    parser.add_argument("--engine", default="stillmark", choices=["stillmark", "trl"])
    parser.add_argument("--signal", default="live", choices=["live", "cached"])
    parser.add_argument("--vocab", default="8192", help="a size, or `smollm2`")
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--student-hidden", type=int, default=128)
    parser.add_argument("--teacher-hidden", type=int, default=256)
    parser.add_argument("--smollm2", help="a directory with SmolLM2-135M in Hugging Face format")
    parser.add_argument("--trl-python", help="the Python of an environment with trl==1.16.0")
    parser.add_argument("--thread-counts", default="1,2")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", default=str(HERE / "distillation.jsonl"))
    options = parser.parse_args()
    if options.what == "all":
        run_all(options)
        return
    if options.what == "table":
        print(table(Path(options.output)))
        return
    import torch

    torch.set_num_threads(options.threads)
    names = Case.__dataclass_fields__
    case = Case(**{name: getattr(options, name) for name in names})
    print(json.dumps(run_trl(case) if case.engine == "trl" else run_stillmark(case)))


if __name__ == "__main__":
    main()
