"""OpenAPI 3.1, made from the operations that are served and the types that are read and written."""

import inspect
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from app.authentication import Unauthenticated
from app.rest import bodies
from app.rest.dialect import Dialect, Nothing, Operation, Problem
from app.rest.native import NATIVE
from app.rest.reading import IDEMPOTENCY_KEY
from app.rest.refusals import Internal, MalformedJson, PayloadTooLarge, UnknownPath, UnsupportedMediaType
from app.rest.request_id import HEADER
from resolvers.errors import (
    FieldErrorCode,
    FieldProblem,
    Forbidden,
    IdempotencyConflict,
    LimitExceeded,
    NotFound,
    RateLimited,
    RotationInProgress,
    Unavailable,
    ValidationFailed,
)

Json = dict[str, Any]

_TEMPLATE = "#/components/schemas/{model}"

_REASONS: Mapping[type[Exception], str] = {
    MalformedJson: "The body is not JSON.",
    Unauthenticated: "There is no key, or it is unknown, revoked or expired.",
    Forbidden: "The key lacks the scope, or may not act for another organization.",
    NotFound: "There is no such thing in your organization.",
    UnknownPath: "There is nothing at this path.",
    LimitExceeded: "The organization has as many active webhooks as it may.",
    IdempotencyConflict: "The idempotency key was used for a different request within 24 hours.",
    RotationInProgress: "The overlap of an earlier rotation is still open; pass `force` to end it.",
    PayloadTooLarge: "The body is longer than is read.",
    UnsupportedMediaType: "The body's content type is not JSON.",
    ValidationFailed: "The input breaks rules; `details` says which field and how. Nothing was changed.",
    RateLimited: "Too many at once; `Retry-After` says when to come back.",
    Internal: "Something went wrong on our side.",
    Unavailable: "Not just now: the database is away, or too many requests wait. `Retry-After` says when to come back.",
}


_LATER = (RateLimited, Unavailable)
"""Refusals with `Retry-After`."""


def openapi_document(dialect: Dialect = NATIVE) -> Json:
    """What is served, as OpenAPI 3.1."""
    schemas = _Schemas(dialect)
    paths: dict[str, Json] = defaultdict(dict)
    for operation in dialect.operations:
        paths[operation.path][operation.method.lower()] = _operation(dialect, operation, schemas)
    tags = dict.fromkeys(_tag(operation) for operation in dialect.operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": dialect.title, "version": "1", "description": dialect.about},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [{"name": tag} for tag in tags],
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
                    "schema": {"type": "string", **bodies.IDEMPOTENCY_KEY},
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
        wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(dialect.error, "serialization"): None}
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
    head, *rest = operation.handler.__name__.split("_")
    scopes = f"Needs the scope `{operation.scope}`."
    made: Json = {
        "operationId": operation.name or head + "".join(word.title() for word in rest),
        "tags": [_tag(operation)],
        "summary": summary,
        "description": f"{description.replace(chr(10), ' ')}\n\n{scopes}".strip(),
        "x-required-scope": str(operation.scope),
        "parameters": _parameters(dialect, operation),
        "responses": {str(operation.status): _success(operation, schemas), **_refusals(dialect, operation, schemas)},
    }
    if operation.takes_body:
        made["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": schemas.of(operation.takes, "validation")}},
        }
    return made


def _tag(operation: Operation[Any]) -> str:
    """What it is about: the last word of its path that says so."""
    return next(word for word in reversed(operation.path.split("/")) if word in _TAGS)


_TAGS = ("webhooks", "events", "webhook_subscriptions", "webhook-secret", "deliveries")


def _parameters(dialect: Dialect, operation: Operation[Any]) -> list[Json]:
    parameters: list[Json] = [{"$ref": "#/components/parameters/organization"}]
    staff = dialect.staff_header
    if staff is not None:
        schema: Json = {"type": "string", "pattern": staff.pattern}
        parameters.append({"name": staff.name, "in": "header", "description": staff.description, "schema": schema})
    for name, form in operation.parameters.items():
        schema = {"type": "string", "pattern": f"^({form})$"}
        described = f"The {name} of the API."
        parameters.append({"name": name, "in": "path", "required": True, "description": described, "schema": schema})
    if "{id}" in operation.path:
        example = dialect.terms.ids.example if dialect.terms else "whk_01jx5s3k9pe8ratq6y2m4c7v0b"
        schema = {"type": "string", "examples": [example]}
        what = "delivery" if "/deliveries/" in operation.path else "webhook"
        parameters.append(
            {"name": "id", "in": "path", "required": True, "description": f"The {what}'s id.", "schema": schema}
        )
    if operation.idempotent_by_key:
        parameters.append({"$ref": "#/components/parameters/idempotencyKey"})
    if not operation.takes_body and operation.takes is not Nothing:
        schema = operation.takes.model_json_schema(schema_generator=_WithoutNulls)
        for name, field in schema["properties"].items():
            description = field.pop("description", "")
            field.pop("title", None)
            field = next((kind for kind in field.pop("anyOf", ()) if kind.get("type") != "null"), field)
            if "$ref" in field:
                field = schema["$defs"][field["$ref"].rpartition("/")[2]]
            parameters.append({"name": name, "in": "query", "description": description, "schema": field})
    return parameters


