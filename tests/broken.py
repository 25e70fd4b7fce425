"""Broken inputs, made by code: for each kind of file a dictionary of name -> bytes.

`damage` breaks any good file. The other functions break what only their kind has: headers that
claim too much, numbers that are none, names that stand twice. Nothing here is random but by a seed.
"""

import io
import json
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import format as npy
from PIL import Image
from safetensors.numpy import save as save_tensors

Inputs = dict[str, bytes]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"


def damage(good: bytes) -> Inputs:
    """What copies, disks and downloads do to a file, and other files under its name."""
    found = {
        "empty": b"",
        "one_byte": good[:1],
        "zeros": bytes(len(good) or 64),
        "ones": b"\xff" * 64,
        "page_of_an_error": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "git_lfs_pointer": POINTER,
        "program": b"\x7fELF\x02\x01\x01" + bytes(57),
        "utf16": "path,pid\n".encode("utf-16"),
    }
    for percent in (2, 25, 50, 75, 98):
        found[f"cut_at_{percent}"] = good[: len(good) * percent // 100]
    found["head_lost"] = good[len(good) // 3 :]
    found["halves_swapped"] = good[len(good) // 2 :] + good[: len(good) // 2]
    return found


def npz(arrays: dict[str, Any], compressed: bool = False) -> bytes:
    """An `.npz` of arrays, objects too."""
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def members(*named: tuple[str, bytes]) -> bytes:
    """A zip archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in named:
            archive.writestr(name, content)
    return stream.getvalue()


def header(text: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An `.npy` with this header."""
    raw = text.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(raw))
    return npy.MAGIC_PREFIX + bytes(version) + length + raw + body


def broken_npz(good: dict[str, np.ndarray], key: str) -> Inputs:
    """Archives of arrays; `key`: a column of numbers without which `good` cannot be read."""
    whole, column = npz(good), good[key]

    def plain(array: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    def claims(descr: str, shape: str, **more: Any) -> bytes:
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
        rest = [(f"{n}.npy", plain(a)) for n, a in good.items() if n != key]
        return members(*rest, (f"{key}.npy", header(text, bytes(64), **more)))

    holed = column.astype(float)
    holed.flat[0] = np.nan
    endless = column.astype(float)
    endless.flat[-1] = np.inf
    return {
        **damage(whole),
        "lacks_a_column": npz({n: a for n, a in good.items() if n != key}),
        "no_arrays": npz({}),
        "objects": npz(good | {key: np.array([{}, None], object)}),
        "text_for_numbers": npz(good | {key: np.full(column.shape, "x")}),
        "dates_for_numbers": npz(good | {key: np.zeros(column.shape, "datetime64[s]")}),
        "complex_for_numbers": npz(good | {key: np.zeros(column.shape, complex)}),
        "records_for_numbers": npz(good | {key: np.zeros(column.shape, [("a", "f4")])}),
        "a_scalar": npz(good | {key: np.float32(1)}),
        "no_rows": npz(good | {key: column[:0]}),
        "a_dimension_more": npz(good | {key: column[None]}),
        "a_row_less": npz(good | {key: column[:-1]}),
        "not_a_number": npz(good | {key: holed}),
        "infinite": npz(good | {key: endless}),
        "claims_a_terabyte": claims("'<f8'", "(137438953472,)"),
        "claims_beyond_64_bits": claims("'<f8'", "(99999999999999999999999,)"),
        "negative_shape": claims("'<f8'", "(-8,)"),
        "shape_is_no_tuple": claims("'<f8'", "8"),
        "unknown_dtype": claims("'<q99'", "(8,)"),
        "dtype_is_a_program": claims("__import__('os').getcwd()", "(8,)"),
        "version_9": claims("'<f8'", "(8,)", version=(9, 0)),
        "header_is_no_python": members((f"{key}.npy", header("{{{"))),
        "header_of_a_megabyte": members((f"{key}.npy", header(" " * 10**6, version=(2, 0)))),
        "deep_header": members((f"{key}.npy", header("(" * 9000 + ")" * 9000, version=(2, 0)))),
        "stands_twice": members(*((f"{key}.npy", plain(column)) for _ in "ab")),
        "folders_only": members((f"{key}/", b"")),
        "text_members": members((f"{key}.txt", b"1 2 3")),
        "wrong_sum": whole.replace(plain(column)[-8:], b"\x01\x02\x03\x04\x05\x06\x07\x08"),
        "plain_npy": plain(column),
        "pickle": pickle.dumps({n: a.tolist() for n, a in good.items()}),
        "archive_in_an_archive": members((f"{key}.npy", whole)),
    }


def small_bomb(key: str) -> bytes:
    """A zip whose directory claims 3 GiB for one member, in a few bytes."""
    data = bytearray(members((f"{key}.npy", bytes(4096))))
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 3 << 30)
    return bytes(data)


def broken_json(good: dict[str, Any]) -> Inputs:
    """JSON that should be an object with the keys of `good`."""
    text = json.dumps(good)
    first = next(iter(good))
    return {
        **damage(text.encode()),
        "a_list": b"[]",
        "a_number": b"1",
        "null": b"null",
        "a_text": b'"text"',
        "no_keys": b"{}",
        "latin1": b'{"\xe9": 1}',
        "deep_lists": b"[" * 100_000 + b"]" * 100_000,
        "deep_objects": b'{"a":' * 100_000,
        "a_name_twice": (text[:-1] + f", {json.dumps(first)}: 1}}").encode(),
        "a_number_of_5000_digits": (text[:-1] + f', "n": {"9" * 5000}}}').encode(),
        "two_documents": (text + text).encode(),
        "a_comma_more": (text[:-1] + ",}").encode(),
        "single_quotes": text.replace('"', "'").encode(),
        "comment": ("// comment\n" + text).encode(),
        "surrogate": b'{"a": "\xed\xa0\x80"}',
    }


def broken_csv(good: str) -> Inputs:
    """images.csv: a header and one line for each image."""
    head, first, *rest = good.strip().split("\n")
    names, cells = head.split(","), first.split(",")

    def line(**changes: str) -> bytes:
        row = dict(zip(names, cells, strict=True)) | changes
        return "\n".join([head, ",".join(row[name] for name in names), *rest]).encode()

    return {
        **damage(good.encode()),
        "header_only": head.encode(),
        "no_header": "\n".join([first, *rest]).encode(),
        "semicolons": good.replace(",", ";").encode(),
        "tabs": good.replace(",", "\t").encode(),
        "a_column_twice": good.replace("camid", "pid", 1).encode(),
        "a_cell_more": "\n".join([head, first + ",1", *rest]).encode(),
        "a_cell_less": "\n".join([head, first.rpartition(",")[0], *rest]).encode(),
        "an_open_quote": "\n".join([head, '"' + first, *rest]).encode(),
        "a_quote_inside": "\n".join([head, first.replace(",", '"",', 1), *rest]).encode(),
        "zero_bytes": good.replace("\n", "\0\n").encode(),
        "latin1": good.replace("train/", "tr\xe4in/").encode("latin1"),
        "an_image_twice": "\n".join([head, first, first, *rest]).encode(),
        "a_missing_image": line(path="train/none.png"),
        "a_path_that_leaves": line(path="../../../etc/passwd"),
        "an_absolute_path": line(path="/etc/passwd"),
        "an_empty_path": line(path=""),
        "a_path_with_a_zero": line(path="a\\0.png\0"),
        "a_folder_for_an_image": line(path="train"),
        "a_path_of_5000_letters": line(path="a" * 5000),
        "pid_is_text": line(pid="four"),
        "pid_is_a_fraction": line(pid="4.5"),
        "pid_is_missing": line(pid=""),
        "pid_is_nan": line(pid="nan"),
        "pid_beyond_64_bits": line(pid="9" * 30),
        "pid_below_its_range": line(pid="-7"),
        "pid_in_other_digits": line(pid="\u0664"),
        "pid_of_5000_digits": line(pid="1" * 5000),
        "camid_is_text": line(camid="left"),
        "camid_below_0": line(camid="-1"),
        "camid_is_a_truth": line(camid="True"),
        "split_is_unknown": line(split="validation"),
        "split_is_empty": line(split=""),
        "split_in_capitals": line(split="TRAIN"),
        "a_cell_of_a_megabyte": line(split="t" * (1 << 20)),
        **{
            f"lacks_{name}": "\n".join(
                ",".join(c for n, c in zip(names, row.split(","), strict=True) if n != name)
                for row in (head, first, *rest)
            ).encode()
            for name in ("path", "pid", "camid", "split")
        },
    }


def broken_list(good: str) -> Inputs:
    """A list of MSMT17: `<path> <pid>` on each line."""
    first, *rest = good.strip().split("\n")
    name, pid = first.split()

    def line(text: str) -> bytes:
        return "\n".join([text, *rest]).encode()

    return {
        **{key: value for key, value in damage(good.encode()).items() if key != "empty"},
        "no_pid": line(name),
        "pid_first": line(f"{pid} {name}"),
        "pid_is_text": line(f"{name} one"),
        "pid_below_0": line(f"{name} -1"),
        "pid_is_a_fraction": line(f"{name} 1.5"),
        "pid_of_5000_digits": line(f"{name} {'1' * 5000}"),
        "pid_beyond_64_bits": line(f"{name} {'1' * 30}"),
        "leaves_the_folder": line(f"../../x.jpg {pid}"),
        "absolute": line(f"/etc/passwd {pid}"),
        "an_image_twice": line(f"{first}\n{first}"),
        "no_such_image": line(f"0000/0000_099_01_0303morning_0000_0.jpg {pid}"),
        "no_camera": line(f"0000/x.jpg {pid}"),
        "camera_0": line(f"{name.replace('_01_', '_00_')} {pid}"),
        "commas": good.replace(" ", ",").encode(),
        "zero_bytes": line(f"{name}\0 {pid}"),
    }


def broken_yaml(good: str) -> Inputs:
    """params.yaml."""
    links = "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'lol'}]" for n in range(12)
    )
    return {
        **{key: value for key, value in damage(good.encode()).items() if key != "cut_at_98"},
        "a_list": b"- 1\n- 2\n",
        "a_text": b"seed",
        "a_section_is_a_number": b"seed: 1\nimage: 3\n",
        "billion_laughs": links.encode(),
        "billion_laughs_in_a_value": (good + "\n" + links).encode(),
        "a_link_to_itself": b"image: &a\n  height: *a\n",
        "a_program": b"seed: !!python/object/apply:os.getcwd []\n",
        "a_key_twice": (good + "\nseed: 1\n").encode(),
        "a_list_as_key": b"? [a, b]\n: 1\n",
        "a_mapping_as_key": b"? {a: b}\n: 1\n",
        "null_as_key": b"~: 1\n",
        "a_number_as_key": b"1: 1\n",
        "a_date_that_is_none": b"seed: 2001-99-99\n",
        "5000_digits": b"seed: " + b"9" * 5000 + b"\n",
        "deep_lists": b"seed: " + b"[" * 5000 + b"]" * 5000,
        "tabs": b"image:\n\theight: 1\n",
        "two_documents": good.encode() + b"\n---\nseed: 1\n",
        "colons": b"a: b: c\n",
        "an_open_quote": b'seed: "1\n',
        "zero_bytes": b"seed: 1\0\n",
        "unknown_parameter": good.encode() + b"\nno_such_parameter: 1\n",
        "binary_that_is_none": b"seed: !!binary '%%%'\n",
        "merge_of_a_number": b"<<: 1\n",
        "set_and_pairs": b"seed: !!set {1, 2}\nimage: !!omap [1]\n",
    }


def broken_tensors(good: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Inputs:
    """A safetensors file."""
    whole = save_tensors(good, metadata)
    length = struct.unpack("<Q", whole[:8])[0]
    table, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = next(iter(good))

    def headed(head: Any, data: bytes = body) -> bytes:
        raw = head if isinstance(head, bytes) else json.dumps(head).encode()
        return struct.pack("<Q", len(raw)) + raw + data

    def changed(**entry: Any) -> bytes:
        return headed(table | {name: table[name] | entry})

    return {
        **damage(whole),
        "header_beyond_the_file": struct.pack("<Q", 1 << 40) + whole[8:],
        "header_beyond_64_bits": b"\xff" * 8 + whole[8:],
        "header_is_no_json": headed(b"{{{"),
        "header_is_a_list": headed([]),
        "header_of_deep_lists": headed(b'{"a":' + b"[" * 50_000),
        "unknown_dtype": changed(dtype="F13"),
        "negative_shape": changed(shape=[-1]),
        "claims_a_terabyte": changed(shape=[1 << 40], data_offsets=[0, 1 << 42]),
        "overlapping": headed(table | {"again": table[name]}),
        "offsets_turned": changed(data_offsets=[8, 0]),
        "a_hole": changed(data_offsets=[4, table[name]["data_offsets"][1] + 4]),
        "bytes_behind": whole + b"more",
        "half_precision": save_tensors({n: a.astype(np.float16)[:1] for n, a in good.items()}),
        "no_tensors": save_tensors({}),
        "other_names": save_tensors({f"x.{n}": a for n, a in good.items()}),
        "metadata_is_no_text": headed(table | {"__metadata__": {"about": 1}}),
        "pickle": pickle.dumps({n: a.tolist() for n, a in good.items()}),
    }


def png(width: int, height: int, *chunks: tuple[bytes, bytes], mode: int = 2) -> bytes:
    """A PNG whose header says so, with these chunks; what they hold need not be true."""
    head = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), *chunks, (b"IEND", b"")):
        data += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    return data


