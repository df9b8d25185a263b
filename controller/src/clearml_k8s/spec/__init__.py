"""From configuration and task to the Job's manifest. Pure: no network, no clock, no randomness."""
