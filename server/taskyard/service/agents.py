"""Instances and agents, registered at their first task."""

from taskyard.errors import InvalidInput
from taskyard.principal import Principal
from taskyard.store.registry import Registry
from taskyard.store.writes import Insert
from taskyard.task import AgentSummary


class AgentBook:
    """Knows what is registered, so that only the first task of an agent or instance costs anything.

    With `strict`, a task for an agent that is not known is refused.
    """

    def __init__(self, registry: Registry, *, strict: bool) -> None:
        self._registry = registry
        self._strict = strict
        self._instances: set[str] = set()
        self._agents: dict[tuple[str, str], AgentSummary] = {}

    async def register(self, principal: Principal, insert: Insert) -> None:
        """See to it that the instance and agent of a new task exist. Raises `InvalidInput` if strict."""
        instance_id, agent_id = insert.values["instance_id"], insert.values["agent_id"]
        if instance_id not in self._instances:
            await self._registry.add_instance(instance_id)
            self._instances.add(instance_id)
        if agent_id is None or (instance_id, agent_id) in self._agents:
            return
        known = await self._registry.agent(instance_id, agent_id)
        if known is None:
            if self._strict:
                raise InvalidInput(f"the agent {agent_id!r} is not known", path=["agentId"])
            await self._registry.add_agent(instance_id, agent_id, principal.subject)
            known = AgentSummary(agent_id, agent_id, "generic")
        self._agents[instance_id, agent_id] = known

    async def put(self, principal: Principal, instance_id: str, agent: AgentSummary) -> None:
        """Register an agent with its name and type, or change those of one that is known."""
        await self._registry.add_instance(instance_id)
        await self._registry.put_agent(instance_id, agent, principal.subject)
        self._agents[instance_id, agent.id] = agent

    def summary(self, insert: Insert) -> AgentSummary | None:
        """The registered agent of a new task."""
        return self._agents.get((insert.values["instance_id"], insert.values["agent_id"] or ""))
