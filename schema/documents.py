"""Documents that are named by their digest: trusted ones, which are known beforehand, and automatic ones (APQ).

A client sends `extensions: {"persistedQuery": {"version": 1, "sha256Hash": "…"}}` in the place of `query`. Trusted
documents are those of a file that the frontend's build wrote; once there is a file, nothing else is run. Automatic ones
are kept, in this process, when somebody sends them beside their digest; a client that is told
PERSISTED_QUERY_NOT_FOUND does so by itself.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_KEPT = 1000
_LONGEST_KEPT = 10_000
"""In characters: what is kept takes at most some ten megabytes."""


class DocumentRefused(Exception):
    """There is no document to run. `code` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StoredDocuments:
    """Finds the text of a request's document. `trusted`: all that may be run, by digest; None: anything."""

    def __init__(self, trusted: Mapping[str, str] | None = None, *, automatic: bool = False) -> None:
        self._trusted = trusted
        self._automatic = automatic
        self._kept: OrderedDict[str, str] = OrderedDict()

    def text_of(self, query: str | None, extensions: Mapping[str, Any] | None) -> str | None:
        """The document; None when there is neither a document nor a digest. Raises DocumentRefused."""
        given = (extensions or {}).get("persistedQuery")
        digest = given.get("sha256Hash") if isinstance(given, dict) else None
        if self._trusted is not None:
            return self._trusted_text(self._trusted, query, digest)
        if digest is None or (query is not None and not self._automatic):
            return query
        if not self._automatic:
            raise DocumentRefused("PERSISTED_QUERY_NOT_SUPPORTED", "PersistedQueryNotSupported")
        if query is None:
            return self._kept_text(str(digest))
        if digest_of(query) != digest:
            raise DocumentRefused("BAD_REQUEST", "sha256Hash is not the SHA-256 of the query, in lower-case hex")
        self._keep(digest, query)
        return query

    def _trusted_text(self, trusted: Mapping[str, str], query: str | None, digest: object) -> str | None:
        if query is None and digest is None:
            return None
        text = trusted.get(str(digest) if query is None else digest_of(query))
        if text is None:
            raise DocumentRefused("DOCUMENT_NOT_TRUSTED", "this server runs the documents of its own frontends alone")
        return text

    def _kept_text(self, digest: str) -> str:
        text = self._kept.get(digest)
        if text is None:
            raise DocumentRefused("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
        self._kept.move_to_end(digest)
        return text

    def _keep(self, digest: str, query: str) -> None:
        if len(query) <= _LONGEST_KEPT:
            self._kept[digest] = query
            self._kept.move_to_end(digest)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)


def digest_of(query: str) -> str:
    """SHA-256 of the text in UTF-8, in lower-case hex."""
    return hashlib.sha256(query.encode(errors="surrogatepass")).hexdigest()


def trusted_from(path: Path) -> Mapping[str, str]:
    """The documents of a JSON file, an object from digest to text. Raises ValueError with what is wrong."""
    try:
        read = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError("is not JSON") from None
    if not isinstance(read, dict) or not all(isinstance(text, str) for text in read.values()):
        raise ValueError('must hold an object such as {"<sha256>": "query …"}')
    wrong = next((digest for digest, text in read.items() if digest != digest_of(text)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not the SHA-256 of its document, in lower-case hex")
    return read
