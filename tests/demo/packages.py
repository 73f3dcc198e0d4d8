"""Small packages in place of LiteRT.js."""

import base64
import hashlib
import io
import tarfile

from keras_crossvit.demo import litertjs


def small_packages(monkeypatch, folder):
    """Writes archives of a few bytes into a folder and declares them as LiteRT.js."""
    packages = {}
    for name in ("core", "wasm-utils"):
        packed, content = io.BytesIO(), f"export const name = '{name}';".encode()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            entry = tarfile.TarInfo("package/dist/index.js")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        packages[name] = base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
        (folder / litertjs.archive_name(name)).write_bytes(packed.getvalue())
    monkeypatch.setattr(litertjs, "PACKAGES", packages)
