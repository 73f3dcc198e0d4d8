"""Small packages in place of LiteRT.js, for tests of what surrounds it."""

import base64
import hashlib
import io
import tarfile

from keras_crossvit.demo import litertjs


def small_packages(monkeypatch, folder):
    """Puts tarballs of a few bytes in a folder and lets the package look for those instead of LiteRT.js."""
    packages = []
    for name in ("core", "wasm-utils"):
        content = _tarball({"package/dist/index.js": f"export const name = '{name}';".encode()})
        integrity = base64.b64encode(hashlib.sha512(content).digest()).decode()
        packages.append(litertjs.Package(name, integrity, ("dist/index.js",)))
        (folder / packages[-1].file_name).write_bytes(content)
    monkeypatch.setattr(litertjs, "PACKAGES", tuple(packages))


def _tarball(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
