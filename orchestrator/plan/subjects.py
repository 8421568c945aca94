"""What a stage is made for, as JSON data that manifests keep."""

from __future__ import annotations

from search_spaces import Stage

SubjectFields = dict[str, str | float | int | None]


def subject_fields(stage: Stage) -> SubjectFields:
    """The identifying fields of what a stage is made for, without its settings.

    Of an operating point `OperatingPoint.fields`; else `codec` (its label) and `lmbda`; and
    `task` and `benchmark`, each where there is one. The variant is left out: it is a name for
    settings. Two stages of one kind and equal fields differ in settings, inputs or the version of
    their code.
    """
    subject, fields = stage.subject, SubjectFields()
    if subject.point is not None:
        fields |= {k: v for k, v in subject.point.fields.items() if k != "variant"}
    elif subject.codec is not None:
        fields |= {"codec": subject.codec.label, "lmbda": subject.lmbda}
    if "task" in stage.spec:
        fields["task"] = str(stage.spec["task"])
    if subject.benchmark is not None:
        fields["benchmark"] = subject.benchmark.label
    return fields
