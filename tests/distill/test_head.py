"""The head that is read from a model gives the model's own logits."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from stillmark.distill.head import checked_output_head, output_head
from stillmark.errors import UserError

SIZES = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
MODELS = [
    ("llama", {}),
    ("qwen2", {}),
    ("gemma2", {"final_logit_softcapping": 3.0}),
    ("cohere", {"logit_scale": 0.3}),
    ("granite", {"logits_scaling": 4.0}),
    ("phi", {}),  # its head has a bias
]


@pytest.mark.parametrize(("model_type", "options"), MODELS)
def test_projects_as_the_model_does(model_type, options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SIZES, **options))
    model = model.double().eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        hidden = model.base_model(ids).last_hidden_state
        expected = model(ids).logits
        got = output_head(model).project(hidden.flatten(0, 1), torch.empty(12, 40, dtype=torch.float64))
    # Some models turn their logits into float32 on the way.
    torch.testing.assert_close(got, expected.flatten(0, 1).double(), rtol=1e-6, atol=1e-6)


def test_a_head_that_is_not_linear_is_refused():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(UserError, match="its output head is Sequential"):
        output_head(model)


def test_a_model_that_changes_its_logits_in_another_way_is_found():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    assert checked_output_head(model).weight is model.lm_head.weight
    model.lm_head.register_forward_hook(lambda module, inputs, output: 1.01 * output)
    with pytest.raises(UserError, match="its logits are not its hidden states times its head"):
        checked_output_head(model)
