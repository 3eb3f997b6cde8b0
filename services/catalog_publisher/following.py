"""What people say in the control room, and what offers make of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.catalog_publisher.mapped import CATALOGUE_RULE, CatalogueTerms, ShopKey, match_offers
from shared import mappings, rules
from shared.cases import close_by_person
from shared.events.control import MappingRemoved, MappingSet, OperatorClosedCase
from shared.handlers import Handlers, Received, react
from shared.outbox import Transaction


def reference() -> Handlers:
    """What must be known before the first offer is matched."""
    return Handlers(*mappings.PROJECTORS, *rules.PROJECTORS)


@dataclass(slots=True)
class Following:
    """A mapping that is set or taken away holds for every offer of that SKU at once."""

    shops: Sequence[ShopKey]

    def handlers(self) -> Handlers:
        """Of the consumer that reacts."""
        return Handlers(
            react(MappingSet, self.match_sku, "state"),
            react(MappingRemoved, self.match_sku, "state"),
            react(OperatorClosedCase, close_by_person),
        )

    async def match_sku(self, received: Received[MappingSet] | Received[MappingRemoved], tx: Transaction) -> None:
        """Decide anew what the offers of this SKU sell."""
        event = received.event
        if event.kind != mappings.SKUS.kind:
            return
        await mappings.keep([received], tx)
        for shop in self.shops:
            if shop.marketplace == event.marketplace:
                terms = await CATALOGUE_RULE.find(tx, *shop.pair, CatalogueTerms())
                await match_offers(tx, shop, [event.left], terms, operator=event.by)
