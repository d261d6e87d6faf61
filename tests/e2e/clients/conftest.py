"""Client libraries against a whole server: what they send is taken, what comes back is what they make of it. In an environment of their own
(make test-clients); openai, anthropic and langchain are in tests/e2e/test_clients.py. Types of one value make contents certain."""
import pytest


@pytest.fixture
def model(server):
    return server.get("/v1/models").json()["data"][0]["id"]
