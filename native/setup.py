"""Compiles `convolution.cc`; it needs a C++20 compiler (GCC 11 or newer)."""

import importlib.metadata
from pathlib import Path

import jaxlib
from setuptools import Extension, setup

(library,) = (
    Path(file.locate()).resolve()
    for file in importlib.metadata.files("onednn-cpu-gomp") or ()
    if file.name == "libdnnl.so"
)
headers = [Path(jaxlib.__file__).parent / "include", library.parents[1] / "include"]
convolution = Extension(
    "resnet_jax_native._convolution",
    ["convolution.cc"],
    extra_compile_args=[
        "-std=c++20",
        "-O3",
        "-fvisibility=hidden",
        *(f"-isystem{path}" for path in headers),
    ],
    library_dirs=[str(library.parent)],
    libraries=["dnnl", "gomp"],
    py_limited_api=True,  # It calls nothing of Python: one file serves all versions.
)
setup(ext_modules=[convolution], options={"bdist_wheel": {"py_limited_api": "cp311"}})
