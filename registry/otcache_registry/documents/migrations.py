"""From older schemas of policy documents to the present one, a step per schema.

A version that changes the schema adds the older one here, so that documents of it stay readable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from otcache_registry.documents.files import RESTORE
from otcache_registry.errors import DocumentError

__all__ = ["MIGRATIONS", "migrated"]

Content = dict[str, Any]

MIGRATIONS: Final[Mapping[str, Callable[[Content], Content]]] = {}
"""By the name of an older schema: content of that schema to content of the next one.

What a migration returns is validated like any document, so it only renames and rearranges. The
first schema is still the present one.
"""


def migrated(content: Content) -> Content:
    """Return a document's content in the newest schema that it can be brought to.

    Raises:
        DocumentError: It is not of the older schema that it names.
    """
    while isinstance(schema := content.get("schema"), str) and schema in MIGRATIONS:
        try:
            content = MIGRATIONS[schema](content)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            problem = f"the content is not of this schema ({error!r})"
            raise DocumentError("schema", schema, problem, RESTORE) from error
    return content
