"""Damages files: bytes at random, and the parts of a format that a stranger can lie in."""

import io
import json
import pickle
import struct
import zipfile

PARTS = 50  # a file is cut at every fiftieth of its length
LONG = "x" * 100_000
# What nobody expects in a text, and in a value of JSON, TOML or a command line.
TEXTS = [
    *("", " ", "\x00", "\x1b[2J", "a\nb", "\u202eevil", "\ufeff", "\ud800", "\udcff", "🦔" * 300, LONG, "none", "nan"),
    *(
        "../escaped",
        "/escaped",
        "a/../../escaped",
        "C:\\escaped",
        "\\\\host\\share",
        "a" * 300,
        "=1+1",
        "<script>",
        "%s",
    ),
    *("datasets" * 30 + "q", "9" * 5000, "-1", "1e400", "0x" + "f" * 5000, "train", "true", "[1]", '{"a": 1}', "a,b"),
]
NUMBERS = [0, -1, 1, 2, 3, 2**31, 2**63, 2**64 + 1, 10**400, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf")]
_DEEP = "brackets in brackets"  # stands for these


def values(random):
    """Returns a value of JSON that somebody may put in the place of any other."""
    others = [
        None,
        True,
        False,
        [],
        {},
        [None] * 3,
        [[1, 1, 0]],
        [[10**9, -(10**9), 0]],
        {"class_name": "Lambda"},
        _DEEP,
    ]
    return random.choice(random.choice([TEXTS, NUMBERS, others]))


def changed(content, random):
    """Returns a file of any format with lies in it, where the format is known, or else damaged."""
    if content.startswith((b"PK", b"\x80\x02")) and random.random() < 0.1:
        return _with_program(content, random)
    if content.startswith(b"PK"):
        return changed_zip(content, random)
    if content[8:9] == b"{":
        return changed_safetensors(content, random)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return damaged(content, random)
    try:
        return changed_json(text, random).encode("utf-8", "surrogatepass")
    except ValueError:
        return changed_text(text, random)


def cut(content, part):
    """Returns the first fiftieths of a file."""
    return content[: len(content) * part // PARTS]


def damaged(content, random):
    """Returns bytes with a few of them flipped, lost, repeated, moved or replaced by extreme lengths."""
    content = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 8])):
        size = len(content)
        at, length = random.randrange(size + 1), random.choice([1, 2, 4, 8, 64, 1024])
        match random.randrange(9):
            case 0 | 1 if size:
                content[min(at, size - 1)] ^= 1 << random.randrange(8)
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + length] * random.choice([1, 2, 100])
            case 4:
                other = random.randrange(size + 1)
                content[at : at + length] = content[other : other + length]
            case 5:
                content[at : at + length] = random.randbytes(length)
            case 6:
                number = random.choice([0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1])
                width, order = random.choice([1, 2, 4, 8]), random.choice(["little", "big"])
                content[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, order)
            case 7:
                del content[at:]
            case 8:
                content += random.randbytes(length)
    return bytes(content)


def changed_json(text, random):
    """Returns JSON with a few values or keys replaced, removed or given twice."""
    value = json.loads(text)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        parents = list(_containers(value))
        parent = random.choice(parents) if parents else None
        if not parent or random.random() < 0.02:
            value = values(random)
            continue
        key = random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        match random.randrange(6):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[random.choice(TEXTS)] = parent[key]
            case 2 if isinstance(parent, list):
                parent.append(parent[key])
            case _:
                parent[key] = values(random)
    text = _dumped(value)
    return text[:-1] + "," + text[1:] if isinstance(value, dict) and value and random.random() < 0.03 else text


def word(random):
    """Returns a word that somebody may write for any value."""
    value = values(random) if random.random() < 0.5 else random.choice(TEXTS)
    return value if isinstance(value, str) else _dumped(value)


def _dumped(value):
    return json.dumps(value).replace(f'"{_DEEP}"', "[" * 3000 + "]" * 3000)


def _containers(value):
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, (dict, list)):
            yield each
            stack += each.values() if isinstance(each, dict) else each


