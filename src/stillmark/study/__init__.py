"""The study: one YAML file, checked whole before anything runs."""

from stillmark.study.load import load_study, study_from_text
from stillmark.study.schema import Arm, Conclusion, ModelSpec, PublishedStudy, Recipe, Study, Traces

__all__ = [
    "Arm",
    "Conclusion",
    "ModelSpec",
    "PublishedStudy",
    "Recipe",
    "Study",
    "Traces",
    "load_study",
    "study_from_text",
]
