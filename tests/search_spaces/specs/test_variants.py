"""Variants: ordinary spaces that share what they do not touch; and spaces that extend others."""

from pathlib import Path

import pytest

from search_spaces import (
    OperatingPoint,
    Space,
    SpaceError,
    Stages,
    evaluation_stage,
    load_space,
    operating_points,
    point_stage,
    select,
    variants_of,
)

DEPTH = "variants={k1: {teacher.block: 1}, k2: {}, slow: {d2: {gamma: 7}, teacher.block: 1}}"


@pytest.fixture
def space() -> Space:
    return load_space("smoke", [DEPTH, "baselines=[uncompressed, reconstruction]"])


def label(space: Space, scenario: str) -> set[str]:
    return {p.variant for p in operating_points(space) if p.scenario == scenario}


def test_a_variant_is_the_space_that_its_settings_make(space: Space) -> None:
    base = ["baselines=[uncompressed, reconstruction]"]
    assert space.of("k2") == load_space("smoke", base)
    assert space.of("k1") == load_space("smoke", [*base, "teacher.block=1"])
    assert space.of("slow") == load_space("smoke", [*base, "teacher.block=1", "d2.gamma=7"])
    assert space.of("slow+k1") == space.of("slow")
    assert space.of("k1").of("k1") == space.of("k1")
    with pytest.raises(ValueError, match=r"'k3'.* k1, k2, slow"):
        space.of("k3")


def test_a_point_stands_once_under_the_variants_that_share_it(space: Space) -> None:
    assert label(space, "uncompressed") == label(space, "reconstruction") == {""}
    assert label(space, "d1") == {"k1+slow", "k2"}
    assert label(space, "d2") == {"k1", "k2", "slow"}
    assert label(space, "d3") == {"k1+slow", "k2"}
    points, stages = operating_points(space), Stages(space)
    assert len({point_stage(stages, point).key for point in points}) == len(points)
    # uncompressed; per lambda reconstruction, 2 d1, 3 d2, 2 d3
    assert len(points) == 1 + 2 * 8


@pytest.mark.parametrize("setting", ["surrogate.double_norm: true", "surrogate.templates: plain"])
def test_a_point_that_variants_measure_in_several_ways_is_there_for_each(setting: str) -> None:
    folder = "data={kind: folder, uri: /a/folder, size: 64, train: 5, val: 2, test: 3}"
    space = load_space(
        "smoke",
        [
            *(folder, "tasks=[classification]", "scenarios=[]", "surrogate.pooled=0"),
            f"variants={{plain: {{}}, other: {{{setting}}}, same: {{teacher.block: 1}}}}",
        ],
    )
    for scenario in ("uncompressed", "reconstruction"):
        assert label(space, scenario) == {"plain+same", "other"}
    by_mllm = load_space("smoke", [f"variants={{plain: {{}}, other: {{{setting}}}}}"])
    read = {"surrogate.double_norm: true": {"plain", "other"}, "surrogate.templates: plain": {""}}
    assert label(by_mllm, "reconstruction") == read[setting], "an MLLM reads no texts"


def test_keys_are_those_of_the_same_settings_without_variants(space: Space) -> None:
    stages = Stages(space, {"shipped:clip-scenes": "sha256:1"})
    for override, variant in (("teacher.block=1", "k1"), ("teacher.block=2", "k2")):
        plain = Stages(load_space("smoke", [override]), {"shipped:clip-scenes": "sha256:1"})
        for scenario in ("reconstruction", "d1", "d2", "d3"):
            point = OperatingPoint(space.codecs[0], 0.02, scenario, 0, variant)
            assert point_stage(stages, point).key == point_stage(plain, point).key
            for one in plain.space.measurements:
                assert (
                    evaluation_stage(stages, point, one).key
                    == evaluation_stage(plain, point, one).key
                )


def test_stages_below_are_shared_too(space: Space) -> None:
    stages = Stages(space)
    owners = variants_of(stages)
    codec = space.codecs[0]
    assert owners[stages.train_images().key] == ""
    assert owners[stages.features().key] == ""
    assert owners[stages.codec(codec, 0.02).key] == ""
    assert owners[stages.latents(codec, 0.02).key] == ""
    wide = load_space("smoke", ["variants={narrow: {}, wide: {codecs.0.N: 24}}"])
    own = Stages(wide)
    assert (
        variants_of(own)[own.of("wide").codec(own.of("wide").space.codecs[0], 0.02).key] == "wide"
    )
    assert label(wide, "reconstruction") == {"narrow", "wide"}


