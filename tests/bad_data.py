"""One small experiment's files, ways to damage them, and what may come of it.

A damage ends in one of
    named        a SnojoeError of one line for each problem with the culprit, or such a line said
    quarantined  a counted image that is left out; everything else is as it was
    the same     the result is that of the undamaged files, bit for bit
    unnoticed    the files are valid and say something else. Allowed only for what the user brings,
                 and only where the archive's checksum (``sha256``) then names it
"""

import collections
import contextlib
import io
import json
import random
import re
import shutil
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from committed import committed
from conftest import model_config, write_tar
from PIL import Image
from pyarrow import feather

from snojoe.data import shards as shard_files
from snojoe.data.digits import write_digits
from snojoe.data.fetch import check_archives
from snojoe.data.prepare import prepare
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.detectors.outputs import load_head
from snojoe.model.classifier import build_classifier
from snojoe.model.folder import load_model, read_val_energies, save_model
from snojoe.params import Data, load_params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import SUMS, sha256, write_sums
from snojoe.training.checkpoint import read_checkpoint, write_checkpoint
from snojoe.training.loader import TrainSet, TrainTransform

ROOT = Path(__file__).parents[1]
CLASSES = ["zero", "one", "two", "three", "four", "five", "six"]


# Damage to bytes, whatever they are.


def flipped(content, rng):
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 8))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def truncated(content, rng):
    return content[: rng.randrange(1, len(content))]


def emptied(content, rng):
    return b""


def zeroed(content, rng):
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((16, 512, 4096)))
    return content[:start] + bytes(end - start) + content[end:]


def replaced(content, rng):
    return rng.choice((b"<html>404</html>", b"version https://git-lfs", rng.randbytes(3000), b"\0"))


def lengthened(content, rng):
    return content + rng.randbytes(rng.choice((1, 700, 20_000)))


BYTES = [flipped, truncated, emptied, zeroed, replaced, lengthened]


@dataclass
class Case:
    """`damage` returns the names of which one must be in the message."""

    kind: str
    damage_name: str
    seed: int

    def __str__(self):
        return f"{self.kind}-{self.damage_name}-{self.seed}"


class World:
    """The undamaged files, and what comes of them."""

    def __init__(self, folder):
        self.folder = folder
        raw = folder / "raw"
        write_digits(raw, train=21, val=14, test=7, ood=9, size=32, seed=0)
        self.archives = {name: _members(raw / f"{name}.tar") for name in ("digits", "textures")}
        # A name that needs a pax header.
        self.archives["textures"] = {
            name.replace("china", "ĉina/" + "long" * 30): content
            for name, content in self.archives["textures"].items()
        }
        self.clean = self.prepared(folder / "clean", self.archives)
        self.shards = folder / "shards"  # the same in several files
        for split in ("train", "val", "test", "ood/textures"):
            source = Shards(folder / "clean/prepared" / split)
            rows = [
                ShardRow(row["id"], row[source.content], row["labels"])
                for row in source.table(["id", source.content, "labels"]).to_pylist()
            ]
            write_small_shards(self.shards / split, rows, split, source.content)
        self.model = folder / "model"
        self.model.mkdir()
        torch.manual_seed(0)
        model = build_classifier("mobilenet_v2", 7)
        config = model_config(CLASSES, arch="mobilenet_v2")
        save_model(model, self.model, config, np.arange(50.0))
        self.checkpoint = folder / f"{'a' * 32}.pt"
        self.state = {
            "model": {"w": torch.randn(40, 7), "b": torch.zeros(7)},
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
            "schedule": {"last_epoch": 3},
            "history": [{"epoch": 1, "train_loss": 0.5}],
            "sigmas": [{"epoch": 0, "weight": "w", "sigma": 1.5}],
        }
        write_checkpoint(self.checkpoint, self.state)
        self.params = committed("params.yaml")

    def settings(self, folder, sums=None):
        source = {name: {"path": f"{name}.tar"} for name in ("digits", "textures")}
        for name, checksum in (sums or {}).items():
            source[name]["sha256"] = checksum
        return Data.model_validate(
            {
                "folder": str(folder),
                "id": [source["digits"]],
                "ood": {"textures": source["textures"]},
                "splits": {k: [f"DIGITS/{k}"] for k in ("train", "val", "test")},
                "image_size": 16,
                "difficult": True,
                "max_bad_share": 0.15,  # up to 3, 2, 1 and 1 images
                "expected": None,
                "digits": {"size": 32, "train": 1, "val": 1, "test": 1, "ood": 1, "seed": 0},
            }
        )

    def prepared(self, folder, archives, say=lambda line: None):
        """Write archives, from members or bytes, and prepare them; returns what was prepared."""
        for name, content in archives.items():
            path = folder / f"{name}.tar"
            if isinstance(content, bytes):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            else:
                write_tar(path, content)
        data = self.settings(folder)
        prepare(data, lambda source: folder / source.path, folder / "prepared", say)
        return Prepared(folder / "prepared")


