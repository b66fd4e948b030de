"""The shipped paper study is read by the settings, and a fault in it is refused."""

import pytest
import yaml
from pydantic import ValidationError
from tests.paths import ROOT

from stillmark.analysis.claims import study_claims
from stillmark.errors import UserError
from stillmark.published.settings import PublishedSettings

STUDY = yaml.safe_load((ROOT / "studies/paper.yaml").read_text())


def test_the_shipped_study_is_whole():
    assert set(STUDY) == {"name", "published"}
    settings = PublishedSettings.model_validate(STUDY["published"])
    assert settings.allow_mixed_methods
    ratios = {item.inputs.model.id: item for item in study_claims(settings).ratios}
    assert ratios["openthinker-32b"].inputs.inputs["epochs"].high == 3
    assert ratios["openthinker-7b"].inputs.inputs["epochs"].high == 5


@pytest.mark.parametrize(
    "section",
    [
        {"claim": {}},
        {"assumed": {"epochs": {"low": 3, "high": 1, "basis": "upside down"}}},
        {"assumed": {"epochs": {"low": 1, "high": 3}}},
        {"hours": {"student_mfu": 40}},
    ],
)
def test_a_fault_is_refused(section):
    with pytest.raises(ValidationError):
        PublishedSettings.model_validate(section)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"headline_model": "llama-9"}, "no model `llama-9`"),
        ({"headline_model": "gemma-2-9b"}, "no compute ratio"),
        ({"reference_family": "qwen9"}, "families: deepseek"),
        ({"assumed_for": {"qwen9-8b": {}}}, "no model `qwen9-8b`"),
    ],
)
def test_a_name_that_is_not_there_is_refused(section, message):
    with pytest.raises(UserError, match=message):
        study_claims(PublishedSettings.model_validate(section))