def test_a_point_says_its_variant_only_where_there_is_one(space: Space) -> None:
    by_scenario = {(p.scenario, p.variant): p for p in operating_points(space)}
    d2 = by_scenario["d2", "slow"]
    assert d2.fields["variant"] == "slow"
    assert d2.label == "hyperprior d2 slow lambda=0.02 seed=0"
    assert "variant" not in by_scenario["reconstruction", ""].fields


def test_only_a_variant_keeps_what_it_shares(space: Space) -> None:
    kept = select(operating_points(space), ["variant=k1", "lmbda=0.02"])
    assert {(p.scenario, p.variant) for p in kept} == {
        ("reconstruction", ""),
        ("d1", "k1+slow"),
        ("d2", "k1"),
        ("d3", "k1+slow"),
    }
    with pytest.raises(ValueError, match=r"variant k7.* k1, k2, slow"):
        select(operating_points(space), ["variant=k7"])


@pytest.mark.parametrize(
    ("variants", "lines"),
    [
        (
            "{a: {teacher.blok: 1}, b: {teacher.block: -1, d1.lr: fast}}",
            [
                "(did you mean 'block'?); valid: model, name, block",
                "variants.b: teacher.block = -1: ",
                "variants.b: d1.lr = 'fast': ",
            ],
        ),
        ("{a: {data.train: 3}, b: {}}", ["variants.a: data.train = 3: "]),
        ("{a: {tacher.block: 3}, b: {}}", ["did you mean 'teacher'"]),
        ("{a: {codecs.4.N: 3}, b: {}}", ["variants.a: codecs.4.N = 3: "]),
        ("{a: {}, b: {teacher.block: 2}}", ["variants: a and b "]),
        ("{a: {}}", ["variants: a "]),
        ("{'a+b': {}, c: {}}", ["variants.a+b"]),
        ("{a: {neck: {layers: 3, init: encoder}}, b: {}}", ["variants.a: neck.layers 3:"]),
    ],
)
def test_a_bad_variant_is_named_with_its_setting_value_and_choices(
    variants: str, lines: list[str]
) -> None:
    with pytest.raises(SpaceError) as error:
        load_space("smoke", [f"variants={variants}"])
    mistakes = sorted(str(error.value).splitlines())
    assert len(mistakes) == len(lines)
    for mistake, expected in zip(mistakes, sorted(lines), strict=True):
        assert expected in mistake


def test_a_space_extends_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: smoke\ncodecs.0.lambdas: [0.5]\nd1: {steps: 3}\nscenarios: [d1]\n"
    )
    (tmp_path / "yours.yaml").write_text("extends: mine.yaml\ndescription: x\nd1.lr: 0.5\n")
    found = load_space(str(tmp_path / "yours.yaml"), ["seeds=[3]"])
    expected = load_space(
        "smoke",
        [
            *("name=yours", "description=x", "codecs.0.lambdas=[0.5]", "d1.steps=3"),
            *("scenarios=[d1]", "d1.lr=0.5", "seeds=[3]"),
        ],
    )
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: dmeo", "space 'dmeo': .*'demo'"),
        ("extends: other.yaml", "space 'other.yaml': "),
        ("extends: [demo]", "extends = .'demo'."),
        ("extends: mine.yaml", r"space 'mine.yaml'.* -> "),
        ("extends: smoke\ncodecs.3.N: 1", "codecs .*0 to 0"),
        ("extends: smoke\ndata.trian: 1", "trian.*'train'"),
    ],
)
def test_what_cannot_be_extended_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SpaceError, match=message):
        load_space(str(tmp_path / "mine.yaml"))


def test_the_papers_ablations_vary_what_their_names_say() -> None:
    paper = load_space("paper")
    depth = load_space("ablation-depth")
    assert [depth.of(name).teacher.block for name in depth.variants] == list(range(9))

    tradeoff = load_space("ablation-tradeoff")
    for name in tradeoff.variants:
        gamma, delta = map(float, name.split(":"))
        own = tradeoff.of(name).d2
        assert own.gamma / own.delta == pytest.approx(gamma / delta)
        assert own == paper.d2.model_copy(update={"gamma": own.gamma})

    loss = load_space("ablation-loss")
    phases = {name: loss.of(name).surrogate.phases for name in loss.variants}
    assert phases["progressive"] == paper.surrogate.phases
    for name, own in phases.items():
        if ":" in name:
            alpha, beta = map(float, name.split(":"))
            assert own[1].distill / own[1].ce == pytest.approx(beta / alpha)
        if name.startswith("E1"):
            ends = tuple(float(part.partition("-")[2]) for part in name.split("_"))
            assert tuple(60 * phase.until for phase in own[:2]) == pytest.approx(ends)
    rest = {name: loss.of(name).model_dump(exclude={"surrogate"}) for name in loss.variants}
    assert all(one == rest["progressive"] for one in rest.values())