def write_small_shards(folder, rows, split, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_files, "ROWS_PER_SHARD", 4)
        patch.setattr(shard_files, "ROWS_PER_GROUP", 2)
        write_shards(folder, rows, split=split, content=content, image_size=16)


class Prepared:
    """What preprocess leaves, in comparable form."""

    def __init__(self, folder):
        self.report = json.loads((folder / "report.json").read_text())
        self.classes = json.loads((folder / "classes.json").read_text())
        self.rows = {}
        for split in ("train", "val", "test", "ood/textures"):
            shards = Shards(folder / split)
            table = shards.table(["id", "split", "labels", shards.content]).to_pylist()
            self.rows[split] = [tuple(map(str, row.values())) for row in table]

    def same_as(self, other):
        return (self.rows, self.classes) == (other.rows, other.classes)

    def undecodable(self):
        sets = [*self.report["id"].values(), *self.report["ood"].values()]
        return [line for each in sets for line in each["undecodable"]]

    def without(self, ids):
        """All rows but those of the given ids."""
        return {s: [row for row in rows if row[0] not in ids] for s, rows in self.rows.items()}


def _members(path):
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}


# What the user brings: archives and what lies in them.


def prepare_damaged(world, folder, archives, culprits):
    """Verdict on archives of which one, or one member, is damaged."""
    said = []
    try:
        result = world.prepared(folder, archives, said.append)
    except SnojoeError as error:
        assert not (folder / "prepared").exists()
        return named(error, [*culprits, str(folder)])
    finally:
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    if any("disagree" in line for line in said):
        return "named"
    if bad := result.undecodable():
        assert all(
            any(f": left out, it does not decode: {b}" in line for line in said) for b in bad
        )
        gone = {row[0] for s in world.clean.rows for row in world.clean.rows[s]}
        gone -= {row[0] for s in result.rows for row in result.rows[s]}
        assert len(gone) == len(bad)
        if result.without(gone) == world.clean.without(gone):
            return "quarantined"
    if result.same_as(world.clean):
        return "the same"
    return unnoticed_without_a_checksum(world, folder, archives)


def unnoticed_without_a_checksum(world, folder, archives):
    """With the checksums of the undamaged archives, the damage is named."""
    sums = {name: sha256(world.folder / f"clean/{name}.tar") for name in archives}
    with pytest.raises(SnojoeError) as error:
        check_archives(world.settings(folder, sums), folder / "raw")
    named(error.value, [f"{name}.tar: expected sha256" for name in archives])
    return "unnoticed"


def archive_case(world, folder, damage, rng):
    name = rng.choice(["digits", "textures"])
    content = (world.folder / f"clean/{name}.tar").read_bytes()
    archives = {n: (world.folder / f"clean/{n}.tar").read_bytes() for n in world.archives}
    archives[name] = damage(content, rng)
    return prepare_damaged(world, folder, archives, [f"{name}.tar", "DIGITS/", f"data.ood.{name}"])


