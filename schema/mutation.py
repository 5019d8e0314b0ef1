"""What can be changed. Each field asks, calls a resolver, and shows what came of it; refusals become union members."""

import strawberry

from resolvers import event_types, events, keys, organizations, replays, webhooks
from resolvers.caller import Scope
from schema.api_key import (
    ApiKey,
    CreateApiKeyInput,
    CreateApiKeyPayload,
    CreateApiKeyResult,
    RevokeApiKeyInput,
    RevokeApiKeyPayload,
    RevokeApiKeyResult,
)
from schema.context import Info
from schema.delivery import Delivery, DeliveryAttempt
from schema.event import (
    PublishEventInput,
    PublishEventPayload,
    PublishEventResult,
    PublishEventsPayload,
    PublishEventsResult,
)
from schema.event_type import EventType, PutEventTypeInput, PutEventTypePayload, PutEventTypeResult
from schema.fields import mutation
from schema.inputs import kept, required
from schema.organization import (
    CreateOrganizationInput,
    CreateOrganizationPayload,
    CreateOrganizationResult,
    DeleteOrganizationInput,
    DeleteOrganizationPayload,
    DeleteOrganizationResult,
    Organization,
    UpdateOrganizationInput,
    UpdateOrganizationPayload,
    UpdateOrganizationResult,
)
from schema.replay import (
    CancelReplayInput,
    CancelReplayPayload,
    CancelReplayResult,
    Replay,
    ReplayDeliveriesInput,
    ReplayDeliveriesPayload,
    ReplayDeliveriesResult,
)
from schema.scopes import RequiresScopes
from schema.webhook import (
    CreateWebhookInput,
    CreateWebhookPayload,
    CreateWebhookResult,
    DeleteWebhookInput,
    DeleteWebhookPayload,
    DeleteWebhookResult,
    ExpirePreviousWebhookSecretInput,
    ExpirePreviousWebhookSecretPayload,
    ExpirePreviousWebhookSecretResult,
    RotateWebhookSecretInput,
    RotateWebhookSecretPayload,
    RotateWebhookSecretResult,
    TestWebhookInput,
    TestWebhookPayload,
    TestWebhookResult,
    UpdateWebhookInput,
    UpdateWebhookPayload,
    UpdateWebhookResult,
    Webhook,
)


