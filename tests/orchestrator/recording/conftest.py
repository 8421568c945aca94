from tests.orchestrator.tracking.conftest import database as database
