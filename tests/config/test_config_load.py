from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mini_bert.config.load import dump_config, load_config
from mini_bert.config.presets import preset_names, preset_purpose
from mini_bert.config.schema import Config, ModelConfig, TrainConfig
from mini_bert.config.validate import problems_of
from mini_bert.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_nothing_given_is_the_default_model_of_2_966_144_parameters():
    model = load_config().model
    sizes = (model.num_hidden_layers, model.hidden_size, model.num_attention_heads, model.intermediate_size)
    assert (*sizes, model.max_position_embeddings, model.vocab_size) == (3, 192, 4, 768, 64, 8192)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("debug", (2, 32, 2, 64, 32, 512)),
        ("tiny", (2, 96, 2, 384, 64, 8192)),
        ("small", (2, 128, 2, 512, 64, 8192)),
        ("base", (3, 192, 4, 768, 64, 8192)),
        ("large", (4, 256, 4, 1024, 64, 8192)),
    ],
)
def test_model_presets_have_their_published_sizes(name, sizes):
    model = load_config([f"model/{name}"]).model
    got = (model.num_hidden_layers, model.hidden_size, model.num_attention_heads, model.intermediate_size)
    assert (*got, model.max_position_embeddings, model.vocab_size) == sizes


def test_every_preset_loads_and_says_what_it_is_for():
    assert {name.partition("/")[0] for name in preset_names()} == {"model", "training", "evaluation"}
    for name in preset_names():
        assert isinstance(load_config([name]), Config)
        assert len(preset_purpose(name)) > 20


def test_pretraining_has_no_dropout_and_finetuning_has_that_of_the_paper():
    assert load_config(["training/pretraining"]).model.hidden_dropout_prob == 0
    assert load_config(["training/pretraining"]).model.attention_probs_dropout_prob == 0
    assert load_config(["training/finetuning"]).model.hidden_dropout_prob == 0.1
    assert load_config(["training/finetuning"]).model.attention_probs_dropout_prob == 0.1


def test_later_sources_win_setting_by_setting_and_overrides_win_over_all(write):
    first = write("model: {hidden-size: 64}\ntrain: {lr: 1e-3, batch_size: 32}", "first.yaml")
    second = write("train: {lr: 2e-3}", "second.yaml")
    config = load_config([first, second], {"train.batch-size": 16, "optimizer": {"beta1": 0.8}})
    assert config.model.hidden_size == 64
    assert config.train.lr == 2e-3
    assert config.train.batch_size == 16
    assert config.optimizer.beta1 == 0.8
    assert load_config([second, first]).train.lr == 1e-3


