"""Processors to compute on: this one, and those that QEMU's user mode emulates.

Its own wheels run there, slowly, with the instructions that the processor has, and so with the
numbers that its users get. Debian's ``qemu-user`` 7.2 has no AVX-512.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_ARM_PACKAGES = (
    "python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 "
    "libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 "
    "libcrypt1 libncursesw6 libtinfo6 libreadline8 libgomp1 libdb5.3 libnsl2 libtirpc3"
)
_ARM_WHEELS = (
    "numpy pillow tqdm onnxruntime onnx ml_dtypes protobuf typing_extensions flatbuffers packaging "
    "av openvino openvino-telemetry"
)
_ORIN = """\
processor\t: {core}
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""  # noqa: E501
"""``/proc/cpuinfo`` of a Jetson Orin: ONNX Runtime for Arm crashes where it reads another one."""


@dataclass(frozen=True)
class Processor:
    """One processor.

    Attributes:
        name: for tables and files.
        whose: machines that have it.
        emulator: what is put in front of Python's own command line.
        python: the interpreter.
        packages: folder of its packages, if they are not the interpreter's own.
        compiler: of the kernels, if it is not the machine's own.
    """

    name: str
    whose: str
    emulator: tuple[str, ...] = ()
    python: str = sys.executable
    packages: str = ""
    compiler: str = ""

    def run(self, arguments: Sequence[str], caches: Path, *, timeout: float) -> None:
        """Run Python there, in the root of the repository.

        Args:
            arguments: of Python.
            caches: folder for what is kept for this processor alone, such as its kernels.
            timeout: seconds.

        Raises:
            RuntimeError: it fails; the message is the end of what it printed.
        """
        paths = [str(ROOT), *([self.packages] if self.packages else [])]
        variables = {"PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(caches)}
        variables |= {"CC": self.compiler} if self.compiler else {}
        result = subprocess.run(
            [*self.emulator, self.python, *arguments],
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if result.returncode:
            told = [line for line in result.stderr.splitlines() if "qemu-" not in line[:12]]
            raise RuntimeError(f"{self.name}: {told[-1] if told else result.returncode}")


NATIVE = Processor("native", "this machine")

_X86 = {
    "Nehalem": "the first Core i7 of 2008: SSE4.2",
    "Haswell": "AVX2: every Core until the 10th generation's desktops, AMD Zen 1 to 3",
    "EPYC-Milan": "AMD Zen 3",
}


def emulated(folder: Path, only: Collection[str] | None = None) -> list[Processor]:
    """Return the processors that can be emulated here; one line is printed for what cannot.

    Args:
        folder: for an Arm system's files, which are fetched into it once.
        only: names of those that are wanted; default: all.
    """
    found = _emulated_x86()
    if only is None or "Arm" in only:
        found += _emulated_arm(folder)
    return [processor for processor in found if only is None or processor.name in only]


def _emulated_x86() -> list[Processor]:
    if shutil.which("qemu-x86_64") is None:
        print("no qemu-x86_64, so no x86 processors; install it with: apt-get install qemu-user")
        return []
    return [Processor(name, whose, ("qemu-x86_64", "-cpu", name)) for name, whose in _X86.items()]


def _emulated_arm(folder: Path) -> list[Processor]:
    missing = [name for name in ("qemu-aarch64", "aarch64-linux-gnu-gcc") if not shutil.which(name)]
    if missing:
        print(
            f"no {' and no '.join(missing)}, so no Arm; install them with: "
            "apt-get install qemu-user gcc-aarch64-linux-gnu"
        )
        return []
    return [_arm(folder)]


def _arm(folder: Path) -> Processor:
    """Return a 64-bit Arm core with dot products, as in a Jetson Orin."""
    root, packages = folder / "root", folder / "packages"
    if not (packages / "numpy").exists():
        _fetch_arm(folder, root, packages)
    return Processor(
        "Arm",
        "64-bit Arm with dot products, such as a Jetson Orin",
        ("qemu-aarch64", "-cpu", "max", "-L", str(root)),
        str(root / "usr/bin/python3.11"),
        str(packages),
        "aarch64-linux-gnu-gcc",
    )


def _fetch_arm(folder: Path, root: Path, packages: Path) -> None:
    """Unpack Debian's Python for Arm and wheels of the versions in constraints.txt."""
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg", "--add-architecture", "arm64"], check=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    names = [f"{name}:arm64" for name in _ARM_PACKAGES.split()]
    subprocess.run(["apt-get", "download", "-qq", *names, "media-types"], cwd=debs, check=True)
    for package in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(_ORIN.format(core=core) for core in range(2)))
    platforms = [
        f"--platform=manylinux_2_{minor}_aarch64" for minor in (35, 34, 31, 28, 27, 26, 17)
    ]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:"]
    command += [*platforms, "--platform=manylinux2014_aarch64", "--python-version=3.11"]
    command += ["--upgrade", f"--target={packages}", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*command, *_ARM_WHEELS.split()], check=True)
