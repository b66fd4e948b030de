"""bfloat16: near float32 where it is run, refused where the hardware is not known to have it."""

import pytest
import torch
from tests.distill.tiny_objective import bound, gradients, recipe, teacher_of, tiny

from stillmark.distill import objective_precision
from stillmark.distill.objective_precision import flags_of_cpu, require_precision
from stillmark.errors import UserError

CPU = torch.device("cpu")
PROCESSORS = {  # `flags` or `Features` as Linux writes them for each
    "Haswell": ("flags\t\t: fpu sse2 avx avx2 fma", False),
    "Ice Lake": ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
    "Cooper Lake": ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
    "Sapphire Rapids": ("flags\t\t: fpu avx2 amx_bf16 amx_tile", True),
    "Neoverse N1": ("Features\t: fp asimd aes crc32", False),
    "Neoverse V1": ("Features\t: fp asimd sve bf16 i8mm", True),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_cpu_is_asked_for_its_flags(name, tmp_path):
    line, has_it = PROCESSORS[name]
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: bf16 {name}\n{line}\n")
    flags = flags_of_cpu(tmp_path / "cpuinfo")
    require_precision("float32", CPU, lambda: flags)
    if has_it:
        require_precision("bfloat16", CPU, lambda: flags)
    else:
        with pytest.raises(UserError, match="this cpu is not known to multiply it in hardware"):
            require_precision("bfloat16", CPU, lambda: flags)


def test_what_is_not_known_is_refused(tmp_path):
    assert flags_of_cpu(tmp_path / "missing") == frozenset()
    with pytest.raises(UserError, match="bfloat16"):
        require_precision("bfloat16", CPU, frozenset)
    with pytest.raises(UserError, match="this xpu is not known"):
        require_precision("bfloat16", torch.device("xpu"))


@pytest.mark.parametrize(
    "fields", [{}, {"loss": "jsd", "cross_entropy_weight": 0.2}, {"loss": "forward_kl", "hidden_states": {}}]
)
def test_forward_and_loss_are_near_those_in_float32(fields, monkeypatch):
    """Emulated where this CPU lacks it, to the same rounding. Weights and gradients stay in float32."""
    results = []
    for precision in ("float32", "bfloat16"):
        monkeypatch.setattr(objective_precision, "flags_of_cpu", lambda: frozenset({"avx512_bf16"}))
        wanted = recipe(precision=precision, **fields)
        student = tiny("llama", dtype=torch.float32)
        teacher = teacher_of(tiny("llama", seed=7, width=12, layers=3, dtype=torch.float32))
        objective = bound(wanted, student, teacher if wanted.needs_logits else None)
        value, got = gradients(objective, student)
        assert all(gradient.dtype == torch.float32 for gradient in got)
        results.append((value, torch.cat([gradient.flatten() for gradient in got])))
    (exact, exact_gradient), (value, gradient) = results
    assert 0 < abs(value - exact) < 0.02 * exact
    cosine = torch.nn.functional.cosine_similarity(gradient, exact_gradient, dim=0)
    assert 0.995 < float(cosine) < 0.9999999


def test_refused_when_the_student_is_bound(monkeypatch):
    monkeypatch.setattr(objective_precision, "flags_of_cpu", frozenset)
    with pytest.raises(UserError, match="precision: `bfloat16`"):
        bound(recipe(precision="bfloat16"), tiny())
