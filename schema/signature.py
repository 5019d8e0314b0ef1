"""Signatures as a receiver saw them: are they right, and if not, why not."""

from typing import Annotated

import strawberry

from schema.enums import SignatureScheme, shown
from schema.errors import Forbidden, NotFound, ValidationFailed
from schema.webhook import HttpHeaderInput
from workers import verifying
from workers.verifying import SecretSlot, SignatureProblem

shown(
    SecretSlot,
    "Which of a webhook's secrets made a signature.",
    {
        SecretSlot.CURRENT: "The one that signs.",
        SecretSlot.PREVIOUS: "The one that the last rotation replaced; it signs, too, until the overlap ends.",
    },
)
shown(
    SignatureProblem,
    "Why a signature is refused.",
    {
        SignatureProblem.MISSING_HEADER: "A header that it needs is absent.",
        SignatureProblem.MALFORMED_HEADER: "A header is there and cannot be read, or is there twice.",
        SignatureProblem.BODY_CHANGED: (
            "It signs another body: the one that was sent. Verify the bytes as they came, before JSON is read and "
            "written again."
        ),
        SignatureProblem.WRONG_SECRET: "None of this webhook's secrets made it.",
        SignatureProblem.EXPIRED_SECRET: "The previous secret made it, and its overlap is over.",
        SignatureProblem.TIMESTAMP_TOO_OLD: "It is right, and of more than 300 seconds ago.",
        SignatureProblem.TIMESTAMP_IN_FUTURE: "It is right, and over 300 seconds ahead: somebody's clock is wrong.",
        SignatureProblem.SECRET_NOT_BASE64_DECODED: (
            "The right secret made it, read in the wrong way: as text instead of the bytes that its base64 stands for, "
            "or the other way round."
        ),
    },
)


@strawberry.input(description="A request as your receiver saw it. Nothing of it is kept.")
class CheckSignatureInput:
    webhook_id: strawberry.ID = strawberry.field(description="Whose request it is said to be: `whk_…`")
    headers: list[HttpHeaderInput] = strawberry.field(
        description="All that came, or at least those that signatures use; at most 100."
    )
    body: str = strawberry.field(description="As it came, before any parsing; at most 1 MiB.")


@strawberry.type(description="Whether a request's signatures are right; and if not, why, and what to do about it.")
class SignatureReport:
    valid: bool = strawberry.field(description="Whether a receiver should accept the request.")
    matched_scheme: SignatureScheme | None = strawberry.field(
        description="How the signature is made that this is about; null when none of the webhook's secrets made any."
    )
    matched_secret: SecretSlot | None = strawberry.field(description="Which secret made it.")
    timestamp_skew_seconds: int | None = strawberry.field(
        description="The signed timestamp less our clock: negative in the past. Null where none is signed or readable."
    )
    problem: SignatureProblem | None = strawberry.field(description="What is wrong. Null when it is valid.")
    hint: str | None = strawberry.field(description="What to do, in English. Never holds a secret.")

    @classmethod
    def of(cls, report: verifying.SignatureReport) -> "SignatureReport":
        return cls(
            valid=report.valid,
            matched_scheme=report.matched_scheme,
            matched_secret=report.matched_secret,
            timestamp_skew_seconds=report.timestamp_skew_seconds,
            problem=report.problem,
            hint=report.hint,
        )


CheckSignatureResult = Annotated[
    SignatureReport | ValidationFailed | NotFound | Forbidden,
    strawberry.union("CheckSignatureResult", description="What `checkSignature` answers."),
]
