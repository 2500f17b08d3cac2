import itertools
import re
from html.parser import HTMLParser

import pytest
from report_files import make_experiment, prepared_sets

from snojoe.data.class_names import COCO, VOC
from snojoe.results.report import read_page, render
from snojoe.results.report.page import read_table
from snojoe.support.files import write_json

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; closing tags must match."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data.split()

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.words)


def page_of(experiment):
    return render(read_page(experiment.params, experiment.folders))


@pytest.fixture
def experiment(tmp_path):
    return make_experiment(tmp_path)


@pytest.fixture
def page(experiment):
    return Page(page_of(experiment))


def test_it_holds_all_that_it_shows(experiment):
    html = page_of(experiment)
    assert not re.findall(r"(?:https?:)?//\w", re.sub(r"data:[^\"]+", "", html))
    assert "<script" not in html
    assert all(each["src"].startswith("data:image/") for each in Page(html).all("img"))
    assert html == page_of(experiment)


def test_what_strangers_named_is_escaped(experiment):
    html = page_of(experiment)
    assert "<b>dog" not in html
    assert "&lt;b&gt;dog" in html
    assert "<i>" not in html


def test_it_can_be_read_without_seeing_it(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(each["alt"] for each in page.all("img"))
    assert all("scope" in each for each in page.all("th"))
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {each["href"].removeprefix("#") for each in page.all("a")}
    assert targets <= set(ids)
    labels = {each["aria-labelledby"] for each in page.all("section")}
    assert labels == targets


def test_it_opens_with_the_headline(page):
    text = page.text
    assert "Whether SN helps is not settled on a and texture." in text
    assert "AUROC stayed at 56.00% (+0.00 points, 95% interval for new trainings and new" in text
    assert "FPR95: -5.00 points" in text


def test_every_picture_of_the_plots_folder_has_its_figures_as_text(page):
    alts = [each["alt"] for each in page.all("img")]
    assert any("AUROC in percent without and with SN: a 56.00 and 56.00;" in alt for alt in alts)
    assert any("0.50 at depth 0, 47.50 at depth 7" in alt for alt in alts)
    assert sum(each.get("width") == "1000" for each in page.all("img")) == 7


def test_the_papers_figures_stand_beside_the_papers_data_alone(experiment):
    assert "paper's" not in Page(page_of(experiment)).text.split("Table 2:")[1].split("Table 3")[0]
    prepared = experiment.folders.prepared
    write_json(prepared / "classes.json", VOC)
    write_json(prepared / "report.json", prepared_sets(a=7, texture=5_640))
    text = Page(page_of(experiment)).text
    table2, table3 = text.split("Every score on both")[0], text.split("Table 3: SN on")[1]
    assert table2.count("paper's (ours") == 3  # of one of the two sets, for each metric
    assert re.search(r"55\.50 ± 0\.71 \[[\d.]+, [\d.]+\] 5\.02 \+50\.48", table2)
    assert re.search(r"texture 8\.3% \[-?[\d.]+, [\d.]+\] \(the paper's: 54%\)\.", text)
    assert re.search(r"47\.50 ± 0\.71 \[[\d.]+, [\d.]+\] 6\.72 \+40\.78", table3)


def test_joint_energys_figures_stand_beside_ms_coco(experiment):
    prepared = experiment.folders.prepared
    write_json(prepared / "classes.json", COCO)
    sets = prepared_sets(a=18_835, texture=5_640)
    sets["id"]["test"]["images"] = 40_775
    write_json(prepared / "report.json", sets)
    text = Page(page_of(experiment)).text
    table2, table3 = text.split("Every score on both")[0], text.split("Table 3: SN on")[1]
    assert table2.count("JointEnergy's (ours") == 3
    assert re.search(r"JointEnergy 60\.50 ± 0\.71 \[[\d.]+, [\d.]+\] 33\.48 \+27\.02", table2)
    assert "JointEnergy's figures are those of Wang et al. 2021" in table2
    assert "paper's (ours" not in text
    assert "(ours" not in table3


def test_depths_have_their_map_and_the_same_model_is_called_so(page):
    text = page.text.split("Table 3: SN on")[1]
    assert "9 (104 weights, those of 8)" in text
    assert "97.50 ± 0.71" in text


def test_sigma_is_the_largest_of_each_counted_layer(page):
    text = page.text.split("before after before after")[1]
    assert text.startswith(" 1 conv1 1 10 14 10 14 5 layer1 1 50 54 50 54 ")


def test_one_seed_has_no_spread_and_says_so(experiment):
    for name in ("table2", "table3"):
        path = experiment.folders.metrics / f"{name}.csv"
        lines = path.read_text().splitlines()
        seed = lines[0].split(",").index("seed")
        kept = [line for line in lines if line.split(",")[seed] != "1"]
        path.write_text("\n".join(kept) + "\n")
    experiment.params = experiment.params.model_copy(update={"seeds": [0]})
    text = Page(page_of(experiment)).text
    assert "In percent: one seed," in text
    assert "±" not in text
    assert "nan" not in text


def test_an_ood_set_may_have_any_name(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("ood_set,seed,fpr95\n2012,0,1.5\nNA,0,2.5\n")
    table = read_table(path)
    assert table.ood_set.to_list() == ["2012", "NA"]
    assert table.fpr95.to_list() == [1.5, 2.5]


def test_it_stays_small(experiment):
    assert len(page_of(experiment)) < 200_000
