"""A receiver's side of the signature, by the reference implementation."""

from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from tests.receivers import Received


def verified(request: Received, secret: str) -> Any:
    """The body of a request whose signature is right; raises WebhookVerificationError for any other."""
    return Webhook(secret).verify(request.body, dict(request.headers))


def is_signed_with(request: Received, secret: str) -> bool:
    """Whether the secret verifies the request."""
    try:
        verified(request, secret)
    except WebhookVerificationError:
        return False
    return True