def broken_images() -> Inputs:
    """Photos."""
    rng = np.random.default_rng(3)
    photo = Image.fromarray(rng.integers(0, 255, (32, 16, 3), dtype=np.uint8))

    def saved(kind: str, image: Image.Image = photo, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    rows = zlib.compress(bytes(32 * 49))
    deep = Image.fromarray(rng.integers(0, 60000, (32, 16)).astype(np.int32))
    found = {f"png_{n}": d for n, d in damage(saved("PNG")).items() if n != "cut_at_98"}
    lost = ("cut_at_2", "cut_at_25", "head_lost", "halves_swapped")
    for kind in ("JPEG", "BMP", "GIF", "WEBP", "TIFF"):
        broken = damage(saved(kind))
        found |= {f"{kind.lower()}_{name}": broken[name] for name in lost}
    return found | {
        "png_of_10_9_pixels": png(10**5, 10**4, (b"IDAT", rows)),
        "png_of_4_10_18_pixels": png(2**31 - 1, 2**31 - 1, (b"IDAT", rows)),
        "png_of_no_pixels": png(0, 0, (b"IDAT", rows)),
        "png_without_pixels": png(16, 32),
        "png_of_an_unknown_mode": png(16, 32, (b"IDAT", rows), mode=9),
        "png_with_broken_pixels": png(16, 32, (b"IDAT", b"no deflate")),
        "png_bomb": png(20_000, 20_000, (b"IDAT", zlib.compress(bytes(1 << 20)))),
        "png_of_text_bombs": png(
            16, 32, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21)))] * 40, (b"IDAT", rows)
        ),
        "bmp_of_10_9_pixels": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 10**5, 10**4, 1, 24, 0, 0, 0, 0, 0, 0),
        "gif_of_no_pixels": b"GIF89a\0\0\0\0\0\0\0;",
        "pixels_of_32_bits": saved("TIFF", deep),
        "postscript": saved("EPS"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "x_bitmap": b"#define a_width 16\n#define a_height 32\nstatic char a_bits[] = {0x01};\n",
        "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "video": b"\0\0\0\x18ftypmp42" + bytes(40),
        "pgm_of_10_9_pixels": b"P5 100000 10000 255\n",
        "pgm_of_negative_size": b"P5 -16 -32 255\n" + bytes(512),
        "tga_of_2_gigapixels": bytes([0, 0, 2])
        + bytes(9)
        + struct.pack("<HH", 65535, 65535)
        + b"\x18\0",
    }


