"""What is told to the server about this controller and its cluster: its workers and the Orchestration Dashboard."""
