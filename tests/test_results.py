import pandas as pd
import pytest

from ddid.errors import InputError
from ddid.files import read_json, write_json
from ddid.notebook import REPOSITORY
from ddid.results import (
    EXPERIMENTS,
    RESULTS,
    fill_tables,
    gain_table,
    identity_gain_table,
    identity_table,
    read_rows,
    verdict_table,
)
from ddid.summary import summary

METRICS = {
    "02_diffusion_resampling": {"bias_before": {"gini": 0.4}, "bias_after": {"gini": 0.125}},
    "04_robustness_report": {
        "results": {
            "none": {"clean": {"mAP": 71.25}, "fna": {"mAP": 3.0}},
            "ddid": {"clean": {"mAP": 70.0}, "fna": {"mAP": 44.0}},
        }
    },
}


@pytest.fixture
def results(tmp_path):
    rows = [
        (recipe, seed, domain, attack, metric, value + seed, "p", "h")
        for recipe, value in (("none", 10.0), ("ddid", 40.0))
        for seed in (0, 2)
        for domain, attack, metric in (
            ("downtown", "clean", "mAP"),
            ("downtown", "fna", "mAP"),
            ("downtown", "fna", "rank1"),
            ("harbour", "fna", "mAP"),
        )
    ]
    names = ["recipe", "seed", "domain", "attack", "metric", "value", "profile", "hardware"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "defenses.csv", index=False)
    write_json(tmp_path / "demo.json", METRICS)
    return tmp_path


def test_markers_are_filled_and_the_rest_stays(results):
    text = "a\n<!-- table: demo -->\nold\n<!-- end -->\nb\n"
    filled = fill_tables(text, results)
    assert filled.startswith("a\n<!-- table: demo -->\n```text\n")
    assert filled.endswith("```\n<!-- end -->\nb\n")
    assert "old" not in filled
    assert fill_tables(filled, results) == filled


def test_seeds_become_mean_and_spread_on_the_first_domain(results):
    table = fill_tables("<!-- table: defenses -->\n<!-- end -->", results).splitlines()
    assert table[1] == "| recipe | clean | fna |"
    assert table[3] == "| none | 11.0 ± 1.4 | 11.0 ± 1.4 |"
    assert table[4] == "| ddid | 41.0 ± 1.4 | 41.0 ± 1.4 |"
    away = fill_tables("<!-- table: away -->\n<!-- end -->", results).splitlines()
    assert away[1] == "| recipe | fna |"


def test_rows_are_of_one_domain(results):
    assert set(read_rows("defenses", results)["domain"]) == {"downtown"}
    assert set(read_rows("defenses", results, away=True)["domain"]) == {"harbour"}


def test_gains_are_taken_seed_by_seed(results):
    table = gain_table(read_rows("defenses", results), over="none")
    assert table.to_numpy().tolist() == [["ddid", "+30.0 ± 0.0", "+30.0 ± 0.0"]]


def test_gains_over_what_is_not_there_are_refused(results):
    with pytest.raises(InputError, match="no row of 'magic'"):
        gain_table(read_rows("defenses", results), over="magic")


def test_one_seed_has_no_spread(results):
    rows = read_rows("defenses", results).query("seed == 0")
    assert gain_table(rows, over="none").to_numpy().tolist() == [["ddid", "+30.0", "+30.0"]]


def test_variants_are_compared_street_by_street(tmp_path):
    rows = [
        ("metric_at", 90, 10.0), ("metric_at", 91, 20.0), ("ddid", 90, 13.0), ("ddid", 91, 22.0),
        ("ddid, b", 90, 9.0),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["variant", "street", "value"])
    frame.assign(attack="fna", steps=3).to_csv(tmp_path / "tuning.csv", index=False)
    lines = {
        name: fill_tables(f"<!-- table: {name} -->\n<!-- end -->", tmp_path).splitlines()[1:-1]
        for name in ("tuning", "options")
    }
    assert lines["tuning"] == ["| variant | fna |", "|---|---|", "| ddid | +2.5 |"]
    assert lines["options"] == ["| variant | fna |", "|---|---|", "| ddid, b | -4.0 |"]


def test_identities_under_attack_are_averaged_over_the_attacks_first():
    rows = [
        ("gated", seed, attack, metric, value + seed)
        for seed in (0, 2)
        for attack, value in (("clean", 50.0), ("fna", 10.0), ("sma", 40.0), ("ifgsm", 10.0))
        for metric in ("mAP", "worst_decile", "std", "rank1")
    ]
    frame = pd.DataFrame(rows, columns=["strategy", "seed", "attack", "metric", "value"])
    table = identity_table(frame)
    assert table["strategy"].tolist() == ["gated"]
    for metric in ("mAP", "worst decile", "spread"):
        assert table[f"{metric}, clean"].tolist() == ["51.0 ± 1.4"]
        assert table[f"{metric}, attacked"].tolist() == ["21.0 ± 1.4"]


