"""COCO JSON: one file with images, annotations and categories, as MS-COCO and many tools have it.

Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014. An image is positive for a class
when it has any annotation of it, crowds included, and shows none of them when it has no annotation.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from snojoe.data.archives import Archive
from snojoe.data.found import ALL, SPLIT_NAMES, Found, Noticed, quoted, split_folder
from snojoe.data.images import is_image
from snojoe.data.named_images import NamedImages, Place
from snojoe.data.tables import check
from snojoe.support.errors import SnojoeError

# Folders that say what kind of files they hold, and name no set.
_KINDS = {
    *("annotations", "annotation", "labels", "label"),
    *("images", "image", "imgs", "img", "data"),
}
# Files of other tasks beside instances_train2014.json have the same images.
_INSTANCES, _UNLABELLED = "instances_", "image_info_"


class _Annotation(NamedTuple):
    image: Any
    category: Any


class _Image(NamedTuple):
    id: Any
    file_name: Any


class _File:
    """What one file says, checked; images are looked for later."""

    def __init__(self, archive: Archive, name: str, tree: dict[str, Any]) -> None:
        self.archive, self.name = archive, name
        problems: list[str] = []
        self.categories = dict(_categories(tree["categories"], problems))
        self.names = dict(_images(tree["images"], problems))
        self.labels: dict[str, set[str]] = {}
        annotations = tree.get("annotations") or []
        if not isinstance(annotations, list):
            problems.append("expected a list of annotations")
            annotations = []
        for annotation in annotations:
            self._annotate(annotation, problems)
        check(archive, name, list(dict.fromkeys(problems)))
        self.parents = {
            str(each["supercategory"])
            for each in tree["categories"]
            if each.get("supercategory") not in (None, each["name"])
        }
        self.used = set[str]().union(*self.labels.values())
        self.place: Place | None = None

    def _annotate(self, annotation: object, problems: list[str]) -> None:
        if not isinstance(annotation, _Annotation):
            problems.append("an annotation without image_id and category_id")
            return
        image, category = _id(annotation.image), _id(annotation.category)
        if image not in self.names:
            problems.append(f"an annotation of image {annotation.image!r}, which is not there")
        elif category not in self.categories:
            known = quoted(self.categories)
            problems.append(
                f"an annotation of image {image} with the category {annotation.category!r}; "
                f"expected one of {known}"
            )
        else:
            self.labels.setdefault(image, set()).add(self.categories[category])


class CocoFiles:
    """The COCO files of some archives, with their images in the same or in others.

    Parameters
    ----------
    archives : sequence of Archive
    claimed : callable
        Whether an archive has other labels, so that its folders are no lists.

    Attributes
    ----------
    lists : list of str
        ``<set>/<list>``: ``instances_train2017.json`` is ``train2017``; other files are called
        after the split in their name or that of their folder. Folders of images in no file are
        lists without labels.
    known_classes : set of str
        All categories but those that only hold others (Roboflow's first).
    class_order : list of str
        These in the order of the first file, then of the others.
    noticed : Noticed
    """

    title = "COCO JSON"

    def __init__(
        self, archives: Sequence[Archive], claimed: Callable[[Archive], bool] = lambda _: False
    ) -> None:
        self.noticed = Noticed()
        self._wrong: dict[int, list[str]] = {}
        self._files: dict[str, _File] = {}
        for archive in archives:
            self._read_files(archive)
        self._images = NamedImages(archives if self._files else ())
        self._used: dict[int, set[str]] = {}
        for item, file in list(self._files.items()):
            try:
                self._find_images(item, file)
            except SnojoeError as error:
                self._add_wrong(file.archive, error)
                del self._files[item]
        self._folders: dict[str, tuple[Archive, list[str]]] = {}
        for archive in archives if self._files else ():
            if not claimed(archive):
                self._add_folders(archive)
        self.class_order: Sequence[str] = self._classes()
        self.known_classes = set(self.class_order)

    @property
    def lists(self) -> Sequence[str]:
        return [*self._files, *self._folders]

    def read(self, item: str) -> list[Found]:
        """Images of a list, in the order of its file.

        Raises
        ------
        SnojoeError
            If an image is missing, or is there under two ids.
        """
        if item in self._folders:
            archive, names = self._folders[item]
            return [
                Found(self._id(item, n), archive, n, None, f"{archive.path}: {n}") for n in names
            ]
        file = self._files[item]
        where = f"{file.archive.path}: {file.name}"
        images = file.place.images if file.place else [None] * len(file.names)
        if missing := [
            n for n, found in zip(file.names.values(), images, strict=True) if not found
        ]:
            raise SnojoeError(
                f"{where}: no image for {len(missing):,} of its {len(images):,}, such as "
                f"{missing[0]!r}{self._images.elsewhere(missing[0])}"
            )
        if len(set(images)) < len(images):
            name, count = Counter(images).most_common(1)[0]
            raise SnojoeError(f"{where}: expected each image once; got {name} {count} times")
        return list(self._found(item, file))

    def everything(self) -> list[Found]:
        """The images of all files, each once where they agree."""
        seen: dict[tuple[int, str, frozenset[str] | None], Found] = {}
        for item in self._files:
            for image in self.read(item):
                seen.setdefault((id(image.archive), image.name, image.labels), image)
        return list(seen.values())

    def covers(self, archive: Archive) -> bool:
        """Whether an archive holds a file, or images of one, and no file that is wrong."""
        return not self.wrong(archive) and (
            id(archive) in self._used
            or any(file.archive is archive for file in self._files.values())
            or any(there is archive for there, _ in self._folders.values())
        )

    def wrong(self, archive: Archive) -> list[str]:
        """What is wrong with files of an archive that look like COCO's and were not read."""
        return self._wrong.get(id(archive), [])

    def is_mine(self, archive: Archive, name: str) -> bool:
        """Whether a file is one that was read."""
        return any(f.archive is archive and f.name == name for f in self._files.values())

    def _read_files(self, archive: Archive) -> None:
        names = [name for name in archive if name.lower().endswith(".json")]
        # A file beside each image is of another tool, labelme's, and may hold the image itself.
        images = {PurePosixPath(name).stem for name in archive if names and is_image(name)}
        names = [name for name in names if PurePosixPath(name).stem not in images]
        folders = {PurePosixPath(n).parent for n in names if _starts(n, _INSTANCES)}
        for name in names:
            if PurePosixPath(name).parent in folders and not _starts(name, _INSTANCES, _UNLABELLED):
                continue
            try:
                if tree := _tree(archive, name):
                    item = self._list(archive, name)
                    if other := self._files.get(item):
                        raise SnojoeError(
                            f"{archive.path}: {name} would be the list {item}, which "
                            f"{other.archive.path}: {other.name} is; expected another name"
                        )
                    self._files[item] = _File(archive, name, tree)
            except SnojoeError as error:
                self._add_wrong(archive, error)

    def _add_wrong(self, archive: Archive, error: SnojoeError) -> None:
        self._wrong.setdefault(id(archive), []).append(str(error))

    def _find_images(self, item: str, file: _File) -> None:
        at, title = (file.archive, file.name), item.partition("/")[2]
        file.place = self._images.find([*file.names.values()], at, title, self.noticed)
        if file.place:
            used = self._used.setdefault(id(file.place.archive), set())
            used.update(filter(None, file.place.images))

    def _list(self, archive: Archive, name: str) -> str:
        """``<set>/<list>`` of a file; several of one folder that say no split keep their names."""
        stem = PurePosixPath(name).stem
        for start in (_INSTANCES, _UNLABELLED):
            if _starts(name, start):
                return f"{_set(archive, name)}/{stem[len(start) :]}"
        words = [word for word in re.split(r"[^A-Za-z0-9]+", stem) if word.lower() in SPLIT_NAMES]
        item = f"{_set(archive, name)}/{words[0] if len(words) == 1 else split_folder(name)}"
        return f"{_set(archive, name)}/{stem}" if item in self._files else item

    def _add_folders(self, archive: Archive) -> None:
        others = {*self._files, *self._folders}
        folders: dict[str, list[str]] = {}
        for name in filter(is_image, archive):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
        for folder, names in folders.items():
            if self._used.get(id(archive), set()).isdisjoint(names):
                parts = [part for part in folder.split("/") if part.lower() not in _KINDS and part]
                item = (
                    f"{[archive.name, *parts][-2] if parts else archive.name}/{[ALL, *parts][-1]}"
                )
                if item not in others:
                    others.add(item)
                    self._folders[item] = (archive, names)

    def _classes(self) -> list[str]:
        files = self._files.values()
        used = set[str]().union(*(file.used for file in files))
        parents = set[str]().union(*(file.parents for file in files)) - used
        names = dict.fromkeys(name for file in files for name in file.categories.values())
        for name in filter(parents.__contains__, names):
            self.noticed("categories that only hold others, no classes", name)
        return [name for name in names if name not in parents]

    def _found(self, item: str, file: _File) -> Iterator[Found]:
        if file.place is None:  # it has no images
            return
        annotated = bool(file.labels)
        for key, name in zip(file.names, file.place.images, strict=True):
            labels = frozenset(file.labels.get(key, ())) if annotated else None
            where = f"{file.archive.path}: {file.name}, image {key}"
            yield Found(self._id(item, name or ""), file.place.archive, name or "", labels, where)

    @staticmethod
    def _id(item: str, name: str) -> str:
        return f"{item.partition('/')[0]}/{name}"


def _tree(archive: Archive, name: str) -> dict[str, Any] | None:
    """The content of a file that has images and categories; None of any other JSON."""
    if not all(key in archive[name] for key in (b'"images"', b'"categories"')):
        return None
    try:
        tree = json.loads(archive.text(name), object_hook=_lean)
    except (ValueError, RecursionError) as error:
        raise SnojoeError(f"{archive.path}: {name}: not valid JSON: {error}") from None
    if not isinstance(tree, dict) or not all(
        isinstance(tree.get(key), list) for key in ("images", "categories")
    ):
        return None
    return tree


def _lean(tree: dict[str, Any]) -> object:
    """What is needed of an object: outlines and boxes are nine tenths of a file."""
    if "image_id" in tree and "category_id" in tree:
        return _Annotation(tree["image_id"], tree["category_id"])
    if "file_name" in tree and "id" in tree:
        return _Image(tree["id"], tree["file_name"])
    return tree


def _categories(categories: Sequence[Any], problems: list[str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for each in categories:
        name = each.get("name") if isinstance(each, dict) else None
        key = _id(each.get("id")) if isinstance(each, dict) else None
        if key is None or not isinstance(name, str) or not name.strip():
            problems.append("expected id and name of each category")
        elif seen.setdefault(key, name) != name:
            problems.append(f"two categories have the id {key}: {seen[key]!r} and {name!r}")
        else:
            yield key, name.strip()


def _images(images: Sequence[Any], problems: list[str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for each in images:
        key = _id(each.id) if isinstance(each, _Image) else None
        if key is None or not isinstance(each.file_name, str) or not each.file_name.strip():
            problems.append("expected id and file_name of each image")
        elif key in seen:
            problems.append(f"two images have the id {key}: {seen[key]!r} and {each.file_name!r}")
        else:
            seen[key] = each.file_name
            yield key, each.file_name
    if not images:
        problems.append("expected images; there is none")


def _id(value: object) -> str | None:
    """Ids are numbers, or the same as text; pandas writes 7.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return str(value).strip() or None


def _starts(name: str, *starts: str) -> bool:
    return PurePosixPath(name).name.lower().startswith(starts)


def _set(archive: Archive, name: str) -> str:
    """The folder of a file that says more than what kind of files it holds, or the archive."""
    folders = PurePosixPath(name).parts[:-1]
    named = [p for p in folders if p.lower() not in _KINDS and p.lower() not in SPLIT_NAMES]
    return named[-1] if named else archive.name