class _Program:
    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.does = function, arguments

    def __reduce__(self) -> Any:
        return self.does


def broken_pickles(good: dict[str, Any], key: str) -> Inputs:
    """A pickled SMPL body."""
    import os

    whole = pickle.dumps(good, protocol=2)

    def asks(module: str, name: str) -> bytes:
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n."

    return {
        **damage(whole),
        "runs_a_program": pickle.dumps(good | {key: _Program(os.system, "false")}, 2),
        "evaluates": pickle.dumps(good | {key: _Program(eval, "1")}, 2),
        "imports": asks("subprocess", "Popen"),
        "asks_for_builtins": asks("builtins", "getattr"),
        "asks_through_numpy": asks("numpy.f2py.capi_maps", "load_f2cmap_file"),
        "asks_for_nothing": b"c\n\n.",
        "a_list": pickle.dumps([1, 2]),
        "a_number": pickle.dumps(1),
        "no_stop": whole[:-1],
        "memo_of_2_31": b"\x80\x02}r\xff\xff\xff\x7f.",
        "text_of_4_gigabytes": b"\x80\x02X\xff\xff\xff\xff",
        "bytes_of_2_62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62),
        "frame_of_2_62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62),
        "deep_lists": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
        "stack_is_empty": b"\x80\x02a.",
        "unknown_protocol": b"\x80\x63.",
        "5000_digits": b"L" + b"9" * 5000 + b"L\n.",
        "lacks_a_column": pickle.dumps({n: a for n, a in good.items() if n != key}, 2),
        "objects": pickle.dumps(good | {key: np.array([None, {}], object)}, 2),
        "text_for_numbers": pickle.dumps(good | {key: "text"}, 2),
        "disassembled": pickletools.optimize(whole)[::-1],
    }