@strawberry.type(
    description=(
        "What can be changed. Every answer is a union of one success and the refusals to expect: select `__typename`, "
        "the success, and `... on UserError { code message }`. A refusal has changed nothing."
    )
)
class Mutation:
    @mutation(
        description="Registers a webhook. Its secret is in the answer, this once.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_WRITE)],
    )
    async def create_webhook(self, info: Info, input: CreateWebhookInput) -> CreateWebhookResult:
        created = await webhooks.create(info.context.caller, input.to_draft())
        return CreateWebhookPayload(webhook=Webhook.of(created.webhook), secret=created.secret)

    @mutation(
        description="Changes what is given of a webhook. What is left out stays; null clears, where null can be read.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_WRITE)],
    )
    async def update_webhook(self, info: Info, input: UpdateWebhookInput) -> UpdateWebhookResult:
        changed = await webhooks.update(info.context.caller, input.id, input.to_change(), if_revision=input.if_revision)
        return UpdateWebhookPayload(webhook=Webhook.of(changed))

    @mutation(
        description="Deletes a webhook and cancels what is waiting for it. Past deliveries stay readable.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_WRITE)],
    )
    async def delete_webhook(self, info: Info, input: DeleteWebhookInput) -> DeleteWebhookResult:
        deleted = await webhooks.delete(info.context.caller, input.id, if_revision=input.if_revision)
        return DeleteWebhookPayload(deleted_webhook_id=input.id, canceled_deliveries=deleted.canceled_deliveries)

    @mutation(
        description=(
            "Gives a webhook a new secret. Until the overlap ends, requests are signed with both, so that receivers "
            "can change over without losing one."
        ),
        extensions=[RequiresScopes(Scope.WEBHOOKS_WRITE)],
    )
    async def rotate_webhook_secret(self, info: Info, input: RotateWebhookSecretInput) -> RotateWebhookSecretResult:
        rotated = await webhooks.rotate_secret(
            info.context.caller,
            input.id,
            secret=input.secret,
            overlap_seconds=input.overlap_seconds,
            force=input.force,
        )
        return RotateWebhookSecretPayload(
            webhook=Webhook.of(rotated.webhook),
            secret=rotated.secret,
            previous_secret_expires_at=rotated.previous_secret_expires_at,
        )

    @mutation(
        description="Ends the overlap of a rotation now. Does nothing when none is open.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_WRITE)],
    )
    async def expire_previous_webhook_secret(
        self, info: Info, input: ExpirePreviousWebhookSecretInput
    ) -> ExpirePreviousWebhookSecretResult:
        webhook = await webhooks.expire_previous_secret(info.context.caller, input.id)
        return ExpirePreviousWebhookSecretPayload(webhook=Webhook.of(webhook))

    @mutation(
        description=(
            "Sends a test event to one webhook, whatever its status, and waits for the receiver's answer. Tried once "
            "and counted in no statistics. At most 20 a minute for each webhook."
        ),
        extensions=[RequiresScopes(Scope.WEBHOOKS_WRITE)],
    )
    async def test_webhook(self, info: Info, input: TestWebhookInput) -> TestWebhookResult:
        tested = await webhooks.test(info.context.caller, input.id, event_type=input.event_type, data=input.data)
        # The caller may see this delivery and this attempt, also without the scope to read others.
        loaders = info.context.loaders
        loaders.delivery_by_id.prime(tested.delivery.id, tested.delivery)
        loaders.attempts_of_delivery.prime(tested.delivery.id, [tested.attempt])
        return TestWebhookPayload(delivery=Delivery.of(tested.delivery), attempt=DeliveryAttempt.of(tested.attempt))

    @mutation(
        description=(
            "Makes past deliveries again: some by name, or all that failed or are missing in a range, however many. "
            "They give way to what is new."
        ),
        extensions=[RequiresScopes(Scope.DELIVERIES_REPLAY)],
    )
    async def replay_deliveries(self, info: Info, input: ReplayDeliveriesInput) -> ReplayDeliveriesResult:
        replay = await replays.create(info.context.caller, input.webhook_id, input.select.to_draft())
        return ReplayDeliveriesPayload(replay=Replay.of(replay))

    @mutation(
        description="Ends a replay: nothing more is made, and what waits of it is canceled.",
        extensions=[RequiresScopes(Scope.DELIVERIES_REPLAY)],
    )
    async def cancel_replay(self, info: Info, input: CancelReplayInput) -> CancelReplayResult:
        return CancelReplayPayload(replay=Replay.of(await replays.cancel(info.context.caller, input.id)))

    @mutation(
        description="Publishes an event to every webhook that wants it. Answers once it is safely stored.",
        extensions=[RequiresScopes(Scope.EVENTS_PUBLISH)],
    )
    async def publish_event(self, info: Info, input: PublishEventInput) -> PublishEventResult:
        info.context.pay_for_publication()
        return PublishEventPayload.of(await events.publish(info.context.caller, input.to_draft()))

    @mutation(
        description="Publishes 1 to 1,000 events at once: all of them, or none.",
        extensions=[RequiresScopes(Scope.EVENTS_PUBLISH)],
    )
    async def publish_events(self, info: Info, input: list[PublishEventInput]) -> PublishEventsResult:
        info.context.pay_for_publication()
        published = await events.publish_many(info.context.caller, [each.to_draft() for each in input])
        return PublishEventsPayload(results=[PublishEventPayload.of(each) for each in published])

    @mutation(
        description="Puts an event type into the catalogue, or writes the one with this name anew.",
        extensions=[RequiresScopes(Scope.ADMIN)],
    )
    async def put_event_type(self, info: Info, input: PutEventTypeInput) -> PutEventTypeResult:
        return PutEventTypePayload(
            event_type=EventType.of(await event_types.put(info.context.caller, input.to_draft()))
        )

    @mutation(
        description="Makes an API key. Its token is in the answer, this once.",
        extensions=[RequiresScopes(Scope.ADMIN)],
    )
    async def create_api_key(self, info: Info, input: CreateApiKeyInput) -> CreateApiKeyResult:
        key, token = await keys.create(
            info.context.caller,
            name=input.name,
            scopes=input.scopes,
            contract=input.contract,
            expires_at=input.expires_at,
        )
        return CreateApiKeyPayload(api_key=ApiKey.of(key), token=token)

    @mutation(
        description="Ends an API key at once, and for good. Ending it again changes nothing.",
        extensions=[RequiresScopes(Scope.ADMIN)],
    )
    async def revoke_api_key(self, info: Info, input: RevokeApiKeyInput) -> RevokeApiKeyResult:
        return RevokeApiKeyPayload(api_key=ApiKey.of(await keys.revoke(info.context.caller, input.id)))

    @mutation(
        description=(
            "Makes an organization, or finds the one with this external id: safe to repeat. To act for it, send its id "
            "or its external id in the header `Hookline-Organization`, beside your `platform` key."
        ),
        extensions=[RequiresScopes(Scope.PLATFORM)],
    )
    async def create_organization(self, info: Info, input: CreateOrganizationInput) -> CreateOrganizationResult:
        organization, created = await organizations.create(
            info.context.caller, name=input.name, external_id=input.external_id, max_webhooks=input.max_webhooks
        )
        return CreateOrganizationPayload(organization=Organization.of(organization), created=created)

    @mutation(
        description="Changes what is given of an organization. What is left out stays.",
        extensions=[RequiresScopes(Scope.PLATFORM)],
    )
    async def update_organization(self, info: Info, input: UpdateOrganizationInput) -> UpdateOrganizationResult:
        required(name=input.name)
        organization = await organizations.update(
            info.context.caller,
            input.id,
            name=kept(input.name),
            external_id=kept(input.external_id),
            max_webhooks=kept(input.max_webhooks),
        )
        return UpdateOrganizationPayload(organization=Organization.of(organization))

    @mutation(
        description=(
            "Ends an organization: its keys are refused at once, what waits is canceled, and everything of it is "
            "forgotten in the background."
        ),
        extensions=[RequiresScopes(Scope.PLATFORM)],
    )
    async def delete_organization(self, info: Info, input: DeleteOrganizationInput) -> DeleteOrganizationResult:
        await organizations.delete(info.context.caller, input.id)
        return DeleteOrganizationPayload(deleted_organization_id=input.id)
