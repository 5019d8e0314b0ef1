"""Reading what a caller sent: never more than the cap, and never trusting it to be what it says."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from app.rest.refusals import MalformedJson, PayloadTooLarge, UnsupportedMediaType
from resolvers import exact_json, validation
from resolvers.errors import FieldErrorCode, FieldProblem, ValidationFailed

IDEMPOTENCY_KEY = "Idempotency-Key"

Input = TypeVar("Input", bound=BaseModel)

_JSON_TYPE = re.compile(r"application/(?:[\w.!#$&^+-]+\+)?json", re.IGNORECASE)

_TEXTS: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
}
"""Pydantic's kinds of type error, as the end of a sentence that begins with the field's name."""


_CODES: Mapping[str, FieldErrorCode] = {
    "missing": FieldErrorCode.REQUIRED,
    "string_too_short": FieldErrorCode.TOO_SHORT,
    "string_too_long": FieldErrorCode.TOO_LONG,
    "too_short": FieldErrorCode.TOO_SHORT,
    "too_long": FieldErrorCode.TOO_MANY,
    "greater_than_equal": FieldErrorCode.OUT_OF_RANGE,
    "less_than_equal": FieldErrorCode.OUT_OF_RANGE,
}


async def json_of(request: Request, most: int, *, required: bool) -> Any:
    """The body as JSON; an empty body that is not required is an empty object.

    Raises UnsupportedMediaType, PayloadTooLarge as soon as more than `most` bytes have come, and MalformedJson.
    """
    if int(_content_length(request)) > most:
        raise PayloadTooLarge(most)
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > most:
            raise PayloadTooLarge(most)
    if not raw and not required:
        return {}
    content_type = request.headers.get("content-type")
    if content_type is not None and not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()):
        raise UnsupportedMediaType()
    return parsed(bytes(raw))


def parsed(raw: bytes) -> Any:
    """JSON as RFC 8259 has it. Raises MalformedJson."""
    try:
        return exact_json.parsed(raw)
    except ValueError as error:
        raise MalformedJson(str(error)) from error


def typed(model: type[Input], value: Any) -> Input:
    """The value as the model has it. Raises ValidationFailed, naming each field of another type."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValidationFailed(_problem_of(details) for details in error.errors(include_url=False)) from error


def idempotency_key_of(request: Request) -> str | None:
    """The header's value. Raises ValidationFailed unless it is 1 to 255 characters of printable ASCII."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    problems = [
        FieldProblem((IDEMPOTENCY_KEY,), problem.code, problem.message)
        for problem in validation.idempotency_key_problems(key)
    ]
    if problems:
        raise ValidationFailed(problems)
    return key


def _content_length(request: Request) -> str:
    length = request.headers.get("content-length", "")
    return length if length.isascii() and length.isdigit() and len(length) < 20 else "0"


def _problem_of(error: ErrorDetails) -> FieldProblem:
    code = _CODES.get(error["type"], FieldErrorCode.INVALID_FORMAT)
    cause = error.get("ctx", {}).get("error")
    message = _TEXTS.get(error["type"]) or (str(cause) if cause else _lowered(error["msg"]))
    # The alternatives of a union are told apart by tags that no field name can equal.
    return FieldProblem(tuple(str(word) for word in error["loc"] if not str(word).startswith("<")), code, message)


def _lowered(message: str) -> str:
    """`Input should be less than or equal to 100` → `should be less than or equal to 100`."""
    return message.removeprefix("Input ")
