"""An index on disk that grows: LanceDB holds the windows of files, with approximate search, filters and versions.

Needs the extra `search`. `clara.Index` is the small one: exact, in memory, one file.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clara.apps.lance_rows import ABOUT, OWN, columns_of, path_of_clip, pending, schema_of, sql, to_arrow
from clara.apps.query import Hit, Hits, Searchable, embedder
from clara.apps.search import NothingReadable, checked_top, embed_windows_of, vectors
from clara.data.parallel import sole_writer
from clara.errors import ClaraError, require
from clara.saving import flush
from clara.zoo.embedder import Embedder

TABLE, VECTOR_INDEX = "windows", "vector_idx"
FILES_AT_ONCE = 256  # embedded and written together: what an interrupted update has to do again
FLAT_ROWS, HNSW_ROWS = 50_000, 500_000  # up to the first every row is compared; up to the second the index is a graph
CODE_WIDTH = 8  # numbers of a vector that share a byte of its code in IVF_PQ
PROBES, REFINE = 64, 20  # cells of the index that are searched; candidates per hit whose cosine is computed exactly
ROUNDS, SAMPLED = 20, 64  # of the k-means that makes cells, and vectors a cell that it sees
KEPT = timedelta(days=30)  # how long earlier versions can be returned to
ADDED, CHANGED, REMOVED = "added", "changed", "removed"


@dataclass(frozen=True)
class Changes:
    """What an update did, in files; `described`: whose columns alone changed."""

    added: int
    changed: int
    removed: int
    unchanged: int
    described: int = 0

    def __str__(self) -> str:
        told = f"{self.added} added, {self.changed} changed, {self.removed} removed, {self.unchanged} unchanged"
        return told + (f", {self.described} with new columns" if self.described else "")


@dataclass(frozen=True, eq=False)
class LanceIndex(Searchable):
    """Windows of files in a folder of LanceDB: their vectors (float16), and for filters the columns `path`, `start`,
    `end`, `duration` (of the file, seconds), `date` (ISO text; when the file was last changed, unless a table of the
    user's says otherwise), `language` and the user's own. `condition` is what searches are limited to."""

    folder: Path
    model: str
    sha256: str
    table: Any = field(repr=False)
    condition: str | None = None

    @classmethod
    def open(cls, folder: str | Path, zoo: Embedder | None = None) -> LanceIndex:
        """The index in `folder`; with `zoo` an empty one for that checkpoint where there is none.

        Raises:
            ClaraError: no index there and no `zoo`, a folder that holds something else, or an index of another
                checkpoint.
        """
        folder = Path(folder)
        there = (folder / f"{TABLE}.lance").is_dir()
        if not there and (zoo is None or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))):
            raise ClaraError(f"No index at {folder}: expected a folder that `clara index -o {folder}` wrote.")
        os.environ.setdefault("LANCE_LOG", "error")
        database = require("lancedb", "search").connect(str(folder))
        with _said(f"{folder} cannot be opened"):
            if not there:
                assert zoo is not None
                about = {"model": embedder(zoo).name, "sha256": zoo.sha256}
                database.create_table(TABLE, schema=schema_of(zoo.config.embed_dim, about), exist_ok=True)
            table = database.open_table(TABLE)
        meta = table.schema.metadata or {}
        if ABOUT[0] not in meta or ABOUT[1] not in meta:
            raise ClaraError(f"{folder} is a table of LanceDB, but not an index of ours: build one elsewhere.")
        index = cls(folder, meta[ABOUT[0]].decode(), meta[ABOUT[1]].decode(), table)
        if zoo is not None:
            index.check(zoo)
        return index

    def __len__(self) -> int:
        """How many windows there are; `files()` counts files."""
        return int(self.table.count_rows(self.condition))

    def files(self) -> int:
        """How many files there are."""
        return int(
            self.table.count_rows(" and ".join(filter(None, ["part = 0", self.condition and f"({self.condition})"])))
        )

    @property
    def columns(self) -> list[str]:
        """The columns that a filter may name."""
        return [name for name in self.table.schema.names if name not in ("vector", "part", "size", "changed_ns")]

    def where(self, condition: str) -> LanceIndex:
        """This index limited to rows that fulfil a condition in SQL, such as "duration < 5 and language = 'de'" or
        "path like '%/birds/%' and date >= '2026-05'". ClaraError for one that names other columns or is not SQL."""
        both = condition if self.condition is None else f"({self.condition}) and ({condition})"
        with _said(f"The filter {condition!r} cannot be used", f"Columns: {', '.join(self.columns)}"):
            self.table.search().where(both).select(["part"]).limit(1).to_arrow()
        return LanceIndex(self.folder, self.model, self.sha256, self.table, both)

    def nearest(self, query_QD: Tensor, top: int = 5) -> list[Hits]:
        """The `top` clips of each query embedding (Q, D), each by its best window, best first. Up to 50,000 windows
        all are compared; beyond, an index finds candidates, and their cosines are computed from the stored vectors.
        ClaraError for other shapes, or `top` below 1."""
        checked_top(top)
        query_QD = vectors(query_QD, self.table.schema.field("vector").type.list_size)
        return [self._best_of_each(query_D, top) for query_D in query_QD]

    def _best_of_each(self, query_D: Tensor, top: int) -> Hits:
        names = [n for n in self.columns if n not in OWN]
        found, k, rows = dict[str, Hit](), 2 * top, list[dict[str, Any]]()
        while True:
            search = self.table.search(query_D.numpy(), vector_column_name="vector").distance_type("cosine")
            search = search.nprobes(PROBES).refine_factor(max(1, math.ceil(REFINE * top / k)))
            if self.condition is not None:
                search = search.where(self.condition, prefilter=True)
            rows = search.select(["path", "start", "end", *names, "_distance"]).limit(k).to_list()
            for row in rows:
                about = {n: row[n] for n in names if row[n] is not None}
                start, end = (None if row[n] is None else round(row[n], 3) for n in ("start", "end"))
                found.setdefault(row["path"], Hit(row["path"], 1 - row["_distance"], start, end, about))
            if len(found) >= top or len(rows) < k:
                return Hits(list(found.values())[:top])
            k *= 4

    def update(
        self,
        zoo: Embedder,
        sources: Any,
        columns: Mapping[str, Mapping[str, Any]] | None = None,
        batch_size: int = 16,
        progress: bool = False,
        broken: Callable[[str], None] | None = None,
    ) -> Changes:
        """Bring the index up to date with files and folders: new files and those whose size or time of change differ
        are embedded, those that are gone from the folders leave it, all others stay as they are. What was embedded
        before an interruption is kept.

        Args:
            zoo: the checkpoint that the index was made for; it says how audio is cut, as for `Index.build`.
            sources: files and folders.
            columns: path -> the user's columns of that file (text, numbers, truth values); `language` and `date` too.
            batch_size: windows embedded at once.
            progress: show a bar.
            broken: called with what is wrong with a file that cannot be read, which is then left out.

        Raises:
            ClaraError: no audio, audio without a path, another checkpoint, a column whose type does not fit or, without
                `broken`, a file that cannot be read.
        """
        self.check(zoo)
        about = {path_of_clip(path): dict(values) for path, values in (columns or {}).items()}
        with sole_writer(self.folder):
            self._widen(about)
            todo = pending(self.table, sources)
            self._delete([path for path, what in todo.items() if what == REMOVED])
            work = [path for path, what in todo.items() if what in (ADDED, CHANGED)]
            done = set[str]()
            for begin in range(0, len(work), FILES_AT_ONCE):
                chunk = work[begin : begin + FILES_AT_ONCE]
                done |= self._embed(zoo, chunk, todo, about, (batch_size, progress, broken))
            described = self._describe({p: about[p] for p, what in todo.items() if what == "unchanged" and p in about})
            count = Counter(what for path, what in todo.items() if path in done or what not in (ADDED, CHANGED))
            if done or count[REMOVED] or described:
                self.tidy()
        return Changes(count[ADDED], count[CHANGED], count[REMOVED], count["unchanged"], described)

    def _embed(
        self,
        zoo: Embedder,
        chunk: Sequence[str],
        todo: Mapping[str, str],
        about: Mapping[str, Any],
        how: tuple[Any, ...],
    ) -> set[str]:
        """Embed some files and put them in the place of what there was of them -> those that could be read."""
        try:
            owners, times_W2, audio_WD = embed_windows_of(zoo, chunk, *how)
        except NothingReadable:
            return set()  # each was reported
        self._delete([path for path in set(owners) if todo[path] == CHANGED])
        self.add_vectors(audio_WD, owners, times_W2, about)
        return set(owners)

    def add_vectors(
        self,
        audio_ND: Tensor,
        paths: Sequence[str],
        times_N2: Tensor | None = None,
        columns: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Append windows that were embedded elsewhere: unit vectors (N, D), the file of each (windows of a file one
        after another), their start and end in seconds. Call `tidy` when all are there. ClaraError for another shape."""
        audio_ND = vectors(audio_ND, self.table.schema.field("vector").type.list_size)
        if len(paths) != len(audio_ND):
            raise ClaraError(f"Got {len(paths)} paths and {len(audio_ND)} embeddings: expected one for each.")
        times_N2 = torch.full((len(paths), 2), math.nan) if times_N2 is None else times_N2
        with _said("The windows cannot be added"):
            self.table.add(to_arrow(self.table.schema, audio_ND, paths, times_N2, columns or {}))

    def delete(self, condition: str) -> int:
        """Remove the windows that fulfil a condition, as of `where` -> how many. ClaraError as there."""
        chosen = self.where(condition)
        with sole_writer(self.folder):
            count = len(chosen)
            if count:
                self.table.delete(chosen.condition)
        return count

    def _delete(self, paths: Sequence[str]) -> None:
        for begin in range(0, len(paths), FILES_AT_ONCE):
            self.table.delete(f"path in ({', '.join(map(sql, paths[begin : begin + FILES_AT_ONCE]))})")

    def _widen(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the columns that the table lacks. ClaraError for a type that the table has otherwise."""
        with _said("The columns do not fit the index"):
            new = {n: f"cast(null as {kind})" for n, kind in columns_of(self.table.schema, about.values()).items()}
            if new:
                self.table.add_columns(new)

    def _describe(self, about: Mapping[str, Mapping[str, Any]]) -> int:
        """Set columns of files whose audio did not change -> how many files had others."""
        import pyarrow as pa

        names = sorted({n for values in about.values() for n in values})
        if not names:
            return 0
        rows = self.table.search().where("part = 0").select(["path", *names]).to_list()
        other = {r["path"] for r in rows if r["path"] in about and any(r[n] != about[r["path"]].get(n) for n in names)}
        if other:
            fields = pa.schema([self.table.schema.field(n) for n in ("path", *names)])
            made = pa.Table.from_pylist(
                [{"path": p, **{n: about[p].get(n) for n in names}} for p in sorted(other)], fields
            )
            self.table.merge_insert("path").when_matched_update_all().execute(made)
        return len(other)

    def tidy(self) -> None:
        """Make small files of the table large, bring the approximate index up to date, and build it where the number
        of windows asks for one: IVF_HNSW_SQ from 50,000, IVF_PQ from 500,000. Earlier versions stay for 30 days."""
        rows = self.table.count_rows()
        wanted = None if rows < FLAT_ROWS else "IVF_HNSW_SQ" if rows < HNSW_ROWS else "IVF_PQ"
        found = next((i for i in self.table.list_indices() if i.name == VECTOR_INDEX), None)
        kind = None if found is None else self.table.index_stats(VECTOR_INDEX).index_type
        if wanted is not None and kind != wanted:
            self._build(wanted, rows)
        self.table.optimize(cleanup_older_than=KEPT)
        flush(self.folder)

    def _build(self, kind: str, rows: int) -> None:
        from lancedb.index import HnswSq, IvfPq

        width = self.table.schema.field("vector").type.list_size
        if kind == "IVF_PQ":
            config: Any = IvfPq(
                "cosine",
                round(math.sqrt(rows)),
                max(1, width // CODE_WIDTH),
                max_iterations=ROUNDS,
                sample_rate=SAMPLED,
            )
        else:
            config = HnswSq("cosine", max(1, rows // 50_000))
        with _said(f"The index {kind} cannot be built"):
            self.table.create_index("vector", config=config, replace=True, name=VECTOR_INDEX)

    def versions(self) -> list[tuple[int, datetime]]:
        """Every version that can be returned to: its number and when it was written, oldest first."""
        return [(int(v["version"]), v["timestamp"]) for v in self.table.list_versions()]

    def restore(self, version: int) -> None:
        """Make an earlier version the newest; nothing is lost. ClaraError for a version that does not exist."""
        known = [number for number, _ in self.versions()]
        if version not in known:
            raise ClaraError(f"Version {version} of {self.folder}: expected one of {known[0]} to {known[-1]}.")
        with sole_writer(self.folder):
            self.table.restore(version)


@contextmanager
def _said(what: str, remedy: str = "") -> Iterator[None]:
    """What LanceDB says of a user's mistake or a damaged folder, as a ClaraError."""
    try:
        yield
    except (ValueError, RuntimeError, OSError, TypeError, ArithmeticError) as e:
        if isinstance(e, ClaraError):
            raise
        told = str(e).split(", /")[0].splitlines()[0][:300].rstrip(".")  # what follows is a place in Lance's source
        raise ClaraError(f"{what}: {told}. {remedy}".rstrip()) from e
