"""How near the captured logits that an arm learnt from are to its teacher's own, for its card."""

import torch

from stillmark.distill.cache_fidelity import CacheFidelity, cache_fidelity
from stillmark.distill.head import checked_output_head
from stillmark.errors import UserError
from stillmark.evaluate.text_quality import hidden_states_of
from stillmark.plan import Plan
from stillmark.records import Store
from stillmark.report.words import percent
from stillmark.stages.adopt import final_model
from stillmark.stages.text import corpus_for, open_cache

NUM_SEQUENCES = 8  # spread over the training text


def fidelity_of(arm: str, seed: int, plan: Plan, store: Store) -> CacheFidelity:
    """On a few sequences of the training text, with the gradient as the arm's last checkpoint has it."""
    job = plan.jobs[plan.train_keys[arm, seed]]
    teacher_arm = plan.study.arms[arm].teacher
    assert teacher_arm is not None, arm
    sequences = corpus_for(plan, arm).train
    step = max(1, len(sequences) // NUM_SEQUENCES)
    chosen = range(0, len(sequences), step)[:NUM_SEQUENCES]
    hidden, heads = [], []
    for key in (plan.train_keys[teacher_arm, seed], job.key):
        model = final_model(store, key)
        hidden.append(torch.cat([hidden_states_of(model, sequences[index]) for index in chosen]))
        heads.append(checked_output_head(model).detach())
    return cache_fidelity(
        open_cache(job, plan, store), chosen,
        teacher_hidden_LE=hidden[0], teacher_head=heads[0], student_hidden_LD=hidden[1], student_head=heads[1],
    )  # fmt: skip


def fidelity_section(arm: str, seed: int, plan: Plan, store: Store) -> str:
    """Of a model card; where the cache or a model is gone, it is said that nothing is known."""
    try:
        lines = fidelity_lines(fidelity_of(arm, seed, plan, store))
    except UserError as error:
        lines = [f"How near it was to its teacher is unknown: {error.message}", ""]
    return "\n".join(["## The logit cache that it learnt from", "", *lines])


def fidelity_lines(found: CacheFidelity) -> list[str]:
    """What was found, in Markdown."""
    lines = [
        f"{found.bytes_per_token:.1f} bytes a token on disk. Over {found.num_positions:,} positions of the training "
        "text, held against the live teacher:",
        "",
    ]
    if found.mass_kept is not None:
        lines += [f"- probability kept: {percent(found.mass_kept)}, at the least {percent(found.mass_kept_lowest)}; "
                  f"KL of storing it: {found.stored_kl:.2g} nats a token"]  # fmt: skip
    return [
        *lines,
        f"- forward KL of this model from the live teacher {found.live_divergence:.4g}, from the cache "
        f"{found.cached_divergence:.4g} nats a token",
        f"- gradient to its head: cosine {found.gradient_cosine:.4f}, error {percent(found.gradient_relative_error)}; "
        f"to single tokens: error {percent(found.token_gradient_relative_error)}",
        "",
    ]
