"""The study: one YAML file, checked whole before anything runs."""

from stillmark.study.load import load_study, study_from_text
from stillmark.study.recipe import Control, LogitCache, OnPolicy, Recipe, Traces
from stillmark.study.schema import (
    Arm,
    Conclusion,
    GivenModel,
    ModelSpec,
    PrunedModel,
    PublishedStudy,
    Study,
    Text,
    TextFile,
)

__all__ = [
    "Arm",
    "Conclusion",
    "Control",
    "GivenModel",
    "LogitCache",
    "ModelSpec",
    "OnPolicy",
    "PrunedModel",
    "PublishedStudy",
    "Recipe",
    "Study",
    "Text",
    "TextFile",
    "Traces",
    "load_study",
    "study_from_text",
]