def test_extends_reads_presets_and_neighbouring_files_first(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write("train: {lr: 5e-4, batch_size: 12}", "house.yaml")
    mine = write("extends: [model/tiny, house.yaml]\ntrain: {lr: 3e-4}")
    config = load_config([mine])
    assert (config.model.hidden_size, config.train.batch_size, config.train.lr) == (96, 12, 3e-4)


def test_an_exponent_that_yaml_takes_for_text_becomes_a_number(write):
    assert yaml.safe_load("lr: 1e-3") == {"lr": "1e-3"}
    assert load_config([write("train: {lr: 1e-3}")]).train.lr == 0.001


def test_one_name_stands_for_a_list_and_a_bare_heading_for_nothing(write):
    config = load_config([write("data: {corpus: novels}\nmodel:\n")])
    assert config.data.corpus == ("novels",)
    assert config.model == ModelConfig()


def test_a_later_choice_of_steps_replaces_minutes_and_the_other_way_round():
    assert load_config(["training/pretraining"]).train.minutes == 10
    train = load_config(["training/pretraining"], {"train.steps": 7}).train
    assert (train.steps, train.minutes) == (7, None)
    train = load_config(["training/debugging"], {"train.minutes": 1.5}).train
    assert (train.steps, train.minutes) == (None, 1.5)


@pytest.mark.parametrize("explain", [False, True])
def test_a_dumped_configuration_reads_back_to_the_same(write, explain):
    config = load_config(["training/debugging"], {"train.lr": 1.7e-5, "data.corpus": ["brown=2", "my file.txt"]})
    assert load_config([write(dump_config(config, explain=explain))]) == config


REFUSED = {
    "unknown setting": ("model:\n  hiden-size: 3", ["model.hiden_size", "mine.yaml", "'hidden_size'"]),
    "unknown section": ("modle:\n  hidden_size: 3", ["modle", "'model'"]),
    "setting without its section": ("hidden_size: 3", ["hidden_size", "section model"]),
    "setting in another section": ("train: {hidden_size: 3}", ["train.hidden_size", "section model"]),
    "heads do not divide width": ("model: {hidden_size: 190}", ["model.hidden_size", "got 190", "multiple of num_att"]),
    "word for a number": ("train: {lr: fast}", ["train.lr", "'fast'", "number"]),
    "yes for a number": ("train: {steps: yes}", ["train.steps", "True", "number"]),
    "not a number": ("train: {lr: .nan}", ["train.lr", "nan", "finite"]),
    "infinite": ("train: {lr: .inf}", ["train.lr", "inf", "finite"]),
    "below its bound": ("train: {in_flight: 0}", ["train.in_flight", "got 0", "at least 1"]),
    "above its bound": ("masking: {rate: 1.5}", ["masking.rate", "got 1.5", "less than 1"]),
    "not one of the choices": ("model: {heads: [mlm, nps]}", ["model.heads", "'nps'", "'nsp'"]),
    "empty corpus": ("data: {corpus: []}", ["data.corpus", "at least 1"]),
    "shares above one": ("masking: {mask_share: 0.95}", ["mask_share", "0.95", "at most 1"]),
    "collocations of a word": ("masking: {kind: pmi, span_max: 1}", ["span_max", "got 1", "at least 2"]),
    "two budgets": ("train: {steps: 5, minutes: 3}", ["train.steps", "minutes 3", "one of the two"]),
    "empty shard": ("train: {batch_size: 2}", ["train.batch_size", "got 2", "shards, 4"]),
    "scalar for a section": ("model: 3", ["model", "got 3", "indented"]),
    "empty file": ("", ["mine.yaml", "empty file"]),
    "only comments": ("# nothing\n", ["mine.yaml", "expected a YAML mapping"]),
    "a list": ("- 1\n- 2", ["[1, 2]", "mapping"]),
    "broken": ("model: [", ["line 1", "mapping"]),
    "key twice": ("train:\n  batch-size: 8\n  batch_size: 9", ["'batch_size' twice", "line 3"]),
    "number as a key": ("1: 2", ["1 in", "unknown section"]),
    "list as a key": ("? [a]\n: b", ["unhashable", "line 1"]),
    "control character": ("model: \x01", ["'\\x01'"]),
    "wrong encoding": ("name: é".encode("latin-1"), ["not UTF-8"]),
    "binary": (bytes(range(256)), ["mine.yaml"]),
    "python object": ("!!python/object/apply:os.system ['touch /tmp/never']", ["tag", "refused"]),
    "alias": ("train: &a {lr: 1}\nmodel: *a", ["alias", "line 2"]),
    "alias bomb": ("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]", ["alias", "line 2"]),
    "merge bomb": ("a: &a {x: 1}\nb: &b {<<: [*a, *a]}", ["alias"]),
    "deep": ("[" * 5000, ["RecursionError"]),
    "huge integer": (f"model: {{vocab_size: {'9' * 5000}}}", ["mine.yaml"]),
    "huge integer to the base of 60": (f"train:\n  steps: {'1:' * 9000}1", ["a number beyond 2^128", "line 2"]),
    "huge integer in hexadecimal": (f"train:\n  steps: 0x{'f' * 9000}", ["a number beyond 2^128", "line 2"]),
    "huge file": (f"# {'x' * 70_000}", ["32,768 bytes"]),
    "no such date": ("model: {hidden_size: 2001-99-01}", ["mine.yaml"]),
    "extends a number": ("extends: 3", ["extends in", "got 3"]),
    "extends nothing": ("extends: trainig/pretraining", ["'training/pretraining'"]),
    "extends itself": ("extends: mine.yaml", ["mine.yaml → mine.yaml", "no cycle"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_yaml_is_refused_with_its_reason(write, case):
    text, reasons = REFUSED[case]
    path = write(text)
    assert problems_of(path)
    with pytest.raises(ConfigError) as refused:
        load_config([path])
    for reason in reasons:
        assert reason in str(refused.value)
    assert "pydantic" not in str(refused.value)


def test_a_cycle_over_two_files_is_refused(write):
    write("extends: two.yaml", "one.yaml")
    with pytest.raises(ConfigError, match=r"two\.yaml → one\.yaml → two\.yaml"):
        load_config([write("extends: one.yaml", "two.yaml")])


@pytest.mark.parametrize(
    ("source", "reason"),
    [("model/tyni", "Did you mean 'model/tiny'"), ("none.yaml", "no such file"), ("/", "a folder"), ("a\0", "no such")],
)
def test_a_source_that_does_not_exist_is_refused(source, reason):
    with pytest.raises(ConfigError, match=reason):
        load_config([source])


def test_the_schema_itself_speaks_in_words():
    with pytest.raises(ConfigError, match="hidden_size: got 190; expected a multiple"):
        ModelConfig(hidden_size=190)
    with pytest.raises(ConfigError, match=r"lr: got '1e-x'; expected a valid number"):
        TrainConfig(lr="1e-x")
    with pytest.raises(ConfigError, match=r"hiden_size: got an unknown setting.*'hidden_size'"):
        ModelConfig(hiden_size=3)
    with pytest.raises(ConfigError, match=r"train\.steps"):
        Config(train={"steps": 0})


def test_model_config_reads_a_yaml_file(write):
    assert ModelConfig.from_yaml(write("model: {hidden_size: 48}")).hidden_size == 48
    assert ModelConfig.from_yaml("model/debug").vocab_size == 512


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from([*Config.model_fields, "lr", "extends", "hidden-size", "steps", "corpus", "heads", "seed"])


def _loads_or_is_refused(path: Path) -> bool:
    problems = problems_of(path)
    try:
        return isinstance(load_config([path]), Config) and not problems
    except ConfigError as error:
        return 0 < len(str(error)) < 1000 and bool(problems)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, _VALUES, max_size=3) | _VALUES, max_size=4))
def test_any_values_load_or_are_refused_with_a_config_error(write, values):
    assert _loads_or_is_refused(write(yaml.safe_dump(values)))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text("[]{}:&*!?-|>'\"#%@ \nab1.", max_size=120).map(str.encode))
def test_any_bytes_load_or_are_refused_with_a_config_error(write, data):
    assert _loads_or_is_refused(write(data))
