"""Tables: what stands in them is what the results say."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from ddid.errors import InputError
from ddid.files import write_json
from ddid.notebook import REPOSITORY
from ddid.profiles import parse_setting
from ddid.study import cells_of, read_study
from ddid.summary import run_text
from tests.cells import code_cells

PAGES = (REPOSITORY / "README.md", REPOSITORY / "figures/README.md")
METRICS = {
    "02_diffusion_resampling": {"bias_before": {"gini": 0.4}, "bias_after": {"gini": 0.125}},
    "04_robustness_report": {
        "results": {
            "mine": {"clean": {"mAP": 70.0}, "fna": {"mAP": 44.0}, "worst": {"mAP": 41.0}},
            "none": {"clean": {"mAP": 71.25}, "fna": {"mAP": 3.0}, "worst": {"mAP": 2.0}},
        }
    },
}


METERS = ("PGD accuracy", "clean accuracy")


@pytest.fixture
def results(tmp_path):
    rows = [
        (recipe, seed, domain, attack, metric, value + seed)
        for recipe, value in (("none", 10.0), ("mine", 40.0))
        for seed in (0, 1, 2)
        for domain in ("downtown", "harbour")
        for attack in ("clean", "fna", "sma")
        for metric in ("mAP", "std", "worst_decile")
    ]
    names = ["recipe", "seed", "domain", "attack", "metric", "value"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "defenses.csv", index=False)
    write_json(tmp_path / "demo.json", METRICS)
    return tmp_path


def fill(page, results):
    """Run the cells of the notebook `tables` here, on one page; what it says then."""
    ran(page, results)
    return page.read_text(encoding="utf-8")


def ran(page, results):
    """The names that its cells leave."""
    names = {}
    for source, tags in code_cells("tables"):
        exec(source, names)
        if "parameters" in tags:
            given = {"out": str(page.parent / "run"), "results_root": str(results)}
            names |= given | {"pages": [str(page)]}
    return names


def table(results, marker):
    page = results / "page.md"
    page.write_text(f"a\n<!-- table: {marker} -->\nold\n<!-- end -->\nb")
    text = fill(page, results)
    assert text.startswith("a\n")
    assert text.endswith("\nb")
    assert "old" not in text
    return text.splitlines()[2:-2]


def test_seeds_become_mean_and_spread_in_the_first_domain(results):
    assert table(results, "defenses scores fna clean") == [
        "| recipe | fna | clean |", "|---|---|---|",
        "| none | 11.0 ± 1.0 | 11.0 ± 1.0 |", "| mine | 41.0 ± 1.0 | 41.0 ± 1.0 |",
    ]  # fmt: skip


def test_measures_are_means_and_spreads_of_what_was_measured(results):
    rows = [
        ("paste", 0, "identity", 0.9),
        ("paste", 1, "identity", 0.8),
        ("paste", 1, "gain", 8.66),
        ("nothing", 0, "clean", 60),
    ]
    names = ["generator", "seed", "metric", "value"]
    pd.DataFrame(rows, columns=names).to_csv(results / "generator.csv", index=False)
    assert table(results, "generator measures identity gain") == [
        "| generator | identity | gain |", "|---|---|---|", "| paste | 0.85 ± 0.071 | 8.66 |",
    ]  # fmt: skip


def test_choices_are_shown_with_the_others_as_chosen(results):
    rows = [
        ("as chosen", 90, "as chosen", "identity", 0.9),
        ("as chosen", 90, "steps 2", "identity", 0.8),
        ("no average", 90, "as chosen", "identity", 0.5),
        ("no average", 90, "steps 2", "identity", 0.1),
    ]
    names = ["variant", "seed", "sampling", "metric", "value"]
    pd.DataFrame(rows, columns=names).to_csv(results / "choices.csv", index=False)
    for varied, last in (("variant", "| no average | 0.5 |"), ("sampling", "| steps 2 | 0.8 |")):
        lines = table(results, f"choices choices {varied} identity")
        assert lines[2:] == ["| as chosen | 0.9 |", last]


def test_attacks_that_a_file_lacks_are_left_out(results):
    assert table(results, "defenses away")[0] == "| recipe | clean | fna | sma |"


def test_gains_are_taken_seed_by_seed(results):
    assert table(results, "defenses gains none clean")[2:] == ["| mine | +30.0 |"]


def test_names_with_spaces_are_quoted(results):
    rows = pd.read_csv(results / "defenses.csv").replace("mine", "mine, clip 1")
    rows.to_csv(results / "defenses.csv", index=False)
    assert table(results, 'defenses gains "mine, clip 1" clean')[2:] == ["| none | -30.0 |"]


def test_gains_with_queries_say_where_the_interval_excludes_zero(results):
    rows = [("mine", "none", "clean", 3.0, 1.0, 5.0, 3), ("mine", "none", "fna", 3.0, -1.0, 5.0, 3)]
    names = ["recipe", "over", "attack", "gain", "low", "high", "pairs"]
    pd.DataFrame(rows, columns=names).to_csv(results / "defenses_gains.csv", index=False)
    (line,) = table(results, "defenses gains none")[2:]
    assert line == "| mine | **+3.0** [+1.0, +5.0] | +3.0 [-1.0, +5.0] |"


def test_a_dagger_says_that_seeds_alone_agree(results):
    rows = pd.read_csv(results / "defenses.csv")
    mine = rows["recipe"].eq("mine") & rows["attack"].eq("fna") & rows["metric"].eq("mAP")
    rows.loc[mine, "value"] += rows["seed"] ** 2  # gains of 30, 31 and 34
    rows.to_csv(results / "defenses.csv", index=False)
    names = ["recipe", "over", "attack", "gain", "low", "high", "pairs"]
    gains = [("mine", "none", attack, 3.0, 1.0, 5.0, 3) for attack in ("clean", "fna")]
    pd.DataFrame(gains, columns=names).to_csv(results / "defenses_gains.csv", index=False)
    (line,) = table(results, "defenses gains none")[2:]
    assert line == "| mine | **+3.0** [+1.0, +5.0] | **+3.0**† [+1.0, +5.0] |"
    noisy = mine & rows["seed"].eq(2)
    rows.loc[noisy, "value"] -= 60
    rows.to_csv(results / "defenses.csv", index=False)
    assert "†" not in table(results, "defenses gains none")[2]


def test_gains_in_the_other_domain_are_of_its_rows_alone(results):
    names = ["recipe", "over", "domain", "attack", "gain", "low", "high", "pairs"]
    rows = [
        ("mine", "none", where, "clean", g, 1.0, 5.0, 3)
        for where, g in (("home", 3.0), ("away", 2.0))
    ]
    pd.DataFrame(rows, columns=names).to_csv(results / "defenses_gains.csv", index=False)
    for view, gain in zip(("gains", "gains_away"), ("+3.0", "+2.0"), strict=True):
        assert table(results, f"defenses {view} none")[2:] == [
            f"| mine | **{gain}** [+1.0, +5.0] |"
        ]


def test_a_pair_is_turned_round_where_the_file_has_it_the_other_way(results):
    names = ["recipe", "over", "domain", "attack", "gain", "low", "high", "pairs"]
    rows = [("mine", "none", "home", "clean", 3.0, -1.0, 5.0, 3)]
    pd.DataFrame(rows, columns=names).to_csv(results / "defenses_gains.csv", index=False)
    assert table(results, "defenses pairs mine:none none:mine clean")[2:] == [
        "| mine over none | +3.0 [-1.0, +5.0] |", "| none over mine | -3.0 [-5.0, +1.0] |",
    ]  # fmt: skip
    with pytest.raises(InputError, match="compares 'mine' and 'other' nowhere"):
        table(results, "defenses pairs mine:other")


def test_rank1_is_a_view_of_its_own(results):
    rows = pd.read_csv(results / "defenses.csv")
    seen = rows[rows["metric"] == "mAP"].assign(metric="rank1", value=50.0)
    pd.concat([rows, seen]).to_csv(results / "defenses.csv", index=False)
    assert table(results, "defenses rank1 fna")[2:] == [
        "| none | 50.0 ± 0.0 |", "| mine | 50.0 ± 0.0 |",
    ]  # fmt: skip


def test_files_with_other_seeds_count_as_one(results):
    rows = pd.read_csv(results / "defenses.csv")
    more = rows.assign(seed=rows["seed"] + 3, value=rows["value"] + 3)  # 13 to 15, 43 to 45
    more[more["recipe"] == "mine"].to_csv(results / "more.csv", index=False)
    assert table(results, "defenses+more scores fna")[2:] == ["| mine | 42.5 ± 1.9 |"]


def test_a_name_may_have_its_seeds_in_several_files_and_a_row_in_two(results):
    rows = pd.read_csv(results / "defenses.csv")
    for part, seeds in (("one", [0, 1]), ("two", [1, 2])):
        rows[rows["seed"].isin(seeds)].to_csv(results / f"{part}.csv", index=False)
    assert table(results, "one+two scores fna") == table(results, "defenses scores fna")
    other = rows.assign(value=rows["value"] + 1)[rows["seed"] > 0]
    other.to_csv(results / "two.csv", index=False)
    with pytest.raises(InputError, match="a row twice, with two values"):
        table(results, "one+two scores fna")


def test_identities_under_attack_are_averaged_over_the_attacks_first(results):
    head, _, none, _ = table(results, "defenses identities")
    assert "spread, attacked" in head
    assert none.count("11.0 ± 1.0") == 6


def test_new_classifiers_are_shown_for_the_people_asked_for(results):
    csv = results / "defenses.csv"
    kinds = (("unseen identities", 4.0, 90.0), ("refitted", 8.0, 70.0))
    own = [
        ("mine", s, "home", k, m, v + s)
        for s in (0, 2)
        for k, *vs in kinds
        for m, v in zip(METERS, vs, strict=True)
    ]
    rows = pd.read_csv(csv)
    pd.concat([rows, pd.DataFrame(own, columns=rows.columns)]).to_csv(csv, index=False)
    for kind, cells in (
        ("unseen_identities", "| mine | 5.0 ± 1.4 | 91.0 ± 1.4 |"),
        ("refitted", "| mine | 9.0 ± 1.4 | 71.0 ± 1.4 |"),
    ):
        assert table(results, f"defenses refitted {kind}")[2:] == [cells]


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ("defenses dreams", "no view 'dreams'"),
        ("dreams scores", "no file"),
        ("defenses gains dreams", "no row of 'dreams'"),
    ],
)
def test_an_unknown_table_is_one_sentence(results, marker, sentence):
    with pytest.raises(InputError, match=sentence):
        table(results, marker)


def test_the_last_words_name_any_recipe_and_show_the_worst_case(tmp_path):
    write_json(tmp_path / "metrics.json", METRICS)
    words = run_text(tmp_path)
    assert str(tmp_path / "metrics.json") in words
    assert [
        line.split() for line in words.splitlines() if line[:4] in ("mAP ", "none", "mine")
    ] == [
        ["mAP", "(%)", "clean", "fna", "worst"],
        ["none", "71.2", "3.0", "2.0"],
        ["mine", "70.0", "44.0", "41.0"],
    ]
    assert "gini 0.400 0.125" in " ".join(words.split())


def test_what_was_not_recorded_is_left_out(tmp_path):
    write_json(tmp_path / "metrics.json", {"01_bias_analysis": {"images": 3}})
    assert "mAP" not in run_text(tmp_path)


def test_every_mean_gain_stands_in_the_line_of_its_name_paired_by_seed(results):
    rows = pd.DataFrame(
        [
            (name, seed, attack, metric, value + slope * seed)
            for name, value, slope in (("none", 10.0, 1), ("hm", 30.0, 1), ("ddid", 40.0, 2))
            for seed in (0, 2)
            for attack in ("clean", "fna")
            for metric in ("mAP", "rank1")
        ],
        columns=["recipe", "seed", "attack", "metric", "value"],
    )
    ends = pd.DataFrame([("hm", "fna", 18.0, 22.0)], columns=["recipe", "attack", "low", "high"])
    (results / "page.md").write_text("nothing")
    axes = ran(results / "page.md", results)["seed_dots"](rows, ["clean", "fna"], "none", ends).axes
    assert [ax.get_title() for ax in axes] == ["clean", "fna"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["hm", "ddid"]
    for ax in axes:
        points = [line for line in ax.lines if len(line.get_xdata()) == 2]
        assert points[0].get_xdata() == pytest.approx([20.0, 31.0])
        dots = [part for part in ax.collections if len(part.get_offsets())]
        seeds = [tuple(x) for part in dots for x in part.get_offsets().tolist()]
        assert {(20.0, 0.0), (30.0, 1.0), (32.0, 1.0)} <= set(seeds)
    lines = [part for part in axes[1].collections if hasattr(part, "get_segments")]
    assert lines[0].get_segments()[0][:, 0] == pytest.approx([18.0, 22.0])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_the_pages_say_what_the_results_say(page, tmp_path):
    copy = Path(shutil.copy(page, tmp_path))
    text = page.read_text(encoding="utf-8")
    assert fill(copy, REPOSITORY / "figures/results") == text, "run `ddid tables`"


def test_every_sweep_on_the_pages_can_be_planned(tmp_path):
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = re.findall(r"`(ddid sweep [a-z][^`]+)`", text)
    assert len(commands) > 5
    for command in commands:
        words = shlex.split(command.replace("MARKET", str(tmp_path)))
        given = [word for flag, word in pairwise(words) if flag == "--set"]
        assert cells_of(read_study(words[2]), dict(map(parse_setting, given))), command
