"""Puts together what task pods get with `bootstrap.enabled`: Python, clearml-agent and git.

Run once, while the controller's image is built, by the Python that is put in:

    python3 assemble.py --target /clearml-k8s --packages FOLDER --wheels FOLDER --patchelf FILE

What is copied is what this machine has: its Python, its git, the C library and loader of both. Programs name the
loader and the libraries by their path below the target, so the folder needs nothing of an image, and has the same path
in each (ADR 0013).

    lib/      the loader and every shared library         python/   Python with pip and virtualenv
    agent/    a virtual environment with clearml-agent    git/      git, its programs and templates
    wheels/   pip, in the versions that the agent asks for          ca-certificates.crt
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from bundle_packages import MissingPackage, install_pip, pip_versions, separate

LEFT_OUT = (
    *("test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo", "_test*.so", "_ctypes_test*", "_tkinter*"),
    *("config-*", "__pycache__", "*-packages", "EXTERNALLY-MANAGED", "sitecustomize.py"),
)
"""Of Python's library; `*-packages`: what was installed beside it."""

ALWAYS = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6")
"""What wheels for Linux expect of every machine. The interpreter loads them itself: a library with a path of its own is
not looked for at the interpreter's, and an image may have none of them."""

GIT_LEFT_OUT = re.compile(r"-(daemon|http-backend|shell|imap-send|http-push|fast-import)$")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

TOOLS = ("basename", "cat", "cp", "cut", "dirname", "expr", "grep", "ls", "mkdir", "mktemp", "mv", "rm", "sed", "sort",
         "tr", "uname", "wc")  # fmt: skip
"""What git's scripts call, as `git submodule` does in each `git clone --recursive`; an image may have none of them."""

APART = """\
import os, sys
image = {os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in image]
"""
"""Runs first in the agent's Python: PYTHONPATH is the image's and the task's, whose packages may be of another one."""

GIT_WRAPPER = """\
#!/bin/sh
PATH="$PATH:{git}/tools"
GIT_EXEC_PATH={git}/libexec GIT_TEMPLATE_DIR={git}/templates
if [ -z "${{GIT_SSL_CAINFO:-}}" ] && [ ! -e {certificates} ]; then
    export GIT_SSL_CAINFO="${{SSL_CERT_FILE:-{target}/ca-certificates.crt}}"
fi
export PATH GIT_EXEC_PATH GIT_TEMPLATE_DIR
exec {git}/libexec/git "$@"
"""


class CannotAssemble(Exception):
    """Something that has to be put in is missing on this machine; the text says what."""


def output(command: Sequence[str | Path], *, environment: dict[str, str] | None = None) -> str:
    """The program's output. Raises CannotAssemble with its errors when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise CannotAssemble(f"{' '.join(map(str, command))} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def libraries(listing: str) -> dict[str, Path]:
    """Name -> file of the shared libraries in what `ldd` prints; the loader is among them. Raises CannotAssemble."""
    found = {}
    for line in listing.splitlines():
        words = line.split()
        if "not found" in line:
            raise CannotAssemble(f"this machine lacks a library: {line.strip()}")
        if len(words) >= 3 and words[1] == "=>" and words[2].startswith("/"):
            found[words[0]] = Path(words[2])
        elif words and words[0].startswith("/"):
            found[Path(words[0]).name] = Path(words[0])
    return found


def is_elf(file: Path) -> bool:
    """A program or a shared library, not a link to one."""
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def copy_libraries(files: Iterable[Path], *, into: Path, inside: Path) -> None:
    """All libraries that `files` need, each under the name by which it is asked for, but for those below `inside`."""
    into.mkdir(parents=True, exist_ok=True)
    for file in files:
        for name, library in libraries(output(["ldd", file])).items():
            if not (into / name).exists() and inside not in library.parents:
                shutil.copyfile(library, into / name)
                (into / name).chmod(0o755)


def copy_always(*, into: Path, like: Path) -> None:
    """`ALWAYS`, from the folder of the C library that `like` uses. Raises CannotAssemble when one is missing."""
    folder = libraries(output(["ldd", like]))["libc.so.6"].parent
    places = [folder, Path("/usr") / folder.relative_to("/")]
    for name in ALWAYS:
        file = next((place / name for place in places if (place / name).exists()), None)
        if file is None:
            raise CannotAssemble(f"this machine lacks {name}")
        shutil.copyfile(file, into / name)
        (into / name).chmod(0o755)


def copy_python(target: Path) -> Path:
    """This Python, without packages; the interpreter's path."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    shutil.copytree(library, target / "lib" / version, symlinks=False, ignore=shutil.ignore_patterns(*LEFT_OUT))
    binary = target / "bin" / version
    binary.parent.mkdir()
    shutil.copyfile(Path(sys.executable).resolve(), binary)
    binary.chmod(0o755)
    for name in ("python3", "python"):
        (binary.parent / name).symlink_to(version)
    return binary


