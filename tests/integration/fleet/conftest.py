"""Databases."""

from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider
