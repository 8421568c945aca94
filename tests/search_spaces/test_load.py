"""Spaces are read from names and files; every mistake is said at once, with the valid choices."""

import time
from pathlib import Path

import pytest

from search_spaces import SpaceError, load_space, named_spaces
from search_spaces.specs.data import DataSpec


def test_every_named_space_loads_and_says_what_it_is() -> None:
    spaces = named_spaces()
    assert {"demo", "smoke"} <= set(spaces)
    for name, description in spaces.items():
        assert load_space(name).name == name
        assert description


def test_a_few_lines_are_a_space(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("codecs: [{arch: mbt2018-mean, lambdas: [0.01]}]\nmllms: [some/model]\n")
    space = load_space(str(file))
    assert space.name == "mine"
    assert space.scenarios == ("d1", "d2", "d3")


def test_overrides_are_typed() -> None:
    space = load_space("smoke", ["d1.steps=3", "codecs.0.lambdas=[0.5]", "scenarios=[d1]"])
    assert space.d1.steps == 3
    assert space.codecs[0].lambdas == (0.5,)
    assert space.scenarios == ("d1",)


def test_all_mistakes_are_said_at_once_with_the_choices() -> None:
    wrong = ["codecs.0.arch=jpeg", "data.trian=3", "scenarios=[d9]", "d1.steps=0"]
    with pytest.raises(SpaceError) as error:
        load_space("smoke", wrong)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    text = str(error.value)
    assert "codecs.0.arch" in text
    assert "'jpeg'" in text
    assert "mbt2018-mean" in text
    assert "did you mean 'train'?" in text
    assert "no scenario 'd9'" in text
    assert "reconstruction, shared_neck" in text, "the installed ones are listed"
    assert "d1.steps = 0" in text


@pytest.mark.parametrize(
    ("space", "overrides", "message"),
    [
        ("dmeo", [], "dmeo.*'demo'"),
        ("missing.yaml", [], "missing.yaml"),
        ("smoke", ["d1.steps"], "key.path=value"),
        ("smoke", ["codecs.7.N=3"], "codecs.7.N=3.* 0 to 0"),
        ("smoke", ["codecs.².N=3"], "codecs.².N=3.* 0 to 0"),
        ("smoke", ["codecs.٠.N=3"], "codecs.٠.N=3.* 0 to 0"),
        ("smoke", [f"codecs.{'9' * 5000}.N=3"], "0 to 0"),
        ("smoke", ["codecs=[]", "codecs.0.N=3"], "codecs has no items"),
        ("smoke", ["name.first=3"], "name.first=3"),
        ("x" * 300 + ".yaml", [], "no such file"),
        ("a/" * 3000 + "x.yaml", [], "no such file"),
        ("/dev/zero.yaml", [], "no such file"),
        ("\udcff.yaml", [], "no such file"),
        ("smoke", ["d1.steps=1e3"], r"d1\.steps = '1e3': .* write 1\.0e\+3 or 1000"),
        ("smoke", ["d1.steps=2.5e3"], r"write 2\.5e\+3 or 2500"),
        ("smoke", ["d1.steps=1e900"], r"write 1\.0e\+900$"),
        ("smoke", ["d1.steps=[1"], r"d1\.steps=\[1.*YAML"),
    ],
)
def test_what_cannot_be_read_is_explained(space: str, overrides: list[str], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        load_space(space, overrides)


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "9" * 400 + ".0", "1e400"])
@pytest.mark.parametrize(
    "setting",
    [
        "d1.lr={}",
        "codecs.0.lambdas=[{}]",
        "codecs.0.train.lr={}",
        "d1.grad_clip={}",
        "surrogate.tokens={}",
        "resources.by_kind.d1.gpus_per_worker={}",
        "search={{over: {{d1.lr: {{uniform: [0.1, {}]}}}}}}",
        "search={{over: {{d1.lr: {{choice: [0.1, {}]}}}}}}",
    ],
)
def test_no_setting_is_infinite_or_not_a_number(setting: str, number: str) -> None:
    with pytest.raises(SpaceError) as error:
        load_space("smoke", ["scenarios=[d1]", "baselines=[]", setting.format(number)])
    for line in str(error.value).splitlines():
        assert setting.partition("=")[0].split(".")[0] in line
        assert "finite" in line or "greater than" in line, line


def test_numbers_that_yaml_reads_as_yaml_says_are_taken(tmp_path: Path) -> None:
    assert load_space("smoke", ["d1.steps=1.0e+3"]).d1.steps == 1000
    assert load_space("smoke", ["d1.lr=1e-3"]).d1.lr == 0.001


def test_broken_yaml_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("codecs: [")
    with pytest.raises(SpaceError, match=r"broken\.yaml.*YAML"):
        load_space(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"seeds: [0]\nd1: {steps: 4}\nseeds: [1]\n", "'seeds' is given twice"),
        (b"extends: smoke\nd1: {steps: 4, lr: 0.1, steps: 5}\n", "'steps' is given twice"),
    ],
)
def test_a_file_that_says_nothing_definite_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(SpaceError, match=message):
        load_space(str(file))


def test_mappings_may_be_merged_and_changed(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    shared = "d1: &shared {steps: 4, lr: 0.01}\nd2: {<<: *shared, steps: 5}\n"
    file.write_text("extends: smoke\n" + shared)
    space = load_space(str(file))
    assert (space.d1.steps, space.d2.steps, space.d2.lr) == (4, 5, 0.01)


def test_data_of_another_kind_take_the_place_of_those_extended(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: demo\ndata: {kind: tabletop, test: 8}\ntasks: [reading]\n")
    assert load_space(str(file)).data == DataSpec(kind="tabletop", test=8)
    file.write_text("extends: demo\ndata: {kind: scenes, test: 8}\n")
    demo = load_space("demo").data
    assert load_space(str(file)).data == demo.model_copy(update={"test": 8})


def _aliases(first: str, each: str) -> str:
    """Nine levels, each of which has nine times the one before."""
    levels = [each.format(", ".join([f"*a{level}"] * 9)) for level in range(9)]
    lines = [f"a{level + 1}: &a{level + 1} {text}" for level, text in enumerate(levels)]
    return "\n".join([f"a0: &a0 {first}", *lines])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_aliases("[x, x]", "[{}]"), "more than 20000 values"),
        (_aliases("{x: 1}", "{{<<: [{}]}}"), "more than 20000 values"),
        ("a: [" + "1, " * 300_000 + "1]", "more than 20000 values"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 40 levels"),
        ("{a: " * 3000 + "1" + "}" * 3000, "more than 40 levels"),
        ("- " * 3000 + "1", "more than 40 levels"),
        ("tasks: &t [*t]", r"\*t stands within itself"),
        ("d1: &t {steps: *t}", r"\*t stands within itself"),
        ("d1: &t {<<: *t}", r"\*t stands within itself"),
        ("seeds: [" + "9" * 5000 + "]", "more than 40 digits"),
        ("seeds: [0x" + "f" * 5000 + "]", "more than 40 digits"),
        ("seeds: [" + "9:" * 2000 + "9]", "more than 40 digits"),
        ("name: 2026-13-45", "month"),
        ("name: !!timestamp tomorrow", "not valid YAML"),
        ("x" * 1_000_001, "more than 1000000 letters"),
    ],
)
def test_data_without_end_is_refused_at_once_in_one_line(
    text: str, message: str, tmp_path: Path
) -> None:
    """Resource use is bounded before any of it is made: `&a [*b, *b, ...]` has 9^9 values."""
    file = tmp_path / "large.yaml"
    file.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(SpaceError, match=message) as error:
        load_space(str(file))
    assert time.process_time() - began < 5.0
    (line,) = str(error.value).splitlines()
    assert "large.yaml" in line
    if len(text) < 100_000:
        with pytest.raises(SpaceError, match=message):
            load_space("smoke", [f"d1={text}"])


def test_what_an_alias_names_is_read_as_often_as_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text(
        "extends: smoke\nd1: &training {steps: 4, lr: 0.125}\nd2: {<<: *training, steps: 5}\n"
    )
    space = load_space(str(file))
    assert (space.d1.steps, space.d2.steps, space.d2.lr) == (4, 5, 0.125)
