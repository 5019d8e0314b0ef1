"""OpenAPI 3.1, made from the operations that are served and the types that are read and written."""

import inspect
from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from app.authentication import Unauthenticated
from app.rest import bodies
from app.rest.dialect import Dialect, Nothing, Operation
from app.rest.native import NATIVE
from app.rest.reading import IDEMPOTENCY_KEY
from app.rest.refusals import Internal, MalformedJson, PayloadTooLarge, UnsupportedMediaType
from app.rest.request_id import HEADER
from resolvers.errors import Forbidden, NotFound, RateLimited, ValidationFailed
from resolvers.validation import MAX_IDEMPOTENCY_KEY

Json = dict[str, Any]

_TEMPLATE = "#/components/schemas/{model}"

_DESCRIPTION = """\
Register webhooks, publish events, and have them delivered, signed.

Whatever is refused is answered in the form of `Error`; so is an unknown path (404 `NOT_FOUND`) and a method that a
path does not take (405 `METHOD_NOT_ALLOWED`, with `Allow`). Unknown fields are ignored.
Every answer carries `X-Request-Id`.
"""

_REASONS: Mapping[str, str] = {
    "MALFORMED_JSON": "The body is not JSON.",
    "UNAUTHORIZED": "There is no key, or it is unknown, revoked or expired.",
    "FORBIDDEN": "The key lacks the scope, or may not act for another organization.",
    "NOT_FOUND": "There is no such thing in your organization.",
    "LIMIT_EXCEEDED": "The organization has as many active webhooks as it may.",
    "IDEMPOTENCY_CONFLICT": "The idempotency key was used for a different request within 24 hours.",
    "ROTATION_IN_PROGRESS": "The overlap of an earlier rotation is still open; pass `force` to end it.",
    "PAYLOAD_TOO_LARGE": "The body is longer than is read.",
    "UNSUPPORTED_MEDIA_TYPE": "The body's content type is not JSON.",
    "VALIDATION_FAILED": "The input breaks rules; `details` says which field and how. Nothing was changed.",
    "RATE_LIMITED": "Too many at once; `Retry-After` says when to come back.",
    "INTERNAL": "Something went wrong on our side.",
}


