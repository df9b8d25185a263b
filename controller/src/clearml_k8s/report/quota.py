"""The CPUs that a namespace's quota allows, read anew for each report."""

from __future__ import annotations

from decimal import Decimal

from clearml_k8s.errors import KubeForbidden, Refused, Unanswered
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import RESOURCE_QUOTAS
from clearml_k8s.report.capacity import cpus_of


class CpuQuota:
    """What was read last: ``cpus``, None without a limit; ``problem`` says why it is not known, "" when it is."""

    def __init__(self, *, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.cpus: Decimal | None = None
        self.problem = "the namespace's quota was not read yet"

    async def read(self) -> None:
        """Read once; a failure is told in ``problem``, and never raised."""
        quotas = []
        try:
            async for page in self._client.list_pages(RESOURCE_QUOTAS, namespace=self._namespace):
                quotas += page["items"]
        except KubeForbidden as error:
            self.problem = (
                f"this account may not list resourcequotas in namespace {self._namespace}, which "
                f"agentk8sglue.orchestrationDashboard.cpu.reportNamespaced needs ({error.message})"
            )
        except (Refused, Unanswered) as error:
            self.problem = f"the quota of namespace {self._namespace} cannot be read: {error}"
        else:
            self.cpus, self.problem = cpus_of(quotas), ""
