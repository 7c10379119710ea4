"""Nested dicts, lists and tuples, taken apart into named leaves and put together again.

The structure is kept as JSON text, so that reading it back can only ever make dicts, lists, tuples and leaves:

    {"dict": [[key, node], ...]}  {"list": [node, ...]}  {"tuple": [node, ...]}  null
    {"tensor": [dtype, [extent, ...]]}  {"value": "int" | "float" | "bool" | "str" | "bytes"}

A leaf's name is its path, "model/layers/0/weight"; in a key, "~" is written "~0" and "/" is written "~1", as JSON
pointers have it. So no path begins with "~t", and the structure's own item can be called "~tree".
"""
from __future__ import annotations

import json
from typing import Any, Callable, Iterator, Tuple

from . import _abi
from .errors import bad_item

TREE = "~tree"
ROOT = "~root"  # the name of a leaf that is the whole tree
VERSION = 1
_DEEPEST = 200

Node = Any
Describe = Callable[[str, Any], Node]


def escaped(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def join(path: str, key: Any) -> str:
    return f"{path}/{escaped(key)}" if path else escaped(key)


def children(path: str, tree: Any) -> Iterator[Tuple[Any, str, Any]]:
    """(key, path, child) of a container; the keys of a dict sorted, so that all ranks agree on the order."""
    if isinstance(tree, dict):
        names: dict[str, Any] = {}
        for key in tree:
            if type(key) not in (str, int):
                raise bad_item(f"{path or 'the tree'} has a key of type {type(key).__name__}: use str or int")
            if escaped(key) in names or key == "":
                raise bad_item(f"{path or 'the tree'} has the keys {key!r} and {names.get(escaped(key))!r}, which have "
                               "the same name in a checkpoint: rename one" if key != "" else
                               f"{path or 'the tree'} has an empty key: name it")
            names[escaped(key)] = key
        for key in sorted(tree, key=lambda k: (type(k).__name__, k)):
            yield key, join(path, key), tree[key]
    else:
        for index, child in enumerate(tree):
            yield index, join(path, index), child


def is_container(tree: Any) -> bool:
    return isinstance(tree, (dict, list, tuple))


def flatten(tree: Any, describe: Describe) -> Tuple[str, list[Tuple[str, Any]]]:
    """The structure as JSON text, and the leaves by name. `describe` makes the node of a leaf, or refuses it."""
    leaves: list[Tuple[str, Any]] = []

    def walk(path: str, node: Any, depth: int) -> Node:
        if depth > _DEEPEST:
            raise bad_item(f"{path[:80]}... is nested deeper than {_DEEPEST}: does the tree hold itself?")
        if node is None:
            return None
        if isinstance(node, dict):
            return {"dict": [[key, walk(below, child, depth + 1)] for key, below, child in children(path, node)]}
        if is_container(node):
            kind = "tuple" if isinstance(node, tuple) else "list"
            return {kind: [walk(below, child, depth + 1) for _, below, child in children(path, node)]}
        name = path or ROOT
        if len(name.encode("utf-8", "surrogatepass")) > _abi.THOLE_MAX_ITEM_NAME:
            raise bad_item(f"{name[:80]}... is a path of more than {_abi.THOLE_MAX_ITEM_NAME} bytes: use shorter keys")
        made = describe(name, node)
        leaves.append((name, node))
        return made

    structure = {"version": VERSION, "tree": walk("", tree, 0)}
    return json.dumps(structure, ensure_ascii=False, separators=(",", ":")), leaves


def parse(text: str) -> Node:
    structure = json.loads(text)
    if structure.get("version") != VERSION:
        raise bad_item(f"the tree was saved in form {structure.get('version')}, this package reads {VERSION}: use a newer one")
    return structure["tree"]


def kind(node: Node) -> str:
    return "None" if node is None else str(next(iter(node)))


def build(node: Node, path: str, leaf: Callable[[str, Node], Any]) -> Any:
    """The tree as it was saved."""
    if node is None:
        return None
    if "dict" in node:
        return {key: build(child, join(path, key), leaf) for key, child in node["dict"]}
    for name, make in (("list", list), ("tuple", tuple)):
        if name in node:
            return make(build(child, join(path, i), leaf) for i, child in enumerate(node[name]))
    return leaf(path or ROOT, node)


def rebuild(node: Node, like: Any, path: str, leaf: Callable[[str, Node, Any], Any], whole: Callable[[str, Node], Any]) -> Any:
    """The tree in the form of `like`. Where `like` has None, it is as it was saved."""
    if like is None:
        return build(node, path, whole)
    name = path or "the tree"
    if not is_container(like):
        if node is None or not ({"tensor", "value"} & set(node)):
            raise bad_item(f"{name} is a {kind(node)} in the checkpoint and {type(like).__name__} here: give a tree of the same form")
        return leaf(path or ROOT, node, like)
    wanted = "dict" if isinstance(like, dict) else "tuple" if isinstance(like, tuple) else "list"
    if kind(node) != wanted:
        raise bad_item(f"{name} is a {kind(node)} in the checkpoint and a {wanted} here: give a tree of the same form")
    if wanted == "dict":
        saved = {key: child for key, child in node["dict"]}
        missing, more = [k for k in like if k not in saved], [k for k in saved if k not in like]
        if missing or more:
            raise bad_item(f"{name} has other keys in the checkpoint: it lacks {missing[:5]}, and has {more[:5]} besides; "
                           "restore() without a tree gives all that was saved")
        return {key: rebuild(saved[key], child, join(path, key), leaf, whole) for key, child in like.items()}
    if len(node[wanted]) != len(like):
        raise bad_item(f"{name} has {len(node[wanted])} elements in the checkpoint and {len(like)} here")
    made = [rebuild(child, old, join(path, i), leaf, whole) for i, (child, old) in enumerate(zip(node[wanted], like))]
    if wanted == "list":
        return made
    # A named tuple is made by its own fields; its type comes from `like`, never from the checkpoint.
    return type(like)(*made) if hasattr(like, "_fields") else tuple(made)
