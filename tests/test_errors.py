"""Errors and names are one line that every stream can print."""

import io
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_jax import console
from resnet_jax.errors import UserError, printable

ANY = st.text(st.characters(codec=None), max_size=60)
VALUES = ANY | st.integers() | st.none() | st.lists(ANY, max_size=3)


@given(ANY, VALUES, ANY, ANY)
def test_an_error_of_any_text_is_one_printable_line(field, value, problem, fix):
    error = UserError(field, value, problem, fix)
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@given(ANY)
def test_printable_text_is_left_and_the_rest_escaped(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
    shown.encode()


def test_escapes_are_those_of_python_and_bytes():
    assert printable("a\nb\t\x1b[31m") == r"a\nb\t\x1b[31m"
    assert printable("caf\udce9 é ± 🙂") == r"caf\xe9 é ± 🙂"
    assert printable("\ud800\u2028\u202e") == r"\ud800\u2028\u202e"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_stream_takes_every_text(monkeypatch, encoding):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    console.escape_unencodable()
    text = "± × − caf\udce9 \ud800 🙂 [bold] [/x] :smile:"
    print(text)
    console.make_console(file=stream).print(text)
    stream.flush()
    lines = written.getvalue().decode(encoding).splitlines()
    assert lines == [text.encode(encoding, "backslashreplace").decode(encoding)] * 2


def test_a_long_value_is_shortened():
    message = str(UserError("model.freeze", "[" * 10**6 + "]", "is wrong"))
    assert len(message) < 6000
    assert message.endswith("]': is wrong")
