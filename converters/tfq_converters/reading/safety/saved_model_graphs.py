"""Refuses SavedModels whose graphs do more than compute: only operations that are on the lists are let in."""

import posixpath
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.reading.safety.keras_code import ADVICE
from tfq_converters.reading.safety.operation_types import COMPUTING, RESTORING, SAVING, TEXT_TABLES

NOTHING: frozenset[str] = frozenset()
INITIALIZER = "__saved_model_init_op"
ASSETS = "saved_model_assets"
OTHER_FORMS = ("saved_model.cpb", "saved_model.pbtxt")  # which TensorFlow reads, too


def parsed(path: Path) -> Any:
    """Return the protocol buffer of a SavedModel folder.

    Raises:
        TfqError: it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise TfqError(f"{path}/saved_model.pb is damaged: {error}") from error
    return saved


def refuse_unsafe_nodes(path: Path) -> None:
    """Raise when the graphs of a SavedModel do more than compute, or its assets are outside of the folder.

    Raises:
        TfqError: lists every such operation and asset, or says that the protocol buffer is damaged.
    """
    reasons = [f"it holds a {name} next to saved_model.pb" for name in OTHER_FORMS if (path / name).exists()]
    try:
        for meta_graph in parsed(path).meta_graphs:
            reasons += _outside_assets(meta_graph)
            reasons += _MetaGraph(meta_graph).unsafe()
    except (LookupError, UnicodeDecodeError) as error:  # nodes that name none
        raise TfqError(f"{path}/saved_model.pb is damaged: {error}") from error
    raise_all(sorted(set(reasons)), f"{path} reads files or runs code outside of its graph ({ADVICE}):")


def _outside_assets(meta_graph: Any) -> Iterator[str]:
    for asset in [*meta_graph.asset_file_def, *_listed_assets(meta_graph)]:
        inside = posixpath.normpath(posixpath.join("/assets", asset.filename))
        if not inside.startswith("/assets/") or "\\" in asset.filename:
            yield f"asset {asset.filename!r} is outside of the folder"


def _listed_assets(meta_graph: Any) -> Iterator[Any]:
    """Yield the assets of a SavedModel of TensorFlow 1."""
    from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef

    for packed in meta_graph.collection_def[ASSETS].any_list.value if ASSETS in meta_graph.collection_def else ():
        asset = AssetFileDef()
        packed.Unpack(asset)
        yield asset


class _MetaGraph:
    """A graph and its functions, and who calls what.

    The functions and nodes that save and restore variables are part of every SavedModel. They may use files, as
    long as nothing else leads to them, and a restored file is the one that TensorFlow names.
    """

    def __init__(self, meta_graph: Any) -> None:
        self._graph = meta_graph.graph_def
        self._objects = meta_graph.object_graph_def
        self._functions = {function.signature.name: function for function in self._graph.library.function}
        self._nodes = {node.name: node for node in self._graph.node}
        saver = meta_graph.saver_def
        self._file_name = _node_name(saver.filename_tensor_name)
        self._assets = {_node_name(asset.tensor_info.name) for asset in meta_graph.asset_file_def}
        signatures = meta_graph.signature_def
        outputs = {key: [tensor.name for tensor in one.outputs.values()] for key, one in signatures.items()}
        self._signed = self._before([name for key, names in outputs.items() if key != INITIALIZER for name in names])
        listed = [name for one in meta_graph.collection_def.values() for name in one.node_list.value]
        initial = self._before([*outputs.get(INITIALIZER, []), *listed])
        running = self._signed | initial
        self._restoring = self._before([saver.restore_op_name]) - running
        self._saving = self._before([saver.save_tensor_name]) - running - self._restoring
        rest = set(self._nodes) - self._saving - self._restoring
        gradients = [gradient.gradient_func for gradient in self._graph.library.gradient]
        called = self._called(rest, [*self._objects.concrete_functions, *gradients, *self._interchangeable()])
        self._restoring_functions = self._called(self._restoring) - called
        self._saving_functions = self._called(self._saving) - called - self._restoring_functions

    def unsafe(self) -> Iterator[str]:
        """Yield, in words, every operation that does more than compute."""
        for node in self._nodes.values():
            allowed = SAVING if node.name in self._saving else NOTHING
            allowed = RESTORING if node.name in self._restoring else allowed
            if not self._computes(node, allowed, {self._file_name}, set()):
                yield f"operation {node.name!r} is a {node.op}"
        for name, function in self._functions.items():
            arguments = {argument.name for argument in function.signature.input_arg}
            files = self._asset_arguments(name)
            allowed = SAVING if name in self._saving_functions else NOTHING
            allowed = RESTORING if name in self._restoring_functions else allowed
            for node in function.node_def:
                if not self._computes(node, allowed, arguments, files):
                    yield f"operation {node.name!r} of function {name!r} is a {node.op}"

    def _computes(self, node: Any, allowed: frozenset[str], restored: set[str], assets: set[str]) -> bool:
        """Return whether a node only computes, is one of `allowed`, or reads an asset into a table."""
        if node.op in COMPUTING or node.op in self._functions:
            return True
        if node.op in TEXT_TABLES:
            return len(node.input) > 1 and _node_name(node.input[1]) in assets
        if node.op in RESTORING and (not node.input or _node_name(node.input[0]) not in restored):
            return False
        return node.op in allowed

    def _asset_arguments(self, name: str) -> set[str]:
        """Return the arguments of a function that are assets, whoever calls it: the loader, or an initializer."""
        if name not in self._objects.concrete_functions or name in self._called_inside:
            return set()
        bound = self._objects.concrete_functions[name].bound_inputs
        arguments = [argument.name for argument in self._functions[name].signature.input_arg]
        kinds = [self._objects.nodes[k].WhichOneof("kind") for k in bound if k < len(self._objects.nodes)]
        first = len(arguments) - len(bound)
        assets = {first + k for k, kind in enumerate(kinds) if kind == "asset"}
        for node in self._nodes.values():
            if name in self._named(node):
                passed = {k for k, tensor in enumerate(node.input) if self._is_asset(_node_name(tensor))}
                assets &= passed if node.name not in self._signed else set()
        return {argument for k, argument in enumerate(arguments) if k in assets}

    def _is_asset(self, name: str) -> bool:
        """Return whether a node is an asset, or reads a variable that no node sets to anything else."""
        node = self._nodes.get(name)
        if name in self._assets or node is None or node.op != "ReadVariableOp":
            return name in self._assets
        assigned = {
            _node_name(one.input[1])
            for one in self._nodes.values()
            if one.op == "AssignVariableOp" and self._variable(one) == self._variable(node)
        }
        return bool(assigned) and assigned <= self._assets

    def _variable(self, node: Any) -> str:
        """Return the name of the variable that a node reads or sets."""
        handle = self._nodes[_node_name(node.input[0])]
        return str(handle.attr["shared_name"].s.decode() or handle.name)

    @cached_property
    def _called_inside(self) -> set[str]:
        """Return the functions that functions call."""
        return {name for one in self._functions.values() for node in one.node_def for name in self._named(node)}

    def _before(self, names: Iterable[str]) -> set[str]:
        """Return the nodes that have to run before those of the names, and these."""
        left, nodes = [_node_name(name) for name in names], set[str]()
        while left:
            name = left.pop()
            if name in self._nodes and name not in nodes:
                nodes.add(name)
                left += [_node_name(tensor) for tensor in self._nodes[name].input]
        return nodes

    def _called(self, nodes: Iterable[str], functions: Iterable[str] = ()) -> set[str]:
        """Return the functions that nodes call, directly or not, and `functions` with all that they call."""
        left = [*functions, *(name for node in nodes for name in self._named(self._nodes[node]))]
        names: set[str] = set()
        while left:
            name = left.pop()
            if name in self._functions and name not in names:
                names.add(name)
                left += [called for node in self._functions[name].node_def for called in self._named(node)]
        return names

    def _named(self, node: Any) -> Iterator[str]:
        """Yield the names of all functions that a node holds."""
        yield node.op
        for value in node.attr.values():
            yield from (one.name for one in (value.func, *value.list.func) if one.name)

    def _interchangeable(self) -> list[str]:
        """Return the functions that TensorFlow may put in the place of others."""
        return [name for name, function in self._functions.items() if "api_implements" in function.attr]


def _node_name(tensor: str) -> str:
    """Return the node that a tensor or a control input comes from."""
    return tensor.removeprefix("^").partition(":")[0]
