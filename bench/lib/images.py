"""What images cost: an import beside the `mke2fs -d` of the same tree that it cannot do without, and a commit."""
import hashlib
import json
import subprocess
import time

from . import persisted
from .report import summary

FILES = 64
FILE_BYTES = 64 << 10


def _tree(folder):
    """4 MiB of files that cannot be compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(FILES):
        seed = hashlib.shake_128(b"%d" % index)
        (folder / f"file{index}").write_bytes(seed.digest(FILE_BYTES))


def _archive(work, tree):
    """The tree as `docker save` writes it."""
    layer = work / "layer.tar"
    subprocess.run(["tar", "-C", str(tree), "-cf", str(layer), "."], check=True)
    diff = hashlib.sha256(layer.read_bytes()).hexdigest()
    configuration = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]}}
    (work / "config.json").write_text(json.dumps(configuration))
    (work / "manifest.json").write_text(json.dumps([{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": ["layer.tar"]}]))
    archive = work / "image.tar"
    subprocess.run(["tar", "-C", str(work), "-cf", str(archive), "manifest.json", "config.json", "layer.tar"], check=True)
    return archive


def images(bench, report):
    """Import of an image of 4 MiB against mke2fs -d of its tree, and a commit of a group's disk."""
    work = bench.work / "images"
    tree = work / "tree"
    _tree(tree)
    archive = _archive(work, tree)
    imports, files, commits = [], [], []
    for index in range(bench.rounds(10)):
        name = f"bench-import{index}"
        begin = time.monotonic()
        bench.run([bench.aurora, "image", "import", f"docker-archive:{archive}", name])
        imports.append((time.monotonic() - begin) * 1e3)
        bench.run([bench.aurora, "image", "rm", name])
        disk = work / "disk"
        begin = time.monotonic()
        subprocess.run(["truncate", "-s", "4G", str(disk)], check=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=16", "-d", str(tree), str(disk)], check=True)
        files.append((time.monotonic() - begin) * 1e3)
        disk.unlink()
    report.add("images", "import_4MiB", "ms", summary(imports), summary(files), what="aurora image import, against mke2fs -d of the same tree")
    if bench.host_only:
        return
    # The base image is enough, and it is what the check of a commit boots.
    with persisted.group(bench, "commit", "256M", "--period", "off", verb="persist", image="base") as group:
        for index in range(bench.rounds(10)):
            name = f"bench-commit{index}"
            begin = time.monotonic()
            bench.run([bench.aurora, "image", "commit", group, name])
            commits.append((time.monotonic() - begin) * 1e3)
            bench.run([bench.aurora, "image", "rm", name])
    report.add("images", "commit", "ms", summary(commits), what="aurora image commit of a group of the base image")


ALL = [images]
