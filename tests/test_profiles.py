"""Hostile profiles, settings and records: a value or one sentence, never a traceback."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddid.errors import InputError
from ddid.files import read_json
from ddid.notebook import check_parameters, declared_parameters, notebook_names, resolve
from ddid.profiles import PROFILES, parse_setting, plan, plan_run, read_mapping
from tests.refusal import told

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NOTEBOOK = notebook_names()[0]
FEW = settings(max_examples=60, deadline=None)


@FEW
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_as_profile_or_record(content):
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.yaml")
        path.write_bytes(content)
        for reader in (lambda name: read_mapping(name, PROFILES, "profile"), read_json):
            found = told(lambda reader=reader: reader(str(path)))
            assert found is None or isinstance(found, dict)


@FEW
@given(st.text(max_size=40))
@example("~nosuchuser/x")
@example("\0")
def test_any_text_as_a_setting(text):
    for setting in (text, f"seed={text}", f"01.{text}", f"data_root={text}", f"weights={text}"):
        found = told(lambda setting=setting: parse_setting(setting))
        assert found is None or f"{found[0]}=" == setting[: len(found[0]) + 1]
        told(lambda setting=setting: plan_run("smoke", Path("x"), [setting]))


@FEW
@given(st.sampled_from(sorted(declared_parameters(NOTEBOOK))) | st.text(), VALUES)
def test_any_value_as_a_parameter(name, value):
    found = told(lambda: check_parameters(NOTEBOOK, {name: value}))
    if found and name in found:
        assert type(found[name]) is type(declared_parameters(NOTEBOOK)[name])


@pytest.mark.parametrize("text", ["seed: 2001-99-99", "a: [" * 2000, "seed: " + "9" * 5000])
def test_what_yaml_itself_trips_over(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match="is not YAML"):
        read_mapping(str(tmp_path / "a.yaml"), PROFILES, "profile")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("recipes=[ddidd]", "no recipe 'ddidd': choose one of metric_at"),
        ("recipes=[none, ddid+magic@gated]", "no recipe 'ddid.magic'"),
        ("recipes=[metric_at@gatde]", "metric_at@gatde: no file .*strategies/gatde.csv"),
        ("away_street=downtown", "away_street=downtown is where the models are trained"),
        ("train_eps_255=300", "eps is 1.17.*give a fraction"),
        ("unseen_attacks=[patch, pgd]", "unknown attack 'pgd': choose from"),
        ("meta_attacks=pgd", "unknown attack 'pgd'"),
        ("data_root=nowhere", "no file or folder .*nowhere: data_root should be a data set"),
        ("03.out=elsewhere", "--set 03.out has no effect"),
        ("meta_attacks=[[a]]", "unknown attack"),
        ("meta_attacks=[universal]", "self-meta learning cannot use the attack 'universal'"),
        ("standard_attacks=[fna, color]", "color is no standard attack: choose from fna, "),
        ("gallery_attacks=[fna]", "fna is no gallery attack: choose from gallery"),
        ("attack_eps_255=2.5", "give whole levels"),
        ("audit_eps_255=[2.0, 2.5]", "give whole levels"),
        ("away_street=campsu", "not 'campsu'"),
        ("fnes_omega=0.3", "FNES wants two numbers"),
        ("train_steps=-3", "train_steps. of 03_.* is -3: .* greater than or equal to 0"),
    ],
)
def test_what_a_late_notebook_would_refuse_is_refused_before_the_first(setting, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        plan_run("smoke", tmp_path, [setting])


@pytest.mark.parametrize("profile", ["market", "paper"])
def test_a_profile_for_photographs_does_not_fall_back_to_the_street(profile, tmp_path):
    with pytest.raises(InputError, match=f"{profile} has no data_root of its own: give --set"):
        plan_run(profile, tmp_path)
    found = plan_run(profile, tmp_path, [f"01.data_root={tmp_path}"])
    assert found["01_bias_analysis"]["data_root"] == str(tmp_path)


@pytest.mark.parametrize(
    "setting",
    ["05.shown_attack=fnaa", "03.backbone=resnet-tinny", "meta_split=persons", "sampling_way=fly",
     "street_domain=village"],
)  # fmt: skip
def test_a_name_that_nobody_knows_is_refused_before_anything_runs(setting, tmp_path):
    with pytest.raises(InputError, match=setting.partition("=")[2]):
        plan_run("demo", tmp_path, [setting])


def test_weights_in_a_profile_are_taken_from_the_repository(tmp_path):
    profile = tmp_path / "mine.yaml"
    for written, meant in (("ddid", str(resolve("ddid"))), ("some/hub", "some/hub")):
        profile.write_text(f"weights: {written}\n")
        planned = plan(["03_adversarial_meta_training"], str(profile), {})
        assert planned["03_adversarial_meta_training"]["weights"] == meant


def test_weights_at_home_are_a_path_and_on_a_hub_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert parse_setting("weights=~/mine") == ("weights", str(tmp_path / "mine"))
    assert parse_setting("weights=some/hub") == ("weights", "some/hub")


@pytest.mark.parametrize(
    ("setting", "meant"), [("3.train_steps", "03.train_steps"), ("train_stesp", "train_steps")]
)
def test_a_setting_that_no_notebook_takes_is_told_the_nearest(setting, meant):
    with pytest.raises(InputError, match=f"takes `{setting}`; did you mean `{meant}`"):
        plan(notebook_names(), "smoke", {setting: 2})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"away_attacks": ["fna", "transfer"]}, "transfer works on another model: choose"),
        ({"shown_attack": "transfer"}, "transfer works on another model or on all images"),
        ({"shown_attack": "universal"}, "universal works on another model or on all images"),
        ({"on_validation": True}, "give a validation_share above 0"),
    ],
)
def test_what_would_stop_a_run_late_is_refused_at_once(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        plan(notebook_names(), "demo", settings)
