"""The clients, as data: what building one needs, how it is built, and where its program then is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BUILD_SECONDS = 1200


@dataclass(frozen=True, slots=True)
class Language:
    """A client's language.

    Attributes:
        tools: what its build needs: a program, or a file that a package installs.
        driver: the command of its `score-jsonl`.
        version: the command that tells the toolchain's version.
        env: what its program is run with, so that memory is bounded where a runtime would take what it can get.
    """

    name: str
    tools: tuple[str, ...]
    driver: tuple[str, ...]
    version: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str:
        """Why it cannot be built here; empty where it can."""
        if self.name != "python" and not (ROOT / "client" / self.name / "Makefile").exists():
            return f"there is no client/{self.name}/Makefile"
        lacking = [tool for tool in self.tools if not (Path(tool).exists() if "/" in tool else shutil.which(tool))]
        return f"needs {', '.join(lacking)}" if lacking else ""

    def build(self) -> str:
        """Builds it; why that failed, or empty."""
        if self.name == "python":
            return ""
        command = ["make", "-C", f"client/{self.name}", "build"]
        try:
            built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"`{' '.join(command)}` took longer than {_BUILD_SECONDS} s"
        return f"`{' '.join(command)}` failed:\n{(built.stdout + built.stderr)[-3000:]}" if built.returncode else ""

    def toolchain(self) -> str:
        """The version of its toolchain."""
        told = subprocess.run(self.version, capture_output=True, text=True, timeout=60, check=False)
        found = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
        return found[0] if found else "unknown"


LANGUAGES = (
    Language("python", (), (sys.executable, "examples/score_jsonl.py"), (sys.executable, "--version")),
    Language(
        "typescript",
        ("make", "node", "npm"),
        ("client/typescript/build/score-jsonl",),
        ("node", "--version"),
        {"NODE_OPTIONS": "--max-old-space-size=96"},
    ),
    Language(
        "go",
        ("make", "go", "protoc", "protoc-gen-go-grpc", "/usr/share/gocode/src/google.golang.org/grpc"),
        ("client/go/build/score-jsonl",),
        ("go", "version"),
    ),
    Language(
        "cpp",
        (
            *("make", "cmake", "g++", "protoc", "grpc_cpp_plugin"),
            *(f"/usr/include/{header}" for header in ("grpcpp/grpcpp.h", "nlohmann/json.hpp", "doctest/doctest.h")),
        ),
        ("client/cpp/build/score-jsonl",),
        ("g++", "--version"),
    ),
    Language(
        "java",
        (
            *("make", "javac", "jar", "protoc", "grpc_java_plugin"),
            *(f"/usr/share/java/{jar}.jar" for jar in ("grpc-netty", "gson", "netty-tcnative", "junit-platform-console")),
        ),
        ("client/java/build/score-jsonl",),
        ("java", "-version"),
        {"JAVA_OPTS": "-Xmx96m"},
    ),
)


def named(name: str) -> Language:
    """The language of that name."""
    return next(language for language in LANGUAGES if language.name == name)
