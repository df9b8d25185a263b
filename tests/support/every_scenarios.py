"""What the controller does with tasks, in short: each scenario is run once for each call of it and each fault."""

from __future__ import annotations

import every_claims
import every_commands
import every_ends
import every_old_pods
import every_owner_tokens
import every_ranks
import every_recoveries
import every_sessions
import every_stops

SCENARIOS = {
    **every_claims.SCENARIOS,
    **every_recoveries.SCENARIOS,
    **every_stops.SCENARIOS,
    **every_ends.SCENARIOS,
    **every_old_pods.SCENARIOS,
    **every_sessions.SCENARIOS,
    **every_commands.SCENARIOS,
    **every_owner_tokens.SCENARIOS,
    **every_ranks.SCENARIOS,
}
