"""Previews: exactly what would be sent, without sending it."""

from typing import Annotated

import strawberry

from resolvers.previews import Preview, PreviewEvent, PreviewTarget
from schema.delivery import AttemptRequest, HttpHeader
from schema.errors import Forbidden, NotFound, ValidationFailed
from schema.event import PublishEventInput
from schema.paging import given
from schema.webhook import CreateWebhookInput


@strawberry.input(one_of=True, description="Whose delivery to preview: exactly one of the two.")
class PreviewTargetInput:
    webhook_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="`whk_…`; signed with its own secret, whatever its status."
    )
    draft: CreateWebhookInput | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "A webhook that is not registered, and is not by this. Without a `secret` it is signed with one that is "
            "made up and not told."
        ),
    )

    def to_target(self) -> PreviewTarget:
        draft = given(self.draft)
        return PreviewTarget(given(self.webhook_id), draft.to_draft() if draft else None)


@strawberry.input(one_of=True, description="What it would deliver: exactly one of the two.")
class PreviewEventInput:
    event_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="`evt_…`; needs scope `events:read`, too."
    )
    custom: PublishEventInput | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "An event that is not published, and is not by this; it gets an id of its own. Together with `webhookId` "
            "it needs scope `events:publish`, too: what is signed with a webhook's secret could as well be delivered."
        ),
    )

    def to_event(self) -> PreviewEvent:
        custom = given(self.custom)
        return PreviewEvent(given(self.event_id), custom.to_draft() if custom else None)


@strawberry.input(description="What to preview.")
class PreviewDeliveryInput:
    target: PreviewTargetInput = strawberry.field(description="A webhook, or the draft of one.")
    event: PreviewEventInput = strawberry.field(description="An event, or one that you make up.")


@strawberry.type(description="A delivery as it would be made now. Nothing was sent or stored.")
class DeliveryPreview:
    matched: bool = strawberry.field(
        description="Whether the webhook's patterns want this type of event: only then would it be sent."
    )
    request: AttemptRequest = strawberry.field(
        description="The request. Its signatures are real and of this moment; a STATIC_CHALLENGE is redacted."
    )

    @classmethod
    def of(cls, preview: Preview) -> "DeliveryPreview":
        request = AttemptRequest(
            delivery_id=None,
            url=preview.url,
            headers=[HttpHeader(name=name, value=value) for name, value in preview.headers],
            body_bytes=len(preview.body),
            previewed=preview.body,
        )
        return cls(matched=preview.matched, request=request)


PreviewDeliveryResult = Annotated[
    DeliveryPreview | ValidationFailed | NotFound | Forbidden,
    strawberry.union("PreviewDeliveryResult", description="What `previewDelivery` answers."),
]
