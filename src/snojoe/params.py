"""``params.yaml`` as typed objects, checked as a whole before anything long starts."""

from __future__ import annotations

import difflib
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from snojoe.model.architectures import LEAST_SIZE, OWN, TRUNKS, is_timm, layer_names
from snojoe.support.errors import SnojoeError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Depth = Annotated[int, Field(ge=0)]
Unannotated = Literal["unknown", "negative"]
Meaning = Literal["class", "negative", "unannotated"]
# Not strict: YAML has lists.
Channels = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], Field(strict=False)]
Described = Annotated[str, Field(pattern=r"^(timm|torchvision)/[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?$")]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]

_ROUNDING = 1e-6  # of a sum of shares

# Names beside those of OOD sets in metrics and data.expected.
TAKEN = {"id", "train", "val", "test", "map", "accepted", "sn_layers", "normalized_weights"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _check_inside(path: str, what: str) -> None:
    """What lies outside of data.folder would be no dependency: its changes would go unnoticed."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError(f"expected {what} inside data.folder; got {path!r}: set data.folder")


class ArchiveSource(_Section):
    """Where one archive comes from: made here, brought by the user, or downloaded.

    ``size`` (bytes) and ``obtain`` (a sentence) are for people: ``snojoe data-check`` and the
    message about a missing archive show them. An OOD set may list the ``classes`` that it must
    hold: names of folders, or of tars without their suffix; ``distance`` says how far from the ID
    images it is. ``labels`` is the table in an ID archive, where it is not called labels.csv.
    """

    embedded: Literal["digits", "novel_digits", "textures"] | None = None
    path: str | None = None
    url: list[str] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: PositiveInt | None = None
    obtain: str | None = None
    labels: str | None = None
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    distance: Literal["near", "far"] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [key for key in ("embedded", "path", "url") if getattr(self, key)]
        if len(origins) != 1:
            given = " and ".join(origins) or "none of them"
            raise ValueError(f"expected exactly one of embedded, path, url; got {given}")
        if self.url and not self.sha256:
            raise ValueError("a url needs its sha256")
        if self.embedded and self.sha256:
            raise ValueError("an embedded set has no sha256")
        if self.path:
            _check_inside(self.path, "path")
        return self

    @property
    def filename(self) -> str:
        """Name of the archive: what the user calls it, or the last part of the first address."""
        if self.embedded:
            return f"{self.embedded}.tar"
        return Path((self.url or [self.path or ""])[0]).name


class Splits(_Section):
    """Image-set lists as ``<set>/<list>``, several joined in order; or shares of all images."""

    train: list[str] | float
    val: list[str] | float
    test: list[str] | float

    @field_validator("train", "val", "test", mode="before")
    @classmethod
    def _lists_or_a_share(cls, split: Any) -> list[str] | float:
        if type(split) in (int, float) and 0 < split < 1:
            return float(split)
        if not isinstance(split, list) or not split:
            got = reprlib.repr(split)
            raise ValueError(f"expected lists of images, or a share such as 0.7; got {got}")
        for item in split:
            if not isinstance(item, str) or item.count("/") != 1 or not all(item.split("/")):
                got = reprlib.repr(item)
                raise ValueError(f"expected <set>/<list>, such as VOC2012/train; got {got}")
        return split

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        values = [self.train, self.val, self.test]
        shares = [value for value in values if isinstance(value, float)]
        if shares and (len(shares) < len(values) or abs(sum(shares) - 1) > _ROUNDING):
            raise ValueError(f"expected three lists, or three shares whose sum is 1; got {values}")
        return self

    @property
    def by_shares(self) -> bool:
        """Whether images are split by their names, where nobody has split them."""
        return isinstance(self.train, float)


class Expected(_Section):
    """What the sets must hold; anything else stops ``preprocess`` before it writes.

    ``images`` by split or OOD set, ``classes`` by OOD set (number of folders that hold images),
    ``positives`` by class: images of train.
    """

    images: dict[str, PositiveInt] = {}
    classes: dict[str, PositiveInt] = {}
    positives: dict[str, PositiveInt] = {}


class Digits(_Section):
    """Edge and number of scenes of the embedded set; ``ood`` for each of its OOD sets."""

    size: Annotated[int, Field(ge=32, le=512)]
    train: PositiveInt
    val: PositiveInt
    test: PositiveInt
    ood: PositiveInt
    seed: Seed


class PreprocessingParams(_Section):
    """What a network was trained for: ``mean`` and ``std`` of the channels as shares of 255.

    ``crop`` is the edge of the centre that is taken, as a share of the resized shorter side.
    """

    mean: Annotated[tuple[Share, Share, Share], Field(strict=False)]
    std: Channels
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    aspect_kept: bool = False
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0


class Data(_Section):
    """What is read, and how.

    ``unannotated`` is what it says that nobody annotated an image: nothing, or that it is a
    negative, an image that shows none of the classes. ``label_meanings`` are of labels that are no
    class, or that only look as if they were none. ``group_pattern`` is searched for in an image's
    path; its first group, or all of it, names the images that belong together. ``same_class`` are
    names in OOD sets of what a class is, beyond those that `snojoe.data.overlap` knows.
    ``preprocessing`` is the protocol's where it is empty; or that of a published network, by its
    name; or its own. ``outliers`` are images that ``train.outliers: auxiliary`` trains with, and
    that are in no OOD set.
    """

    folder: str
    id: list[ArchiveSource] = Field(min_length=1)
    ood: dict[SetName, ArchiveSource] = Field(min_length=1)
    outliers: ArchiveSource | None = None
    splits: Splits
    image_size: Annotated[int, Field(ge=min(LEAST_SIZE.values()), le=2048)]
    difficult: bool
    unannotated: Unannotated = "unknown"
    label_meanings: dict[str, Meaning] = {}
    same_class: dict[str, list[str]] = {}
    group_pattern: str | None = None
    preprocessing: Described | PreprocessingParams | None = None
    max_bad_share: Share
    expected: Expected | None
    digits: Digits

    @field_validator("id")
    @classmethod
    def _no_classes(cls, sources: list[ArchiveSource]) -> list[ArchiveSource]:
        if any(source.classes for source in sources):
            raise ValueError("classes can be listed for an OOD set only: annotations name these")
        if any(source.distance for source in sources):
            raise ValueError("distance is an OOD set's: how far it is from these")
        return sources

    @field_validator("ood")
    @classmethod
    def _no_labels(cls, ood: dict[str, ArchiveSource]) -> dict[str, ArchiveSource]:
        if any(source.labels for source in ood.values()):
            raise ValueError("labels names the table of an ID set; an OOD set has none")
        return ood

    @field_validator("group_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"expected a regular expression; got {pattern!r}: {error}") from None
        return pattern

    @field_validator("ood")
    @classmethod
    def _names_are_free(cls, ood: dict[str, ArchiveSource]) -> dict[str, ArchiveSource]:
        if taken := TAKEN & ood.keys():
            raise ValueError(
                f"an OOD set cannot be called {min(taken)!r}: the results use that name"
            )
        return ood

    @model_validator(mode="after")
    def _archives_have_names_of_their_own(self) -> Self:
        named: dict[str, ArchiveSource] = {}
        for source in self.sources:
            if source.path:
                continue
            other = named.setdefault(source.filename, source)
            if (other.embedded, other.sha256) != (source.embedded, source.sha256):
                raise ValueError(
                    f"two archives would both be data/raw/{source.filename}; download one yourself "
                    "and name it by path"
                )
        return self

    @model_validator(mode="after")
    def _outliers_are_their_own(self) -> Self:
        mine = self.outliers
        if mine is None:
            return self
        if mine.labels or mine.distance:
            raise ValueError("outliers: expected neither labels nor distance: nobody measures them")
        named = {f"ood.{name}": source for name, source in self.ood.items()}
        for name, other in (*(("id", source) for source in self.id), *named.items()):
            for key in ("embedded", "path", "sha256"):
                if getattr(mine, key) and getattr(mine, key) == getattr(other, key):
                    raise ValueError(
                        f"outliers: {key} {getattr(mine, key)} is data.{name}'s, too: expected "
                        "images that nothing is tested on"
                    )
        return self

    @model_validator(mode="after")
    def _expected_sets_exist(self) -> Self:
        expected = self.expected or Expected()
        for section, known in (
            ("images", [*Splits.model_fields, *self.ood]),
            ("classes", self.ood),
        ):
            for name in getattr(expected, section):
                if name not in known:
                    raise ValueError(
                        f"expected.{section}: expected one of {', '.join(known)}; got {name!r}"
                    )
        return self

    @property
    def sources(self) -> list[ArchiveSource]:
        """Every archive that is read."""
        return [*self.id, *self.ood.values(), *([self.outliers] if self.outliers else [])]

    @property
    def test_is_val(self) -> bool:
        """Whether the val split serves as the ID test set, where no test archive is at hand."""
        return not self.splits.by_shares and self.splits.test == self.splits.val


class OwnNetwork(_Section):
    """A network that is trained already.

    ``network`` is ``file.py:function`` in ``data.folder``; the function takes nothing and returns
    an ``nn.Module``. ``classes`` are its labels in the order of its logits, where that is not the
    data's; ``head`` its last linear layer, or nothing; ``features`` the module that pools.
    """

    network: Annotated[str, Field(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")]
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    head: str | None = None
    features: str | None = None

    @field_validator("network")
    @classmethod
    def _in_the_folder(cls, network: str) -> str:
        _check_inside(network, "file.py:function")
        return network

    @model_validator(mode="after")
    def _something_is_read(self) -> Self:
        if self.head is None and self.features is None:
            raise ValueError("expected head, the last linear layer, or features, what pools")
        return self


class Model(_Section):
    arch: str
    weights: str | None
    own: OwnNetwork | None = None

    @model_validator(mode="after")
    def _own_is_described(self) -> Self:
        if (self.arch == OWN) != (self.own is not None):
            raise ValueError("own: expected it for arch: own, and for no other")
        return self

    @field_validator("arch")
    @classmethod
    def _supported(cls, arch: str) -> str:
        if is_timm(arch):
            name, _, tag = arch.partition(".")
            if tag:
                raise ValueError(f"expected {name}, with model.weights: {tag}; got {arch!r}")
        elif arch not in (*TRUNKS, OWN):
            raise ValueError(
                f"expected one of {', '.join(TRUNKS)}, timm/<name> or {OWN}; got {arch!r}"
            )
        return arch

    @field_validator("weights")
    @classmethod
    def _in_the_folder(cls, weights: str | None) -> str | None:
        if weights:
            _check_inside(weights, "a name or a file")
        return weights


class SpectralNormParams(_Section):
    bound: Literal["none", "hard", "soft"]
    coefficient: PositiveFloat
    norm: Literal["reshape", "operator"]
    batch_norm_bound: PositiveFloat | None


class Augment(_Section):
    flip: Share
    scale: Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)]

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: list[float]) -> list[float]:
        if scale[0] > scale[1]:
            raise ValueError(f"expected the smaller bound first; got {scale}")
        return scale


class Train(_Section):
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    gradient_accumulation: PositiveInt
    lr: PositiveFloat
    trunk_lr_factor: NonNegativeFloat
    schedule: Literal["constant", "one_cycle"]
    loss: Literal["bce", "asymmetric", "logit_norm"] = "bce"
    outliers: Literal["pseudo_ood", "auxiliary"] | None = None
    freeze_after_epoch: Annotated[int, Field(ge=0)] | None
    threads: PositiveInt = 1
    workers: Annotated[int, Field(ge=0)]
    augment: Augment

    @model_validator(mode="after")
    def _parts_have_a_variance(self) -> Self:
        if self.batch_size < 2 * self.gradient_accumulation:
            raise ValueError(
                f"gradient_accumulation: expected at most half of batch_size={self.batch_size}, "
                f"since BatchNorm needs two images; got {self.gradient_accumulation}"
            )
        return self


class Infer(_Section):
    batch_size: PositiveInt
    threads: PositiveInt = 1
    tune: bool


class Ablation(_Section):
    sn_layers: Annotated[list[Depth], Field(min_length=1)]

    @field_validator("sn_layers")
    @classmethod
    def _with_control(cls, depths: list[int]) -> list[int]:
        if 0 not in depths:
            raise ValueError(f"expected 0 among the depths: it is the control; got {depths}")
        return depths

    @property
    def is_one(self) -> bool:
        """Whether no depth is compared with another, so that there is no Table 3."""
        return len(set(self.sn_layers)) == 1


class Params(_Section):
    """Everything that an experiment depends on."""

    sn_layers: Depth
    arithmetic: Literal["portable", "native"] = "portable"
    seeds: Annotated[list[Seed], Field(min_length=1)]
    ablation: Ablation
    data: Data
    model: Model
    spectral_norm: SpectralNormParams
    train: Train
    infer: Infer

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"expected distinct seeds; got {seeds}")
        return seeds

    @model_validator(mode="after")
    def _depths_exist(self) -> Self:
        if self.model.arch == OWN and self.depths != [0]:
            raise ValueError("sn_layers: expected 0, and no other depth, for model.arch: own")
        if is_timm(self.model.arch):  # `check_classifier`: to look at it imports torch
            return self
        names = layer_names(self.model.arch)
        for depth in self.depths:
            if depth > len(names):
                raise ValueError(
                    f"sn_layers: expected 0 to {len(names)} for {self.model.arch}; got {depth}"
                )
        return self

    @model_validator(mode="after")
    def _only_what_is_trained_already_is_not_trained(self) -> Self:
        own = self.model.arch == OWN
        if own != (self.train.epochs == 0):
            raise ValueError("train.epochs: expected 0 for model.arch: own, and more for any other")
        if own and len(self.seeds) > 1:
            raise ValueError("seeds: expected one for model.arch: own, which nothing is drawn for")
        return self

    @model_validator(mode="after")
    def _outliers_are_there(self) -> Self:
        if self.train.outliers and self.model.arch == OWN:
            raise ValueError("train.outliers: expected none for model.arch: own: it is trained")
        if self.train.outliers == "auxiliary" and self.data.outliers is None:
            raise ValueError("train.outliers: auxiliary needs images, data.outliers; got none")
        return self

    @model_validator(mode="after")
    def _trunk_takes_the_images(self) -> Self:
        least = LEAST_SIZE.get(self.model.arch, 0)
        if self.data.image_size < least:
            raise ValueError(
                f"data.image_size: expected at least {least} for {self.model.arch}; "
                f"got {self.data.image_size}"
            )
        return self

    @property
    def depths(self) -> list[int]:
        """Every depth that is trained, without repetition, ascending."""
        return sorted({self.sn_layers, *self.ablation.sn_layers})


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises
    ------
    SnojoeError
        If the file is missing, is not YAML, or any parameter is unknown, missing or out of range;
        the message lists every such parameter.
    """
    path = Path(path)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise SnojoeError(f"{path}: no such file") from None
    except OSError as error:
        raise SnojoeError(f"{path}: not readable: {error.strerror}") from None
    except RecursionError:
        raise SnojoeError(f"{path}: not valid YAML: too deeply nested") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: encodings, dates, huge numbers
        raise SnojoeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise SnojoeError(f"{path}: expected parameters by name; got {type(tree).__name__}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(problem, tree) for problem in error.errors()]
        raise SnojoeError("\n".join(f"{path}: {problem}" for problem in problems)) from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice; PyYAML itself takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                where = key.start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is there twice", where
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


# Of earlier versions.
_GONE = {"score": "nothing is resampled any more; delete the section"}


def _explain(problem: Any, tree: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        if where in _GONE:
            return f"{where} is gone: {_GONE[where]}"
        known = _known_keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
        return f"unknown parameter {where}: {hint}"
    if problem["type"] == "missing":
        return f"missing parameter {where}"
    if problem["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message[0].lower()}{message[1:]}; got {reprlib.repr(problem['input'])}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Names that exist in the section at ``location``."""
    section: Any = Params
    for part in location:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part)
        if field is None:  # the name of an OOD set
            section = ArchiveSource
            continue
        section = next(
            (
                t
                for t in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if isinstance(t, type) and issubclass(t, BaseModel)
            ),
            section,
        )
    return list(section.model_fields)