def test_gains_of_identities_are_taken_seed_by_seed():
    rows = [
        (filling, seed, attack, metric, seed * 10.0 + gain)
        for filling, gain in (("nothing", 0.0), ("gate", 2.0))
        for seed in (0, 1)
        for attack in ("clean", "fna", "sma", "ifgsm")
        for metric in ("mAP", "worst_decile", "std")
    ]
    frame = pd.DataFrame(rows, columns=["filling", "seed", "attack", "metric", "value"])
    table = identity_gain_table(frame, over="nothing")
    assert table["filling"].tolist() == ["gate"]
    assert set(table.iloc[0, 1:]) == {"+2.0 ± 0.0"}


def test_verdicts_of_two_streets_are_added_up():
    rows = [("weak", 90, "kept", 30, 50.0), ("weak", 91, "kept", 10, 90.0)]
    columns = ["generator", "street", "drafts", "number", "right"]
    table = verdict_table(pd.DataFrame(rows, columns=columns))
    assert table.to_numpy().tolist() == [["weak", "kept", 40, "60 %"]]


def test_an_unknown_table_is_one_sentence(results):
    with pytest.raises(InputError, match="no table 'dreams'"):
        fill_tables("<!-- table: dreams -->\n<!-- end -->", results)


def test_readme_tables_are_what_the_results_say():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert fill_tables(text, RESULTS) == text


def test_a_summary_says_where_things_are_and_what_came_out(tmp_path):
    write_json(tmp_path / "metrics.json", METRICS)
    lines = summary(tmp_path).splitlines()
    assert any(str(tmp_path / "metrics.json") in line for line in lines)
    assert "no defence                        71.2     3.0       -       -" in lines
    assert "Gini of images per identity      0.400   0.125" in lines


def test_a_summary_leaves_out_what_was_not_recorded(tmp_path):
    write_json(tmp_path / "metrics.json", {"01_bias_analysis": {"images": 3}})
    assert "mAP" not in summary(tmp_path)


UNDER_ATTACK = ["fna", "sma", "ifgsm", "worst", "unseen"]


def by_seed(name, away=False):
    """mAP: an attack and a seed a row, a column for each thing compared."""
    rows = read_rows(name, away=away)
    rows = rows[rows["metric"] == "mAP"]
    return rows.pivot_table(index=["attack", "seed"], columns=rows.columns[0], values="value")


def test_what_the_readme_says_of_the_whole_method_holds():
    home, away = by_seed("defenses"), by_seed("defenses", away=True)
    gain = home.sub(home["metric_at"], axis=0)
    assert (gain["ddid@gated"].loc[["clean", *UNDER_ATTACK]] > 0).all()
    assert (gain["ddid"].loc[UNDER_ATTACK] > 0).all()
    means, spread = (gain.groupby("attack").agg(how).loc[UNDER_ATTACK] for how in ("mean", "std"))
    assert (means.idxmax(axis=1) == "ddid@gated").all()
    assert (means["ddid@gated"] > spread["ddid@gated"]).all()
    clean = home.loc["clean"].mean()
    assert clean["ddid@gated"] > max(clean["metric_at"], clean["none"])
    assert (away["ddid@gated"] > away["metric_at"]).all()
    for module in ("discriminator", "meta", "fnes"):
        assert means.loc[["fna", "sma", "ifgsm"], f"metric_at+{module}"].mean() > 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_experiments_have_the_seeds_the_readme_names(name):
    rows = read_rows(name)
    assert (rows.groupby(rows.columns[0])["seed"].nunique() == 3).all()


def test_what_the_readme_says_of_balancing_holds():
    attacked = by_seed("balancing").loc[["fna", "sma", "ifgsm"]].groupby("seed").mean()
    for drawn in ("ungated", "gated"):
        for other in ("none", "repeat", "classical"):
            assert (attacked[drawn] > attacked[other]).all(), f"{drawn} {other}"
    quality = read_json(RESULTS / "demo.json")["02_diffusion_resampling"]["quality"]
    assert 0.5 < quality["rejected"]["identity_agreement"] < quality["kept"]["identity_agreement"]


def test_what_the_readme_says_of_the_gate_holds():
    attacked = by_seed("gate").loc[["fna", "sma", "ifgsm"]].groupby("seed").mean()
    gain = attacked.sub(attacked["nothing"], axis=0)
    drafts = gain["first drafts"]
    for other in ("gate", "lenient gate", "oracle as gate", "most novel of five drafts"):
        assert abs((gain[other] - drafts).mean()) < drafts.std(), other
    assert (gain[["new photographs", "new photographs, known poses"]].min(axis=1) > drafts).all()
    assert (gain["weak generator, first drafts"] < -5).all()
    assert abs(gain["weak generator, gate"].mean()) < 1
    right = verdict_table(read_rows("verdicts")).set_index(["generator", "drafts"])["right"]
    right = right.str.removesuffix(" %").astype(int)["measured prior"]
    assert right["first drafts"] > 95
    assert (right > 80).all()
