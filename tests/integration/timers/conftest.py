"""Two replicas on a database."""

from tests.integration.engine.conftest import other as other
from tests.integration.engine.conftest import replica as replica
from tests.integration.engine.conftest import start_replica as start_replica
from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider
