"""The compiled module. Everything else is in pyproject.toml, where setuptools calls extensions experimental."""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "gateway.front.fast_path",
            ["gateway/front/fast_path.pyx"],
            depends=glob("gateway/front/compiled/*.pxi"),  # which it includes
            extra_compile_args=["-g0"],  # Python's own flags include -g, and -O2 or -O3: either is as fast
            optional=True,  # without a C compiler, modelport is installed without the module
        )
    ],
    options={"build_ext": {"cython_c_in_temp": True}},  # no generated C code beside the source
)
