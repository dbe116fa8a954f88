"""Embeddings computed once: unit vectors of texts, in files that are mapped into memory.

    known = Embeddings(Path("models/runs/kl/seed0"), 8192, journal_folder() / "embeddings")
    known.of(texts, "passage")         [3080, 128] float32, .journal/embeddings/5e0c1f….npy

A file's name is the content key of all that decides its vectors: weights and tokenizer, usage, texts, batch, device,
versions of torch and transformers, and METHOD for this package's own code. No file is out of date, as long as METHOD is
raised with that code. A file ends in a checksum of its vectors; a damaged one is made again. The folder may be deleted
at any time; its vectors are then computed again. Beyond BOUND, files go that were used longest ago.
"""

import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from bitter_retrieval.encoders.encoder import PASSAGE_ENCODER, Encoder, Kind, load_encoder, load_usage
from bitter_retrieval.journal import content_key
from bitter_retrieval.models.checkpoints import fingerprint, resolve_checkpoint
from bitter_retrieval.records import ABANDONED

METHOD = 2  # part of every key: raise it when a change of the code (encoder.py, say) alters vectors or files
TEXTS_AT_ONCE = 65_536  # tokenised and embedded together
CHECKSUM = 4  # bytes of a CRC-32
PART = 1 << 24  # bytes read at once
BOUND = 20 * 2**30  # bytes that the folder may hold


class EmbeddingsError(RuntimeError):
    """Embeddings that cannot be stored."""


class Embeddings:
    """Texts embedded by the encoder in a folder, which is loaded only for texts that are not known yet."""

    def __init__(self, folder: Path, budget: int, known: Path, name: str | None = None) -> None:
        """budget: tokens encoded at once; known: the folder of the files; name: in warnings, instead of the folder."""
        self._name = name or str(folder)
        self._folder, self._budget, self._known = folder, budget, known
        self.device = "cuda" if torch.cuda.is_available() else "cpu"  # as load_encoder chooses

    def of(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Unit vectors [n, d] float32, read-only. Raises EmbeddingsError if the disk is full."""
        path = self._known / f"{self._key(texts, kind)}.npy"
        try:
            os.utime(path)  # the time of the latest use
            return _mapped(path)
        except FileNotFoundError:
            return self._written(path, texts, kind)
        except (ValueError, EOFError) as error:  # what numpy says of a damaged file
            logging.getLogger(__name__).warning("%s: damaged (%s). It is made again.", path, error)
            return self._written(path, texts, kind)

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._folder)

    def _key(self, texts: Sequence[str], kind: Kind) -> str:
        pointer = self._folder / PASSAGE_ENCODER
        apart = kind == "passage" and pointer.is_file()
        folder = self._folder / json.loads(pointer.read_text(encoding="utf-8"))["encoder"] if apart else self._folder
        return content_key(
            weights=fingerprint(*resolve_checkpoint(folder)),
            usage=asdict(load_usage(folder)),
            kind=kind,
            texts=_digest(texts),
            budget=self._budget,
            device=torch.cuda.get_device_name() if self.device == "cuda" else self.device,
            versions=[torch.__version__, version("transformers")],
            method=METHOD,
        )

    def _written(self, path: Path, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Embed and store. The file appears whole or not at all, and is mapped before another process can delete it."""
        encoder, cut = self._encoder.side(kind), 0
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w+b") as file:
                for start in range(0, len(texts), TEXTS_AT_ONCE):
                    part = texts[start : start + TEXTS_AT_ONCE]
                    tokens = encoder.tokens(part, kind)
                    cut += encoder.count_cut(part, tokens, kind)
                    vectors = encoder.embed_tokens(tokens, self._budget)
                    if start == 0:
                        shape = {"shape": (len(texts), vectors.shape[1]), "descr": "<f4", "fortran_order": False}
                        np.lib.format.write_array_header_1_0(file, shape)
                    vectors.astype("<f4").tofile(file)
                file.write(_checksum(file, file.tell()))
                file.flush()
                os.fsync(file.fileno())
            vectors = np.load(partial, mmap_mode="r")
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):  # a full disk or a read-only folder has its error already
                partial.unlink(missing_ok=True)
            raise EmbeddingsError(f"{path}: {error}. Make room there: {path.parent} may be deleted.") from error
        with suppress(FileNotFoundError):  # another process makes room too
            _make_room(path.parent)
        if cut:
            logging.getLogger(__name__).warning(
                "%s: %s of %s texts lost their tail at %s tokens.",
                self._name,
                f"{cut:,}",
                f"{len(texts):,}",
                encoder.usage.max_length,
            )
        return vectors


def _mapped(path: Path) -> np.ndarray:
    """The vectors of a file. Raises ValueError or EOFError if it is damaged."""
    if not _whole(path):
        raise ValueError("its checksum is another than when it was written")
    return np.load(path, mmap_mode="r")


def _whole(path: Path) -> bool:
    """Whether the last bytes of a file are the checksum of those before; read by part, as it may exceed memory."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - CHECKSUM
        return size > 0 and _checksum(file, size) == file.read()


def _checksum(file: BinaryIO, size: int) -> bytes:
    """CRC-32 of the first `size` bytes."""
    found = 0
    file.seek(0)
    for start in range(0, size, PART):
        found = zlib.crc32(file.read(min(PART, size - start)), found)
    return found.to_bytes(CHECKSUM)


def _digest(texts: Sequence[str]) -> str:
    """SHA-256 of the texts and their lengths."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.hexdigest()


def _make_room(folder: Path) -> None:
    """Delete leftovers of killed processes and, beyond BOUND, the files that were used longest ago.

    The latest file stays. A process that has mapped a deleted file keeps it.
    """
    for partial in folder.glob(".*.partial"):
        if time.time() - partial.stat().st_mtime > ABANDONED:
            partial.unlink(missing_ok=True)
    used = [(file, file.stat()) for file in folder.glob("*.npy")]
    held = 0
    for place, (file, stat) in enumerate(sorted(used, key=lambda one: one[1].st_mtime_ns, reverse=True)):
        held += stat.st_size
        if place and held > BOUND:
            file.unlink(missing_ok=True)
