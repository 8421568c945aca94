"""Pretrained models, with an optional display name for curves and files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from search_spaces.settings.paths import LocationOrName, short_name
from search_spaces.specs.base import Spec

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]*$")]
"""Letters, digits, `.`, `_`, `+` and `-`; empty for the model's own path or id."""


class MllmSpec(Spec):
    """An MLLM that answers; a text stands for `{model: TEXT}`."""

    model: LocationOrName
    """`shipped:NAME`, a local directory or a hub id of a transformers MLLM: `ORG/MODEL`, or
    `ORG/MODEL@REVISION` with a branch, a tag or a commit."""
    name: ModelName = ""
    """The `mllm` in points and plots; empty for the hub id or the directory's name."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or short_name(self.model)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"model": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_text(self, dump: SerializerFunctionWrapHandler) -> object:
        return dump(self) if self.name else self.model