def copy_git(target: Path) -> list[Path]:
    """git's programs and templates, without what is written in Perl; the files that are programs."""
    git = shutil.which("git")
    if git is None:
        raise CannotAssemble("this machine lacks git")
    programs = Path(output([git, "--exec-path"]).strip())
    libexec = target / "libexec"
    libexec.mkdir(parents=True)
    shutil.copyfile(Path(git).resolve(), libexec / "git")
    (libexec / "git").chmod(0o755)
    for program in sorted(programs.iterdir()):
        if program.name == "git" or program.is_dir() or GIT_LEFT_OUT.search(program.name):
            continue
        if is_elf(program.resolve()) and program.resolve().name != program.name:
            (libexec / program.name).symlink_to(program.resolve().name)
        elif is_elf(program) or not program.read_bytes().startswith((b"#!/usr/bin/perl", b"#!/usr/bin/env perl")):
            same = program.stat().st_size == (libexec / "git").stat().st_size and is_elf(program)
            if same:  # a hard link
                (libexec / program.name).symlink_to("git")
            else:
                shutil.copyfile(program, libexec / program.name)
                (libexec / program.name).chmod(0o755)
    (target / "templates").mkdir()
    return [file for file in sorted(libexec.iterdir()) if is_elf(file)]


def copy_tools(target: Path) -> None:
    """`TOOLS`, all of them one program without libraries. Raises CannotAssemble."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise CannotAssemble("this machine lacks busybox (Debian's busybox-static)")
    target.mkdir()
    shutil.copyfile(busybox, target / "busybox")
    (target / "busybox").chmod(0o755)
    for name in TOOLS:
        (target / name).symlink_to("busybox")


def settle(programs: Iterable[Path], *, patchelf: Path, library: Path, loader: str) -> None:
    """Makes programs take loader and libraries from `library`, before any that LD_LIBRARY_PATH names."""
    for program in programs:
        output([patchelf, "--set-interpreter", library / loader, "--force-rpath", "--set-rpath", library, program])


def make_agent(target: Path, *, python: Path, shared: Path) -> Path:
    """A virtual environment of `python` that sees the packages in ``shared``, but no user's own.

    Gives the folder of its own packages.
    """
    site = target / "lib" / python.name / "site-packages"
    site.mkdir(parents=True)
    (site / "python.pth").write_text(f"{shared}\n")
    (site / "clearml_k8s_apart.py").write_text(APART)
    (site / "apart.pth").write_text("import clearml_k8s_apart\n")
    (target / "bin").mkdir()
    for name in ("python3", "python"):
        (target / "bin" / name).symlink_to(python)
    (target / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    return site


def assemble(*, target: Path, packages: Path, wheels: Path, patchelf: Path) -> None:
    """All of it below `target`, which must not exist. Raises CannotAssemble or MissingPackage."""
    target.mkdir(mode=0o755)
    python = copy_python(target / "python")
    git = copy_git(target / "git")
    copy_tools(target / "git/tools")
    extensions = [file for file in sorted((target / "python/lib").rglob("*.so*")) if is_elf(file)]
    copy_libraries([python, *git, *extensions], into=target / "lib", inside=target)
    copy_always(into=target / "lib", like=python)
    loader = Path(output([patchelf, "--print-interpreter", python]).strip()).name
    settle([python, *git], patchelf=patchelf, library=target / "lib", loader=loader)
    needed = [word for name in ALWAYS for word in ("--add-needed", name)]
    output([patchelf, *needed, python])

    bare = {"PATH": os.environ["PATH"]}
    shared = Path(output([python, "-c", "import site; print(site.getsitepackages()[0])"], environment=bare).strip())
    if target not in shared.parents:
        raise CannotAssemble(f"the copied Python looks for packages at {shared}, not below {target}")
    agent = make_agent(target / "agent", python=python, shared=shared)
    separate(packages, agent=agent, python=shared)
    copy_libraries([file for file in sorted(agent.rglob("*.so*")) if is_elf(file)], into=target / "lib", inside=target)
    shutil.copytree(wheels, target / "wheels")
    install_pip(target / "wheels", target=shared)
    (target / "wheels/pip-versions").write_text(pip_versions(target / "wheels"))
    shutil.copyfile(Path(__file__).with_name("lend.py"), target / "lend.py")

    wrapper = target / "git/bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(GIT_WRAPPER.format(git=target / "git", target=target, certificates=CERTIFICATES))
    wrapper.chmod(0o755)
    if not CERTIFICATES.is_file():
        raise CannotAssemble(f"this machine lacks {CERTIFICATES}")
    shutil.copyfile(CERTIFICATES, target / CERTIFICATES.name)
    # By hash and not by time: times change when it is copied into a pod, which may not be able to write.
    compiling: list[str | Path] = [python, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]
    output([*compiling, target / "python", target / "agent"], environment=bare)


def check(target: Path) -> None:
    """Runs what was put together, without any of this machine's variables. Raises CannotAssemble."""
    code = "import ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib, clearml_agent, virtualenv, pip"
    output([target / "agent/bin/python", "-I", "-c", code], environment={})
    output([target / "git/bin/git", "--version"], environment={})
    output([target / "git/tools/sed", "--version"], environment={})


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Puts together what task pods get with `bootstrap.enabled`.")
    for name in ("target", "packages", "wheels", "patchelf"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    try:
        assemble(**vars(options))
        check(options.target)
    except (CannotAssemble, MissingPackage) as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
