"""What the native classes say of themselves: `help` shows the module's words, an editor those of `_native.pyi`."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import btlightning
from btlightning import _native

STUBS = ast.parse((Path(btlightning.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUBS.body if isinstance(node, ast.ClassDef)}


def plain(words: str | None) -> str:
    """Without the marks and line breaks in which the two differ."""
    return " ".join((words or "").replace("`", "").split())


@pytest.mark.parametrize(
    "name",
    [
        "ChainStatus",
        "Ext",
        "LearnedSourcesStatus",
        "MetagraphStatus",
        "NeuronInfo",
        "Peer",
        "QuicAxonInfo",
        "SourceEntry",
        "Timings",
    ],
)
def test_every_field_is_described_in_the_same_words_for_help_and_for_editors(name: str) -> None:
    described = CLASSES[name]
    cls = getattr(_native, name)
    assert plain(ast.get_docstring(described)) == plain(inspect.getdoc(cls)) != ""
    properties = {
        node.name: plain(ast.get_docstring(node))
        for node in described.body
        # A setter says nothing of its own.
        if isinstance(node, ast.FunctionDef) and any(isinstance(how, ast.Name) for how in node.decorator_list)
    }
    assert properties == {field: plain(getattr(cls, field).__doc__) for field in properties}
    assert all(properties.values())
