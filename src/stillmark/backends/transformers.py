"""The engine that evaluates and generates with any Hugging Face causal language model.

It is written for speed at the model's own numbers: each token position of a set of requests is computed once
(prefix.py), tokens of many sequences run as one row without padding (packed.py), only scored positions go
through the vocabulary head, and generation drops finished rows at once (decoding.py). A model that the packed
path does not fit runs through plain.py; `TransformersBackend.path_reason` says why.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from stillmark.backends.decoding import DecodeLimits, Decoder, PromptRows
from stillmark.backends.packed import CannotPackError, PackedModel
from stillmark.backends.packed_check import reason_not_to_pack
from stillmark.backends.plain import PlainWays, plain_generate, plain_logprobs
from stillmark.backends.plain_check import must_be_causal, ways_that_hold
from stillmark.backends.prefix import PassLimits
from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.backends.rotary import steady_positions
from stillmark.backends.sampling import UniformStream
from stillmark.backends.scoring import Scored, packed_logprobs
from stillmark.backends.stopping import StopRule, Written, end_ids_of
from stillmark.backends.tokens import TextCodec, TokenIds
from stillmark.backends.work import Work
from stillmark.errors import UserError
from stillmark.models.given import given_model, given_tokenizer

DEFAULT_BATCH_TOKENS = {"cpu": 1536, "cuda": 8192}
MAX_LOGIT_ELEMENTS = 1 << 24  # of one pass: 64 MiB in float32
MAX_ROWS = 512
MIN_ROW_BYTES = 128 << 20
FREE_MEMORY_SHARE = 0.5
UNLIMITED_TOKENS = 1 << 40
# A layer of width d has about 12 d² multiply-adds a position and 2 d a pair (arXiv:2001.08361, 2.1): 6 d pairs a
# position, or 3 d, as attention runs at about half the speed of the linear layers
PAIRS_PER_UNIT_OF_WIDTH = 3


class TransformersBackend:
    """One loaded model. `max_batch_tokens` is how many token positions one forward pass may hold; `num_tokens` keeps it
    from writing rows of its head from that id on, which stand for no token.

    `path`: "packed" or "plain" forces one way; "auto" tries packed rows against the model's plain forward
    pass once, and uses them if they agree.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str = "cpu",
        max_batch_tokens: int | None = None,
        max_rows: int = MAX_ROWS,
        path: Literal["auto", "packed", "plain"] = "auto",
        num_tokens: int | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        kind = torch.device(device).type
        self.max_batch_tokens = max_batch_tokens or DEFAULT_BATCH_TOKENS.get(kind, 1024)
        self.max_rows, self.num_tokens = max_rows, num_tokens
        self.codec = TextCodec(tokenizer)
        window = getattr(model.config, "max_position_embeddings", None)
        self.window_tokens: int | None = int(window) if window else None
        self._end_ids = end_ids_of(model, tokenizer)
        self._steady_positions = steady_positions(model)
        self.path_reason: str | None = "asked for" if path == "plain" else None  # why rows are not packed
        self._packed = None if path == "plain" else self._pack(is_forced=path == "packed")
        self._is_known_causal = self._packed is not None
        self.work = Work()  # of all calls so far

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        """For each prompt, `sampling.num_samples` replies, in the prompts' order.

        Prompts that are equal get equal replies, as sample i depends on (seed, prompt, i) alone.
        """
        return self.generate_from_tokens(self.codec.encode_prompts(prompts), sampling)

    def generate_from_tokens(self, prompt_ids: Sequence[TokenIds], sampling: Sampling) -> list[list[Reply]]:
        """As `generate`, from prompts that are token ids already."""
        times_asked = Counter(prompt_ids)
        # Greedy samples are all the same text
        num_written = 1 if sampling.temperature == 0 else sampling.num_samples
        asked = [
            PromptRows(
                ids=ids,
                streams=[UniformStream(sampling.seed, ids, sample) for sample in range(num_written)],
                max_new_tokens=min(sampling.max_new_tokens, self._room(ids)),
            )
            for ids in times_asked
            if self._room(ids) > 0
        ]
        rule = StopRule(self.codec, self._end_ids, sampling.stop)
        written = self._write(asked, sampling, rule)
        replies: dict[TokenIds, list[Reply]] = {}
        for prompt, rows in zip(asked, written, strict=True):
            share = times_asked[prompt.ids] * sampling.num_samples // num_written
            distinct = [self._reply(prompt.ids, row, rule, share) for row in rows]
            replies[prompt.ids] = [distinct[i % num_written] for i in range(sampling.num_samples)]
        return [replies.get(ids) or [self._too_long(ids)] * sampling.num_samples for ids in prompt_ids]

    def write(self, prompts: Sequence[PromptRows], sampling: Sampling) -> list[list[Written]]:
        """The token ids that continue each prompt's rows, with their end token.

        Each row has a stream of its own, and prompts that are equal are written apart.
        """
        return self._write(prompts, sampling, StopRule(self.codec, self._end_ids, sampling.stop))

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """For each (prompt, continuation), its log-likelihood, in the requests' order.

        Where both do not fit the model's window, the prompt loses tokens from its left, and the result says
        how many (`truncated_tokens`).
        """
        return self.loglikelihood_of_tokens(self.codec.encode_pairs(requests))

    def loglikelihood_of_tokens(self, whole: Sequence[tuple[TokenIds, TokenIds]]) -> list[Loglikelihood]:
        """As `loglikelihood`, from pairs of token ids."""
        pairs = [self._fitted(*pair) for pair in whole]
        times_asked = Counter(pairs)
        unique = list(times_asked)
        result_of: dict[tuple[TokenIds, TokenIds], Scored] = {}
        for are_steady in (True, False):
            part = [pair for pair in unique if self._is_steady(sum(map(len, pair)) - 1) == are_steady]
            result_of |= zip(part, self._scored(part, are_steady=are_steady), strict=True)
        return [
            Loglikelihood(
                loglikelihood=result_of[pair].loglikelihood,
                is_greedy=result_of[pair].is_greedy,
                prompt_tokens=len(pair[0]),
                continuation_tokens=len(pair[1]),
                seconds=result_of[pair].seconds / times_asked[pair],
                truncated_tokens=len(full[0]) - len(pair[0]),
            )
            for pair, full in zip(pairs, whole, strict=True)
        ]

    @cached_property
    def _plain_ways(self) -> PlainWays:
        with torch.inference_mode():
            return ways_that_hold(self.model, self.max_rows, num_positions=self._steady_positions)

    def _pack(self, *, is_forced: bool) -> PackedModel | None:
        try:
            packed = PackedModel(self.model)
        except CannotPackError as error:
            self.path_reason = str(error)
        else:
            with torch.inference_mode():
                self.path_reason = reason_not_to_pack(packed)
                if self.path_reason is not None and packed.rows.spared_products:
                    packed.rows.modules.clear()  # perhaps its last layer is another one
                    self.path_reason = reason_not_to_pack(packed)
            if self.path_reason is None:
                return packed
        if is_forced:
            raise UserError(f"the model cannot run as packed rows: {self.path_reason}", 'use path="auto"')
        return None

    def _is_steady(self, num_positions: int) -> bool:
        """Whether a sequence of that length may run beside others (rotary.py)."""
        return self._steady_positions is None or num_positions <= self._steady_positions

    @torch.inference_mode()
    def _scored(self, pairs: Sequence[tuple[TokenIds, TokenIds]], *, are_steady: bool) -> list[Scored]:
        if not pairs:
            return []
        if not self._is_known_causal:
            must_be_causal(self.model, num_positions=self._steady_positions)
            self._is_known_causal = True
        if self._packed is not None and are_steady:
            before = self._packed.work
            scored = packed_logprobs(self._packed, pairs, self._pass_limits())
            work = self._packed.work - before
        else:
            limit = self.max_batch_tokens if are_steady else 1  # then each by itself
            scored, work = plain_logprobs(self.model, pairs, max_batch_tokens=limit)
        self.work += work + Work(tokens=sum(len(ids) for pair in pairs for ids in pair))
        return scored

    def _write(self, asked: Sequence[PromptRows], sampling: Sampling, rule: StopRule) -> list[list[Written]]:
        steady = [self._is_steady(len(prompt.ids) + prompt.max_new_tokens - 1) for prompt in asked]
        beside = [prompt for prompt, is_steady in zip(asked, steady, strict=True) if is_steady]
        write = self._write_plainly if self._packed is None else self._write_packed
        together = iter(write(beside, sampling, rule) if beside else [])
        written = [
            next(together) if is_steady else self._write_plainly([prompt], sampling, rule)[0]
            for prompt, is_steady in zip(asked, steady, strict=True)
        ]
        for prompt, rows in zip(asked, written, strict=True):
            self.work += Work(tokens=sum(len(prompt.ids) + len(row.ids) for row in rows))
        return written

    @torch.inference_mode()
    def _write_plainly(
        self, asked: Sequence[PromptRows], sampling: Sampling, rule: StopRule
    ) -> list[list[Written]]:
        written, work = plain_generate(self.model, asked, sampling, rule, self._plain_ways, self.num_tokens)
        self.work += work
        return written

    @torch.inference_mode()
    def _write_packed(
        self, asked: Sequence[PromptRows], sampling: Sampling, rule: StopRule
    ) -> list[list[Written]]:
        assert self._packed is not None
        num_samples = len(asked[0].streams)
        limits = DecodeLimits(
            passes=self._pass_limits(
                max_tokens=max(1, self.max_batch_tokens // 2),
                max_wanted=max(1, self.max_rows // 4 // num_samples),
            ),
            max_rows=self.max_rows,
            row_bytes=self._row_bytes(),
        )
        before = self._packed.work
        decoder = Decoder(
            packed=self._packed, prompts=asked, sampling=sampling, rule=rule, limits=limits,
            num_tokens=self.num_tokens,
        )  # fmt: skip
        written = decoder.run()
        self.work += self._packed.work - before
        return written

    def _row_bytes(self) -> int:
        """Memory for what rows have to themselves: beside the weights, little on a CPU, what is free on a GPU."""
        if self.model.device.type == "cuda":
            free_bytes, _ = torch.cuda.mem_get_info(self.model.device)
            return int(free_bytes * FREE_MEMORY_SHARE)
        weight_bytes: int = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return max(MIN_ROW_BYTES, weight_bytes // 4)

    def _pass_limits(self, *, max_tokens: int | None = None, max_wanted: int = 1 << 30) -> PassLimits:
        max_tokens = max_tokens or self.max_batch_tokens
        vocab_size = self.model.get_output_embeddings().weight.shape[0]
        return PassLimits(
            max_tokens=max_tokens,
            max_wanted=min(max_wanted, max(16, MAX_LOGIT_ELEMENTS // vocab_size)),
            group_tokens=max(1, max_tokens // 2),
            pairs_per_position=PAIRS_PER_UNIT_OF_WIDTH * self.model.get_input_embeddings().weight.shape[1],
        )

    def _reply(self, ids: TokenIds, row: Written, rule: StopRule, share: int) -> Reply:
        return Reply(
            text=rule.reply_text(row.ids),
            stop_reason=StopReason.STOP if row.is_stopped else StopReason.LENGTH,
            prompt_tokens=len(ids),
            generated_tokens=len(row.ids),
            prefill_seconds=None if row.prefill_seconds is None else row.prefill_seconds / share,
            decode_seconds=None if row.decode_seconds is None else row.decode_seconds / share,
        )

    def _fitted(self, prompt: TokenIds, continuation: TokenIds) -> tuple[TokenIds, TokenIds]:
        """The pair, without as many leading prompt tokens as do not fit. The last token is never fed."""
        if self.window_tokens is None:
            return prompt, continuation
        room = self.window_tokens + 1 - len(continuation)
        if room < 1:
            raise UserError(
                f"a continuation has {len(continuation)} tokens; the model's window is {self.window_tokens}",
                "score shorter texts, such as a long document in pieces",
            )
        return prompt[-room:], continuation

    def _room(self, ids: TokenIds) -> int:
        """How many tokens fit after this prompt."""
        return UNLIMITED_TOKENS if self.window_tokens is None else self.window_tokens - len(ids)

    def _too_long(self, ids: TokenIds) -> Reply:
        return Reply(
            text="",
            stop_reason=StopReason.ERROR,
            prompt_tokens=len(ids),
            generated_tokens=0,
            error=f"the prompt has {len(ids)} tokens, and the model's window is {self.window_tokens}",
        )


def load_backend(
    path_or_id: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    gguf_file: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    max_batch_tokens: int | None = None,
) -> TransformersBackend:
    """A backend from a directory, a hub id, or (with `gguf_file`, or a path that ends in .gguf) a GGUF file.

    Only safetensors are read, so loading a model cannot run its author's code (a pickle can); code that comes
    with a model is run only where `trust_remote_code` asks for it.
    """
    checkpoint = path_or_id if gguf_file is None else str(Path(path_or_id) / gguf_file)
    tokenizer = given_tokenizer(checkpoint, revision, trust_remote_code=trust_remote_code)
    model = given_model(
        checkpoint, revision, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
    )
    return TransformersBackend(model, tokenizer, device=device, max_batch_tokens=max_batch_tokens)
