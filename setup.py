"""Which packages are installed: every folder of code at the top of the repository, as a part of ``atlaseg``.

Everything else about the distribution stands in ``pyproject.toml``.
"""

from setuptools import find_packages, setup

PARTS = ("pipeline", "atlases", "workflows", "configs")

setup(
    package_dir={"atlaseg": "atlaseg", **{f"atlaseg.{part}": part for part in PARTS}},
    packages=[
        "atlaseg",
        *(
            f"atlaseg.{name}"
            for name in find_packages(include=[pattern for p in PARTS for pattern in (p, f"{p}.*")])
        ),
    ],
)
