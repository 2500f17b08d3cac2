import itertools
import re
from html.parser import HTMLParser

import pytest
from report_files import PLOTS, make_experiment, prepared_sets

from snojoe.data.class_names import COCO, VOC
from snojoe.data.pseudo_ood import SEEN
from snojoe.detectors.store import read_store, write_store
from snojoe.model.folder import read_config
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


@pytest.mark.parametrize("depth", [9, 0])
def test_it_can_be_read_without_seeing_it(tmp_path, depth):
    page = Page(page_of(make_experiment(tmp_path, depth)))
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


def test_it_opens_with_what_the_detector_does(page):
    before, main = page.text.split("Would another score do better?")
    assert "8.3% false alarms [0.2, 38.5] of 12 in-distribution test images; 5% were" in before
    assert "40.0% of a caught [12.2, 73.8] of 10 images" in before
    assert re.search(
        r"together, with spectral normalisation .*/sn9/seed0 , /.*/sn9/seed1 \. Of", before
    )
    assert "39 of val that the threshold is calibrated on, 0.6 to 13.5% are refused" in before
    scores, limits = main.split("What limits it")[:2]
    order = ["JointEnergy", "by pseudo-OOD images", "MSP", "ODIN", "after the fact", "MaxLogit"]
    assert [scores.index(each) for each in order] == sorted(map(scores.index, order))
    assert "Classes with few images to learn from <b>dog</b> (3)" in limits
    assert "snojoe detect photos --score msp" in limits
    assert re.search(
        "cp -r /.*/models/sn9/seed0 shipped all that another machine .* networks", limits
    )


def test_the_pictures_come_before_the_tables_and_the_question_of_sn(page):
    headings = ["Would another score", "What limits it", "Use it", "Pictures", "Joint energies"]
    headings += ["Did spectral normalisation help?", "Table 2: every", "Table 3: SN on", "Sigma"]
    main = page.text.split("How to read it", 1)[1]
    assert [main.index(each) for each in headings] == sorted(map(main.index, headings))


def test_of_one_network_there_is_nothing_of_sn(tmp_path):
    made = make_experiment(tmp_path, 0)
    html = page_of(made)
    page = Page(html)
    of_sn = r"\bSN\b|SNoJoE −|[Ss]pectral|Table 3|control|depth"
    said = [page.text, *(each["alt"] for each in page.all("img"))]
    assert not [found for text in said for found in re.findall(f".{{40}}(?:{of_sn})", text)]
    assert "models/sn0/seed0" in page.text
    assert "Mean average precision on val: 90.50%." in page.text
    assert page.text.count("JointEnergy 60.50 ± 0.71") == 2 + 2  # of each set, here and in all
    assert len(page.all("img")) > 20
    assert sum(each.get("width") == "1000" for each in page.all("img")) == 5


def test_without_pseudo_ood_images_only_the_test_sets_choose(experiment):
    for seed in (0, 1):
        folder = experiment.folders.detectors_of(9, seed)
        measured = read_store(folder).measured
        write_store(folder, measured, model="m", val="v")
    text = Page(page_of(experiment)).text
    assert "There are no pseudo-OOD images to choose by." in text
    assert "FPR95 ↓ JointEnergy 8.3%" not in text
    assert "--score" not in text


def test_what_a_training_saw_is_said_beside_what_it_chooses(experiment, page):
    assert "loss:" not in page.text
    assert SEEN not in page.text
    asked = {"loss": "asymmetric", "outliers": "pseudo_ood"}
    train = experiment.params.train.model_copy(update=asked)
    path = experiment.folders.model(9, 0) / "config.json"
    config = read_config(path.parent)
    path.write_text(config.model_copy(update={"train": train.model_dump()}).model_dump_json())
    experiment.params = experiment.params.model_copy(update={"train": train})
    text = Page(page_of(experiment)).text
    assert "; loss: asymmetric; outliers: pseudo_ood" in text
    assert f"is what --score auto takes. T{SEEN[1:]}." in text


def test_the_verdict_on_sn_is_the_headlines(page):
    text = page.text
    assert "Whether SN helps is not settled on a and texture." in text
    assert "AUROC stayed at 56.00% (+0.00 points, 95% interval for new trainings and new" in text
    assert "FPR95: -5.00 points" in text


def test_every_picture_of_the_plots_folder_has_its_figures_as_text(page):
    alts = [each["alt"] for each in page.all("img")]
    assert any("AUROC in percent without and with SN: a 56.00 and 56.00;" in alt for alt in alts)
    assert any("0.50 at depth 0, 47.50 at depth 7" in alt for alt in alts)
    assert any("First: JointEnergy" in alt for alt in alts)
    assert sum(each.get("width") == "1000" for each in page.all("img")) == len(PLOTS)


def test_the_classes_that_pass_most_often_are_shown(page):
    text = page.text.split("Which classes pass?")[-1].split("Joint energies")[0]
    assert re.search(r"<i>a11 3 110\.0 79\.0 <i>a10 3 100\.0 80\.0", text)
    assert "<i>a2 " in text
    assert "<i>a1 " not in text  # the eleventh


def test_the_papers_figures_stand_beside_the_papers_data_alone(experiment):
    text = Page(page_of(experiment)).text
    assert "paper's" not in text.split("Table 2: every")[1].split("Table 3: SN on")[0]
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
