//! A node's side of distribution: connections, disk and clock of the agent.
