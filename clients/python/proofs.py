"""Checks bundles by what docs/proofs.md says, with the standard library and `cryptography` alone: RFC 9162's loops, nothing recursive.

    python3 proofs.py proof.json log.pub [held.checkpoint ...]

checks one bundle by the public keys in a file, one a line, and ties it to each checkpoint that you hold. It says `proven` and exits with 0, or `refused`
and why and exits with 1. Without arguments each line of standard input is `{"keys": [...], "bundle": {...}, "held": [...]}`, of which `held`, the
text of checkpoints, may be missing; each line of standard output is the verdict.
"""

import base64
import hashlib
import json
import sys
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):
    pass


def need(holds, why):
    if not holds:
        raise Refused(why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text, length=None):
    need(isinstance(text, str), "no base64")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("no base64") from None
    need(base64.b64encode(data).decode() == text, "no canonical base64")
    need(length is None or len(data) == length, "not as long as it should be")
    return data


class Key:
    def __init__(self, text):
        self.name, key_hash, key = text.split("+", 2)
        raw = unbase64(key, 33)
        need(raw[0] == 1, "no Ed25519 key")
        self.hash = sha256(self.name.encode(), b"\n", raw)[:4]
        need(self.hash.hex() == key_hash, "the key's hash does not fit")
        self.key = Ed25519PublicKey.from_public_bytes(raw[1:])


def open_note(note, keys):
    need(isinstance(note, str), "no note")
    need(all(char >= " " or char == "\n" for char in note), "a control character")
    text, blank, lines = note.rpartition("\n\n")
    need(blank and lines.endswith("\n"), "no signatures")
    text += "\n"
    origin, size, root, *more = text[:-1].split("\n")
    need(all(more), "an empty line")
    need(size.isascii() and size.isdigit() and str(int(size)) == size, "no size")
    signed = False
    for line in lines[:-1].split("\n"):
        parts = line.split(" ")
        need(len(parts) == 3 and parts[0] == "\N{EM DASH}", "no signature line")
        signature = unbase64(parts[2])
        need(len(signature) > 4, "no signature")
        for key in keys:
            if (key.name, key.hash) == (parts[1], signature[:4]):
                try:
                    key.key.verify(signature[4:], text.encode())
                except InvalidSignature:
                    raise Refused("a signature does not fit") from None
                signed = signed or key.name == origin
    need(signed, "no key has signed it")
    return origin, int(size), unbase64(root, 32)


def root_by_inclusion(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2."""
    node, last = index, size - 1
    found = leaf
    for sibling in path:
        need(last > 0, "a hash too many")
        if node % 2 == 1 or node == last:
            found = sha256(b"\x01", sibling, found)
            while node % 2 == 0 and node > 0:
                node, last = node // 2, last // 2
        else:
            found = sha256(b"\x01", found, sibling)
        node, last = node // 2, last // 2
    need(last == 0, "a hash is missing")
    return found


def need_consistency(old_size, old_root, new_size, new_root, path):
    """RFC 9162, section 2.1.4.2."""
    need(0 < old_size <= new_size, "sizes in the wrong order")
    if old_size == new_size:
        need(not path and old_root == new_root, "two roots of one size")
        return
    if old_size & (old_size - 1) == 0:
        path = [old_root, *path]
    need(path, "no proof")
    node, last = old_size - 1, new_size - 1
    while node % 2 == 1:
        node, last = node // 2, last // 2
    old = new = path[0]
    for sibling in path[1:]:
        need(last > 0, "a hash too many")
        if node % 2 == 1 or node == last:
            old, new = sha256(b"\x01", sibling, old), sha256(b"\x01", sibling, new)
            while node % 2 == 0 and node > 0:
                node, last = node // 2, last // 2
        else:
            new = sha256(b"\x01", new, sibling)
        node, last = node // 2, last // 2
    need(last == 0 and old == old_root and new == new_root, "not one history")


# The fields of each kind of proof by their lengths; a text has its own length before it.
TEXT = 0
PROOFS = {
    b"\x01": (8, 32, 8),
    b"\x02": (8,),
    b"\x03": (TEXT, 8, 8),
    b"\x04": (TEXT, 8, 8, TEXT),
    b"\x05": (8,),
    b"\x06": (8,),
}


def read_receipt(receipt):
    """Log and record; that it is as long as it says."""
    need(receipt[:1] == b"\x01", "the receipt's version")
    at = 1 + 16 + 8 + 8
    for _ in ("source", "event id", "event type"):
        length = int.from_bytes(receipt[at : at + 4], "big")
        at += 4 + length
    kind = receipt[at : at + 1]
    need(kind in PROOFS, "the receipt's proof")
    at += 1
    for field in PROOFS[kind]:
        at += field or 4 + int.from_bytes(receipt[at : at + 4], "big")
    need(at == len(receipt), "the receipt's length")
    return uuid.UUID(bytes=receipt[1:17]), int.from_bytes(receipt[17:25], "big")


def check(bundle, keys, held):
    need(isinstance(bundle, dict), "no bundle")
    known = {"format", "checkpoint", "seq", "receipt", "salt", "body", "inclusion", "older"}
    need(set(bundle) <= known and set(bundle) >= known - {"older"} and bundle["format"] == 1, "another form")
    origin, size, root = open_note(bundle["checkpoint"], keys)
    receipt, salt, body = unbase64(bundle["receipt"]), unbase64(bundle["salt"], 16), unbase64(bundle["body"])
    log, seq = read_receipt(receipt)
    need(origin == f"rollcall/{log}" and 1 <= seq == bundle["seq"] <= size, "another record")
    leaf = sha256(b"\x00", receipt, sha256(salt, body))
    path = [unbase64(hash, 32) for hash in bundle["inclusion"]]
    need(root_by_inclusion(leaf, seq - 1, size, path) == root, "not in the tree")
    tied = [(origin, size, root)]
    for older in bundle.get("older", []):
        need(set(older) == {"checkpoint", "consistency"}, "another form")
        older_origin, older_size, older_root = open_note(older["checkpoint"], keys)
        need(older_origin == origin, "another log")
        need_consistency(older_size, older_root, size, root, [unbase64(hash, 32) for hash in older["consistency"]])
        tied.append((older_origin, older_size, older_root))
    for note in held:
        ours = open_note(note, keys)
        need(not any(ours[:2] == theirs[:2] and ours[2] != theirs[2] for theirs in tied), "two histories: keep both as evidence")
        need(ours in tied, "nothing ties it to a checkpoint that is held")


def verdict(bundle, keys, held):
    try:
        check(bundle, [Key(key) for key in keys], held)
        return "proven"
    except Refused as why:
        return f"refused: {why}"


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def main(arguments):
    if arguments:
        bundle, keys, *held = arguments
        said = verdict(json.loads(read(bundle)), read(keys).split(), [read(note) for note in held])
        print(said)
        sys.exit(said != "proven")
    for line in sys.stdin:
        question = json.loads(line)
        print(verdict(question["bundle"], question["keys"], question.get("held", [])))


main(sys.argv[1:])