def changed_text(text, random):
    """Returns a text with a word or line replaced, repeated or removed, in UTF-8 or another encoding."""
    for _ in range(random.choice([1, 1, 2])):
        lines = text.split("\n")
        at = random.randrange(len(lines))
        words = [each for each in ",=\"' [](){}.:" if each in lines[at]]
        match random.randrange(6):
            case 0:
                lines.insert(at, random.choice(lines))
            case 1:
                del lines[at]
            case 2:
                lines[at] = random.choice(TEXTS)
            case _:
                separator = random.choice(words) if words else ","
                parts = lines[at].split(separator)
                parts[random.randrange(len(parts))] = word(random)
                lines[at] = separator.join(parts)
        text = "\n".join(lines)
    encoding = random.choice(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "latin-1", "cp037"])
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def changed_safetensors(content, random):
    """Returns a safetensors file with lies in its header: names, dtypes, shapes, offsets, length, description."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name, other = random.choice(names), random.choice(names)
    told = None
    match random.randrange(12):
        case 0:
            header[name]["data_offsets"] = header[other]["data_offsets"]
        case 1:
            header[name]["dtype"] = random.choice(["F16", "BF16", "F64", "I32", "BOOL", "F8_E4M3", "C64", "X", "F4"])
        case 2:
            header[name]["shape"] = random.choice(
                [[], [0], [2**62, 4], [-1], [1] * 70, [2**40, 0], header[other]["shape"]]
            )
        case 3:
            header[random.choice(TEXTS)] = header.pop(name)
        case 4:
            del header[name]
        case 5:
            told = random.choice([0, 1, len(content), 100_000_000, 2**63, 2**64 - 1])
        case 6:
            start, end = header[name]["data_offsets"]
            data = data[:start] + struct.pack("<f", random.choice(NUMBERS[-2:])) * ((end - start) // 4) + data[end:]
        case 7:
            header = json.loads(_or(changed_json(json.dumps(header), random), json.dumps(header)))
        case 8:  # a smaller tensor in its place, which the format allows
            header[name] = {"dtype": "F32", "shape": random.choice([[0], [0, 0], [3, 0, 1]]), "data_offsets": [0, 0]}
        case _ if described := header.get("__metadata__"):
            key = random.choice(list(described))
            described[key] = changed(described[key].encode(), random).decode("utf-8", "replace")
    text = json.dumps(header) if isinstance(header, dict) else str(header)
    if random.random() < 0.05:
        text = text[:-1] + ", " + text[1:]  # every name twice
    encoded = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded) if told is None else told) + encoded + data


def _or(text, otherwise):
    try:
        json.loads(text)
        return text
    except (RecursionError, ValueError):
        return otherwise


class _Program:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return (open, ("executed", "w"))


def _with_program(content, random):
    """Returns a PyTorch file that would run a program, as a pickle or as a zip file with one."""
    program = random.choice([_Program(), {"state_dict": _Program()}, {"model": {"cls_token_0": _Program()}}])
    pickled = pickle.dumps(program, protocol=random.randrange(6))
    if not content.startswith(b"PK"):
        return pickled
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    return _zipped([(name, pickled if name.endswith(("data.pkl", "config.json")) else data) for name, data in members])


def _zipped(members, compression=zipfile.ZIP_STORED):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return written.getvalue()


def changed_zip(content, random):
    """Returns a zip file with other members: damaged, missing, twice, of other names, or very large when unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    compression = random.choice([zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    at = random.randrange(len(members))
    name, data = members[at]
    match random.randrange(10):
        case 0:
            del members[at]
        case 1:
            members.append((name, damaged(data, random)))
        case 2:
            other = random.choice(TEXTS)[:1000].replace("\x00", "").encode("utf-8", "replace").decode()
            members.append((other or "x", b"data"))
        case 3:
            members[at] = (random.choice(["../escaped", "/escaped", "escaped"]), data)
        case 4 if random.random() < 0.2:
            members[at] = (name, data + bytes(300 * 2**20))
            compression = zipfile.ZIP_DEFLATED
        case 5:
            members[at] = (name, damaged(data, random))
        case _:
            members[at] = (name, changed(data, random))
    return _zipped(members, compression)
