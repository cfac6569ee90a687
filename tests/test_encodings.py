"""No file or process is read or written in the encoding that the locale happens to have."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "launch.py", *sorted((ROOT / "resnet_jax").rglob("*.py"))]
TEXT = {"read_text": 0, "write_text": 1}


def depends_on_the_locale(call):
    """Whether a call opens text, or reads that of a process, without naming its encoding."""
    named = {keyword.arg for keyword in call.keywords}
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if "encoding" in named:
        return False
    if name in TEXT:
        return len(call.args) <= TEXT[name]
    if {"text", "universal_newlines"} & named:
        return True
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    modes = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if is_mode(a)]
    bare = name == "open" and (isinstance(call.func, ast.Name) or not call.args)
    return not any("b" in mode for mode in modes) and (bool(modes) or bare)


def is_mode(argument):
    text = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    return text and 0 < len(argument.value) <= 3 and set(argument.value) <= set("rwaxbt+")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("open(p)", True),
        ("open(p, 'w')", True),
        ("open(p, 'rb')", False),
        ("open(p, encoding='utf-8')", False),
        ("p.open()", True),
        ("p.open('a+')", True),
        ("p.open(mode='w')", True),
        ("source.open(split)", False),
        ("p.read_text()", True),
        ("p.read_text('utf-8')", False),
        ("p.write_text(text)", True),
        ("p.write_text(text, encoding='utf-8')", False),
        ("NamedTemporaryFile(dir=d)", False),
        ("NamedTemporaryFile('w')", True),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words, capture_output=True)", False),
    ],
)
def test_such_calls_are_found(code, expected):
    assert depends_on_the_locale(ast.parse(code).body[0].value) == expected


def test_the_package_names_every_encoding():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and depends_on_the_locale(node)
    ]
    assert not found