def header_flipped(content, rng):
    """A flip within the 512 bytes that precede a member."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = rng.choice(archive.getmembers())
    at = member.offset + rng.randrange(member.offset_data - member.offset)
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def member_lost(content, rng):
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = rng.choice(archive.getmembers())
    end = member.offset_data + -(-member.size // 512) * 512
    return content[: member.offset] + content[end:]


def member_twice(content, rng):
    buffer = io.BytesIO(content)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        member = rng.choice(archive.getmembers())
        archive.addfile(member, io.BytesIO(rng.randbytes(member.size)))
    return buffer.getvalue()


def gzipped_and_flipped(content, rng):
    import gzip

    return flipped(gzip.compress(content, 1), rng)


def gzipped_and_truncated(content, rng):
    import gzip

    return truncated(gzip.compress(content, 1), rng)


def member_case(pattern, rng_culprit=lambda name: Path(name).stem):
    """Damage to the content of a file whose name matches the pattern."""

    def case(world, folder, damage, rng):
        names = [
            (archive, name)
            for archive, members in world.archives.items()
            for name in members
            if re.search(pattern, name)
        ]
        archive, name = rng.choice(names)
        members = dict(world.archives[archive])
        if damage is swapped:
            other = rng.choice([n for a, n in names if a == archive and n != name])
            members[name], members[other] = members[other], members[name]
        elif damage is missing:
            del members[name]
        else:
            members[name] = damage(members[name], rng)
        archives = world.archives | {archive: members}
        return prepare_damaged(world, folder, archives, [rng_culprit(name), f"{archive}.tar"])

    return case


def swapped(content, rng):
    raise NotImplementedError("of two files")


def missing(content, rng):
    raise NotImplementedError("of a file")


def encoded_otherwise(content, rng):
    text = content.decode()
    code = rng.choice(("utf-16", "utf-32", "utf-16-le", "cp037", "utf-7"))
    return text.replace("o", "ö").encode(code) if code != "utf-7" else b"\xff\xfe" + content


def unknown_class(content, rng):
    label = rng.choice(("zer0", "Zero", "eight", "", "<b/>", "zero one", "'; rm -rf /", "\u202e"))
    return re.sub(rb"(?s)<name>[^<]*", f"<name>{label}".encode(), content, count=1)


def wrong_xml_types(content, rng):
    return re.sub(
        rb"<difficult>\d",
        b"<difficult>" + rng.choice((b"yes", b"-1", b"2", b"1.0", b"NaN", b"true")),
        content,
        count=1,
    )


def wrong_root(content, rng):
    return content.replace(b"annotation>", rng.choice((b"html>", b"annotations>", b"a:b>")))


def tag_damaged(content, rng):
    at = rng.choice([m.start() for m in re.finditer(rb"[<>/]", content)])
    return content[:at] + rng.choice((b"&", b"", b"<<", b"\0")) + content[at + 1 :]


def lines(content):
    return content.decode().splitlines()


def text(rows):
    return "".join(f"{row}\n" for row in rows).encode()


def duplicate_id(content, rng):
    rows = lines(content)
    return text([*rows, rng.choice(rows)])


def unknown_id(content, rng):
    rows = lines(content)
    rows[rng.randrange(len(rows))] = rng.choice(
        ("digits_999999", "../digits_000001", "/etc/passwd", "digits_000001.jpg", "\x1b[31m", "ĉ")
    )
    return text(rows)


def id_of_another_split(content, rng):
    rows = lines(content)
    used = {int(row.split("_")[1]) for row in rows}
    other = rng.choice([i for i in range(1, 43) if i not in used])
    rows[rng.randrange(len(rows))] = f"digits_{other:06d}"
    return text(rows)


def line_lost(content, rng):
    rows = lines(content)
    del rows[rng.randrange(len(rows))]
    return text(rows)


def wrong_separator(content, rng):
    return content.replace(b"\n", rng.choice((b",", b" ", b"\0", b";")))


def resized(content, rng):
    """Another size in the header than the scan holds."""
    at = content.index(b"\xff\xc0") + 5
    height, width = rng.choice(((0, 32), (32, 0), (31, 33), (65535, 65535), (1, 1), (4000, 4000)))
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def other_format(content, rng):
    """Something that PIL could open, under the name of a JPEG."""
    image = Image.open(io.BytesIO(content))
    buffer = io.BytesIO()
    if rng.random() < 0.5:
        image.save(buffer, "EPS")
    else:
        image.convert("L").save(buffer, "PDF")
    return buffer.getvalue()


# What the program keeps: shards, models, checkpoints.


def unreadable_or_same(read, expected, culprits):
    try:
        found = read()
    except SnojoeError as error:
        return named(error, culprits)
    assert found == expected, "silently different"
    return "the same"


def shard_contents(folder):
    shards = Shards(folder)
    batches = list(shards.batches(8))
    if shards.content == "image":
        train = TrainSet(folder, TrainTransform(16, (0.5, 1.0), 0.5), seed=0)
        items = [item.tolist() for i in range(len(train)) for item in train[i]]
    else:
        items = []
    return (
        len(shards),
        shards.image_size,
        [i for batch in batches for i in batch.ids],
        b"".join(batch.pixels.tobytes() for batch in batches),
        str([batch.labels for batch in batches]),
        items,
    )


def shard_case(world, folder, damage, rng):
    split = rng.choice(("train", "val", "test", "ood/textures"))
    source = world.shards / split
    expected = shard_contents(source)
    shutil.copytree(source, folder)
    path = rng.choice(sorted(folder.glob("0*")))
    if damage in TABLE_DAMAGES:
        # As a program of the user's would write it: with right checksums.
        if path.suffix == ".arrow":
            feather.write_feather(damage(feather.read_table(path), rng), path, "uncompressed")
        else:
            table = damage(pq.read_table(path), rng)
            pq.write_table(table, path, compression="none", use_dictionary=False)
        write_sums(folder)
    elif damage is missing:
        (path if rng.random() < 0.7 else folder / SUMS).unlink()
    elif damage is swapped:
        other = rng.choice([s for s in ("train", "val", "test", "ood/textures") if s != split])
        shutil.copy(next((world.shards / other).glob("00000.*")), path)
    else:
        path = rng.choice((path, path, folder / SUMS))
        path.write_bytes(damage(path.read_bytes(), rng))
    return unreadable_or_same(lambda: shard_contents(folder), expected, [str(folder)])


def _with_column(table, name, values, type_=None):
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    column = pa.array(values, type_ or field.type)
    return table.set_column(at, pa.field(name, column.type), column).replace_schema_metadata(
        table.schema.metadata
    )


def column_renamed(table, rng):
    names = list(table.column_names)
    names[rng.randrange(len(names))] = "other"
    return table.rename_columns(names)


def column_retyped(table, rng):
    name = rng.choice(("id", "labels", table.column_names[-1]))
    return _with_column(table, name, [rng.random() for _ in range(len(table))], pa.float32())


def wrong_row_sizes(table, rng):
    name = table.column_names[-1]
    values = table[name].to_pylist()
    at = rng.randrange(len(values))
    values[at] = values[at][: len(values[at]) // 3]
    return _with_column(table, name, values)


def wrong_labels(table, rng):
    values = table["labels"].to_pylist()
    at = rng.randrange(len(values))
    values[at] = rng.choice(([1], [7] * 7, [0] * 8, []))
    if len(values) == sum(v is None for v in values) + 1:
        values[at] = [9]
    return _with_column(table, "labels", [v or [9] for v in values])


def no_metadata(table, rng):
    broken = (
        {},
        {"snojoe": "{"},
        {"snojoe": '{"image_size": "x"}'},
        {"snojoe": '{"image_size": 7}'},
    )
    changed = table.replace_schema_metadata(rng.choice(broken))
    if changed.schema.names[-1] == "image":  # the size of a training image decides nothing here
        changed = changed.replace_schema_metadata(broken[0])
    return changed


TABLE_DAMAGES = [column_renamed, column_retyped, wrong_row_sizes, wrong_labels, no_metadata]


def model_contents(folder):
    model, config = load_model(folder)
    head = load_head(folder)
    state = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    energies = read_val_energies(folder).tobytes()
    return state, config, head.weight.tobytes(), head.bias.tobytes(), energies


def model_case(world, folder, damage, rng):
    expected = model_contents(world.model)
    shutil.copytree(world.model, folder)
    path = folder / rng.choice(("config.json", "model.safetensors", SUMS))
    if damage in CONFIG_DAMAGES:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(damage(config, rng)))
        write_sums(folder)
    elif damage in STATE_DAMAGES:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        save_file(damage(state, rng), folder / "model.safetensors")
        write_sums(folder)
    elif damage is missing:
        path.unlink()
    elif damage is swapped:
        other = folder / "config.json"
        path = folder / "model.safetensors"
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)
        if rng.random() < 0.5:
            write_sums(folder)
    else:
        path.write_bytes(damage(path.read_bytes(), rng))
    return unreadable_or_same(lambda: model_contents(folder), expected, [str(folder)])


def config_wrong_type(config, rng):
    key = rng.choice(("arch", "classes"))
    return config | {key: rng.choice((7, None, {}, [], [[]], 1.5, True))}


def config_key_missing(config, rng):
    return {k: v for k, v in config.items() if k != rng.choice(("arch", "classes"))} or 7


def config_other_classes(config, rng):
    return config | {"classes": rng.choice((CLASSES[:3], [*CLASSES, "more"], []))}


def config_other_arch(config, rng):
    return config | {"arch": rng.choice(("resnet10", "vgg16", "../x", "", "resnet18"))}


def state_wrong_shape(state, rng):
    name = rng.choice(sorted(state))
    return state | {name: torch.zeros(3, 3, 3)}


def state_name_missing(state, rng):
    name = rng.choice(sorted(state))
    return {k: v for k, v in state.items() if k != name}


CONFIG_DAMAGES = [config_wrong_type, config_other_classes, config_other_arch]
STATE_DAMAGES = [state_wrong_shape, state_name_missing]


def checkpoint_case(world, folder, damage, rng):
    folder.mkdir()
    path = folder / world.checkpoint.name
    if damage is swapped:  # another training's, whole
        other = folder / f"{'b' * 32}.pt"
        write_checkpoint(other, world.state)
        other.replace(path)
    elif damage is missing:
        torch.save({k: v for k, v in world.state.items() if rng.random() < 0.5}, path)
    elif damage is wrong_pickle:
        torch.save(damage(None, rng), path)
    else:
        path.write_bytes(damage(world.checkpoint.read_bytes(), rng))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        state = read_checkpoint(path)
    if state is None:
        (line,) = said.getvalue().splitlines()
        assert line.startswith(f"{path}: not a checkpoint of this training")
        return "named"
    assert str(state) == str(world.state), "silently different"
    return "the same"


class Code:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


def wrong_pickle(_, rng):
    return rng.choice(([1, 2], 7, "text", {"model": Code()}, torch.zeros(3), {}, None))


# What the user writes: parameters.


def params_case(world, folder, damage, rng):
    folder.mkdir()
    path = folder / "params.yaml"
    content = damage(world.params.encode(), rng)
    path.write_bytes(content)
    try:
        params = load_params(path)
    except SnojoeError as error:
        return named(error, ["params.yaml"])
    path.write_text(world.params)
    undamaged = load_params(path)
    if params == undamaged:
        return "the same"
    # Another valid value is another experiment. DVC names it: it compares the values themselves.
    return "another experiment"


def _tree_damage(content, rng, change):
    tree = yaml.safe_load(content)
    section, key = rng.choice(list(_leaves(tree)))
    change(section, key)
    return yaml.safe_dump(tree).encode()


def _leaves(tree):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _leaves(value)


def wrong_type(content, rng):
    def change(section, key):
        kinds = ["x y", -3, 1.5, None, [], {}, [None], {"a": 1}, True, float("nan"), "$(rm -rf ~)"]
        kinds = [k for k in kinds if type(k) is not type(section[key])]
        section[key] = rng.choice(kinds)

    return _tree_damage(content, rng, change)


def out_of_range(content, rng):
    def change(section, key):
        section[key] = rng.choice([-1, 10**30, 1e300, float("inf"), "x" * 10_000, [0] * 500])

    return _tree_damage(content, rng, change)


def key_misspelt(content, rng):
    def change(section, key):
        if isinstance(section, dict):
            section[f"{key}x"] = section.pop(key)
        else:
            section[key] = {"typo": 1}

    return _tree_damage(content, rng, change)


def key_lost(content, rng):
    def change(section, key):
        section.pop(key)

    return _tree_damage(content, rng, change)


def key_twice(content, rng):
    rows = content.decode().splitlines()
    at = rng.choice([i for i, row in enumerate(rows) if re.match(r" *\w+: \S", row)])
    return text([*rows[: at + 1], rows[at], *rows[at + 1 :]])


def odd_yaml(content, rng):
    return rng.choice(
        (
            b"[" * 5000,
            b"a: &a [*a]\n",
            b"!!python/object/apply:os.system ['true']",
            b"? [a]\n: b\n",
            b"seeds: 2020-99-99\n",
            b"seeds: " + b"9" * 6000,
            b"--- a\n--- b\n",
            b"&a a: *b",
            b"\t\t- x",
            b"%YAML 9.9\n---\na: 1",
        )
    ) + rng.choice((b"", b"\n", content))


def reencoded(content, rng):
    return (
        b"\xff" + content
        if rng.random() < 0.3
        else content.decode().encode(rng.choice(("utf-32", "cp037", "utf-16-be")))
    )


TAR_DAMAGES = (
    *(header_flipped, member_lost, member_twice),
    *(gzipped_and_flipped, gzipped_and_truncated),
)
XML_DAMAGES = (unknown_class, wrong_xml_types, wrong_root, tag_damaged)
LIST_DAMAGES = (duplicate_id, unknown_id, id_of_another_split, line_lost, wrong_separator)

# kind -> (case, damages)
KINDS = {
    "archives": (
        archive_case,
        [*BYTES, *TAR_DAMAGES],
    ),
    "annotations": (
        member_case(r"Annotations/.*\.xml"),
        [*BYTES, swapped, missing, encoded_otherwise, *XML_DAMAGES],
    ),
    "image-set lists": (
        member_case(r"ImageSets/Main/(train|val|test)\.txt"),
        [*BYTES, swapped, missing, encoded_otherwise, *LIST_DAMAGES],
    ),
    "images": (
        member_case(r"\.jpg$"),
        [*BYTES, swapped, missing, resized, other_format],
    ),
    "shards": (shard_case, [*BYTES, swapped, missing, *TABLE_DAMAGES]),
    "models": (model_case, [*BYTES, swapped, missing, *CONFIG_DAMAGES, *STATE_DAMAGES]),
    "checkpoints": (checkpoint_case, [*BYTES, swapped, missing, wrong_pickle]),
    "params": (
        params_case,
        [*BYTES, wrong_type, out_of_range, key_misspelt, key_lost, key_twice, odd_yaml, reencoded],
    ),
}
# Content without any checksum of its own, which only the archive's sha256 protects.
MAY_BE_UNNOTICED = {"archives", "annotations", "image-set lists", "images"}


def cases(per_kind):
    """Seeded, the damages of each kind in turn."""
    for kind, (_, damages) in KINDS.items():
        for seed in range(per_kind):
            yield Case(kind, damages[seed % len(damages)].__name__, seed)


def verdict(world, case, folder):
    run, damages = KINDS[case.kind]
    damage = next(d for d in damages if d.__name__ == case.damage_name)
    return run(world, folder, damage, random.Random(str(case)))


def named(error, culprits):
    message = str(error)
    rows = message.splitlines()
    assert any(culprit in message for culprit in culprits), message
    assert all(len(row) < 600 for row in rows), message
    assert rows, "no message"
    assert all(row.isprintable() for row in rows), message
    return "named"


def run_cases(world, chosen, folder):
    """Counts of verdicts by kind; raises for the first case that ends otherwise."""
    counts = collections.defaultdict(collections.Counter)
    for i, case in enumerate(chosen):
        place = folder / f"{i}"
        if case.kind in MAY_BE_UNNOTICED:
            place.mkdir()
        try:
            found = verdict(world, case, place)
        except BaseException as error:
            raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
        finally:
            shutil.rmtree(place, ignore_errors=True)
        allowed = {"named", "quarantined", "the same"}
        allowed |= {"unnoticed"} if case.kind in MAY_BE_UNNOTICED else set()
        allowed |= {"another experiment"} if case.kind == "params" else set()
        assert found in allowed, f"{case}: {found}"
        counts[case.kind][found] += 1
    return counts