def openapi_document(dialect: Dialect = NATIVE) -> Json:
    """What is served, as OpenAPI 3.1."""
    schemas = _Schemas(dialect)
    paths: dict[str, Json] = defaultdict(dict)
    for operation in dialect.operations:
        paths[operation.path][operation.method.lower()] = _operation(dialect, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hookline", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [{"name": "webhooks"}, {"name": "events"}],
        "paths": dict(paths),
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer hkl_…`"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
            },
            "headers": {
                HEADER: {
                    "description": "Names this request in our log. Yours, if you sent 8 to 64 of A–Z a–z 0–9 _ -.",
                    "required": True,
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{8,64}$"},
                },
            },
            "parameters": {
                "organization": {
                    "name": "Hookline-Organization",
                    "in": "header",
                    "description": "Act for this organization: its id (`org_…`) or its external id. "
                    "Only a key with the scope `platform` may.",
                    "schema": {"type": "string"},
                },
                "idempotencyKey": {
                    "name": IDEMPOTENCY_KEY,
                    "in": "header",
                    "description": "Your own name for this request; repeated within 24 hours, it is done once.",
                    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY},
                },
            },
        },
    }


class _WithoutNulls(GenerateJsonSchema):
    """Says no `default: null`: a field that may be left out is not the same as one that is null."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made


class _Schemas:
    """The types of a dialect's operations, by the names they have in the document."""

    def __init__(self, dialect: Dialect) -> None:
        wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(bodies.Error, "serialization"): None}
        for operation in dialect.operations:
            if operation.takes_body:
                wanted[operation.takes, "validation"] = None
            if operation.answers is not None:
                wanted[operation.answers, "serialization"] = None
        self._references, whole = models_json_schema(
            list(wanted), ref_template=_TEMPLATE, schema_generator=_WithoutNulls
        )
        self.definitions: Json = _untitled(whole["$defs"])

    def of(self, model: type[BaseModel], mode: JsonSchemaMode) -> Json:
        return dict(self._references[model, mode])


def _untitled(definitions: Json) -> Json:
    """Without the titles that repeat the fields' names."""
    for definition in definitions.values():
        for field in definition.get("properties", {}).values():
            field.pop("title", None)
    return definitions


def _operation(dialect: Dialect, operation: Operation[Any], schemas: _Schemas) -> Json:
    summary, _, description = (inspect.getdoc(operation.handler) or "").partition("\n\n")
    name = operation.handler.__name__
    head, *rest = name.split("_")
    made: Json = {
        "operationId": head + "".join(word.title() for word in rest),
        "tags": [operation.path.split("/")[2]],
        "summary": summary,
        "description": f"{description.replace(chr(10), ' ')}\n\nNeeds the scope `{operation.scope}`.",
        "x-required-scope": str(operation.scope),
        "parameters": _parameters(operation),
        "responses": {str(operation.status): _success(operation, schemas), **_refusals(dialect, operation, schemas)},
    }
    if operation.takes_body:
        made["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": schemas.of(operation.takes, "validation")}},
        }
    return made


def _parameters(operation: Operation[Any]) -> list[Json]:
    parameters: list[Json] = [{"$ref": "#/components/parameters/organization"}]
    if "{id}" in operation.path:
        schema: Json = {"type": "string", "examples": ["whk_01jx5s3k9pe8ratq6y2m4c7v0b"]}
        parameters.append(
            {"name": "id", "in": "path", "required": True, "description": "The webhook's id.", "schema": schema}
        )
    if operation.idempotent_by_key:
        parameters.append({"$ref": "#/components/parameters/idempotencyKey"})
    if not operation.takes_body and operation.takes is not Nothing:
        schema = operation.takes.model_json_schema(schema_generator=_WithoutNulls)
        for name, field in schema["properties"].items():
            description = field.pop("description")
            field.pop("title", None)
            field = next((kind for kind in field.pop("anyOf", ()) if kind["type"] != "null"), field)
            parameters.append({"name": name, "in": "query", "description": description, "schema": field})
    return parameters


def _success(operation: Operation[Any], schemas: _Schemas) -> Json:
    made: Json = {"description": HTTPStatus(operation.status).phrase, "headers": _headers()}
    if operation.status == HTTPStatus.CREATED and operation.path == "/v1/webhooks":
        made["headers"]["Location"] = {
            "description": "Where the webhook is from now on.",
            "required": True,
            "schema": {"type": "string"},
        }
    if operation.answers is not None:
        made["content"] = {"application/json": {"schema": schemas.of(operation.answers, "serialization")}}
    return made


def _refusals(dialect: Dialect, operation: Operation[Any], schemas: _Schemas) -> dict[str, Json]:
    kinds: list[type[Exception]] = [Unauthenticated, Forbidden, Internal, *operation.refusals]
    if operation.takes_body:
        kinds += [MalformedJson, PayloadTooLarge, UnsupportedMediaType]
    if operation.takes is not Nothing:
        kinds.append(ValidationFailed)
    if "{id}" in operation.path:
        kinds.append(NotFound)
    codes: dict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        status, code = dialect.statuses[kind]
        codes[status].append(code)
    made = {}
    for status in sorted(codes):
        headers = _headers()
        if status == dialect.statuses[RateLimited][0]:
            headers["Retry-After"] = {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}
        if status == dialect.statuses[Unauthenticated][0]:
            headers["WWW-Authenticate"] = {"required": True, "schema": {"const": "Bearer"}}
        made[str(status)] = {
            "description": " ".join(f"`{code}`: {_REASONS[code]}" for code in codes[status]),
            "headers": headers,
            "content": {"application/json": _error(codes[status], schemas)},
        }
    return made


def _headers() -> Json:
    return {HEADER: {"$ref": f"#/components/headers/{HEADER}"}}


def _error(codes: list[str], schemas: _Schemas) -> Json:
    told = {"type": "object", "properties": {"code": {"enum": codes}}}
    if codes == ["VALIDATION_FAILED"]:
        told["required"] = ["details"]
    return {
        "schema": {"allOf": [schemas.of(bodies.Error, "serialization"), {"properties": {"error": told}}]},
        "examples": {code: {"value": _example(code)} for code in codes},
    }


def _example(code: str) -> Json:
    told: Json = {"code": code, "message": _REASONS[code], "request_id": "01JTBQH2FZ8K1RXC0WJ4Z9P3VM"}
    if code == "VALIDATION_FAILED":
        told |= {"message": "url: must use https", "details": {"url": "must use https"}}
    return {"success": False, "error": told}
