"""Fetches Kafka's broker with Maven, from the repository that Maven is set up for.

    python3 build.py OUT

pom.xml pins the versions, jars.txt the content of every file. OUT gets `libs`, the class path of the broker.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


def main(out):
    libs = out / "libs"
    try:
        subprocess.run(["mvn", "--batch-mode", "--quiet", PLUGIN, f"-DoutputDirectory={libs}"], check=True, stdout=sys.stderr)
    except FileNotFoundError:
        sys.exit("Kafka is fetched with Maven, and there is no mvn in the PATH (apt-get install maven)")
    pinned = {name: digest for digest, name in map(str.split, Path("jars.txt").read_text().splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in libs.iterdir()}
    differing = sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))
    if differing:
        sys.exit(f"not the files that jars.txt pins: {', '.join(differing)}")


main(Path(sys.argv[1]).resolve())
