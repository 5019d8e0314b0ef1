"""Browser sessions: whose they are, and ending them. What a browser holds is a matter of the door."""

from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from models.moment import from_ms
from models.session import EndedSession
from resolvers import keys
from resolvers.caller import Caller, Session
from resolvers.desk import Desk


async def authenticate(desk: Desk, session: Session) -> Caller | None:
    """Who shows this session; None when it is over or was ended, or its key opens nothing any more."""
    if await over([session], desk.clock()):
        return None
    caller = await keys.authenticate_by_id(desk, session.key_id)
    return caller and replace(caller, session=session)


async def end(session: Session) -> None:
    """Ends it in every process: for new requests at once, and what is watched with it within seconds."""
    ended = EndedSession(id=session.id, expires_at=from_ms(session.expires_at))
    await EndedSession.bulk_create([ended], ignore_conflicts=True)


async def over(sessions: Collection[Session], now: int) -> set[UUID]:
    """Which of them are over, or were ended."""
    ended = await EndedSession.filter(id__in=[one.id for one in sessions]).values_list("id", flat=True)
    return {UUID(str(one)) for one in ended} | {one.id for one in sessions if one.expires_at <= now}


async def forget(now: int) -> None:
    """Forgets that sessions were ended which are over anyhow."""
    await EndedSession.filter(expires_at__lte=from_ms(now)).delete()