def _success(operation: Operation[Any], schemas: _Schemas) -> Json:
    made: Json = {"description": HTTPStatus(operation.status).phrase, "headers": _headers()}
    if operation.idempotent_by_key and operation.path != "/v1/events":
        made["headers"]["Location"] = {
            "description": "Where the webhook is from now on.",
            "required": True,
            "schema": {"type": "string"},
        }
    if operation.answers is not None:
        made["content"] = {"application/json": {"schema": schemas.of(operation.answers, "serialization")}}
    return made


def _refusals(dialect: Dialect, operation: Operation[Any], schemas: _Schemas) -> dict[str, Json]:
    kinds: list[type[Exception]] = [Unauthenticated, Forbidden, RateLimited, Internal, Unavailable, *operation.refusals]
    if operation.takes_body:
        kinds += [MalformedJson, PayloadTooLarge, UnsupportedMediaType]
    if operation.idempotent_by_key:
        kinds.append(IdempotencyConflict)
    if operation.takes is not Nothing:
        kinds.append(ValidationFailed)
    if "{id}" in operation.path:
        kinds.append(NotFound)
    if operation.parameters:
        kinds.append(UnknownPath)
    told: dict[int, dict[str, list[type[Exception]]]] = defaultdict(lambda: defaultdict(list))
    for kind in dict.fromkeys(kinds):
        status, code = dialect.statuses[kind]
        told[status][code].append(kind)
    for (_, wrong), (status, code, _) in dialect.field_statuses.items():
        if ValidationFailed in kinds and (wrong is not FieldErrorCode.DUPLICATE or operation.takes_body):
            told[status][code].append(ValidationFailed)
    made = {}
    for status in sorted(told):
        headers = _headers()
        if any(kind in _LATER for kinds in told[status].values() for kind in kinds):
            always = all(kind in _LATER for kinds in told[status].values() for kind in kinds)
            headers["Retry-After"] = {"description": "Seconds.", "required": always, "schema": {"type": "integer"}}
        if status == dialect.statuses[Unauthenticated][0]:
            headers["WWW-Authenticate"] = {"required": True, "schema": {"const": "Bearer"}}
        reasons = (
            f"`{code}`: {' '.join(dict.fromkeys(_REASONS[kind] for kind in kinds))}"
            for code, kinds in told[status].items()
        )
        made[str(status)] = {
            "description": " ".join(reasons),
            "headers": headers,
            "content": {"application/json": _error(dialect, status, told[status], schemas)},
        }
    return made


def _headers() -> Json:
    return {HEADER: {"$ref": f"#/components/headers/{HEADER}"}}


def _error(dialect: Dialect, status: int, told: Mapping[str, list[type[Exception]]], schemas: _Schemas) -> Json:
    schema: Json = schemas.of(dialect.error, "serialization")
    if dialect.error is bodies.Error:
        codes: Json = {"type": "object", "properties": {"code": {"enum": list(told)}}}
        if list(told) == ["VALIDATION_FAILED"]:
            codes["required"] = ["details"]
        schema = {"allOf": [schema, {"properties": {"error": codes}}]}
    examples = {code: {"value": _example(dialect, status, code, kinds[0])} for code, kinds in told.items()}
    return {"schema": schema, "examples": examples}


def _example(dialect: Dialect, status: int, code: str, kind: type[Exception]) -> Json:
    request_id = "01JTBQH2FZ8K1RXC0WJ4Z9P3VM"
    if kind is ValidationFailed:
        problem = FieldProblem(("url",), FieldErrorCode.HTTPS_REQUIRED, "must use https")
        made = replace(dialect.problem_of(ValidationFailed([problem]), request_id), status=status, code=code)
    else:
        text = dialect.texts.get(kind, _REASONS[kind])
        made = Problem(status, code, text.replace("{limit}", "50"), request_id)
    return dialect.error_body(made)
